"""The Inspect dock: large layers, a table that stays where it is, and where it says what is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QMessageBox

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.readout import depth_readout
from napari_samdepth.session import readouts
from napari_samdepth.widgets.inspect import InspectWidget
from napari_samdepth.widgets.table import TableModel

pytestmark = pytest.mark.window


@pytest.fixture
def inspect(qapp: QApplication, viewer_model: ViewerModel) -> Iterator[InspectWidget]:
    made = InspectWidget(viewer_model)
    yield made
    made.release()
    made.session.close()
    made.deleteLater()


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.005)


def squares(side: int, step: int) -> Any:
    """Return labels (side, side): squares with gaps between them, numbered from 1."""
    at = np.arange(side)
    number = (at[:, None] // step) * (side // step) + at // step + 1
    inside = at % step < 0.8 * step
    return np.where(inside[:, None] & inside, number, 0).astype(np.int32)


def add(inspect: InspectWidget, labels: Any) -> Labels:
    ramp = np.broadcast_to(np.linspace(0, 1, labels.shape[1], dtype=np.float32), labels.shape)
    inspect.session.use_depth(inspect.viewer.add_image(ramp, name="ramp", contrast_limits=(0, 1)), "height")
    return inspect.viewer.add_labels(labels, name="squares")


def test_the_window_is_alive_while_a_large_layer_is_read(
    inspect: InspectWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(inspect, squares(4096, 64))
    span: list[float] = []
    compute = readouts.depth_readout

    def timed(*args: Any) -> pd.DataFrame:
        span.append(time.monotonic())
        table = compute(*args)
        span.append(time.monotonic())
        return table

    monkeypatch.setattr(readouts, "depth_readout", timed)
    ticks: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(10)
    inspect.show()
    inspect.read_button.click()
    until(lambda: len(inspect.model.table) == 64 * 64)
    timer.stop()
    during = [tick for tick in ticks if span[0] < tick < span[1]]
    assert len(during) >= 5, f"{len(during)} ticks in {span[1] - span[0]:.2f} s"


def test_clicks_do_not_wait_for_a_readout(inspect: InspectWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    add(inspect, squares(64, 16))
    gate, answers = threading.Event(), list[str]()

    def wait(*_args: Any) -> pd.DataFrame:
        assert gate.wait(60)
        return pd.DataFrame({"area": [1], "valid_share": [1.0]}, index=pd.Index([1], name="label"))

    monkeypatch.setattr(readouts, "depth_readout", wait)
    inspect.read()
    inspect.session.lane.submit("decode", lambda _report: "mask", answers.append, pytest.fail, urgent=True)
    until(lambda: answers == ["mask"])
    until(lambda: inspect.read_button.text() == "Reading…")
    gate.set()
    until(lambda: len(inspect.model.table) == 1)
    assert inspect.read_button.text() == "Read out"


def test_the_table_stays_where_it_is_when_it_is_read_again(inspect: InspectWidget) -> None:
    layer = add(inspect, squares(320, 16))
    inspect.resize(360, 500)
    inspect.show()
    until(lambda: len(inspect.model.table) == 400)
    view = inspect.view
    view.selectRow(200)
    down, across = view.verticalScrollBar(), view.horizontalScrollBar()
    assert down is not None
    assert across is not None
    down.setValue(330)
    across.setValue(across.maximum() // 2)
    QApplication.processEvents()
    before = down.value(), across.value()
    assert before[0] > 300
    assert before[1] > 0
    layer.data_setitem((np.array([15]), np.array([15])), 1000)
    until(lambda: len(inspect.model.table) == 401)
    QApplication.processEvents()
    assert (down.value(), across.value()) == before
    assert view.currentIndex().siblingAtColumn(0).data() == "201"
    assert layer.selected_label == 201

    layer.selected_label = 1234
    layer.data_setitem((np.array([15]), np.array([15])), 0)
    until(lambda: len(inspect.model.table) == 400)
    QApplication.processEvents()
    assert view.currentIndex().siblingAtColumn(0).data() == "201", "a label that is not there yet leaves the row"
    assert (down.value(), across.value()) == before
    assert layer.selected_label == 1234


def shown(inspect: InspectWidget, column: int = 0) -> list[str]:
    model = inspect.view.model()
    assert model is not None
    return [model.index(line, column).data() for line in range(model.rowCount())]


def test_titles_sort_and_the_filter_leaves_rows(inspect: InspectWidget) -> None:
    layer = add(inspect, squares(64, 16))
    until(lambda: len(inspect.model.table) == 16)
    assert shown(inspect) == [str(label) for label in range(1, 17)], "numbers are sorted as numbers"
    nearness = 1 + list(inspect.model.table.columns).index("nearness")
    inspect.view.sortByColumn(nearness, Qt.SortOrder.DescendingOrder)
    assert shown(inspect)[:4] == ["4", "8", "12", "16"]
    inspect.view.selectRow(2)
    assert layer.selected_label == 12
    inspect.filter.setText("12")
    assert "12" in shown(inspect)
    assert len(shown(inspect)) < 16
    assert inspect.view.currentIndex().siblingAtColumn(0).data() == "12"
    inspect.filter.setText("no such text")
    assert shown(inspect) == []
    inspect.filter.clear()
    assert shown(inspect)[:4] == ["4", "8", "12", "16"]
    layer.data_setitem((np.array([15]), np.array([15])), 99)
    until(lambda: len(inspect.model.table) == 17)
    assert shown(inspect)[:4] == ["4", "8", "12", "16"], "a new table is sorted as the old one was"


def test_another_layer_is_not_shown_with_the_rows_of_the_one_before(inspect: InspectWidget) -> None:
    add(inspect, squares(64, 16))
    until(lambda: len(inspect.model.table) == 16)
    other = inspect.viewer.add_labels(squares(64, 32), name="other")
    inspect.labels.choose(other)
    inspect.labels.chosen.emit(other)
    assert len(inspect.model.table) == 0
    until(lambda: len(inspect.model.table) == 4)


def test_depth_added_to_another_slice_comes_into_the_table(inspect: InspectWidget) -> None:
    inspect.viewer.add_image(np.random.default_rng(0).integers(0, 255, (2, 64, 64), dtype=np.uint8), name="stack")
    labels = np.zeros((2, 64, 64), dtype=np.int32)
    labels[:, 10:30, 10:30] = 1
    inspect.viewer.add_labels(labels)
    for at in (0, 1):
        inspect.viewer.dims.set_current_step(0, at)
        until(lambda: not inspect._soon.isActive())
        inspect.session.add_depth(image_layer=inspect.viewer.layers["stack"])
        until(lambda rows=at + 1: len(inspect.model.table) == rows)  # type: ignore[misc]


def test_what_is_wrong_is_said_above_the_table(inspect: InspectWidget) -> None:
    add(inspect, squares(64, 16))
    inspect.show()
    inspect.viewer.dims.ndisplay = 3
    inspect.read()
    until(inspect.message.isVisible)
    assert "3-D" in inspect.message.text()
    assert inspect.message.geometry().bottom() < inspect.filter.geometry().top()


def test_titles_say_what_a_column_holds_and_the_first_ones_fit(inspect: InspectWidget) -> None:
    add(inspect, squares(200, 50))
    until(lambda: len(inspect.model.table) > 0)
    inspect.resize(320, 640)
    inspect.show()
    QApplication.processEvents()
    header = inspect.view.horizontalHeader()
    assert header is not None
    role, titles = Qt.ItemDataRole, [inspect.model.headerData(at, Qt.Orientation.Horizontal) for at in range(4)]
    assert titles == ["label", "nearness", "spread", "in front"]
    tip = inspect.model.headerData(3, Qt.Orientation.Horizontal, role.ToolTipRole)
    assert tip == "labels that touch this one and are clearly behind it"
    assert header.sectionViewportPosition(3) + header.sectionSize(3) <= header.viewport().width()


def test_every_title_says_what_its_column_holds() -> None:
    labels = np.zeros((2, 20, 20), dtype=np.int32)
    labels[:, 5:15, 5:15] = 1
    depth = DepthMap(np.mgrid[:20, :20][0], "height")
    model = TableModel()
    model.show(depth_readout(labels, [depth, depth]).assign(name="coin"))
    horizontal, tip = Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole
    titles = [model.headerData(at, horizontal) for at in range(model.columnCount())]
    tips = [model.headerData(at, horizontal, tip) for at in range(model.columnCount())]
    assert titles[:3] == ["label", "slice", "name"]
    assert [title for title, said in zip(titles, tips, strict=True) if not said] == []


def test_the_order_stays_with_its_column_and_the_filter_knows_no_case() -> None:
    model = TableModel()
    plain = pd.DataFrame({"nearness": [0.1, 0.9, 0.5]}, index=[1, 2, 3])
    model.show(plain)
    model.sort(1, Qt.SortOrder.DescendingOrder)
    assert [model.label(line) for line in range(3)] == [2, 3, 1]
    model.show(plain.assign(name=["Cell", "coin", "cell"]))
    assert model.sorting == (2, Qt.SortOrder.DescendingOrder)
    assert [model.label(line) for line in range(3)] == [2, 3, 1]
    model.filter("CELL")
    assert [model.label(line) for line in range(2)] == [3, 1]
    model.show(plain.drop(columns="nearness"))
    assert model.sorting[0] == 0


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_without_suffix_gets_one_and_nothing_is_overwritten_unasked(
    inspect: InspectWidget, tmp_path: Path, overwrite: bool
) -> None:
    (tmp_path / "mine.csv").write_text("before")
    add(inspect, squares(128, 64))
    until(lambda: len(inspect.model.table) > 0)
    asked: list[str] = []

    def type_a_name() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, QFileDialog)
        field = dialog.findChild(QLineEdit)
        assert field is not None
        assert field.text() == "depth.csv"
        field.setText(str(tmp_path / "mine"))
        QTimer.singleShot(0, answer)
        dialog.accept()
        if not overwrite:
            dialog.reject()

    def answer() -> None:
        question = QApplication.activeModalWidget()
        assert isinstance(question, QMessageBox)
        asked.append(question.text())
        buttons = QMessageBox.StandardButton
        button = question.button(buttons.Yes if overwrite else buttons.No)
        assert button is not None
        button.click()

    QTimer.singleShot(0, type_a_name)
    inspect.save()
    assert len(asked) == 1
    assert "mine.csv" in asked[0]
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]
    assert (tmp_path / "mine.csv").read_text().startswith("label," if overwrite else "before")
