"""The Inspect dock: one row per label, linked both ways with the Labels layer."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QModelIndex, Qt, QTimer
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHeaderView, QLabel, QLineEdit, QScrollBar, QTableView

from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.parts import Message, button, enable, form, row
from napari_samdepth.widgets.table import TableModel

REFRESH_MS = 300
ROWS_MEASURED = 50
"""How many rows decide how wide a column is."""


class InspectWidget(Dock):
    """Depth of every label in a table."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        """Build the dock for a viewer."""
        super().__init__(napari_viewer)
        self.labels = self.combo(self._is_labels, "The Labels layer to read out.")
        self.depth_name = QLabel("")
        self.depth_name.setWordWrap(True)
        self.column.addLayout(form([("Labels", self.labels), ("Depth", self.depth_name)]))
        self.message = Message(self.viewer)
        self.column.addWidget(self.message)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("filter, e.g. 12 or coin")
        self.filter.setToolTip("Show only the rows with this text in one of their cells.")
        self.model = TableModel()
        self.filter.textChanged.connect(self.model.filter)
        self._selected: tuple[int, int | None] | None = None
        self._place: list[int] = []
        self.view = QTableView()
        self.model.modelAboutToBeReset.connect(self._remember)
        self._prepare(self.view)
        # after the view's own, which forgets what is selected and where it is scrolled to
        self.model.modelReset.connect(self._recall)
        self.column.addWidget(self.filter)
        self.column.addWidget(self.view, 1)
        self.read_button = button("Read out", "Compute the table now; it follows changes by itself.", self.read)
        self.save_button = button("Save CSV…", "Write the table to a CSV file.", self.save)
        self.column.addLayout(row(self.read_button, self.save_button))
        self._watched: Labels | None = None
        self._linking = False
        self._refusal = ""
        self._reading = False
        self._soon = self._timer(self.read)
        self._patience = self._timer(self._say_reading)
        self.labels.chosen.connect(lambda _layer: self._watch())
        for name in ("inserted", "removed"):
            getattr(self.viewer.layers.events, name).connect(self._watch)
        self.viewer.dims.events.current_step.connect(self._on_change)
        self._depth: object = None
        self._watch()
        self.refresh()

    def read(self) -> None:
        """Have the readout computed, and show it when it is there; without depth or labels the table stays empty."""
        layer, state = self.labels.layer, self.session.state
        self._soon.stop()
        if layer is None or not state.depth_layer:
            self.session.drop_readout()
            self._ended(pd.DataFrame())
            return

        def done(table: pd.DataFrame) -> None:
            # the list may show another layer by now, which is about to be read
            if layer is self.labels.layer:
                if state.message == self._refusal:
                    state.message, state.problem = "", False
                self._refusal = ""
                self._ended(table)

        try:
            self.session.request_readout(layer, done, self._refuse)
        except ValueError as error:
            self._refuse(error)
        else:
            self._patience.start()

    def save(self) -> None:
        """Ask for a file name and write the table."""
        dialog = QFileDialog(self, "Save the table", "", "CSV (*.csv)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        # the dialog adds it, so that it asks about the file that would be overwritten
        dialog.setDefaultSuffix("csv")
        dialog.selectFile("depth.csv")
        try:
            if dialog.exec():
                path = dialog.selectedFiles()[0]
                self.attempt(lambda: self.session.save_table(self.model.table, path))
        finally:
            dialog.deleteLater()

    def refresh(self) -> None:
        """Show the session's state."""
        state = self.session.state
        self.depth_name.setText(state.depth_layer or "none yet: add it in the Depth dock")
        self.depth_name.setToolTip(state.depth_text)
        self.message.say(state.message if state.problem else "", state.problem)
        missing = "Open or make a Labels layer first." if self.labels.layer is None else ""
        missing = missing or ("" if state.depth_layer else "Add depth first, in the Depth dock.")
        enable(self.read_button, missing)
        self.read_button.setText("Reading…" if self._reading else "Read out")
        enable(self.save_button, "" if len(self.model.table) else "There is nothing to save yet.")
        # another one whenever a layer is filled anew, too
        if self.session.depths.active is not self._depth:
            self._depth = self.session.depths.active
            self._soon.start()

    def release(self) -> None:
        """Let go of the viewer and the watched layer."""
        if self._closed:
            return
        self._soon.stop()
        self._patience.stop()
        self.session.drop_readout()
        for name in ("inserted", "removed"):
            getattr(self.viewer.layers.events, name).disconnect(self._watch)
        self.viewer.dims.events.current_step.disconnect(self._on_change)
        self._unwatch()
        super().release()

    def _timer(self, action: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(REFRESH_MS)
        timer.timeout.connect(action)
        return timer

    def _say_reading(self) -> None:
        self._reading = True
        self.refresh()

    def _ended(self, table: pd.DataFrame) -> None:
        """Show what a readout brought."""
        self._patience.stop()
        self._reading = False
        self.model.show(table)
        header = self.view.horizontalHeader()
        if header is not None:
            header.setSortIndicator(*self.model.sorting)
        self.refresh()

    def _refuse(self, error: Exception) -> None:
        """Say why there is no readout; rows of another slice or layer would pass for what is shown."""
        self._refusal = self.refused(error)
        self._ended(pd.DataFrame())

    def _remember(self) -> None:
        """The table is about to change: note its selected row and its place."""
        index = self.view.currentIndex()
        line = index.row() if index.isValid() else None
        self._selected = None if line is None else (self.model.label(line), self.model.plane(line))
        self._place = [bar.value() for bar in self._bars()]

    def _recall(self) -> None:
        """The table has changed: the row that was selected is so again, and what was in view stays there."""
        before = self._selected
        self._show_selected()
        if not self.view.currentIndex().isValid() and before is not None:
            self._select(self.model.line_of(*before))
        index = self.view.currentIndex()
        if index.isValid() and (self.model.label(index.row()), self.model.plane(index.row())) == before:
            for bar, place in zip(self._bars(), self._place, strict=True):
                bar.setValue(place)

    def _bars(self) -> list[QScrollBar]:
        bars = self.view.verticalScrollBar(), self.view.horizontalScrollBar()
        return [bar for bar in bars if bar is not None]

    def _prepare(self, view: QTableView) -> None:
        view.setModel(self.model)
        view.setMinimumHeight(60)
        view.setSortingEnabled(True)
        view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setToolTip("Click on a row to select and centre its label; click on a title to sort.")
        header, side = view.horizontalHeader(), view.verticalHeader()
        if header is not None and side is not None:
            header.setResizeContentsPrecision(ROWS_MEASURED)
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            side.hide()
        selection = view.selectionModel()
        if selection is not None:
            selection.currentRowChanged.connect(self._on_row)

    def _is_labels(self, layer: object) -> bool:
        return isinstance(layer, Labels) and not self.session.is_helper(layer)

    def _watch(self, _event: object = None) -> None:
        """Follow the chosen Labels layer: painting, undo (which only tells of set_data), selection."""
        layer = self.labels.layer
        if layer is not self._watched:
            self._unwatch()
            self._watched = layer
            self.model.show(pd.DataFrame())
            if layer is not None:
                for name in ("set_data", "paint", "labels_update"):
                    getattr(layer.events, name).connect(self._on_change)
                layer.events.selected_label.connect(self._show_selected)
        self._soon.start()
        self._later.start()

    def _unwatch(self) -> None:
        layer, self._watched = self._watched, None
        if layer is not None:
            for name in ("set_data", "paint", "labels_update"):
                getattr(layer.events, name).disconnect(self._on_change)
            layer.events.selected_label.disconnect(self._show_selected)

    def _on_change(self, _event: object = None) -> None:
        self._soon.start()

    def _on_row(self, current: QModelIndex, _previous: QModelIndex) -> None:
        """A row was clicked: select its label and centre it."""
        if self._linking or not current.isValid() or self._watched is None:
            return
        layer, label, plane = self._watched, self.model.label(current.row()), self.model.plane(current.row())
        self._linking = True
        try:
            self.attempt(lambda: self.session.show_label(layer, label, plane))
        finally:
            self._linking = False

    def _show_selected(self, _event: object = None) -> None:
        """A label was picked in the layer: select its row."""
        if self._linking or self._watched is None or not len(self.model.table):
            return
        self._select(self.model.line_of(self._watched.selected_label, self.session.shown_slice(self._watched)))

    def _select(self, line: int | None) -> None:
        """Select a line of the table, as if nobody had clicked on it."""
        if line is not None:
            self._linking = True
            try:
                self.view.selectRow(line)
            finally:
                self._linking = False
