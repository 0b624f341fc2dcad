"""The fold “Words” of the Segment dock: say what to look for, edit the boxes, make masks of them."""

from __future__ import annotations

from magicgui.widgets import FloatSlider
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_samdepth.session.session import AnnotationSession
from napari_samdepth.session.text_search import FLOOR, START
from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.models import ModelPicker, may_use
from napari_samdepth.widgets.parts import Fold, button, enable, form, row


class WordsFold(Fold):
    """Controls of the search by words; folded away until wanted."""

    def __init__(self, dock: Dock) -> None:
        """Build the fold for the Segment dock."""
        super().__init__("Words", "Say what to look for: boxes appear, and masks are made of them.")
        self._dock = dock
        self._session: AnnotationSession = dock.session
        self.wanted = QLineEdit()
        self.wanted.setPlaceholderText("nucleus. coin.")
        self.wanted.setToolTip("What to look for, in English, with a full stop after each name. Key: Enter")
        self.wanted.returnPressed.connect(self._find)
        self.wanted.textChanged.connect(lambda _text: self.refresh())
        self.model = ModelPicker(dock, "text", "The model that finds boxes by words.")
        self.find_button = button("Find", "Look for it in the shown picture; boxes come into “SAM shapes”.", self._find)
        self.score = FloatSlider(
            value=START, min=FLOOR, max=1.0, step=0.01, tooltip="How sure a box is, at least; nothing runs again."
        )
        self.score.changed.connect(self._session.words.filter)
        self.count = QLabel("")
        self.count.setToolTip("Select the layer “SAM shapes” to move, resize, delete or draw boxes; then make masks.")
        self.make_button = button(
            "Make masks", "Turn each box into a mask and add it as a label, over none that are there.", self._make
        )
        self.drop_button = button("Discard", "Take the boxes away; undo brings them back.", self._session.words.discard)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form([("look for", self.wanted), ("model", self.model)]))
        column.addWidget(self.model.hint)
        column.addWidget(self.find_button)
        self.choice = QWidget()
        below = QVBoxLayout(self.choice)
        below.setContentsMargins(0, 0, 0, 0)
        below.addLayout(form([("score", self.score.native)]))
        below.addWidget(self.count)
        below.addLayout(row(self.make_button, self.drop_button))
        column.addWidget(self.choice)
        self.addWidget(inner)

    def refresh(self) -> None:
        """Show the session's state."""
        state = self._session.state
        self.model.refresh()
        busy = self._session.lane.busy("words")
        missing = self.model.choice.problem or ("" if self.wanted.text().strip() else "Say what to look for first.")
        enable(self.find_button, "The search is under way." if busy else missing)
        self.choice.setVisible(state.boxes > 0 or state.words_found > 0)
        boxes = "1 box" if state.boxes == 1 else f"{state.boxes} boxes"
        self.count.setText(f"{boxes} in “SAM shapes”, yours to edit")
        none = "" if state.boxes else "There is no box; lower the score."
        enable(self.make_button, "Masks are being made." if busy else none)
        enable(self.drop_button, "" if state.boxes or state.words_found else none)

    def _find(self) -> None:
        if self.find_button.isEnabled() and may_use(self._dock, self.model.choice):
            self._session.words.filter(self.score.value)
            self._dock.attempt(lambda: self._session.words.find(self.wanted.text(), self.model.choice.name))
            self.refresh()

    def _make(self) -> None:
        self._dock.attempt(self._session.words.accept)
        self.refresh()
