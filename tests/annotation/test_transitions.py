"""Every transition of clicking, refining, searching and slices, without a viewer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_samdepth.annotation.document import (
    AutoMasks,
    DetectionBox,
    Document,
    DrawnPrompts,
    DrawnShape,
    TextSearch,
)
from napari_samdepth.annotation.transitions import (
    NOTHING_THERE,
    ONLY_BACKGROUND,
    AcceptObject,
    Answer,
    ChooseCandidate,
    ClearObject,
    DrawPrompts,
    EditLabels,
    ForgetMasks,
    GiveUp,
    LeaveImage,
    RefineLabel,
    SetAutoMasks,
    SetDetections,
    SetForeground,
    ShowPlane,
    StartImage,
    UseLabels,
    detections_in,
    transition,
)
from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.detections import Detections
from napari_samdepth.core.maskset import MaskSet

from .conftest import SHAPE, Slice, drawn, masks, square

CLICK = (0.0, 10.0, 12.0)
OTHER = (0.0, 30.0, 40.0)


def after(document: Document, *actions: object) -> Document:
    for action in actions:
        document = transition(document, action).document  # type: ignore[arg-type]
    return document


def clicked(begun: Document) -> Document:
    return after(begun, DrawPrompts(drawn(CLICK)))


def answered(begun: Document) -> Document:
    document = clicked(begun)
    return after(document, Answer(document.current.key, masks(square(5, 5), square(3, 3, 14))))


def test_a_click_asks_for_masks_and_is_a_step(begun: Document) -> None:
    assert begun.requests == ()
    change = transition(begun, DrawPrompts(drawn(CLICK)))
    assert change.step
    (request,) = change.document.requests
    assert request.key != begun.current.key
    assert request.image == "image"
    np.testing.assert_array_equal(request.prompts.points, [CLICK])
    assert not transition(change.document, DrawPrompts(drawn(CLICK))).step, "nothing new was drawn"


def test_an_answer_is_on_offer_and_a_late_one_is_dropped(begun: Document) -> None:
    one = clicked(begun)
    two = after(one, DrawPrompts(drawn(CLICK, OTHER)))
    late = transition(two, Answer(one.current.key, masks(square(1, 1))))
    assert late.document is two
    there = transition(two, Answer(two.current.key, masks(square(1, 1), square(2, 2))))
    assert there.document.current.chosen == 0
    assert there.document.requests == ()
    assert not there.step


def test_choosing_a_candidate(begun: Document) -> None:
    document = answered(begun)
    change = transition(document, ChooseCandidate(1))
    assert change.step
    assert change.document.current.chosen == 1
    for nothing in (0, 2, -1):
        assert transition(document, ChooseCandidate(nothing)).document is document
    assert transition(begun, ChooseCandidate(0)).document is begun


def test_accept_writes_the_chosen_mask_and_the_next_click_starts_anew(begun: Document) -> None:
    document = after(answered(begun), ChooseCandidate(1))
    change = transition(document, AcceptObject())
    (write,) = change.writes
    assert write.patch.area == 14 * 14
    assert write.request.editing == 0
    assert change.step
    assert change.document.drawn.empty
    assert change.document.requests == ()
    assert transition(begun, AcceptObject()).document is begun


def test_click_enter_click_enter_before_any_answer_are_two_objects_in_order(begun: Document) -> None:
    first = clicked(begun)
    waits = transition(first, AcceptObject())
    assert waits.step
    assert not waits.writes
    second = after(waits.document, DrawPrompts(drawn(OTHER)), AcceptObject())
    assert [request.prompts.points[0].tolist() for request in second.waiting] == [list(CLICK), list(OTHER)]
    assert [request.key for request in second.requests] == [first.current.key, second.waiting[1].key]
    assert second.drawn.empty
    change = transition(second, Answer(first.current.key, masks(square(5, 5))))
    (write,) = change.writes
    assert write.request.prompts.points.tolist() == [list(CLICK)]
    assert change.settles == first.current.key
    assert len(change.document.waiting) == 1
    assert len(transition(second, GiveUp(first.current.key)).document.waiting) == 1


def test_a_waiting_object_of_which_nothing_is_found_is_said_and_writes_nothing(begun: Document) -> None:
    document = after(clicked(begun), AcceptObject())
    change = transition(document, Answer(document.waiting[0].key, masks(Patch(np.zeros((0, 0), bool), (0, 0)))))
    assert (change.writes, change.say) == ((), NOTHING_THERE)
    assert not change.document.waiting


def test_an_empty_mask_is_no_label(begun: Document) -> None:
    document = clicked(begun)
    document = after(document, Answer(document.current.key, masks(Patch(np.zeros((0, 0), bool), (0, 0)))))
    change = transition(document, AcceptObject())
    assert change.document is document
    assert change.say == NOTHING_THERE


def test_each_click_is_an_object_in_one_step(begun: Document) -> None:
    change = transition(begun, DrawPrompts(drawn(CLICK), accept=True))
    assert change.step
    assert len(change.document.waiting) == 1
    assert change.document.drawn.empty


def test_background_alone_asks_for_nothing_and_says_so(begun: Document) -> None:
    change = transition(begun, DrawPrompts(drawn(CLICK, labels=(0,))))
    assert change.document.requests == ()
    assert change.say == ONLY_BACKGROUND
    more = transition(change.document, DrawPrompts(drawn(CLICK, OTHER, labels=(0, 1))))
    assert len(more.document.requests) == 1
    assert more.say == ""


def test_a_further_click_feeds_the_mask_back_and_a_moved_one_does_not(begun: Document) -> None:
    document = clicked(begun)
    fed = masks(square(5, 5))
    fed = replace(fed, feedback=(object(),))  # type: ignore[arg-type]
    document = after(document, Answer(document.current.key, fed))
    assert after(document, DrawPrompts(drawn(CLICK, OTHER))).requests[0].mask_input is fed.feedback[0]
    assert after(document, DrawPrompts(drawn(OTHER))).requests[0].mask_input is None
    box = DrawnShape("box", np.array([[0, 1, 1], [0, 1, 20], [0, 20, 20], [0, 20, 1]], dtype=float))
    boxed = replace(drawn(CLICK), shapes=(box,))
    assert after(document, DrawPrompts(boxed)).requests[0].mask_input is None
    scribble = DrawnShape("scribble", np.array([[0, 1, 1], [0, 9, 9]], dtype=float))
    assert after(document, DrawPrompts(replace(drawn(CLICK), shapes=(scribble,)))).requests[0].mask_input


def test_clear_drops_prompts_and_after_that_the_last_waiting_object(begun: Document) -> None:
    document = after(clicked(begun), AcceptObject(), DrawPrompts(drawn(OTHER)))
    change = transition(document, ClearObject())
    assert change.step
    assert change.document.drawn.empty
    assert len(change.document.waiting) == 1
    again = transition(change.document, ClearObject())
    assert again.step
    assert again.document.waiting == ()
    nothing = transition(again.document, ClearObject())
    assert not nothing.step


def test_a_label_taken_up_is_its_own_pixels_until_a_click(begun: Document) -> None:
    change = transition(clicked(begun), RefineLabel(7, square(20, 20), SHAPE))
    document = change.document
    assert change.step
    assert document.drawn.empty
    assert document.requests == ()
    assert document.current.candidates is not None
    assert document.current.candidates.patch().area == 64
    untouched = transition(document, AcceptObject())
    assert untouched.writes == ()
    assert untouched.document.current.editing == 0
    touched = after(document, DrawPrompts(drawn(CLICK, labels=(0,))))
    (request,) = touched.requests
    assert (request.editing, request.base) == (7, document.current.base)
    touched = after(touched, Answer(request.key, masks(square(20, 20, 4))))
    (write,) = transition(touched, AcceptObject()).writes
    assert write.request.editing == 7
    assert after(document, ForgetMasks()) is document, "its pixels are not a model's"


def test_another_slice_keeps_its_prompts_and_ends_refining(begun: Document) -> None:
    document = answered(begun)
    there = after(document, ShowPlane(Slice(1)))
    assert there.requests == ()
    assert there.here.empty
    assert not there.drawn.empty
    assert transition(there, AcceptObject()).document is there
    back = after(there, ShowPlane(Slice(0)))
    assert len(back.requests) == 1
    editing = after(begun, RefineLabel(7, square(20, 20), SHAPE), ShowPlane(Slice(1)))
    assert editing.current_here.editing == 0
    assert after(document, ShowPlane(None)).requests == ()


def test_accept_leaves_the_prompts_of_other_slices(begun: Document) -> None:
    document = after(begun, DrawPrompts(drawn(CLICK, (3.0, 4.0, 5.0))), AcceptObject())
    assert document.drawn.points.tolist() == [[3.0, 4.0, 5.0]]


def test_points_of_the_users_are_used_up_and_not_taken_away(begun: Document) -> None:
    own = after(begun, StartImage("image", Slice(0), drawn(CLICK), np.zeros((0, 3))))
    accepted = after(own, AcceptObject())
    assert accepted.used is not None
    assert accepted.used.tolist() == [list(CLICK)]
    assert accepted.drawn.empty


def test_another_look_asks_again_and_undoes_nothing(begun: Document) -> None:
    document = answered(begun)
    change = transition(document, ForgetMasks())
    assert not change.step
    (request,) = change.document.requests
    assert request.key != document.current.key


def test_targets_and_foreground_outlive_an_image(begun: Document) -> None:
    document = after(begun, UseLabels("image", "mine"), SetForeground(False), LeaveImage())
    assert document.image == ""
    assert not document.foreground
    assert dict(document.targets) == {"image": "mine"}
    other = after(document, StartImage("other", Slice(0), DrawnPrompts.nothing(3)), UseLabels("image", ""))
    assert dict(other.targets) == {}
    assert other.serial > begun.serial


def test_auto_masks_come_and_go_as_steps(begun: Document) -> None:
    found = AutoMasks(MaskSet((), SHAPE), "image", Slice(0))
    change = transition(answered(begun), SetAutoMasks(found))
    assert change.step
    assert change.document.auto_masks is found
    assert change.document.current.candidates is not None, "the mask on offer stays"
    assert transition(change.document, SetAutoMasks(None)).document.auto_masks is None


def test_detections_belong_to_their_slice_and_what_is_deleted_stays_away(begun: Document) -> None:
    boxes = np.array([[2.0, 2.0, 12.0, 12.0], [20.0, 20.0, 30.0, 30.0]])
    detections = Detections(boxes, np.array([0.9, 0.8]), ("cell", "coin"), SHAPE)
    search = TextSearch(detections, Slice(0), 0)
    found = tuple(search.boxes(0.1, 0.8, frozenset()))
    document = after(begun, SetDetections(Slice(0), found, search, step=True))
    assert document.text_search is search
    assert len(detections_in(document, Slice(0))) == 2
    assert detections_in(document, Slice(1)) == []
    assert after(document, ShowPlane(Slice(1))).text_search is None
    kept = replace(document.drawn, detections=document.drawn.detections[1:])
    change = transition(document, DrawPrompts(kept))
    assert change.step
    assert change.document.dropped == {found[0].number}
    assert change.document.requests == ()
    assert not transition(document, SetDetections(Slice(0), found[:1], search, step=False)).step
    assert search.unmoved(found[0])
    moved = DetectionBox(found[0].corners + 1, found[0].name, found[0].score, found[0].number)
    assert not search.unmoved(moved)


def test_an_edit_of_labels_is_a_step_that_leaves_the_object_alone(begun: Document) -> None:
    document = answered(begun)
    change = transition(document, EditLabels())
    assert change.step
    assert change.document is document
