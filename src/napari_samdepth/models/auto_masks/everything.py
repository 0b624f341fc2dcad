"""Whole-image masks from an embedding, with the parameters and the results of SamAutomaticMaskGenerator, sooner.

Kirillov et al. 2023, "Segment Anything", appendix B: a grid of clicks, three masks each, filtered by predicted IoU,
stability and non-maximum suppression, on the image and on crops of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.maskset import FoundMask, MaskSet
from napari_samdepth.core.resample import Box, Frame
from napari_samdepth.core.small_regions import without_small_regions
from napari_samdepth.core.suppression import non_maximum
from napari_samdepth.models.auto_masks.point_grid import Search, searched, stable_mask
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report, Segmenter
from napari_samdepth.models.registry import specs
from napari_samdepth.models.spec import SAM_SEARCH

BATCH = 4
"""Clicks decoded at once: on a CPU a click costs least in batches of one to four."""
FIRST_PASS = 0.3
"""Predicted IoU and stability that make a mask of the first pass worth zooming in on."""
FIRST_SHARE = 0.8
"""Share of the time that the first pass takes, for the progress."""
ONE_OBJECT = 0.5
"""IoU of boxes above which two masks of the first pass are one object."""


@runtime_checkable
class ZoomingSegmenter(Protocol):
    """A segmenter that sees an object better at the object's own zoom."""

    def decode_zoomed(
        self, embedding: Embedding, point: tuple[float, float]
    ) -> tuple[NDArray[np.float32], float, Frame, tuple[int, int]]:
        """Return the best mask of a click (row, col): logits (h, w), predicted IoU, their frame, and its origin."""


def usual_search(model: str) -> Search:
    """Return what a search starts from with a model, by its name or path, where a user says nothing else."""
    return next((spec.search for spec in specs("segment") if spec.name == model), SAM_SEARCH)


def segment_everything(
    seg: Segmenter,
    emb: Embedding,
    points_per_side: int | None = 32,
    points_per_batch: int = BATCH,
    pred_iou_thresh: float = 0.88,
    stability_score_thresh: float = 0.95,
    stability_score_offset: float = 1.0,
    box_nms_thresh: float = 0.7,
    crop_n_layers: int = 0,
    crop_nms_thresh: float = 0.7,
    crop_overlap_ratio: float = 512 / 1500,
    crop_n_points_downscale_factor: int = 1,
    point_grids: Sequence[NDArray[np.float64]] | None = None,
    min_mask_region_area: int = 0,
    *,
    rgb: NDArray[np.uint8] | None = None,
    report: Report | None = None,
) -> MaskSet:
    """Return all masks of a picture.

    Parameters
    ----------
    seg, emb
        A segmenter and an embedding that it made.
    points_per_batch
        Clicks decoded at once; it changes time and memory, not the result.
    box_nms_thresh, crop_nms_thresh
        IoU of boxes above which two masks of a crop, or of two crops, are duplicates.
    min_mask_region_area
        Holes and islands below this many pixels are removed.
    rgb
        The encoded picture, uint8 (H, W, 3); needed for crops where the embedding does not hold it.
    report
        Told how far it is; may raise Cancelled.

    The other parameters are explained in `Search`. All have SamAutomaticMaskGenerator's names and, but for
    `points_per_batch` (64 there), its defaults; `usual_search` says which are better for the built-in model.

    Raises
    ------
    ModelError
        If the segmenter cannot decode grids, or crops are wanted and the picture is not at hand.
    ValueError
        If neither or both of `points_per_side` and `point_grids` are given.
    """
    search = Search(
        points_per_side=points_per_side,
        pred_iou_thresh=pred_iou_thresh,
        stability_score_thresh=stability_score_thresh,
        stability_score_offset=stability_score_offset,
        crop_n_layers=crop_n_layers,
        crop_overlap_ratio=crop_overlap_ratio,
        crop_n_points_downscale_factor=crop_n_points_downscale_factor,
        point_grids=point_grids,
    )
    found = propose(seg, emb, search, points_per_batch, rgb, report)
    kept = found.filtered(pred_iou_thresh, stability_score_thresh, box_nms_thresh, crop_nms_thresh)
    if min_mask_region_area > 0:
        kept = _cleaned(kept, min_mask_region_area, max(box_nms_thresh, crop_nms_thresh))
    return kept


def propose(
    seg: Segmenter,
    emb: Embedding,
    search: Search,
    points_per_batch: int = BATCH,
    rgb: NDArray[np.uint8] | None = None,
    report: Report | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> MaskSet:
    """Return every mask at or above the thresholds of `search`, duplicates included.

    With low thresholds this is what sliders can filter anew (`MaskSet.filtered`) without the model. When `enough`
    says so the search ends early with what it has found. Errors as in `segment_everything`.

    A `ZoomingSegmenter` clicks once more into each object found, at the object's own zoom, and the masks are those
    decoded there.
    """
    if not isinstance(seg, ZoomingSegmenter):
        return searched(seg, emb, search, points_per_batch, rgb, report, enough)
    tell = report or silent
    floor = min(FIRST_PASS, search.pred_iou_thresh), min(FIRST_PASS, search.stability_score_thresh)
    first = replace(search, pred_iou_thresh=floor[0], stability_score_thresh=floor[1])

    def share(part: float, what: str) -> None:
        tell(FIRST_SHARE * part, what)

    found = searched(seg, emb, first, points_per_batch, rgb, share, enough)
    if enough():
        return found
    seen = found.filtered(*floor, box_nms_thresh=ONE_OBJECT, crop_nms_thresh=ONE_OBJECT)
    return _decoded_zoomed(seg, emb, seen, search, tell, enough)


def _decoded_zoomed(
    seg: ZoomingSegmenter,
    emb: Embedding,
    seen: MaskSet,
    search: Search,
    tell: Report,
    enough: Callable[[], bool],
) -> MaskSet:
    """Click into the middle of each object seen; return the masks that pass."""
    masks: list[FoundMask] = []
    whole: Box = (0, 0, *emb.image_shape)
    for at, mask in enumerate(seen.masks):
        if enough():
            break
        part = FIRST_SHARE + (1 - FIRST_SHARE) * at / len(seen)
        tell(part, f"zooming in, {at} of {len(seen)}")
        point = _middle(mask.patch)
        logits, score, frame, origin = seg.decode_zoomed(emb, point)
        if score <= search.pred_iou_thresh:
            continue
        found = stable_mask(logits, score, frame, origin, point, whole, search)
        if found is not None:
            masks.append(found)
    return MaskSet(tuple(masks), emb.image_shape)


def _middle(patch: Patch) -> tuple[float, float]:
    """Return the pixel (row, col) of a mask that is farthest from its edge."""
    depth = ndimage.distance_transform_edt(np.pad(patch.mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(row + patch.origin[0]), float(col + patch.origin[1])


def _cleaned(found: MaskSet, min_area: int, threshold: float) -> MaskSet:
    """Remove small holes and islands, then duplicates that this made; masks that stayed as they were come first."""
    masks, untouched = [], []
    for mask in found.masks:
        patch, changed = without_small_regions(mask.patch, min_area)
        packed = FoundMask.pack(patch, mask.predicted_iou, mask.stability_score, mask.point, mask.crop_box)
        if packed is not None:
            masks.append(packed)
            untouched.append(0.0 if changed else 1.0)
    clean = MaskSet(tuple(masks), found.image_shape)
    kept = non_maximum(clean.boxes, np.array(untouched), threshold)
    return MaskSet(tuple(masks[index] for index in kept), found.image_shape)
