"""Slices of a stack and masks without a viewer: what the annotation knows of them, as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_samdepth.annotation.document import Document, DrawnPrompts
from napari_samdepth.annotation.transitions import StartImage, transition
from napari_samdepth.core.candidates import Candidates, Patch

SHAPE = (40, 50)


@dataclass(frozen=True)
class Slice:
    """Slice `at` of a stack (z, y, x)."""

    at: int

    @property
    def slice_key(self) -> tuple[int, ...]:
        return (1, 2, self.at)

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(np.abs(points[:, 0] - self.at) <= 0.5)

    def to_data(self, points_rc: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.full(len(points_rc), float(self.at)), points_rc])

    def from_data(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points[:, 1:]


def drawn(*points: tuple[float, float, float], labels: tuple[int, ...] | None = None) -> DrawnPrompts:
    """Prompts of points (slice, row, col)."""
    kinds = np.ones(len(points), dtype=np.int64) if labels is None else np.array(labels, dtype=np.int64)
    return DrawnPrompts(np.array(points, dtype=float).reshape(-1, 3), kinds)


def square(row: int, col: int, side: int = 8) -> Patch:
    return Patch(np.ones((side, side), dtype=bool), (row, col))


def masks(*patches: Patch) -> Candidates:
    """Candidates, the first of which is best."""
    return Candidates.of_masks(list(patches), np.linspace(0.9, 0.5, len(patches)), SHAPE)


@pytest.fixture
def begun() -> Document:
    """An image in slice 0, nothing drawn."""
    return transition(Document(), StartImage("image", Slice(0), DrawnPrompts.nothing(3))).document
