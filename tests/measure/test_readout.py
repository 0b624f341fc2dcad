"""Labels x depth: every column against a slow, plain computation, and scenes whose answer is known."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.transform import resize

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.depth_range import depth_range
from napari_samdepth.measure.readout import COLUMNS, depth_readout, for_features, mask_readout, plain_name


def blobs(seed: int, shape: tuple[int, int] = (90, 120), dtype: type = np.int32) -> np.ndarray:
    """Return discs that touch, overlap the image's edge and have numbers with gaps."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, dtype=dtype)
    for number in (3, 4, 9, 40, 41, 100):
        row, col, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(1, 25)
        labels[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] = number
    return labels


def noise(seed: int, shape: tuple[int, int] = (90, 120), holes: bool = False) -> np.ndarray:
    """Return depth with many equal values, and NaN holes if asked for."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) + np.linspace(0, 3, shape[0])[:, None]).round(1).astype(np.float32)
    if holes:
        values[rng.random(shape) < 0.2] = np.nan
    return values


def slow_row(labels: np.ndarray, depth: DepthMap, number: int) -> dict[str, float]:
    """Return a label's numbers from definitions alone, over the whole image."""
    values, sign = depth.values.astype(float), depth.near_sign
    mask = labels == number
    low, high = np.nanpercentile(values, (2, 98))
    span = high - low
    distance = ndimage.distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, 99.0)
    core = values[distance > min(5, distance.max() / 2)]
    core = core[~np.isnan(core)]
    others = np.stack([ndimage.distance_transform_edt(labels != n) for n in np.unique(labels) if n not in (0, number)])
    own = ndimage.distance_transform_edt(~mask)
    outer = values[(labels == 0) & (own <= 3) & (own <= others.min(axis=0))]
    inner = values[(distance > 0) & (distance <= 3)]
    inner, outer = inner[~np.isnan(inner)], outer[~np.isnan(outer)]
    rows, cols = np.nonzero(mask)
    row: dict[str, float] = {
        "area": mask.sum(), "centroid_row": rows.mean(), "centroid_col": cols.mean(),
        "row_min": rows.min(), "col_min": cols.min(), "row_max": rows.max() + 1, "col_max": cols.max() + 1,
        "nan_count": np.isnan(values[mask]).sum(), "valid_share": (~np.isnan(values[mask])).mean(),
    }  # fmt: skip
    if core.size:
        median = np.median(core)
        q25, q75, p5, p95 = np.quantile(core, (0.25, 0.75, 0.05, 0.95))
        mad = 1.4826 * np.median(np.abs(core - median))
        near = (median - low) / span if sign > 0 else (high - median) / span
        row |= {
            "median": median, "mean": core.mean(), "iqr": q75 - q25, "mad": mad, "p5": p5, "p95": p95,
            "nearness": np.clip(near, 0, 1), "spread": (q75 - q25) / span, "spread_mad": mad / span,
            "spread_p5_p95": (p95 - p5) / span,
        }  # fmt: skip
    if inner.size and outer.size:
        nearer = sign * (inner[:, None] - outer[None])
        row["contrast"] = sign * (np.median(inner) - np.median(outer)) / span
        row["contrast_auc"] = (nearer > 0).mean() + (nearer == 0).mean() / 2
    return row


@pytest.mark.parametrize("kind", ["inverse", "distance"])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_column_equals_its_definition(seed: int, holes: bool, kind: str) -> None:
    labels = blobs(seed)
    depth = DepthMap(noise(seed, holes=holes), kind)
    table = depth_readout(labels, depth)
    assert list(table.columns) == list(COLUMNS)
    assert table.index.name == "label"
    np.testing.assert_array_equal(table.index, np.unique(labels)[1:])
    for number in table.index:
        expected = slow_row(labels, depth, number)
        for name in COLUMNS:
            if name not in ("rank", "in_front_of"):
                np.testing.assert_allclose(
                    table.loc[number, name], expected.get(name, np.nan), rtol=1e-6, atol=1e-6, err_msg=name
                )


