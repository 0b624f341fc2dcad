"""The settings file: written whole, read with checks, moved aside where damaged, never in the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from napari_samdepth.storage import settings as module
from napari_samdepth.storage.settings import (
    OwnModel,
    Settings,
    Timing,
    change_settings,
    load_settings,
    settings_path,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_what_is_kept_is_read_again_by_another_process(folder: Path, tmp_path: Path) -> None:
    own = OwnModel("segment", str(tmp_path / "größer.pth"))
    change_settings(lambda settings: settings.with_own(own).with_own(own))
    change_settings(lambda settings: settings.with_run("segment", "vit_b", "cpu · X · 2 threads", 11.25))
    module._read.clear()
    found = load_settings()
    assert found.own == (own,)
    assert found.timings == (Timing("segment", "vit_b", "cpu · X · 2 threads", (11.25,)),)
    assert [file.name for file in folder.iterdir()] == ["settings.json"]
    change_settings(lambda settings: settings.without_own(own))
    assert load_settings().own == ()
    assert load_settings().timings


def test_the_file_is_read_once_until_it_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    change_settings(lambda settings: settings.with_own(OwnModel("depth", str(tmp_path / "a"))))
    load_settings()
    path = settings_path()
    text = path.read_text(encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(module.json, "loads", lambda _text: pytest.fail("read again"))
        assert len(load_settings().own) == 1
    path.write_text(text.replace('"depth"', '"segment"'), encoding="utf-8")
    assert load_settings().own[0].task == "segment"


def test_of_many_runs_the_last_five_are_kept_and_the_median_counts() -> None:
    settings = Settings()
    for seconds in (100.0, 3.0, 1.0, 2.0, 50.0, 4.0):
        settings = settings.with_run("depth", "dpt-large", "here", seconds)
    kept = settings.timing("depth", "dpt-large", "here")
    assert kept is not None
    assert kept.seconds == (3.0, 1.0, 2.0, 50.0, 4.0)
    assert kept.typical == 3.0
    assert settings.timing("segment", "dpt-large", "here") is None
    assert settings.timing("depth", "dpt-large", "elsewhere") is None


def test_forgetting_a_model_forgets_its_speed(tmp_path: Path) -> None:
    own = OwnModel("segment", str(tmp_path / "a.pth"))
    settings = Settings().with_own(own).with_run("segment", own.path, "here", 1.0).with_run("segment", "b", "here", 2.0)
    assert [timing.model for timing in settings.without_own(own).timings] == ["b"]


ABSOLUTE = os.path.abspath(os.sep)
DAMAGED = {
    "empty": "",
    "half written": '{"own_models": [{"task": "seg',
    "a list": "[]",
    "own models that are no list": '{"own_models": 3}',
    "a task that is none": json.dumps({"own_models": [{"task": "paint", "path": ABSOLUTE}]}),
    "a relative path": '{"own_models": [{"task": "segment", "path": "../a.pth"}]}',
    "a path that is a number": '{"own_models": [{"task": "segment", "path": 3}]}',
    "a path with a NUL": json.dumps({"own_models": [{"task": "segment", "path": ABSOLUTE + "\0"}]}),
    "no seconds": '{"timings": [{"task": "segment", "model": "a", "machine": "x", "seconds": []}]}',
    "seconds below zero": '{"timings": [{"task": "segment", "model": "a", "machine": "x", "seconds": [-1]}]}',
    "seconds without a number": '{"timings": [{"task": "segment", "model": "a", "machine": "x", "seconds": [NaN]}]}',
    "seconds in words": '{"timings": [{"task": "segment", "model": "a", "machine": "x", "seconds": ["1"]}]}',
    "a model that is a list": '{"timings": [{"task": "segment", "model": [], "machine": "x", "seconds": [1]}]}',
    "nested without end": "[" * 100_000,
    "far too large": '{"x": "' + "y" * 2**20 + '"}',
    "no text": "\ud800",
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_moved_aside_and_work_goes_on(folder: Path, case: str) -> None:
    folder.mkdir()
    content = DAMAGED[case].encode("utf-8", "surrogatepass")
    settings_path().write_bytes(content)
    assert load_settings() == Settings()
    assert (folder / "settings.damaged.json").read_bytes() == content
    change_settings(lambda settings: settings.with_run("segment", "vit_b", "here", 1.0))
    assert load_settings().timing("segment", "vit_b", "here") is not None


def test_what_a_later_version_wrote_stays(folder: Path) -> None:
    folder.mkdir()
    settings_path().write_text('{"colours": {"a": [1, 2]}}', encoding="utf-8")
    change_settings(lambda settings: settings.with_run("segment", "vit_b", "here", 1.0))
    assert json.loads(settings_path().read_text(encoding="utf-8"))["colours"] == {"a": [1, 2]}


def test_a_folder_that_cannot_be_written_is_an_oserror_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("x")
    monkeypatch.setenv("NAPARI_SAMDEPTH_SETTINGS", str(tmp_path / "a file"))
    assert load_settings() == Settings()
    with pytest.raises(OSError, match="a file"):
        change_settings(lambda settings: settings.with_run("segment", "vit_b", "here", 1.0))


def test_changes_from_several_threads_are_all_kept() -> None:
    def keep(number: int) -> None:
        change_settings(lambda settings: settings.with_run("segment", f"model {number}", "here", 1.0))

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_settings().timings) == 12


def test_the_users_folder_of_settings_is_the_place_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAPARI_SAMDEPTH_SETTINGS")
    monkeypatch.setattr("platformdirs.user_config_path", lambda name, appauthor: tmp_path / name)
    assert settings_path() == tmp_path / "napari-samdepth" / "settings.json"


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a process with the settings of this test and wait for its first line of output."""
    running: list[subprocess.Popen[str]] = []

    def start_one(code: str) -> subprocess.Popen[str]:
        before = (
            "import fcntl, os, sys, time\n"
            "from napari_samdepth.storage import settings\n"
            "from napari_samdepth.storage.settings import change_settings, settings_path\n"
        )
        process = subprocess.Popen([sys.executable, "-c", before + code], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_one
    for process in running:
        process.kill()
        process.communicate()


KEEP_FORTY = """
print("ready", flush=True)
while not os.path.exists(os.environ["NAPARI_SAMDEPTH_SETTINGS"] + ".go"):
    time.sleep(0.002)
for number in range(40):
    change_settings(lambda kept: kept.with_run("segment", f"NAME {number}", "here", 1.0))
"""
HOLD = """
with settings._alone(settings_path()):
    print("ready", flush=True)
    time.sleep(60)
"""
NO_LOCKS = """
import errno
def flock(fd, kind): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
"""


@pytest.mark.parametrize("before", ["", NO_LOCKS], ids=["locks", "a file system without locks"])
def test_changes_from_several_processes_are_all_kept(
    folder: Path, before: str, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    processes = [start(before + KEEP_FORTY.replace("NAME", name)) for name in "abc"]
    folder.with_name(f"{folder.name}.go").touch()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    kept = {timing.model for timing in load_settings().timings}
    assert kept == {f"{name} {number}" for name in "abc" for number in range(40)}
    assert [file.name for file in folder.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("before", ["", NO_LOCKS], ids=["locks", "a file system without locks"])
def test_the_lock_of_a_killed_process_holds_nobody_up(
    folder: Path, before: str, monkeypatch: pytest.MonkeyPatch, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = start(before + HOLD)
    process.kill()
    process.wait()
    if before:
        import fcntl

        def flock(fd: int, kind: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
    begun = time.monotonic()
    change_settings(lambda settings: settings.with_run("segment", "vit_b", "here", 1.0))
    assert time.monotonic() - begun < 5
    assert [file.name for file in folder.iterdir()] == ["settings.json"]


def test_a_process_that_hangs_is_an_oserror_after_a_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    os.kill(start(HOLD).pid, signal.SIGSTOP)
    assert load_settings() == Settings()
    with pytest.raises(OSError, match="another process keeps it locked"):
        change_settings(lambda settings: settings.with_run("segment", "vit_b", "here", 1.0))


def test_settings_that_are_no_regular_file_are_no_settings(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(settings_path())
    assert load_settings() == Settings()
    with pytest.raises(OSError, match="is no regular file"):
        change_settings(lambda settings: settings.with_run("segment", "vit_b", "here", 1.0))
