"""Journals on disk: nothing that was written down is lost, whenever and however the process ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.journal import (
    JournalEdit,
    JournalHeader,
    LabelPrompts,
    LabelsSnapshot,
    LayerReference,
    PlaneChange,
    PlanePosition,
    PromptShape,
)
from napari_samdepth.core.labelling import LabelPatch, write_labels, write_mask
from napari_samdepth.storage import journal as module
from napari_samdepth.storage.journal import Journal, JournalError, Recoverable, recoverable, replay
from napari_samdepth.storage.journal_entries import entry_bytes, entry_of

SHAPE = (64, 80)
PLANE = PlanePosition(0, 1, (0, 0))


def header(shape: tuple[int, ...] = SHAPE, empty: bool = True) -> JournalHeader:
    image = LayerReference("coins", "/data/coins größer.tif", shape, "uint8", "abc", {"scale": [np.float32(0.5), 1]})
    return JournalHeader(image, LayerReference("SAM masks", "", shape, "uint16"), time.time(), "0.1.0", empty)


def edit(number: int, labels: np.ndarray, side: int = 2) -> JournalEdit:
    """Return the edit that writes a square as label `number`, and write it."""
    at = (number * side) % (labels.shape[0] - side), (7 * number) % (labels.shape[1] - side)
    change = write_mask(labels, Patch(np.ones((side, side), bool), at), number, preserve=False)
    assert change is not None
    change.apply(labels)
    point = LabelPrompts(number, np.array([[*at]], float), np.ones(1, np.int64), model="builtin")
    return JournalEdit(number, (PlaneChange(PLANE, change),), (number,), (point,), {number: {"name": f"cell {number}"}})


def written(folder: Path, count: int = 5, **how: int) -> tuple[Journal, np.ndarray, list[JournalEdit]]:
    journal, labels = Journal(header(), folder, **how), np.zeros(SHAPE, np.uint16)
    edits = [edit(journal.next_number(), labels) for _ in range(count)]
    for one in edits:
        journal.edit(one)
    assert journal.flush()
    return journal, labels, edits


def died(journal: Journal) -> None:
    """Let go of the lock, as the system does for a process that dies."""
    journal._release()


def settled(journal: Journal) -> None:
    """Wait until a journal is written anew, if it is being."""
    if journal._compactor is not None:
        journal._compactor.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals"


def test_every_entry_comes_back_as_it_was() -> None:
    labels = np.zeros((40, 50), np.int32)
    many = write_labels(labels, np.arange(2000, dtype=np.int32).reshape(40, 50) // 7)
    assert many is not None
    shapes = (
        PromptShape("scribble", np.random.default_rng(0).normal(size=(9, 3)), 0),
        PromptShape("box", np.ones((4, 3))),
    )
    plane = PlanePosition(2, 1, (4, 0, 0))
    prompts = (
        LabelPrompts(3, np.zeros((0, 3)), np.zeros(0, np.int64), shapes, plane, "größer.pth"),
        LabelPrompts(4, np.ones((2, 3)), np.array([1, 0])),
    )
    said = {3: {"class": "nucleus", "area": np.float64(2.5), "ok": np.True_, "none": None, "list": (1, 2)}, 7: {}}
    made = JournalEdit(
        12, (PlaneChange(plane, many), edit(1, np.zeros(SHAPE, np.uint16)).changes[0]), (3, 4), prompts, said
    )
    found, when = entry_of(b"".join(map(bytes, entry_bytes(made, 123.5))))
    assert isinstance(found, JournalEdit)
    assert (when, found.number, found.created) == (123.5, 12, (3, 4))
    assert found.features == {3: {"class": "nucleus", "area": 2.5, "ok": True, "none": None, "list": [1, 2]}, 7: {}}
    for one, other in zip(found.changes, made.changes, strict=True):
        assert (one.plane, one.patch.box) == (other.plane, other.patch.box)
        for name in ("changed", "before", "after"):
            ours, theirs = getattr(one.patch, name), getattr(other.patch, name)
            assert ours.dtype == theirs.dtype
            assert not ours.flags.writeable
            np.testing.assert_array_equal(ours, theirs)
    assert found.changes[1].patch.after.strides == (0,), "labels that are all the same take no memory"
    for ours, theirs in zip(found.prompts, prompts, strict=True):
        assert (ours.label, ours.plane, ours.model) == (theirs.label, theirs.plane, theirs.model)
        np.testing.assert_array_equal(ours.points, theirs.points)
        np.testing.assert_array_equal(ours.point_labels, theirs.point_labels)
        assert [(s.kind, s.label) for s in ours.shapes] == [(s.kind, s.label) for s in theirs.shapes]
        for one, other in zip(ours.shapes, theirs.shapes, strict=True):
            np.testing.assert_array_equal(one.vertices, other.vertices)
    head, _ = entry_of(b"".join(map(bytes, entry_bytes(header(), 1.0))))
    assert isinstance(head, JournalHeader)
    assert (head.image.path, head.image.placement) == ("/data/coins größer.tif", {"scale": [0.5, 1]})
    base = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.int64)
    snapshot, _ = entry_of(b"".join(map(bytes, entry_bytes(LabelsSnapshot(plane, base.T), 1.0))))
    assert isinstance(snapshot, LabelsSnapshot)
    np.testing.assert_array_equal(snapshot.labels, base.T)


def test_an_object_takes_little_and_a_picture_full_of_labels_not_much_more() -> None:
    labels = np.zeros((2000, 2000), np.int32)
    rows, cols = np.mgrid[:100, :100]
    disc = write_mask(labels, Patch(np.hypot(rows - 50, cols - 50) < 48, (500, 500)), 7)
    tiles = (np.mgrid[:2000, :2000] // 20).astype(np.int32)
    many = write_labels(labels, tiles[0] * 100 + tiles[1] + 1)
    sizes = [
        sum(map(len, entry_bytes(JournalEdit(1, (PlaneChange(PLANE, change),)), 0.0)))
        for change in (disc, many)
        if change
    ]
    assert sizes[0] < 3000
    assert sizes[1] < 2_000_000


def test_work_of_a_dead_process_is_found_with_labels_prompts_and_undo(folder: Path) -> None:
    journal, labels, edits = written(folder)
    journal.undo(edits[4])
    journal.undo(edits[3])
    journal.redo(edits[3])
    edits[4].changes[0].patch.revert(labels)
    assert journal.flush()
    assert recoverable(folder) == [], "its writer lives"
    died(journal)
    (item,) = recoverable(folder)
    assert (item.name, item.labels, item.image_path, item.labels_name) == (
        "coins",
        4,
        "/data/coins größer.tif",
        "SAM masks",
    )
    assert abs(item.time.timestamp() - time.time()) < 60
    assert item.time.tzinfo is not None
    assert not item.damaged
    work = item.work()
    np.testing.assert_array_equal(work.labels, labels)
    assert [one.number for one in work.done] == [1, 2, 3, 4]
    assert [one.number for one in work.undone] == [5]
    assert set(work.prompts) == set(work.features) == {1, 2, 3, 4}
    assert work.features[2] == {"name": "cell 2"}
    item.discard()
    assert recoverable(folder) == []
    assert list(folder.iterdir()) == []
    with pytest.raises(JournalError, match="meanwhile"):
        item.discard()
    assert list(folder.iterdir()) == []
    with pytest.raises(JournalError, match="cannot be read"):
        item.work()


def test_work_is_taken_over_by_one_process_and_goes_on(folder: Path) -> None:
    journal, labels, edits = written(folder, 3)
    journal.undo(edits[2])
    edits[2].changes[0].patch.revert(labels)
    journal.flush()
    died(journal)
    torn = journal.path.read_bytes()
    journal.path.write_bytes(torn + b"half an entry" * 50)
    (item,) = recoverable(folder)
    taken, work = item.resume()
    assert recoverable(folder) == []
    with pytest.raises(JournalError, match="another window"):
        item.resume()
    assert [one.number for one in work.undone] == [3]
    taken.redo(work.undone[0])
    work.undone[0].changes[0].patch.apply(labels)
    taken.edit(edit(taken.next_number(), labels))
    assert taken.flush()
    died(taken)
    (item,) = recoverable(folder)
    again = item.work()
    np.testing.assert_array_equal(again.labels, labels)
    assert [one.number for one in again.done] == [1, 2, 3, 4]
    assert not again.damaged


def test_what_is_saved_or_discarded_is_not_offered_and_goes_away(folder: Path) -> None:
    journal, labels, _ = written(folder)
    journal.saved("/data/labels.tif")
    assert journal.unsaved == 0
    journal.flush()
    died(journal)
    assert recoverable(folder) == []
    assert list(folder.glob("*.journal")) == []
    journal, labels, _ = written(folder)
    journal.saved("/data/labels.tif")
    journal.edit(edit(journal.next_number(), labels))
    journal.close()
    (item,) = recoverable(folder)
    assert (item.unsaved, item.labels) == (1, 6)
    item.resume()[0].discard()
    journal, _, _ = written(folder)
    journal.saved()
    journal.close()
    assert list(folder.glob("*.journal")) == []
    journal.edit(edit(9, labels))
    assert journal.flush()
    assert list(folder.glob("*.journal")) == [], "a closed journal takes nothing more"


def test_without_an_edit_there_is_no_file(folder: Path) -> None:
    journal = Journal(header(empty=False), folder)
    journal.snapshot(PLANE, np.ones(SHAPE, np.uint16))
    assert journal.knows(PLANE)
    assert not journal.knows(PlanePosition(1, 0, (0, 0)))
    assert journal.flush()
    journal.close()
    assert not folder.exists()


def test_labels_that_were_there_are_kept_with_the_first_edit(folder: Path) -> None:
    journal, labels = Journal(header(empty=False), folder), np.full(SHAPE, 9, np.uint16)
    journal.snapshot(PLANE, labels.copy())
    journal.edit(edit(journal.next_number(), labels))
    journal.close()
    (item,) = recoverable(folder)
    assert item.labels == 2
    assert item.work().complete
    np.testing.assert_array_equal(item.work().labels, labels)


def test_a_file_cut_off_at_any_byte_holds_every_entry_before_the_cut(folder: Path) -> None:
    journal, _, _ = written(folder, 4)
    died(journal)
    whole = journal.path.read_bytes()
    ends = [record.end for record in module.records(whole)]
    cuts = sorted({*range(0, len(whole), 37), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends)})
    for cut in cuts:
        journal.path.write_bytes(whole[:cut])
        held = sum(end <= cut for end in ends)
        found = recoverable(folder)
        if held <= 2:
            assert found == []
            journal.path.write_bytes(whole)
        else:
            assert found[0].labels == held - 2
            assert not found[0].damaged


def test_damage_in_the_middle_costs_what_it_hits_and_is_said(folder: Path) -> None:
    journal, _, _ = written(folder, 6)
    died(journal)
    whole = journal.path.read_bytes()
    spans = [(record.start, record.end) for record in module.records(whole)]
    for at, (start, end) in enumerate(spans):
        for place in (start, start + 10, start + 20, (start + end) // 2, end - 1):
            damaged = bytearray(whole)
            damaged[place] ^= 0xFF
            journal.path.write_bytes(damaged)
            work = replay(journal.path)
            lost = {at - 1} if at >= 2 else set()
            assert [one.number for one in work.done] == [n for n in range(1, 7) if n not in lost]
            # the last entry cannot be told from one that was cut off, which was never promised
            assert work.damaged == (at < len(spans) - 1)
    beginning = spans[1][1]
    journal.path.write_bytes(bytes(beginning) + whole[beginning:])
    assert recoverable(folder) == []
    assert [path.suffix for path in folder.iterdir() if "lock" not in path.name] == [".damaged"]
    with pytest.raises(JournalError):
        replay(next(folder.glob("*.damaged")))


def test_a_large_journal_folds_its_oldest_edits_and_undo_goes_on(folder: Path) -> None:
    journal, labels = Journal(header(), folder, limit=20_000), np.zeros(SHAPE, np.uint16)
    edits: list[JournalEdit] = []
    for _ in range(150):
        edits.append(edit(journal.next_number(), labels))
        journal.edit(edits[-1])
        if len(edits) % 30 == 0:
            assert journal.flush()
            settled(journal)
            assert journal.path.stat().st_size < 45_000
    assert journal._folded
    undone = []
    for _ in range(140):
        undone.append(edits.pop())
        undone[-1].changes[0].patch.revert(labels)
        journal.undo(undone[-1])
    for _ in range(70):
        one = undone.pop()
        one.changes[0].patch.apply(labels)
        journal.redo(one)
    assert journal.flush()
    settled(journal)
    died(journal)
    (item,) = recoverable(folder)
    work = item.work()
    np.testing.assert_array_equal(work.labels, labels)
    assert not work.damaged
    present = set(np.unique(labels).tolist()) - {0}
    assert set(work.prompts) == present
    assert item.labels == len(present)


@pytest.mark.parametrize("turned", [False, True])
def test_entries_go_to_disk_while_a_journal_is_folded(
    turned: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, labels, edits = written(folder, 60, limit=10**6)
    fold, folding, go_on = module.compacted, threading.Event(), threading.Event()

    def slow(*args: object) -> object:
        folding.set()
        assert go_on.wait(30)
        return fold(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "compacted", slow)
    journal._compact_at, journal._limit = 0, 10_000
    journal.edit(edit(journal.next_number(), labels))
    assert folding.wait(30)
    if turned:
        journal.undo(edits[3])
        edits[3].changes[0].patch.revert(labels)
    journal.edit(edit(journal.next_number(), labels))
    assert journal.flush()
    np.testing.assert_array_equal(replay(journal.path).labels, labels)
    size = journal.path.stat().st_size
    go_on.set()
    settled(journal)
    assert (journal.path.stat().st_size < size // 2) == (not turned), "what was taken back meanwhile stays an edit"
    journal.edit(edit(journal.next_number(), labels))
    assert journal.flush()
    np.testing.assert_array_equal(replay(journal.path).labels, labels)
    journal.discard()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_is_said_once_and_nothing_is_lost_when_it_works_again(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, labels, _ = written(folder, 2)
    size = journal.path.stat().st_size

    def refuse(_file: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(module.os, "fsync", refuse)
        for _ in range(3):
            journal.edit(edit(journal.next_number(), labels))
            assert not journal.flush()
        said = journal.take_message()
        assert said.startswith("Labels are not protected against a crash: ")
        assert os.strerror(number) in said
        assert journal.take_message() == ""
        assert journal.path.stat().st_size == size, "nothing half written"
    journal.edit(edit(journal.next_number(), labels))
    assert journal.flush()
    died(journal)
    np.testing.assert_array_equal(replay(journal.path).labels, labels)


def test_a_folder_that_cannot_be_made_is_said_and_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    journal, labels = Journal(header(), tmp_path / "file" / "journals"), np.zeros(SHAPE, np.uint16)
    journal.edit(edit(journal.next_number(), labels))
    assert not journal.flush()
    assert "save your labels" in journal.take_message()
    journal.close()


def test_entries_are_written_by_another_thread_within_half_a_second(folder: Path) -> None:
    journal, labels = Journal(header(), folder), np.zeros(SHAPE, np.uint16)
    writers = set()
    write = journal._write

    def watched(batch: object) -> None:
        writers.add(threading.current_thread())
        write(batch)  # type: ignore[arg-type]

    journal._write = watched  # type: ignore[method-assign]
    start = time.perf_counter()
    journal.edit(edit(journal.next_number(), labels))
    assert time.perf_counter() - start < 0.1
    while not (journal.path.exists() and replay(journal.path).done):
        assert time.perf_counter() - start < 0.5
        time.sleep(0.005)
    journal.close()
    assert threading.main_thread() not in writers


def test_the_oldest_journals_go_when_all_take_too_much(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for number in range(3):
        journal, _, _ = written(folder)
        died(journal)
        os.utime(journal.path, (number, number))
        paths.append(journal.path)
    monkeypatch.setattr(module, "ALL_JOURNALS", 2 * paths[0].stat().st_size + 100)
    living, _, _ = written(folder)
    assert [path.exists() for path in paths] == [False, True, True]
    living.discard()


WRITER = """
import os, signal, sys, time
import filelock
import numpy as np
from pathlib import Path
from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.journal import JournalEdit, JournalHeader, LayerReference, PlaneChange, PlanePosition
from napari_samdepth.core.labelling import write_mask
from napari_samdepth.storage.journal import Journal

