"""Pieces that the docks share: a base class, a list of layers, a progress row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.utils.theme import get_theme
from psygnal import EmissionInfo
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]
from qtpy.QtGui import QCloseEvent, QColor
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_samdepth.session.session import AnnotationSession, session_of
from napari_samdepth.widgets.page import Page


class Bridge(QObject):
    """Brings the lane's results to the main thread: the signal crosses threads, Qt queues it."""

    ready = QtSignal()

    def __init__(self, session: AnnotationSession) -> None:
        """Deliver for `session` until `release`."""
        super().__init__()
        self._session: AnnotationSession | None = session
        self.ready.connect(session.deliver)
        self._wake = self.ready.emit
        session.lane.add_listener(self._wake)

    def release(self) -> AnnotationSession | None:
        """Stop delivering and let go of the session; return it, None where that was done before."""
        session, self._session = self._session, None
        if session is not None:
            self.ready.disconnect(session.deliver)
            session.lane.remove_listener(self._wake)
        return session

    def abandon(self) -> None:
        """The dock was deleted without being closed, as a closing window does: nobody waits for what is running."""
        session = self.release()
        if session is not None:
            session.lane.cancel()


class Dock(QWidget):
    """Base of the docks: one session, refreshed when its state changes, let go when the dock closes."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        """Attach to the viewer's session."""
        super().__init__()
        self.viewer: ViewerModel = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.session = session_of(self.viewer)
        self._bridge = bridge = Bridge(self.session)
        self.destroyed.connect(lambda _dock: bridge.abandon())
        self._combos: list[LayerCombo] = []
        self._closed = False
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        self.page = Page()
        around.addWidget(self.page)
        self.column = QVBoxLayout(self.page.content)
        self.column.setContentsMargins(10, 8, 10, 8)
        self.column.setSpacing(7)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self.refresh)
        self.session.state.events.connect(self._on_state)

    def refresh(self) -> None:
        """Show the session's state. Subclasses fill it in."""

    def combo(self, accepts: Callable[[Layer], bool], tooltip: str, none_text: str = "") -> LayerCombo:
        """Return a list of layers that is let go with this dock."""
        combo = LayerCombo(self.viewer, accepts, tooltip, none_text)
        self._combos.append(combo)
        return combo

    def is_plain_image(self, layer: Layer) -> bool:
        """Whether `layer` is an Image that can be annotated (not depth that a model made)."""
        return isinstance(layer, Image) and not self.session.depths.made(layer)

    def attempt(self, action: Callable[[], Any]) -> str:
        """Run what the user asked for; a refusal is shown as one sentence and returned, "" if there was none."""
        try:
            action()
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            return self.refused(error)
        return ""

    def refused(self, error: Exception) -> str:
        """Show what went wrong as one sentence, and return it."""
        refusal = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            refusal = f"Cannot read or write {error.filename or 'the file'}: {error.strerror}."
        self.session.state.message, self.session.state.problem = refusal, True
        return refusal

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Let go of the session and the layers."""
        self.release()
        super().closeEvent(event)

    def event(self, event: QEvent | None) -> bool:
        """Notice being taken out of the window: napari removes docks without closing what is in them."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.release()
        return super().event(event)

    def release(self) -> None:
        """Disconnect from everything; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._later.stop()
        self._bridge.release()
        self.session.state.events.disconnect(self._on_state)
        for combo in self._combos:
            combo.release()

    def _on_state(self, _info: EmissionInfo) -> None:
        # several fields change at once; one refresh shows them all
        if not self._closed:
            self._later.start()


class LayerCombo(QComboBox):
    """Layers of a viewer to choose from, by object and not by name; follows what is added, removed and renamed."""

    chosen = QtSignal(object)

    def __init__(
        self, viewer: ViewerModel, accepts: Callable[[Layer], bool], tooltip: str, none_text: str = ""
    ) -> None:
        """List the layers that `accepts` accepts; `none_text` is an entry for no layer."""
        super().__init__()
        self._viewer = viewer
        self._accepts = accepts
        self._none_text = none_text
        self.setToolTip(tooltip)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        for name in ("inserted", "removed", "reordered", "renamed"):
            getattr(viewer.layers.events, name).connect(self.refill)
        self.activated.connect(lambda _index: self.chosen.emit(self.layer))
        self.refill()

    @property
    def layer(self) -> Any:
        """The chosen layer, None if there is none."""
        return self.currentData()

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer if it is in the list."""
        for index in range(self.count()):
            if self.itemData(index) is layer:
                self.setCurrentIndex(index)
                return

    def refill(self, _event: Any = None) -> None:
        """List the layers anew, topmost first, and keep the choice."""
        before, known = self.layer, {id(self.itemData(index)) for index in range(self.count())}
        layers = [layer for layer in reversed(self._viewer.layers) if self._accepts(layer)]
        self.blockSignals(True)
        self.clear()
        if self._none_text:
            self.addItem(self._none_text, None)
        for layer in layers:
            self.addItem(layer.name, layer)
        fresh = [layer for layer in layers if id(layer) not in known]
        self.choose(before if any(layer is before for layer in layers) else (fresh or [None])[0])
        self.blockSignals(False)
        enable(self, "" if self.count() else "There is no layer of this kind yet.")

    def release(self) -> None:
        """Disconnect from the viewer."""
        for name in ("inserted", "removed", "reordered", "renamed"):
            getattr(self._viewer.layers.events, name).disconnect(self.refill)


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
        grid.addWidget(QLabel(text), at, 0)
        widgets = [fields] if isinstance(fields, QWidget) else list(fields)
        for column, widget in enumerate(widgets):
            grid.addWidget(widget, at, column + 1, 1, 3 - len(widgets))
    return grid


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
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.2g}"
