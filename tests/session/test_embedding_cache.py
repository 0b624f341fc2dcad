"""An image that was encoded once is opened again without encoding, also by another session."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.models.builtin.segmenter import BuiltinSegmenter
from napari_samdepth.session.session import AnnotationSession, session_of

from .conftest import COIN, WAIT


def entries(count: int) -> list[Path]:
    """Return the files in the cache once there are `count`."""
    end = time.monotonic() + WAIT
    found: list[Path] = []
    while len(found) != count and time.monotonic() < end:
        found = sorted(Path(os.environ["NAPARI_SAMDEPTH_CACHE"]).rglob("*.embedding"))
        time.sleep(0.01)
    assert len(found) == count
    return found


def clicked(session: AnnotationSession, viewer: ViewerModel) -> NDArray[Any]:
    viewer.layers["SAM prompts"].add(list(COIN))
    assert session.wait(WAIT)
    assert session.accept() == 1
    labels: NDArray[Any] = session.masks.layer.data
    return labels


@pytest.fixture
def later(started: AnnotationSession, coins: NDArray[np.uint8]) -> Iterator[tuple[AnnotationSession, ViewerModel]]:
    """Return another viewer with the same picture and its session, once the first one's embedding is on disk."""
    entries(1)
    viewer = ViewerModel()
    viewer.add_image(coins, name="again")
    session = session_of(viewer)
    yield session, viewer
    session.close()
    viewer.layers.clear()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """Return a list that is told of every image that is encoded."""
    seen: list[NDArray[np.uint8]] = []
    encode = BuiltinSegmenter.encode

    def counted(self: Any, rgb: NDArray[np.uint8], *args: Any) -> Any:
        seen.append(rgb)
        return encode(self, rgb, *args)

    monkeypatch.setattr(BuiltinSegmenter, "encode", counted)
    return seen


def test_the_next_session_encodes_nothing_and_finds_the_same_mask(
    started: AnnotationSession,
    viewer_model: ViewerModel,
    later: tuple[AnnotationSession, ViewerModel],
    encoded: list[object],
) -> None:
    session, viewer = later
    session.start()
    assert session.wait(WAIT)
    assert session.state.phase == "ready"
    assert encoded == []
    np.testing.assert_array_equal(clicked(session, viewer), clicked(started, viewer_model))
    viewer.layers["again"].gamma = 0.7
    session.start()
    assert session.wait(WAIT)
    assert len(encoded) == 1, "another look is another picture"
    entries(2)


def test_a_damaged_entry_is_encoded_again(later: tuple[AnnotationSession, ViewerModel], encoded: list[object]) -> None:
    session, viewer = later
    (path,) = entries(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + bytes(64) + whole[5064:])
    session.start()
    assert session.wait(WAIT)
    assert len(encoded) == 1
    assert session.state.message == ""
    assert clicked(session, viewer).any()
    end = time.monotonic() + WAIT
    while path.read_bytes() != whole and time.monotonic() < end:
        time.sleep(0.01)
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_said_once_and_work_goes_on(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAPARI_SAMDEPTH_CACHE", str(tmp_path / "file"))
    session.start(image)
    assert session.wait(WAIT)
    assert session.state.phase == "ready"
    assert "kept in memory only" in session.state.message
    assert clicked(session, viewer_model).any()
    image.gamma = 0.8
    session.start(image)
    assert session.wait(WAIT)
    assert "memory only" not in session.state.message
