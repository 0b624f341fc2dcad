"""Downloads against a server of our own that cuts, corrupts, refuses and resumes."""

from __future__ import annotations

import hashlib
import http.server
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.catalog import find
from napari_samdepth.models.weights import fetch as fetch_module
from napari_samdepth.models.weights import store
from napari_samdepth.models.weights.store import entry_status, fetch, fetch_entry, local_path, models_folder, verify

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
    path = fetch_entry(entry, tmp_path, steps.report)
    assert _only(tmp_path) == {"vit_b/sam_vit_b_01ec64.pth": CONTENT}
    assert fetch_entry(entry, tmp_path) == path
    assert len(server.requests) == 1
    fractions = [fraction for fraction, what in steps.notes if what.startswith("downloading vit_b")]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    found = entry_status(entry, tmp_path)
    assert (found.present, found.path, found.size) == (True, path, len(CONTENT))


def test_xxh128_is_checked_too(entry: Any, tmp_path: Path) -> None:
    good = replace(entry, checksum=f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}")
    assert fetch_entry(good, tmp_path).read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_where_it_broke(entry: Any, server: Server, tmp_path: Path) -> None:
    server.cut_after = [400_000, 300_000]
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["", "bytes=400000-", "bytes=700000-"]


def test_a_server_without_ranges_sends_it_all_again(entry: Any, server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [400_000]
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT


def test_giving_up_keeps_what_came_for_the_next_time(
    entry: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 2)
    server.cut_after = [500_000, 0, 0]
    with pytest.raises(ModelError, match=r"keeps breaking off .*goes on where it stopped"):
        fetch_entry(entry, tmp_path)
    assert _left(tmp_path) == 500_000
    assert local_path(entry, tmp_path) is None
    server.cut_after.clear()
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=500000-"
    assert list(_only(tmp_path)) == ["vit_b/sam_vit_b_01ec64.pth"]


def test_cancel_keeps_what_came(entry: Any, server: Server, tmp_path: Path, steps: Any) -> None:
    steps.stop_at = 2
    with pytest.raises(Cancelled):
        fetch_entry(entry, tmp_path, steps.report)
    partial = _left(tmp_path)
    assert 0 < partial < len(CONTENT)
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={partial}-"


def test_a_corrupt_file_never_counts(entry: Any, server: Server, tmp_path: Path) -> None:
    server.files["/sam_vit_b_01ec64.pth"] = CONTENT[:-1] + b"?"
    with pytest.raises(ModelError, match="wrong checksum"):
        fetch_entry(entry, tmp_path)
    assert _only(tmp_path) == {} or list(_only(tmp_path)) == ["vit_b/sam_vit_b_01ec64.pth.etag"]
    assert not entry_status(entry, tmp_path).present


def test_a_corrupt_rest_of_an_earlier_download_is_replaced(entry: Any, server: Server, tmp_path: Path) -> None:
    part = tmp_path / "vit_b" / "sam_vit_b_01ec64.pth.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", ""]


def test_a_part_that_is_too_long_is_begun_again(entry: Any, server: Server, tmp_path: Path) -> None:
    part = tmp_path / "vit_b" / "sam_vit_b_01ec64.pth.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_begun_again(entry: Any, server: Server, tmp_path: Path) -> None:
    server.cut_after = [400_000]
    server.answers = [200, 403]
    with pytest.raises(ModelError, match="HTTP 403"):
        fetch_entry(entry, tmp_path)
    server.etag = '"v2"'
    server.files["/sam_vit_b_01ec64.pth"] = changed = CONTENT[::-1]
    renewed = replace(entry, checksum=f"sha256:{hashlib.sha256(changed).hexdigest()}")
    assert fetch_entry(renewed, tmp_path).read_bytes() == changed


def test_a_busy_server_is_asked_again(entry: Any, server: Server, tmp_path: Path) -> None:
    server.answers = [503, 429]
    assert fetch_entry(entry, tmp_path).read_bytes() == CONTENT


