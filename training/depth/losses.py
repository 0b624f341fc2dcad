"""Losses that do not see the scale and the shift of inverse depth (after Ranftl et al., MiDaS, 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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


def _ranking(p: Tensor, t: Tensor, reach: int = 3, least: float = 0.15) -> Tensor:
    """How far the two sides of true steps are from being ordered, per map of standardised (B, H, W).

    Of pixels `reach` and twice `reach` apart whose true step exceeds `least`: relu(min(step, 1) - predicted step).
    """
    total = p.new_zeros(p.shape[0])
    for gap in (reach, 2 * reach):
        late, early = slice(gap, None), slice(None, -gap)
        for far, near in (((..., late), (..., early)), ((slice(None), late), (slice(None), early))):
            step = t[far] - t[near]
            there = step.abs() > least
            missing = F.relu(step.abs().clamp(max=1.0) - (p[far] - p[near]) * step.sign())
            total = total + (missing * there).sum((1, 2)) / (there.sum((1, 2)) + 50)
    return total / 4


def depth_loss(predicted: Tensor, target: Tensor, edge: float = 1.0, rank: float = 1.0, ceiling: float = 4.0) -> Tensor:
    """Mean loss over a batch.

    `predicted`, `target` (B, H, W) inverse depth up to scale and shift.  Absolute differences of the standardised maps
    plus `edge` times those of their gradients at four scales plus `rank` times what the order at true steps lacks.
    Standardised targets are cut at `ceiling`, since a thing that touches the lens would otherwise outweigh the whole
    scene.
    """
    p, t = _standard(predicted), _standard(target).clamp(-ceiling, ceiling)
    difference = p - t
    return (difference.abs().mean((1, 2)) + edge * _gradients(difference) + rank * _ranking(p, t)).mean()


def blank(target: Tensor) -> Tensor:
    """Which maps of (B, H, W) hold next to no depth at all, and teach nothing: (B,) bool."""
    spread = target.flatten(1).std(1)
    return spread < 0.02 * target.flatten(1).abs().mean(1) + torch.finfo(target.dtype).eps
