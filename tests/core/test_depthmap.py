"""DepthMap: numbers together with what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.depthmap import DepthMap, upsampling_between


def test_values_are_floats_and_read_only():
    values = np.arange(6).reshape(2, 3)
    depth = DepthMap(values, "distance", "m", "sensor")
    assert depth.values.dtype == np.float32
    np.testing.assert_array_equal(depth.values, values)
    with pytest.raises(ValueError, match="read-only"):
        depth.values[0, 0] = 1


def test_infinities_are_no_measurement_and_the_callers_array_stays():
    values = np.array([[np.inf, -np.inf, np.nan, 2.0]], dtype=np.float32)
    depth = DepthMap(values, "inverse")
    np.testing.assert_array_equal(depth.values, [[np.nan, np.nan, np.nan, 2]])
    assert np.isinf(values[0, 0])
    assert values.flags.writeable


@pytest.mark.parametrize(("kind", "sign"), [("inverse", 1), ("distance", -1), ("height", 1), ("index", -1)])
def test_which_way_is_near(kind, sign):
    depth = DepthMap(np.array([[1.0, 2.0]]), kind)
    assert depth.near_sign == sign
    assert depth.unit is None
    nearer = int(np.argmax(depth.near_sign * depth.values[0]))
    assert nearer == (1 if kind in ("inverse", "height") else 0)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 3), (3, 0)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"shape \(H, W\)"):
        DepthMap(np.zeros(shape), "inverse")


def test_refuses_unknown_kinds():
    with pytest.raises(ValueError, match="one of inverse, distance, height, index, got 'depth'"):
        DepthMap(np.zeros((2, 2)), "depth")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0.5, 0, -2, np.nan, np.inf])
def test_refuses_samples_finer_than_pixels(wrong):
    with pytest.raises(ValueError, match="at least 1 pixel per sample"):
        DepthMap(np.zeros((2, 2)), "inverse", upsampling=wrong)


def test_upsampling_is_the_length_of_a_sample_and_1_unless_told():
    assert DepthMap(np.zeros((2, 2)), "inverse").upsampling == 1
    assert upsampling_between((100, 200), (400, 800)) == 4
    assert upsampling_between((100, 100), (400, 900)) == pytest.approx(6)
    assert upsampling_between((100, 100), (50, 20)) == 1


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([[4e8, 4e8 + 3, 4e8 + 10.25]]), np.float64),
        (np.array([[400000001, 400000002]]), np.float64),
        (np.array([[1, 2]]), np.float32),
        (np.array([[1.5, np.nan]]), np.float32),
        (np.array([[True, False]]), np.float32),
        (np.array([[65535]], dtype=np.uint16), np.float32),
        (np.array([[0.1]], dtype=np.float16), np.float32),
        (np.array([[1e300, 1.0]]), np.float64),
    ],
)
def test_values_keep_the_digits_they_come_with(values, dtype):
    kept = DepthMap(values, "height").values
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept, values)
