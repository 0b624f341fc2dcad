"""Detections: boxes that words found, with a score and a name each, and masks where the model gave them at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.suppression import non_maximum


def phrases(text: str) -> tuple[str, ...]:
    """Return what is asked for: the phrases between full stops, commas, semicolons, question marks or line ends.

    Each is in lower case and kept once, in the order given.

    Raises
    ------
    ValueError
        If the text holds no word.
    """
    found = (" ".join(part.lower().split()) for part in re.split(r"[.,;?\n]+", text))
    kept = tuple(dict.fromkeys(part for part in found if re.search(r"\w", part)))
    if not kept:
        raise ValueError(
            "Say what to look for: one or more names with a full stop after each, such as “nucleus. coin.”"
        )
    return kept


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects that words found in an image, the surest first.

    Attributes
    ----------
    boxes
        (n, 4) float64 (row_min, col_min, row_max, col_max), within the image, counted from the outer edge of its first
        pixel (whose centre is at 0.5), as transformers counts.
    scores
        (n,) float64 in 0-1, how sure the model is.
    names
        n names, each one of the phrases asked for.
    image_shape
        (H, W) of the image.
    patches
        A mask each where the model goes from words straight to masks, else None.

    Raises
    ------
    ValueError
        If the lengths differ.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    names: tuple[str, ...]
    image_shape: tuple[int, int]
    patches: tuple[Patch, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        masks = count if self.patches is None else len(self.patches)
        if self.boxes.shape != (count, 4) or len(self.names) != count or masks != count:
            raise ValueError(
                f"Detections need a box, a score and a name each, got boxes {self.boxes.shape}, "
                f"scores {self.scores.shape}, {len(self.names)} names and {masks} masks."
            )

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)

    def above(self, threshold: float, overlap: float = 1.0) -> NDArray[np.intp]:
        """Return the indices of those whose score is above `threshold`, the surest first; no model runs.

        Of boxes that overlap more than `overlap` (IoU), whatever their names, the surest alone is returned: one object
        may have been found by two phrases.
        """
        picked = np.flatnonzero(self.scores > threshold)
        kept = non_maximum(self.boxes[picked], self.scores[picked], overlap)
        return np.asarray(picked[kept], dtype=np.intp)


def detections(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    names: Sequence[str],
    image_shape: tuple[int, int],
    patches: Sequence[Patch] | None = None,
) -> Detections:
    """Return what a model gave, tidied: boxes within the image, the surest first.

    Parameters
    ----------
    boxes, scores, names, image_shape, patches
        As in `Detections`; boxes may reach beyond the image, and those that leave less than a pixel in it are dropped.
    """
    height, width = image_shape
    held = np.clip(boxes, 0.0, [height, width, height, width])
    real = np.flatnonzero((held[:, 2] - held[:, 0] >= 1.0) & (held[:, 3] - held[:, 1] >= 1.0))
    order = real[np.argsort(-scores[real], kind="stable")]
    masks = None if patches is None else tuple(patches[index] for index in order)
    return Detections(held[order], scores[order], tuple(names[index] for index in order), image_shape, masks)


def painted(patches: Sequence[Patch], image_shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return masks as labels (H, W) int32: patch i is label i + 1, and smaller ones lie above larger ones."""
    labels = np.zeros(image_shape, dtype=np.int32)
    for index in sorted(range(len(patches)), key=lambda i: -patches[i].area):
        patch = patches[index]
        labels[patch.slices][patch.mask] = index + 1
    return labels
