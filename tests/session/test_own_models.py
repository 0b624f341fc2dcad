"""Own models in the real format, small and random: remembered, loaded, clicked with, measured, listed later on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_samdepth.models.runtime.device import choose_device
from napari_samdepth.models.runtime.hardware import hardware
from napari_samdepth.session import encoding
from napari_samdepth.session.choices import model_choices, remember_own
from napari_samdepth.session.session import AnnotationSession, session_of
from napari_samdepth.storage.settings import load_settings

from ..models.depth.test_transformers_depth import depth_folder
from ..models.sam.test_sam2 import sam2_folder
from .conftest import COIN, WAIT
from .test_session import click

__all__ = ["depth_folder", "sam2_folder"]


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path / "settings"))


def _measured(task: str, model: str, device: str) -> int:
    kept = load_settings().timing(task, model, hardware(device))
    return 0 if kept is None else len(kept.seconds)


def test_an_own_sam_2_answers_clicks_in_this_session_and_the_next(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel, sam2_folder: Path
) -> None:
    name = remember_own("segment", sam2_folder)
    session.start(image, model=name)
    assert session.wait(WAIT)
    assert session.state.phase == "ready", session.state.message
    click(session, viewer_model, *COIN)
    assert session.state.scores
    assert _measured("segment", name, session.state.device) == 1

    session.close()
    viewer_model.layers.clear()
    later = session_of(viewer_model)
    listed = model_choices("segment", "cpu")[-1]
    assert listed.name == name
    later.start(viewer_model.add_image(np.asarray(image.data)), model=listed.name)
    assert later.wait(WAIT)
    assert later.state.phase == "ready", later.state.message
    assert _measured("segment", name, later.state.device) == 1, "it is opened again without encoding"
    assert image is not None
    later.image.data = np.asarray(image.data)[::-1].copy()
    later.start(later.image, model=listed.name)
    assert later.wait(WAIT)
    assert _measured("segment", name, later.state.device) == 2
    later.close()


def test_an_own_depth_model_makes_a_depth_layer(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel, depth_folder: Callable[[str], Path]
) -> None:
    name = remember_own("depth", depth_folder("dpt-large"))
    session.add_depth(model=name, image_layer=image)
    assert session.wait(WAIT)
    assert not session.state.problem, session.state.message
    assert viewer_model.layers["coins depth"].data.std() > 0
    assert "dpt-large" in session.state.depth_text
    assert _measured("depth", name, choose_device().name) == 1


def test_a_cancelled_load_is_not_tried_again_by_a_click(
    started: AnnotationSession, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def slow(name: str, **options: Any) -> Any:
        loads.append(name)
        while True:
            options["report"](0.5, "downloading")
            time.sleep(0.01)

    monkeypatch.setattr(encoding, "load_segmenter", slow)
    started.start(model="sam2.1-tiny")
    end = time.monotonic() + 30
    while not loads and time.monotonic() < end:
        time.sleep(0.01)
    started.stop()
    viewer_model.layers["SAM prompts"].add((58, 44))
    assert started.wait(WAIT)
    assert loads == ["sam2.1-tiny"]
    assert started.state.message == "The model is not loaded; press Start to load it."
    monkeypatch.undo()
    started.start()
    assert started.wait(WAIT)
    assert started.state.phase == "ready"
