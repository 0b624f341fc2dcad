"""Readout of 10,000 labels on 4096 x 4096: ours against `regionprops_table` with the same properties.

    python -m benchmarks.readout [--size 4096] [--runs 5] [--stripes-size 1024] [--json FILE]

The peer is scikit-image's own loop over labels with extra properties written the way its documentation shows: a
function per property on the label's crop. The functions share a label's core and rings, so that the peer computes
them once and not again for every column; what it needs from outside the crop (the rings, other labels) it cuts from
the whole image. Only columns that regionprops_table can give are compared (all but nearness, rank and spread, which
are arithmetic on the table, and in_front_of, which ours computes besides).

Ours uses as many cores as there are (at most four), the peer one. With stripes every label's crop is the whole image,
which the peer walks through label by label: 1024 x 1024 keeps that to minutes, and larger images favour ours.

Peer and ours take turns, after one warm-up of each on a small image; the ratio is that of the medians.
The run fails when a number differs, or a floor is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.measure import regionprops_table

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.readout import depth_readout
from napari_samdepth.core.scale import depth_scale

FLOORS = {"compact": 10.0, "stripes": 20.0}
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
        self.scale = depth_scale(depth)
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
        span = self.scale.span

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


def compare(labels: NDArray[np.int32], runs: int) -> tuple[float, float]:
    """Return the median seconds of peer and ours, taken in turn; raises AssertionError where a number differs."""
    values = depth_of(len(labels))
    peer_seconds, our_seconds = [], []
    for _ in range(runs):
        depth = DepthMap(values, "inverse")  # a new one each time: its range is computed anew
        start = time.perf_counter()
        ours = depth_readout(labels, depth)
        our_seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        theirs = Peer(labels, depth).table()
        peer_seconds.append(time.perf_counter() - start)
        np.testing.assert_array_equal(ours.index, theirs["label"])
        for name, peer_name in COMPARED.items():
            np.testing.assert_allclose(ours[name], theirs[peer_name], rtol=1e-5, atol=1e-6, err_msg=name)
        print(f"  ours {our_seconds[-1]:.2f} s, peer {peer_seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    return statistics.median(peer_seconds), statistics.median(our_seconds)


def main() -> int:
    """Print the two ratios; return 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the image with compact labels")
    parser.add_argument("--stripes-size", type=int, default=1024, help="side of the image with striped labels")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    for small in (compact(256), stripes(256, 5)):
        compare(small, runs=1)
    cases = {"compact": compact(options.size), "stripes": stripes(options.stripes_size)}
    figures: dict[str, Any] = {}
    print(f"{'labels':<34}{'peer s':>9}{'ours s':>9}{'ratio':>8}{'floor':>8}   load {os.getloadavg()[0]:.1f}")
    for name, labels in cases.items():
        peer, ours = compare(labels, options.runs)
        what = f"{name}, {len(np.unique(labels)) - 1:,} on {len(labels)}²"
        print(f"{what:<34}{peer:>9.2f}{ours:>9.2f}{peer / ours:>8.1f}{FLOORS[name]:>8.1f}", flush=True)
        figures[name] = {"peer_s": peer, "ours_s": ours, "ratio": peer / ours, "floor": FLOORS[name]}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return int(any(case["ratio"] < case["floor"] for case in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
