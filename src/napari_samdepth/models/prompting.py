"""Prompts that a model does not take, said in those that it takes: the one place where that is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import PROMPT_KINDS, PromptKind, Prompts
from napari_samdepth.models.protocols import Report, Segmenter

SCRIBBLE_POINTS = 5
"""Most points that stand for one scribble: three to five are alike on validation images, with its ends among them."""
HELD = 0.9
"""Share of the scribbles that a mask must hold to be what was scribbled over."""

ToMaskInput = Callable[[Patch], MaskInput]
"""Turns a mask at image resolution into the logits that a model wants to be fed."""
Decode = Callable[[Prompts, bool], Candidates]
"""Gives several masks or a single one for prompts of a model's own kinds."""


class TranslatingSegmenter:
    """A segmenter that takes some kinds of prompts only, given all of them.

    Whatever else it has is its own.

    Parameters
    ----------
    segmenter
        Of another package.
    takes
        The kinds that its ``decode`` takes.
    """

    def __init__(self, segmenter: Segmenter, takes: frozenset[PromptKind]) -> None:
        self._segmenter = segmenter
        self._takes = takes

    def __getattr__(self, name: str) -> Any:
        """Return what the segmenter has under this name."""
        return getattr(self._segmenter, name)

    @property
    def name(self) -> str:
        """Name in the list of models."""
        return self._segmenter.name

    @property
    def model(self) -> str:
        """Identity of the model and its weights."""
        return self._segmenter.model

    @property
    def device(self) -> str:
        """Torch device in use."""
        return self._segmenter.device

    @property
    def device_reason(self) -> str:
        """One sentence: why this device."""
        return self._segmenter.device_reason

    def encode(self, rgb: NDArray[np.uint8], report: Report | None = None) -> Embedding:
        """Return the embedding of `rgb`, uint8 (H, W, 3)."""
        return self._segmenter.encode(rgb, report)

    def decode(self, embedding: Embedding, prompts: Prompts, multimask: bool | None = None) -> Candidates:
        """Return masks for the prompts, said in kinds that the segmenter takes. Raises as `translated` does."""
        to_input = getattr(self._segmenter, "mask_input", None)
        own = translated(
            prompts,
            self._takes,
            embedding.image_shape,
            None if to_input is None else lambda region: to_input(embedding, region),
            lambda first, several: self._segmenter.decode(embedding, first, several),
        )
        return self._segmenter.decode(embedding, own, multimask)


def with_translation(segmenter: Segmenter, takes: frozenset[PromptKind]) -> Segmenter:
    """Return a segmenter that takes prompts of every kind: itself if it does."""
    return segmenter if takes == PROMPT_KINDS else TranslatingSegmenter(segmenter, takes)


def translated(
    prompts: Prompts,
    takes: frozenset[PromptKind],
    image_shape: tuple[int, int],
    to_mask_input: ToMaskInput | None,
    decode: Decode | None = None,
) -> Prompts:
    """Return prompts of the kinds that a model takes, as near to what was meant as they come.

    A scribble becomes points along it and, where a first mask can be asked for, the mask of its middle; a lasso its box
    and what lies in it of the box's first mask, or all that lies in it; a mask at image resolution logits or, for a
    model that takes no masks, its box; a box its middle. Of a mask that is fed back only what the user adds is said.

    Parameters
    ----------
    prompts
        What the user pointed at.
    takes
        The kinds that the model takes.
    image_shape
        (H, W) of the image.
    to_mask_input
        What the model is fed for a mask; None where it takes none.
    decode
        Asks the model for masks, None where that cannot be.

    Raises
    ------
    ModelError
        If a mask or a lasso does not lie in the image, or nothing is left that the model takes.
    """
    if prompts.kinds <= takes and prompts.region is None:
        return prompts
    points, labels, box = prompts.points, prompts.labels, prompts.box
    mask = None if prompts.mask is None else MaskInput(prompts.mask, prompts.mask_window)
    region = prompts.region
    if prompts.lasso is not None and "lasso" not in takes:
        within = inside(prompts.lasso, image_shape)
        box = _bounds(prompts.lasso) if box is None else box
        if mask is None and region is None:
            region = within
            if decode is not None and {"box", "mask"} <= takes:
                region = _common(decode(Prompts(points, labels, box), False).patch(), within)
    if region is not None:
        _check_inside(region, prompts.region_shape, image_shape)
        if "mask" in takes and to_mask_input is not None:
            mask = to_mask_input(region)
        elif box is None:
            box = _bounds(_corners(region))
    if "scribbles" not in takes:
        if mask is None and decode is not None and "mask" in takes and prompts.scribble_labels.any():
            mask = _first_mask(prompts, points, labels, box if "box" in takes else None, decode)
        for path, label in zip(prompts.scribbles, prompts.scribble_labels, strict=True):
            along = points_along(path)
            points = np.concatenate([points, along])
            labels = np.concatenate([labels, np.full(len(along), label)])
    if box is not None and "box" not in takes:
        if not len(points):
            points, labels = box.reshape(1, 2, 2).mean(axis=1), np.ones(1, dtype=np.int64)
        box = None
    if "points" not in takes:
        points, labels = points[:0], labels[:0]
    if "mask" not in takes:
        mask = None
    drawn = prompts.scribbles if "scribbles" in takes else ()
    lasso = prompts.lasso if "lasso" in takes else None
    if not len(points) and box is None and mask is None and not drawn and lasso is None:
        raise ModelError(
            f"This model takes {_listed(takes)}, not {_listed(prompts.kinds)}; point at the object in another way."
        )
    return Prompts(points, labels, box, mask, drawn, prompts.scribble_labels if drawn else None, lasso)


