"""Bilinear resampling of logits inside a box, number for number as torch does it on the CPU.

A click needs one mask inside the box that it can touch, while `torch.nn.functional.interpolate` computes
whole images. The arithmetic follows `interpolate(mode="bilinear", align_corners=False)`: source index
``scale * (i + 0.5) - 0.5`` in float32, columns first, then rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

Box = tuple[int, int, int, int]
"""(row_min, col_min, row_max, col_max), half open, in pixels."""


@dataclass(frozen=True)
class Frame:
    """How a canvas of logits covers an image.

    The canvas is resized to ``input_size``, of which the top left ``valid_size`` holds the picture (the rest is
    padding), and that is resized to ``image_shape``. A canvas without padding and without an intermediate size
    has ``input_size == valid_size == canvas shape``.

    Attributes
    ----------
    image_shape
        (H, W) of the image in pixels.
    input_size
        (rows, cols) of the model's input that the canvas stands for.
    valid_size
        (rows, cols) of that input that are not padding.
    """

    image_shape: tuple[int, int]
    input_size: tuple[int, int]
    valid_size: tuple[int, int]

    def __post_init__(self) -> None:
        sizes = (*self.image_shape, *self.input_size, *self.valid_size)
        if min(sizes) < 1:
            raise ValueError(f"Frame sizes must be at least 1, got {self}.")
        if self.valid_size[0] > self.input_size[0] or self.valid_size[1] > self.input_size[1]:
            raise ValueError(f"Frame.valid_size {self.valid_size} must fit into input_size {self.input_size}.")

    @classmethod
    def whole(cls, image_shape: tuple[int, int], canvas_shape: tuple[int, int]) -> Frame:
        """Return the frame of a canvas that is stretched over the whole image, without padding."""
        return cls(image_shape=image_shape, input_size=canvas_shape, valid_size=canvas_shape)


@dataclass(frozen=True)
class Taps:
    """For each output position: its two source positions and their weights (float32)."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    weight_first: NDArray[np.float32]
    weight_second: NDArray[np.float32]


_rounding = {"fused": True}
"""Whether source positions are rounded once (fused multiply and add, as in torch 2.14) or twice (as in torch 2.15)."""


def round_as(resized: Callable[[NDArray[np.float32], tuple[int, int]], NDArray[np.float32]]) -> None:
    """Round source positions as a library does, of which `resized` gives (h, w) resized bilinearly to a shape."""
    values, target = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), (128, 200)
    theirs, wrong = resized(values, target), {}
    for fused in (False, True):
        _rounding["fused"] = fused
        wrong[fused] = np.count_nonzero(resize_box(values, (64, 64), target, (0, 0, *target)) != theirs)
    _rounding["fused"] = bool(wrong[True] <= wrong[False])


def taps(source: int, target: int, start: int, stop: int) -> Taps:
    """Return the taps for output positions [start, stop) when `source` samples become `target` samples."""
    scale = np.float32(source) / np.float32(target)
    position = np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
    if _rounding["fused"]:
        real = (position.astype(np.float64) * scale - 0.5).astype(np.float32)
    else:
        real = position * scale - np.float32(0.5)
    real = np.maximum(real, np.float32(0))
    first = np.minimum(np.floor(real).astype(np.intp), source - 1)
    weight_second = np.clip(real - first.astype(np.float32), np.float32(0), np.float32(1))
    return Taps(first, np.minimum(first + 1, source - 1), np.float32(1) - weight_second, weight_second)


