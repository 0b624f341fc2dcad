"""Losses that do not see the scale and the shift of inverse depth (after Ranftl et al., MiDaS, 2020)."""

from __future__ import annotations

import torch
from torch import Tensor


def _standard(x: Tensor) -> Tensor:
    """Each map of (B, H, W) less its median, over its mean absolute deviation."""
    flat = x.flatten(1)
    middle = flat.median(1).values[:, None, None]
    spread = (x - middle).abs().mean((1, 2), keepdim=True)
    return (x - middle) / (spread + 1e-4)


def _gradients(difference: Tensor, levels: int = 4) -> Tensor:
    total = difference.new_zeros(difference.shape[0])
    for level in range(levels):
        step = 2**level
        d = difference[:, ::step, ::step]
        across = (d[:, :, 1:] - d[:, :, :-1]).abs().mean((1, 2))
        down = (d[:, 1:] - d[:, :-1]).abs().mean((1, 2))
        total = total + across + down
    return total


def depth_loss(predicted: Tensor, target: Tensor, edge: float = 0.5, ceiling: float = 4.0) -> Tensor:
    """Mean loss over a batch.

    `predicted`, `target` (B, H, W) inverse depth up to scale and shift.  Absolute differences of the standardised maps
    plus `edge` times those of their gradients at four scales.  Standardised targets are cut at `ceiling`, since a thing
    that touches the lens would otherwise outweigh the whole scene.
    """
    p, t = _standard(predicted), _standard(target).clamp(-ceiling, ceiling)
    difference = p - t
    return (difference.abs().mean((1, 2)) + edge * _gradients(difference)).mean()


def blank(target: Tensor) -> Tensor:
    """Which maps of (B, H, W) hold next to no depth at all, and teach nothing: (B,) bool."""
    spread = target.flatten(1).std(1)
    return spread < 0.02 * target.flatten(1).abs().mean(1) + torch.finfo(target.dtype).eps
