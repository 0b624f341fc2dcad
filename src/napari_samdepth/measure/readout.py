"""Labels x depth -> one row per label.

Depth is read in a mask's core, because a depth map is blurred over the edges of things, and is given both in the map's
own numbers and as a share of the map's range (P2-P98 over the whole image), which survives the unknown scale and shift
of relative inverse depth. The columns are described in `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.labelling import as_numbers
from napari_samdepth.core.parallel import LARGE_PX, in_threads
from napari_samdepth.measure.depth_range import depth_range, single
from napari_samdepth.measure.distances import MAX_REACH, squared_distances
from napari_samdepth.measure.ordering import order_touching
from napari_samdepth.measure.regions import Regions
from napari_samdepth.measure.statistics import MAD_TO_SIGMA, Grouped, separation
from napari_samdepth.measure.zones import Pixels, Zones, zones

COLUMNS: dict[str, str] = {
    "area": "pixels in the mask",
    "centroid_row": "mean row of the mask's pixels",
    "centroid_col": "mean column of the mask's pixels",
    "row_min": "first row",
    "col_min": "first column",
    "row_max": "last row + 1",
    "col_max": "last column + 1",
    "median": "median depth over the core, in the map's numbers",
    "mean": "mean depth over the core",
    "iqr": "interquartile range over the core",
    "mad": "1.4826 x median absolute deviation over the core",
    "p5": "5th percentile over the core",
    "p95": "95th percentile over the core",
    "nearness": "0 (far end of the map's range, P2-P98) to 1 (near end), of the median, for every kind of depth",
    "rank": "1 for the nearest label",
    "spread": "iqr as a share of the map's range",
    "spread_mad": "mad as a share of the map's range",
    "spread_p5_p95": "p95 - p5 as a share of the map's range",
    "contrast": "median of the inner ring minus median of the outer ring, as a share of the range; above 0: nearer",
    "contrast_auc": "probability that a pixel of the inner ring is nearer than one of the outer ring",
    "valid_share": "share of the mask's pixels that have depth",
    "nan_count": "the mask's pixels without depth, left out everywhere",
    "in_front_of": "labels that touch this one and are clearly behind it",
}
"""Column name -> what it holds. A stack's table has `slice` before them: the number of the plane."""

DEPTH_COLUMNS = ("median", "mean", "iqr", "mad", "p5", "p95")
"""The columns that hold depth in the map's own numbers, hence in its unit."""

CORE_PX = 5.0
"""A mask's core lies more than this many samples of the depth inside its edge, or more than half its inradius if that
is less."""
RING_PX = 3.0
"""Width, in samples of the depth, of the rings inside and outside of a mask's edge."""
_LIVE_PX = 300_000


def depth_readout(
    labels: ArrayLike,
    depth: DepthMap | Sequence[DepthMap],
    features: pd.DataFrame | None = None,
    upsampling: float | None = None,
) -> pd.DataFrame:
    """Return one row per label with where it is, how near, and what it stands in front of.

    Parameters
    ----------
    labels
        (H, W) integers, 0 for background; or (n, H, W) for a 3-D or time stack, measured plane by plane.
    depth
        Depth of the same image; for a stack one map per plane.
    features
        A table whose other columns are kept, joined by its column `index` (as napari has it) or `label`, or else by
        its own index. Columns named as in `COLUMNS` are replaced. Rows of labels that are not there are dropped.
    upsampling
        Used instead of each map's own `DepthMap.upsampling`. The core's margin, the rings and the comparison of labels
        that touch grow with it (up to the largest that `squared_distances` allows).

    Returns
    -------
    A table with index "label" and the columns of `COLUMNS`; ``attrs["unit"]`` is the unit of those that hold depth. For
    a stack it has one row per plane and label, the number of the plane in the column `slice`, and label numbers that
    repeat; `for_features` gives what a napari layer can carry. A label without depth in its core has NaN there, and
    `rank` is then a float column.

    Raises
    ------
    ValueError
        If labels are not integers, or shapes do not fit; the message says got and expected.
    """
    maps = [depth] if isinstance(depth, DepthMap) else list(depth)
    if upsampling is not None:
        maps = [replace(one, upsampling=upsampling) for one in maps]
    array = np.asarray(labels)
    array = array.astype(np.uint8) if array.dtype == bool else array
    if array.dtype.kind not in "iu" or array.ndim not in (2, 3):
        raise ValueError(f"Labels must be integers of shape (H, W) or (n, H, W), got {array.dtype} {array.shape}.")
    if array.ndim == 2:
        if not isinstance(depth, DepthMap):
            raise ValueError("Labels of shape (H, W) need one DepthMap, got a sequence.")
        return _finished(_plane_readout(array, maps[0]), features, maps)
    if len(maps) != len(array):
        raise ValueError(f"A stack of {len(array)} planes needs one DepthMap per plane, got {len(maps)}.")
    tables = [_plane_readout(plane, one) for plane, one in zip(array, maps, strict=True)]
    dtype = as_numbers(array).dtype  # of one plane's labels it may be another, and pandas joins the two as floats
    for number, table in enumerate(tables):
        table.index = table.index.astype(dtype)
        table.insert(0, "slice", number)
    filled = [table for table in tables if len(table)] or tables[:1]
    return _finished(pd.concat(filled), features, maps)


