"""Make the screenshots of docs/images in a real window.

    scripts/with_display.sh .venv/bin/python scripts/screenshots.py

Everything seen is what the built-in models answer to the clicks below.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# what others did not save is nobody's business here
os.environ["NAPARI_SAMDEPTH_STATE"] = tempfile.mkdtemp()

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

OUT = Path(__file__).parents[1] / "docs" / "images"
COINS = [(54, 44), (56, 100), (50, 155), (51, 215), (52, 276), (43, 334), (124, 44), (125, 102), (123, 205)]
PARTS = [
    ((255, 505, 450, 690), "front wheel"),
    ((255, 130, 400, 290), "rear wheel"),
    ((125, 515, 200, 575), "headlamp"),
]


def main() -> None:
    """Open a window, work as a user would, and save what it shows."""
    OUT.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1366, 768)
    docks = [viewer.window.add_plugin_dock_widget("napari-samdepth", name) for name in ("Segment", "Depth", "Inspect")]
    (segment_dock, segment), (depth_dock, depth), (inspect_dock, inspect) = docks
    session = segment.session

    def settle(done: Callable[[], bool] = lambda: True) -> None:
        end = time.monotonic() + 400
        while (session.lane.busy() or not done()) and time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)
        for _ in range(40):
            QApplication.processEvents()
            time.sleep(0.01)

    def shoot(dock: Any, name: str) -> None:
        dock.raise_()
        settle()
        viewer.screenshot(str(OUT / f"{name}.png"), canvas_only=False, flash=False)

    viewer.open_sample("napari-samdepth", "coins")
    settle()
    viewer.reset_view()
    segment.start()
    settle(lambda: session.state.phase == "ready")
    for at in COINS:
        viewer.layers["SAM prompts"].add(at)
        settle(lambda: bool(session.state.scores))
        if at != COINS[-1]:
            session.accept()
            settle()
    shoot(segment_dock, "segment")

    session.clear()
    segment.everything.expand(animate=False)
    segment.everything.find_button.click()
    settle(lambda: session.state.found > 0)
    viewer.layers["SAM everything"].opacity = 0.6
    shoot(segment_dock, "everything")
    segment.everything.collapse(animate=False)

    viewer.layers.clear()
    viewer.open_sample("napari-samdepth", "motorcycle")
    for layer in list(viewer.layers):
        if not layer.rgb:
            viewer.layers.remove(layer)
    settle()
    viewer.reset_view()
    segment.start()
    settle(lambda: session.state.phase == "ready")
    for (row_min, col_min, row_max, col_max), _name in PARTS:
        corners = np.array([[row_min, col_min], [row_min, col_max], [row_max, col_max], [row_max, col_min]])
        viewer.layers["SAM shapes"].add_rectangles(corners)
        settle(lambda: bool(session.state.scores))
        session.accept()
        settle()
    depth.add()
    settle(lambda: bool(session.state.depth_layer))
    session.masks.layer.opacity = 0.6
    shoot(depth_dock, "depth")
    settle(lambda: len(inspect.model.table) == len(PARTS))
    viewer.layers[session.state.depth_layer].visible = False
    inspect.view.selectRow(0)
    viewer.reset_view()
    shoot(inspect_dock, "inspect")
    viewer.close()


if __name__ == "__main__":
    main()
