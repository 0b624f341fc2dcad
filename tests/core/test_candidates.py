"""Candidates: what a decoder offers, which is best, and masks only where they are needed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.candidates import Candidates, Patch
from napari_samdepth.core.resample import Frame, logits_in_box


def blob(centre, radius, shape=(64, 64)):
    rows, cols = np.indices(shape)
    return (radius - np.hypot(rows - centre[0], cols - centre[1])).astype(np.float32)


@pytest.fixture
def candidates():
    logits = np.stack([blob((20, 30), 6), blob((40, 10), 15), blob((-50, -50), 4)])
    # a tall image: 300 x 200 pixels on a square canvas, padded on the right
    frame = Frame(image_shape=(300, 200), input_size=(1024, 1024), valid_size=(1024, 683))
    return Candidates(logits=logits, scores=np.array([0.4, 0.9, 0.7]), frame=frame)


def test_best_follows_the_scores(candidates):
    assert candidates.best == 1
    assert len(candidates) == 3


def test_patch_is_the_mask_inside_its_box(candidates):
    for index in range(3):
        patch = candidates.patch(index)
        whole = logits_in_box(candidates.logits[index], candidates.frame, (0, 0, 300, 200)) > 0
        np.testing.assert_array_equal(patch.full((300, 200)), whole)
        np.testing.assert_array_equal(candidates.masks[index], whole)
    assert candidates.patch(1).area > 0
    assert candidates.patch(0).mask.size < 300 * 200 / 4


def test_patch_of_the_best_is_the_default(candidates):
    np.testing.assert_array_equal(candidates.patch().mask, candidates.patch(1).mask)


def test_an_empty_mask_is_an_empty_patch(candidates):
    patch = candidates.patch(2)
    assert patch.area == 0
    assert patch.box == (0, 0, 0, 0)
    assert not patch.full((300, 200)).any()
    assert not candidates.masks[2].any()


def test_masks_are_made_once_and_read_only(candidates):
    assert candidates.masks is candidates.masks
    assert candidates.masks.shape == (3, 300, 200)
    assert candidates.masks.dtype == bool
    with pytest.raises(ValueError, match="read-only"):
        candidates.masks[0, 0, 0] = True


def test_patch_geometry():
    patch = Patch(np.array([[True, False, True]]), (4, 7))
    assert patch.box == (4, 7, 5, 10)
    assert patch.area == 2
    full = patch.full((6, 12))
    assert np.argwhere(full).tolist() == [[4, 7], [4, 9]]
    np.testing.assert_array_equal(full[patch.slices], patch.mask)


@pytest.mark.parametrize(
    ("logits", "scores"), [((3, 4), (3,)), ((3, 4, 4), (2,)), ((0, 4, 4), (0,)), ((1, 4, 4), (1, 1))]
)
def test_refuses_shapes_that_do_not_fit(logits, scores):
    with pytest.raises(ValueError, match="n >= 1"):
        Candidates(np.zeros(logits, np.float32), np.zeros(scores), Frame.whole((4, 4), (4, 4)))
