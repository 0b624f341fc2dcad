"""What the user who draws draws: strokes inside an object, lassos around it."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import ellipse, polygon2mask

from training.segmenter.drawn import drawn, lasso, stroke


def bean(rows: int, cols: int) -> np.ndarray:
    mask = np.zeros((80, 100), bool)
    mask[ellipse(40, 50, rows, cols, shape=mask.shape)] = True
    return mask


@pytest.mark.parametrize(("rows", "cols"), [(25, 8), (6, 30), (12, 12), (1, 1)])
def test_a_stroke_lies_in_the_object_and_a_lasso_around_it(rows: int, cols: int) -> None:
    truth = bean(rows, cols)
    path = stroke(truth, np.random.default_rng(0))
    at = np.round(path).astype(int)
    assert truth[at[:, 0], at[:, 1]].all()
    if max(rows, cols) > 2 * min(rows, cols):
        assert np.ptp(path, axis=0).max() > max(rows, cols), "it follows the long axis"
    within = polygon2mask(truth.shape, lasso(truth))
    assert within[truth].all()
    assert within.sum() < truth.sum() + 8 * (rows + cols + 8)


def test_every_way_to_point_at_an_object_is_measured() -> None:
    from napari_samdepth.models.builtin.segmenter import load_builtin

    truth = bean(14, 20)
    rgb = np.where(truth, 190, 40).astype(np.uint8)[..., None].repeat(3, 2)
    lines = drawn(load_builtin("cpu"), iter([("bean", rgb, [truth])])).splitlines()
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells[0] == "1"
    assert min(float(cell) for cell in cells[1:]) > 0.8
