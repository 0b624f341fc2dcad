"""Closing napari's window: the docks let go, what runs is cancelled, and viewer and session can be collected."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication

from napari_samdepth.session.session import session_of
from napari_samdepth.widgets.dock import Bridge

PATIENCE = 60.0


def _pump() -> None:
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    QApplication.processEvents()
    time.sleep(0.01)


def _used_and_closed(make_napari_viewer: Any, started: bool) -> dict[str, weakref.ref[Any]]:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.zeros((40, 50), dtype=np.uint8))
    docks = [viewer.window.add_plugin_dock_widget("napari-samdepth", n)[1] for n in ("Segment", "Depth", "Inspect")]
    session = docks[0].session
    if started:
        docks[0].start()
        end = time.monotonic() + PATIENCE
        while session.state.phase != "ready":
            assert time.monotonic() < end, session.state
            _pump()
    viewer.close()
    held = {type(dock).__name__: weakref.ref(dock) for dock in docks}
    return {"viewer": weakref.ref(viewer), "session": weakref.ref(session), **held}


@pytest.mark.parametrize("started", [False, True])
def test_a_closed_window_leaves_neither_viewer_nor_session(make_napari_viewer: Any, started: bool) -> None:
    left = _used_and_closed(make_napari_viewer, started)
    end = time.monotonic() + PATIENCE
    while any(held() is not None for held in left.values()) and time.monotonic() < end:
        gc.collect()
        _pump()
    assert [name for name, held in left.items() if held() is not None] == []


def test_a_window_that_closes_cancels_what_runs(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.zeros((40, 50), dtype=np.uint8))
    _, dock = viewer.window.add_plugin_dock_widget("napari-samdepth", "Segment")
    session = dock.session
    session.wait(PATIENCE)
    answered: list[object] = []

    def forever(report: Any) -> None:
        while True:
            report(0.5, "at work")
            time.sleep(0.01)

    session.lane.submit("embed", forever, answered.append, answered.append)
    viewer.close()
    end = time.monotonic() + PATIENCE
    while session.lane.busy("embed") and time.monotonic() < end:
        _pump()
    assert not session.lane.busy("embed")
    assert not answered
    session.close()


@pytest.mark.window
def test_a_bridge_that_qt_has_deleted_breaks_neither_the_lane_nor_the_dock(
    qapp: QApplication, viewer_model: ViewerModel
) -> None:
    session = session_of(viewer_model)
    bridge = Bridge(session)
    bridge.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    with pytest.raises(RuntimeError):
        bridge.ready.emit()
    answered: list[object] = []
    session.lane.submit("kind", lambda _report: 1, answered.append, answered.append)
    assert session.wait(PATIENCE)
    assert answered == [1]
    begun = threading.Event()

    def forever(report: Any) -> None:
        begun.set()
        while True:
            report(0.5, "at work")
            time.sleep(0.01)

    session.lane.submit("kind", forever, answered.append, answered.append)
    assert begun.wait(PATIENCE)
    bridge.abandon()
    assert not session.lane.busy("kind")
    session.close()


AMID_WORK = """
import sys, time
import napari, numpy as np
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer(show=True)
viewer.add_image(np.zeros((700, 900), dtype=np.uint8))
_, dock = viewer.window.add_plugin_dock_widget("napari-samdepth", "Depth")
dock.add()
session = dock.session
while "estimating" not in session.state.task:
    QApplication.processEvents()
    time.sleep(0.001)
if sys.argv[1] == "closed":
    viewer.close()
"""


@pytest.mark.window
@pytest.mark.parametrize("window", ["closed", "open"])
def test_a_process_that_ends_amid_work_ends_well(window: str) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", AMID_WORK, window],
        capture_output=True, text=True, check=False, timeout=PATIENCE * 2,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
