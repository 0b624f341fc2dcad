"""Readout of 10,000 labels on 4096 x 4096: ours against `regionprops_table` with the same properties.

The peer is scikit-image's own loop over labels with extra properties written the way its documentation shows: a
function per property on the label's crop. The functions share a label's core and rings, so that the peer computes
them once and not again for every column; what it needs from outside the crop (the rings, other labels) it cuts from
the whole image. Only columns that regionprops_table can give are compared (all but nearness, rank and spread, which
are arithmetic on the table, and in_front_of, which ours computes besides).

Ours uses as many cores as there are (at most four), the peer one. With stripes every label's crop is the whole image,
which the peer walks through label by label: 1024 x 1024 keeps that to minutes, and larger images favour ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.measure import regionprops_table

from benchmarks.table import Case, Options, Row, measure
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.depth_range import depth_range
from napari_samdepth.measure.readout import depth_readout

AROUND = 7
"""Pixels around a label that decide on its outer ring: the ring's width, and as much again to other labels."""
COMPARED = {
    "area": "area",
    "centroid_row": "centroid-0",
    "centroid_col": "centroid-1",
    "row_min": "bbox-0",
    "col_min": "bbox-1",
    "row_max": "bbox-2",
    "col_max": "bbox-3",
    **{
        name: name
        for name in (
            "median",
            "mean",
            "iqr",
            "mad",
            "p5",
            "p95",
            "contrast",
            "contrast_auc",
            "valid_share",
            "nan_count",
        )
    },
}