@pytest.mark.parametrize(("kind", "near_value", "far_value"), [
    ("inverse", 1.0, 0.0), ("distance", 1.0, 9.0), ("height", 300.0, 20.0), ("index", 2.0, 30.0),
])  # fmt: skip
def test_one_is_nearest_for_every_kind(kind: str, near_value: float, far_value: float) -> None:
    labels = np.zeros((60, 60), dtype=np.uint8)
    labels[5:25, 5:25], labels[35:55, 35:55] = 1, 2
    values = np.full(labels.shape, (near_value + far_value) / 2)
    values[labels == 1], values[labels == 2] = near_value, far_value
    table = depth_readout(labels, DepthMap(values, kind))
    assert table["nearness"].tolist() == [1, 0]
    assert table["rank"].tolist() == [1, 2]
    assert table.loc[1, "contrast"] == pytest.approx(0.5)
    assert table.loc[1, "contrast_auc"] == 1
    assert table.loc[2, "contrast_auc"] == 0


def test_the_core_leaves_out_a_blurred_edge() -> None:
    rows, cols = np.mgrid[:80, :80]
    labels = ((rows - 40) ** 2 + (cols - 40) ** 2 < 25**2).astype(np.int32)
    sharp = labels.astype(np.float32)
    blurred = ndimage.uniform_filter(sharp, 9)
    table = depth_readout(labels, DepthMap(blurred, "inverse"))
    assert table.loc[1, "p5"] == pytest.approx(1, abs=1e-3)
    assert np.quantile(blurred[labels == 1], 0.05) < 0.8  # the whole mask would have shown the blur


def test_more_upsampling_means_a_smaller_core() -> None:
    labels = np.zeros((100, 100), dtype=np.int32)
    labels[10:90, 10:90] = 1
    values = np.minimum(*np.mgrid[:100, :100]).astype(np.float32)
    first = depth_readout(labels, DepthMap(values, "inverse"), upsampling=1)
    second = depth_readout(labels, DepthMap(values, "inverse"), upsampling=3)
    assert second.loc[1, "p5"] > first.loc[1, "p5"] + 5


def test_a_map_that_knows_its_resolution_is_read_accordingly() -> None:
    labels = np.zeros((100, 100), dtype=np.int32)
    labels[10:90, 10:90] = 1
    values = np.minimum(*np.mgrid[:100, :100]).astype(np.float32)
    told = DepthMap(values, "inverse", upsampling=3)
    expected = depth_readout(labels, DepthMap(values, "inverse"), upsampling=3)
    pd.testing.assert_frame_equal(depth_readout(labels, told), expected)
    pd.testing.assert_frame_equal(depth_readout(labels[None], [told]).drop(columns="slice"), expected)
    assert mask_readout(Patch(labels == 1, (0, 0)), told)["median"] == expected.loc[1, "median"]


@pytest.mark.parametrize("times", [2, 4, 8])
def test_a_picture_enlarged_reads_the_same(times: int) -> None:
    rng = np.random.default_rng(3)
    labels = blobs(2, (60, 80))
    samples = np.zeros((30, 40), dtype=np.float32)
    for number, depth in zip(np.unique(labels), (0.1, 0.9, 0.5, 0.7, 0.3, 0.6, 0.8), strict=False):
        samples[labels[::2, ::2] == number] = depth
    samples += 0.01 * rng.random(samples.shape, dtype=np.float32)
    tables, masks = [], []
    for factor in (1, times):
        large = np.kron(labels, np.ones((factor, factor), dtype=np.int32))
        zoomed = resize(samples, large.shape, order=1)
        depth = DepthMap(zoomed, "inverse", upsampling=2 * factor)
        tables.append(depth_readout(large, depth))
        masks.append(mask_readout(Patch(large == 40, (0, 0)), depth))
    first, second = tables
    for name in ("median", "mean", "nearness", "p5", "p95", "contrast", "contrast_auc"):
        np.testing.assert_allclose(second[name], first[name], rtol=0.05, atol=0.03, err_msg=name)
    assert second["in_front_of"].tolist() == first["in_front_of"].tolist()
    assert any(first["in_front_of"])
    assert masks[1]["median"] == pytest.approx(masks[0]["median"], rel=0.03)