def write(folder, limit, seed, told):
    shape = (256, 256)
    layer = LayerReference("coins", "", shape, "uint16")
    journal = Journal(JournalHeader(layer, layer, time.time(), "0"), Path(folder), limit=int(limit))
    labels, plane = np.zeros(shape, np.uint16), PlanePosition(0, 1, (0, 0))
    pauses = np.random.default_rng(int(seed)).exponential(0.01, 10**5)
    for number in range(1, 10**5):
        at = (4 * number) % 252, (4 * (number // 63)) % 252
        change = write_mask(labels, Patch(np.ones((4, 4), bool), at), number % 60000 + 1, preserve=False)
        change.apply(labels)
        journal.edit(JournalEdit(number, (PlaneChange(plane, change),)))
        print(number, time.time(), file=told, flush=True)
        time.sleep(pauses[number])

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        folder, told, limit, seed = line.rstrip("\\n").split("|")
        with open(told, "w") as file:
            write(folder, limit, seed, file)
    print(pid, flush=True)
"""
"""Makes a writing process for each line: a new one is there at once, since everything is imported already."""


class Writers:
    """Starts real processes that write journals."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", WRITER]
        self.mother = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, folder: Path, limit: int, seed: int) -> tuple[int, Path]:
        """Return a process's id once it writes, and the file in which it tells of the edits that it gave."""
        assert self.mother.stdin is not None
        assert self.mother.stdout is not None
        told = folder.with_name(f"{folder.name}-{seed}.txt")
        print(folder, told, limit, seed, sep="|", file=self.mother.stdin, flush=True)
        pid = int(self.mother.stdout.readline())
        while not (told.exists() and told.read_text().count("\n") > 3):
            time.sleep(0.005)
        return pid, told

    def close(self) -> None:
        self.mother.communicate()


