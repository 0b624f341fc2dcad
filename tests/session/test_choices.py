"""Models to choose from: the catalog's, the user's own, remembered, gone and forgotten; and their speed here."""

from __future__ import annotations

import errno
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.models.runtime.device import choose_device
from napari_samdepth.models.runtime.hardware import hardware
from napari_samdepth.session.choices import (
    ChoiceError,
    ModelChoice,
    forget_own,
    model_choices,
    remember_own,
    short_name,
)
from napari_samdepth.session.session import AnnotationSession
from napari_samdepth.session.speed import expected, keep, timed
from napari_samdepth.storage.settings import OwnModel, change_settings, load_settings

from .conftest import WAIT

PICKLE = b"\x80\x02"
"""How a checkpoint of torch begins: a file may be chosen that begins so."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("NAPARI_SAMDEPTH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    hardware.cache_clear()
    return tmp_path


def _named(name: str, task: Any = "segment", device: str = "cpu") -> ModelChoice:
    return next(choice for choice in model_choices(task, device) if choice.name == name)


def test_own_models_stand_last_under_their_file_names(folder: Path) -> None:
    checkpoint = folder / "my sam.pth"
    checkpoint.write_bytes(PICKLE)
    name = remember_own("segment", checkpoint)
    assert remember_own("segment", str(checkpoint)) == name == str(checkpoint)
    choices = model_choices("segment")
    assert [choice.name for choice in choices].count(name) == 1
    last = choices[-1]
    assert (last.name, last.title, last.own, last.present, last.problem) == (name, "my sam.pth", True, True, "")
    assert str(checkpoint) in last.tooltip
    assert not [choice for choice in model_choices("depth") if choice.own]
    assert short_name(name) == "my sam.pth"
    assert short_name("vit_b") == "vit_b"


def test_own_models_of_one_name_are_told_apart_by_their_folders(folder: Path) -> None:
    for run in ("run 1", "run 2"):
        (folder / run).mkdir()
        (folder / run / "best.pth").write_bytes(PICKLE)
        remember_own("segment", folder / run / "best.pth")
    assert [choice.title for choice in model_choices("segment") if choice.own] == [
        "best.pth (run 1)",
        "best.pth (run 2)",
    ]


def test_a_model_that_has_gone_stays_marked_says_what_to_do_and_can_be_forgotten(folder: Path) -> None:
    checkpoint = folder / "sam.pth"
    checkpoint.write_bytes(PICKLE)
    name = remember_own("segment", checkpoint)
    checkpoint.unlink()
    gone = _named(name)
    assert gone.title == "missing · sam.pth"
    assert gone.problem == f"“sam.pth” is no longer in {folder}; put it back there, or forget it with ✕."
    checkpoint.write_bytes(PICKLE)
    assert not _named(name).problem
    forget_own("segment", name)
    assert not [choice for choice in model_choices("segment") if choice.own]
    assert checkpoint.exists()


def test_what_is_no_model_is_refused_and_not_remembered(folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    llama = folder / "llama"
    llama.mkdir()
    (llama / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "sam.pth").touch()
    for task, path, said in (
        ("segment", folder / "absent.pth", "no file or folder"),
        ("segment", empty, "config.json"),
        ("segment", llama, "llama"),
        ("depth", folder / "sam.pth", "folder with config.json"),
    ):
        with pytest.raises(ChoiceError, match=said):
            remember_own(task, path)  # type: ignore[arg-type]
    assert load_settings().own == ()


@pytest.mark.parametrize("name", ["text.png", "notes.txt", "really a picture.pth", "archive.pt", "empty.pth", "cut.pt"])
def test_a_file_that_holds_no_weights_is_refused_when_it_is_chosen(folder: Path, name: str) -> None:
    path = folder / name
    if name == "archive.pt":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("letter.txt", "dear all")
    else:
        start = {"notes.txt": b"{1234567{ and more", "empty.pth": b"", "cut.pt": b"PK\x03\x04, and then nothing"}
        path.write_bytes(start.get(name, b"\x89PNG\r\n\x1a\n and so on"))
    said = "is cut off or damaged" if name == "cut.pt" else "is no checkpoint"
    with pytest.raises(ChoiceError, match=said) as refused:
        remember_own("segment", path)
    assert str(path) in str(refused.value)
    assert load_settings().own == ()


@pytest.mark.parametrize("kind", ["torch", "torch of old", "safetensors"])
def test_files_of_torch_and_safetensors_are_taken(folder: Path, kind: str) -> None:
    import torch
    from safetensors.torch import save_file

    path, weights = folder / "weights", {"a": torch.zeros(3)}
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "torch")
    assert remember_own("segment", path) == str(path)


def test_where_nothing_can_be_written_one_sentence_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a file").touch()
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(folder / "a file"))
    (folder / "sam.pth").write_bytes(PICKLE)
    with pytest.raises(ChoiceError, match=r"cannot be remembered \(.+\); check the disk"):
        remember_own("segment", folder / "sam.pth")
    keep("segment", "vit_b", "cpu", 1.0)


def test_an_own_model_is_loaded_by_its_path_and_a_bad_one_is_said(
    session: AnnotationSession, image: Image, folder: Path
) -> None:
    checkpoint = folder / "broken.pth"
    checkpoint.write_bytes(PICKLE + b"no checkpoint")
    session.start(image, model=remember_own("segment", checkpoint))
    assert "broken.pth" in session.state.task
    assert str(folder) not in session.state.task
    assert session.wait(WAIT)
    assert session.state.problem
    assert str(checkpoint) in session.state.message


def test_each_model_says_what_it_is_good_for_its_licence_size_and_speed() -> None:
    for task in ("segment", "depth", "text"):
        for choice in model_choices(task, "cpu"):  # type: ignore[arg-type]
            assert "Licence: " in choice.tooltip
            assert "ships with the package" in choice.tooltip or "MB" in choice.tooltip
            assert "measured here" in choice.tooltip


def test_before_it_is_measured_a_long_wait_is_called_an_estimate() -> None:
    large = _named("vit_b")
    assert "Not yet measured here; roughly estimated, 11 s an image on this CPU." in large.tooltip
    assert large.hint == "On this CPU SAM ViT-B takes about 11 s to look at an image (an estimate)."
    assert _named("builtin").hint == ""
    assert _named("vit_b", device="cuda").hint == ""
    assert _named("vit_b", device="").hint == ""


def test_more_cores_are_expected_to_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    two = expected("segment", "vit_b", "cpu", 11.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    hardware.cache_clear()
    many = expected("segment", "vit_b", "cpu", 11.0)
    assert two is not None
    assert many is not None
    assert many.seconds == two.seconds / 4


def test_once_measured_the_measurement_counts_on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (14.0, 12.0, 13.0):
        keep("segment", "vit_b", "cpu", seconds)
    measured = _named("vit_b")
    assert "About 13 s an image on this CPU, measured here." in measured.tooltip
    assert measured.hint == "On this CPU SAM ViT-B takes about 13 s to look at an image."
    keep("depth", "dpt-large", "cpu", 0.5)
    assert _named("dpt-large", "depth").hint == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    hardware.cache_clear()
    assert "(an estimate)" in _named("vit_b").hint


def test_the_first_image_of_each_model_is_measured_on_the_lane(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.start(image)
    session.add_depth()
    assert session.wait(WAIT)
    device = choose_device().name
    here = hardware(device)
    for task in ("segment", "depth"):
        kept = load_settings().timing(task, "builtin", here)
        assert kept is not None
        assert len(kept.seconds) == 1
        assert 0 < kept.typical < WAIT
    session.start(image)
    assert session.wait(WAIT)
    again = load_settings().timing("segment", "builtin", here)
    assert again is not None
    assert len(again.seconds) == 1, "what was encoded before is not encoded, and not measured, again"
    image.gamma = 0.7
    session.start(image)
    assert session.wait(WAIT)
    more = load_settings().timing("segment", "builtin", here)
    assert more is not None
    assert len(more.seconds) == 2
    assert "measured here" in _named("builtin", device=device).tooltip


def test_failed_and_cancelled_runs_are_not_kept(
    session: AnnotationSession, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.start(image)
    session.wait(WAIT)
    before = load_settings()
    segmenter = session._annotator.planes._segmenters["builtin"]

    def fail(rgb: object, report: object = None) -> None:
        raise RuntimeError("out of memory")

    def linger(rgb: object, report: Any = None) -> None:
        while True:
            report(0.5, "encoding")
            time.sleep(0.01)

    for encode in (fail, linger):
        monkeypatch.setattr(segmenter, "encode", encode)
        image.gamma = image.gamma * 0.9
        session.start(image)
        if encode is linger:
            time.sleep(0.2)
            session.stop()
        assert session.wait(WAIT)
    assert load_settings() == before


def test_a_run_that_moved_to_another_device_is_not_kept(
    session: AnnotationSession, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.start(image)
    assert session.wait(WAIT)
    before = load_settings()
    segmenter = session._annotator.planes._segmenters["builtin"]
    encode, devices = segmenter.encode, ["cuda"]
    monkeypatch.setattr(type(segmenter), "device", property(lambda _self: devices[-1]))

    def encode_elsewhere(rgb: Any, report: Any = None) -> Any:
        devices.append("cpu")
        return encode(rgb, report)

    monkeypatch.setattr(segmenter, "encode", encode_elsewhere)
    image.gamma = 0.5
    session.start(image)
    assert session.wait(WAIT)
    assert devices[-1] == "cpu"
    assert load_settings() == before


def test_time_spent_on_clicks_in_between_does_not_count() -> None:
    def report(_done: float, _what: str) -> None:
        time.sleep(0.3)

    def work(tell: Any) -> str:
        for step in range(3):
            tell(step / 3, "at work")
            time.sleep(0.02)
        return "done"

    result, seconds = timed(work, report)
    assert result == "done"
    assert 0.06 <= seconds < 0.4


def test_what_nobody_waits_for_at_the_end_is_not_measured() -> None:
    def report(done: float, _what: str) -> None:
        if done == 1.0:
            raise Cancelled

    with pytest.raises(Cancelled):
        timed(lambda _tell: np.zeros(1), report)


@pytest.fixture
def closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models that may not be looked into, for root as well."""
    place = folder / "models"
    (place / "vit_b").mkdir(parents=True)
    (place / "own.pth").write_bytes(PICKLE)
    real = os.stat

    def look(path: Any, *more: Any, **how: Any) -> os.stat_result:
        if isinstance(path, (str, os.PathLike)) and place in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *more, **how)

    monkeypatch.setattr(os, "stat", look)
    return place


def test_a_models_folder_that_cannot_be_read_is_said_and_raises_nothing(closed: Path) -> None:
    change_settings(lambda settings: settings.with_own(OwnModel("segment", str(closed / "own.pth"))))
    choice = _named("vit_b")
    assert not choice.present
    assert choice.problem == (
        f"{closed} cannot be read (Permission denied); check its permissions, or set NAPARI_SAMDEPTH_MODELS to another "
        "folder."
    )
    assert _named("builtin").problem == ""
    assert _named(str(closed / "own.pth")).problem == (
        "“own.pth” cannot be read (Permission denied); check its permissions, or forget it with ✕."
    )
    assert all(choice.problem for task in ("depth", "text") for choice in model_choices(task) if not choice.present)
    with pytest.raises(ModelError, match="cannot be read"):
        load_segmenter("vit_b", download=False)
    with pytest.raises(ChoiceError, match="cannot be read"):
        remember_own("segment", closed / "own.pth")
