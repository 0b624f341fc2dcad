"""The list of models in a dock: own checkpoints chosen, remembered, missing and forgotten; what is said of the wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox

from napari_samdepth.models.runtime.hardware import hardware
from napari_samdepth.session.choices import Variant
from napari_samdepth.session.speed import keep
from napari_samdepth.widgets import models
from napari_samdepth.widgets.depth import DepthWidget
from napari_samdepth.widgets.models import OWN, ModelCombo
from napari_samdepth.widgets.segment import SegmentWidget

pytestmark = pytest.mark.window


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    hardware.cache_clear()
    return tmp_path


@pytest.fixture
def segment(qapp: QApplication, viewer_model: ViewerModel) -> Iterator[SegmentWidget]:
    viewer_model.add_image(np.zeros((20, 20), dtype=np.uint8), name="picture")
    made = SegmentWidget(viewer_model)
    assert made.session.wait(120)
    made.session.state.device = "cpu"
    made.refresh()
    yield made
    made.release()
    made.session.close()
    made.deleteLater()


@pytest.fixture
def depth(qapp: QApplication, viewer_model: ViewerModel) -> Iterator[DepthWidget]:
    made = DepthWidget(viewer_model)
    assert made.session.wait(120)
    yield made
    made.release()
    made.session.close()
    made.deleteLater()


def _pick_own(combo: ModelCombo) -> None:
    """Choose the last entry, as a click in the open list does."""
    last = combo.count() - 1
    assert combo.itemText(last) == OWN
    combo.setCurrentIndex(last)
    combo.activated.emit(last)


def test_an_own_checkpoint_is_asked_for_listed_and_found_in_the_next_window(
    segment: SegmentWidget, viewer_model: ViewerModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = folder / "mine.pth"
    checkpoint.write_bytes(b"\x80\x02")
    monkeypatch.setattr(models, "ask_for_own", lambda _parent, task: str(checkpoint) if task == "segment" else "")
    combo = segment.model.combo
    before = combo.count()
    _pick_own(combo)
    assert segment.model.choice.name == str(checkpoint)
    assert combo.currentText() == "mine.pth"
    assert combo.count() == before + 1
    assert combo.itemText(combo.count() - 1) == OWN
    assert str(checkpoint) in combo.itemData(combo.currentIndex(), Qt.ItemDataRole.ToolTipRole)
    assert str(checkpoint) in combo.toolTip()
    assert not segment.model.forget_button.isHidden()
    later = SegmentWidget(viewer_model)
    assert "mine.pth" in [later.model.combo.itemText(index) for index in range(later.model.combo.count())]
    later.release()
    later.deleteLater()

    segment.model.forget_button.click()
    assert segment.model.choice.name == "builtin"
    assert segment.model.forget_button.isHidden()
    assert combo.count() == before
    assert checkpoint.exists()


def test_a_checkpoint_that_is_gone_says_so_when_it_is_chosen(
    segment: SegmentWidget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = folder / "mine.pth"
    checkpoint.write_bytes(b"\x80\x02")
    monkeypatch.setattr(models, "ask_for_own", lambda *_args: str(checkpoint))
    _pick_own(segment.model.combo)
    assert segment.start_button.isEnabled()
    checkpoint.unlink()
    segment.refresh()
    assert segment.model.combo.currentText() == "missing · mine.pth"
    assert "no longer in" in segment.model.hint.text()
    assert not segment.model.hint.isHidden()
    assert not segment.start_button.isEnabled()
    assert "put it back" in segment.start_button.toolTip()
    segment.model.forget_button.click()
    assert segment.start_button.isEnabled()
    assert segment.model.hint.isHidden()


def test_what_is_no_model_is_refused_and_the_choice_stays(
    segment: SegmentWidget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment.model.combo.choose("vit_b")
    monkeypatch.setattr(models, "ask_for_own", lambda *_args: str(folder))
    _pick_own(segment.model.combo)
    assert segment.model.choice.name == "vit_b"
    assert segment.session.state.problem
    assert "config.json" in segment.session.state.message
    monkeypatch.setattr(models, "ask_for_own", lambda *_args: "")
    _pick_own(segment.model.combo)
    assert segment.model.combo.currentText() == segment.model.choice.title


def test_a_picture_is_refused_as_a_checkpoint_when_it_is_chosen(
    segment: SegmentWidget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = folder / "text.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setattr(models, "ask_for_own", lambda *_args: str(picture))
    _pick_own(segment.model.combo)
    assert segment.model.choice.name == "builtin"
    assert segment.session.state.problem
    assert "text.png is no checkpoint" in segment.message.text()


def test_before_a_download_its_size_is_said_once(segment: SegmentWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(_parent: object, _title: str, question: str) -> QMessageBox.StandardButton:
        asked.append(question)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", refuse)
    segment.model.combo.choose("vit_b")
    segment.start()
    assert asked == ["The weights of SAM ViT-B are not on this machine. Download 375 MB now?"]
    assert not segment.session.lane.busy("embed")


def test_a_segmenter_is_asked_for_as_a_file_or_a_folder(
    segment: SegmentWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["file", "folder", "Cancel"]
    presses = iter(wanted)

    def press(box: QMessageBox) -> int:
        assert "SAM 2 is a folder" in box.text()
        word = next(presses)
        made = next(each for each in box.buttons() if word in each.text())
        monkeypatch.setattr(box, "clickedButton", lambda: made)
        return 0

    monkeypatch.setattr(QMessageBox, "exec", press)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_args: ("a file.pth", ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_args: "a folder")
    assert [models.ask_for_own(segment, "segment") for _ in wanted] == ["a file.pth", "a folder", ""]


def test_a_depth_model_is_asked_for_as_a_folder(
    depth: DepthWidget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folder / "my dpt"
    own.mkdir()
    (own / "config.json").write_text(json.dumps({"model_type": "dpt"}))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_args: str(own))
    _pick_own(depth.model.combo)
    assert depth.model.choice.title == "my dpt"
    assert depth.model.choice.name == str(own)


def test_a_long_wait_is_foretold_and_measured_ones_say_so(segment: SegmentWidget) -> None:
    assert segment.model.hint.isHidden()
    segment.model.combo.choose("vit_b")
    assert segment.model.hint.text() == "On this CPU SAM ViT-B takes about 11 s to look at an image (an estimate)."
    assert not segment.model.hint.isHidden()
    assert "Licence: Apache-2.0" in segment.model.combo.toolTip()
    keep("segment", "vit_b", "cpu", 21.0)
    segment.refresh()
    assert segment.model.hint.text() == "On this CPU SAM ViT-B takes about 21 s to look at an image."
    assert "measured here" in segment.model.combo.toolTip()
    assert segment.model.choice.name == "vit_b"


def test_a_wheel_that_passes_by_chooses_nothing(segment: SegmentWidget) -> None:
    combo = segment.model.combo
    here, none = QPointF(5, 5), QPoint(0, 0)
    turn = QWheelEvent(
        here, here, none, QPoint(0, -120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(combo, turn)
    assert combo.currentIndex() == 0


def test_faster_and_less_exact_is_offered_where_it_means_something(
    segment: SegmentWidget, depth: DepthWidget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segment.model.coarser.isHidden()
    assert depth.model.coarser.isHidden()
    depth.model.combo.choose("dpt-large")
    assert not depth.model.coarser.isHidden()
    segment.model.combo.choose("vit_b")
    assert not segment.model.coarser.isHidden()
    assert segment.model.variant == Variant("vit_b")
    segment.model.coarser.setChecked(True)
    assert segment.model.variant == Variant("vit_b", "bfloat16")
    asked = []
    monkeypatch.setattr("napari_samdepth.session.encoding.load_segmenter", lambda *a, **b: asked.append((a, b)))
    monkeypatch.setattr("napari_samdepth.widgets.segment.may_use", lambda *_: True)
    segment.start()
    assert segment.session.wait(60)
    assert [(names, more["precision"]) for names, more in asked] == [(("vit_b",), "bfloat16")]
    segment.model.combo.choose("builtin")
    assert segment.model.coarser.isHidden()
    assert segment.model.variant == Variant("builtin")