def with_units(table: pd.DataFrame) -> pd.DataFrame:
    """Return a readout whose columns of depth have its unit (``attrs["unit"]``) in their names: "median [nm]"."""
    unit = table.attrs.get("unit")
    return table.rename(columns={name: f"{name} [{unit}]" for name in DEPTH_COLUMNS}) if unit else table


def plain_name(column: object) -> object:
    """Return the name of a column without the unit that `with_units` put there."""
    name = str(column).split(" [")[0]
    return name if name in DEPTH_COLUMNS and str(column).endswith("]") else column


def for_features(table: pd.DataFrame, plane: int | None = None) -> pd.DataFrame:
    """Return a readout as a napari Labels layer's `features`: a column `index`, each label once, units as `with_units`.

    Parameters
    ----------
    table
        What `depth_readout` returned.
    plane
        For a stack: the plane whose rows are wanted; a label that is not on it (every label if None) is shown with
        the plane on which its area is largest.
    """
    if "slice" in table.columns:
        here = table["slice"].to_numpy() == (-1 if plane is None else plane)
        order = np.lexsort((-table["area"].to_numpy(), ~here, table.index.to_numpy()))
        table = table.iloc[order]
        table = table[~table.index.duplicated()]
    return with_units(table).reset_index(names="index")


def mask_readout(patch: Patch, depth: DepthMap) -> dict[str, float]:
    """Return `median`, `nearness`, `spread` and `area` of a mask that is not yet a label.

    The same numbers as `depth_readout` gives for a label of this shape, as long as the mask's box has no more than
    300,000 pixels; above that the core is found on every second, third, ... pixel. The map's range is computed at the
    first call for a map (about 0.2 s for 4096 x 4096; call `depth_range` when the map is made), afterwards a call
    takes a few milliseconds.

    Parameters
    ----------
    patch
        The mask; what lies outside the image is left out.
    depth
        Depth of the whole image.
    """
    mask, row, col = _tight(patch, depth.values.shape)
    result = {"area": float(np.count_nonzero(mask)), "median": np.nan, "nearness": np.nan, "spread": np.nan}
    if not result["area"]:
        return result
    height, width = depth.values.shape
    values = depth.values[row : row + mask.shape[0], col : col + mask.shape[1]]
    stride = ceil(np.sqrt(mask.size / _LIVE_PX))
    # beyond the box lies no mask, beyond the image nothing is known
    margins = [(int(row > 0), int(row + mask.shape[0] < height)), (int(col > 0), int(col + mask.shape[1] < width))]
    thin = mask[::stride, ::stride]
    if not thin.any():
        thin, stride = mask, 1
    squared = _distances(np.pad(thin, margins), depth.upsampling / stride)
    squared = squared[margins[0][0] :, margins[1][0] :][: thin.shape[0], : thin.shape[1]]
    margin = _margin_squared(squared[thin].max(keepdims=True), depth.upsampling / stride)
    core = values[::stride, ::stride][thin & (squared > margin)]
    core = core[~np.isnan(core)].astype(np.float64)
    if core.size:
        low, middle, high = np.quantile(core, (0.25, 0.5, 0.75))
        extent = depth_range(depth)
        result |= {"median": middle, "nearness": float(extent.nearness(middle)), "spread": (high - low) / extent.span}
    return {name: float(value) for name, value in result.items()}


def _tight(patch: Patch, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], int, int]:
    """Return the part of a mask inside an image of `shape`, cropped to its pixels, and its first row and column."""
    row, col = max(-patch.origin[0], 0), max(-patch.origin[1], 0)
    mask = patch.mask[row : max(shape[0] - patch.origin[0], 0), col : max(shape[1] - patch.origin[1], 0)]
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return mask[:0, :0], 0, 0
    mask = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return mask, patch.origin[0] + row + int(rows[0]), patch.origin[1] + col + int(cols[0])


