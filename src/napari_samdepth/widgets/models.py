"""The row of models in a dock: what each is good for, how long an image takes, and checkpoints of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import Qt
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QHBoxLayout, QLabel, QMessageBox, QSizePolicy, QWidget

from napari_samdepth.session.choices import FOLDERS, Variant, forget_own, model_choices, remember_own
from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.parts import button

if TYPE_CHECKING:
    from napari_samdepth.session.choices import ModelChoice

Task = Literal["segment", "depth", "text"]
OWN = "Own checkpoint…"
COARSER_TIP = (
    "Multiply in bfloat16 where this processor or GPU gains by it: looking at the image takes about two thirds of the "
    "time; outlines may differ by a pixel here and there, depths by a hundredth of their range. Elsewhere nothing is "
    "changed."
)
OWN_TIP = "A model of your own from a file or folder; it stays in this list."


class ModelCombo(QComboBox):
    """Models to choose from; what each is good for is in its tooltip."""

    own_wanted = QtSignal()

    def __init__(self, choices: Sequence[ModelChoice], tooltip: str, own: bool = False) -> None:
        """List `choices`, and, if `own`, an entry that asks for the user's own: `own_wanted` is emitted for it."""
        super().__init__()
        self._tip = tooltip
        self._own = own
        self._choices: tuple[ModelChoice, ...] = ()
        self._last: ModelChoice | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.currentIndexChanged.connect(lambda _index: self._describe())
        self.activated.connect(self._on_activated)
        self.fill(choices)

    @property
    def choice(self) -> ModelChoice:
        """The chosen model; the one before while the user is asked for an own one."""
        choice = self.currentData() or self._last
        assert choice is not None, "there is always a built-in model"
        return choice

    def fill(self, choices: Sequence[ModelChoice]) -> None:
        """List other models; the one chosen stays if it is among them. An open list is left alone."""
        view = self.view()
        if tuple(choices) == self._choices or (view is not None and view.isVisible()):
            return
        before = self.choice.name if self._choices else ""
        self._choices = tuple(choices)
        self.blockSignals(True)
        self.clear()
        for choice in choices:
            self.addItem(choice.title, choice)
            self.setItemData(self.count() - 1, choice.tooltip, Qt.ItemDataRole.ToolTipRole)
        if self._own:
            self.insertSeparator(self.count())
            self.addItem(OWN, None)
            self.setItemData(self.count() - 1, OWN_TIP, Qt.ItemDataRole.ToolTipRole)
        self.choose(before)
        self.blockSignals(False)
        self._describe()

    def choose(self, name: str) -> None:
        """Choose a model by its name if it is in the list."""
        for index, choice in enumerate(self._choices):
            if choice.name == name:
                self.setCurrentIndex(index)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """A wheel that passes by chooses no other model."""
        if event is not None:
            event.ignore()

    def _describe(self) -> None:
        if self.currentData() is not None:
            self._last = self.currentData()
        self.setToolTip(f"{self._tip}\n\n{self.choice.title}\n{self.choice.tooltip}")

    def _on_activated(self, index: int) -> None:
        if self.itemText(index) == OWN and self.itemData(index) is None:
            self.choose(self.choice.name)
            self.own_wanted.emit()


class ModelPicker(QWidget):
    """A list of models with the device beside it; `hint` and `coarser` belong below it.

    `hint` says what to know before starting, `coarser` lets the model run faster and less exactly.
    """

    def __init__(self, dock: Dock, task: Task, tooltip: str) -> None:
        """List the models for a task; `dock` shows what goes wrong."""
        super().__init__()
        self._dock = dock
        self._task: Task = task
        self.combo = ModelCombo(model_choices(task, dock.session.state.device), tooltip, own=True)
        self.forget_button = button("✕", "Forget this checkpoint; its file stays where it is.", self._forget)
        self.forget_button.setFixedWidth(26)
        self.device = QLabel("")
        self.hint = QLabel("")
        self.hint.setWordWrap(True)
        self.hint.hide()
        self.coarser = QCheckBox("Faster, less exact")
        self.coarser.setToolTip(COARSER_TIP)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(6)
        line.addWidget(self.combo, 1)
        line.addWidget(self.forget_button)
        line.addWidget(self.device)
        self.combo.own_wanted.connect(self._ask)
        self.combo.currentIndexChanged.connect(lambda _index: dock.refresh())

    @property
    def choice(self) -> ModelChoice:
        """The chosen model."""
        return self.combo.choice

    @property
    def variant(self) -> Variant:
        """The chosen model, and how exactly it is to run."""
        coarse = self.choice.coarser and self.coarser.isChecked()
        return Variant(self.choice.name, "bfloat16" if coarse else "float32")

    def refresh(self) -> None:
        """Show the models as they are now, the device, and what there is to say of the chosen one."""
        state = self._dock.session.state
        if not state.task:
            self.combo.fill(model_choices(self._task, state.device))
        self.device.setText(state.device.upper())
        self.device.setToolTip(state.device_reason)
        self.forget_button.setVisible(self.choice.own)
        self.coarser.setVisible(self.choice.coarser)
        text = self.choice.problem or self.choice.hint
        self.hint.setText(text)
        self.hint.setVisible(bool(text))

    def _ask(self) -> None:
        path = ask_for_own(self, self._task)
        if path:
            self._dock.session.state.say("")
            self._dock.attempt(lambda: self._take(path))
            self._dock.refresh()

    def _take(self, path: str) -> None:
        name = remember_own(self._task, path)
        self.combo.fill(model_choices(self._task, self._dock.session.state.device))
        self.combo.choose(name)

    def _forget(self) -> None:
        name = self.choice.name
        self._dock.attempt(lambda: forget_own(self._task, name))
        self.combo.fill(model_choices(self._task, self._dock.session.state.device))
        self._dock.refresh()


def ask_for_own(parent: QWidget, task: Task) -> str:
    """Ask for the file or folder of a model and return its path, "" if the user thinks better of it."""
    if task in FOLDERS:
        what = "a depth model" if task == "depth" else "Grounding DINO or SAM 3"
        return QFileDialog.getExistingDirectory(parent, f"Folder of {what} in transformers' format")
    box = QMessageBox(parent)
    box.setWindowTitle("Own checkpoint")
    box.setText("Segment Anything is one file (.pth, .pt, .safetensors); SAM 2 is a folder in transformers' format.")
    file = box.addButton("A file…", QMessageBox.ButtonRole.AcceptRole)
    folder = box.addButton("A folder…", QMessageBox.ButtonRole.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    if box.clickedButton() is file:
        kinds = "Checkpoints (*.pth *.pt *.bin *.ckpt *.safetensors);;All files (*)"
        return str(QFileDialog.getOpenFileName(parent, "SAM checkpoint", "", kinds)[0])
    if box.clickedButton() is folder:
        return QFileDialog.getExistingDirectory(parent, "Folder of SAM 2 in transformers' format")
    return ""


def may_use(parent: QWidget, choice: ModelChoice) -> bool:
    """Whether a model may be loaded: its weights are here, or the user agrees to download them."""
    if choice.present:
        return True
    # the title ends with the size, too
    title = choice.title.partition(" · ")[0]
    question = f"The weights of {title} are not on this machine. Download {choice.size / 1e6:,.0f} MB now?"
    return QMessageBox.question(parent, "Download a model", question) == QMessageBox.StandardButton.Yes
