"""The docks without a window around them: choices that go stale, refusals, and what disabled controls say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QWheelEvent
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_samdepth.core.errors import LayerError
from napari_samdepth.widgets.inspect import InspectWidget
from napari_samdepth.widgets.parts import readable_error
from napari_samdepth.widgets.segment import SegmentWidget

pytestmark = pytest.mark.window


@pytest.fixture
def segment(qapp: QApplication, viewer_model: ViewerModel) -> Iterator[SegmentWidget]:
    made = SegmentWidget(viewer_model)
    yield made
    made.release()
    made.session.close()
    made.deleteLater()


@pytest.fixture
def inspect(qapp: QApplication, viewer_model: ViewerModel) -> Iterator[InspectWidget]:
    made = InspectWidget(viewer_model)
    yield made
    made.release()
    made.session.close()
    made.deleteLater()


def read(inspect: InspectWidget) -> None:
    """Press the button, and wait for the table."""
    inspect.read()
    assert inspect.session.wait(60)


def test_labels_made_for_one_image_do_not_serve_the_next(segment: SegmentWidget, viewer_model: ViewerModel) -> None:
    session, picture = segment.session, np.zeros((40, 50), dtype=np.uint8)
    picture[10:25, 10:30] = 200
    segment.image.choose(viewer_model.add_image(picture, name="first"))
    for expected in ("first masks", "second masks"):
        segment.start()
        viewer_model.layers["SAM prompts"].add([17, 20])
        assert session.accept() is None
        assert session.wait(60)
        assert session.masks.layer is viewer_model.layers[expected], session.state.message
        segment._on_layers()
        assert segment.target.layer is session.masks.layer
        segment.image.choose(viewer_model.add_image(picture[::-1], name="second"))
    segment.target.choose(None)
    segment._use_target()
    assert session.masks.layer is None


def test_a_table_that_cannot_be_read_is_not_shown_any_longer(
    inspect: InspectWidget, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = viewer_model.add_image(np.tile(np.linspace(0, 1, 50, dtype=np.float32), (40, 1)))
    labels = viewer_model.add_labels(np.repeat([[0, 1, 2, 0]], 40, axis=0).repeat([10, 15, 15, 10], axis=1))
    inspect.session.use_depth(ramp, "height")
    read(inspect)
    assert list(inspect.model.table.index) == [1, 2]

    def refuse(*_args: Any) -> None:
        raise LayerError("The view is in 3-D.")

    with monkeypatch.context() as patched:
        patched.setattr(inspect.session, "request_readout", refuse)
        patched.setattr(inspect.session, "show_label", refuse)
        inspect.view.selectRow(1)
        assert "3-D" in inspect.session.state.message
        inspect.read()
    assert len(inspect.model.table) == 0
    assert not inspect.save_button.isEnabled()
    read(inspect)
    assert inspect.session.state.message == ""
    assert len(inspect.model.table) == 2
    viewer_model.layers.remove(labels)
    inspect.read()
    assert "nothing to save" in inspect.save_button.toolTip()
    assert "no layer" in inspect.labels.toolTip()


def test_a_file_that_cannot_be_written_is_one_sentence(
    inspect: InspectWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    target = str(tmp_path / "a file" / "depth.csv")
    monkeypatch.setattr(QFileDialog, "exec", lambda _dialog: 1)
    monkeypatch.setattr(QFileDialog, "selectedFiles", lambda _dialog: [target])
    inspect.save()
    assert inspect.session.state.problem
    assert "a file" in inspect.session.state.message
    assert "Errno" not in inspect.session.state.message


def test_of_a_label_in_many_slices_the_row_of_the_shown_one_is_selected(
    inspect: InspectWidget, viewer_model: ViewerModel
) -> None:
    depth = viewer_model.add_image(np.random.default_rng(0).random((3, 20, 20), dtype=np.float32))
    labels = viewer_model.add_labels(np.zeros((3, 20, 20), dtype=np.int32))
    labels.data[:, 5:15, 5:15] = 1
    inspect.session.use_depth(depth, "height")
    viewer_model.dims.set_current_step(0, 0)
    read(inspect)
    inspect.view.selectRow(2)
    assert viewer_model.dims.current_step[0] == 2
    read(inspect)
    assert inspect.view.currentIndex().row() == 2


def test_a_low_window_scrolls_the_dock_instead_of_growing(segment: SegmentWidget, viewer_model: ViewerModel) -> None:
    segment.show()
    segment.session.start(viewer_model.add_image(np.zeros((40, 50), dtype=np.uint8)))
    assert segment.session.wait(60)
    for fold in (segment.everything, segment.words):
        fold.expand(animate=False)
    segment.refresh()
    QApplication.processEvents()
    assert segment.minimumSizeHint().height() <= 240
    assert segment.sizeHint().height() > 500, "where there is room nothing has to be scrolled"
    segment.resize(segment.minimumSizeHint())
    QApplication.processEvents()
    bar = segment.page.verticalScrollBar()
    assert bar is not None
    assert bar.maximum() > 200
    assert segment.page.content.width() <= segment.page.viewport().width()


def test_a_wheel_that_passes_by_changes_nothing(segment: SegmentWidget, viewer_model: ViewerModel) -> None:
    viewer_model.add_image(np.zeros((40, 50), dtype=np.uint8), name="first")
    viewer_model.add_image(np.zeros((40, 50), dtype=np.uint8), name="second")
    segment.session.start(segment.image.layer)
    assert segment.session.wait(60)
    segment.everything.expand(animate=False)
    segment.refresh()
    segment.resize(320, 300)
    segment.show()
    QApplication.processEvents()
    before = segment.image.layer, segment.everything.points.value
    for control in (segment.image, segment.everything.points.native):
        place = QPointF(5, 5)
        turned = QPoint(0, -120)
        event = QWheelEvent(
            place,
            QPointF(control.mapToGlobal(QPoint(5, 5))),
            turned,
            turned,
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(control, event)
        assert not event.isAccepted(), "Qt hands it on to the page"
    assert (segment.image.layer, segment.everything.points.value) == before


def test_labels_that_come_along_are_not_shown_as_what_masks_go_to(
    segment: SegmentWidget, viewer_model: ViewerModel
) -> None:
    picture = np.zeros((40, 50), dtype=np.uint8)
    picture[10:25, 10:30] = 200
    viewer_model.add_image(picture)
    segment.start()
    assert segment.session.wait(60)
    others = viewer_model.add_labels(np.zeros((40, 50), dtype=np.uint8), name="others")
    assert segment.target.layer is None
    viewer_model.layers["SAM prompts"].add([17, 20])
    assert segment.session.wait(60)
    assert segment.session.accept() == 1
    assert not others.data.any()
    assert segment.target.layer is viewer_model.layers["picture masks"]


def test_scores_are_shown_as_shares(segment: SegmentWidget) -> None:
    segment.session.state.scores = (1.012, -0.05, 0.5)
    segment.refresh()
    assert [button.text() for button in segment.masks] == ["1 · 1.00", "2 · 0.00", "3 · 0.50"]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_problems_can_be_read(theme: str) -> None:
    colour, behind = QColor(readable_error(theme)), QColor(get_theme(theme).background.as_hex())
    assert colour.red() > colour.blue() + 40, "it is a red still"
    assert abs(colour.lightnessF() - behind.lightnessF()) >= 0.35
