"""What the user sees: contrast limits, gamma, channels, odd numbers; and the identity of a plane."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.plane import Plane, data_limits, fitting_level, to_rgb

COLOUR = np.full((2, 3, 3), (40, 120, 200), dtype=np.uint8)


def by_hand(values, low, high, gamma=1.0):
    """Slow and plain: one number at a time, as Python floats."""
    out = []
    for value in np.asarray(values).ravel().tolist():
        share = 0.0 if value != value else min(max((value - low) / (high - low), 0.0), 1.0)
        out.append(round(255 * share**gamma))
    return np.array(out, dtype=np.int64).reshape(np.shape(values))


def test_uint8_rgb_is_untouched_and_copied():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    shown = to_rgb(image)
    np.testing.assert_array_equal(shown, image)
    shown[:] = 0
    assert image.max() == 17


# what napari 0.9.2's canvas showed for these very arguments, read from a screenshot
@pytest.mark.parametrize(
    ("image", "kwargs", "seen"),
    [
        (COLOUR, {}, (40, 120, 200)),
        (COLOUR, {"contrast_limits": (0, 120)}, (85, 255, 255)),
        (COLOUR, {"gamma": 0.5}, (101, 175, 226)),
        (np.full((2, 2, 3), (0.1, 0.5, 1.5), dtype=np.float32), {}, (0, 73, 255)),
        (np.full((2, 2, 3), (4000, 12000, 60000), dtype=np.uint16), {}, (0, 36, 255)),
        (np.full((2, 2, 3), (4000, 12000, 60000), dtype=np.uint16), {"contrast_limits": (0, 12000)}, (85, 255, 255)),
        (np.dstack([COLOUR, np.full((2, 3), 64, np.uint8)]), {}, (10, 30, 50)),
        (np.full((2, 2), 128, dtype=np.uint8), {"contrast_limits": (0, 256), "gamma": 2}, (64, 64, 64)),
        (np.full((2, 2), 5, dtype=np.int32), {}, (255, 255, 255)),
        (np.full((2, 2), 5, dtype=np.int32), {"contrast_limits": (0, 10)}, (128, 128, 128)),
        (np.ones((2, 2), dtype=bool), {}, (255, 255, 255)),
    ],
)
def test_same_pixels_as_on_the_canvas(image, kwargs, seen):
    shown = to_rgb(image, **kwargs)
    assert shown.shape == (*image.shape[:2], 3)
    assert shown.dtype == np.uint8
    # the graphics card may round a half the other way
    assert np.abs(shown[0, 0].astype(int) - seen).max() <= 1


@pytest.mark.parametrize("gamma", [1.0, 0.6])
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float16, np.float32, np.float64]
)
def test_every_dtype_follows_the_limits(dtype, gamma):
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else None
    values = rng.uniform(-100 if info is None else max(info.min, -100), 100, (17, 13))
    image = values.astype(dtype)
    low, high = 5.0, 77.0
    shown = to_rgb(image, contrast_limits=(low, high), gamma=gamma)
    expected = by_hand(image, low, high, gamma)
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])
    assert np.abs(shown[..., 1] - expected).max() <= (0 if dtype == np.float64 else 1)
    assert np.mean(shown[..., 1] == expected) > 0.98


def test_limits_that_float32_cannot_tell_apart():
    image = np.array([[1e8, 1e8 + 8, 1e8 + 16]], dtype=np.float32)
    np.testing.assert_array_equal(to_rgb(image, contrast_limits=(1e8, 1e8 + 16))[0, :, 0], [0, 128, 255])
    big = np.array([[2**40, 2**40 + 1, 2**40 + 2]], dtype=np.int64)
    np.testing.assert_array_equal(to_rgb(big)[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_is_black_and_infinities_are_the_ends(dtype):
    image = np.array([[np.nan, -np.inf, np.inf, 0.0, 0.5, 1.0]], dtype=dtype)
    np.testing.assert_array_equal(to_rgb(image)[0, :, 0], [0, 0, 255, 0, 128, 255])


def test_nothing_finite_is_black():
    assert to_rgb(np.full((3, 3), np.nan)).max() == 0


def test_fortran_order_and_strided_views_give_the_same():
    image = np.random.default_rng(0).integers(-3000, 3000, (20, 30)).astype(np.int16)
    expected = to_rgb(np.ascontiguousarray(image[::2, 1::3]))
    np.testing.assert_array_equal(to_rgb(image[::2, 1::3]), expected)
    np.testing.assert_array_equal(to_rgb(np.asfortranarray(image)[::2, 1::3]), expected)


def test_other_byte_order():
    image = np.array([[1, 256, 1000]], dtype=">u2")
    np.testing.assert_array_equal(to_rgb(image), to_rgb(image.astype("<u2")))


@pytest.mark.parametrize(("dtype", "half"), [(np.uint8, 51), (np.uint16, 13107), (np.float32, 0.2)])
def test_alpha_lays_the_picture_over_black(dtype, half):
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.zeros((1, 3, 4), dtype=dtype)
    image[..., :3] = full
    image[0, :, 3] = (0, half, full)
    shown = to_rgb(image, contrast_limits=(0, full))
    np.testing.assert_array_equal(shown[0, :, 1], [0, 51, 255])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4), dtype=complex), "Complex"),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 0, 3)), "empty"),
        (np.zeros(5), "one slice"),
        (np.zeros((4, 4, 2)), "one slice"),
        (np.zeros((2, 5, 4, 3)), "one slice"),
        (np.array([["a", "b"]]), "numbers"),
        (np.array([[None]]), "numbers"),
    ],
)
def test_refuses_in_one_sentence(image, words):
    with pytest.raises(ValueError, match=words) as caught:
        to_rgb(image)
    assert "\n" not in str(caught.value)


def test_rgb_flag_settles_what_three_columns_mean():
    with pytest.raises(ValueError, match="one slice"):
        to_rgb(np.zeros((4, 4, 3)), rgb=False)
    with pytest.raises(ValueError, match="one slice"):
        to_rgb(np.zeros((4, 3)), rgb=True)
    assert to_rgb(np.zeros((4, 3))).shape == (4, 3, 3)


@pytest.mark.parametrize("limits", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1)])
def test_refuses_limits_that_are_no_range(limits):
    with pytest.raises(ValueError, match="low < high"):
        to_rgb(np.zeros((2, 2)), contrast_limits=limits)


@pytest.mark.parametrize("gamma", [0, -1, np.nan, np.inf])
def test_refuses_gamma(gamma):
    with pytest.raises(ValueError, match="gamma"):
        to_rgb(np.zeros((2, 2)), gamma=gamma)


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(1).normal(3, 2, (40, 40)),
        np.random.default_rng(1).normal(3, 2, (40, 40, 3)).astype(np.float32),
        np.random.default_rng(1).integers(0, 4000, (40, 40)).astype(np.uint16),
        np.full((40, 40), 7, dtype=np.int32),
        np.full((40, 40), -7.5),
        np.zeros((40, 40), dtype=bool),
        np.zeros((40, 40), dtype=np.uint8),
    ],
)
def test_first_limits_are_those_of_a_new_napari_layer(image):
    from napari.layers import Image

    assert data_limits(image) == pytest.approx(tuple(Image(image).contrast_limits))


def test_plane_is_frozen_and_keeps_no_ties_to_the_callers_array():
    rgb = np.zeros((4, 5, 3), dtype=np.uint8)
    plane = Plane(rgb)
    rgb[:] = 9
    assert plane.rgb.max() == 0
    assert plane.shape == (4, 5)
    with pytest.raises(ValueError, match="read-only"):
        plane.rgb[0, 0, 0] = 1
    with pytest.raises(AttributeError):
        plane.rgb = rgb  # type: ignore[misc]


def test_read_only_view_of_a_writeable_array_is_copied():
    base = np.zeros((4, 5, 3), dtype=np.uint8)
    view = base[:]
    view.flags.writeable = False
    plane = Plane(view)
    base[:] = 1
    assert plane.rgb.max() == 0


@pytest.mark.parametrize("rgb", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_plane_refuses_what_is_no_rgb(rgb):
    with pytest.raises(ValueError, match="uint8"):
        Plane(rgb)


def test_key_is_the_content():
    image = np.random.default_rng(0).integers(0, 255, (6, 4), dtype=np.uint8)
    plane = Plane(to_rgb(image))
    assert plane.key == Plane(to_rgb(image.copy())).key
    assert plane.key == Plane(np.asfortranarray(plane.rgb)).key
    changed = image.copy()
    changed[3, 2] ^= 1
    assert plane.key != Plane(to_rgb(changed)).key
    assert plane.key != Plane(to_rgb(image.reshape(4, 6))).key
    assert plane.key != Plane(to_rgb(image, gamma=1.1)).key


@pytest.mark.parametrize(
    ("limit", "level"), [(10_000, 0), (4096, 0), (4095, 1), (2048, 1), (1000, 3), (512, 3), (100, 3)]
)
def test_level_that_fits(limit, level):
    shapes = [(4096, 1000), (2048, 500), (1024, 250), (512, 125)]
    assert fitting_level(shapes, limit) == level
    assert fitting_level(shapes[::-1], limit) == 3 - level


def test_no_levels():
    with pytest.raises(ValueError, match="at least one level"):
        fitting_level([], 100)
