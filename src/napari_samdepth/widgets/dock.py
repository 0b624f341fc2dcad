"""What every dock stands on: the viewer's session, results brought to the main thread, and lists of layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Layer
from psygnal import EmissionInfo
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QComboBox, QDockWidget, QMainWindow, QSizePolicy, QVBoxLayout, QWidget

from napari_samdepth.session.session import AnnotationSession, session_of
from napari_samdepth.widgets.page import Page
from napari_samdepth.widgets.parts import enable


class Bridge(QObject):
    """Brings the lane's results to the main thread: the signal crosses threads, Qt queues it."""

    ready = QtSignal()

    def __init__(self, session: AnnotationSession) -> None:
        """Deliver for `session` until `release`."""
        super().__init__()
        self._session: AnnotationSession | None = session
        self.ready.connect(session.deliver)
        session.lane.add_listener(self._wake)

    def release(self) -> AnnotationSession | None:
        """Stop delivering and let go of the session; return it, None where that was done before."""
        session, self._session = self._session, None
        if session is not None:
            session.lane.remove_listener(self._wake)
            # a process that ends deletes Qt's objects in any order, this one before the docks, too
            with contextlib.suppress(RuntimeError):
                self.ready.disconnect(session.deliver)
        return session

    def abandon(self) -> None:
        """The dock was deleted without being closed, as a closing window does: nobody waits for what is running."""
        session = self.release()
        if session is not None:
            session.lane.cancel()

    def _wake(self) -> None:
        """Have the main thread deliver; called on the lane's thread, which outlives Qt's objects now and then."""
        with contextlib.suppress(RuntimeError):
            self.ready.emit()


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
        self._placed = self._joined = False
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
        self._soon_joined = QTimer(self)
        self._soon_joined.setSingleShot(True)
        self._soon_joined.timeout.connect(self._join_others)
        self.session.state.events.connect(self._on_state)
        self.session.warm_up()

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

    def showEvent(self, event: QShowEvent | None) -> None:
        """Lie down behind or before the other docks of ours, the first time: side by side they have no room."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            # napari is not yet done with placing it
            self._soon_joined.start()

    def _join_others(self) -> None:
        window, own = self.window(), _dock_of(self)
        if self._closed or own is None or own.isFloating() or not isinstance(window, QMainWindow):
            return
        self._joined = True
        docks = [_dock_of(other) for other in window.findChildren(Dock) if other is not self and other._joined]
        beside = [dock for dock in docks if dock is not None and dock is not own and not dock.isFloating()]
        if beside and not any(dock in beside for dock in window.tabifiedDockWidgets(own)):
            window.tabifyDockWidget(beside[0], own)
            own.raise_()

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
        self._soon_joined.stop()
        self._bridge.release()
        self.session.state.events.disconnect(self._on_state)
        for combo in self._combos:
            combo.release()

    def _on_state(self, _info: EmissionInfo) -> None:
        # several fields change at once; one refresh shows them all
        if not self._closed:
            self._later.start()


def _dock_of(widget: QWidget) -> QDockWidget | None:
    """Return napari's dock that a widget lies in, None where it lies in another window."""
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parentWidget()
    return above


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
