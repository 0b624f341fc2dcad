"""Mask losses over (N, m, h, w) logits against soft targets (N, h, w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_WEIGHT = 2.0
CHOICE_SHARPNESS = 12.0
"""How sharply the predicted IoU chooses among the three masks while training; at inference the highest counts."""


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss over the object's area (Lin et al. 2017) plus dice loss (Milletari et al. 2016), (N, m)."""
    t = target[:, None].expand_as(logits)
    p = logits.sigmoid()
    focal = F.binary_cross_entropy_with_logits(logits, t, reduction="none") * (p - t).abs().square()
    area = target.sum((1, 2))[:, None] + 16
    dice = 1 - (2 * (p * t).sum((2, 3)) + 1) / ((p * p).sum((2, 3)) + (t * t).sum((2, 3)) + 1)
    return FOCAL_WEIGHT * focal.sum((2, 3)) / area + dice


@torch.no_grad()
def iou(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union (N, m) of the thresholded masks."""
    a, b = logits > 0, (target > 0.5)[:, None]
    union = (a | b).sum((2, 3)).float()
    return (a & b).sum((2, 3)) / union.clamp(min=1)


def decode_loss(logits: Tensor, scores: Tensor, target: Tensor, empty: Tensor, first: bool) -> Tensor:
    """Loss of one decode: best of the three masks, the single mask, and how well each one's IoU was foretold.

    After a first prompt the mask that the scores choose counts as well, and what choosing it lost against the best.

    ``logits`` (N, 4, h, w) with the single mask first; ``scores`` (N, 4); ``empty`` (N,) marks background clicks.
    """
    each = mask_loss(logits, target) * ~empty[:, None]
    several, single = each[:, 1:].min(1).values, each[:, 0]
    reached = iou(logits, target)
    foretold = (scores - reached).square().mean(1)
    if not first:
        return (0.5 * several + single + 2.0 * foretold).mean()
    choice = (CHOICE_SHARPNESS * scores[:, 1:]).softmax(1)
    chosen = (choice.detach() * each[:, 1:]).sum(1)  # what the user sees is the chosen one, so it is taught as well
    missed = (reached[:, 1:].amax(1) - (choice * reached[:, 1:]).sum(1)) * ~empty
    return (several + 0.5 * single + 0.5 * chosen + 2.0 * foretold + missed).mean()
