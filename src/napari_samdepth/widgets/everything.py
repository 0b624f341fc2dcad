"""The fold “Everything” of the Segment dock: search the whole picture, choose by sliders, add as labels."""

from __future__ import annotations

from magicgui.widgets import FloatSlider, SpinBox
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_samdepth.session.session import AnnotationSession
from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.parts import Fold, button, enable, form, row


class EverythingFold(Fold):
    """Controls of the whole-image search; folded away until wanted."""

    def __init__(self, dock: Dock) -> None:
        """Build the fold for the Segment dock."""
        super().__init__("Everything", "Search the whole picture for masks, and add those that are good as labels.")
        self._dock = dock
        self._session: AnnotationSession = dock.session
        self._model = ""
        usual = self._session.everything.usual
        self.points = SpinBox(value=32, min=4, max=128, tooltip="Clicks along each side of the grid that is tried.")
        self.crops = SpinBox(value=0, min=0, max=3, tooltip="Layers of crops searched as well, for small objects.")
        self.iou = self._slider(usual.pred_iou_thresh, "How good the model thinks a mask is, at least.")
        self.stability = self._slider(
            usual.stability_score_thresh, "How little a mask changes with the threshold, at least."
        )
        self.overlap = self._slider(0.7, "Masks whose boxes overlap more than this count as the same.")
        self.area = SpinBox(value=0, min=0, max=10**9, tooltip="Smallest mask in pixels.")
        self.find_button = button("Find everything", "Try a grid of clicks over the whole picture.", self._find)
        self.keep_button = button("Keep what is found", "End the search and go on with it.", self._keep)
        self.add_button = button("Add as labels", "Write the masks as labels, over none that are there.", self._add)
        self.drop_button = button("Discard", "Take the found masks away.", self._session.everything.discard)
        self.count = QLabel("")
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form([("points a side", self.points.native), ("crop layers", self.crops.native)]))
        column.addLayout(row(self.find_button, self.keep_button))
        self.choice = QWidget()
        below = QVBoxLayout(self.choice)
        below.setContentsMargins(0, 0, 0, 0)
        below.addLayout(
            form(
                [
                    ("score", self.iou.native),
                    ("stability", self.stability.native),
                    ("overlap", self.overlap.native),
                    ("least area", self.area.native),
                ]
            )
        )
        below.addWidget(self.count)
        below.addLayout(row(self.add_button, self.drop_button))
        column.addWidget(self.choice)
        self.addWidget(inner)
        for control in (self.iou, self.stability, self.overlap, self.area):
            control.changed.connect(self._filter)

    def refresh(self) -> None:
        """Show the session's state."""
        state = self._session.state
        if state.model != self._model:
            self._model = state.model
            usual = self._session.everything.usual
            self.iou.value, self.stability.value = usual.pred_iou_thresh, usual.stability_score_thresh
            self.points.value, self.crops.value = usual.points_per_side or 0, usual.crop_n_layers
        searching = self._session.lane.busy("everything")
        enable(self.find_button, "The search is under way." if searching else "")
        self.keep_button.setVisible(searching)
        self.choice.setVisible(state.found > 0)
        self.count.setText(f"{state.kept} of {state.found} masks")
        enable(self.add_button, "" if state.kept else "No mask passes; lower a slider.")

    def _find(self) -> None:
        self._filter()
        self._dock.attempt(lambda: self._session.everything.search(self.points.value, self.crops.value))
        self.refresh()

    def _keep(self) -> None:
        self._session.everything.keep_found()

    def _filter(self) -> None:
        everything = self._session.everything
        everything.filter(self.iou.value, self.stability.value, self.overlap.value, self.area.value)

    def _add(self) -> None:
        self._dock.attempt(self._session.everything.accept)

    def _slider(self, value: float, tooltip: str) -> FloatSlider:
        return FloatSlider(value=value, min=0.0, max=1.0, step=0.01, tooltip=tooltip)
