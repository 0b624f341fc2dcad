"""Candidates: what a decoder offers, which is best, and masks only where they are needed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
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


def discs(shape=(30, 40)):
    return np.stack([blob((10, 12), 5, shape) > 0, blob((20, 30), 8, shape) > 0])


def test_candidates_of_masks_are_those_pixels():
    masks = discs()
    found = Candidates.of_masks(masks, scores=[0.3, 0.8])
    assert found.logits is None
    assert found.feedback == ()
    assert (len(found), found.best, found.image_shape) == (2, 1, (30, 40))
    np.testing.assert_array_equal(found.masks, masks)
    assert found.patch(0).box == (6, 8, 15, 17)
    np.testing.assert_array_equal(found.patch().full((30, 40)), masks[1])


def test_candidates_of_patches_need_the_image():
    patches = [Patch.of(mask) for mask in discs()]
    found = Candidates.of_masks(patches, image_shape=(30, 40))
    np.testing.assert_array_equal(found.scores, [1, 1])
    np.testing.assert_array_equal(found.masks, discs())
    with pytest.raises(ValueError, match="image's shape"):
        Candidates.of_masks(patches)
    with pytest.raises(ValueError, match="does not lie in"):
        Candidates.of_masks(patches, image_shape=(20, 40))


@pytest.mark.parametrize(
    ("masks", "extra", "words"),
    [
        (np.zeros((2, 3, 4)), {}, "bool"),
        (np.zeros((3, 4), bool), {}, "bool"),
        (np.zeros((0, 3, 4), bool), {}, "n >= 1"),
        (np.ones((2, 3, 4), bool), {"scores": [1.0]}, "n >= 1"),
        (np.ones((2, 3, 4), bool), {"image_shape": (4, 3)}, "do not fit"),
        (np.ones((2, 3, 4), bool), {"feedback": [MaskInput(np.zeros((2, 2)))]}, "one for each of 2"),
    ],
)
def test_refuses_masks_that_do_not_fit(masks, extra, words):
    with pytest.raises(ValueError, match=words):
        Candidates.of_masks(masks, **extra)


def test_masks_may_bring_what_a_model_takes_in_their_place():
    fed = MaskInput(np.full((4, 4), 8.0), (2, 3, 6, 7))
    found = Candidates.of_masks(discs()[:1], feedback=[fed])
    assert found.feedback == (fed,)
    assert fed.logits.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        fed.logits[0, 0] = 1


def test_logits_are_their_own_feedback(candidates):
    assert len(candidates.feedback) == 3
    np.testing.assert_array_equal(candidates.feedback[1].logits, candidates.logits[1])
    assert candidates.feedback[1].window is None


@pytest.mark.parametrize(
    ("logits", "window", "words"),
    [((4,), None, "shape"), ((0, 4), None, "shape"), ((4, 4), (3, 0, 3, 4), "row_min"), ((4, 4), (0, 0, 3), "row_min")],
)
def test_mask_inputs_are_checked(logits, window, words):
    with pytest.raises(ValueError, match=words):
        MaskInput(np.zeros(logits), window)


def test_a_patch_of_a_mask_is_its_box():
    mask = discs()[0]
    patch = Patch.of(mask)
    assert patch.box == (6, 8, 15, 17)
    np.testing.assert_array_equal(patch.full(mask.shape), mask)
    assert Patch.of(np.zeros((3, 4), bool)).area == 0
