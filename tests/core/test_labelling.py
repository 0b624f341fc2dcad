"""Writing masks into labels: what changes, what never does, and that undo is exact."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.labelling import (
    as_numbers,
    change_label,
    erase_label,
    next_label,
    widened,
    write_labels,
    write_mask,
)


@pytest.fixture
def labels() -> np.ndarray:
    """Two labels, 3 above 7, on background."""
    array = np.zeros((20, 30), dtype=np.int32)
    array[2:8, 3:12] = 3
    array[8:15, 3:12] = 7
    return array


def square(row: int, col: int, size: int) -> Patch:
    """Return a full square mask."""
    return Patch(np.ones((size, size), dtype=bool), (row, col))


def test_other_labels_are_never_overwritten(labels: np.ndarray) -> None:
    before = labels.copy()
    change = write_mask(labels, square(5, 8, 10), 9)
    assert change is not None
    np.testing.assert_array_equal(labels, before)  # pure: nothing is written yet
    change.apply(labels)
    np.testing.assert_array_equal(labels[before != 0], before[before != 0])
    inside = np.zeros(labels.shape, dtype=bool)
    inside[5:15, 8:18] = True
    np.testing.assert_array_equal(labels == 9, inside & (before == 0))


def test_without_preserve_the_mask_wins(labels: np.ndarray) -> None:
    change = write_mask(labels, square(5, 8, 10), 9, preserve=False)
    assert change is not None
    change.apply(labels)
    assert (labels[5:15, 8:18] == 9).all()
    assert np.count_nonzero(labels == 9) == 100


@pytest.mark.parametrize("preserve", [True, False])
def test_revert_is_exact_for_random_masks(preserve: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = rng.integers(0, 4, (17, 23)).astype(np.uint8)
        patch = Patch(rng.random((9, 11)) > 0.5, (int(rng.integers(-5, 15)), int(rng.integers(-5, 20))))
        other = Patch(~patch.mask, patch.origin)
        for change in (write_mask(labels, patch, 2, preserve), change_label(labels, patch, other, 2)):
            before = labels.copy()
            if change is None:
                continue
            change.apply(labels)
            assert not np.array_equal(labels, before)
            change.revert(labels)
            np.testing.assert_array_equal(labels, before)


def test_indices_name_the_changed_pixels_and_the_box_is_tight(labels: np.ndarray) -> None:
    change = write_mask(labels, square(0, 0, 6), 5)
    assert change is not None
    written = labels.copy()
    written[change.indices] = change.after
    np.testing.assert_array_equal(written != labels, (written == 5))
    rows, cols = np.nonzero(written == 5)
    assert change.box == (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1)
    assert change.count == len(rows)


def test_a_change_keeps_little(labels: np.ndarray) -> None:
    change = write_mask(np.zeros((500, 500), dtype=np.int32), square(100, 100, 200), 5)
    assert change is not None
    assert change.before.base.nbytes + change.after.base.nbytes <= 16  # one value each, seen 40,000 times
    assert change.changed.nbytes == 200 * 200


def test_nothing_to_change_is_none(labels: np.ndarray) -> None:
    assert write_mask(labels, square(3, 4, 3), 3) is None
    assert write_mask(labels, square(3, 4, 3), 5) is None
    assert write_mask(labels, square(100, 100, 3), 5) is None
    assert write_mask(labels, Patch(np.zeros((0, 0), dtype=bool), (0, 0)), 5) is None
    assert erase_label(labels, 99) is None


def test_masks_over_the_image_edge_are_clipped(labels: np.ndarray) -> None:
    change = write_mask(labels, square(15, 25, 30), 5)
    assert change is not None
    assert change.box == (15, 25, 20, 30)


def test_a_label_gains_and_loses_pixels_and_others_are_spared(labels: np.ndarray) -> None:
    before = labels.copy()
    change = change_label(labels, square(4, 6, 10), square(0, 0, 4), 3)
    assert change is not None
    change.apply(labels)
    np.testing.assert_array_equal(labels == 7, before == 7)
    added, removed = np.zeros(labels.shape, dtype=bool), np.zeros(labels.shape, dtype=bool)
    added[4:14, 6:16] = removed[:4, :4] = True
    np.testing.assert_array_equal(labels == 3, ((before == 3) & ~removed) | (added & (before == 0)))
    change.revert(labels)
    np.testing.assert_array_equal(labels, before)
    assert change_label(labels, square(-20, -20, 5), square(-9, -9, 3), 3) is None
    with pytest.raises(ValueError, match="above 0"):
        change_label(labels, square(4, 6, 10), square(0, 0, 4), 0)


def test_many_labels_are_one_change(labels: np.ndarray) -> None:
    new = np.zeros((10, 10), dtype=np.int64)
    new[:5], new[5:, :5] = 11, 12
    before = labels.copy()
    change = write_labels(labels, new, origin=(6, 10))
    assert change is not None
    change.apply(labels)
    assert set(np.unique(labels)) == {0, 3, 7, 11, 12}
    np.testing.assert_array_equal(labels[before != 0], before[before != 0])
    change.revert(labels)
    np.testing.assert_array_equal(labels, before)


def test_erase(labels: np.ndarray) -> None:
    change = erase_label(labels, 3)
    assert change is not None
    change.apply(labels)
    assert set(np.unique(labels)) == {0, 7}


def test_writes_into_a_view_of_a_stack() -> None:
    stack = np.zeros((3, 10, 10), dtype=np.uint16)
    change = write_mask(stack[1], square(2, 2, 3), 1)
    assert change is not None
    change.apply(stack[1])
    assert stack.sum(axis=(1, 2)).tolist() == [0, 9, 0]


def test_a_label_that_does_not_fit_is_refused_and_widened_says_what_holds_it() -> None:
    small = np.zeros((5, 5), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"Label 300 does not fit.*uint8"):
        write_mask(small, square(0, 0, 2), 300)
    with pytest.raises(ValueError, match=r"integers of shape \(H, W\)"):
        write_mask(np.zeros((5, 5)), square(0, 0, 2), 1)
    assert widened(np.uint8, 255) == np.uint8
    assert widened(np.uint8, 300) == np.uint16
    assert widened(bool, 1) == np.uint8
    assert widened(np.int32, 2**31) == np.int64
    assert widened(np.int8, 200) == np.int16
    with pytest.raises(ValueError, match="-1"):
        widened(np.uint8, -1)
    with pytest.raises(ValueError, match="float32"):
        widened(np.float32, 1)


def test_next_label() -> None:
    assert next_label(np.zeros((3, 3), dtype=np.uint8)) == 1
    assert next_label(np.array([[0, 255]], dtype=np.uint8)) == 256
    assert next_label(np.zeros((0, 3), dtype=int)) == 1


EDGES = [
    (dtype, at)
    for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64)
    for at in (np.iinfo(dtype).max - 1, np.iinfo(dtype).max)
]


@pytest.mark.parametrize(("dtype", "largest"), EDGES)
def test_the_next_label_is_exact_at_the_edge_of_every_dtype(dtype: type, largest: int) -> None:
    labels = np.zeros((4, 6), dtype=dtype)
    labels[0, :2] = largest
    if np.iinfo(dtype).min < 0:
        labels[0, 5] = np.iinfo(dtype).min
    number = next_label(labels)
    assert number == largest + 1
    if number > 2 ** (63 if np.iinfo(dtype).min < 0 else 64) - 1:
        with pytest.raises(ValueError, match="between 0 and"):
            widened(dtype, number)
        return
    wide = labels.astype(widened(dtype, number))
    assert wide.dtype.kind == labels.dtype.kind
    np.testing.assert_array_equal(wide, labels)
    change = write_mask(wide, Patch(np.ones((2, 6), dtype=bool), (1, 0)), number)
    assert change is not None
    change.apply(wide)
    assert np.count_nonzero(wide == number) == 12
    assert int(wide[0, 0]) == largest
    moved, left = Patch(np.ones((1, 6), dtype=bool), (3, 0)), Patch(np.ones((2, 6), dtype=bool), (1, 0))
    replaced = change_label(wide, moved, left, number)
    assert replaced is not None
    replaced.apply(wide)
    assert np.flatnonzero(wide == number).tolist() == list(range(18, 24))
    replaced.revert(wide)
    change.revert(wide)
    np.testing.assert_array_equal(wide, labels)


@pytest.mark.parametrize("value", [2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1])
def test_wide_labels_stay_of_their_dtype(value: int) -> None:
    assert widened(np.int64, value) == np.int64
    assert widened(np.uint64, value) == np.uint64
    assert widened(np.int32, value) == np.int64
    assert widened(np.uint8, value) == (np.uint32 if value < 2**32 else np.uint64)


def test_numbers_of_64_bits_are_never_negative() -> None:
    assert as_numbers(np.array([3, 200], dtype=np.uint8)).dtype == np.int64
    assert as_numbers(np.array([2**63 - 1], dtype=np.uint64)).dtype == np.int64
    assert as_numbers(np.array([2**63], dtype=np.uint64)).tolist() == [2**63]
    assert as_numbers(np.array([-5])).tolist() == [-5]
    assert as_numbers(np.zeros(0, dtype=np.uint64)).dtype == np.int64
