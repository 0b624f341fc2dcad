"""One file against servers that are slow, broken, busy, confused, or none of them at all; on this machine only."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.weights import fetch
from napari_samdepth.models.weights.fetch import FileNotOnServer, fetch_file

CONTENT = np.random.default_rng(1).bytes(600_000)
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
PAGE = b"<!DOCTYPE html><html><body>Welcome to the Hotel. Sign in.</body></html>"
Answer = Callable[[socket.socket, str], None]


@dataclass
class Server:
    """A server that answers each connection as the next entry of a script says, the last again and again."""

    script: list[Answer] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    address: str = ""
    tls: ssl.SSLContext | None = None
    closing: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        workers = []
        listener.settimeout(0.02)
        while not self.closing.is_set():
            try:
                connection = listener.accept()[0]
            except TimeoutError:
                continue
            worker = threading.Thread(target=self._answer, args=(connection,))
            worker.start()
            workers.append(worker)
        for worker in workers:
            worker.join()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(20)
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    got = connection.recv(65536)
                    if not got:
                        return
                    request += got
                self.requests.append(request.decode("latin-1"))
                (self.script.pop(0) if len(self.script) > 1 else self.script[0])(connection, self.requests[-1])
        except OSError:  # the client has gone
            pass

    def ranges(self) -> list[str]:
        """Return what was asked for of each request, "" for all."""
        lines = [line for request in self.requests for line in [*request.split("\r\n"), ""] if line.startswith("Range")]
        return [line.partition(": ")[2] for line in lines]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    state = Server()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=state.serve, args=(listener,))
        thread.start()
        yield state
        state.closing.set()
        thread.join()


@pytest.fixture
def tls(server: Server, tmp_path: Path) -> Path:
    """Let the server speak TLS, and return the certificate to trust."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(certificate, key)
    server.address = server.address.replace("http:", "https:")
    return certificate


def _first(request: str) -> int:
    line = next((line for line in request.split("\r\n") if line.lower().startswith("range:")), "")
    return int(line.partition("=")[2].rstrip("-") or 0)


def _head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


def _status(status: str, *headers: str, body: bytes = b"") -> Answer:
    def answer(connection: socket.socket, request: str) -> None:
        connection.sendall(_head(status, *headers, f"Content-Length: {len(body)}") + body)

    return answer


def _send(content: bytes = CONTENT, stop: int | None = None, *headers: str) -> Answer:
    """Send a file, or what is left of it, up to byte `stop`."""

    def answer(connection: socket.socket, request: str) -> None:
        first = _first(request)
        status = "206 Partial Content" if first else "200 OK"
        given = [f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}"] if first else []
        length = f"Content-Length: {len(content) - first}"
        connection.sendall(_head(status, *given, length, 'ETag: "v1"', *headers) + content[first:stop])

    return answer


def _get(server: Server, folder: Path, name: str = "a.pth", checksum: str = CHECKSUM, tell: Any = silent) -> bytes:
    target = folder / name
    fetch_file(f"{server.address}/{name}", target, checksum, tell, name, f"put {name} into {folder} by hand")
    left = [file.name for file in folder.iterdir() if file.name.startswith(f"{name}.")]
    assert left == [], "nothing is left beside the file"
    return target.read_bytes()


def _trickle(connection: socket.socket, request: str) -> None:
    connection.sendall(_head("200 OK", f"Content-Length: {len(CONTENT)}", 'ETag: "v1"') + CONTENT[:1000])
    for at in range(1000, 1060):
        time.sleep(0.2)
        connection.sendall(CONTENT[at : at + 1])


def _stall(connection: socket.socket, request: str) -> None:
    connection.sendall(_head("200 OK", f"Content-Length: {len(CONTENT)}", 'ETag: "v1"') + CONTENT[:1000])
    connection.recv(1)


def _mute(connection: socket.socket, request: str) -> None:
    connection.recv(1)


