"""Prompts that a model does not take are said in those that it takes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import PROMPT_KINDS, Prompts
from napari_samdepth.models.prompting import inside, points_along, translated

SHAPE = (40, 60)
SAMS = frozenset({"points", "box", "mask"})
SQUARE = [(10, 20), (10, 30), (20, 30), (20, 20)]


def fed(patch: Patch) -> MaskInput:
    return MaskInput(np.full((4, 4), float(patch.area)))


def test_what_a_model_takes_goes_through_untouched():
    for prompts in (Prompts([(1, 2)]), Prompts(box=(0, 0, 4, 4)), Prompts(mask=np.zeros((4, 4)))):
        assert translated(prompts, SAMS, SHAPE, fed) is prompts
    drawn = Prompts(scribbles=[[(1, 2), (3, 4)]], lasso=SQUARE)
    assert translated(drawn, PROMPT_KINDS, SHAPE, None) is drawn


def test_points_along_a_path_lie_evenly():
    np.testing.assert_allclose(points_along(np.array([[0.0, 0], [0, 8]]), 5), [(0, 0), (0, 2), (0, 4), (0, 6), (0, 8)])
    corner = np.array([[0.0, 0], [0, 4], [4, 4]])
    np.testing.assert_allclose(points_along(corner, 3), [(0, 0), (0, 4), (4, 4)])
    np.testing.assert_allclose(points_along(corner, 1), [(0, 4)])
    np.testing.assert_allclose(points_along(np.array([[3.0, 5]])), [(3, 5)])
    np.testing.assert_allclose(points_along(np.array([[3.0, 5], [3, 5]])), [(3, 5)])
    assert len(points_along(np.array([[0.0, 0], [0, 2.5]]))) == 3, "no two points in a pixel"


def test_scribbles_become_points_with_their_labels():
    prompts = Prompts([(5, 5)], [0], scribbles=[[(0, 0), (0, 8)], [(9, 9)]], scribble_labels=[1, 0])
    found = translated(prompts, SAMS, SHAPE, fed)
    assert found.kinds == {"points"}
    assert found.labels.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert translated(Prompts(scribbles=[[(9, 9)]]), SAMS, SHAPE, fed).ambiguous


def test_the_first_mask_of_a_scribble_is_fed_back() -> None:
    asked: list[Prompts] = []

    def decode(first: Prompts, several: bool) -> Candidates:
        assert several
        asked.append(first)
        masks = np.zeros((3, *SHAPE), bool)
        masks[0, 5, 5] = masks[1, 5, 0:12] = masks[2, 0:20, 0:30] = True
        return Candidates.of_masks(masks, [0.9, 0.8, 0.7], feedback=[MaskInput(np.full((4, 4), n)) for n in (0, 1, 2)])

    drawn = Prompts(scribbles=[[(5, 1), (5, 9)], [(30, 30)]], scribble_labels=[1, 0])
    found = translated(drawn, SAMS, SHAPE, fed, decode)
    assert asked[0].points.tolist() == [[5, 5]]
    assert found.mask[0, 0] == 1, "the surest that holds the scribble, not the surest"
    assert found.labels.tolist() == [1, 1, 1, 1, 1, 0]
    assert translated(drawn, frozenset({"points"}), SHAPE, None, decode).kinds == {"points"}
    assert translated(Prompts(mask=np.ones((4, 4)), scribbles=[[(5, 1)]]), SAMS, SHAPE, fed, decode).mask[0, 0] == 1
    assert len(asked) == 1, "a model that takes no masks is not asked, nor where there is a mask"


def test_a_lasso_becomes_the_mask_in_it_and_its_box():
    found = translated(Prompts(lasso=SQUARE), SAMS, SHAPE, fed)
    assert found.kinds == {"mask", "box"}
    assert found.mask[0, 0] in (100, 121)
    assert found.box.tolist() == [9.5, 19.5, 20.5, 30.5]
    kept = translated(Prompts(box=(1, 1, 30, 40), lasso=SQUARE), SAMS, SHAPE, fed)
    assert kept.box.tolist() == [1, 1, 30, 40]
    without = translated(Prompts(lasso=SQUARE), frozenset({"box"}), SHAPE, None)
    assert without.kinds == {"box"}
    np.testing.assert_array_equal(
        translated(Prompts(lasso=SQUARE), frozenset({"points"}), SHAPE, None).points, [(15, 25)]
    )


def test_what_a_lasso_holds_of_the_first_mask_is_fed_back() -> None:
    first = np.zeros(SHAPE, bool)
    first[15:30, 25:50] = True

    def decode(asked: Prompts, several: bool) -> Candidates:
        assert not several
        assert asked.kinds == {"box"}
        return Candidates.of_masks(first[None])

    assert translated(Prompts(lasso=SQUARE), SAMS, SHAPE, fed, decode).mask[0, 0] in (25, 30, 36)
    first[:] = False
    first[0, 0] = True
    assert translated(Prompts(lasso=SQUARE), SAMS, SHAPE, fed, decode).mask[0, 0] in (100, 121)
    again = translated(Prompts([(12, 25)], mask=np.full((4, 4), 3.0), lasso=SQUARE), SAMS, SHAPE, fed, decode)
    assert again.mask[0, 0] == 3, "a mask that is fed back is not made anew"
    assert again.kinds == {"points", "mask", "box"}


def test_a_mask_at_image_resolution_becomes_logits_or_a_box():
    region = np.zeros(SHAPE, bool)
    region[3:5, 7:10] = True
    assert translated(Prompts(mask=region), SAMS, SHAPE, fed).mask[0, 0] == 6
    assert translated(Prompts(mask=region), frozenset({"box"}), SHAPE, None).box.tolist() == [2.5, 6.5, 4.5, 9.5]


def test_pixels_in_a_lasso():
    patch = inside(np.array([(-5.0, -5), (-5, 3.2), (2.1, 3.2), (2.1, -5)]), SHAPE)
    assert patch.box == (0, 0, 3, 4)
    assert patch.area == 12


def test_what_cannot_be_said_is_refused():
    for prompts, words in (
        (Prompts(lasso=[(100, 100), (100, 120), (120, 110)]), "no pixel of the image"),
        (Prompts(mask=Patch(np.ones((3, 3), bool), (39, 0))), "lies outside"),
        (Prompts(mask=np.ones((50, 50), bool)), "does not fit an image"),
        (Prompts(mask=np.ones((20, 20), bool)), "does not fit an image"),
    ):
        with pytest.raises(ModelError, match=words):
            translated(prompts, SAMS, SHAPE, fed)
    with pytest.raises(ModelError, match="takes points, not mask"):
        translated(Prompts(mask=np.zeros((4, 4))), frozenset({"points"}), SHAPE, None)
    with pytest.raises(ModelError, match="takes box, not points"):
        translated(Prompts([(1, 2)]), frozenset({"box"}), SHAPE, None)
