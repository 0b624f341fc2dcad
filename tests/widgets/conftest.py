"""A real napari window with the three docks, driven as a user would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_samdepth.session.session import AnnotationSession
from napari_samdepth.widgets.depth import DepthWidget
from napari_samdepth.widgets.inspect import InspectWidget
from napari_samdepth.widgets.segment import SegmentWidget


@dataclass
class Bench:
    """A viewer, its docks, and hands to use them."""

    viewer: Any
    segment: SegmentWidget
    depth: DepthWidget
    inspect: InspectWidget

    @property
    def session(self) -> AnnotationSession:
        return self.segment.session

    def until(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the event loop run until `done`; results arrive by it alone, nobody delivers by hand."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"waited {seconds} s in vain; the session says {self.session.state}"
            QApplication.processEvents()
            time.sleep(0.005)
        QApplication.processEvents()

    def settle(self) -> None:
        """Let the event loop run until nothing is under way."""
        self.until(lambda: not self.session.lane.busy())
        for _ in range(5):
            QApplication.processEvents()

    def canvas_position(self, row: float, col: float) -> QPoint:
        """Return where a point of the world is on the canvas widget."""
        view = self.viewer.window._qt_viewer.canvas
        transform = view.view.scene.transform
        x, y = transform.map([col, row])[:2]
        return QPoint(round(float(x)), round(float(y)))

    def click(self, row: float, col: float, alt: bool = False) -> None:
        """Press and release the left mouse button on the canvas."""
        native = self.viewer.window._qt_viewer.canvas.native
        at = self.canvas_position(row, col)
        held = Qt.KeyboardModifier.AltModifier if alt else Qt.KeyboardModifier.NoModifier
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        for kind, button, buttons in (
            (QEvent.Type.MouseMove, none, none),
            (QEvent.Type.MouseButtonPress, left, left),
            (QEvent.Type.MouseButtonRelease, left, none),
        ):
            where = QPointF(at)
            event = QMouseEvent(kind, where, QPointF(native.mapToGlobal(at)), button, buttons, held)
            QApplication.sendEvent(native, event)
            QApplication.processEvents()

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first place of the world, go past the others, and release at the last."""
        native = self.viewer.window._qt_viewer.canvas.native
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        start, end = places[0], places[-1]
        way = np.concatenate([np.linspace(*leg, 6) for leg in pairwise(places)])
        moves = [(QEvent.Type.MouseMove, at, none, left) for at in way]
        for kind, at, button, buttons in (
            (QEvent.Type.MouseMove, start, none, none),
            (QEvent.Type.MouseButtonPress, start, left, left),
            *moves,
            (QEvent.Type.MouseButtonRelease, end, left, none),
        ):
            place = self.canvas_position(*at)
            where = QPointF(place), QPointF(native.mapToGlobal(place))
            event = QMouseEvent(kind, *where, button, buttons, Qt.KeyboardModifier.NoModifier)
            QApplication.sendEvent(native, event)
            QApplication.processEvents()

    def key(self, text: str) -> None:
        """Press a key combination on the canvas, as napari's key handling sees it."""
        self.viewer.window._qt_viewer.canvas.native.setFocus()
        from qtpy.QtGui import QKeyEvent, QKeySequence

        combination = QKeySequence(text)[0]
        code, held = combination.key(), combination.keyboardModifiers()
        native = self.viewer.window._qt_viewer.canvas.native
        for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
            QApplication.sendEvent(native, QKeyEvent(kind, code, held))
            QApplication.processEvents()

    def canvas(self) -> NDArray[np.uint8]:
        """Return what the canvas shows."""
        QApplication.processEvents()
        shot: NDArray[np.uint8] = self.viewer.screenshot(canvas_only=True, flash=False)
        return shot


@pytest.fixture
def bench(make_napari_viewer: Any) -> Iterator[Bench]:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1300, 850)
    made, docks = [], []
    for name in ("Segment", "Depth", "Inspect"):
        dock, widget = viewer.window.add_plugin_dock_widget("napari-samdepth", name)
        made.append(widget)
        docks.append(dock)
        QApplication.processEvents()
    bench = Bench(viewer, *made)
    QApplication.processEvents()
    docks[0].raise_()
    QApplication.processEvents()
    yield bench
    for widget in made:
        widget.release()
    bench.session.close()