@pytest.mark.parametrize(
    "answer",
    [_trickle, _stall, _mute, _status("503 Busy", "Retry-After: 50"), _send(CONTENT, 5000)],
    ids=["a trickle", "a stall", "no answer", "a long pause", "a line that breaks"],
)
def test_cancel_obeys_within_a_second(
    answer: Answer, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSE", 8.0)
    server.script = [answer]
    begun = time.monotonic()
    wanted: list[float] = []

    def tell(fraction: float, what: str) -> None:
        if time.monotonic() - begun > 0.5:
            wanted.append(time.monotonic())
            raise Cancelled

    with pytest.raises(Cancelled):
        _get(server, tmp_path, tell=tell)
    assert wanted
    assert wanted[0] - begun < 1.2, "it is asked often enough"
    assert time.monotonic() - wanted[0] < 0.5, "nothing is waited for after that"
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept in ([], ["a.pth.etag", "a.pth.part"])


def test_cancel_obeys_while_a_name_is_looked_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    begun = time.monotonic()

    def tell(fraction: float, what: str) -> None:
        if time.monotonic() - begun > 0.3:
            raise Cancelled

    server.script, server.address = [_mute], "http://slow.invalid"
    with pytest.raises(Cancelled):
        _get(server, tmp_path, tell=tell)
    assert time.monotonic() - begun < 1


def test_a_trickle_arrives(server: Server, tmp_path: Path) -> None:
    def answer(connection: socket.socket, request: str) -> None:
        connection.sendall(_head("200 OK", "Content-Length: 30"))
        for at in range(30):
            connection.sendall(CONTENT[at : at + 1])
            time.sleep(0.01)

    server.script = [answer]
    assert _get(server, tmp_path, checksum=f"sha256:{hashlib.sha256(CONTENT[:30]).hexdigest()}") == CONTENT[:30]


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(code, os.strerror(code)) for code in (errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH)),
        *(OSError(code, os.strerror(code)) for code in (errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, errno.EIO)),
        TimeoutError("timed out"),
        ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed or bad record mac"),
        http.client.IncompleteRead(b""),
    ],
    ids=lambda error: errno.errorcode.get(error.args[0], type(error).__name__),
)
def test_whatever_breaks_on_the_way_is_taken_up_again(
    error: Exception, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [_send()]
    real, calls = http.client.HTTPResponse.read1, []

    def read(self: http.client.HTTPResponse, count: int = -1) -> bytes:
        calls.append(count)
        if len(calls) == 3:
            raise error
        return real(self, 50_000)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read)
    assert _get(server, tmp_path) == CONTENT
    (asked,) = server.ranges()
    assert 1 < int(asked.removeprefix("bytes=").rstrip("-")) <= 100_000


def test_a_network_that_stays_away_is_no_question_of_room(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [_send(CONTENT, 5000)]
    real, calls = socket.create_connection, []

    def connect(*where: Any, **how: Any) -> socket.socket:
        calls.append(where)
        if len(calls) > 1:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return real(*where, **how)

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ModelError, match=r"keeps breaking off \(Network is unreachable\); try again, a\.pth goes on"):
        _get(server, tmp_path)
    assert len(calls) == fetch.ATTEMPTS
    assert (tmp_path / "a.pth.part").stat().st_size == 5000
    monkeypatch.undo()
    server.script = [_send()]
    assert _get(server, tmp_path) == CONTENT
    assert server.ranges() == ["bytes=5000-"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
        (OSError(errno.ENETDOWN, "Network is down"), "Network is down"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "the connection is refused"),
        (TimeoutError("timed out"), "it does not answer"),
        (socket.gaierror(-2, "x"), "its name is not found"),
        (socket.gaierror(-3, "x"), "its name is not found"),
    ],
)
def test_a_host_that_was_never_reached_is_told_at_once(
    error: OSError, why: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def connect(*_: Any, **__: Any) -> socket.socket:
        calls.append(1)
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ModelError) as told:
        _get(server, tmp_path)
    host = server.address.removeprefix("http://")
    assert str(told.value) == (
        f"a.pth cannot be downloaded because {host} cannot be reached ({why}); go online, or put a.pth into {tmp_path} "
        "by hand."
    )
    assert calls == [1]
    server.script = [_mute]