@pytest.mark.parametrize("far", [4e8, -7e9, 2.0**40])
def test_detail_survives_far_from_zero(far: float) -> None:
    labels = blobs(1)
    values = noise(1, holes=True).astype(np.float64)
    near, away = (depth_readout(labels, DepthMap(values + zero, "height", "nm")) for zero in (0, far))
    for name in COLUMNS:
        if name in ("median", "mean", "p5", "p95"):
            np.testing.assert_allclose(away[name] - far, near[name], atol=1e-3, err_msg=name)
        elif name != "in_front_of":
            np.testing.assert_allclose(away[name], near[name], rtol=1e-3, atol=1e-3, err_msg=name)
    assert away["in_front_of"].tolist() == near["in_front_of"].tolist()
    mask = mask_readout(Patch(labels == 4, (0, 0)), DepthMap(values + far, "height", "nm"))
    assert mask["median"] == pytest.approx(away.loc[4, "median"], abs=1e-3, rel=0)


def test_whole_numbers_far_from_zero_stay_whole() -> None:
    values = 400_000_000 + np.random.default_rng(0).integers(0, 3000, (50, 60))
    labels = np.zeros(values.shape, dtype=np.uint8)
    labels[10:41, 10:41] = 1
    core = values[15:36, 15:36]
    table = depth_readout(labels, DepthMap(values, "height", "nm"))
    assert table.loc[1, "median"] == np.median(core)


NUMBERS = {
    np.uint8: [1, 255], np.int8: [-128, 127], np.uint16: [1, 65535], np.int16: [-7, 32767], np.uint32: [1, 2**32 - 1],
    np.int32: [-1, 2**31 - 1], np.int64: [-(2**63), 2**63 - 1], np.uint64: [2**63 + 5, 2**64 - 1],
}  # fmt: skip


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("stacked", [False, True])
def test_label_numbers_of_every_dtype_are_exact(dtype: type, stacked: bool) -> None:
    labels = np.zeros((30, 40), dtype=dtype)
    labels[3:20, 3:20], labels[3:20, 20:36] = NUMBERS[dtype]
    depth = DepthMap(np.where(np.arange(40) < 20, 5.0, 1.0) * np.ones((30, 1)), "height")
    table = depth_readout(labels[None], [depth]) if stacked else depth_readout(labels, depth)
    assert table.index.tolist() == NUMBERS[dtype]
    assert table["area"].tolist() == [17 * 17, 17 * 16]
    assert table["in_front_of"].tolist() == [str(NUMBERS[dtype][1]), ""]
    assert for_features(table)["index"].tolist() == NUMBERS[dtype]


def test_a_stack_whose_planes_need_other_dtypes_keeps_its_numbers() -> None:
    labels = np.zeros((2, 10, 10), dtype=np.uint64)
    labels[0, 2:8, 2:8], labels[1, 2:8, 2:8] = 2**53 + 1, 2**63 + 1
    table = depth_readout(labels, [DepthMap(np.ones((10, 10)), "height")] * 2)
    assert table.index.tolist() == [2**53 + 1, 2**63 + 1]
    assert for_features(table, 1)["index"].tolist() == [2**53 + 1, 2**63 + 1]


def test_columns_of_depth_have_their_unit_in_features() -> None:
    labels = blobs(0)
    table = depth_readout(labels, DepthMap(noise(0), "height", "nm"))
    told = for_features(table)
    assert {"median [nm]", "mean [nm]", "iqr [nm]", "mad [nm]", "p5 [nm]", "p95 [nm]"} <= set(told.columns)
    assert "median" not in told.columns
    assert {plain_name(name) for name in told.columns} == {"index", *COLUMNS}
    assert "median" in for_features(depth_readout(labels, DepthMap(noise(0), "inverse"))).columns


