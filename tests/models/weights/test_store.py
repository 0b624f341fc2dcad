"""Downloads against a server of our own that cuts, corrupts, refuses and resumes."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models import registry
from napari_samdepth.models.registry import find, specs
from napari_samdepth.models.weights import fetch as fetch_module
from napari_samdepth.models.weights import store
from napari_samdepth.models.weights.store import fetch, fetch_spec, local_path, models_folder, spec_status, verify

CONTENT = np.random.default_rng(0).bytes(1_500_000)
HEADER = b'{"a": {"dtype": "U8", "shape": [1500000], "data_offsets": [0, 1500000]}}'
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + CONTENT
"""The same as safetensors."""


@dataclass
class Server:
    """What the server holds and how it misbehaves."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # bytes sent before the connection is dropped, per request
    answers: list[int] = field(default_factory=list)  # status codes to answer with instead, per request
    ranges: bool = True
    etag: str = '"v1"'
    linked_tag: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)  # path and Range header


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.requests.append((self.path, wanted))
            content = state.files.get(self.path)
            code = state.answers.pop(0) if state.answers else (404 if content is None else 200)
            if code != 200 or content is None:
                return self.send_error(code)
            first = 0
            fresh = self.headers.get("If-Range") in (None, state.etag)
            if wanted and state.ranges and fresh:
                first = int(wanted.removeprefix("bytes=").rstrip("-"))
                if first >= len(content):
                    return self.send_error(416)
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - first))
            self.send_header("ETag", state.etag)
            if state.linked_tag:
                self.send_header("X-Linked-ETag", f'"{hashlib.sha256(WEIGHTS).hexdigest()}"')
            self.end_headers()
            stop = first + state.cut_after.pop(0) if state.cut_after else len(content)
            self.wfile.write(content[first:stop])
            return None

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(fetch_module, "PAUSE", 0.001)
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def entry(server: Server) -> Any:
    """The entry of vit_b, moved to our server and to a smaller file."""
    server.files["/sam_vit_b_01ec64.pth"] = CONTENT
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    return replace(find("vit_b"), url=f"{server.address}/sam_vit_b_01ec64.pth", checksum=checksum, size=len(CONTENT))


