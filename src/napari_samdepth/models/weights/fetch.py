"""One file over HTTP: resumed with Range requests, checked, then moved into place.

Proxies come from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), as urllib reads them.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import first_line
from napari_samdepth.models.weights.checksums import matches

ATTEMPTS = 5
"""How often a broken connection is taken up again before giving up."""
PAUSE = 0.5
"""Seconds before the second attempt; doubled each time."""
TIMEOUT = 30.0
_BLOCK = 1 << 18
_LINKED_TAG = "X-Linked-ETag"


class FileNotOnServer(ModelError):
    """The server has no such file."""


class _Broken(Exception):
    """The connection ended before the file did; what came is kept."""


@dataclass
class _Job:
    url: str
    target: Path
    checksum: str
    tell: Report
    what: str
    by_hand: str

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def tag(self) -> Path:
        """The file that keeps the server's ETag of what `part` is a part of."""
        return self.target.with_name(self.target.name + ".etag")


class _KeepLinkedTag(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the checksum that the hub gives in the first of them."""

    def __init__(self) -> None:
        self.linked_tag = ""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        self.linked_tag = self.linked_tag or str(headers.get(_LINKED_TAG) or "")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def fetch_file(url: str, target: Path, checksum: str, tell: Report, what: str, by_hand: str) -> None:
    """Fetch `url` into `target`.

    Parameters
    ----------
    url
        http or https.
    target
        Where the file goes; only a whole and checked one gets there.
    checksum
        "sha256:..." or "xxh128:...", or "" to take the one that the hub announces, if any.
    tell
        Told how far it is.
    what
        What is fetched, such as "vit_b" or "config.json of dpt-large".
    by_hand
        What to do where there is no network, such as "put sam_vit_b_01ec64.pth into /models/vit_b by hand".

    Raises
    ------
    FileNotOnServer
        If the server does not have the file.
    ModelError
        If it cannot be reached, breaks off again and again, or sends something else.
    Cancelled
        If `tell` raises it; what came is kept for the next time.
    """
    job = _Job(url, target, checksum, tell, what, by_hand)
    resumed = job.part.is_file()
    expected = _complete(job)
    wanted = checksum or expected
    if wanted and not matches(job.part, wanted):
        job.part.unlink()
        if resumed:  # what was left from an earlier time may have been bad: once more from the start
            expected = _complete(job)
            wanted = checksum or expected
        if not job.part.is_file() or not matches(job.part, wanted):
            job.part.unlink(missing_ok=True)
            raise ModelError(f"What {_host(url)} sent for {target.name} has the wrong checksum; try again later.")
    os.replace(job.part, target)
    job.tag.unlink(missing_ok=True)


def _complete(job: _Job) -> str:
    """Go on until the part is whole; return the checksum that the server announced, or ""."""
    pause = PAUSE
    attempt = 0
    while True:
        before = job.part.stat().st_size if job.part.is_file() else 0
        try:
            return _attempt(job)
        except _Broken as error:
            grown = job.part.is_file() and job.part.stat().st_size > before
            attempt = 1 if grown else attempt + 1
            if attempt >= ATTEMPTS:
                raise ModelError(
                    f"The connection to {_host(job.url)} keeps breaking off ({first_line(error)}); try again, "
                    f"{job.target.name} goes on where it stopped."
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, 8.0)


def _attempt(job: _Job) -> str:
    have = job.part.stat().st_size if job.part.is_file() else 0
    tag = job.tag.read_text(encoding="utf-8") if job.tag.is_file() else ""
    headers = {"User-Agent": "napari-samdepth", "Accept-Encoding": "identity"}
    if have and (tag or job.checksum):
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    redirects = _KeepLinkedTag()
    opener = urllib.request.build_opener(redirects)
    try:
        response = opener.open(urllib.request.Request(job.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        return _refused(job, error)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _unreachable(job, error) from error
    with response:
        _receive(job, response, have)
    return _announced(redirects.linked_tag or str(response.headers.get(_LINKED_TAG) or ""))


def _announced(tag: str) -> str:
    """Return the checksum in the hub's tag (64 hexadecimal digits for large files), or ""."""
    digits = tag.strip().removeprefix("W/").strip('"').lower()
    return f"sha256:{digits}" if len(digits) == 64 and set(digits) <= set("0123456789abcdef") else ""


def _refused(job: _Job, error: urllib.error.HTTPError) -> str:
    with error:
        if error.code == 416:  # the part is as long as the file, or longer: begin again
            job.part.unlink(missing_ok=True)
            job.tag.unlink(missing_ok=True)
            raise _Broken("the server refused to go on") from error
        if error.code in (404, 410):
            raise FileNotOnServer(f"{_host(job.url)} has no {job.target.name} any more; {job.by_hand}.") from error
        if error.code in (429, 500, 502, 503, 504):
            raise _Broken(f"the server answered {error.code}") from error
        raise ModelError(f"{_host(job.url)} refused {job.target.name} (HTTP {error.code}); {job.by_hand}.") from error


def _unreachable(job: _Job, error: Exception) -> Exception:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    # A connection that broke while the answer came is worth another try; a host that is not reached is told at once.
    if isinstance(reason, (ConnectionResetError, http.client.HTTPException)):
        return _Broken(str(reason) or type(reason).__name__)
    return ModelError(
        f"{job.what} cannot be downloaded because {_host(job.url)} cannot be reached ({_why(reason)}); go online, or "
        f"{job.by_hand}."
    )


def _why(reason: object) -> str:
    """Return in words why a host is not reached."""
    if isinstance(reason, socket.gaierror):
        return "its name is not found"
    if isinstance(reason, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(reason, TimeoutError):
        return "it does not answer"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not trusted here"
    told = reason.strerror if isinstance(reason, OSError) else None
    return told or (first_line(reason) if isinstance(reason, BaseException) else str(reason))


def _receive(job: _Job, response: Any, have: int) -> None:
    """Write what comes to the part, after its first `have` bytes if the server goes on there."""
    goes_on = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
    done = have if goes_on else 0
    length = response.headers.get("Content-Length")
    total = done + int(length) if length else 0
    if response.headers.get("ETag"):
        job.tag.write_text(str(response.headers["ETag"]), encoding="utf-8")
    else:
        job.tag.unlink(missing_ok=True)
    try:
        with job.part.open("ab" if goes_on else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
                job.tell(min(done / total, 1.0) if total else 0.0, f"downloading {job.what}: {size}")
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Broken(str(error) or type(error).__name__) from error
    except OSError as error:
        raise ModelError(f"{job.part} cannot be written ({first_line(error)}); make room and try again.") from error
    if done < total:
        raise _Broken(f"{done / 1e6:.1f} of {total / 1e6:.1f} MB came")


def _host(url: str) -> str:
    return url.split("/")[2]