def test_nothing_to_measure_is_nan_and_counted() -> None:
    labels = np.zeros((40, 40), dtype=np.int32)
    labels[2:12, 2:12], labels[20:30, 20:30], labels[35, 35] = 1, 2, 3
    values = np.zeros((40, 40), dtype=np.float32)
    values[:20] = np.nan
    values[20:] = np.arange(20)[:, None]
    table = depth_readout(labels, DepthMap(values, "inverse"))
    assert np.isnan(table.loc[1, ["median", "nearness", "rank", "contrast"]].astype(float)).all()
    assert table.loc[1, "nan_count"] == 100
    assert table.loc[1, "valid_share"] == 0
    assert table.loc[[3, 2], "rank"].tolist() == [1, 2]


def test_a_constant_map_has_no_nearness() -> None:
    labels = np.ones((10, 10), dtype=np.uint8)
    table = depth_readout(labels, DepthMap(np.full((10, 10), 5.0), "inverse"))
    assert table.loc[1, "median"] == 5
    assert np.isnan(table.loc[1, "nearness"])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_tiny_images(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, dtype=np.int64)
    table = depth_readout(labels, DepthMap(np.arange(labels.size).reshape(shape), "inverse"))
    assert table.loc[1, "median"] == np.median(np.arange(labels.size))


def test_no_labels_give_an_empty_table_with_all_columns() -> None:
    table = depth_readout(np.zeros((5, 5), dtype=int), DepthMap(np.zeros((5, 5)), "inverse"))
    assert len(table) == 0
    assert list(table.columns) == list(COLUMNS)


def test_numbers_may_be_huge_or_negative() -> None:
    labels = np.zeros((20, 20), dtype=np.int64)
    labels[:5], labels[10:15] = 2**40, -3
    table = depth_readout(labels, DepthMap(noise(0, (20, 20)), "inverse"))
    assert table.index.tolist() == [-3, 2**40]
    assert table["area"].tolist() == [100, 100]


def test_features_are_kept_by_label_and_not_by_position() -> None:
    labels = blobs(0)
    depth = DepthMap(noise(0), "inverse")
    numbers = depth_readout(labels, depth).index
    features = pd.DataFrame({"index": numbers[::-1], "name": [f"cell {n}" for n in numbers[::-1]], "median": -1.0})
    features = pd.concat([features, pd.DataFrame({"index": [777], "name": ["gone"]})])
    table = depth_readout(labels, depth, features)
    assert table["name"].tolist() == [f"cell {n}" for n in numbers]
    assert (table["median"] > -1).all()
    again = depth_readout(labels, depth, for_features(table))
    pd.testing.assert_frame_equal(again, table)
    assert for_features(table)["index"].tolist() == numbers.tolist()


def test_a_stack_is_measured_plane_by_plane() -> None:
    labels = np.stack([blobs(seed) for seed in (0, 1, 2)])
    maps = [DepthMap(noise(seed), "inverse") for seed in (0, 1, 2)]
    table = depth_readout(labels, maps)
    for plane in range(3):
        alone = depth_readout(labels[plane], maps[plane])
        pd.testing.assert_frame_equal(table[table["slice"] == plane].drop(columns="slice"), alone, check_dtype=False)
    carried = for_features(table, plane=1)
    assert carried["index"].is_unique
    assert set(carried["index"]) == set(np.unique(labels)) - {0}
    here = carried[carried["slice"] == 1].set_index("index")
    pd.testing.assert_series_equal(here["median"], depth_readout(labels[1], maps[1])["median"], check_names=False)
    largest = for_features(table).set_index("index")
    for number in largest.index:
        areas = (labels == number).sum(axis=(1, 2))
        assert largest.loc[number, "slice"] == areas.argmax()


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    depth = DepthMap(np.zeros((5, 5)), "inverse")
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(5, 5\)"):
        depth_readout(np.zeros((4, 5), dtype=int), depth)
    with pytest.raises(ValueError, match="float64"):
        depth_readout(np.zeros((5, 5)), depth)
    with pytest.raises(ValueError, match="3 planes needs one DepthMap per plane, got 1"):
        depth_readout(np.zeros((3, 5, 5), dtype=int), [depth])
    with pytest.raises(ValueError, match="one DepthMap"):
        depth_readout(np.zeros((5, 5), dtype=int), [depth])