def compact(size: int) -> NDArray[np.int32]:
    """Return discs on a grid, a hundred each way at 4096, most of which touch their neighbours."""
    cell = max(size // 100, 8)
    rows, cols = np.mgrid[:size, :size]
    radius = 0.42 * cell + 0.1 * cell * np.random.default_rng(0).random((size // cell + 1, size // cell + 1))
    inside = np.hypot(rows % cell - cell / 2, cols % cell - cell / 2) < radius[rows // cell, cols // cell]
    numbers = rows // cell * (size // cell + 1) + cols // cell + 1
    whole = (rows < size // cell * cell) & (cols < size // cell * cell)
    return np.where(inside & whole, numbers, 0).astype(np.int32)


def stripes(size: int, count: int = 200) -> NDArray[np.int32]:
    """Return `count` labels, each scattered in diagonal stripes over the whole image, with gaps between them."""
    rows, cols = np.mgrid[:size, :size]
    across = rows + cols
    width = 20
    return np.where(across % width < width - 4, across // width % count + 1, 0).astype(np.int32)


def depth_of(size: int) -> NDArray[np.float32]:
    """Return a slope with noise; one value in a hundred is missing."""
    rng = np.random.default_rng(1)
    values = np.linspace(0, 1, size, dtype=np.float32)[:, None] + 0.1 * rng.random((size, size), dtype=np.float32)
    values[rng.random((size, size), dtype=np.float32) < 0.01] = np.nan
    return values


class Peer:
    """`regionprops_table` with extra properties for everything that a readout holds."""

    def __init__(self, labels: NDArray[np.int32], depth: DepthMap) -> None:
        self.labels, self.depth = labels, depth.values
        # a property sees its label's crop only: the "intensity" is each pixel's place, to look around from there
        self.place = np.arange(labels.size).reshape(labels.shape)
        self.extent = depth_range(depth)
        self._looked: dict[int, dict[str, NDArray[np.float64]]] = {}

    def table(self) -> dict[str, NDArray[Any]]:
        """Return the columns."""
        return regionprops_table(
            self.labels,
            self.place,
            properties=("label", "area", "centroid", "bbox"),
            extra_properties=[self._property(name) for name in self._measures()],
        )

    def _property(self, name: str) -> Callable[..., float]:
        measure = self._measures()[name]

        def extra(mask: NDArray[np.bool_], place: NDArray[np.int64]) -> float:
            return measure(self._look(mask, place))

        extra.__name__ = name
        return extra

    def _look(self, mask: NDArray[np.bool_], place: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Return the label's depth, its core, and its rings."""
        first = int(np.argmax(mask[0]))
        row, col = np.divmod(int(place[0, first]), self.labels.shape[1])
        number = int(self.labels[row, col])
        if number in self._looked:
            return self._looked[number]
        col -= first
        top, left = max(row - AROUND, 0), max(col - AROUND, 0)
        window = slice(top, row + mask.shape[0] + AROUND), slice(left, col + mask.shape[1] + AROUND)
        labels, depth = self.labels[window], self.depth[window].astype(np.float64)
        own = labels == number
        distance = distance_transform_edt(own) if not own.all() else np.full(own.shape, np.inf)
        away = distance_transform_edt(~own)
        other = (labels != number) & (labels != 0)
        others = distance_transform_edt(~other) if other.any() else np.full(own.shape, np.inf)
        core = depth[distance > min(5.0, distance.max() / 2)]
        inner = depth[own & (distance <= 3)]
        outer = depth[(labels == 0) & (away <= 3) & (away <= others)]
        self._looked[number] = {
            "all": depth[own],
            "core": core[~np.isnan(core)],
            "inner": inner[~np.isnan(inner)],
            "outer": np.sort(outer[~np.isnan(outer)]),
        }
        return self._looked[number]

    def _measures(self) -> dict[str, Callable[[dict[str, NDArray[np.float64]]], float]]:
        span = self.extent.span

        def contrast(parts: dict[str, NDArray[np.float64]]) -> float:
            if not parts["inner"].size or not parts["outer"].size:
                return np.nan
            return float(np.median(parts["inner"]) - np.median(parts["outer"])) / span

        def auc(parts: dict[str, NDArray[np.float64]]) -> float:
            inner, outer = parts["inner"], parts["outer"]
            if not inner.size or not outer.size:
                return np.nan
            below = np.searchsorted(outer, inner, "left") + np.searchsorted(outer, inner, "right")
            return float(below.mean() / 2 / outer.size)

        return {
            "median": lambda parts: float(np.median(parts["core"])),
            "mean": lambda parts: float(parts["core"].mean()),
            "iqr": lambda parts: float(np.subtract(*np.percentile(parts["core"], (75, 25)))),
            "mad": lambda parts: float(1.4826 * np.median(np.abs(parts["core"] - np.median(parts["core"])))),
            "p5": lambda parts: float(np.percentile(parts["core"], 5)),
            "p95": lambda parts: float(np.percentile(parts["core"], 95)),
            "contrast": contrast,
            "contrast_auc": auc,
            "valid_share": lambda parts: float((~np.isnan(parts["all"])).mean()),
            "nan_count": lambda parts: float(np.isnan(parts["all"]).sum()),
        }


def measured(name: str, labels: NDArray[np.int32], floor: float, options: Options) -> Row:
    """Peer and ours in turn on the same labels, every number compared;"""
    values = depth_of(len(labels))

    def same(theirs: dict[str, NDArray[Any]], ours: pd.DataFrame) -> str:
        np.testing.assert_array_equal(ours.index, theirs["label"])
        for column, peer_column in COMPARED.items():
            np.testing.assert_allclose(ours[column], theirs[peer_column], rtol=1e-5, atol=1e-6, err_msg=column)
        return f"{len(ours):,} labels on {len(labels)}², equal"

    # a new depth map each time: its range is computed anew
    case = Case(
        lambda: Peer(labels, DepthMap(values, "inverse")).table(),
        lambda: depth_readout(labels, DepthMap(values, "inverse")),
        same,
    )
    return measure(name, "regionprops_table", floor, case, options.runs)


ROWS = {
    "readout-compact": lambda options: measured("readout-compact", compact(4096), 10.0, options),
    "readout-stripes": lambda options: measured("readout-stripes", stripes(1024), 20.0, options),
}
