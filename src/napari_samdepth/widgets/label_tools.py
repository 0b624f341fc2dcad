"""The fold “Edit labels” of the Segment dock: delete, merge, split, fill holes, keep the largest piece, smooth."""

from __future__ import annotations

from collections.abc import Callable

from napari.layers import Labels
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.parts import Fold, button, enable, row


class LabelToolsFold(Fold):
    """Buttons that act on the label selected in the Labels layer; keys act on the one under the mouse."""

    def __init__(self, dock: Dock) -> None:
        """Build the fold for the Segment dock."""
        super().__init__("Edit labels", "Delete, merge, split and clean labels that are there.")
        self._dock = dock
        session = dock.session
        self.which = QLabel("")
        self.which.setWordWrap(True)
        self.which.setToolTip("Select a label in its layer: with the picker, or in Inspect's table.")
        self.delete_button = self._tool(
            "Delete", "Make it background. Key: Shift+D", lambda n: session.delete_labels([n])
        )
        self.merge_button = button(
            "Merge",
            "Merge the label under the mouse into the selected one: point at it and press Shift+M.",
            self._say_merge,
        )
        self.split_button = self._tool("Split", "Click in each of its two parts. Key: Shift+X", session.split_by_clicks)
        self.fill_button = self._tool("Fill holes", "Fill what it encloses. Key: Shift+F", session.fill_holes)
        self.largest_button = self._tool(
            "Largest piece", "Drop all of its pieces but the largest. Key: Shift+L", session.keep_largest
        )
        self.smooth_button = self._tool("Smooth", "Smooth its outline. Key: Shift+S", session.smooth_label)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.which)
        column.addLayout(row(self.delete_button, self.merge_button, self.split_button))
        column.addLayout(row(self.fill_button, self.largest_button, self.smooth_button))
        self.addWidget(inner)

    def refresh(self) -> None:
        """Show the session's state."""
        layer = self._dock.session.masks.layer
        missing = "There are no labels yet." if layer is None else ""
        self.which.setText(missing or f"On label {self._selected(layer)} (keys: the label under the mouse)")
        for tool in (self.delete_button, self.merge_button, self.split_button, self.fill_button):
            enable(tool, missing)
        for tool in (self.largest_button, self.smooth_button):
            enable(tool, missing)

    def _tool(self, text: str, tooltip: str, action: Callable[[int], object]) -> QPushButton:
        def act() -> None:
            layer = self._dock.session.masks.layer
            if layer is not None:
                self._dock.attempt(lambda: action(self._selected(layer)))

        return button(text, tooltip, act)

    def _selected(self, layer: Labels | None) -> int:
        return 0 if layer is None else int(layer.selected_label)

    def _say_merge(self) -> None:
        label = self._selected(self._dock.session.masks.layer)
        self._dock.session.state.say(f"Point at another label and press Shift+M: it becomes label {label}.")