@pytest.mark.parametrize("origin", [(20, 30), (-15, -10), (60, 90), (0, 0)])
@pytest.mark.parametrize("holes", [False, True])
def test_a_mask_being_clicked_reads_as_its_label_would(origin: tuple[int, int], holes: bool) -> None:
    rows, cols = np.mgrid[:50, :60]
    patch = Patch((rows - 25) ** 2 / 400 + (cols - 30) ** 2 / 700 < 1, origin)
    depth = DepthMap(noise(1, holes=holes), "distance")
    labels = np.zeros(depth.values.shape, dtype=np.int32)
    full = np.zeros((90 + 200, 120 + 200), dtype=bool)
    full[100 + origin[0] : 150 + origin[0], 100 + origin[1] : 160 + origin[1]] = patch.mask
    labels[full[100:190, 100:220]] = 1
    table = depth_readout(labels, depth)
    live = mask_readout(patch, depth)
    for name, value in live.items():
        assert value == pytest.approx(table.loc[1, name], rel=1e-6), name


def test_a_mask_outside_the_image_reads_nothing() -> None:
    depth = DepthMap(noise(0), "inverse")
    for patch in (Patch(np.ones((5, 5), dtype=bool), (500, 0)), Patch(np.zeros((0, 0), dtype=bool), (0, 0))):
        live = mask_readout(patch, depth)
        assert live["area"] == 0
        assert np.isnan(live["median"])


def test_a_large_mask_is_read_on_fewer_pixels_and_still_right() -> None:
    rows, cols = np.mgrid[:1500, :1500]
    mask = (rows - 750) ** 2 + (cols - 750) ** 2 < 700**2
    depth = DepthMap(rows / 1500 + np.random.default_rng(0).normal(size=rows.shape) * 0.01, "inverse")
    table = depth_readout(mask, depth)
    live = mask_readout(Patch(mask, (0, 0)), depth)
    assert live["median"] == pytest.approx(table.loc[1, "median"], abs=2e-3)
    assert live["spread"] == pytest.approx(table.loc[1, "spread"], abs=2e-3)


def test_a_live_readout_does_not_look_at_the_whole_image() -> None:
    depth = DepthMap(np.random.default_rng(0).random((4096, 4096), dtype=np.float32), "inverse")
    depth_range(depth)
    patch = Patch(np.ones((250, 250), dtype=bool), (1000, 1000))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        mask_readout(patch, depth)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    np.median(depth.values)
    assert np.median(times) < (time.perf_counter() - start) / 3


@pytest.mark.parametrize("seed", range(5))
def test_the_range_is_that_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(400, 500)).round(seed).astype(np.float32)
    values[rng.random(values.shape) < 0.1 * seed] = np.nan
    values[:, ::3] = 5  # the sample's stride meets the columns
    extent = depth_range(DepthMap(values, "inverse"))
    assert (extent.low, extent.high) == pytest.approx(np.nanpercentile(values.astype(float), (2, 98)), abs=1e-6)


def test_the_range_of_few_values() -> None:
    for count in range(1, 8):
        values = np.arange(count, dtype=np.float32)[None] ** 2
        extent = depth_range(DepthMap(values, "inverse"))
        assert (extent.low, extent.high) == pytest.approx(np.percentile(values.astype(float), (2, 98)))
    nothing = depth_range(DepthMap(np.full((3, 3), np.nan), "inverse"))
    assert np.isnan([nothing.low, nothing.high, nothing.span]).all()
