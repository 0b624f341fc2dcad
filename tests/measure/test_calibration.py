"""Calibration: exact where the model of the scene is exact, honest where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.calibration import calibrate

DISTANCES = {1: 2.0, 2: 3.5, 3: 8.0, 4: 20.0}
S, T = 0.02, -0.1


def scene(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, DepthMap]:
    """Return labels at `DISTANCES`, label 9 infinitely far, and p with 1 / Z = S p + T."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((60, 100), dtype=np.int32)
    inverse = np.full(labels.shape, 1 / 5.0)
    for number, distance in DISTANCES.items():
        labels[10:50, 20 * number - 18 : 20 * number - 2] = number
        inverse[labels == number] = 1 / distance
    labels[:, 90:], inverse[:, 90:] = 9, 0
    inverse += noise * rng.normal(size=(10, 1))[labels, 0] if noise else 0
    return labels, DepthMap((inverse - T) / S, "inverse", None, "test")


@pytest.mark.parametrize("numbers", [(1, 2), (1, 3), (1, 2, 3, 4)])
def test_known_distances_give_back_the_scene(numbers: tuple[int, ...]) -> None:
    labels, depth = scene()
    found = calibrate(depth, [(n, DISTANCES[n]) for n in numbers], labels=labels, unit="cm")
    assert (found.scale, found.shift) == pytest.approx((S, T), rel=1e-4)
    metric = found.apply(depth)
    assert (metric.kind, metric.unit) == ("distance", "cm")
    for number, distance in DISTANCES.items():
        assert np.median(metric.values[labels == number]) == pytest.approx(distance, rel=1e-3)
    assert np.isnan(found.leave_one_out_error) == (len(numbers) < 3)


def test_one_distance_and_something_infinitely_far_are_enough() -> None:
    labels, depth = scene()
    found = calibrate(depth, [(2, DISTANCES[2])], infinity=[9], labels=labels)
    assert (found.scale, found.shift) == pytest.approx((S, T), rel=1e-4)
    values = found.apply(depth).values[labels == 9]
    assert (np.isnan(values) | (values > 1e4)).all()


def test_places_may_be_labels_masks_or_patches() -> None:
    labels, depth = scene()
    by_label = calibrate(depth, [(1, 2.0), (3, 8.0)], labels=labels)
    by_mask = calibrate(depth, [(labels == 1, 2.0), (labels == 3, 8.0)])
    box = (slice(10, 50), slice(42, 58))
    by_patch = calibrate(depth, [(labels == 1, 2.0), (Patch((labels == 3)[box], (10, 42)), 8.0)])
    assert by_label.fitted == by_mask.fitted == by_patch.fitted
    assert by_label.scale == by_mask.scale == by_patch.scale


def test_leave_one_out_says_what_was_to_be_expected() -> None:
    stated, true = [], []
    for seed in range(20):
        labels, depth = scene(noise=0.004, seed=seed)
        found = calibrate(depth, [(n, DISTANCES[n]) for n in (1, 2, 3)], labels=labels)
        stated.append(found.leave_one_out_error)
        metric = found.apply(depth).values
        true.append(abs(np.median(metric[labels == 2]) - DISTANCES[2]) / DISTANCES[2])
        assert found.error_at(20.0) == pytest.approx(4 * found.error_at(10.0))
    assert 0.005 < np.median(stated) < 0.1
    assert np.median(stated) > np.median(true)  # what was not fitted errs more than what was


def test_what_cannot_be_calibrated_is_refused() -> None:
    labels, depth = scene()
    with pytest.raises(ValueError, match="contradict"):
        calibrate(depth, [(1, 8.0), (3, 2.0)], labels=labels)
    with pytest.raises(ValueError, match="got 1 known and 0"):
        calibrate(depth, [(1, 2.0)], labels=labels)
    with pytest.raises(ValueError, match="got 0 known and 1"):
        calibrate(depth, [], infinity=[9], labels=labels)
    with pytest.raises(ValueError, match="two known distances at different depths"):
        calibrate(depth, [(1, 2.0), (1, 2.0)], labels=labels)
    with pytest.raises(ValueError, match="above 0"):
        calibrate(depth, [(1, 0.0), (2, 3.0)], labels=labels)
    with pytest.raises(ValueError, match="no pixels in label 55"):
        calibrate(depth, [(55, 1.0), (2, 3.0)], labels=labels)
    with pytest.raises(ValueError, match="pass labels"):
        calibrate(depth, [(1, 2.0), (2, 3.5)])
    with pytest.raises(ValueError, match="'distance'"):
        calibrate(DepthMap(depth.values, "distance"), [(1, 2.0), (2, 3.5)], labels=labels)
    holes = depth.values.copy()
    holes[labels == 2] = np.nan
    with pytest.raises(ValueError, match="no depth in label 2"):
        calibrate(DepthMap(holes, "inverse"), [(1, 2.0), (2, 3.5)], labels=labels)
