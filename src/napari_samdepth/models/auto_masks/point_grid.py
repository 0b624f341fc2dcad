"""Clicks on grids over an image and its crops, and the masks that pass: the search behind whole-image masks.

Masks whose predicted IoU is too low are never made; the others are brought to image resolution, inside the box that
they touch, and their stability is judged there. Low-resolution logits would not do: of a mask of fifty samples their
stability differs by a tenth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import MASK_THRESHOLD, Patch
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.enlarge import mask_in_box
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.maskset import FoundMask, MaskSet
from napari_samdepth.core.resample import Box, Frame, logits_in_box, positive_box
from napari_samdepth.models.protocols import Report, Segmenter

LARGE = 1 << 15
"""Pixels of a box from which three masks, of which only the edges are computed, cost less than one map of logits."""
NEAR_EDGE = 20
"""Pixels from a crop's edge within which a mask counts as cut off."""


class PointDecoder(Protocol):
    """A segmenter that decodes many single clicks at once."""

    def point_masks(
        self, embedding: Embedding, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Frame]:
        """Return logits (n, 3, h, w), predicted IoU (n, 3) and the logits' frame for points (n, 2) (row, col)."""


@runtime_checkable
class SparingDecoder(Protocol):
    """A segmenter that makes only those masks of many single clicks whose predicted IoU is high enough."""

    def masks_above(
        self, embedding: Embedding, points: NDArray[np.float64], threshold: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.intp], Frame]:
        """Return logits (k, h, w), predicted IoU (k,), the click of each (k,) and the logits' frame."""


@dataclass(frozen=True)
class Search:
    """Parameters of the search, named and set as SamAutomaticMaskGenerator's.

    Attributes
    ----------
    points_per_side
        Clicks along a side of the grid; None if `point_grids` says them.
    pred_iou_thresh, stability_score_thresh
        A mask passes above these, 0 to 1.
    stability_score_offset
        By how much the threshold is moved up and down for the stability score, in logits.
    crop_n_layers
        Layer i searches 2^i x 2^i crops of the image as well.
    crop_overlap_ratio
        Overlap of crops as a share of the image's shorter side, halved in each layer.
    crop_n_points_downscale_factor
        Layer i has points_per_side divided by this to the power i.
    point_grids
        One (n, 2) array of (row, col) in 0-1 per layer, instead of `points_per_side`.
    """

    points_per_side: int | None = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise ValueError("Give either points_per_side or point_grids, and not both.")

    def grid(self, layer: int) -> NDArray[np.float64]:
        """Return the clicks of a crop layer, (n, 2) (row, col) in 0-1."""
        if self.point_grids is not None:
            return np.asarray(self.point_grids[layer], dtype=np.float64)
        assert self.points_per_side is not None
        side = max(int(self.points_per_side / self.crop_n_points_downscale_factor**layer), 1)
        at = (np.arange(side) + 0.5) / side
        return np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1).reshape(-1, 2)


def searched(
    seg: Segmenter,
    emb: Embedding,
    search: Search,
    points_per_batch: int,
    rgb: NDArray[np.uint8] | None,
    report: Report | None,
    enough: Callable[[], bool],
) -> MaskSet:
    """Try the clicks of all grids and crops."""
    if not hasattr(seg, "point_masks"):
        raise ModelError(f"{seg.name} cannot search whole images; choose a SAM model or the built-in one.")
    crops = list(crop_boxes(emb.image_shape, search.crop_n_layers, search.crop_overlap_ratio))
    picture = emb.features.get("rgb") if rgb is None else rgb
    if len(crops) > 1 and picture is None:
        raise ModelError("Crops are encoded one by one and need the picture; give it as rgb.")
    total = sum(len(search.grid(layer)) for layer, _ in crops)
    masks: list[FoundMask] = []
    done = 0
    for layer, crop in crops:
        whole = crop == (0, 0, *emb.image_shape)
        view = emb if whole or picture is None else seg.encode(picture[crop[0] : crop[2], crop[1] : crop[3]])
        size = np.array([crop[2] - crop[0], crop[3] - crop[1]], dtype=np.float64)
        points = search.grid(layer) * size
        for start in range(0, len(points), points_per_batch):
            if enough():
                return MaskSet(tuple(masks), emb.image_shape)
            if report is not None:
                report(done / total, f"searching, {len(masks)} masks so far")
            batch = points[start : start + points_per_batch]
            masks += _judged(seg, view, batch, crop, emb.image_shape, search)  # type: ignore[arg-type]
            done += len(batch)
    return MaskSet(tuple(masks), emb.image_shape)