def kill(pid: int) -> float:
    """Kill a process, return when, and come back once it is gone."""
    when = time.time()
    os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(0.002)
    return when


@pytest.fixture
def writers() -> Iterator[Writers]:
    if not hasattr(os, "fork"):
        pytest.skip("writers are forked")
    made = Writers()
    yield made
    made.close()


def test_a_process_that_is_killed_loses_nothing_older_than_half_a_second(tmp_path: Path, writers: Writers) -> None:
    """Kill a real process at 20 random moments, some of them amid folding its journal."""
    lives, compared = np.random.default_rng(5).uniform(0.6, 1.6, 20), 0
    for first in range(0, 20, 4):
        started = [
            (writers.start(tmp_path / str(number), 10**8 if number % 4 else 30_000, number), time.time())
            for number in range(first, first + 4)
        ]
        for number, ((pid, told), since) in enumerate(started, start=first):
            time.sleep(max(since + lives[number] - time.time(), 0))
            killed = kill(pid)
            lines = [line.split() for line in told.read_text().splitlines()[:-1]]
            promised = [int(which) for which, when in lines if float(when) < killed - 0.5]
            (item,) = recoverable(tmp_path / str(number))
            work = item.work()
            assert not work.damaged
            last = int(work.labels.max()) - 1
            assert last >= max(promised, default=0), f"{promised[-1] - last} edits lost"
            expected = np.zeros((256, 256), np.uint16)
            for one in range(1, last + 1):
                row, col = (4 * one) % 252, (4 * (one // 63)) % 252
                expected[row : row + 4, col : col + 4] = one + 1
            np.testing.assert_array_equal(work.labels, expected)
            compared += len(promised)
    assert compared > 100


def test_two_processes_have_journals_of_their_own(folder: Path, writers: Writers) -> None:
    journal, _, _ = written(folder)
    pid, _ = writers.start(folder, 10**8, 0)
    while len(list(folder.glob("*.journal"))) < 2:
        time.sleep(0.005)
    assert recoverable(folder) == []
    kill(pid)
    (item,) = recoverable(folder)
    assert isinstance(item, Recoverable)
    assert item.path != journal.path
    journal.discard()
    assert list(folder.glob("*.journal")) == [item.path]


def test_a_patch_that_changes_nothing_known_is_no_trouble() -> None:
    change = LabelPatch((0, 0, 1, 1), np.ones((1, 1), bool), np.zeros(1, np.uint8), np.ones(1, np.uint8))
    found, _ = entry_of(b"".join(map(bytes, entry_bytes(JournalEdit(1, (PlaneChange(PLANE, change),)), 0.0))))
    assert isinstance(found, JournalEdit)
    assert found.changes[0].patch.after.tolist() == [1]
