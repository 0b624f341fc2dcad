"""`napari-samdepth everything` and `napari-samdepth words` on a real picture, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage import data, io

from napari_samdepth.cli import main
from tests.word_models import save_grounding_dino, save_sam3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a picture in it."""
    monkeypatch.chdir(tmp_path)
    io.imsave("coins.png", data.coins())
    return tmp_path


def test_everything_writes_labels_and_what_is_known_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "everything coins.png --points-per-side 8 --crop-n-layers 0 --min-area 300 --out all.tif --table all.csv"
    assert main(words.split()) == 0
    labels, table = tifffile.imread("all.tif"), pd.read_csv("all.csv", index_col="label")
    assert f"{len(table)} masks" in capsys.readouterr().out
    assert len(table) > 5
    assert set(np.unique(labels)) - {0} <= set(table.index)
    assert (table["predicted_iou"] > 0.7).all()
    assert (table["stability_score"] >= 0.5).all()
    assert set(table["parent"]) <= {0, *table.index}


@pytest.mark.parametrize(("save", "threshold"), [(save_grounding_dino, "0.97"), (save_sam3, "0.36")])
def test_words_write_named_labels(folder: Path, save: object, threshold: str) -> None:
    assert callable(save)
    model = str(save(folder / "model"))
    words = ["words", "round coin. nucleus.", "coins.png", "--detector", model, "--threshold", threshold]
    assert main([*words, "--out", "found.tif", "--table", "found.csv"]) == 0
    labels, table = tifffile.imread("found.tif"), pd.read_csv("found.csv", index_col="label")
    assert labels.shape == (303, 384)
    assert set(np.unique(labels)) - {0} == set(table.index)
    assert set(table["name"]) <= {"round coin", "nucleus"}
    assert (table["word_score"] > float(threshold)).all()


def _code(words: list[str]) -> int:
    """The exit code, whether argparse refuses the words or the command does."""
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["words", "coin.", "coins.png", "--out", "o.tif"], "not on this machine"),
        (["words", "coin.", "coins.png", "--out", "o.tif", "--detector", "./absent"], "no file or folder"),
        (["words", "...", "coins.png", "--out", "o.tif", "--detector", "model"], "Say what to look for"),
        (["words", "coin", "coins.png", "--out", "o.tif", "--detector", "model", "--threshold", "1"], "lower"),
        (["everything", "absent.png", "--out", "o.tif"], "no file absent.png"),
        (["everything", "coins.png", "--out", "o.tif", "--points-per-side", "0"], "whole number from 1 on"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    save_grounding_dino(folder / "model")
    capsys.readouterr()
    assert _code(["./model" if word == "model" else word for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("napari-samdepth")
    assert said in err
    assert "Traceback" not in err
    assert not Path("o.tif").exists()
