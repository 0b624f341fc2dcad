"""A readout as a Qt table that sorts and filters by itself: Qt's proxy asks Python for each cell many times over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_samdepth.measure.readout import COLUMNS, DEPTH_COLUMNS
from napari_samdepth.widgets.parts import plain_number

FIRST = ("slice", "name", "nearness", "spread", "in_front_of", "area", "rank")
"""Columns shown first; the others follow, as in the readout."""
TITLES = {"in_front_of": "in front"}
"""Titles shorter than the column's name, so that the first columns fit the dock."""
TOLD = COLUMNS | {
    "label": "the label's number in its Labels layer",
    "slice": "number of the stack's plane that the row tells of",
    "name": "the words by which the label was found",
}
"""What each column holds; the last three are no part of a plane's readout."""


class TableModel(QAbstractTableModel):
    """The label first, then the columns; lines are in the order that the user asked for.

    Attributes
    ----------
    table
        All rows, in the order of the readout.
    sorting
        The column sorted by, and in which order.
    """

    def __init__(self) -> None:
        """Start empty, sorted by label."""
        super().__init__()
        self.table = pd.DataFrame()
        self._columns: list[list[Any]] = [[]]
        self._lines: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self._texts: list[str] | None = None
        self.sorting = (0, Qt.SortOrder.AscendingOrder)
        self._wanted = ""

    def show(self, table: pd.DataFrame) -> None:
        """Show another table (index: labels)."""
        first = [name for name in FIRST if name in table.columns]
        sorted_by = self._name(self.sorting[0])
        self.beginResetModel()
        self.table = table[[*first, *(name for name in table.columns if name not in first)]]
        self._columns = [table.index.tolist(), *(self.table[name].tolist() for name in self.table.columns)]
        self._texts = None
        names = [self._name(at) for at in range(len(self._columns))]
        self.sorting = (names.index(sorted_by) if sorted_by in names else 0), self.sorting[1]
        self._lines = self._arranged()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; what is not a number comes last."""
        self.sorting = column, order
        self._rearrange()

    def filter(self, text: str) -> None:
        """Show only the rows with this text in one of their cells, in any case; all if it is empty."""
        self._wanted = text.casefold()
        self._rearrange()

    def label(self, line: int) -> int:
        """Return the label of a line."""
        return int(self._columns[0][self._lines[line]])

    def plane(self, line: int) -> int | None:
        """Return the slice of a line, None where the readout has none."""
        return int(self.table["slice"].iloc[self._lines[line]]) if "slice" in self.table.columns else None

    def line_of(self, label: int, plane: int | None = None) -> int | None:
        """Return the line of a label, in slice `plane` if it has one there, None where it is not shown."""
        here = self.table.index.to_numpy()[self._lines] == label if len(self.table) else np.zeros(0, dtype=bool)
        if plane is not None and "slice" in self.table.columns:
            exact = here & (self.table["slice"].to_numpy()[self._lines] == plane)
            here = exact if exact.any() else here
        return int(np.argmax(here)) if here.any() else None

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of lines."""
        return len(self._lines)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns, the label's included."""
        return len(self._columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell."""
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(self._columns[index.column()][self._lines[index.row()]])
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a column's title, or what it holds."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        name = self._name(section)
        if role == Qt.ItemDataRole.DisplayRole:
            unit = self.table.attrs.get("unit") if name in DEPTH_COLUMNS else None
            return TITLES.get(name, name.replace("_", " ")) + (f" [{unit}]" if unit else "")
        return TOLD.get(name) if role == Qt.ItemDataRole.ToolTipRole else None

    def _name(self, column: int) -> str:
        return "label" if column == 0 else str(self.table.columns[column - 1])

    def _rearrange(self) -> None:
        self.beginResetModel()
        self._lines = self._arranged()
        self.endResetModel()

    def _arranged(self) -> NDArray[np.intp]:
        """Return the rows to show, in order."""
        column, order = self.sorting
        rows = pd.Series(self._columns[column] if column < len(self._columns) else self._columns[0])
        rows = rows[rows.index.isin(self._found())] if self._wanted else rows
        rows = rows.sort_values(ascending=order == Qt.SortOrder.AscendingOrder, kind="stable")
        return np.asarray(rows.index, dtype=np.intp)

    def _found(self) -> list[int]:
        if self._texts is None:
            self._texts = ["\n".join(map(_text, cells)).casefold() for cells in zip(*self._columns, strict=True)]
        return [at for at, text in enumerate(self._texts) if self._wanted in text]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return "" if np.isnan(value) else plain_number(value)
    return str(value)
