"""The docks in a real window: they open as tabs, fit a small screen, and say why clicks are off and what waits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QDockWidget, QFileDialog
from skimage import data

from napari_samdepth.session.session import session_of
from napari_samdepth.storage.journal import recoverable

from .conftest import Bench

COIN = (52.0, 49.0)


def docks_of(bench: Bench) -> list[QDockWidget]:
    window = bench.viewer.window._qt_window
    return [
        next(dock for dock in window.findChildren(QDockWidget) if dock.isAncestorOf(widget))
        for widget in (bench.segment, bench.depth, bench.inspect)
    ]


def begun(bench: Bench) -> None:
    bench.viewer.add_image(data.coins(), name="coins")
    bench.viewer.reset_view()
    bench.until(bench.segment.start_button.isEnabled)
    bench.segment.start_button.click()
    bench.until(lambda: bench.session.state.phase == "ready")


def test_docks_open_as_tabs_and_fit_a_small_screen(bench: Bench) -> None:
    segment, depth, inspect = docks_of(bench)
    assert set(bench.viewer.window._qt_window.tabifiedDockWidgets(segment)) == {depth, inspect}
    begun(bench)
    bench.viewer.window.resize(1366, 768)
    bench.settle()
    for dock in (segment, depth, inspect):
        least = dock.minimumSizeHint()
        assert (least.width() <= 380, least.height() <= 640) == (True, True)
    content = bench.segment.page.content.sizeHint()
    assert content.height() <= 640


def test_clicks_are_never_off_silently(bench: Bench) -> None:
    begun(bench)
    segment = bench.segment
    bench.settle()
    assert segment.clicks.currentIndex() == 0
    bench.viewer.layers.selection.active = bench.session.image
    bench.until(lambda: segment.clicks.currentIndex() == 1)
    assert segment.click_on_button.isVisible()
    segment.click_on_button.click()
    bench.until(lambda: segment.clicks.currentIndex() == 0)
    bench.click(*COIN)
    bench.until(lambda: bool(bench.session.state.scores))


def test_a_split_by_two_clicks_makes_no_prompts(bench: Bench) -> None:
    begun(bench)
    mine = np.zeros(bench.session.image.data.shape, np.uint8)
    mine[100:120, 50:100] = mine[100:120, 140:190] = mine[109:111, 100:140] = 1
    layer = bench.viewer.add_labels(mine, name="mine")
    bench.session.masks.use(layer)
    bench.session.click_on()
    bench.session.split_by_clicks(1)
    for at in ((10, 10), (110, 60), (110, 180)):
        bench.click(*at)
    bench.settle()
    assert set(np.unique(layer.data)) == {0, 1, 2}
    assert (layer.data[110, 60], layer.data[110, 180]) == (1, 2)
    assert len(bench.viewer.layers["SAM prompts"].data) == 0
    bench.click(*COIN)
    assert len(bench.viewer.layers["SAM prompts"].data) == 1
    bench.settle()


def test_what_was_not_saved_is_offered(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    coins = data.coins()
    first = make_napari_viewer(show=False)
    session = session_of(first)
    mine = first.add_labels(np.pad(np.ones((9, 9), np.uint8), 20), name="mine")
    first.add_image(coins, name="coins")
    for label in (1, 2):
        session.masks.use(mine)
        session.smooth_label(1) if label == 1 else session.split_label(1, (24, 21), (24, 27))
    held = mine.data.copy()
    session.close()
    viewer = make_napari_viewer(show=True)
    _, segment = viewer.window.add_plugin_dock_widget("napari-samdepth", "Segment")
    while segment.unsaved.isHidden():
        QApplication.processEvents()
        time.sleep(0.01)
    assert "was not saved: 2 labels." in segment.unsaved.text.text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "saved.tif"), ""))
    segment.unsaved.save_button.click()
    from tifffile import imread

    assert np.array_equal(imread(tmp_path / "saved.tif"), held)
    assert segment.unsaved.isHidden()
    assert recoverable() == []
    segment.release()
    session_of(viewer).close()