def _common(mask: Patch, within: Patch) -> Patch:
    """Return what lies of a mask within another, that other one where nothing does."""
    top, left, bottom, right = within.box
    around = np.zeros((bottom - top, right - left), dtype=bool)
    low = np.maximum(mask.box[:2], within.origin)
    high = np.minimum(mask.box[2:], (bottom, right))
    if (high > low).all():
        there = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        rows, cols = (slice(at.start - by, at.stop - by) for at, by in zip(there, mask.origin, strict=True))
        into = tuple(slice(at.start - by, at.stop - by) for at, by in zip(there, within.origin, strict=True))
        around[into] = mask.mask[rows, cols]
    around &= within.mask
    return Patch(around, within.origin) if around.any() else within


def _first_mask(
    prompts: Prompts,
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    box: NDArray[np.float64] | None,
    decode: Decode,
) -> MaskInput | None:
    """Return the surest mask of the middles of the foreground scribbles that holds them, to be fed back."""
    drawn = [path for path, label in zip(prompts.scribbles, prompts.scribble_labels, strict=True) if label]
    middles = np.concatenate([points_along(path, 1) for path in drawn])
    found = decode(
        Prompts(np.concatenate([points, middles]), np.concatenate([labels, np.ones(len(middles), np.int64)]), box),
        True,
    )
    if not found.feedback:
        return None
    held = [_share_held(found.patch(index), np.concatenate(drawn)) for index in range(len(found))]
    return found.feedback[max(range(len(found)), key=lambda index: (min(held[index], HELD), found.scores[index]))]


def _share_held(mask: Patch, positions: NDArray[np.float64]) -> float:
    """Return the share of positions (n, 2) that lie in a mask."""
    at = np.round(positions).astype(np.intp) - np.array(mask.origin)
    there = ((at >= 0) & (at < mask.mask.shape)).all(axis=1)
    return float(np.count_nonzero(mask.mask[tuple(at[there].T)]) / len(positions))


def points_along(path: NDArray[np.float64], most: int = SCRIBBLE_POINTS) -> NDArray[np.float64]:
    """Return points (k, 2) evenly along a path (n, 2), 1 <= k <= `most`: its ends among them, or its middle alone."""
    steps = np.hypot(*np.diff(path, axis=0).T) if len(path) > 1 else np.zeros(0)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    length = float(along[-1])
    count = int(np.clip(length + 1, 1, most))
    wanted = np.linspace(0, length, count) if count > 1 else np.array([length / 2])
    return np.stack([np.interp(wanted, along, path[:, axis]) for axis in (0, 1)], axis=1)


def inside(lasso: NDArray[np.float64], image_shape: tuple[int, int]) -> Patch:
    """Return the pixels of the image whose centres lie in a polygon (n, 2) of (row, col).

    Raises
    ------
    ModelError
        If there are none.
    """
    rows, cols = polygon(lasso[:, 0], lasso[:, 1], image_shape)
    if not len(rows):
        raise ModelError("The lasso holds no pixel of the image; draw it around the object.")
    top, left = int(rows.min()), int(cols.min())
    mask = np.zeros((int(rows.max()) + 1 - top, int(cols.max()) + 1 - left), dtype=bool)
    mask[rows - top, cols - left] = True
    return Patch(mask, (top, left))


def _check_inside(region: Patch, given: tuple[int, int] | None, image_shape: tuple[int, int]) -> None:
    if given not in (None, image_shape):
        raise ModelError(f"A mask of {given} does not fit an image of {image_shape}; give one of the image's size.")
    row_min, col_min, row_max, col_max = region.box
    if min(row_min, col_min) < 0 or row_max > image_shape[0] or col_max > image_shape[1]:
        raise ModelError(f"A mask in the box {region.box} lies outside an image of {image_shape}; give one within it.")


def _corners(region: Patch) -> NDArray[np.float64]:
    """Return the first and last pixel (2, 2) of a mask."""
    row, col = region.origin
    rows, cols = np.flatnonzero(region.mask.any(axis=1)), np.flatnonzero(region.mask.any(axis=0))
    return np.array([[row + rows[0], col + cols[0]], [row + rows[-1], col + cols[-1]]], dtype=np.float64)


def _bounds(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the box (4,) of positions (n, 2), half a pixel larger on each side so that it is never empty."""
    return np.concatenate([positions.min(axis=0) - 0.5, positions.max(axis=0) + 0.5])


def _listed(kinds: frozenset[PromptKind]) -> str:
    return ", ".join(sorted(kinds)) or "nothing"
