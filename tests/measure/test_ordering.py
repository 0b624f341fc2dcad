"""Order of touching labels: told where it can be told, unsure where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.ordering import order_touching
from napari_samdepth.measure.readout import depth_readout
from napari_samdepth.measure.regions import Regions

SHAPE = (80, 120)


def halves(gap: int = 0) -> np.ndarray:
    """Return labels 4 (left) and 7 (right) that meet in the middle, `gap` background pixels apart."""
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[10:70, 10:60] = 4
    labels[10:70, 60 + gap : 110] = 7
    return labels


def two_levels(labels: np.ndarray, left: float, right: float, kind: str = "inverse", blur: float = 1.5) -> DepthMap:
    """Return depth with one value on each label, blurred and noisy."""
    values = np.where(labels == 4, left, np.where(labels == 7, right, 0)).astype(float)
    values = ndimage.gaussian_filter(values, blur)
    return DepthMap(values + np.random.default_rng(0).normal(size=SHAPE) * 0.02, kind)


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", ["inverse", "distance"])
def test_the_nearer_one_is_in_front(gap: int, transposed: bool, kind: str) -> None:
    labels = halves(gap)
    depth = two_levels(labels, 1.0, 0.6, kind)
    if transposed:
        labels, depth = labels.T, DepthMap(depth.values.T, kind)
    (order,) = order_touching(Regions.of(labels), depth)
    assert (order.first, order.second) == (4, 7)
    assert order.relation == ("front" if kind == "inverse" else "behind")
    assert abs(order.difference) == pytest.approx(0.4, abs=0.1)
    assert order.contact == 60
    table = depth_readout(labels, depth)
    assert table["in_front_of"].tolist() == (["7", ""] if kind == "inverse" else ["", "4"])


def test_labels_apart_are_not_compared() -> None:
    labels = halves(gap=3)
    assert order_touching(Regions.of(labels), two_levels(labels, 1.0, 0.5)) == []


@pytest.mark.parametrize(("gap", "times"), [(0, 4), (2, 4), (2, 9), (1, 3)])
def test_a_picture_enlarged_has_the_same_pairs(gap: int, times: int) -> None:
    labels, samples = halves(gap), two_levels(halves(gap), 1.0, 0.6)
    (one,) = order_touching(Regions.of(labels), DepthMap(samples.values, "inverse", upsampling=2))
    large, values = (np.kron(array, np.ones((times, times))) for array in (labels, samples.values))
    (other,) = order_touching(Regions.of(large.astype(int)), DepthMap(values, "inverse", upsampling=2 * times))
    assert (other.first, other.second, other.relation) == (one.first, one.second, one.relation) == (4, 7, "front")
    assert other.difference == pytest.approx(one.difference, rel=0.03)
    assert order_touching(Regions.of(halves(2 * times + 1)), DepthMap(samples.values, "inverse", upsampling=2)) == []


def test_equal_depth_is_unsure() -> None:
    labels = halves()
    (order,) = order_touching(Regions.of(labels), two_levels(labels, 0.8, 0.8))
    assert order.relation == "unsure"
    flat = np.full(SHAPE, 0.8)
    flat[:5] = 0  # not all of the map is flat
    (order,) = order_touching(Regions.of(labels), DepthMap(flat, "inverse"))
    assert order.relation == "unsure"
    assert order.difference == 0


def test_noise_and_k_decide_what_is_sure() -> None:
    labels = halves()
    values = np.where(labels == 4, 0.62, 0.5) + np.random.default_rng(0).normal(size=SHAPE) * 0.1
    depth = DepthMap(values, "inverse")
    relations = [order_touching(Regions.of(labels), depth, k=k)[0].relation for k in (0.5, 1.0, 3.0)]
    assert relations[0] == "front"
    assert relations[-1] == "unsure"


def test_a_smooth_slope_is_unsure() -> None:
    labels = halves()
    slope = np.broadcast_to(np.arange(120) / 400 + 0.2, SHAPE).copy()
    slope[:5], slope[75:] = 0, 1
    (order,) = order_touching(Regions.of(labels), DepthMap(slope, "inverse"))
    assert order.relation == "unsure"


def test_only_the_shared_boundary_counts() -> None:
    labels = halves()
    values = np.zeros(SHAPE)
    values[:, 10:60] = np.linspace(1.0, 0.2, 50)  # label 4 is nearer far from the boundary, behind at it
    values[:, 60:110] = 0.5
    (order,) = order_touching(Regions.of(labels), DepthMap(values, "inverse"))
    assert order.relation == "behind"
    assert np.median(values[labels == 4]) > 0.5


def test_thin_labels_and_missing_depth() -> None:
    labels = np.zeros((30, 30), dtype=np.int32)
    labels[5:25, 10], labels[5:25, 11:25] = 1, 2
    values = np.where(labels == 1, 1.0, 0.0)
    (order,) = order_touching(Regions.of(labels), DepthMap(values, "inverse"))
    assert order.relation == "front"
    values[labels == 1] = np.nan
    values[0, 0] = 1
    (order,) = order_touching(Regions.of(labels), DepthMap(values, "inverse"))
    assert order.relation == "unsure"
    assert np.isnan(order.difference)


def test_in_front_of_lists_labels_in_order() -> None:
    labels = np.zeros((60, 90), dtype=np.int32)
    labels[20:40, 30:60] = 2
    labels[20:40, 5:30], labels[20:40, 60:85], labels[40:58, 30:60] = 11, 5, 9
    table = depth_readout(labels, DepthMap(np.where(labels == 2, 1.0, 0.0), "inverse"))
    assert table.loc[2, "in_front_of"] == "5, 9, 11"
    assert (table.loc[[5, 9, 11], "in_front_of"] == "").all()