def test_refusals_are_one_sentence(entry: Any, server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no gone\.pth any more; put gone\.pth into .*vit_b by hand"):
        fetch_entry(replace(entry, url=f"{server.address}/gone.pth"), tmp_path)
    place = tmp_path / "vit_b"
    with pytest.raises(ModelError) as refused:
        fetch_entry(replace(entry, url="http://127.0.0.1:9/sam_vit_b_01ec64.pth"), tmp_path)
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
    assert fetch_entry(far, tmp_path).read_bytes() == CONTENT
    assert server.requests[0][0] == "http://far.example/sam_vit_b_01ec64.pth"


def test_no_room_is_told_before_anything_is_fetched(entry: Any, server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs 1\d+ MB and .* free; make room or set NAPARI_SAMDEPTH_MODELS"):
        fetch_entry(replace(entry, size=10**17), tmp_path)
    assert server.requests == []


def test_a_folder_that_cannot_be_made_is_told(entry: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="cannot be made"):
        fetch_entry(entry, tmp_path / "file")


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
    path = fetch_entry(replace(hub_entry, optional_files=("absent.json",)), tmp_path)
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
    assert (fetch_entry(hub_entry, tmp_path) / "model.safetensors").read_bytes() == WEIGHTS
    assert server.requests[-1][1] == "bytes=600000-"
    (tmp_path / "dpt-large" / "model.safetensors").unlink()
    server.files[server.requests[-1][0]] = WEIGHTS[:-1] + b"?"
    with pytest.raises(ModelError, match="wrong checksum"):
        fetch_entry(hub_entry, tmp_path)


def test_a_missing_file_of_a_hub_model_is_told(hub_entry: Any, server: Server, tmp_path: Path) -> None:
    del server.files[next(path for path in server.files if path.endswith("/config.json"))]
    with pytest.raises(ModelError, match=r"has no config\.json any more"):
        fetch_entry(hub_entry, tmp_path)
    assert not entry_status(hub_entry, tmp_path).present


def test_without_a_network_every_file_that_is_missing_is_named(
    hub_entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the name is reserved for never being found (RFC 6761)
    monkeypatch.setenv(store.ENDPOINT_VARIABLE, "http://hub.invalid")
    monkeypatch.setenv("no_proxy", "*")
    place = tmp_path / "dpt-large"
    with pytest.raises(ModelError) as offline:
        fetch_entry(hub_entry, tmp_path)
    assert str(offline.value) == (
        "config.json of dpt-large cannot be downloaded because hub.invalid cannot be reached (its name is not found); "
        "go online, or put config.json, preprocessor_config.json and model.safetensors of Intel/dpt-large into "
        f"{place} by hand."
    )
    for file in hub_entry.files[:2]:
        (place / file).write_text("{}")
    with pytest.raises(ModelError, match=r"go online, or put model\.safetensors of Intel/dpt-large into"):
        fetch_entry(hub_entry, tmp_path)


def test_files_brought_by_hand_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(tmp_path))
    assert models_folder() == tmp_path
    assert not entry_status(find("vit_b")).present
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"weights")
    assert entry_status(find("vit_b")).path == tmp_path / "sam_vit_b_01ec64.pth"
    # two models have a file called vit_b.pt: which one this is cannot be known
    (tmp_path / "vit_b.pt").write_bytes(b"weights")
    assert not entry_status(find("vit_b_lm")).present
    (tmp_path / "vit_b_lm").mkdir()
    (tmp_path / "vit_b_lm" / "vit_b.pt").write_bytes(b"weights")
    assert entry_status(find("vit_b_lm")).present
    (tmp_path / "dpt-large").mkdir()
    assert not entry_status(find("dpt-large")).present
    for file in find("dpt-large").files:
        (tmp_path / "dpt-large" / file).write_bytes(b"12345")
    assert entry_status(find("dpt-large")).size == 15
    with pytest.raises(ModelError, match="nothing to verify it with"):
        verify("dpt-large")


def test_verify_tells_good_from_bad_and_absent(entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "find", lambda name: entry)
    with pytest.raises(ModelError, match="is not on this machine; fetch it with `napari-samdepth models download"):
        verify("vit_b", tmp_path)
    path = fetch_entry(entry, tmp_path)
    assert verify("vit_b", tmp_path).path == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match=r"is not what vit_b should be .*; delete it and download"):
        verify("vit_b", tmp_path)


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(store.FOLDER_VARIABLE, raising=False)
    assert models_folder().name == "models"
    assert "napari-samdepth" in models_folder().parts
    assert entry_status(find("builtin")).present
