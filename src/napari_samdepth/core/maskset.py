"""MaskSet: every mask found in a picture, filtered anew in an instant, and made into labels or records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.coords import box_to_xywh, points_to_xy
from napari_samdepth.core.resample import Box
from napari_samdepth.core.runlength import compressed, run_lengths
from napari_samdepth.core.suppression import non_maximum

Encoding = Literal["mask", "rle", "coco_rle"]


@dataclass(frozen=True, eq=False)
class FoundMask:
    """One mask of the whole-image search, its pixels packed eight to a byte.

    Attributes
    ----------
    bits
        The mask inside `box`, packed.
    box
        (row_min, col_min, row_max, col_max) in image pixels, half open, tight around the mask.
    area
        Number of pixels.
    predicted_iou
        The model's own estimate.
    stability_score
        IoU of the mask cut at a higher and at a lower threshold.
    point
        (row, col) of the click that gave it.
    crop_box
        Part of the image it was found in.
    """

    bits: NDArray[np.uint8]
    box: Box
    area: int
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    crop_box: Box

    @classmethod
    def pack(
        cls, patch: Patch, predicted_iou: float, stability: float, point: tuple[float, float], crop_box: Box
    ) -> FoundMask | None:
        """Return the mask of `patch` packed tightly, None if it is empty."""
        rows, cols = np.flatnonzero(patch.mask.any(axis=1)), np.flatnonzero(patch.mask.any(axis=0))
        if rows.size == 0:
            return None
        tight = patch.mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        top, left = patch.origin[0] + int(rows[0]), patch.origin[1] + int(cols[0])
        box = (top, left, top + tight.shape[0], left + tight.shape[1])
        area = int(np.count_nonzero(tight))
        return cls(np.packbits(tight), box, area, predicted_iou, stability, point, crop_box)

    @property
    def patch(self) -> Patch:
        """The mask inside its box."""
        row_min, col_min, row_max, col_max = self.box
        shape = (row_max - row_min, col_max - col_min)
        mask = np.unpackbits(self.bits, count=shape[0] * shape[1]).view(np.bool_).reshape(shape)
        return Patch(mask, (row_min, col_min))


@dataclass(frozen=True, eq=False)
class MaskSet:
    """Masks of one picture.

    Attributes
    ----------
    masks
        In no particular order.
    image_shape
        (H, W) in pixels.
    """

    masks: tuple[FoundMask, ...]
    image_shape: tuple[int, int]

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.masks)

    @property
    def nbytes(self) -> int:
        """Bytes that the masks' pixels take."""
        return sum(int(mask.bits.nbytes) for mask in self.masks)

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """(n, 4) (row_min, col_min, row_max, col_max), of the first and the last pixel."""
        boxes = np.array([mask.box for mask in self.masks], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] -= 1
        return boxes

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """(n, 2): predicted IoU and stability score."""
        pairs = [(mask.predicted_iou, mask.stability_score) for mask in self.masks]
        return np.array(pairs, dtype=np.float64).reshape(-1, 2)

    def filtered(
        self,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        box_nms_thresh: float = 0.7,
        crop_nms_thresh: float = 0.7,
        min_area: int = 0,
    ) -> MaskSet:
        """Return the masks that pass the thresholds, duplicates removed; nothing is decoded again.

        Duplicates go within each crop by predicted IoU, then across crops, where the smaller crop wins (as in
        segment_anything's SamAutomaticMaskGenerator; Kirillov et al. 2023, appendix B).
        """
        iou, stability = self.scores.T
        keep = (iou > pred_iou_thresh) & (stability >= stability_score_thresh)
        keep &= np.array([mask.area >= min_area for mask in self.masks], dtype=bool)
        picked = np.flatnonzero(keep)
        crops = [self.masks[index].crop_box for index in picked]
        kept: list[int] = []
        for crop in dict.fromkeys(crops):
            inside = picked[[other == crop for other in crops]]
            kept += inside[non_maximum(self.boxes[inside], iou[inside], box_nms_thresh)].tolist()
        if len(set(crops)) > 1:
            index = np.array(kept)
            size = [_area(self.masks[at].crop_box) for at in kept]
            kept = index[non_maximum(self.boxes[index], -np.array(size), crop_nms_thresh)].tolist()
        return replace(self, masks=tuple(self.masks[at] for at in kept))

    def labels(self, smallest_wins: bool = True) -> NDArray[np.int32]:
        """Return the masks as labels (H, W) int32, numbered from 1 by descending area.

        Parameters
        ----------
        smallest_wins
            Where masks overlap: the smaller lies above the larger (True), or below it.
        """
        out = np.zeros(self.image_shape, dtype=np.int32)
        order = self.by_area
        numbered = list(enumerate(order, start=1))
        for number, index in numbered if smallest_wins else reversed(numbered):
            patch = self.masks[index].patch
            np.copyto(out[patch.slices], number, where=patch.mask)
        return out

    @cached_property
    def by_area(self) -> list[int]:
        """Indices of the masks, the largest first: label n of `labels` is mask ``by_area[n - 1]``."""
        return sorted(range(len(self)), key=lambda index: -self.masks[index].area)

    def parents(self, share: float = 0.9) -> NDArray[np.int32]:
        """Return for each label of `labels` the smallest other one that holds `share` of it, 0 if none; (n,) int32."""
        order, out = self.by_area, np.zeros(len(self), dtype=np.int32)
        patches = [self.masks[index].patch for index in order]
        boxes = self.boxes[order]
        for child in range(len(order)):
            above = np.flatnonzero(_overlap(boxes[child], boxes[:child]))
            for parent in reversed(above.tolist()):
                if _held(patches[child], patches[parent]) >= share * patches[child].area:
                    out[child] = parent + 1
                    break
        return out

    def records(self, encoding: Encoding = "mask") -> list[dict[str, Any]]:
        """Return the masks as SamAutomaticMaskGenerator gives them, the largest first.

        Parameters
        ----------
        encoding
            What "segmentation" holds: "mask" (H, W) bool, "rle" an uncompressed COCO run-length encoding, "coco_rle"
            a compressed one, as pycocotools reads it.

        Returns
        -------
        For each mask "segmentation", "area", "bbox" (x, y, width, height), "predicted_iou", "point_coords" [[x, y]],
        "stability_score", "crop_box" (x, y, width, height).
        """
        out = []
        for index in self.by_area:
            mask = self.masks[index]
            out.append(
                {
                    "segmentation": _encoded(mask.patch, self.image_shape, encoding),
                    "area": mask.area,
                    "bbox": box_to_xywh(self.boxes[index]).tolist(),
                    "predicted_iou": mask.predicted_iou,
                    "point_coords": points_to_xy([mask.point]).tolist(),
                    "stability_score": mask.stability_score,
                    "crop_box": box_to_xywh(mask.crop_box).tolist(),
                }
            )
        return out


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    meets = (others[:, :2] <= box[2:]).all(axis=1) & (others[:, 2:] >= box[:2]).all(axis=1)
    return np.asarray(meets, dtype=bool)


def _held(child: Patch, parent: Patch) -> int:
    """Return how many pixels of `child` belong to `parent`, too."""
    low = np.maximum(child.box[:2], parent.box[:2])
    high = np.minimum(child.box[2:], parent.box[2:])
    if (high <= low).any():
        return 0
    parts: Sequence[NDArray[np.bool_]] = [
        patch.mask[
            low[0] - patch.origin[0] : high[0] - patch.origin[0], low[1] - patch.origin[1] : high[1] - patch.origin[1]
        ]
        for patch in (child, parent)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def _encoded(patch: Patch, shape: tuple[int, int], encoding: Encoding) -> Any:
    if encoding == "mask":
        return patch.full(shape)
    counts = run_lengths(patch, shape)
    return {"size": list(shape), "counts": compressed(counts) if encoding == "coco_rle" else counts}
