"""The Segment dock: choose an image, start, click, accept."""

from __future__ import annotations

from functools import partial

from napari.components import ViewerModel
from napari.layers import Labels, Points
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.everything import EverythingFold
from napari_samdepth.widgets.label_tools import LabelToolsFold
from napari_samdepth.widgets.models import ModelPicker, may_use
from napari_samdepth.widgets.parts import (
    Message,
    ProgressRow,
    button,
    enable,
    form,
    plain_number,
    row,
)
from napari_samdepth.widgets.unsaved import UnsavedWork
from napari_samdepth.widgets.words import WordsFold

MASKS_SHOWN = 3
HELP = (
    "Click on an object; right-click or Shift-click: not this. Or draw in “SAM shapes”: a box, a path along it "
    "(scribble), a polygon around it (lasso).\n"
    "Enter accepts, Esc clears, N next mask, Ctrl+Z undoes, E each click is an object."
)


class SegmentWidget(Dock):
    """Clicks to masks; one column in the order of use."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        """Build the dock for a viewer."""
        super().__init__(napari_viewer)
        self.unsaved = UnsavedWork(self)
        self.column.addWidget(self.unsaved)
        self._build_source()
        self.progress = ProgressRow(self.session.stop)
        self.column.addWidget(self.progress)
        self.message = Message(self.viewer)
        self.column.addWidget(self.message)
        self.work = QWidget()
        self._build_work(QVBoxLayout(self.work))
        self.column.addWidget(self.work)
        self.column.addStretch(1)
        self.image.chosen.connect(lambda _layer: self.refresh())
        for name in ("inserted", "removed"):
            getattr(self.viewer.layers.events, name).connect(self._on_layers)
        self.viewer.layers.selection.events.active.connect(self._on_selection)
        self._on_selection()
        self.refresh()
        self.unsaved.look()
        self.session.find_device()

    def start(self) -> None:
        """Start on the chosen image with the chosen model, after asking where weights have to be fetched."""
        choice = self.model.choice
        if not may_use(self, choice):
            return
        active = self.viewer.layers.selection.active
        points = active if isinstance(active, Points) and not self.session.is_helper(active) else None
        target = self.target.layer
        # labels made for one image do not serve the next unless they are chosen for it
        labels = None if target is self.session.masks.layer else target
        precision = self.model.variant.precision
        self.attempt(
            lambda: self.session.start(
                self.image.layer, choice.name, labels, points, precision=precision, as_shown=self.as_shown.isChecked()
            )
        )
        self.target.choose(self.session.masks.layer)

    def refresh(self) -> None:
        """Show the session's state."""
        state = self.session.state
        self.hint.setVisible(self.image.count() == 0)
        self.progress.show_progress(state.task, state.progress)
        self.message.say(state.message, state.problem)
        self.model.refresh()
        started = self.session.image is not None
        enable(self.start_button, self.model.choice.problem if self.image.count() else "Open an image first.")
        other = self._other_image() or self._other_model()
        self.start_button.setText("Start" if not started or other else "Restart")
        self.not_started.setVisible(started and self._other_model())
        self.not_started.setText(f"Press Start to use {self.model.choice.title.partition(' · ')[0]}.")
        self.clicks.setCurrentIndex(int(started and self.session.clicks_are_off))
        self.work.setVisible(started)
        self._show_masks()
        self.foreground.setChecked(state.foreground)
        self.background.setChecked(not state.foreground)
        missing = "The image is still being encoded." if state.phase == "busy" else "Click on an object first."
        asked = self.session.masks.document.asked is not None
        waiting = "" if state.scores or asked else missing
        enable(self.accept_button, waiting)
        enable(self.clear_button, waiting)
        enable(self.undo_button, "" if state.can_undo else "There is nothing to undo.")
        enable(self.redo_button, "" if state.can_redo else "There is nothing to redo.")
        enable(self.edit_button, "" if self.session.masks.layer is not None else "There is no label to refine yet.")
        self.edit_button.setText(f"Refine label {state.occupied}" if state.occupied else "Refine label")
        self.each_click.setChecked(state.each_click)
        self.next_title.setText(f"Refining label {state.editing}" if state.editing else "Next label")
        self.next_label.setVisible(not state.editing)
        self.next_label.blockSignals(True)
        self.next_label.setValue(state.next_label)
        self.next_label.blockSignals(False)
        self.waiting.setText(f"{state.waiting} waiting" if state.waiting else "")
        self.tools.refresh()
        self.everything.refresh()
        self.words.refresh()

    def release(self) -> None:
        """Let go of the viewer; keys and helper layers go away, labels stay."""
        if self._closed:
            return
        for name in ("inserted", "removed"):
            getattr(self.viewer.layers.events, name).disconnect(self._on_layers)
        self.viewer.layers.selection.events.active.disconnect(self._on_selection)
        super().release()
        self.session.finish()

    def _build_source(self) -> None:
        self.hint = self._build_hint()
        self.column.addWidget(self.hint)
        self.image = self.combo(self.is_plain_image, "The image to click on: the slice that is shown.")
        self.model = ModelPicker(self, "segment", "The model that turns clicks into masks.")
        self.target = self.combo(self._is_target, "The Labels layer that accepted masks go to.", "a new layer")
        self.target.chosen.connect(lambda _layer: self._use_target())
        self.column.addLayout(form([("Image", self.image), ("Model", self.model), ("Labels", self.target)]))
        self.as_shown = QCheckBox("As shown: all visible channels")
        self.as_shown.setToolTip(
            "The model sees all visible images as the canvas blends them, not the chosen one alone; for the next Start."
        )
        self.column.addWidget(self.as_shown)
        self.column.addWidget(self.model.coarser)
        self.column.addWidget(self.model.hint)
        self.not_started = QLabel("")
        self.not_started.setWordWrap(True)
        self.column.addWidget(self.not_started)
        self.start_button = button("Start", "Encode the shown image; then every click is answered.", self.start)
        self.start_button.setObjectName("start")
        self.column.addWidget(self.start_button)

    def _build_hint(self) -> QWidget:
        hint = QFrame()
        column = QVBoxLayout(hint)
        column.setContentsMargins(0, 0, 0, 4)
        text = QLabel("Open an image, or try a sample:")
        text.setWordWrap(True)
        column.addWidget(text)
        samples = [
            button(name, f"Open scikit-image's “{name}”.", partial(self._open_sample, name))
            for name in ("coins", "motorcycle", "astronaut")
        ]
        column.addLayout(row(*samples))
        return hint

    def _build_work(self, column: QVBoxLayout) -> None:
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(7)
        self.foreground = QRadioButton("foreground")
        self.foreground.setToolTip("A click says: this belongs to the object. Alt-click says the opposite. Key: B")
        self.background = QRadioButton("background")
        self.background.setToolTip("A click says: this does not belong to the object. Key: B")
        self.foreground.toggled.connect(self.session.toggle_foreground)
        # one in the place of the other: nothing below moves
        self.clicks = QStackedWidget()
        for page in (
            row(QLabel("Click is"), self.foreground, self.background, stretch=True),
            self._build_clicks_off(),
        ):
            holder = QWidget()
            page.setContentsMargins(0, 0, 0, 0)
            holder.setLayout(page)
            self.clicks.addWidget(holder)
        self.clicks.setFixedHeight(2 * self.fontMetrics().lineSpacing() + 4)
        column.addWidget(self.clicks)
        self.each_click = QCheckBox("Each click is an object")
        self.each_click.setToolTip(
            "Every click makes a label at once: for many objects that one click each finds. Key: E"
        )
        self.each_click.toggled.connect(self.session.set_each_click)
        column.addWidget(self.each_click)
        self.masks = [self._mask_button(index) for index in range(MASKS_SHOWN)]
        group = QButtonGroup(self)
        for made in self.masks:
            group.addButton(made)
        self.masks_title = QLabel("Masks")
        column.addLayout(row(self.masks_title, *self.masks, stretch=True))
        self.live = QLabel("")
        self.live.setToolTip("Of the mask on offer: nearness from 0 (farthest) to 1 (nearest), spread of its depth.")
        self.live.setWordWrap(True)
        column.addWidget(self.live)
        self.accept_button = button("Accept ⏎", "Make the mask a label. Key: Enter", self._accept)
        self.clear_button = button("Clear", "Drop the mask and its clicks. Key: Escape", self.session.clear)
        column.addLayout(row(self.accept_button, self.clear_button))
        self.undo_button = button("Undo", "Take back the last click or label. Key: Ctrl+Z", self.session.undo)
        self.redo_button = button("Redo", "Do it again. Key: Ctrl+Shift+Z", self.session.redo)
        self.edit_button = button(
            "Refine label", "Click more on the label that is selected in the Labels layer.", self._edit
        )
        column.addLayout(row(self.undo_button, self.redo_button, self.edit_button))
        self.next_title = QLabel("")
        self.next_label = QSpinBox()
        self.next_label.setRange(1, 2**31 - 1)
        self.next_label.setKeyboardTracking(False)
        self.next_label.setToolTip("The number of the next mask; type one that is there to go on with that object.")
        self.next_label.valueChanged.connect(self.session.number_next)
        self.waiting = QLabel("")
        self.waiting.setToolTip("Objects that were accepted and are written when the model has answered.")
        column.addLayout(row(self.next_title, self.next_label, self.waiting, stretch=True))
        self.help = QLabel(HELP)
        self.help.setWordWrap(True)
        column.addWidget(self.help)
        self.tools = LabelToolsFold(self)
        column.addWidget(self.tools)
        self.everything = EverythingFold(self)
        column.addWidget(self.everything)
        self.words = WordsFold(self)
        column.addWidget(self.words)

    def _build_clicks_off(self) -> QHBoxLayout:
        text = QLabel("Clicks are off: another layer is selected.")
        text.setWordWrap(True)
        self.click_on_button = button("Click here", "Select the layer that is clicked in.", self.session.click_on)
        made = row(text, self.click_on_button)
        made.setStretch(0, 1)
        return made

    def _mask_button(self, index: int) -> QPushButton:
        made = button("", "Show this mask; its score is the model's own estimate. Key: N", lambda: self._choose(index))
        made.setCheckable(True)
        return made

    def _show_masks(self) -> None:
        state = self.session.state
        self.masks_title.setText("Masks" if state.scores else "No mask yet")
        for index, made in enumerate(self.masks):
            made.setVisible(index < len(state.scores))
            if index < len(state.scores):
                # models estimate a share, and now and then a little more than all
                made.setText(f"{index + 1} · {min(max(state.scores[index], 0.0), 1.0):.2f}")
                made.setChecked(index == state.chosen)
        live = state.live
        self.live.setVisible(bool(state.depth_layer))
        if live:
            numbers = " · ".join(f"{name} {plain_number(live[name])}" for name in ("nearness", "spread", "median"))
            self.live.setText(numbers)
        else:
            self.live.setText("")

    def _choose(self, index: int) -> None:
        self.session.choose(index)
        self.refresh()

    def _accept(self) -> None:
        self.attempt(self.session.accept)

    def _edit(self) -> None:
        layer = self.session.masks.layer
        if layer is not None:
            label = self.session.state.occupied or int(layer.selected_label)
            self.attempt(lambda: self.session.edit(label))

    def _use_target(self) -> None:
        self.attempt(lambda: self.session.masks.use(self.target.layer))
        self.refresh()

    def _other_model(self) -> bool:
        return self.session.image is not None and self.model.variant != self.session.variant

    def _other_image(self) -> bool:
        return self.image.layer is not self.session.image

    def _open_sample(self, name: str) -> None:
        self.viewer.open_sample("napari-samdepth", name)

    def _is_target(self, layer: object) -> bool:
        return isinstance(layer, Labels) and not self.session.is_helper(layer)

    def _on_layers(self, _event: object = None) -> None:
        if self.session.masks.layer is not None:
            self.target.choose(self.session.masks.layer)
        elif self.session.image is not None:
            # a Labels layer that comes along is not where accepted masks go unless it is chosen
            self.target.choose(None)
        self._later.start()

    def _on_selection(self, _event: object = None) -> None:
        """Selecting an image in napari's list chooses it here."""
        active = self.viewer.layers.selection.active
        if active is not None and self.session.image is None:
            self.image.choose(active)
        self._later.start()
