"""What sensors write where they measured nothing is left out; what only looks like it stays."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.core.no_reading import checked_no_reading, find_no_reading, leave_out, missing_text

RNG = np.random.default_rng(0)
SCENE = RNG.choice([900, 1500, 2000], (40, 50))
ROOM = RNG.normal(2.5, 0.4, (40, 50)).clip(0.5, 4)
DEM = RNG.normal(400, 80, (40, 50))
NUMBER = np.arange(2000).reshape(40, 50)
HOLES = RNG.random((40, 50)) < 0.3


def holed(values: np.ndarray, fill: float, dtype: type) -> np.ndarray:
    return np.where(HOLES, fill, values).astype(dtype)


FILLED = {
    "RealSense, mm": (holed(SCENE, 0, np.uint16), "distance", "mm", 0),
    "RealSense, no unit": (holed(SCENE, 0, np.uint16), "distance", None, 0),
    "one pixel of 0 mm": (np.where(NUMBER == 77, 0, SCENE).astype(np.int32), "distance", "mm", 0),
    "8-bit distance": (holed(SCENE // 10, 0, np.uint8), "distance", "cm", 0),
    "TUM in metres": (holed(ROOM, 0, np.float32), "distance", "m", 0),
    "the scene in metres": (holed(SCENE / 1000, 0, np.float64), "distance", "m", 0),
    "lidar to 80 m": (holed(RNG.uniform(2, 80, (40, 50)), 0, np.float32), "distance", "m", 0),
    "disparity, px": (holed(SCENE // 50, 0, np.uint8), "inverse", "px", 0),
    "KITTI disparity": (holed(SCENE, 0, np.uint16), "inverse", None, 0),
    "disparity in floats": (holed(RNG.uniform(20, 60, (40, 50)), 0, np.float32), "inverse", "px", 0),
    "DEM": (holed(DEM, -9999, np.float32), "height", "m", -9999),
    "DEM, one pixel": (np.where(NUMBER == 5, -9999, DEM), "height", "m", -9999),
    "Everest, whole numbers": (holed(DEM * 20, -32768, np.int16), "height", "m", -32768),
    "GDAL's least float": (holed(DEM, np.finfo(np.float32).min, np.float32), "height", "m", np.finfo(np.float32).min),
    "netCDF": (holed(DEM, 9.96921e36, np.float64), "height", "m", 9.96921e36),
    "1e10": (holed(ROOM, 1e10, np.float32), "distance", "m", 1e10),
    "1e10 in inverse depth": (holed(ROOM, 1e10, np.float64), "inverse", None, 1e10),
    "65535": (holed(SCENE, 65535, np.uint16), "distance", "mm", 65535),
    "65535 in a height map": (holed(DEM, 65535, np.uint16), "height", "nm", 65535),
    "65535 in floats": (holed(ROOM, 65535, np.float32), "distance", "m", 65535),
    "int32's largest": (holed(SCENE, 2**31 - 1, np.int32), "distance", "mm", 2**31 - 1),
    "int64's least": (holed(SCENE, -(2**63), np.int64), "height", "nm", -(2.0**63)),
    "-1 mm": (holed(SCENE, -1, np.int16), "distance", "mm", -1),
    "focus index -1": (holed(SCENE // 100, -1, np.int16), "index", None, -1),
}  # fmt: skip

LEGITIMATE = {
    "AFM, levelled": (np.where(HOLES, 0, RNG.uniform(20, 50, (40, 50))), "height", "nm"),
    "AFM, whole numbers": (holed(SCENE, 0, np.uint16), "height", "nm"),
    "AFM, the whole range of int16": (RNG.integers(-32768, 32768, (40, 50), dtype=np.int16), "height", None),
    "focus index": (RNG.integers(0, 9, (40, 50)), "index", None),
    "8-bit picture of inverse depth": (holed(SCENE // 10, 0, np.uint8), "inverse", None),
    "16-bit inverse depth from 0": ((NUMBER * 32).astype(np.uint16), "inverse", None),
    "relative inverse depth, background 0": (np.where(HOLES, 0, 0.7), "inverse", None),
    "disparity with a sky": (np.where(HOLES, 0, RNG.uniform(0, 60, (40, 50))), "inverse", "px"),
    "8-bit distance that begins at 0": (RNG.integers(0, 256, (40, 50), dtype=np.uint8), "distance", None),
    "distance from 0 to 1": (np.linspace(0, 1, 2000).reshape(40, 50), "distance", None),
    "clipped at 0": (np.clip(RNG.uniform(-0.1, 1, (40, 50)), 0, 1), "distance", None),
    "least is 0": (ROOM - ROOM.min(), "distance", "m"),
    "signed": (RNG.normal(0, 3, (40, 50)).round(), "distance", None),
    "heights near 4e8": (4e8 + DEM, "height", "nm"),
    "far wall": (np.where(HOLES, 10.0, RNG.uniform(1, 2, (40, 50))), "distance", "m"),
    "two levels": (np.where(HOLES, 65535, 0).astype(np.uint16), "height", None),
    "16-bit heights to the top": (RNG.integers(0, 65536, (40, 50)).astype(np.uint16), "height", "nm"),
    "constant": (np.full((4, 5), -9999.0), "height", "m"),
    "zeros": (np.zeros((4, 5)), "distance", "m"),
    "bool": (HOLES, "distance", None),
    "nothing but NaN": (np.full((4, 5), np.nan), "distance", "m"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILLED)
def test_fills_are_found_and_left_out(name):
    values, kind, unit, fill = FILLED[name]
    assert find_no_reading(values, kind, unit) == (fill,)
    before = values.copy()
    depth, fills = leave_out(values, kind, unit, "auto")
    assert fills == (fill,)
    np.testing.assert_array_equal(np.isnan(depth), before == values.dtype.type(fill))
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(DepthMap(depth, kind).values[~np.isnan(depth)], depth[~np.isnan(depth)])


@pytest.mark.parametrize("name", LEGITIMATE)
def test_what_is_depth_stays(name):
    values, kind, unit = LEGITIMATE[name]
    depth, fills = leave_out(values, kind, unit, "auto")
    assert fills == ()
    np.testing.assert_array_equal(depth, values.astype(np.float64))


def test_two_fills_in_one_map():
    values = holed(SCENE, 0, np.uint16)
    values[:3] = 65535
    depth, fills = leave_out(values, "distance", "mm", "auto")
    assert fills == (65535, 0)
    assert np.isnan(depth).sum() == np.isin(values, (0, 65535)).sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64])
def test_a_given_value_is_left_out_whatever_the_dtype(dtype):
    values = np.array([[7, 0, 3]], dtype=dtype)
    depth, fills = leave_out(values, "height", "nm", 7.0)
    np.testing.assert_array_equal(depth, [[np.nan, 0, 3]])
    assert fills == (7,)
    assert leave_out(values, "distance", "mm", "none")[1] == ()
    assert leave_out(values, "distance", "mm", -9999.0)[1] == ()


def test_a_given_value_is_compared_as_the_array_holds_it():
    values = np.array([[-9999.9, 1.5]], dtype=np.float32)
    assert np.isnan(leave_out(values, "height", None, -9999.9)[0][0, 0])


def test_the_share_is_said_with_what_it_is():
    def said(values, kind, no_reading="auto"):
        return missing_text(values, *leave_out(values, kind, "mm", no_reading))

    values = np.full((10, 10), 1200, dtype=np.uint16)
    values[0, 1] = 1300
    assert said(values, "distance") == ""
    values[:3, :4] = 0
    assert said(values, "distance") == "12 % of the pixels hold no reading (0)"
    assert said(values, "distance", "none") == ""
    floats = values.astype(np.float32)
    floats[9, 0], floats[9, 1] = np.nan, np.inf
    assert said(floats, "distance") == "14 % of the pixels hold no reading (0, NaN, inf)"
    large = np.full((100, 100), 5.0)
    large[0, 0] = np.nan
    assert said(large, "height") == "Less than 1 % of the pixels hold no reading (NaN)"


@pytest.mark.parametrize(
    ("given", "taken"),
    [("auto", "auto"), ("", "auto"), (" Auto ", "auto"), ("none", "none"), (None, "none"), (0, 0.0), ("-9999", -9999.0),
     (np.uint16(65535), 65535.0), ("1e10", 1e10), ("nan", "none"), (np.inf, "none")],
)  # fmt: skip
def test_what_may_be_given(given, taken):
    assert checked_no_reading(given) == taken


@pytest.mark.parametrize("wrong", ["zero", "0 mm", [0], True, object()])
def test_what_may_not_be_given(wrong):
    with pytest.raises(ValueError, match="auto”, “none” or a number"):
        checked_no_reading(wrong)
