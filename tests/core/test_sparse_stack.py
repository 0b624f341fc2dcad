"""A stack that holds planes only: it reads as the array that it stands for."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_samdepth.core.sparse_stack import SparseStack

SHAPE = (5, 4, 6, 7)


@pytest.fixture
def both() -> tuple[SparseStack, NDArray[np.float32]]:
    """A stack and a plain array with the same planes: along the last axes, across, crossing, and one put again."""
    stack, plain = SparseStack(SHAPE), np.full(SHAPE, np.nan, dtype=np.float32)
    rng, whole = np.random.default_rng(0), slice(None)
    for key in ((2, 1), (4, 0), (2, whole, 3, whole), (whole, 1, whole, 5), (2, 1)):
        values = rng.random(plain[key].shape, dtype=np.float32)
        stack[key] = values
        plain[key] = values
    return stack, plain


KEYS: list[Any] = [
    2, -1, (2, 1), (2, -3, 3), (2, 1, 3, 4), (0, 0, 0, 0), (..., 5), (2, ..., 5), (slice(None), 1), np.int64(2),
    (slice(1, 4), slice(None), slice(None, None, 2)), (slice(None, None, -1), 1, slice(4, 0, -2), slice(-3, None)),
    (2, slice(1, 2), 3), (slice(3, 3), 1), [2, 4], (2, [0, 1], 3), np.array([True, False, True, False, True]), None,
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_it_reads_as_an_array_does(both: tuple[SparseStack, NDArray[np.float32]], key: Any) -> None:
    stack, plain = both
    read = stack[key]
    np.testing.assert_array_equal(read, plain[key])
    assert read.dtype == np.float32
    assert read.shape == plain[key].shape


def test_it_is_described_copied_and_taken_whole_as_an_array_is(both: tuple[SparseStack, NDArray[np.float32]]) -> None:
    stack, plain = both
    assert (stack.shape, stack.ndim, stack.size, len(stack)) == (plain.shape, plain.ndim, plain.size, len(plain))
    np.testing.assert_array_equal(np.asarray(stack), plain)
    assert np.asarray(stack, dtype=np.float64).dtype == np.float64
    twin = copy.deepcopy(stack)
    twin[0, 0] = np.zeros((6, 7))
    assert np.isnan(stack[0, 0, 0, 0])
    assert stack[:, ...] is stack


def test_it_holds_no_more_than_its_planes_and_no_views_of_them() -> None:
    stack = SparseStack((10**6, 30, 40))
    given = np.zeros((30, 40), dtype=np.float32)
    for at in (7, 900_000, 7):
        stack[at] = given
    assert stack.held == 2 * given.nbytes
    given[:] = 1
    read = stack[7]
    read[:] = 2
    assert (stack[7] == 0).all()


@pytest.mark.parametrize(
    ("key", "shape"),
    [((2, 1), (6, 8)), ((2, 1, 3), (7,)), (2, (4, 6, 7)), ((2, 1, slice(0, 3)), (3, 7)), ([2], (6, 7))],
)
def test_what_is_no_whole_plane_is_refused(key: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="plane"):
        SparseStack(SHAPE)[key] = np.zeros(shape)


@pytest.mark.parametrize("key", [5, (0, -5), (0, 0, 0, 0, 0), (..., 0, ...)])
def test_positions_outside_are_refused(key: Any) -> None:
    with pytest.raises(IndexError):
        SparseStack(SHAPE)[key]
