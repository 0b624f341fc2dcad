"""Files of the command line: what is read is never written over, and what is there only with --overwrite."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_samdepth.cli import main
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.storage.export import write_depth, write_labels

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, modes and devices of POSIX")
READOUT = ("readout", "labels.tif", "depth.tif")
DEPTH = ("depth", "scan.tif")
SEGMENT = ("segment", "scan.tif", "--point", "50,60")
EVERYTHING = ("everything", "scan.tif", "--points-per-side", "4", "--crop-n-layers", "0")
WORDS = ("words", "coin.", "scan.tif")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a picture, labels and depth."""
    monkeypatch.chdir(tmp_path)
    row, col = np.mgrid[:160, :220]
    tifffile.imwrite("scan.tif", np.where((row - 50) ** 2 + (col - 60) ** 2 < 324, 40000, 8000).astype(np.uint16))
    labels = np.zeros((60, 80), dtype=np.uint8)
    labels[5:25, 5:25] = 1
    write_labels("labels.tif", labels)
    write_depth("depth.tif", DepthMap(np.mgrid[:60, :80][0] / 10, "distance", "m", "a ramp"))
    return tmp_path


def call(*words: str) -> int:
    """Run the command in this process and return its exit code."""
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
@pytest.mark.parametrize("name", ["scan.tif", "./scan.tif", "absolute", "up.tif", "soft.tif", "hard.tif"])
@pytest.mark.parametrize("command", [DEPTH, SEGMENT, EVERYTHING, WORDS])
def test_the_picture_is_never_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], name: str, more: tuple[str, ...]
) -> None:
    if name in ("soft.tif", "hard.tif"):
        (os.symlink if name == "soft.tif" else os.link)("scan.tif", name)
    name = {"absolute": str(folder / "scan.tif"), "up.tif": f"../{folder.name}/scan.tif"}.get(name, name)
    before = contents(folder)
    assert call(*command, "--out", name, *more) == 2
    err = capsys.readouterr().err
    assert "is the file given as IMAGE; give the result another name." in err
    assert err.count("\n") == 1
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*READOUT, "--out", "labels.tif"), "given as LABELS"),
        ((*READOUT, "--out", "depth.tif", "--overwrite"), "given as DEPTH"),
        ((*EVERYTHING, "--out", "o.tif", "--table", "scan.tif", "--overwrite"), "--table scan.tif is the file given"),
        ((*DEPTH, "--model", "./labels.tif", "--out", "labels.tif", "--overwrite"), "given as --model"),
        ((*EVERYTHING, "--out", "o.tif", "--table", "o.tif"), "--out and --table are one file, o.tif"),
        ((*EVERYTHING, "--out", "o.tif", "--table", "./o.tif"), "are one file"),
        ((*EVERYTHING, "--out", "o.tif", "--table", "O.TIF"), "are one file"),
        ((*WORDS, "--out", "o.tif", "--table", "o.tif", "--overwrite"), "are one file"),
        ((*READOUT, "--out", "there.csv"), "there.csv exists already; give another name, or --overwrite"),
        ((*DEPTH, "--out", "there.tif"), "there.tif exists already"),
        ((*SEGMENT, "--out", "there.tif"), "there.tif exists already"),
        ((*EVERYTHING, "--out", "there.tif"), "there.tif exists already"),
        ((*EVERYTHING, "--out", "o.tif", "--table", "there.csv"), "there.csv exists already"),
        ((*WORDS, "--out", "there.tif"), "there.tif exists already"),
        (("demo", "--no-show", "--out", "demo"), "coins_table.csv exists already"),
        ((*READOUT, "--out", "a" * 256), "File name too long"),
        ((*READOUT, "--out", "a" * 256 + "/o.csv"), "File name too long"),
        ((*DEPTH, "--out", "a" * 252 + ".tif"), "File name too long"),
        (("demo", "--out", "a" * 256), "File name too long"),
        (("depth", "a" * 256, "--out", "o.tif"), "File name too long"),
        (("readout", "a" * 256, "depth.tif"), "File name too long"),
        (("readout", "labels.tif", "a" * 256), "File name too long"),
        ((*READOUT, "--out", "loop.csv"), "loop.csv cannot be written"),
        ((*READOUT, "--out", "astray.csv"), "there is no folder"),
    ],
)
def test_refused_before_anything_is_computed(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    Path("there.csv").write_text("mine")
    Path("there.tif").write_text("mine")
    Path("demo").mkdir()
    Path("demo/coins_table.csv").write_text("mine")
    if "loop.csv" in words or "astray.csv" in words:
        os.symlink("loop.csv", "loop.csv")
        os.symlink("nowhere/o.csv", "astray.csv")
    before = contents(folder)
    assert call(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("napari-samdepth")
    assert err.count("\n") == 1
    assert contents(folder) == before


@posix
def test_overwrite_replaces_the_file_and_keeps_link_and_mode(folder: Path) -> None:
    Path("real.csv").write_text("mine")
    Path("real.csv").chmod(0o400)
    os.symlink("real.csv", "link.csv")
    assert call(*READOUT, "--out", "link.csv") == 2
    assert Path("real.csv").read_text() == "mine"
    assert call(*READOUT, "--out", "link.csv", "--overwrite") == 0
    assert pd.read_csv("real.csv")["label"].tolist() == [1]
    assert Path("link.csv").is_symlink()
    assert stat.S_IMODE(Path("real.csv").stat().st_mode) == 0o400


def test_every_command_that_writes_overwrites_when_told(folder: Path) -> None:
    for command in (DEPTH, SEGMENT, EVERYTHING):
        Path("o.tif").write_text("mine")
        assert call(*command, "--out", "o.tif", "--overwrite") == 0
        assert tifffile.imread("o.tif").shape == (160, 220)
    Path("o.csv").write_text("mine")
    assert call(*EVERYTHING, "--out", "o.tif", "--table", "o.csv", "--overwrite") == 0
    assert "predicted_iou" in Path("o.csv").read_text()


@posix
def test_results_can_go_to_standard_output(folder: Path) -> None:
    command = [sys.executable, "-m", "napari_samdepth.cli"]
    run = subprocess.run([*command, *READOUT, "--out", "/dev/stdout"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("label,")
    assert run.stdout.count("\n") == 2
    assert run.stderr == "/dev/stdout: 1 labels\n"
    with Path("o.csv").open("wb") as out:
        subprocess.run([*command, *READOUT, "--out", "/dev/stdout"], stdout=out, check=True, stderr=subprocess.DEVNULL)
    assert Path("o.csv").read_text() == run.stdout
    assert call(*EVERYTHING, "--out", "/dev/null", "--table", "/dev/null") == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_that_may_not_be_written_to_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("shut").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != Path("shut"))  # root may do anything
    assert call(*READOUT, "--out", "shut/o.csv") == 2
    assert "nothing can be written to the folder shut" in capsys.readouterr().err
