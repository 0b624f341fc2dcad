"""Undo and redo by value: steps, answers that come late, and a budget in bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_samdepth.annotation.document import Document
from napari_samdepth.annotation.history import History, LabelEdit, Step
from napari_samdepth.annotation.transitions import AcceptObject, Answer, DrawPrompts, transition
from napari_samdepth.core.labelling import write_mask

from .conftest import SHAPE, Slice, drawn, masks, square


def edit(row: int = 2, label: int = 1, side: int = 8) -> LabelEdit:
    change = write_mask(np.zeros((100, 100), dtype=np.uint16), square(row, 3, side), label)
    assert change is not None
    return LabelEdit("layer", Slice(0), change, (label,))


def steps(begun: Document, count: int) -> tuple[History, list[Document]]:
    history, documents = History(), [begun]
    for at in range(count):
        document = transition(documents[-1], DrawPrompts(drawn((0, at, at)))).document
        history = history.pushed(Step(documents[-1], document))
        documents.append(document)
    return history, documents


def test_undo_and_redo_walk_and_a_new_step_forgets_what_was_undone(begun: Document) -> None:
    history, documents = steps(begun, 3)
    step, back = history.undo()
    assert step is not None
    assert step.before is documents[2]
    assert back.can_redo
    again, forth = back.redo()
    assert again is step
    assert (len(forth.done), forth.can_redo) == (3, False)
    assert not back.pushed(Step(begun, begun)).can_redo
    assert History().undo() == (None, History()) or History().undo()[0] is None
    assert not History().can_undo
    assert History().redo()[0] is None


def test_a_late_answer_is_in_every_document_that_asked_for_it(begun: Document) -> None:
    history, documents = steps(begun, 1)
    history = history.pushed(Step(documents[1], documents[1], (edit(),)))
    answer = Answer(documents[1].current.key, masks(square(1, 1)))
    history = history.amended(lambda document: document.answered(answer.key, answer.candidates))
    assert [step.after.current.candidates for step in history.done] == [answer.candidates] * 2
    assert history.done[0].before is begun


def test_a_waiting_object_that_is_written_belongs_to_the_step_that_accepted_it(begun: Document) -> None:
    history, documents = steps(begun, 1)
    waiting = transition(documents[1], AcceptObject()).document
    key = waiting.waiting[0].key
    history = history.pushed(Step(documents[1], waiting))
    clicked = transition(waiting, DrawPrompts(drawn((0, 7, 7)))).document
    history = history.pushed(Step(waiting, clicked))
    _step, undone = history.undo()
    undone = undone.written(key, (edit(),))
    assert undone.can_redo, "what was undone can be done again still"
    assert undone.done[-1].edits
    assert undone.done[-1].after.waiting == ()
    assert undone.undone[-1].after.waiting == ()
    assert history.written(key, (edit(),)).done[1].edits


def test_the_budget_lets_go_of_masks_first_and_of_the_oldest_steps_then(begun: Document) -> None:
    large = replace(masks(square(0, 0)), logits=None, patches=(square(0, 0, 200),))
    history = History(budget=450_000)
    document = begun
    for at in range(9):
        clicked = transition(document, DrawPrompts(drawn((0, at, at)))).document
        clicked = clicked.answered(clicked.current.key, large)
        history = history.pushed(Step(document, clicked, (edit(side=90),)))
        document = clicked
    assert history.nbytes <= 450_000
    assert len(history.done) == 9, "an edit is 8 kB, the masks 40 kB: the masks go"
    assert history.done[-1].after.current.candidates is large
    small = History(budget=20_000)
    for _ in range(9):
        small = small.pushed(Step(begun, begun, (edit(side=90),)))
    assert 1 <= len(small.done) < 9


def test_masks_of_steps_long_past_are_decoded_anew(begun: Document) -> None:
    history, document = History(), begun
    for at in range(15):
        clicked = transition(document, DrawPrompts(drawn((0, at, at)))).document
        clicked = clicked.answered(clicked.current.key, masks(square(0, 0)))
        history = history.pushed(Step(document, clicked))
        document = clicked
    held = [step.after.current.candidates is not None for step in history.done]
    assert held == [False] * 5 + [True] * 10
    assert not any(step.after.current.candidates for step in history.without_masks().done)


def test_without_an_image_only_edits_of_labels_can_be_undone(begun: Document) -> None:
    history, documents = steps(begun, 2)
    history = history.pushed(Step(documents[2], begun, (edit(),)))
    nothing = Document()
    left = history.label_edits(nothing)
    assert [(step.before, step.after, len(step.edits)) for step in left.done] == [(nothing, nothing, 1)]
    assert not left.can_redo


def test_going_back_keeps_what_is_no_step(begun: Document) -> None:
    clicked = transition(begun, DrawPrompts(drawn((0, 4, 4)))).document
    clicked = clicked.answered(clicked.current.key, masks(square(0, 0)))
    present = replace(clicked, foreground=False, serial=40)
    back = clicked.carried(present)
    assert (back.foreground, back.current.key) == (False, 41)
    assert back.current.candidates is not None
    elsewhere = clicked.carried(replace(present, plane=Slice(3)))
    assert elsewhere.current.candidates is None


def test_a_label_edit_of_a_hundred_pixels_squared_takes_kilobytes() -> None:
    assert edit(side=80).nbytes < 10_000
    assert SHAPE == (40, 50)
