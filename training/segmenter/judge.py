"""A user that judges a segmenter through the public protocol: clicks at centres, then where the mask is most wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.protocols import Segmenter
from training.segmenter.paint import Array


@dataclass(frozen=True)
class Verdict:
    """IoU of the best-scored mask after each click, of the best of three after the first, and from a box.

    ``made`` are the clicks, ((row, col), label), and ``mask`` (H, W) is what the last one gave.
    """

    clicks: list[float]
    oracle: float
    box: float
    made: list[tuple[tuple[int, int], int]]
    mask: Array


def centre(region: Array) -> tuple[int, int]:
    """The pixel of a boolean region that lies deepest in it."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    part = region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    depth = ndi.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    r, c = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(r) + int(rows[0]), int(c) + int(cols[0])


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boolean arrays."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def _largest(region: Array) -> Array:
    pieces, count = ndi.label(region)
    return np.asarray(region if count < 2 else pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())


def corrective(mask: Array, truth: Array) -> tuple[tuple[int, int], int] | None:
    """The next click: the centre of the largest error region, and 1 where the object was missed there, else 0."""
    missed, extra = _largest(truth & ~mask), _largest(mask & ~truth)
    if not missed.any() and not extra.any():
        return None
    label = int(missed.sum() >= extra.sum())
    return centre(missed if label else extra), label


def judge(segmenter: Segmenter, embedding: Embedding, truth: Array, clicks: int = 5, box: bool = True) -> Verdict:
    """Let the user click ``clicks`` times on the object ``truth`` (H, W) bool, each time feeding the logits back."""
    points, labels = [centre(truth)], [1]
    found = segmenter.decode(embedding, Prompts(points, labels))
    oracle = max(overlap(found.patch(i).full(truth.shape), truth) for i in range(len(found)))
    ious: list[float] = []
    mask = np.zeros(truth.shape, bool)
    for turn in range(clicks):
        mask = found.patch().full(truth.shape)
        ious.append(overlap(mask, truth))
        following = corrective(mask, truth)
        if following is None or turn == clicks - 1:
            break
        points.append(following[0])
        labels.append(following[1])
        found = segmenter.decode(embedding, Prompts(points, labels, mask=found.feedback[found.best]))
    ious += [ious[-1]] * (clicks - len(ious))
    boxed = float("nan")
    if box:
        rows, cols = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
        corners = (rows[0] - 0.5, cols[0] - 0.5, rows[-1] + 0.5, cols[-1] + 0.5)
        boxed = overlap(segmenter.decode(embedding, Prompts(box=corners)).patch().full(truth.shape), truth)
    return Verdict(ious, oracle, boxed, list(zip(points, labels, strict=True)), mask)
