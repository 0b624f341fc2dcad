"""How well a map of relative inverse depth shows which of two neighbours is in front: boundaries, order of regions.

Everything is measured at a common size, `WIDTH` pixels along the longer side, against a true inverse depth, which is
NaN where it is unknown.  Predictions are known up to scale and shift.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import slic

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.ordering import order_touching
from napari_samdepth.measure.regions import Regions

Array = np.ndarray[Any, Any]
WIDTH = 320
GAP = 4
"""Steps are taken over so many pixels."""
TOLERANCE = 2
"""A boundary counts as found within so many pixels."""
STEP = 1.10
"""True boundaries: the nearer side is at least so many times as near."""
TOUCHING_STEP = 1.06
"""Regions that touch are counted where the true inverse depth at their border differs at least by this factor."""


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = WIDTH / max(shape[:2])
    return round(shape[0] * scale), round(shape[1] * scale)


def _averaged(values: Array, size: tuple[int, int]) -> Array:
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BOX))


def _picked(values: Array, size: tuple[int, int]) -> Array:
    """Every pixel of the result is one of `values`: unknown depth must not be mixed into known."""
    rows = (np.arange(size[0]) * values.shape[0]) // size[0]
    cols = (np.arange(size[1]) * values.shape[1]) // size[1]
    return np.asarray(values[rows][:, cols])


def _peaks(there: Array, height: Array, axis: int) -> Array:
    """Thin `there` (H, W) to where `height` is largest within 2 pixels along `axis`."""
    return np.asarray(there & (height >= ndimage.maximum_filter1d(height, 5, axis) - 1e-7))


def boundary_f1(predicted: Array, truth: Array) -> float:
    """F1 of the map's own steps against true boundaries at the best threshold; NaN where there are hardly any.

    Steps are taken along rows and columns and for either side being the nearer one, so that a step in the wrong
    direction is an error.  `predicted`, `truth` (H, W); a step counts by its size in the map, which needs no scale.
    """
    size = _size(truth.shape)
    q, p = _picked(truth, size), _averaged(predicted, size)
    true, steps = [], []
    for axis in (0, 1):
        for sign in (1, -1):
            one, other = (np.moveaxis(m, axis, 0) for m in (q, p))
            near, far = (one[GAP:], one[:-GAP]) if sign > 0 else (one[:-GAP], one[GAP:])
            step = sign * (other[GAP:] - other[:-GAP])
            known = np.isfinite(near) & np.isfinite(far)
            ratio = np.where(known, near / np.where(known, np.maximum(far, 1e-9), 1), 0)
            true.append(_peaks(known & (ratio > STEP), ratio, 0))
            steps.append(np.where(_peaks(known & (step > 0), np.where(known, step, 0), 0), step, 0))
    if sum(int(t.sum()) for t in true) < 30:
        return float("nan")
    sizes = np.concatenate([s[s > 0] for s in steps])
    reach = np.ones((2 * TOLERANCE + 1,) * 2, bool)
    wide = [ndimage.binary_dilation(t, reach) for t in true]
    best = 0.0
    for threshold in np.quantile(sizes, np.linspace(0, 0.985, 24)) if sizes.size else ():
        found = [s >= max(threshold, 1e-9) for s in steps]
        precise = sum(int((f & w).sum()) for f, w in zip(found, wide, strict=True))
        recalled = sum(int((t & ndimage.binary_dilation(f, reach)).sum()) for t, f in zip(true, found, strict=True))
        precision = precise / max(sum(int(f.sum()) for f in found), 1)
        recall = recalled / sum(int(t.sum()) for t in true)
        best = max(best, 2 * precision * recall / max(precision + recall, 1e-9))
    return best


class Touching(NamedTuple):
    """Regions that touch across a true step: labels (h, w), and of each pair (n,) the labels and which is nearer.

    first, second (n,); nearer (n,) +1 where the first is the nearer one, else -1.
    """

    labels: Array
    first: Array
    second: Array
    nearer: Array


def touching(truth: Array, rgb: Array, count: int = 220, least: int = 60, border: int = 8) -> Touching:
    """Cut a picture into about `count` regions that follow its true depth and colours; keep pairs with a true step.

    Pairs are those with `border` facing pixels at least, of regions of `least` pixels at least, whose medians differ in
    the direction of the step at their border.  SLIC (Achanta et al., 2012) on log depth and Lab.
    """
    size = _size(truth.shape)
    q = _picked(truth, size)
    known = np.isfinite(q) & (q > 0)
    depth = -np.log(np.where(known, q, 1))
    colour = rgb2lab(np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BOX)))
    colour = (colour + np.array((0, 128, 128))) / np.array((100, 255, 255))
    features = np.dstack([6 * (depth - np.median(depth[known])), 2 * colour])
    labels = slic(features, count, 0.12, mask=known, start_label=1, convert2lab=False, channel_axis=-1)
    index = np.arange(labels.max() + 1)
    median = ndimage.median(depth, labels, index)
    area = np.bincount(labels.ravel(), minlength=len(index))
    low, high, step = [], [], []
    for axis in (0, 1):
        side, d = np.moveaxis(labels, axis, 0), np.moveaxis(depth, axis, 0)
        a, b, jump = side[2:], side[:-2], d[2:] - d[:-2]
        meet = (a != b) & (a > 0) & (b > 0)
        low.append(np.minimum(a, b)[meet])
        high.append(np.maximum(a, b)[meet])
        step.append(np.where(a < b, jump, -jump)[meet])
    code = np.concatenate(low) * len(index) + np.concatenate(high)
    steps = np.concatenate(step)
    pairs, of = np.unique(code, return_inverse=True)
    at_border = np.asarray(ndimage.median(steps, of, np.arange(len(pairs))))
    first, second = pairs // len(index), pairs % len(index)
    farther = np.sign(median[first] - median[second])
    good = (np.bincount(of) >= border) & (area[first] >= least) & (area[second] >= least)
    good &= at_border * farther > np.log(TOUCHING_STEP)
    return Touching(labels, first[good], second[good], -farther[good])


def order(predicted: Array, pairs: Touching) -> tuple[Array, float]:
    """Which pairs (n,) a map (H, W) orders rightly by its medians, and their mean contrast as a share of its range."""
    p = _averaged(predicted, pairs.labels.shape)
    median = ndimage.median(p, pairs.labels, np.arange(pairs.labels.max() + 1))
    low, high = np.percentile(p[pairs.labels > 0], (2, 98))
    contrast = (median[pairs.first] - median[pairs.second]) * pairs.nearer / (high - low + 1e-9)
    return contrast > 0, float(contrast.mean()) if contrast.size else float("nan")


def label_order(depth: DepthMap, pairs: Touching) -> tuple[float, float, float]:
    """Shares of pairs that the readout of touching labels orders rightly, wrongly, and of which it is unsure."""
    labels = _picked(pairs.labels, (depth.values.shape[0], depth.values.shape[1])).astype(np.int32)
    said = {(o.first, o.second): o.relation for o in order_touching(Regions.of(labels), depth)}
    counts = {"front": 0, "behind": 0, "unsure": 0}
    for first, second, nearer in zip(pairs.first, pairs.second, pairs.nearer, strict=True):
        relation = said.get((int(first), int(second)), "unsure")
        right = relation if relation == "unsure" or nearer > 0 else {"front": "behind", "behind": "front"}[relation]
        counts[right] += 1
    total = max(sum(counts.values()), 1)
    return counts["front"] / total, counts["behind"] / total, counts["unsure"] / total
