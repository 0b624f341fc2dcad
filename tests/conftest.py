"""Fixtures for all rooms: data beside the checkout, viewers with and without a window, and a look at what is left."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from napari.components import ViewerModel

# before napari is imported: layers may be changed on the main thread only, and the user's own settings stay untouched
os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")
_SETTINGS = tempfile.TemporaryDirectory(prefix="napari-settings-")
os.environ["NAPARI_CONFIG"] = str(Path(_SETTINGS.name) / "settings.yaml")
os.environ["NAPARI_SAMDEPTH_SETTINGS"] = str(Path(_SETTINGS.name) / "ours")

_COUNT = itertools.count()

SHARED = Path(__file__).parents[2] / "shared"
# threads that libraries start once and keep until the process ends
KEPT_BY_LIBRARIES = ("ThreadPoolExecutor", "Dummy-", "tqdm", "asyncio", "fsspec", "zarr", "QtStatus", "pytest_timeout")


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that open a window where there is no display, and say how to get one."""
    for item in items:
        if "make_napari_viewer" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.window)
        if item.get_closest_marker("window") and not has_display():
            item.add_marker(pytest.mark.skip(reason="no display: run `make test`, or xvfb-run -a pytest"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder with real data beside the checkout; skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data: {SHARED} is absent")
    return SHARED


@pytest.fixture
def viewer_model() -> Iterator[ViewerModel]:
    """Return a ViewerModel, napari's viewer without window, Qt or display."""
    from napari.components import ViewerModel

    viewer = ViewerModel()
    yield viewer
    viewer.layers.clear()


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an embedding cache and journals of its own, or it would find what another one left."""
    number = next(_COUNT)
    for what in ("CACHE", "STATE"):
        monkeypatch.setenv(f"NAPARI_SAMDEPTH_{what}", str(Path(_SETTINGS.name) / f"{what.lower()}-{number}"))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test after which one of our widgets or a thread of ours is still there.

    Set up before `make_napari_viewer`, hence torn down after it has closed its viewers.
    """
    threads, widgets = set(threading.enumerate()), _our_widgets()
    yield
    assert not _settled(lambda: _new_threads(threads)), f"threads still run: {_new_threads(threads)}"
    assert not _settled(lambda: _our_widgets() - widgets), f"widgets are left: {_our_widgets() - widgets}"


def _settled(left: Callable[[], set[str]], patience: float = 30.0) -> set[str]:
    """Return what is left once it is nothing, or after `patience` seconds."""
    end = time.monotonic() + patience
    found = left()
    while found and time.monotonic() < end:
        gc.collect()
        _delete_later()
        time.sleep(0.02)
        found = left()
    return found


def _new_threads(before: set[threading.Thread]) -> set[str]:
    now = {thread for thread in threading.enumerate() if thread not in before and thread.is_alive()}
    return {thread.name for thread in now if not thread.name.startswith(KEPT_BY_LIBRARIES)}


def _our_widgets() -> set[str]:
    qt = sys.modules.get("qtpy.QtWidgets")
    app = qt.QApplication.instance() if qt else None
    if app is None:
        return set()
    ours = (widget for widget in app.allWidgets() if type(widget).__module__.startswith("napari_samdepth"))
    return {f"{type(widget).__name__} {id(widget):x}" for widget in ours}


def _delete_later() -> None:
    """Let Qt carry out what was asked for with deleteLater()."""
    qt = sys.modules.get("qtpy.QtCore")
    if qt is not None and qt.QCoreApplication.instance() is not None:
        qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.Type.DeferredDelete.value)
        qt.QCoreApplication.processEvents()
