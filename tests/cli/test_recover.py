"""The command that writes unsaved labels: what it finds, writes, and leaves alone."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tifffile import imread

import napari_samdepth
from napari_samdepth.cli import main
from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.journal import (
    JournalEdit,
    JournalHeader,
    LabelPrompts,
    LayerReference,
    PlaneChange,
    PlanePosition,
)
from napari_samdepth.core.labelling import write_mask
from napari_samdepth.storage.journal import Journal
from napari_samdepth.storage.prompts import PromptStore, labels_digest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("Prompts"):
            thread.join()


def crash(name: str = "coins", path: str = "", count: int = 3, shape: tuple[int, ...] = (20, 30)) -> np.ndarray:
    """Leave a journal as a process that died would, and return its labels."""
    labels = np.zeros(shape, np.uint16)
    header = JournalHeader(
        LayerReference(name, path, shape, "uint8", "digest"),
        LayerReference("SAM masks", "", shape, "uint16"),
        time.time(),
        "0",
    )
    journal = Journal(header)
    for number in range(1, count + 1):
        plane = PlanePosition(len(shape) - 2, len(shape) - 1, (number % 2,) * len(shape))
        change = write_mask(plane.take(labels), Patch(np.ones((3, 3), bool), (4 * number, 5)), 99 + number)
        assert change is not None
        change.apply(plane.take(labels))
        said = {99 + number: {"name": f"größe {number}", "class": "coin"}} if number > 1 else {}
        prompts = (LabelPrompts(99 + number, np.ones((1, 2)), np.ones(1, np.int64)),)
        journal.edit(JournalEdit(journal.next_number(), (PlaneChange(plane, change),), (99 + number,), prompts, said))
    journal.close()
    return labels


def test_labels_are_written_and_stay_recoverable_until_they_are_discarded(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = crash()
    (item,) = napari_samdepth.recoverable()
    assert (item.name, item.labels) == ("coins", 3)
    assert main(["recover", "--out", "out"]) == 0
    (path,) = (here / "out").glob("*.tif")
    assert path.name.startswith("coins-SAM-masks-")
    np.testing.assert_array_equal(imread(path), labels)
    wait_for_threads()
    assert list(PromptStore().load("digest", labels_digest(imread(path)))) == [100, 101, 102]
    table = pd.read_csv(path.with_suffix(".csv"), index_col="label")
    assert table.loc[102].to_dict() == {"name": "größe 3", "class": "coin"}
    out = capsys.readouterr().out
    assert out.startswith(f"out/{path.name}: coins, ")
    assert "3 labels" in out
    assert "still be restored" in out
    assert main(["recover", "--out", "out", "--discard"]) == 0
    assert len(list((here / "out").glob("*.tif"))) == 2, "nothing is overwritten"
    assert napari_samdepth.recoverable() == []
    assert main(["recover"]) == 0
    assert capsys.readouterr().out.endswith("There is no unsaved work.\n")


def test_a_list_says_what_there_is_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there.tif").touch()
    crash("a stack", str(here / "there.tif"), 2, (2, 20, 30))
    crash("b/../c", "/gone/picture.tif", 1)
    assert main(["recover", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    (one,) = [line for line in lines if line.startswith("b/../c, ")]
    assert one.endswith("1 label of /gone/picture.tif, which is gone")
    (two,) = [line for line in lines if line.startswith("a stack, ")]
    assert two.endswith(f"2 labels of {here / 'there.tif'}")
    assert not list(here.rglob("*SAM*"))
    assert main(["recover"]) == 0
    assert sorted(imread(path).shape for path in (here / "recovered").glob("*.tif")) == [(2, 20, 30), (20, 30)]
    assert all(path.parent == here / "recovered" for path in here.rglob("*SAM*"))


def test_discard_alone_removes_without_writing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crash()
    assert main(["recover", "--discard"]) == 0
    assert capsys.readouterr().out.startswith("discarded: coins, ")
    assert napari_samdepth.recoverable() == []
    assert not list(here.rglob("*.tif"))


def test_work_of_a_living_session_is_left_alone() -> None:
    crash()
    (item,) = napari_samdepth.recoverable()
    journal, _ = item.resume()
    assert main(["recover", "--discard"]) == 0
    assert journal.path.exists()
    journal.close()
    assert len(napari_samdepth.recoverable()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--list", "--discard"], "--list only says"),
        (["--out", "a_file"], "a_file is a file"),
        (["--out", "no/folder"], "there is no folder no"),
        (["more"], "unrecognized arguments"),
    ],
)
def test_refusals_are_one_sentence_and_lose_nothing(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a_file").touch()
    crash()
    try:
        code = main(["recover", *words])
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    assert code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert len(napari_samdepth.recoverable()) == 1


def test_a_disk_that_refuses_is_said_and_the_work_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    crash()

    def refuse(_file: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("napari_samdepth.storage.atomic.os.fsync", refuse)
        assert main(["recover", "--out", "out", "--discard"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert len(napari_samdepth.recoverable()) == 1
