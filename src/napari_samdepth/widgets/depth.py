"""The Depth dock: one button adds depth; any other image layer can serve as depth, too."""

from __future__ import annotations

from typing import cast, get_args

from magicgui.widgets import ComboBox, LineEdit
from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_samdepth.core.depthmap import DepthKind
from napari_samdepth.core.no_reading import NoReading
from napari_samdepth.widgets.dock import Dock
from napari_samdepth.widgets.models import ModelPicker, may_use
from napari_samdepth.widgets.parts import Fold, Message, ProgressRow, button, enable, form

KINDS = {
    "inverse": "inverse (larger is nearer)",
    "distance": "distance (larger is farther)",
    "height": "height (larger is nearer)",
    "index": "focus index (larger is farther)",
}


class DepthWidget(Dock):
    """Depth of the shown image, by a model or from a sensor."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        """Build the dock for a viewer."""
        super().__init__(napari_viewer)
        self.image = self.combo(self.is_plain_image, "The image whose depth is wanted: the slice that is shown.")
        self.model = ModelPicker(self, "depth", "The model that estimates depth from one picture.")
        self.column.addLayout(form([("Image", self.image), ("Model", self.model)]))
        self.column.addWidget(self.model.coarser)
        self.column.addWidget(self.model.hint)
        self.add_button = button("Add depth", "Estimate depth and add it as an Image layer.", self.add)
        self.column.addWidget(self.add_button)
        self.progress = ProgressRow(self.session.stop)
        self.column.addWidget(self.progress)
        self.message = Message(self.viewer)
        self.column.addWidget(self.message)
        self.present = QLabel("")
        self.present.setWordWrap(True)
        self.column.addWidget(self.present)
        self._build_own()
        self.column.addStretch(1)
        self.viewer.layers.events.inserted.connect(self._on_layers)
        self.viewer.layers.events.removed.connect(self._on_layers)
        self.refresh()
        self.session.find_device()

    def add(self) -> None:
        """Estimate the depth of the chosen image."""
        choice = self.model.choice
        if may_use(self, choice):
            precision = self.model.variant.precision
            self.attempt(lambda: self.session.add_depth(choice.name, self.image.layer, precision=precision))

    def use_own(self) -> None:
        """Let the chosen layer serve as depth."""
        kind = cast(DepthKind, self.kind.value)
        unit = self.unit.value.strip() or None
        left_out = cast(NoReading, self.no_reading.currentText())  # the session reads what was typed
        self.attempt(lambda: self.session.use_depth(self.own.layer, kind, unit, left_out))

    def refresh(self) -> None:
        """Show the session's state."""
        state = self.session.state
        self.progress.show_progress(state.task, state.progress)
        self.message.say(state.message, state.problem)
        self.model.refresh()
        enable(self.add_button, self.model.choice.problem if self.image.count() else "Open an image first.")
        enable(self.use_button, "" if self.own.count() else "There is no image layer to use.")
        text = f"In use: {state.depth_layer}\n{state.depth_text}" if state.depth_layer else "No depth yet."
        self.present.setText(text)

    def release(self) -> None:
        """Let go of the viewer."""
        if not self._closed:
            self.viewer.layers.events.inserted.disconnect(self._on_layers)
            self.viewer.layers.events.removed.disconnect(self._on_layers)
        super().release()

    def _build_own(self) -> None:
        """A sensor, a height map or a focus index instead of a model, folded away."""
        self.own = self.combo(self._has_values, "An Image layer that holds depth already: a sensor, AFM, focus index.")
        self.kind = ComboBox(choices=[(text, kind) for kind, text in KINDS.items()], tooltip="What its values mean.")
        assert set(KINDS) == set(get_args(DepthKind))
        self.unit = LineEdit(tooltip="Unit of its values, for instance m or nm; empty if relative.")
        self.no_reading = QComboBox()
        self.no_reading.addItems(["auto", "none", "0", "-9999"])
        self.no_reading.setEditable(True)
        self.no_reading.setToolTip(
            "The value that stands where nothing was measured; type another if need be. “auto” finds it, “none” takes "
            "every number for depth."
        )
        self.use_button = button("Use this layer", "Read labels out against this layer.", self.use_own)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        rows = [("Layer", self.own), ("as", self.kind.native), ("unit", self.unit.native)]
        column.addLayout(form([*rows, ("no reading", self.no_reading)]))
        column.addWidget(self.use_button)
        self.fold = Fold(
            "Use a layer of your own", "A sensor, an AFM height map or a focus index can serve as depth instead."
        )
        self.fold.addWidget(inner)
        self.column.addWidget(self.fold)

    def _has_values(self, layer: Layer) -> bool:
        return isinstance(layer, Image) and not layer.rgb

    def _on_layers(self, _event: object = None) -> None:
        self._later.start()
