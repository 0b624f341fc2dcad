"""Masks of a whole picture: run lengths, and filtering anew while a slider moves."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.maskset import FoundMask, MaskSet


def _found(patch: Patch, score: float = 0.9, stable: float = 0.9, side: int = 64) -> FoundMask:
    found = FoundMask.pack(patch, score, stable, (0.0, 0.0), (0, 0, side, side))
    assert found is not None
    return found


def _discs(count: int, side: int) -> MaskSet:
    """Return discs of all sizes, some of them next to duplicates."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(count):
        radius = float(side * np.exp(rng.uniform(np.log(0.01), np.log(0.12))))
        reach = int(radius) + 1
        rows, cols = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        origin = rng.integers(0, side - 2 * reach - 1, 2)
        patch = Patch(np.hypot(rows, cols) < radius, (int(origin[0]), int(origin[1])))
        masks.append(_found(patch, *rng.uniform(0.6, 1.0, 2), side=side))
    return MaskSet(tuple(masks), (side, side))


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return run lengths down the columns, counted one pixel after the other."""
    counts, inside = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != inside:
            counts.append(0)
            inside = not inside
        counts[-1] += 1
    return counts


def test_run_lengths_are_those_of_the_whole_picture() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        shape = tuple(int(side) for side in rng.integers(1, 9, 2))
        mask = rng.random(shape) < rng.choice([0.3, 0.7, 1.0])
        if not mask.any():
            continue
        found = MaskSet((_found(Patch(mask, (0, 0))),), (shape[0], shape[1]))
        (record,) = found.records("rle")
        assert record["segmentation"] == {"size": list(shape), "counts": _runs(mask)}


@pytest.mark.parametrize("side", [1024, 2048])
def test_a_thousand_masks_are_filtered_anew_while_a_slider_moves(side: int) -> None:
    found = _discs(1000, side)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        kept = found.filtered(0.62, 0.62, 0.9)
        labels = kept.labels()
        seconds.append(time.process_time() - start)
    assert len(kept) > 800
    assert labels.max() == len(kept)
    # asked for are 0.1 s; what is measured on idle cores stands in docs/speed.md
    assert min(seconds) < 0.5