def _plane_readout(labels: NDArray[np.integer[Any]], depth: DepthMap) -> pd.DataFrame:
    if labels.shape != depth.values.shape:
        raise ValueError(
            f"Labels and depth must have the same shape, got {labels.shape} and {depth.values.shape}: "
            "take the depth of the same image."
        )
    regions = Regions.of(labels)
    missing = np.isnan(depth.values)
    found = _zones(regions, depth)
    data: dict[str, NDArray[Any]] = {"area": regions.area}
    data["centroid_row"], data["centroid_col"] = regions.centroid()
    data |= dict(zip(("row_min", "col_min", "row_max", "col_max"), regions.boxes().T, strict=True))
    depth_range(depth)  # once, before the threads ask for it
    works: list[Callable[[], dict[str, NDArray[Any]]]] = [
        lambda: _ring_columns(found, depth, len(regions)),
        lambda: _core_columns(found.core, depth, len(regions)),
        lambda: {"in_front_of": _in_front_of(regions, depth)},
    ]
    for columns in in_threads(lambda work: work(), works, worth_it=labels.size > LARGE_PX):
        data |= columns
    data["nan_count"] = regions.number_of(missing) if missing.any() else np.zeros(len(regions), dtype=np.int64)
    data["valid_share"] = 1 - data["nan_count"] / np.maximum(data["area"], 1)
    index = pd.Index(regions.numbers[1:], name="label")
    return pd.DataFrame({name: data[name][1:] for name in COLUMNS}, index=index)


def _distances(labels: NDArray[Any], upsampling: float) -> NDArray[Any]:
    """Return squared distances as far as the core and, in the background, the outer ring need them."""
    core, ring = (min(max(ceil(need * upsampling), 2), MAX_REACH) for need in (2 * CORE_PX, RING_PX + 1))
    return squared_distances(labels, max(core, ring), ring)


def _margin_squared(inradius_squared: NDArray[Any], upsampling: float) -> NDArray[Any]:
    """Return the largest squared distance that does not belong to the core, in the dtype of the distances."""
    fixed = min(CORE_PX * upsampling, MAX_REACH / 2) ** 2
    return np.floor(np.minimum(inradius_squared / 4, fixed)).astype(inradius_squared.dtype)


def _zones(regions: Regions, depth: DepthMap) -> Zones:
    squared = _distances(regions.index, depth.upsampling)
    margin = _margin_squared(regions.largest(squared), depth.upsampling)
    width = int(min(RING_PX * depth.upsampling, MAX_REACH - 1) ** 2)
    return zones(regions, squared, single(depth), margin, width)


def _core_columns(core: Pixels, depth: DepthMap, n_groups: int) -> dict[str, NDArray[Any]]:
    grouped = Grouped.of(*core, n_groups)
    extent = depth_range(depth)
    median, mad = grouped.quantile(0.5) + extent.zero, MAD_TO_SIGMA * grouped.mad()
    iqr = grouped.quantile(0.75) - grouped.quantile(0.25)
    p5, p95 = grouped.quantile(0.05) + extent.zero, grouped.quantile(0.95) + extent.zero
    return {
        "median": median,
        "mean": grouped.mean() + extent.zero,
        "iqr": iqr,
        "mad": mad,
        "p5": p5,
        "p95": p95,
        "nearness": extent.nearness(median),
        "rank": _rank(-extent.sign * median),
        "spread": iqr / extent.span,
        "spread_mad": mad / extent.span,
        "spread_p5_p95": (p95 - p5) / extent.span,
    }


def _rank(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return 1 for the smallest of ``values[1:]``, equal values the same; whole numbers unless one is NaN."""
    ranks = pd.Series(values[1:]).rank(method="min").to_numpy()
    ranks = np.concatenate([[0], ranks])
    return ranks if np.isnan(ranks).any() else ranks.astype(np.int64)


def _ring_columns(found: Zones, depth: DepthMap, n_groups: int) -> dict[str, NDArray[Any]]:
    rings = separation(found.inner, found.outer, n_groups)
    contrast = depth.near_sign * (rings.median_inside - rings.median_outside) / depth_range(depth).span
    return {"contrast": contrast, "contrast_auc": rings.auc if depth.near_sign > 0 else 1 - rings.auc}


def _in_front_of(regions: Regions, depth: DepthMap) -> NDArray[Any]:
    """Return for each label the labels behind it as text, "5, 9"."""
    behind: dict[int, list[int]] = {}
    for order in order_touching(regions, depth):
        if order.relation != "unsure":
            front, back = order.first, order.second
            if order.relation == "behind":
                front, back = back, front
            behind.setdefault(front, []).append(back)
    texts = [", ".join(map(str, sorted(behind.get(number, ())))) for number in regions.numbers.tolist()]
    return np.array(texts, dtype=object)


def _finished(table: pd.DataFrame, features: pd.DataFrame | None, maps: Sequence[DepthMap]) -> pd.DataFrame:
    units = {depth.unit for depth in maps}
    table = _with_features(table, features)
    table.attrs["unit"] = units.pop() if len(units) == 1 else None
    return table


def _with_features(table: pd.DataFrame, features: pd.DataFrame | None) -> pd.DataFrame:
    if features is None or not len(features.columns):
        return table
    key = next((name for name in ("index", "label") if name in features.columns), None)
    others = features.set_index(key) if key else features
    others = others.drop(columns=[name for name in others.columns if name in table.columns])
    others = others[~others.index.duplicated()]
    joined = table.join(others)
    joined.index.name = "label"
    return joined
