"""Journals as values: what is replayed equals what was done, whatever was undone, folded or lost in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.journal import (
    Entry,
    JournalEdit,
    JournalHeader,
    LabelPrompts,
    LabelsSnapshot,
    LayerReference,
    PlaneChange,
    PlanePosition,
    RedoEntry,
    SavedEntry,
    UndoEntry,
    compacted,
    replayed,
)
from napari_samdepth.core.labelling import change_label, erase_label, write_mask

SHAPE = (4, 30, 40)


def header(shape: tuple[int, ...] = SHAPE, dtype: str = "uint8", empty: bool = True) -> JournalHeader:
    image = LayerReference("coins", "/data/coins.tif", shape, "uint8", "abc", {"scale": [1.0, 0.5, 0.5]})
    return JournalHeader(image, LayerReference("SAM masks", "", shape, dtype), 1.7e9, "0.1.0", empty)


def prompts(label: int, at: float = 3.0) -> LabelPrompts:
    return LabelPrompts(label, np.full((1, 3), at), np.ones(1, np.int64), model="builtin")


class Live:
    """Labels that are edited at random, with the entries that are written down of it."""

    def __init__(self, seed: int, dtype: Any = np.uint8) -> None:
        self.random = np.random.default_rng(seed)
        self.labels = np.zeros(SHAPE, dtype)
        self.entries: list[Entry] = [header(dtype=np.dtype(dtype).name)]
        self.done: list[JournalEdit] = []
        self.undone: list[JournalEdit] = []
        self.number = 0

    def plane(self) -> PlanePosition:
        axes = [(1, 2), (2, 1), (0, 2), (1, 0)][int(self.random.choice(4, p=[0.7, 0.1, 0.1, 0.1]))]
        return PlanePosition(*axes, tuple(int(self.random.integers(size)) for size in SHAPE))

    def edit(self) -> JournalEdit | None:
        plane = self.plane()
        view = plane.take(self.labels)
        row, col = (int(self.random.integers(-3, size)) for size in view.shape)
        patch = Patch(self.random.random((int(self.random.integers(1, 9)), 7)) < 0.7, (row, col))
        there = np.unique(view[view > 0])
        action = self.random.integers(4)
        if action == 0 and there.size:
            change = erase_label(view, int(self.random.choice(there)))
        elif action == 1 and there.size:
            other = Patch(~patch.mask, patch.origin)
            change = change_label(view, patch, other, int(self.random.choice(there)))
        else:
            change = write_mask(view, patch, self.number + 1)
        if change is None:
            return None
        self.number += 1
        made = JournalEdit(
            self.number, (PlaneChange(plane, change),), (self.number,), (prompts(self.number),),
            {self.number: {"name": f"cell {self.number}"}},
        )  # fmt: skip
        change.apply(view)
        self.done.append(made)
        self.undone.clear()
        return made

    def step(self) -> None:
        action = self.random.random()
        if action < 0.25 and self.done:
            edit = self.done.pop()
            for change in reversed(edit.changes):
                change.patch.revert(change.plane.take(self.labels))
            self.undone.append(edit)
            self.entries.append(UndoEntry(edit.number))
        elif action < 0.4 and self.undone:
            edit = self.undone.pop()
            for change in edit.changes:
                change.patch.apply(change.plane.take(self.labels))
            self.done.append(edit)
            self.entries.append(RedoEntry(edit.number))
        elif action < 0.43:
            self.entries.append(SavedEntry("labels.tif"))
        elif (made := self.edit()) is not None:
            self.entries.append(made)


def numbers(edits: Any) -> list[int]:
    return [edit.number for edit in edits]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_replayed_is_what_was_done(seed):
    live = Live(seed)
    for _ in range(80):
        live.step()
    work = replayed(live.entries)
    np.testing.assert_array_equal(work.labels, live.labels)
    assert work.labels.dtype == np.uint8
    present = set(np.unique(live.labels).tolist()) - {0}
    assert work.count == len(present)
    assert set(work.prompts) == present & {edit.number for edit in live.done}
    assert set(work.features) == set(work.prompts)
    assert numbers(work.done) == numbers(live.done)
    assert numbers(work.undone) == numbers(live.undone)
    assert not work.damaged
    assert work.complete
    for edit in reversed(work.done):
        for change in reversed(edit.changes):
            change.patch.revert(change.plane.take(work.labels))
    assert not work.labels.any(), "all that was done can be undone"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("budget", [0, 9000, 10**9])
def test_compacted_entries_make_the_same_work_now_and_later(seed, budget):
    live = Live(seed)
    for _ in range(60):
        live.step()
    fewer = compacted(live.entries, budget)
    before, after = replayed(live.entries), replayed(fewer)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert (after.count, after.unsaved > 0) == (before.count, before.unsaved > 0)
    assert (set(after.prompts), dict(after.features)) == (set(before.prompts), dict(before.features))
    kept = numbers(after.done)
    assert kept == numbers(before.done)[len(before.done) - len(kept) :]
    assert sum(edit.nbytes for edit in after.done) <= budget
    assert numbers(after.undone) == numbers(before.undone)
    if budget == 10**9:
        assert len(kept) == len(before.done)
    # what goes on on top of it, undo of what was kept and redo of what was undone included
    live.entries, live.done = list(fewer), live.done[len(live.done) - len(kept) :]
    for _ in range(40):
        live.step()
    np.testing.assert_array_equal(replayed(live.entries).labels, live.labels)
    again = replayed(compacted(live.entries, budget // 2))
    np.testing.assert_array_equal(again.labels, live.labels)


def test_labels_that_were_there_before_come_from_snapshots():
    base = np.zeros((30, 40), np.int32)
    base[3:9, 4:20], base[20:25, 20:30] = 5, 900
    plane = PlanePosition(1, 2, (2, 0, 0))
    change = write_mask(base, Patch(np.ones((10, 10), bool), (0, 0)), 901)
    entries = [
        header(dtype="int32", empty=False),
        LabelsSnapshot(plane, base),
        JournalEdit(1, (PlaneChange(plane, change),)),
    ]
    work = replayed(entries)
    assert (work.count, work.complete) == (3, False)
    expected = base.copy()
    change.apply(expected)
    np.testing.assert_array_equal(work.labels[2], expected)
    assert not work.labels[[0, 1, 3]].any()
    flat = header((30, 40), "int32", empty=False)
    assert replayed([flat, LabelsSnapshot(PlanePosition(0, 1, (0, 0)), base)]).complete


def test_labels_are_as_wide_as_their_largest_number():
    plane = PlanePosition(0, 1, (0, 0))
    labels = np.zeros((30, 40), np.uint16)
    change = write_mask(labels, Patch(np.ones((2, 2), bool), (0, 0)), 300)
    work = replayed([header((30, 40), "uint8"), JournalEdit(1, (PlaneChange(plane, change),))])
    assert work.labels.dtype == np.uint16
    assert work.labels[1, 1] == 300
    assert replayed([header((30, 40), "bool")]).labels.dtype == np.uint8


def test_the_newest_edits_can_be_undone_within_the_budget():
    live = Live(1)
    while len(live.done) < 10:
        if made := live.edit():
            live.entries.append(made)
    sizes = [edit.nbytes for edit in live.done]
    work = replayed(live.entries, budget=sum(sizes[-4:]))
    assert numbers(work.done) == numbers(live.done)[-4:]
    np.testing.assert_array_equal(work.labels, live.labels)
    assert replayed(live.entries, budget=0).done == ()


def test_a_lost_edit_costs_its_own_pixels_alone_and_is_said():
    live = Live(2)
    while len(live.done) < 6:
        if made := live.edit():
            live.entries.append(made)
    lost = live.entries[:3] + live.entries[4:] + [UndoEntry(live.done[2].number)]
    work = replayed(lost)
    assert work.damaged
    elsewhere = np.ones(SHAPE, bool)
    for change in live.done[2].changes:
        view = change.plane.take(elsewhere)
        view[change.patch.slices][change.patch.changed] = False
    np.testing.assert_array_equal(work.labels[elsewhere], live.labels[elsewhere])


def square(at: tuple[int, int], plane: PlanePosition) -> JournalEdit:
    change = write_mask(np.zeros((99, 99), np.uint8), Patch(np.ones((2, 2), bool), at), 1)
    return JournalEdit(1, (PlaneChange(plane, change),))


@pytest.mark.parametrize(
    "wrong",
    [
        square((90, 90), PlanePosition(1, 2, (0, 0, 0))),
        square((0, 0), PlanePosition(0, 1, (0, 0))),
        square((0, 0), PlanePosition(1, 2, (9, 0, 0))),
        LabelsSnapshot(PlanePosition(1, 2, (0, 0, 0)), np.ones((3, 3), np.uint8)),
        RedoEntry(7),
    ],
)
def test_what_does_not_fit_is_left_out(wrong):
    work = replayed([header(), wrong])
    assert work.damaged
    assert not work.labels.any()
    assert work.count == 0


def test_without_a_header_nothing_is_known():
    with pytest.raises(ValueError, match="which image and labels"):
        replayed([SavedEntry()])


@pytest.mark.parametrize("axes", [(0, 0), (0, 3), (-1, 1)])
def test_a_plane_has_two_axes_of_its_data(axes):
    with pytest.raises(ValueError, match="two axes of 3"):
        PlanePosition(*axes, (0, 0, 0))


def test_one_plane_has_one_position():
    assert PlanePosition(1, 2, (3, 8, 9)) == PlanePosition(1, 2, (3, 0, 0))
