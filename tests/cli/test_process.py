"""The command as a process: Ctrl+C at any moment, streams that are closed or narrow, too little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.cli import main
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.storage.export import write_depth, write_labels

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and streams of POSIX")
COMMAND = [sys.executable, "-c", "import sys\nfrom napari_samdepth.cli import main\nsys.exit(main())"]
READOUT = ["readout", "labels.tif", "depth.tif"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with labels and depth."""
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((60, 80), dtype=np.uint8)
    labels[5:25, 5:25] = 1
    write_labels("labels.tif", labels)
    write_depth("depth.tif", DepthMap(np.mgrid[:60, :80][0] / 10, "distance", "µm", "a ramp"))
    return tmp_path


def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], text=True, check=False, stderr=subprocess.PIPE, **more)


INTERRUPTED = """
import os, signal, sys
moment = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
            except KeyboardInterrupt:
                if {swallowed}: raise ImportError("failed to import") from None
                raise

sys.meta_path.insert(0, Interrupt())
from napari_samdepth.cli import main
sys.exit(main())
"""


@posix
@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("moment", ["argparse", "numpy", "tifffile", "napari_samdepth.measure.readout"])
def test_ctrl_c_is_answered_in_a_line_at_any_moment(folder: Path, moment: str, swallowed: bool) -> None:
    code = INTERRUPTED.format(swallowed=swallowed)
    command = [sys.executable, "-c", code, moment, *READOUT, "--out", "o.csv"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "napari-samdepth: interrupted.\n")
    assert sorted(path.name for path in folder.iterdir()) == ["depth.tif", "labels.tif"]


@posix
def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    for words, code in ((READOUT, 141), (["--help"], 0)):  # argparse does not mind
        receiver, sender = os.pipe()
        os.close(receiver)
        ended = run(*words, stdout=sender)
        os.close(sender)
        assert (ended.returncode, ended.stderr) == (code, "")


@posix
def test_closed_streams_are_no_error_and_hit_no_file(folder: Path) -> None:
    words = " ".join([*READOUT, "--out", "o.csv"])
    shell = f'exec "$0" -m napari_samdepth.cli {words} <&- >&- 2>&-'
    ended = subprocess.run(["/bin/sh", "-c", shell, sys.executable], check=False)
    assert ended.returncode == 0
    lines = Path("o.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("label,")


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_what_cannot_be_printed_is_a_failure(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = run(*READOUT, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "napari-samdepth: cannot read or write the result: No space left on device.\n"


def test_names_that_the_terminal_cannot_show(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = run(*READOUT, "--out", "größe.csv", stdout=subprocess.PIPE, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "gr\\xf6\\xdfe.csv: 1 labels\n", "")
    assert Path("größe.csv").is_file()
    ended = run(*READOUT, "--out", "größe.csv", stdout=subprocess.PIPE, env=environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith("napari-samdepth: gr\\xf6\\xdfe.csv exists already;")


class Fails:
    """A depth estimator at whose work something fails."""

    name, device = "builtin", "cpu"

    def __init__(self, fail: Any) -> None:
        self.estimate = fail


def no_torch_memory(rgb: np.ndarray) -> None:
    import torch

    torch.empty(2**50, dtype=torch.uint8)


def no_numpy_memory(rgb: np.ndarray) -> None:
    np.ones(2**50, dtype=np.uint8)


def no_memory_below(rgb: np.ndarray) -> None:
    try:
        no_torch_memory(rgb)
    except RuntimeError as error:
        raise RuntimeError("a layer failed") from error


@pytest.mark.parametrize(
    ("fail", "size"), [(no_torch_memory, "1,024 TiB"), (no_numpy_memory, "1.00 PiB"), (no_memory_below, "1,024 TiB")]
)
def test_too_little_memory_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fail: Any, size: str
) -> None:
    monkeypatch.setattr("napari_samdepth.models.loading.load_depth_estimator", lambda *_, **__: Fails(fail))
    assert main(["depth", "labels.tif", "--out", "o.tif"]) == 1
    said = f"napari-samdepth: there is not enough memory for {size}; give a smaller image or ask for less.\n"
    assert capsys.readouterr().err == said


def test_a_fault_of_the_program_is_a_sentence_and_its_traceback_can_be_had(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_samdepth.models.loading.load_depth_estimator", lambda *_, **__: Fails(lambda rgb: {}["rgb"])
    )
    assert main(["depth", "labels.tif", "--out", "o.tif"]) == 1
    err = capsys.readouterr().err
    assert "this should not have happened (KeyError: 'rgb'); `napari-samdepth --traceback" in err
    assert err.count("\n") == 1
    with pytest.raises(KeyError):
        main(["--traceback", "depth", "labels.tif", "--out", "o.tif"])


@posix
def test_a_user_without_a_home_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NAPARI_SAMDEPTH_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert main(["models", "path"]) == 2
    assert capsys.readouterr().err.startswith("napari-samdepth: this user has no home directory; set HOME")
    assert sorted(path.name for path in folder.iterdir()) == ["depth.tif", "labels.tif"]


@posix
def test_a_folder_that_is_gone_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["readout", str(folder / "labels.tif"), str(folder / "depth.tif")]) == 2
    assert "is gone; change to another one." in capsys.readouterr().err