def crop_boxes(image_shape: tuple[int, int], layers: int, overlap_ratio: float) -> Iterator[tuple[int, Box]]:
    """Yield (layer, box) of the image and of its overlapping crops, box as (row_min, col_min, row_max, col_max)."""
    height, width = image_shape
    yield 0, (0, 0, height, width)
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(image_shape) * (2 / count))
        rows, cols = (ceil((overlap * (count - 1) + length) / count) for length in image_shape)
        for col in range(count):
            for row in range(count):
                top, left = (rows - overlap) * row, (cols - overlap) * col
                if top < height and left < width:  # an image of a few pixels has fewer crops
                    yield layer, (top, left, min(top + rows, height), min(left + cols, width))


def stability(logits: NDArray[np.float32], offset: float) -> NDArray[np.float64]:
    """Return the stability score of each logits map (..., h, w): pixels above +offset over pixels above -offset."""
    high = np.count_nonzero(logits > MASK_THRESHOLD + offset, axis=(-2, -1))
    low = np.count_nonzero(logits > MASK_THRESHOLD - offset, axis=(-2, -1))
    return np.asarray(high / np.maximum(low, 1), dtype=np.float64)


def _judged(
    seg: PointDecoder,
    view: Embedding,
    points: NDArray[np.float64],
    crop: Box,
    image_shape: tuple[int, int],
    search: Search,
) -> Iterator[FoundMask]:
    """Decode a batch of clicks (row, col in the crop) and yield the masks that pass, at image resolution."""
    least = search.pred_iou_thresh
    if isinstance(seg, SparingDecoder):
        logits, scores, clicks, frame = seg.masks_above(view, points, least)
    else:
        logits, scores, clicks, frame = promising(*seg.point_masks(view, points), least)
    for low, score, click in zip(logits, scores, clicks, strict=True):
        point = (float(points[click, 0]) + crop[0], float(points[click, 1]) + crop[1])
        found = stable_mask(low, float(score), frame, (crop[0], crop[1]), point, crop, search)
        if found is not None and not _cut_off(found.box, crop, image_shape):
            yield found


def promising(
    logits: NDArray[np.float32], scores: NDArray[np.float64], frame: Frame, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.intp], Frame]:
    """Return of all masks of many clicks, as a `PointDecoder` gives them, what a `SparingDecoder` would have made."""
    clicks, masks = np.nonzero(scores > threshold)
    return logits[clicks, masks], scores[clicks, masks], clicks, frame


def stable_mask(
    logits: NDArray[np.float32],
    score: float,
    frame: Frame,
    origin: tuple[int, int],
    point: tuple[float, float],
    crop: Box,
    search: Search,
) -> FoundMask | None:
    """Return the mask of a click at image resolution, None where it is empty or not stable enough there.

    Parameters
    ----------
    logits, score, frame
        (h, w), their predicted IoU, and how they cover the part of the image that they were decoded in.
    origin
        (row, col) of that part's first pixel in the image.
    point, crop
        What `FoundMask` says of them.
    search
        Whose stability counts.
    """
    patch, stable = _exact(logits, frame, search.stability_score_offset)
    if patch is None or stable < search.stability_score_thresh:
        return None
    return FoundMask.pack(patch.moved(origin), score, stable, point, crop)


def _exact(logits: NDArray[np.float32], frame: Frame, offset: float) -> tuple[Patch | None, float]:
    """Return the mask at image resolution inside its box, and its stability score there."""
    box = positive_box(logits, frame, MASK_THRESHOLD - offset)
    if box is None:
        return None, 0.0
    origin = box[0], box[1]
    if (box[2] - box[0]) * (box[3] - box[1]) < LARGE:
        fine = logits_in_box(logits, frame, box)
        return Patch(fine > MASK_THRESHOLD, origin), float(stability(fine, offset))
    low, mask, high = (mask_in_box(logits, frame, box, MASK_THRESHOLD + step) for step in (-offset, 0.0, offset))
    return Patch(mask, origin), int(np.count_nonzero(high)) / max(int(np.count_nonzero(low)), 1)


def _cut_off(box: Box, crop: Box, image_shape: tuple[int, int]) -> bool:
    """Whether a box reaches an edge of its crop that is not an edge of the image."""
    ends = np.array([box[0], box[1], box[2] - 1, box[3] - 1], dtype=np.float64)
    near_crop = np.abs(ends - np.array(crop)) <= NEAR_EDGE
    near_image = np.abs(ends - np.array([0, 0, *image_shape])) <= NEAR_EDGE
    return bool((near_crop & ~near_image).any())
