"""Controls that the docks share: a fold, a progress row, a message, rows of fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSlider,
    QWidget,
)
from superqt import QCollapsible


class Fold(QCollapsible):
    """Controls that are folded away until wanted."""

    def __init__(self, title: str, tooltip: str) -> None:
        """Begin folded, without room around."""
        super().__init__(title)
        self.toggleButton().setToolTip(tooltip)
        layout = self.layout()
        if layout is not None:
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(0)
        self.content().setContentsMargins(0, 6, 0, 0)


class ProgressRow(QWidget):
    """What is running, how far it is, and a button that stops it; invisible while nothing runs."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """`stop` is called by the button."""
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.bar = QProgressBar()
        self.bar.setRange(0, 100)
        self.bar.setTextVisible(True)
        self.button = QPushButton("Cancel")
        self.button.setToolTip("Stop what is running; nothing is lost.")
        self.button.clicked.connect(lambda _checked: stop())
        row.addWidget(self.bar, 1)
        row.addWidget(self.button)
        self.hide()

    def show_progress(self, task: str, fraction: float) -> None:
        """Show a task and its fraction done, 0 to 1; "" hides the row."""
        self.setVisible(bool(task))
        self.bar.setRange(0, 100 if fraction > 0 else 0)
        self.bar.setValue(round(100 * fraction))
        self.bar.setFormat(f"{task} · %p%" if fraction > 0 else task)


class Message(QLabel):
    """One sentence under the controls; problems in the theme's error colour."""

    def __init__(self, viewer: ViewerModel) -> None:
        """Take colours from the viewer's theme."""
        super().__init__()
        self._viewer = viewer
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()

    def say(self, text: str, problem: bool) -> None:
        """Show `text`; "" hides the label."""
        colour = readable_error(self._viewer.theme) if problem else ""
        self.setStyleSheet(f"color: {colour};" if colour else "")
        self.setText(text)
        self.setVisible(bool(text))


def readable_error(theme: str) -> str:
    """Return the theme's error colour as #rrggbb, nearer to its text where it would be hard to read on the dock."""
    known = get_theme(theme)
    error, text, behind = (QColor(part.as_hex()) for part in (known.error, known.text, known.background))
    # the dark theme's error is nearly as dark as what is behind it; 0.35 apart in lightness reads well
    for share in (0.0, 0.2, 0.4, 0.6):
        parts = zip(error.getRgb()[:3], text.getRgb()[:3], strict=True)
        mixed = QColor(*(round(one + share * (other - one)) for one, other in parts))
        if abs(mixed.lightnessF() - behind.lightnessF()) >= 0.35:
            break
    return mixed.name()


def form(rows: Sequence[tuple[str, QWidget | Sequence[QWidget]]]) -> QGridLayout:
    """Return labels and fields in two columns; a row may have two fields."""
    grid = QGridLayout()
    grid.setHorizontalSpacing(8)
    grid.setVerticalSpacing(6)
    grid.setColumnStretch(1, 1)
    for at, (text, fields) in enumerate(rows):
        widgets = [fields] if isinstance(fields, QWidget) else list(fields)
        grid.addWidget(RowLabel(text, widgets[0]), at, 0)
        for column, widget in enumerate(widgets):
            grid.addWidget(widget, at, column + 1, 1, 3 - len(widgets))
            # magicgui gives the tip to the bar alone; the number beside it asks the widget that holds both
            if widget.findChild(QSlider) is not None and not widget.toolTip():
                widget.setToolTip(tip_of(widget))
    return grid


class RowLabel(QLabel):
    """The name of a field, with the field's tooltip as it is at the moment."""

    def __init__(self, text: str, field: QWidget) -> None:
        """Name `field`."""
        super().__init__(text)
        self._field = field

    def event(self, event: QEvent | None) -> bool:
        """Take over the field's tooltip when it is asked for."""
        if event is not None and event.type() == QEvent.Type.ToolTip:
            self.setToolTip(tip_of(self._field))
        return super().event(event)


def tip_of(widget: QWidget) -> str:
    """Return the tooltip of a control, of the first one in it that has any where it has none, or ""."""
    inner = (child.toolTip() for child in widget.findChildren(QWidget))
    return widget.toolTip() or next((tip for tip in inner if tip), "")


def row(*widgets: QWidget, stretch: bool = False) -> QHBoxLayout:
    """Return widgets side by side, pushed to the left if `stretch`."""
    layout = QHBoxLayout()
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    if stretch:
        layout.addStretch(1)
    return layout


def button(text: str, tooltip: str, action: Callable[[], Any]) -> QPushButton:
    """Return a push button."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.clicked.connect(lambda _checked: action())
    return made


def enable(widget: QWidget, why_not: str) -> None:
    """Enable a control, or disable it and say why in its tooltip ("" enables)."""
    tip = widget.property("tip")
    if tip is None:
        tip = widget.toolTip()
        widget.setProperty("tip", tip)
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or tip)


def plain_number(value: float) -> str:
    """Return a number short enough for a panel: two digits that matter, no power of ten if it can be helped."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e15 else f"{value:.2g}"
