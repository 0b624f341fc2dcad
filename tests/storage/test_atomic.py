"""Files in their place: whole, where links lead, never over another unless allowed, and no remains of killed writes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from napari_samdepth.storage import atomic
from napari_samdepth.storage.atomic import atomic_path, check_output, same_file

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, modes, pipes and signals of POSIX")


def write(path: Path, text: str = "new", overwrite: bool = True) -> None:
    with atomic_path(path, overwrite=overwrite) as beside:
        beside.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_older_file_is_kept_unless_it_may_go(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, "old", overwrite=False)
    with pytest.raises(FileExistsError) as told:
        write(path, overwrite=False)
    assert told.value.filename == str(path)
    assert path.read_text() == "old"
    write(path)
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    path = tmp_path / "a.csv"
    with pytest.raises(FileExistsError), atomic_path(path, overwrite=False) as beside:  # noqa: PT012
        beside.write_text("new")
        path.write_text("of another")
        if not links:
            monkeypatch.setattr(os, "link", refuse)
    assert path.read_text() == "of another"
    path.unlink()
    write(path, overwrite=False)
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.csv"]


@posix
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "a.csv"
    real.write_text("old")
    chain, link, dangling = tmp_path / "chain.csv", tmp_path / "link.csv", tmp_path / "dangling.csv"
    chain.symlink_to("link.csv")
    link.symlink_to("real/a.csv")
    dangling.symlink_to("real/b.csv")
    write(chain)
    write(dangling)
    assert chain.is_symlink()
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert (real.read_text(), (tmp_path / "real" / "b.csv").read_text()) == ("new", "new")
    with pytest.raises(FileExistsError):
        write(link, overwrite=False)
    loop = tmp_path / "loop.csv"
    loop.symlink_to("loop.csv")
    with pytest.raises(OSError, match="symbolic links"):
        write(loop)
    assert names(tmp_path / "real") == ["a.csv", "b.csv"]


@posix
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o755])
def test_the_mode_is_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_new_file_has_the_mode_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o640


@posix
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device") as told:
        write(pipe, overwrite=False)  # nobody reads it
    assert told.value.filename == str(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    written = False
    while not written:
        with contextlib.suppress(OSError):  # not opened for reading yet
            write(pipe, "x" * 200_000, overwrite=False)
            written = True
    reader.join()
    assert got == ["x" * 200_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


@posix
def test_devices_stay_devices() -> None:
    write(Path(os.devnull), overwrite=False)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(OSError, match="No space left"):
            write(Path("/dev/full"))


@posix
@pytest.mark.parametrize("to_file", [True, False])
def test_standard_output_keeps_what_was_said_before(tmp_path: Path, to_file: bool) -> None:
    code = (
        "from napari_samdepth.storage.atomic import atomic_path\n"
        "print('before')\n"
        "with atomic_path('/dev/stdout', overwrite=False) as beside: beside.write_text('table\\n')\n"
        "print('after')"
    )
    command = [sys.executable, "-c", code]
    if to_file:
        with (tmp_path / "out").open("wb") as out:
            subprocess.run(command, stdout=out, check=True)
        said = (tmp_path / "out").read_text()
    else:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "before\ntable\nafter\n"


@posix
def test_sockets_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(PermissionError):
            check_output("socket")
    with pytest.raises(IsADirectoryError):
        check_output(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        write(tmp_path / "file" / "a.csv")


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + "a.csv")
    write(path)
    assert path.read_text() == "new"
    with pytest.raises(OSError, match="too long"):
        write(tmp_path / ("ä" * 126 + ".csv"))
    assert names(tmp_path) == [path.name]


def test_a_block_that_writes_nothing_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.csv"):
        pass
    assert (tmp_path / "a.csv").read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


KILLED = """
import os, sys, time
from napari_samdepth.storage.atomic import atomic_path
with atomic_path("a.csv") as beside:
    beside.write_text("half")
    print(beside.name, flush=True)
    time.sleep(60)
"""


@posix
def test_what_killed_writes_left_goes_and_what_the_living_write_stays(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        parts = [writer.stdout.readline().strip() for writer in writers]
        assert names(tmp_path) == sorted(parts)
        write(tmp_path / "b.csv")
        assert names(tmp_path) == sorted([*parts, "b.csv"])
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert names(tmp_path) == sorted([*parts, "b.csv"])
        atomic._looked.clear()
        write(tmp_path / "c.csv")  # of another name: whoever writes there next tidies up
        assert names(tmp_path) == sorted([parts[1], "b.csv", "c.csv"])
        assert (tmp_path / parts[1]).read_text() == "half"
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()


def test_where_files_cannot_be_locked_only_old_remains_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_lock", lambda descriptor, wait: None)
    old, young = tmp_path / ".napari-samdepth-00000000.part.tif", tmp_path / ".napari-samdepth-00000001.part"
    others = [tmp_path / name for name in (".napari-samdepth-1.part", "x.part", ".x.00000000.part")]
    for path in (old, young, *others):
        path.write_text("half")
        os.utime(path, (0, 0))
    os.utime(young)
    write(tmp_path / "a.csv")
    assert names(tmp_path) == sorted(["a.csv", young.name, *(path.name for path in others)])


def test_one_file_under_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_text("x")
    (tmp_path / "folder").mkdir()
    assert same_file("a.tif", "./folder/../a.tif")
    assert same_file("a.tif", tmp_path / "a.tif")
    assert not same_file("a.tif", "b.tif")
    assert same_file("b.tif", "folder/../b.tif")
    # not there yet: they may become one on a disk that ignores case, or composes accents
    assert same_file("b.tif", "B.TIF")
    assert same_file("\u00e9.tif", "e\u0301.tif")
    if sys.platform != "win32":
        os.link("a.tif", "hard.tif")
        os.symlink("a.tif", "soft.tif")
        os.symlink("b.tif", "dangling.tif")
        assert same_file("a.tif", "hard.tif")
        assert same_file("a.tif", "soft.tif")
        assert same_file("b.tif", "dangling.tif")
