"""A viewer that is no longer used goes, and its session with it, although nobody closed the session."""

from __future__ import annotations

import gc
import time
import weakref

import numpy as np
from napari.components import ViewerModel

from napari_samdepth.session.session import session_of

from .conftest import WAIT


def _used() -> list[weakref.ref[object]]:
    """Use a session in full, then drop it and its viewer."""
    viewer = ViewerModel()
    picture = np.zeros((40, 50), dtype=np.uint8)
    picture[10:25, 10:30] = 200
    viewer.add_image(picture, name="square")
    session = session_of(viewer)
    session.start()
    viewer.layers["SAM prompts"].add([17, 20])
    assert session.wait(WAIT)
    session.accept()
    session.add_depth()
    assert session.wait(WAIT)
    session.readout()
    return [weakref.ref(viewer), weakref.ref(session)]


def test_a_viewer_and_its_session_go_once_nobody_holds_them() -> None:
    left = _used()
    end = time.monotonic() + WAIT
    while any(held() is not None for held in left) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert [held() for held in left] == [None, None]


def test_the_viewer_keeps_its_session(viewer_model: ViewerModel) -> None:
    session_of(viewer_model).toggle_foreground(False)
    gc.collect()
    assert not session_of(viewer_model).state.foreground
    first = weakref.ref(session_of(viewer_model))
    session_of(viewer_model).close()
    gc.collect()
    assert first() is None
    assert session_of(viewer_model).state.foreground
    session_of(viewer_model).close()
