"""The Inspect dock: one row per label, linked both ways with the Labels layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, QTimer
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHeaderView, QLabel, QLineEdit, QTableView

from napari_samdepth.widgets.parts import Dock, Message, button, enable, form, plain_number, row

FIRST = ("slice", "name", "nearness", "spread", "in_front_of", "area", "rank")
"""Columns shown first; the others follow, as in the readout."""
REFRESH_MS = 300


class TableModel(QAbstractTableModel):
    """A readout as a Qt table: the label first, then the columns."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.table = pd.DataFrame()

    def show(self, table: pd.DataFrame) -> None:
        """Show another table (index: labels)."""
        self.beginResetModel()
        first = [name for name in FIRST if name in table.columns]
        self.table = table[[*first, *(name for name in table.columns if name not in first)]]
        self.endResetModel()

    def label(self, line: int) -> int:
        """Return the label of a line."""
        return int(self.table.index[line])

    def key(self, line: int) -> tuple[int, int]:
        """Return the slice (0 where there is none) and label of a line."""
        return int(self.table["slice"].iloc[line]) if "slice" in self.table.columns else 0, self.label(line)

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of labels."""
        return len(self.table)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns, the label's included."""
        return len(self.table.columns) + 1

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell: text to show, number to sort by."""
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.UserRole):
            return None
        value: Any = self.label(index.row()) if index.column() == 0 else self.table.iat[index.row(), index.column() - 1]
        if role == Qt.ItemDataRole.UserRole:
            return value if isinstance(value, str) else float(value)
        return _text(value)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's title."""
        if orientation != Qt.Orientation.Horizontal or role != Qt.ItemDataRole.DisplayRole:
            return None
        return "label" if section == 0 else str(self.table.columns[section - 1]).replace("_", " ")


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
        self.proxy = QSortFilterProxyModel()
        self.proxy.setSourceModel(self.model)
        self.proxy.setSortRole(Qt.ItemDataRole.UserRole)
        self.proxy.setFilterKeyColumn(-1)
        self.filter.textChanged.connect(self.proxy.setFilterFixedString)
        self.view = self._build_view()
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
        self._depth_shown = ""
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
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", "depth.csv", "CSV (*.csv)")
        if path:
            self.attempt(lambda: self.session.save_table(self.model.table, path))

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
        if state.depth_text + state.depth_layer != self._depth_shown:
            self._depth_shown = state.depth_text + state.depth_layer
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
        self._fill(table)
        self.refresh()

    def _refuse(self, error: Exception) -> None:
        """Say why there is no readout; rows of another slice or layer would pass for what is shown."""
        self._refusal = self.refused(error)
        self._ended(pd.DataFrame())

    def _fill(self, table: pd.DataFrame) -> None:
        """Show another table; the row that is selected stays so, and what is scrolled to stays in view."""
        bars = [bar for bar in (self.view.verticalScrollBar(), self.view.horizontalScrollBar()) if bar is not None]
        places = [bar.value() for bar in bars]
        before = self._key(self.view.currentIndex())
        self.model.show(table)
        self._show_selected()
        if before is not None and not self.view.currentIndex().isValid():
            self._select([line for line in range(len(table)) if self.model.key(line) == before])
        if self._key(self.view.currentIndex()) == before:
            for bar, place in zip(bars, places, strict=True):
                bar.setValue(place)

    def _build_view(self) -> QTableView:
        view = QTableView()
        view.setModel(self.proxy)
        view.setMinimumHeight(60)
        view.setSortingEnabled(True)
        view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setToolTip("Click on a row to select and centre its label; click on a title to sort.")
        header, side = view.horizontalHeader(), view.verticalHeader()
        if header is not None and side is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            side.hide()
        selection = view.selectionModel()
        if selection is not None:
            selection.currentRowChanged.connect(self._on_row)
        return view

    def _is_labels(self, layer: object) -> bool:
        return isinstance(layer, Labels) and not self.session.is_helper(layer)

    def _watch(self, _event: object = None) -> None:
        """Follow the chosen Labels layer: painting, undo (which only tells of set_data), selection."""
        layer = self.labels.layer
        if layer is not self._watched:
            self._unwatch()
            self._watched = layer
            self._fill(pd.DataFrame())
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
        line = self.proxy.mapToSource(current).row()
        table = self.model.table
        plane = int(table["slice"].iloc[line]) if "slice" in table.columns else None
        self._linking = True
        layer, label = self._watched, self.model.label(line)
        try:
            self.attempt(lambda: self.session.show_label(layer, label, plane))
        finally:
            self._linking = False

    def _show_selected(self, _event: object = None) -> None:
        """A label was picked in the layer: select its row."""
        if self._linking or self._watched is None or not len(self.model.table):
            return
        table = self.model.table
        at = np.flatnonzero(table.index.to_numpy() == self._watched.selected_label)
        if "slice" in table.columns:
            here = at[table["slice"].to_numpy()[at] == self.session.shown_slice(self._watched)]
            at = here if here.size else at
        self._select(at.tolist())

    def _select(self, lines: list[int]) -> None:
        """Select the first of these lines of the table, as if nobody had clicked on it."""
        if lines:
            self._linking = True
            try:
                self.view.selectRow(self.proxy.mapFromSource(self.model.index(lines[0], 0)).row())
            finally:
                self._linking = False

    def _key(self, index: QModelIndex) -> tuple[int, int] | None:
        """Return what a row of the view stands for, None for none."""
        return self.model.key(self.proxy.mapToSource(index).row()) if index.isValid() else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else plain_number(float(value))
    return str(value)
