"""The command line: what it writes, and that every refusal is one sentence, code 2, and nothing half written."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage import data, io

from napari_samdepth.cli import main
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.readout import depth_readout, with_units
from napari_samdepth.storage.export import read_depth, write_depth, write_labels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a picture, labels and depth, in which the command runs; no models but the built-in ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_SAMDEPTH_MODELS", str(tmp_path / "models"))
    io.imsave("coins.png", data.coins(), check_contrast=False)
    labels = np.zeros((60, 80), dtype=np.int32)
    labels[5:25, 5:25], labels[30:50, 40:70] = 1, 300
    write_labels("labels.tif", labels)
    write_depth("depth.tif", DepthMap(np.mgrid[:60, :80][0] / 10, "distance", "m", "a ramp"))
    np.save("plain.npy", np.mgrid[:60, :80][1])
    np.save("small.npy", np.zeros((5, 5)))
    np.save("floats.npy", np.zeros((60, 80)))
    np.save("stack.npy", np.zeros((4, 5, 6, 7)))
    np.save("planes.npy", np.zeros((4, 60, 80), dtype=np.uint8))
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("complex.npy", np.zeros((60, 80), dtype=complex))
    Path("broken.png").write_bytes(b"no picture")
    Path("broken.pth").write_bytes(b"no checkpoint")
    Path("a_file").write_text("x")
    Path("a_folder").mkdir()
    return tmp_path


def call(*words: str) -> int:
    """Run the command in this process and return its exit code."""
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


SEGMENT = ("segment", "coins.png", "--out", "o.tif")
REFUSED = {
    "no command": ((), "COMMAND"),
    "unknown command": (("paint",), "paint"),
    "no such image": (("segment", "absent.png", "--point", "5,5", "--out", "o.tif"), "no file absent.png"),
    "broken image": (("segment", "broken.png", "--point", "5,5", "--out", "o.tif"), "broken.png cannot be read"),
    "four axes": (("depth", "stack.npy", "--out", "o.tif"), "(4, 5, 6, 7)"),
    "no prompt": (("segment", "coins.png", "--out", "o.tif"), "--point"),
    "half a point": (("segment", "coins.png", "--point", "5", "--out", "o.tif"), "ROW,COL"),
    "a point of words": (("segment", "coins.png", "--point", "a,b", "--out", "o.tif"), "'a,b'"),
    "a strange sign": (("segment", "coins.png", "--point", "5,5:2", "--out", "o.tif"), "'5,5:2'"),
    "point outside": (("segment", "coins.png", "--point", "5,900", "--out", "o.tif"), "5,900 lies outside"),
    "box the wrong way": (("segment", "coins.png", "--box", "50,50,10,10", "--out", "o.tif"), "--box: ROW_MIN must"),
    "box of no numbers": (("segment", "coins.png", "--box", "5,5,nan,9", "--out", "o.tif"), "--box: expected ROW"),
    "box outside": (("segment", "coins.png", "--box", "5,400,50,450", "--out", "o.tif"), "--box 5,400,50,450 lies"),
    "endless point": (("segment", "coins.png", "--point", "inf,5", "--out", "o.tif"), "argument --point: expected"),
    "scribble outside": ((*SEGMENT, "--scribble", "5,5 5,900"), "--scribble 5,900 lies"),
    "scribble of nothing": ((*SEGMENT, "--scribble", " "), "--scribble: expected 'ROW,COL"),
    "scribble of words": ((*SEGMENT, "--scribble", "a b"), "--scribble: expected 'ROW,COL"),
    "a strange scribble": ((*SEGMENT, "--scribble", "5,5 6,6:2"), "--scribble: expected"),
    "lasso of two": ((*SEGMENT, "--lasso", "5,5 6,6"), "at least three corners"),
    "lasso outside": ((*SEGMENT, "--lasso", "5,900 9,900 9,990"), "--lasso lies outside"),
    "short box": (("segment", "coins.png", "--box", "50,50,10", "--out", "o.tif"), "ROW_MAX"),
    "no out": (("segment", "coins.png", "--point", "5,5"), "--out"),
    "unknown model": (("segment", "coins.png", "--point", "5,5", "--model", "x", "--out", "o.tif"), "'x'"),
    "model not here": (
        ("segment", "coins.png", "--point", "5,5", "--model", "vit_b", "--out", "o.tif"), "models download vit_b",
    ),
    "no checkpoint": (("segment", "coins.png", "--point", "5,5", "--model", "./no.pth", "--out", "o.tif"), "no.pth"),
    "broken checkpoint": (
        ("segment", "coins.png", "--point", "5,5", "--model", "./broken.pth", "--out", "o.tif"), "broken.pth",
    ),
    "unknown device": (("depth", "coins.png", "--device", "abacus", "--out", "o.tif"), "abacus"),
    "depth model not here": (("depth", "coins.png", "--model", "dpt-large", "--out", "o.tif"), "download dpt-large"),
    "unknown kind": (("readout", "labels.tif", "depth.tif", "--kind", "deep", "--out", "o.csv"), "'deep'"),
    "kind not said": (("readout", "labels.tif", "plain.npy", "--out", "o.csv"), "--kind"),
    "no reading of words": (("readout", "labels.tif", "plain.npy", "--no-reading", "zero"), "none” or a number"),
    "labels of floats": (("readout", "floats.npy", "depth.tif", "--out", "o.csv"), "float64"),
    "sizes differ": (("readout", "labels.tif", "small.npy", "--kind", "height", "--out", "o.csv"), "has 5 and 5"),
    "depth of many planes": (("readout", "labels.tif", "stack.npy", "--kind", "height"), "stack.npy cannot be used"),
    "labels of many planes": (("readout", "planes.npy", "depth.tif", "--out", "o.csv"), "planes.npy cannot be used"),
    "image of words": (("depth", "words.npy", "--out", "o.tif"), "words.npy cannot be used"),
    "depth of complex numbers": (("readout", "labels.tif", "complex.npy", "--kind", "height"), "complex.npy cannot be"),
    "out in no folder": (("segment", "coins.png", "--point", "5,5", "--out", "no/o.tif"), "there is no folder no;"),
    "depth in no folder": (("depth", "coins.png", "--out", "no/o.tif"), "argument --out: there is no folder no;"),
    "everything in no folder": (("everything", "coins.png", "--out", "no/o.tif"), "there is no folder no;"),
    "words in no folder": (("words", "coin.", "coins.png", "--out", "no/o.tif"), "there is no folder no;"),
    "table in no folder": (("everything", "coins.png", "--out", "o.tif", "--table", "no/o.csv"), "no folder no;"),
    "readout in no folder": (("readout", "labels.tif", "depth.tif", "--out", "no/o.csv"), "there is no folder no;"),
    "demo in no folder": (("demo", "--out", "no/demo"), "there is no folder no;"),
    "demo in a file": (("demo", "--out", "a_file"), "a_file is a file"),
    "image is a folder": (("segment", "a_folder", "--point", "5,5", "--out", "o.tif"), "a_folder is a folder"),
    "out is a folder": (("segment", "coins.png", "--point", "5,5", "--out", "a_folder"), "a_folder is a folder"),
    "table is a folder": (("everything", "coins.png", "--out", "o.tif", "--table", "a_folder"), "is a folder"),
    "out of another format": (("depth", "coins.png", "--out", "o.png"), "must end in .tif"),
    "threshold above 1": (("everything", "coins.png", "--pred-iou-thresh", "7", "--out", "o.tif"), "from 0 to 1"),
    "out in a file": (("readout", "labels.tif", "depth.tif", "--out", "a_file/o.csv"), "a_file"),
    "unknown name": (("models", "path", "x"), "'x'"),
    "nothing to verify": (("models", "verify", "vit_b"), "not on this machine"),
    "nothing to fetch": (("models", "download", "builtin"), "ships with the package"),
    "path of an absent one": (("models", "path", "vit_h"), "not on this machine"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    words, said = REFUSED[case]
    before = sorted(folder.rglob("*"))
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("napari-samdepth")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in err
    # names of the library mean nothing to who typed options
    assert not re.search(r"Prompts|DepthMap|Plane\b|points_per_side|row_min", err)
    assert sorted(path for path in folder.rglob("*") if path.name != "models") == [
        path for path in before if path.name != "models"
    ]


def test_a_refusal_of_the_real_command_shows_no_traceback(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "napari_samdepth.cli", "depth", "broken.png", "--out", "o.tif"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert (
        run.stderr == "napari-samdepth: broken.png cannot be read as an image; give a TIFF, PNG, JPEG or .npy file.\n"
    )


def test_what_does_not_fit_into_memory_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("everything", "coins.png", "--points-per-side", "10000000", "--out", "o.tif") == 1
    assert "not enough memory for 728 TiB; give" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
def test_a_full_disk_is_said_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code = call("readout", "labels.tif", "depth.tif", "--out", "o.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert capsys.readouterr().err == "napari-samdepth: cannot read or write o.csv: File too large.\n"
    assert not [path for path in folder.iterdir() if path.name.startswith((".o", "o."))]


def test_readout_is_the_table_of_the_library(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = depth_readout(tifffile.imread("labels.tif"), read_depth("depth.tif"))
    assert call("readout", "labels.tif", "depth.tif", "--out", "table.csv") == 0
    table = pd.read_csv("table.csv", index_col="label", keep_default_na=False)
    assert "median [m]" in table.columns
    pd.testing.assert_frame_equal(table, with_units(expected), rtol=1e-6, check_dtype=False)
    assert "2 labels" in capsys.readouterr().out
    assert call("readout", "labels.tif", "depth.tif") == 0
    printed = pd.read_csv(StringIO(capsys.readouterr().out), index_col="label", keep_default_na=False)
    pd.testing.assert_frame_equal(printed, table)


def test_the_kind_given_is_the_kind_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nearest = {}
    for kind in ("height", "distance"):
        assert call("readout", "labels.tif", "plain.npy", "--kind", kind, "--out", f"{kind}.csv") == 0
        nearest[kind] = pd.read_csv(f"{kind}.csv", index_col="label")["rank"].idxmin()
    assert nearest == {"height": 300, "distance": 1}


def test_where_a_sensor_saw_nothing_is_said_and_can_be_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tifffile.imread("labels.tif")
    sensor = np.where(labels > 0, 900, 2000).astype(np.uint16)
    sensor[:, ::2] = 0
    np.save("sensor.npy", sensor)
    words = ("readout", "labels.tif", "sensor.npy", "--kind", "distance", "--unit", "mm")

    def shares() -> list[float]:
        return pd.read_csv(StringIO(capsys.readouterr().out))["valid_share"].tolist()

    assert call(*words, "--out", "table.csv") == 0
    assert "sensor.npy: 50 % of the pixels hold no reading (0) and are left out." in capsys.readouterr().err
    assert pd.read_csv("table.csv")["valid_share"].tolist() == [0.5, 0.5]
    assert call(*words, "--no-reading", "none") == 0
    assert shares() == [1, 1]
    assert call(*words, "--no-reading", "900") == 0
    assert shares() == [0.5, 0.5]
    assert call(*words, "--no-reading", "-9999") == 0
    assert shares() == [1, 1]


def test_segment_writes_the_coin_that_was_clicked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("segment", "coins.png", "--point", "58,44", "--point", "58,85:0", "--out", "coin.tif") == 0
    mask = tifffile.imread("coin.tif")
    assert mask.shape == (303, 384)
    assert mask.dtype == np.uint8
    assert mask[58, 44] == 1
    assert mask[58, 85] == 0
    rows, cols = np.mgrid[:303, :384]
    disc = (rows - 57) ** 2 + (cols - 44) ** 2 < 21**2
    assert (disc & (mask > 0)).sum() / (disc | (mask > 0)).sum() > 0.7
    assert f"{np.count_nonzero(mask)} px" in capsys.readouterr().out


def test_depth_writes_what_it_means(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("depth", "coins.png", "--out", "d.tif") == 0
    depth = read_depth("d.tif")
    assert depth.values.shape == (303, 384)
    assert depth.kind == "inverse"
    assert np.isfinite(depth.values).all()
    assert depth.values.std() > 0
    assert "inverse depth" in capsys.readouterr().out


def test_models_are_listed_with_what_is_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from napari_samdepth.models.registry import specs

    assert call("models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [entry.name for entry in specs()]
    assert "ships with it" in lines[0]
    assert call("models", "path") == 0
    assert capsys.readouterr().out.strip() == str(folder / "models")
    (folder / "models" / "vit_b").mkdir(parents=True)
    (folder / "models" / "vit_b" / "sam_vit_b_01ec64.pth").write_bytes(b"wrong")
    assert call("models", "path", "vit_b") == 0
    assert capsys.readouterr().out.strip().endswith("sam_vit_b_01ec64.pth")
    assert call("models", "verify", "vit_b") == 2
    assert "sha256" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("napari-samdepth ")
    for words in (["--help"], ["segment", "--help"], ["models", "--help"]):
        assert call(*words) == 0
        assert "usage: napari-samdepth" in capsys.readouterr().out


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _parsers(below)


def test_help_says_what_goes_into_every_option() -> None:
    from napari_samdepth.cli.parser import build_parser

    bare = [
        (parser.prog, action.dest)
        for parser in _parsers(build_parser())
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
        and (not action.help or (action.nargs != 0 and not action.metavar and not action.choices))
    ]
    assert bare == []


def test_a_folder_to_write_into_may_be_new(folder: Path) -> None:
    from napari_samdepth.cli.files import to_folder

    assert to_folder("fresh") == Path("fresh")
    assert to_folder("a_folder") == Path("a_folder")


def test_own_models_and_speeds_are_listed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_samdepth.models.runtime.hardware import hardware
    from napari_samdepth.storage.settings import OwnModel, change_settings

    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(folder / "settings"))
    own, gone = OwnModel("segment", str(folder / "broken.pth")), OwnModel("depth", str(folder / "gone"))
    for model in (own, gone):
        change_settings(lambda settings, model=model: settings.with_own(model))
    for machine, seconds in ((hardware("cpu"), 12.3), ("cuda · NVIDIA X", 0.21), ("cpu · another · 9 threads", 99.0)):
        change_settings(lambda kept, where=machine, took=seconds: kept.with_run("segment", "vit_b", where, took))
    change_settings(lambda settings: settings.with_run("segment", own.path, hardware("cpu"), 3.0))
    assert call("models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    listed = next(line for line in lines if line.startswith("vit_b "))
    assert "12 s on this CPU, 0.2 s on NVIDIA X" in listed
    assert "99 s" not in listed
    assert "2 min" not in listed
    assert "not measured yet" in lines[0]
    assert " ".join(lines[-2].split()) == f"broken.pth segment here 3 s on this CPU your own {own.path}"
    assert lines[-1].startswith("gone")
    assert "missing" in lines[-1]
    assert gone.path in lines[-1]