def _only(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _left(folder: Path) -> int:
    """Return how many bytes an interrupted download left."""
    return (folder / "vit_b" / "sam_vit_b_01ec64.pth.part").stat().st_size


def test_a_file_arrives_checked_and_is_not_fetched_again(
    entry: Any, server: Server, tmp_path: Path, steps: Any
) -> None:
    path = fetch_spec(entry, tmp_path, steps.report)
    assert _only(tmp_path) == {"vit_b/sam_vit_b_01ec64.pth": CONTENT}
    assert fetch_spec(entry, tmp_path) == path
    assert len(server.requests) == 1
    fractions = [fraction for fraction, what in steps.notes if what.startswith("downloading vit_b")]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    found = spec_status(entry, tmp_path)
    assert (found.present, found.path, found.size) == (True, path, len(CONTENT))


def test_xxh128_is_checked_too(entry: Any, tmp_path: Path) -> None:
    good = replace(entry, checksum=f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}")
    assert fetch_spec(good, tmp_path).read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_where_it_broke(entry: Any, server: Server, tmp_path: Path) -> None:
    server.cut_after = [400_000, 300_000]
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["", "bytes=400000-", "bytes=700000-"]


def test_a_server_without_ranges_sends_it_all_again(entry: Any, server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [400_000]
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT


def test_giving_up_keeps_what_came_for_the_next_time(
    entry: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 2)
    server.cut_after = [500_000, 0, 0]
    with pytest.raises(ModelError, match=r"keeps breaking off .*goes on where it stopped"):
        fetch_spec(entry, tmp_path)
    assert _left(tmp_path) == 500_000
    assert local_path(entry, tmp_path) is None
    server.cut_after.clear()
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=500000-"
    assert list(_only(tmp_path)) == ["vit_b/sam_vit_b_01ec64.pth"]


def test_cancel_keeps_what_came(entry: Any, server: Server, tmp_path: Path, steps: Any) -> None:
    steps.stop_at = 2
    with pytest.raises(Cancelled):
        fetch_spec(entry, tmp_path, steps.report)
    partial = _left(tmp_path)
    assert 0 < partial < len(CONTENT)
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={partial}-"


def test_a_corrupt_file_never_counts(entry: Any, server: Server, tmp_path: Path) -> None:
    server.files["/sam_vit_b_01ec64.pth"] = CONTENT[:-1] + b"?"
    with pytest.raises(ModelError, match="wrong checksum"):
        fetch_spec(entry, tmp_path)
    assert _only(tmp_path) == {} or list(_only(tmp_path)) == ["vit_b/sam_vit_b_01ec64.pth.etag"]
    assert not spec_status(entry, tmp_path).present


def test_a_corrupt_rest_of_an_earlier_download_is_replaced(entry: Any, server: Server, tmp_path: Path) -> None:
    part = tmp_path / "vit_b" / "sam_vit_b_01ec64.pth.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", ""]


def test_a_part_that_is_too_long_is_begun_again(entry: Any, server: Server, tmp_path: Path) -> None:
    part = tmp_path / "vit_b" / "sam_vit_b_01ec64.pth.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_begun_again(entry: Any, server: Server, tmp_path: Path) -> None:
    server.cut_after = [400_000]
    server.answers = [200, 403]
    with pytest.raises(ModelError, match="HTTP 403"):
        fetch_spec(entry, tmp_path)
    server.etag = '"v2"'
    server.files["/sam_vit_b_01ec64.pth"] = changed = CONTENT[::-1]
    renewed = replace(entry, checksum=f"sha256:{hashlib.sha256(changed).hexdigest()}")
    assert fetch_spec(renewed, tmp_path).read_bytes() == changed


def test_a_busy_server_is_asked_again(entry: Any, server: Server, tmp_path: Path) -> None:
    server.answers = [503, 429]
    assert fetch_spec(entry, tmp_path).read_bytes() == CONTENT


def test_refusals_are_one_sentence(entry: Any, server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no gone\.pth any more; put gone\.pth into .*vit_b by hand"):
        fetch_spec(replace(entry, url=f"{server.address}/gone.pth"), tmp_path)
    place = tmp_path / "vit_b"
    with pytest.raises(ModelError) as refused:
        fetch_spec(replace(entry, url="http://127.0.0.1:9/sam_vit_b_01ec64.pth"), tmp_path)
    assert str(refused.value) == (
        "vit_b cannot be downloaded because 127.0.0.1:9 cannot be reached (the connection is refused); go online, or "
        f"put sam_vit_b_01ec64.pth into {place} by hand."
    )
    with pytest.raises(ModelError, match="ships with the package"):
        fetch("builtin")


def test_a_proxy_from_the_environment_is_used(
    entry: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    server.files["http://far.example/sam_vit_b_01ec64.pth"] = CONTENT
    far = replace(entry, url="http://far.example/sam_vit_b_01ec64.pth")
    assert fetch_spec(far, tmp_path).read_bytes() == CONTENT
    assert server.requests[0][0] == "http://far.example/sam_vit_b_01ec64.pth"


def test_no_room_is_told_before_anything_is_fetched(entry: Any, server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs 1\d+ MB and .* free; make room or set NAPARI_SAMDEPTH_MODELS"):
        fetch_spec(replace(entry, size=10**17), tmp_path)
    assert server.requests == []


def test_a_folder_that_cannot_be_made_is_told(entry: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="cannot be made"):
        fetch_spec(entry, tmp_path / "file")


@pytest.fixture
def hub_entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    entry = replace(find("dpt-large"), size=len(WEIGHTS))
    monkeypatch.setenv(store.ENDPOINT_VARIABLE, server.address)
    base = f"/{entry.hub_id}/resolve/{entry.revision}"
    server.files |= {
        f"{base}/config.json": b'{"model_type": "dpt"}', f"{base}/preprocessor_config.json": b"{}",
        f"{base}/model.safetensors": WEIGHTS,
    }  # fmt: skip
    return entry


def test_a_hub_model_arrives_file_by_file(
    hub_entry: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch_spec(replace(hub_entry, optional_files=("absent.json",)), tmp_path)
    assert {file.name for file in path.iterdir()} == {*hub_entry.files, "checksums.json"}
    recorded = json.loads((path / "checksums.json").read_text())
    assert recorded["model.safetensors"] == f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
    assert local_path(hub_entry, tmp_path) == path
    monkeypatch.setattr(store, "find", lambda name: hub_entry)
    assert verify("dpt-large", tmp_path).present
    (path / "model.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ModelError, match="is not what dpt-large should be"):
        verify("dpt-large", tmp_path)


def test_a_hub_model_is_resumed_and_its_announced_checksum_counts(
    hub_entry: Any, server: Server, tmp_path: Path
) -> None:
    server.linked_tag = True
    hub_entry = replace(hub_entry, files=("model.safetensors",))
    server.cut_after = [600_000]
    assert (fetch_spec(hub_entry, tmp_path) / "model.safetensors").read_bytes() == WEIGHTS
    assert server.requests[-1][1] == "bytes=600000-"
    (tmp_path / "dpt-large" / "model.safetensors").unlink()
    server.files[server.requests[-1][0]] = WEIGHTS[:-1] + b"?"
    with pytest.raises(ModelError, match="wrong checksum"):
        fetch_spec(hub_entry, tmp_path)


def test_a_missing_file_of_a_hub_model_is_told(hub_entry: Any, server: Server, tmp_path: Path) -> None:
    del server.files[next(path for path in server.files if path.endswith("/config.json"))]
    with pytest.raises(ModelError, match=r"has no config\.json any more"):
        fetch_spec(hub_entry, tmp_path)
    assert not spec_status(hub_entry, tmp_path).present


def test_without_a_network_every_file_that_is_missing_is_named(
    hub_entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the name is reserved for never being found (RFC 6761)
    monkeypatch.setenv(store.ENDPOINT_VARIABLE, "http://hub.invalid")
    monkeypatch.setenv("no_proxy", "*")
    place = tmp_path / "dpt-large"
    with pytest.raises(ModelError) as offline:
        fetch_spec(hub_entry, tmp_path)
    assert str(offline.value) == (
        "config.json of dpt-large cannot be downloaded because hub.invalid cannot be reached (its name is not found); "
        "go online, or put config.json, preprocessor_config.json and model.safetensors of Intel/dpt-large into "
        f"{place} by hand."
    )
    for file in hub_entry.files[:2]:
        (place / file).write_text("{}")
    with pytest.raises(ModelError, match=r"go online, or put model\.safetensors of Intel/dpt-large into"):
        fetch_spec(hub_entry, tmp_path)


def test_files_brought_by_hand_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    assert models_folder() == tmp_path
    assert not spec_status(find("vit_b")).present
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"weights")
    assert spec_status(find("vit_b")).path == tmp_path / "sam_vit_b_01ec64.pth"
    # two models have a file called vit_b.pt: which one this is cannot be known
    (tmp_path / "vit_b.pt").write_bytes(b"weights")
    assert not spec_status(find("vit_b_lm")).present
    (tmp_path / "vit_b_lm").mkdir()
    (tmp_path / "vit_b_lm" / "vit_b.pt").write_bytes(b"weights")
    assert spec_status(find("vit_b_lm")).present
    (tmp_path / "dpt-large").mkdir()
    assert not spec_status(find("dpt-large")).present
    for file in find("dpt-large").files:
        (tmp_path / "dpt-large" / file).write_bytes(b"12345")
    assert spec_status(find("dpt-large")).size == 15
    with pytest.raises(ModelError, match="nothing to verify it with"):
        verify("dpt-large")


def test_verify_tells_good_from_bad_and_absent(entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "find", lambda name: entry)
    with pytest.raises(ModelError, match="is not on this machine; fetch it with `napari-samdepth models download"):
        verify("vit_b", tmp_path)
    path = fetch_spec(entry, tmp_path)
    assert verify("vit_b", tmp_path).path == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match=r"is not what vit_b should be .*; delete it and download"):
        verify("vit_b", tmp_path)


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(store.FOLDER_VARIABLE, raising=False)
    assert models_folder().name == "models"
    assert "napari-samdepth" in models_folder().parts
    assert spec_status(find("builtin")).present


SLOW = """
import time
from dataclasses import replace
from pathlib import Path
from napari_samdepth.models.registry import find
from napari_samdepth.models.weights import store
if {no_locks}:
    import errno, fcntl
    def flock(fd, kind): raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = flock
notes = set()
entry = replace(find("vit_b"), url="{address}/sam_vit_b_01ec64.pth", checksum="{checksum}", size={size})
def tell(done, what):
    if what.partition(":")[0] not in notes:
        notes.add(what.partition(":")[0])
        print(what, flush=True)
    while {hold} and not Path({folder!r} + ".go").exists(): time.sleep(0.02)
path = store.fetch_spec(entry, Path({folder!r}), tell)
print("at", path, flush=True)
"""


def _another(entry: Any, folder: Path, hold: bool, no_locks: bool = False) -> subprocess.Popen[str]:
    address = entry.url.rpartition("/")[0]
    code = SLOW.format(
        address=address, checksum=entry.checksum, size=entry.size, folder=str(folder), hold=hold, no_locks=no_locks
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("no_locks", [False, True], ids=["locks", "a file system without locks"])
def test_two_processes_fetch_a_model_once(no_locks: bool, entry: Any, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first, second = _another(entry, folder, True, no_locks), None
    try:
        assert first.stdout is not None
        while not first.stdout.readline().startswith("downloading vit_b"):
            pass
        second = _another(entry, folder, False, no_locks)
        assert second.stdout is not None
        assert second.stdout.readline().startswith("another process is downloading vit_b: ")
    finally:
        (tmp_path / "models.go").touch()
        ended = [(process.communicate(timeout=60), process.returncode) for process in (first, second) if process]
    assert [code for _, code in ended] == [0, 0]
    assert _only(folder) == {"vit_b/sam_vit_b_01ec64.pth": CONTENT}
    assert len(server.requests) == 1


@pytest.mark.parametrize("no_locks", [False, True], ids=["locks", "a file system without locks"])
def test_a_killed_download_is_gone_on_with_by_another(
    no_locks: bool, entry: Any, server: Server, tmp_path: Path
) -> None:
    first = _another(entry, tmp_path, True, no_locks)
    assert first.stdout is not None
    first.stdout.readline()
    while not _left(tmp_path):
        time.sleep(0.02)
    first.kill()
    first.communicate()
    second = _another(entry, tmp_path, False, no_locks)
    assert second.communicate(timeout=60)[0].endswith("sam_vit_b_01ec64.pth\n")
    assert _only(tmp_path) == {"vit_b/sam_vit_b_01ec64.pth": CONTENT}
    assert server.requests[-1][1].startswith("bytes=")


def test_whoever_waits_for_another_process_can_cancel(entry: Any, tmp_path: Path) -> None:
    first = _another(entry, tmp_path, True)
    assert first.stdout is not None
    first.stdout.readline()
    told: list[str] = []

    def tell(fraction: float, what: str) -> None:
        told.append(what)
        raise Cancelled

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        fetch_spec(entry, tmp_path, tell)
    assert time.monotonic() - begun < 1
    assert told[0].startswith("another process is downloading vit_b: ")
    first.kill()
    first.communicate()


def test_a_folder_that_cannot_be_written_is_said(
    entry: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(fd: int, kind: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ModelError, match=r"vit_b cannot be written \(Read-only file system\); set NAPARI_SAMDEPTH"):
        fetch_spec(entry, tmp_path)
    assert server.requests == []


def test_what_is_not_verified_is_said_so(
    hub_entry: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_samdepth.cli import main

    server.linked_tag = True
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(store, "find", lambda name: hub_entry)
    monkeypatch.setattr(registry, "_registered", {(hub_entry.task, hub_entry.name): hub_entry})
    fetch_spec(replace(hub_entry, files=("model.safetensors",)))
    server.linked_tag = False
    fetch_spec(hub_entry)
    status = verify("dpt-large")
    assert status.unverified == ("config.json", "preprocessor_config.json")
    assert main(["models", "verify", "dpt-large"]) == 0
    expected = "config.json, preprocessor_config.json not verified: no published checksum"
    assert capsys.readouterr().out.strip().endswith(expected)
    assert main(["models", "list"]) == 0
    assert "(not verified: no published checksum)" in capsys.readouterr().out
    (tmp_path / "dpt-large" / "checksums.json").write_text("[1]")
    assert spec_status(hub_entry).unverified == hub_entry.files


def test_a_page_that_was_kept_for_a_file_is_found_and_replaced(
    hub_entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fetch_spec(hub_entry, tmp_path)
    page = b"<!DOCTYPE html><html>Sign in.</html>"
    (place / "config.json").write_bytes(page)
    record = json.loads((place / "checksums.json").read_text())
    record["config.json"] = f"sha256:{hashlib.sha256(page).hexdigest()}"
    (place / "checksums.json").write_text(json.dumps(record))
    monkeypatch.setattr(store, "find", lambda name: hub_entry)
    with pytest.raises(ModelError, match=r"config\.json is a web page; download it again"):
        verify("dpt-large", tmp_path)
    fetch_spec(hub_entry, tmp_path)
    assert (place / "config.json").read_bytes() == b'{"model_type": "dpt"}'
    assert verify("dpt-large", tmp_path).present


def test_a_page_in_a_files_place_is_not_kept(hub_entry: Any, server: Server, tmp_path: Path) -> None:
    path = next(path for path in server.files if path.endswith("/config.json"))
    good, server.files[path] = server.files[path], b"<html>Sign in to this network.</html>"
    with pytest.raises(ModelError, match=r"sent a web page instead of config\.json"):
        fetch_spec(hub_entry, tmp_path)
    assert not spec_status(hub_entry, tmp_path).present
    assert not (tmp_path / "dpt-large" / "config.json").exists()
    server.files[path] = good
    assert fetch_spec(hub_entry, tmp_path) == tmp_path / "dpt-large"


def test_an_unreadable_folder_stops_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_samdepth.cli import main

    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    real = os.stat

    def look(path: Any, *more: Any, **how: Any) -> os.stat_result:
        if isinstance(path, (str, os.PathLike)) and tmp_path in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *more, **how)

    monkeypatch.setattr(os, "stat", look)
    assert main(["models", "list"]) == 0
    told = capsys.readouterr()
    assert told.out.count("unreadable") == sum(not entry.ships for entry in specs())
    sentence = f"{tmp_path} cannot be read (Permission denied); check its permissions, or set NAPARI_SAMDEPTH_MODELS to"
    assert told.err.count(sentence) == 1
    assert main(["models", "path", "vit_b"]) == 2
    assert sentence in capsys.readouterr().err
