"""What a dock says of work that was not saved when napari ended, and what can be done with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QFrame, QLabel, QVBoxLayout

from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.parts import button, row

if TYPE_CHECKING:
    from napari_samdepth.session.recovery import Recoverable


class UnsavedWork(QFrame):
    """One line on the latest work that was not saved, and three buttons; invisible where there is none."""

    def __init__(self, dock: Dock) -> None:
        """Begin empty; `look` finds out."""
        super().__init__()
        self._dock = dock
        self._items: list[Recoverable] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 6)
        column.setSpacing(6)
        self.text = QLabel("")
        self.text.setWordWrap(True)
        column.addWidget(self.text)
        self.restore_button = button("Restore", "Bring the labels back, with their undo steps.", self._restore)
        self.save_button = button("Save as TIFF", "Write the labels to a file, and be done with it.", self._save)
        self.discard_button = button("Discard", "Throw this work away, for good.", self._discard)
        column.addLayout(row(self.restore_button, self.save_button, self.discard_button))
        self.hide()

    def look(self) -> None:
        """Look for work, off the main thread."""
        self._dock.session.request_recoverable(self.show_items)

    def show_items(self, items: list[Recoverable]) -> None:
        """Show the first of some work."""
        self._items = list(items)
        if items:
            self.text.setText(in_words(items[0], len(items)))
        self.setVisible(bool(items))

    def _restore(self) -> None:
        self._done_with(self._dock.session.recover)

    def _discard(self) -> None:
        self._done_with(lambda item: item.discard())

    def _save(self) -> None:
        item = self._items[0]
        name = re.sub(r"[^\w.-]+", "-", f"{item.name}-{item.labels_name}").strip("-.")
        start = Path(item.image_path).parent if item.image_path else Path.home()
        path, _ = QFileDialog.getSaveFileName(self, "Save labels", str(start / f"{name}.tif"), "TIFF (*.tif *.tiff)")
        if path:
            self._done_with(lambda item: self._dock.session.save_recoverable(item, path))

    def _done_with(self, action: Callable[[Recoverable], object]) -> None:
        item = self._items[0]
        if not self._dock.attempt(lambda: action(item)):
            self.show_items(self._items[1:])


def in_words(item: Recoverable, count: int = 1, now: datetime | None = None) -> str:
    """Return one sentence on work that was not saved, of `count` such in all."""
    today = (now or datetime.now().astimezone()).date()
    day = "" if item.time.date() == today else f"{item.time:%d %b}, "
    labels = f"{item.labels:,} label{'' if item.labels == 1 else 's'}"
    more = f" ({count - 1} more)" if count > 1 else ""
    return f"Work on {item.name} from {day}{item.time:%H:%M} was not saved: {labels}.{more}"