def test_a_broken_tls_record_is_taken_up_again(
    server: Server, tls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: socket.socket, request: str) -> None:
        _send(CONTENT, 200_000)(connection, request)
        os.write(connection.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody has encrypted

    monkeypatch.setenv("SSL_CERT_FILE", str(tls))
    server.script = [broken, _send()]
    folder = tmp_path / "models"
    folder.mkdir()
    assert _get(server, folder) == CONTENT
    assert server.ranges() == ["bytes=200000-"]


def test_a_certificate_that_is_not_trusted_is_told_at_once(server: Server, tls: Path, tmp_path: Path) -> None:
    server.script = [_send()]
    with pytest.raises(ModelError, match=r"cannot be reached \(its certificate is not trusted here\); go online, or"):
        _get(server, tmp_path)
    assert server.requests == []


def test_what_is_no_tls_is_said(server: Server, tmp_path: Path) -> None:
    server.script = [_mute]
    server.address = server.address.replace("http:", "https:")

    def plain(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        connection.close()

    server._answer = plain  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"keeps breaking off \(what came is damaged or is no TLS\)"):
        _get(server, tmp_path)


def test_an_address_that_is_less_safe_is_not_followed(
    server: Server, tls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls))
    server.script = [_status("302 Found", "Location: http://127.0.0.1:9/a.pth")]
    with pytest.raises(ModelError, match=r"does not send a\.pth: it leads to an address that is not safe, http://"):
        _get(server, tmp_path)


