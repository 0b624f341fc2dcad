"""Tools on labels: exact in size, over no other label, and taken back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.draw import disk

from napari_samdepth.core.label_tools import (
    box_of,
    delete_labels,
    fill_holes,
    keep_largest,
    merge_labels,
    smooth_label,
    split_label,
)
from napari_samdepth.core.labelling import LabelPatch

Labelled = NDArray[np.integer]


def touching(dtype: type = np.uint8) -> Labelled:
    """Return two overlapping discs as label 3 beside a square of label 5."""
    labels = np.zeros((60, 90), dtype)
    for col in (25, 50):
        labels[disk((30, col), 15, shape=labels.shape)] = 3
    labels[2:8, 70:80] = 5
    return labels


def applied(labels: Labelled, change: LabelPatch | None) -> Labelled:
    """Return labels after a change, which reverts exactly."""
    assert change is not None
    after = labels.copy()
    change.apply(after)
    back = after.copy()
    change.revert(back)
    assert np.array_equal(back, labels)
    return after


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_delete_takes_all_pixels_of_these_labels_alone(dtype: type) -> None:
    labels = touching(dtype)
    after = applied(labels, delete_labels(labels, [3, 9]))
    assert np.array_equal(after, np.where(labels == 3, 0, labels))
    assert delete_labels(labels, [9, 0]) is None
    # a number that the dtype does not hold is not there
    assert delete_labels(touching(), [256 + 3]) is None


def test_merge_adds_up() -> None:
    labels = touching()
    after = applied(labels, merge_labels(labels, [3, 5], 5))
    assert np.count_nonzero(after == 5) == np.count_nonzero(labels)
    assert merge_labels(labels, [5], 5) is None
    with pytest.raises(ValueError, match="above 0"):
        merge_labels(labels, [3], 0)


def test_split_cuts_where_it_is_narrow_and_loses_nothing() -> None:
    labels = touching()
    after = applied(labels, split_label(labels, 3, (30, 20), (30, 57), 6))
    assert np.array_equal(after != 0, labels != 0)
    assert set(np.unique(after)) == {0, 3, 5, 6}
    left, right = (np.argwhere(after == number)[:, 1] for number in (3, 6))
    assert left.max() <= 39
    assert right.min() >= 36


def test_split_leaves_pieces_that_no_point_reaches() -> None:
    labels = touching()
    labels[50:55, 5:9] = 3
    after = applied(labels, split_label(labels, 3, (30, 20), (30, 57), 6))
    assert (after[50:55, 5:9] == 3).all()


def test_split_between_two_pieces() -> None:
    labels = np.zeros((9, 20), np.uint16)
    labels[2:7, 1:6] = labels[2:7, 10:18] = 1
    after = applied(labels, split_label(labels, 1, (4, 3), (4, 12), 2))
    assert np.array_equal(after == 2, (labels == 1) & (np.arange(20) > 7))


@pytest.mark.parametrize("second", [(30, 20), (0, 0), (-5, 3), (500, 3)])
def test_split_needs_a_point_in_each_part(second: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="once in each part"):
        split_label(touching(), 3, (30, 20), second, 6)


def test_holes_are_filled_but_not_those_that_hold_another_label() -> None:
    labels = touching()
    labels[28:32, 20:24] = 0
    labels[28:32, 48:52] = 9
    after = applied(labels, fill_holes(labels, 3))
    assert (after[28:32, 20:24] == 3).all()
    assert (after[28:32, 48:52] == 9).all()
    assert fill_holes(after, 3) is None
    # what is open to the border is no hole
    open_to = np.ones((5, 5), np.uint8)
    open_to[2, 2:] = 0
    assert fill_holes(open_to, 1) is None


def test_the_largest_piece_is_kept() -> None:
    labels = touching()
    labels[50:55, 5:9] = 3
    after = applied(labels, keep_largest(labels, 3))
    assert np.array_equal(after, touching())
    assert keep_largest(after, 3) is None


def test_smooth_takes_spikes_and_fills_notches_over_no_other_label() -> None:
    labels = touching()
    labels[29, 64:85] = 3
    after = applied(labels, smooth_label(labels, 3))
    assert not (after[29, 70:] == 3).any()
    assert np.array_equal(after == 5, labels == 5)
    beside = np.zeros((40, 40), np.uint8)
    beside[:, :20], beside[:, 20:] = 1, 2
    beside[10:12, 18:20] = 2
    assert np.array_equal(applied(beside, smooth_label(beside, 2)) == 1, beside == 1)


def test_a_label_at_the_border_stays_there() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[:20] = 1
    assert smooth_label(labels, 1) is None


def test_what_is_too_small_is_not_smoothed_away() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5, 5] = 1
    with pytest.raises(ValueError, match="too small"):
        smooth_label(labels, 1)


def test_a_label_that_is_not_there_has_no_box() -> None:
    assert box_of(touching(), 4) is None
    assert fill_holes(touching(), 4) is keep_largest(touching(), 4) is smooth_label(touching(), 4) is None
