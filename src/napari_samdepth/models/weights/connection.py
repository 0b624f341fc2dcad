"""One request over HTTP in a thread of its own, so that whoever waits for it can stop at once.

A name that is looked up, a connection that is made and a block that does not come cannot be interrupted; the thread
that waits for them can be left behind. Proxies come from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), as
urllib reads them.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from types import TracebackType
from typing import IO, Any

LOOK = 0.25
"""Seconds between two looks whether the result is still wanted."""
_BLOCK = 1 << 18
_LINKED_TAG = "X-Linked-ETag"


class RedirectRefused(OSError):
    """The server leads to where nothing is fetched from."""


@dataclass(frozen=True)
class Response:
    """What a server answers before it sends the file.

    Attributes
    ----------
    status
        200 or 206.
    headers
        Of the last server.
    length
        Bytes that follow, None if that is not said.
    linked_tag
        The tag of the file that the hub leads to, "" if there is none.
    """

    status: int
    headers: Message
    length: int | None
    linked_tag: str


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, keeps the checksum that the hub gives in the first of them, and stays with HTTP(S)."""

    def __init__(self) -> None:
        self.linked_tag = ""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        self.linked_tag = self.linked_tag or str(headers.get(_LINKED_TAG) or "")
        scheme = urllib.parse.urlsplit(newurl).scheme.lower()
        if scheme != "https" and scheme != urllib.parse.urlsplit(req.full_url).scheme.lower():
            raise RedirectRefused(f"it leads to an address that is not safe, {scheme}://…")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class Download:
    """A request and what comes of it; a context that ends the connection.

    Parameters
    ----------
    url
        http or https.
    headers
        Of the request.
    look
        Called every `LOOK` seconds while nothing comes; may raise to stop.
    timeout
        Seconds without a byte after which the connection counts as broken.
    """

    def __init__(self, url: str, headers: dict[str, str], look: Callable[[], None], timeout: float) -> None:
        self._request = urllib.request.Request(url, headers=headers)
        self._look = look
        self._timeout = timeout
        self._events: queue.Queue[Any] = queue.Queue(maxsize=16)
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="napari-samdepth download", daemon=True)

    def __enter__(self) -> Download:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for made in self._sockets:
            with contextlib.suppress(OSError):
                # of the class itself: a TLS socket would take its own state away from the thread that reads
                socket.socket.shutdown(made, socket.SHUT_RDWR)
        if error is None:
            self._thread.join(1.0)

    def response(self) -> Response:
        """Return the server's answer. Raises what urllib raises, or what `look` does."""
        found = self._next()
        assert isinstance(found, Response)
        return found

    def blocks(self) -> Iterator[bytes]:
        """Give what comes, block by block, at least one byte each. Raises as `response` does."""
        while (block := self._next()) is not None:
            yield block

    def _next(self) -> Any:
        while True:
            try:
                found = self._events.get(timeout=LOOK)
            except queue.Empty:
                self._look()
                continue
            if isinstance(found, BaseException):
                raise found
            return found

    def _put(self, event: Any) -> None:
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                return self._events.put(event, timeout=LOOK)
        raise SystemExit

    def _run(self) -> None:
        redirects = _Redirects()
        try:
            opener = urllib.request.build_opener(redirects, _Http(self._sockets), _Https(self._sockets))
            with opener.open(self._request, timeout=self._timeout) as response:
                tag = redirects.linked_tag or str(response.headers.get(_LINKED_TAG) or "")
                self._put(Response(response.status, response.headers, response.length, tag))
                while block := response.read1(_BLOCK):
                    self._put(block)
            self._put(None)
        except SystemExit:
            pass
        except BaseException as error:
            with contextlib.suppress(SystemExit):
                self._put(error)
        finally:
            # an answer that was no HTTP leaves its socket open as long as the error is kept
            for made in self._sockets:
                if made.fileno() != -1:
                    socket.close(made.detach())


class _Http(urllib.request.HTTPHandler):
    """Keeps the sockets that are made, so that they can be shut from another thread."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._sockets = sockets

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_kept(http.client.HTTPConnection, self._sockets), req)


class _Https(urllib.request.HTTPSHandler):
    """As `_Http`."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._sockets = sockets

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_kept(http.client.HTTPSConnection, self._sockets), req)


def _kept(kind: type[http.client.HTTPConnection], sockets: list[socket.socket]) -> Any:
    class Kept(kind):  # type: ignore[misc,valid-type]
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    return Kept