def blend(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    weight_first: NDArray[np.float32],
    weight_second: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return ``fma(first, weight_first, second * weight_second)``, rounded once to float32 as torch's kernel does."""
    exact = first.astype(np.float64) * weight_first
    exact += second * weight_second
    return exact.astype(np.float32)


def resize_box(
    values: NDArray[np.float32],
    source_shape: tuple[int, int],
    target_shape: tuple[int, int],
    box: Box,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.float32]:
    """Return the part `box` of `values` resized bilinearly from `source_shape` to `target_shape`.

    Parameters
    ----------
    values
        (h, w) float32; the part of the source that starts at `origin` (the whole source by default). It must
        hold every source position that the box needs.
    source_shape, target_shape
        (rows, cols) of the whole source and of the whole target.
    box
        (row_min, col_min, row_max, col_max), half open, in target pixels.
    origin
        (row, col) of ``values[0, 0]`` in the source.
    """
    row_min, col_min, row_max, col_max = box
    if source_shape == target_shape:
        return values[row_min - origin[0] : row_max - origin[0], col_min - origin[1] : col_max - origin[1]]
    rows = taps(source_shape[0], target_shape[0], row_min, row_max)
    cols = taps(source_shape[1], target_shape[1], col_min, col_max)
    used = slice(rows.first[0] - origin[0], rows.second[-1] - origin[0] + 1)
    strip = values[used]
    wide = blend(
        strip[:, cols.first - origin[1]], strip[:, cols.second - origin[1]], cols.weight_first, cols.weight_second
    )
    top = rows.first - rows.first[0]
    bottom = rows.second - rows.first[0]
    return blend(wide[top], wide[bottom], rows.weight_first[:, None], rows.weight_second[:, None])


def _source_range(source: int, target: int, start: int, stop: int) -> tuple[int, int]:
    """Return the half-open range of source positions that output positions [start, stop) read."""
    ends = taps(source, target, start, start + 1), taps(source, target, stop - 1, stop)
    return int(ends[0].first[0]), int(ends[1].second[-1]) + 1


def _touched(source: int, target: int, start: int, stop: int) -> tuple[int, int]:
    """Return a half-open range of outputs that holds all which read a source position in [start, stop)."""
    ratio = target / source
    low = int(np.floor((start - 1) * ratio)) - 1
    high = int(np.ceil((stop + 1) * ratio)) + 1
    return min(max(low, 0), target - 1), min(max(high, 1), target)


def positive_box(logits: NDArray[np.float32], frame: Frame, threshold: float = 0.0) -> Box | None:
    """Return a box of image pixels outside of which no resized logit exceeds `threshold`.

    Parameters
    ----------
    logits
        (h, w) float32 canvas.
    frame
        How the canvas covers the image.
    threshold
        In logits.

    Returns
    -------
    The box, or None where no logit of the canvas exceeds the threshold.
    """
    above = logits > threshold
    rows = np.flatnonzero(above.any(axis=1))
    if rows.size == 0:
        return None
    cols = np.flatnonzero(above.any(axis=0))
    bounds = []
    for axis, hit in enumerate((rows, cols)):
        low, high = _touched(logits.shape[axis], frame.input_size[axis], int(hit[0]), int(hit[-1]) + 1)
        high = min(high, frame.valid_size[axis])
        if low >= high:
            return None
        bounds.append(_touched(frame.valid_size[axis], frame.image_shape[axis], low, high))
    return bounds[0][0], bounds[1][0], bounds[0][1], bounds[1][1]


def logits_in_box(logits: NDArray[np.float32], frame: Frame, box: Box) -> NDArray[np.float32]:
    """Return the logits at image resolution inside `box`, shape (row_max - row_min, col_max - col_min), float32."""
    middle, origin = input_under_box(logits, frame, box)
    return resize_box(middle, frame.valid_size, frame.image_shape, box, origin=origin)


def input_under_box(logits: NDArray[np.float32], frame: Frame, box: Box) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return the logits at the size of the model's input where `box` reads them, and (row, col) of the first."""
    row_min, col_min, row_max, col_max = box
    low_row, high_row = _source_range(frame.valid_size[0], frame.image_shape[0], row_min, row_max)
    low_col, high_col = _source_range(frame.valid_size[1], frame.image_shape[1], col_min, col_max)
    needed = (low_row, low_col, high_row, high_col)
    canvas_shape = (logits.shape[0], logits.shape[1])
    return resize_box(logits, canvas_shape, frame.input_size, needed), (low_row, low_col)


def mask_to_logits(
    mask: NDArray[np.bool_], frame: Frame, canvas_shape: tuple[int, ...], strength: float = 8.0
) -> NDArray[np.float32]:
    """Return logits of `canvas_shape` that stand for a mask, to be fed to a decoder: the way back of a frame.

    Parameters
    ----------
    mask
        (H, W) bool, of the frame's image shape.
    frame
        How the canvas covers the image.
    canvas_shape
        (h, w) of the canvas.
    strength
        Logit of a canvas cell that the mask covers wholly; one that it does not touch gets minus that.
    """
    height, width = canvas_shape
    rows = max(round(height * frame.valid_size[0] / frame.input_size[0]), 1)
    cols = max(round(width * frame.valid_size[1] / frame.input_size[1]), 1)
    share = resize(mask.astype(np.float32), (rows, cols), order=1, anti_aliasing=True)
    canvas = np.full((height, width), -strength, dtype=np.float32)
    canvas[:rows, :cols] = (2 * share - 1) * strength
    return canvas
