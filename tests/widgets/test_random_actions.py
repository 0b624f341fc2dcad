"""Random actions in a real window with the docks open: clicks on the canvas, keys, buttons and sliders among them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from qtpy.QtWidgets import QAbstractButton, QApplication, QDoubleSpinBox, QSlider

from tests.random_user import RandomUser

from .conftest import Bench

BLOCKING = ("save", "browse", "open", "download", "…", "file", "folder", "copy")
"""Words on buttons that ask for a file, and would wait for a person."""


def _do(bench: Bench, folder: Path, seed: int, count: int) -> None:
    docks = (bench.segment, bench.depth, bench.inspect)

    def press(user: RandomUser) -> None:
        buttons = [
            button
            for dock in docks
            for button in dock.findChildren(QAbstractButton)
            if button.isVisible() and button.isEnabled() and not any(word in button.text().lower() for word in BLOCKING)
        ]
        button = user.one([button for button in buttons if button.menu() is None] if buttons else [])
        if button is not None:
            user.done[-1] = f"press {button.text()!r}"
            user._replaying = True
            button.click()
            QApplication.processEvents()
            user.look()
            user._replaying = False

    def slide(user: RandomUser) -> None:
        slider = user.one(w for dock in docks for w in dock.findChildren((QSlider, QDoubleSpinBox)) if w.isEnabled())
        if slider is not None:
            low, high = slider.minimum(), slider.maximum()
            slider.setValue(type(low)(user.random.uniform(low, min(high, low + 1000))))

    def click_canvas(user: RandomUser) -> None:
        at = user.random.uniform(0, 50, 2)
        bench.click(float(at[0]), float(at[1]), alt=user.random.random() < 0.2)

    def press_key(user: RandomUser) -> None:
        user._replaying = True
        bench.key(user.one(("Return", "Escape", "N", "B", "Ctrl+Z", "Ctrl+Shift+Z")))
        user.look()
        user._replaying = False

    user = RandomUser(
        bench.viewer.window._qt_viewer.viewer,
        folder,
        seed,
        pump=QApplication.processEvents,
        more=(press, slide, click_canvas, press_key),
    )
    try:
        user.act(count)
    finally:
        user.close()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_random_actions_in_a_window_break_nothing(bench: Bench, tmp_path: Path) -> None:
    """Forty, or two thousand where NAPARI_SAMDEPTH_SLOW is set."""
    count = 2000 if os.environ.get("NAPARI_SAMDEPTH_SLOW") else 40
    _do(bench, tmp_path, 3, count)
