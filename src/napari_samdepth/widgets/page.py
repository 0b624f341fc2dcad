"""The page of a dock: it is scrolled where the window is too low for it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QFrame, QScrollArea, QScrollBar, QWidget

LEAST_WIDTH = 290
LEAST_HEIGHT = 200
"""Pixels of a dock's page that are always there; the rest of its height may have to be scrolled to."""


class Page(QScrollArea):
    """What a dock shows; it can be scrolled where the window is lower than that, instead of making the window grow."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self.content = QWidget()
        self.setWidget(self.content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def sizeHint(self) -> QSize:
        """Return the size at which nothing has to be scrolled."""
        return self._wide(self.content.sizeHint())

    def minimumSizeHint(self) -> QSize:
        """Return the whole width, with room for the scroll bar, and a height that shows a few controls."""
        least = self.content.minimumSizeHint()
        return self._wide(QSize(least.width(), min(least.height(), LEAST_HEIGHT)))

    def showEvent(self, event: QShowEvent | None) -> None:
        """Keep the wheel, which scrolls the page now, from changing what it passes by."""
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
            for control in self.content.findChildren(kind):
                if not isinstance(control, QScrollBar):
                    control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                    control.installEventFilter(self)
        super().showEvent(event)

    def eventFilter(self, control: QObject | None, event: QEvent | None) -> bool:
        """Let a control have the wheel only once it was clicked on; follow the size of what is shown."""
        if event is not None and isinstance(control, QWidget):
            if event.type() == QEvent.Type.Wheel and not control.hasFocus():
                event.ignore()
                return True
            if event.type() == QEvent.Type.LayoutRequest:
                self.updateGeometry()
        return super().eventFilter(control, event)

    def _wide(self, size: QSize) -> QSize:
        bar = self.verticalScrollBar()
        return QSize(max(size.width(), LEAST_WIDTH) + (bar.sizeHint().width() if bar is not None else 0), size.height())
