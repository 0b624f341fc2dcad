"""Simulated users: first clicks, boxes, and corrective clicks where the mask is most wrong. Points are (x, y)."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage as ndi
from segment_anything.modeling import PromptEncoder
from torch import Tensor

from training.segmenter.paint import Array, Rng

PAD, BACKGROUND, FOREGROUND, CORNER_A, CORNER_B = -1, 0, 1, 2, 3


def click_in(rng: Rng, region: Array, centred: float) -> tuple[float, float]:
    """A pixel (row, col) of a boolean region: its deepest with probability ``centred``, else any, deep first."""
    depth = ndi.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    flat = depth.ravel()
    pick = int(flat.argmax()) if rng.random() < centred else int(rng.choice(flat.size, p=flat / flat.sum()))
    return float(pick // region.shape[1]), float(pick % region.shape[1])


def largest(region: Array) -> Array:
    """The largest connected piece of a boolean region."""
    pieces, count = ndi.label(region)
    return np.asarray(region if count < 2 else pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())


def first_prompt(rng: Rng, mask: Array, boxes: float = 0.2) -> tuple[list[tuple[float, float]], list[int]]:
    """A click or (as often as ``boxes`` says) a box for a soft mask (256, 256).

    Where values are -1 a background click may fall.
    """
    if mask.min() < 0:
        r, c = click_in(rng, mask < 0, 0.0)
        return [(c, r), (0.0, 0.0)], [FOREGROUND, PAD]
    inside = mask > 0.5
    if not inside.any():
        inside = mask == mask.max()
    if rng.random() < boxes:
        rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], float)
        size = np.array([box[2] - box[0], box[3] - box[1]])
        box += np.clip(rng.normal(0, 0.04, 4), -0.1, 0.1) * np.tile(size, 2)
        box = np.clip(box, 0, 256)
        return [(box[0], box[1]), (box[2], box[3])], [CORNER_A, CORNER_B]
    r, c = click_in(rng, inside, 0.5)
    return [(c, r), (0.0, 0.0)], [FOREGROUND, PAD]


def corrective_click(rng: Rng, wrong_in: Array, wrong_out: Array) -> tuple[tuple[float, float], int]:
    """Click in the largest region missed (foreground) or wrongly taken (background) of low-resolution masks."""
    missed, extra = largest(wrong_in), largest(wrong_out)
    label = FOREGROUND if missed.sum() >= extra.sum() else BACKGROUND
    region = missed if label == FOREGROUND else extra
    if not region.any():
        return (0.0, 0.0), PAD
    r, c = click_in(rng, region, 0.6)
    step = 256 / region.shape[0]
    return ((c + 0.5) * step - 0.5, (r + 0.5) * step - 0.5), label


def embed(encoder: PromptEncoder, points: Tensor, labels: Tensor) -> Tensor:
    """Sparse embeddings (N, t, 256) of points (N, t, 2) in window pixels; labels 2 and 3 are a box's corners.

    The same as ``PromptEncoder`` gives, but clicks and boxes may stand in one batch.
    """
    code = encoder.pe_layer.forward_with_coords(points + 0.5, encoder.input_image_size)
    table = torch.stack([e.weight[0] for e in encoder.point_embeddings])
    chosen = table[labels.clamp(min=0)]
    pad = (labels == PAD)[..., None]
    return torch.where(pad, encoder.not_a_point_embed.weight[0], code + chosen)
