"""Distances to the nearest other label: exact up to the reach, whatever the background needs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_samdepth.measure.distances import squared_distances


@pytest.mark.parametrize("seed", range(12))
def test_distances_are_those_of_a_plain_transform(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 240, 2)
    rows, cols = np.mgrid[:height, :width]
    labels = np.zeros((height, width), dtype=np.int32)
    for number in range(1, rng.integers(2, 9)):
        row, col, radius = rng.integers(0, height), rng.integers(0, width), rng.integers(1, 90)
        labels[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] = number
    reach = int(rng.integers(2, 150))
    outside = int(rng.integers(1, reach + 1))
    expected = np.full(labels.shape, np.inf)
    if np.ptp(labels):
        for number in np.unique(labels):
            mask = labels == number
            expected[mask] = ndimage.distance_transform_edt(mask)[mask] ** 2
    limit = np.where(labels == 0, outside, reach) ** 2
    found = squared_distances(labels, reach, outside)
    np.testing.assert_array_equal(found, np.minimum(np.round(expected), limit))
