"""Rows of fields: a tooltip wherever the pointer rests on a row."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from magicgui.widgets import FloatSlider, SpinBox
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QLabel, QSlider, QToolTip, QWidget

from napari_samdepth.widgets.parts import enable, form, plain_number

pytestmark = pytest.mark.window


def shown_over(widget: QWidget) -> str:
    """Return the tooltip that Qt shows where the pointer rests on the middle of a widget."""
    QToolTip.hideText()
    end = time.monotonic() + 5
    while QToolTip.isVisible() and time.monotonic() < end:
        QApplication.processEvents()
    middle = widget.rect().center()
    # without a tooltip of its own a widget leaves the event to the one that holds it
    QApplication.sendEvent(widget, QHelpEvent(QEvent.Type.ToolTip, middle, widget.mapToGlobal(QPoint(middle))))
    return QToolTip.text() if QToolTip.isVisible() else ""


@pytest.fixture
def rows(qapp: QApplication) -> Iterator[tuple[FloatSlider, SpinBox, QWidget]]:
    slider = FloatSlider(value=0.3, min=0.0, max=1.0, tooltip="how sure")
    box = SpinBox(value=3, tooltip="how many")
    page = QWidget()
    page.setLayout(form([("score", slider.native), ("points", box.native), ("bare", QLabel("nothing"))]))
    page.show()
    QApplication.processEvents()
    yield slider, box, page
    QToolTip.hideText()
    page.close()
    page.deleteLater()


def label(page: QWidget, text: str) -> QLabel:
    return next(found for found in page.findChildren(QLabel) if found.text() == text)


def test_a_row_has_its_tooltip_on_its_name_its_bar_and_its_number(
    rows: tuple[FloatSlider, SpinBox, QWidget],
) -> None:
    slider, box, page = rows
    number, bar = slider.native.findChild(QAbstractSpinBox), slider.native.findChild(QSlider)
    assert [shown_over(widget) for widget in (label(page, "score"), number, bar)] == ["how sure"] * 3
    assert [shown_over(widget) for widget in (label(page, "points"), box.native)] == ["how many"] * 2
    assert shown_over(label(page, "bare")) == ""


def test_a_name_says_why_its_field_is_disabled(rows: tuple[FloatSlider, SpinBox, QWidget]) -> None:
    _, box, page = rows
    enable(box.native, "start first")
    assert shown_over(label(page, "points")) == "start first"
    enable(box.native, "")
    assert shown_over(label(page, "points")) == "how many"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5234, "0.52"), (19.5, "20"), (123.4, "123"), (65535.0, "65,535"), (4e8 + 19.5, "400,000,020"),
     (-4e8 - 7, "-400,000,007"), (3e-7, "3e-07"), (1e300, "1e+300")],
)  # fmt: skip
def test_numbers_for_a_panel(value: float, text: str) -> None:
    assert plain_number(value) == text