STATUSES: dict[str, tuple[Answer, str, int]] = {
    "400": (_status("400 Bad Request"), r"refused a\.pth \(HTTP 400\); put a\.pth into", 1),
    "401": (_status("401 Unauthorized", "WWW-Authenticate: Basic"), r"refused a\.pth \(HTTP 401\); put", 1),
    "403": (_status("403 Forbidden"), r"refused a\.pth \(HTTP 403\); put a\.pth into", 1),
    "404": (_status("404 Not Found", body=PAGE), r"has no a\.pth any more; put a\.pth into", 1),
    "407": (_status("407 Proxy Authentication Required"), "The proxy wants a name and a password", 1),
    "410": (_status("410 Gone"), r"has no a\.pth any more", 1),
    "429": (_status("429 Too Many"), r"is too busy to send a\.pth \(the server answered 429\); try again later", 5),
    "429 for an hour": (_status("429 Too Many", "Retry-After: 3600"), r"asks to wait .*\(HTTP 429\); try again", 1),
    "429 until a date": (
        _status("429 Too Many", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"), r"asks to wait .*; try again then", 1
    ),
    "429 for nonsense": (_status("429 Too Many", "Retry-After: soon"), "is too busy", 5),
    "451": (_status("451 Unavailable"), r"refused a\.pth \(HTTP 451\)", 1),
    "500": (_status("500 Oops"), r"is too busy to send a\.pth \(the server answered 500\)", 5),
    "502": (_status("502 Bad Gateway", body=PAGE), "is too busy", 5),
    "503": (_status("503 Busy"), "is too busy", 5),
    "511": (_status("511 Network Authentication Required", body=PAGE), "networks do that one has to sign in to", 1),
    "204": (_status("204 No Content"), r"refused a\.pth \(HTTP 204\)", 1),
    "a circle": (_status("302 Found", "Location: /a.pth"), r"leads in a circle for a\.pth; try again later", 10),
    "nowhere": (_status("302 Found"), r"refused a\.pth \(HTTP 302\)", 1),
    "a file": (_status("302 Found", "Location: file:///etc/passwd"), "to an address that is not safe", 1),
    "another way": (_status("302 Found", "Location: ftp://127.0.0.1/a.pth"), "to an address that is not safe", 1),
    "an odd port": (_status("302 Found", "Location: http://127.0.0.1:port/a"), r"cannot be reached \(.*port", 1),
    "noise": (lambda connection, _: connection.sendall(b"\0\1\2\3\r\n\r\n"), "keeps breaking off", 5),
    "nothing": (lambda connection, _: None, "keeps breaking off", 5),
    "an endless line": (lambda connection, _: connection.sendall(b"HTTP/1.1 200 " + b"x" * 100_000), "keeps breaki", 5),
    "a sign-in page": (
        _status("200 OK", "Content-Type: text/html; charset=utf-8", body=PAGE), "sent a web page instead of", 1
    ),
    "a page in disguise": (_status("200 OK", "Content-Type: binary/x", body=PAGE), "sent a web page instead of", 1),
    "other bytes": (_send(CONTENT[::-1]), r"sent for a\.pth has the wrong checksum; try again later", 1),
    "fewer bytes": (_send(CONTENT[:-1]), "has the wrong checksum", 1),
    "never the end": (_status("200 OK", body=b""), "has the wrong checksum", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
def test_answers_that_are_no_file_are_one_sentence(case: str, server: Server, tmp_path: Path) -> None:
    answer, sentence, requests = STATUSES[case]
    server.script = [answer]
    with pytest.raises(ModelError, match=sentence) as told:
        _get(server, tmp_path)
    assert "\n" not in str(told.value)
    assert "make room" not in str(told.value)
    assert isinstance(told.value, FileNotOnServer) == (case in ("404", "410"))
    assert len(server.requests) <= requests
    assert not (tmp_path / "a.pth").exists()


def _chunked(stop: int | None = None) -> Answer:
    def answer(connection: socket.socket, request: str) -> None:
        connection.sendall(_head("200 OK", "Transfer-Encoding: chunked", 'ETag: "v1"'))
        for at in range(0, len(CONTENT) if stop is None else stop, 100_000):
            block = CONTENT[at : at + 100_000]
            connection.sendall(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        if stop is None:
            connection.sendall(b"0\r\n\r\n")

    return answer


def _no_length(connection: socket.socket, request: str) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT)


def _length(text: str, content: bytes = CONTENT) -> Answer:
    return lambda connection, _: connection.sendall(_head("200 OK", f"Content-Length: {text}") + content)


def _other_part(connection: socket.socket, request: str) -> None:
    first = f"Content-Range: bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"
    connection.sendall(_head("206 Partial Content", first, f"Content-Length: {len(CONTENT) - 7}") + CONTENT[7:])


@pytest.mark.parametrize(
    "script",
    [
        [_chunked()],
        [_chunked(300_000), _send()],
        [_no_length],
        [_length("many")],
        [_length("-5")],
        [_length(str(len(CONTENT)), CONTENT + b"more")],
        [_length(str(10**6)), _send()],
        [_send(CONTENT, 5000), _other_part, _send()],
        [_send(CONTENT, 5000), _status("416 No"), _send()],
        [_other_part, _send()],
        [_status("429 Too Many", "Retry-After: 0"), _send()],
        [_status("503 Busy", "Retry-After: Fri, 01 Jan 2021 00:00:00 GMT"), _send()],
        [_status("302 Found", "Location: /b.pth"), _status("307 Go on", "Location: /c.pth"), _send()],
    ],
    ids=[
        "chunks", "cut chunks", "no length", "a length in words", "a negative length", "more than its length",
        "less than its length", "another part later", "no part", "another part at first", "busy", "busy in the past",
        "redirected",
    ],
)  # fmt: skip
def test_a_file_arrives_all_the_same(script: list[Answer], server: Server, tmp_path: Path) -> None:
    server.script = script
    assert _get(server, tmp_path) == CONTENT


def test_the_pause_is_short_again_once_something_came(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch, "PAUSE", 0.5)
    monkeypatch.setattr(fetch, "_wait", lambda job, seconds, why: waits.append(seconds))
    nothing: Answer = _send(CONTENT, 0)
    steps = [_send(CONTENT, 100_000), nothing, nothing, _send(CONTENT, 200_000), nothing, _send(CONTENT, 300_000)]
    server.script = [*steps, _status("503 Busy", "Retry-After: 7"), _send()]
    assert _get(server, tmp_path) == CONTENT
    assert waits == [0.5, 1.0, 2.0, 0.5, 1.0, 0.5, 7.0]


def test_waiting_is_told(server: Server, tmp_path: Path, steps: Any) -> None:
    server.script = [_status("503 Busy", "Retry-After: 1"), _send()]
    assert _get(server, tmp_path, tell=steps.report) == CONTENT
    told = [what for _, what in steps.notes if "the server answered 503" in what]
    assert len(told) >= 3
    assert told[0].endswith("again in 1 s")
    fractions = [fraction for fraction, what in steps.notes if not what.startswith("checking")]
    assert fractions == sorted(fractions)


def test_a_page_that_asks_to_sign_in_leaves_what_came_before(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.pth.part").write_bytes(CONTENT[:5000])
    server.script = [_status("200 OK", "Content-Type: text/plain", body=PAGE)]
    with pytest.raises(ModelError, match=r"one has to sign in to: open any page in a browser, then try again, or put"):
        _get(server, tmp_path)
    assert (tmp_path / "a.pth.part").read_bytes() == CONTENT[:5000]
    server.script = [_send()]
    assert _get(server, tmp_path) == CONTENT
    assert server.ranges()[-1] == "bytes=5000-"


HEADER = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + b"abcd"
GOOD = {"config.json": b'{"model_type": "dpt"}', "vocab.txt": b"[PAD]\n[UNK]\n", "model.safetensors": SAFETENSORS}


@pytest.mark.parametrize("name", GOOD)
def test_a_file_without_a_checksum_is_of_its_kind(name: str, server: Server, tmp_path: Path) -> None:
    bad = {
        "config.json": [b"", b"[]", b"3", GOOD[name][:-1], b"Sign in first", b"\x1f\x8b\x08\x00", b"null"],
        "vocab.txt": [b"", b"  ", b"\0\1\2"],
        "model.safetensors": [b"", SAFETENSORS[:-1], SAFETENSORS[:20], SAFETENSORS + b"x", CONTENT, b"Sign in first"],
    }[name]
    for content in [*bad, PAGE, b"\n " + PAGE.lower(), b"<html>"]:
        server.script = [_send(content)]
        with pytest.raises(ModelError, match=rf"(is not that file|sent a web page).*or put {name} into"):
            _get(server, tmp_path, name, "")
        assert not (tmp_path / name).exists()
    server.script = [_send(GOOD[name])]
    assert _get(server, tmp_path, name, "") == GOOD[name]


def test_what_the_hub_publishes_of_small_files_counts(server: Server, tmp_path: Path) -> None:
    content = GOOD["config.json"]
    name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    fetched = functools.partial(fetch_file, f"{server.address}/c.json", tmp_path / "c.json", "", silent, "c", "by hand")

    def tagged(connection: socket.socket, request: str) -> None:
        tag = f'ETag: W/"{name}"'
        length = f"Content-Length: {len(content)}"
        connection.sendall(_head("200 OK", length, tag, "X-Repo-Commit: abc") + content)

    server.script = [tagged]
    assert fetched() == f"git-sha1:{name}"
    content = content.replace(b"dpt", b"dqt")
    with pytest.raises(ModelError, match="has the wrong checksum"):
        fetched()
    server.script = [_send(content)]
    assert fetched() == "", "another server's tag says nothing"


def test_a_full_disk_is_said_as_such(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [_send()]
    (tmp_path / "a.pth.part").symlink_to("/dev/full")
    with pytest.raises(ModelError, match=r"a\.pth\.part cannot be written \(No space left on device\); make room and"):
        _get(server, tmp_path)
    (tmp_path / "a.pth.part").unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"needs 1 MB more and .* has 0 MB free; make room and try again"):
        _get(server, tmp_path)


def test_a_folder_that_is_gone_is_no_question_of_room(server: Server, tmp_path: Path) -> None:
    server.script = [_send()]
    with pytest.raises(
        ModelError, match=r"cannot be written \(No such file or directory\); set NAPARI_SAMDEPTH_MODELS"
    ):
        fetch_file(f"{server.address}/a.pth", tmp_path / "gone" / "a.pth", CHECKSUM, silent, "a", "put it there")


@pytest.mark.parametrize("url", ["hub.example/a.pth", "ftp://hub.example/a.pth", "https:///a.pth", "", "file:///etc/a"])
def test_what_is_no_address_is_said(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no address to download from; HF_ENDPOINT must begin with https://"):
        fetch_file(url, tmp_path / "a.pth", "", silent, "a", "put it there")


@pytest.mark.parametrize(
    ("proxy", "sentence"),
    [
        ("http://somebody:secret@127.0.0.1:9", r"\(the connection is refused, through the proxy 127\.0\.0\.1:9\)"),
        ("http://127.0.0.1:port", r"cannot be reached \(.*through the proxy 127\.0\.0\.1:port\)"),
        ("socks5://127.0.0.1:9", r"cannot be reached \(.*socks5.*through the proxy"),
        ("nonsense", "cannot be reached"),
    ],
)
def test_a_proxy_that_fails_is_named_without_its_password(
    proxy: str, sentence: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    server.script, server.address = [_mute], "http://far.invalid"
    with pytest.raises(ModelError, match=sentence) as told:
        _get(server, tmp_path)
    assert "secret" not in str(told.value)
