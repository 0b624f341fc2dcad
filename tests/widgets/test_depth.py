"""The Depth dock's fold for a layer of the user's own."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_samdepth.widgets.depth import DepthWidget


def test_which_value_is_no_reading_is_said_and_chosen(qapp: QApplication, viewer_model: ViewerModel) -> None:
    depth = np.full((10, 10), 1200, dtype=np.uint16)
    depth[:3, :4] = 0
    viewer_model.add_image(depth, name="sensor")
    dock = DepthWidget(viewer_model)
    assert dock.session.wait(120)
    dock.kind.value, dock.unit.value = "distance", "mm"
    dock.use_button.click()
    dock.refresh()
    assert "12 % of the pixels hold no reading (0)." in dock.present.text()
    dock.no_reading.setCurrentText("none")
    dock.use_button.click()
    dock.refresh()
    assert "no reading" not in dock.present.text()
    dock.no_reading.setCurrentText("zero")
    dock.use_button.click()
    assert dock.session.state.problem
    assert dock.session.state.message.startswith("No reading is")
    assert dock.session.depths.active is not None
    assert dock.session.depths.active.no_reading == "none", "the depth in use stays"
    dock.release()
    dock.session.close()
    dock.deleteLater()
