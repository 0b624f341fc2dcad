"""The command about encoded images on disk: what it counts and removes, and what it says where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from napari_samdepth.cli import main
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.storage.embeddings import EmbeddingCache

RGB = np.zeros((3, 4, 3), np.uint8)


def keep(count: int) -> None:
    cache = EmbeddingCache()
    for number in range(count):
        cache.keep(f"{number}", Embedding({"image": np.zeros(250_000, np.float32)}, (3, 4), (3, 4), "m"), RGB)
    assert cache.flush()


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 encoded images, 0.0 MB"), (1, "1 encoded image, 1.0 MB"), (3, "3 encoded images, 3.0 MB")],
)
def test_info_counts_and_clear_removes(count: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    keep(count)
    folder = Path(os.environ["NAPARI_SAMDEPTH_CACHE"]) / "embeddings"
    assert main(["cache", "info"]) == 0
    assert capsys.readouterr().out == f"{folder}: {said} of at most 4.00 GB\n"
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"{folder}: {said} removed\n"
    assert list(folder.glob("*")) == []
    assert main(["cache", "info"]) == 0
    assert "0 encoded images" in capsys.readouterr().out


def test_what_cannot_be_removed_is_said_in_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(1)

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["cache", "clear"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("napari-samdepth: cannot read or write ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["cache"], ["cache", "remove"], ["cache", "info", "more"]])
def test_other_words_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
