"""One file over HTTP: resumed with Range requests, checked, then moved into place."""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from napari_samdepth.core.durations import in_words
from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import first_line
from napari_samdepth.models.weights.checksums import matches
from napari_samdepth.models.weights.connection import LOOK, Download, RedirectRefused, Response
from napari_samdepth.models.weights.file_formats import LARGEST_JSON, check_content, is_web_page

ATTEMPTS = 5
"""How often a broken connection is taken up again before giving up, while nothing comes."""
PAUSE = 0.5
"""Seconds before the second attempt; doubled each time until something comes."""
LONGEST_PAUSE = 60.0
"""Seconds that a server may ask to wait."""
TIMEOUT = 30.0
_SMALL = (".json", ".txt")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileNotOnServer(ModelError):
    """The server has no such file."""


class _Broken(Exception):
    """The connection ended before the file did; what came is kept.

    `wait` is the seconds that the server asks to wait, `busy` whether it is there and has no time.
    """

    def __init__(self, why: str, wait: float = 0.0, busy: bool = False) -> None:
        super().__init__(why)
        self.wait = wait
        self.busy = busy


@dataclass
class _Job:
    url: str
    target: Path
    checksum: str
    report: Report
    what: str
    by_hand: str
    came: int = 0
    """Bytes that came in this call."""
    fraction: float = 0.0

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def tag(self) -> Path:
        """The file that keeps the server's ETag of what `part` is a part of."""
        return self.target.with_name(self.target.name + ".etag")

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).netloc.rpartition("@")[2]

    def tell(self, what: str) -> None:
        self.report(self.fraction, what)

    def have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


def fetch_file(url: str, target: Path, checksum: str, tell: Report, what: str, by_hand: str) -> str:
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
        Told how far it is, and four times a second while nothing comes.
    what
        What is fetched, such as "vit_b" or "config.json of dpt-large".
    by_hand
        What to do where there is no network, such as "put sam_vit_b_01ec64.pth into /models/vit_b by hand".

    Returns
    -------
    The published checksum that the file has, "" if none is published: then it was only seen to be of its kind.

    Raises
    ------
    FileNotOnServer
        If the server does not have the file.
    ModelError
        If it cannot be reached, breaks off again and again, or sends something else; or there is no room.
    Cancelled
        If `tell` raises it; what came is kept for the next time.
    """
    job = _Job(url, target, checksum, tell, what, by_hand)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https") or not job.host:
        raise ModelError(f"{url} is no address to download from; HF_ENDPOINT must begin with https:// and a name.")
    resumed = job.part.is_file()
    try:
        wanted = _complete(job)
        if wanted and not matches(job.part, wanted, tell):
            job.part.unlink()
            if resumed:  # what was left from an earlier time may have been bad: once more from the start
                wanted = _complete(job)
            if not job.part.is_file() or not matches(job.part, wanted, tell):
                job.drop()
                raise ModelError(f"What {job.host} sent for {target.name} has the wrong checksum; try again later.")
        if not wanted:
            _check_kind(job)
        os.replace(job.part, target)
        job.tag.unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(job, error) from error
    return wanted


def _check_kind(job: _Job) -> None:
    """Refuse what is not the kind of file that its name says, where no checksum tells more."""
    try:
        check_content(job.part, job.target.name)
    except ModelError as error:
        why = str(error).removeprefix(f"{job.part} ").partition(";")[0]
        job.drop()
        raise ModelError(
            f"What {job.host} sent for {job.target.name} is not that file ({why}); try again later, or {job.by_hand}."
        ) from error


def _complete(job: _Job) -> str:
    """Go on until the part is whole; return the checksum that it must have, or ""."""
    pause = PAUSE
    attempt = 0
    most = job.have()
    while True:
        try:
            announced = _attempt(job)
            return job.checksum or announced
        except _Broken as error:
            if job.have() > most:  # a line that goes on is worth as many attempts as a new one
                most, attempt, pause = job.have(), 0, PAUSE
            attempt += 1
            if attempt >= ATTEMPTS:
                raise _given_up(job, error) from error
            _wait(job, max(pause, error.wait), str(error))
        pause = min(2 * pause, 8.0)


def _given_up(job: _Job, error: _Broken) -> ModelError:
    if error.busy:
        return ModelError(f"{job.host} is too busy to send {job.target.name} ({error}); try again later.")
    return ModelError(
        f"The connection to {job.host} keeps breaking off ({error}); try again, {job.target.name} goes on where it "
        "stopped."
    )


def _wait(job: _Job, seconds: float, why: str) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        job.tell(f"waiting for {job.host} ({why}): again in {left:.0f} s")
        time.sleep(min(LOOK, left))


def _attempt(job: _Job) -> str:
    have = job.have()
    tag = job.tag.read_text(encoding="utf-8") if job.tag.is_file() else ""
    headers = {"User-Agent": "napari-samdepth", "Accept-Encoding": "identity"}
    if have and (tag or job.checksum):
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    with Download(job.url, headers, lambda: job.tell(f"waiting for {job.host}: {job.what}"), TIMEOUT) as download:
        try:
            response = download.response()
        except urllib.error.HTTPError as error:
            raise _refused(job, error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(job, error) from error
        _receive(job, response, download.blocks(), have if "Range" in headers else 0)
    return _announced(response)


def _announced(response: Response) -> str:
    """Return the checksum in the hub's tags, or "": SHA-256 of large files, of others the one that git has."""
    digits = _digits(response.linked_tag)
    if len(digits) == 64:
        return f"sha256:{digits}"
    digits = _digits(response.linked_tag or str(response.headers.get("ETag") or ""))
    return f"git-sha1:{digits}" if len(digits) == 40 and response.headers.get("X-Repo-Commit") else ""


def _digits(tag: str) -> str:
    digits = tag.strip().removeprefix("W/").strip('"').lower()
    return digits if set(digits) <= set("0123456789abcdef") else ""


def _refused(job: _Job, error: urllib.error.HTTPError) -> Exception:
    """Return what an answer that is no file means: another attempt, or a sentence."""
    with error:
        code, wait = error.code, _asked_to_wait(error)
    if code == 416:  # the part is as long as the file, or longer: begin again
        job.drop()
        return _Broken("the server refused to go on")
    if code in (404, 410):
        return FileNotOnServer(f"{job.host} has no {job.target.name} any more; {job.by_hand}.")
    if code in (408, 425, 429, 500, 502, 503, 504):
        if wait > LONGEST_PAUSE:
            return ModelError(f"{job.host} asks to wait {in_words(wait)} (HTTP {code}); try again then.")
        return _Broken(f"the server answered {code}", wait, busy=True)
    if "infinite loop" in str(error.reason):
        return ModelError(f"{job.host} leads in a circle for {job.target.name}; try again later, or {job.by_hand}.")
    if "not allowed" in str(error.reason):  # urllib's own refusal of all but HTTP and FTP
        return _unreachable(job, RedirectRefused("it leads to an address that is not safe"))
    if code == 407:
        return ModelError(f"The proxy{_proxy(job)} wants a name and a password (HTTP 407); set them in HTTPS_PROXY.")
    if code == 511:
        return ModelError(_sign_in(job))
    return ModelError(f"{job.host} refused {job.target.name} (HTTP {code}); {job.by_hand}.")


def _asked_to_wait(error: urllib.error.HTTPError) -> float:
    """Return the seconds in Retry-After, which may be a number or a date."""
    text = str(error.headers.get("Retry-After") or "").strip() if error.headers else ""
    if text.isdigit():
        return float(text[:9])
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return max((then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _unreachable(job: _Job, error: Exception) -> Exception:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, RedirectRefused):
        return ModelError(f"{job.host} does not send {job.target.name}: {reason}; {job.by_hand}.")
    trusted = not isinstance(reason, ssl.SSLCertVerificationError)
    # A connection that broke while the answer came is worth another try, and so is a host that was there before; one
    # that was never reached is told at once.
    broke = isinstance(reason, (ConnectionResetError, BrokenPipeError, http.client.HTTPException, ssl.SSLError))
    if trusted and not isinstance(reason, http.client.InvalidURL) and (broke or (job.came and _network(reason))):
        return _Broken(_why(reason))
    return ModelError(
        f"{job.what} cannot be downloaded because {job.host} cannot be reached ({_why(reason)}{_proxy(job, ', ')}); go "
        f"online, or {job.by_hand}."
    )


def _network(reason: object) -> bool:
    return isinstance(reason, OSError)


def _proxy(job: _Job, before: str = " ") -> str:
    """Return which proxy is between, without the password in its address."""
    parts = urllib.parse.urlsplit(job.url)
    address = urllib.request.getproxies().get(parts.scheme, "")
    if not address or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    name = address.rpartition("@")[2].removeprefix(f"{parts.scheme}://").removeprefix("http://").rstrip("/")
    return f"{before}{'' if before == ' ' else 'through the proxy '}{name}"


def _why(reason: object) -> str:
    """Return in words why a host is not reached, or a connection breaks."""
    if isinstance(reason, socket.gaierror):
        return "its name is not found"
    if isinstance(reason, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(reason, TimeoutError):
        return "it does not answer"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not trusted here"
    if isinstance(reason, ssl.SSLError):
        return "what came is damaged or is no TLS"
    told = reason.strerror if isinstance(reason, OSError) else None
    return told or (first_line(reason) if isinstance(reason, BaseException) else str(reason))


def _receive(job: _Job, response: Response, blocks: Iterator[bytes], have: int) -> None:
    """Write what comes to the part, after its first `have` bytes if the server goes on there."""
    goes_on = response.status == 206
    if goes_on and not (have and str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")):
        job.drop()
        raise _Broken("the server sent another part than was asked for")
    if response.status not in (200, 206):
        raise ModelError(f"{job.host} refused {job.target.name} (HTTP {response.status}); {job.by_hand}.")
    if response.headers.get_content_type() == "text/html":
        raise ModelError(_sign_in(job))
    done = have if goes_on else 0
    total = done + response.length if response.length is not None else 0
    _check_room(job, total - done)
    first = _next(job, blocks)
    if not goes_on and is_web_page(first):  # before what came earlier is written over
        raise ModelError(_sign_in(job))
    try:
        _keep_tag(job, response)
        with job.part.open("ab" if goes_on else "wb") as file:
            block = first
            while block:
                file.write(block)
                done += len(block)
                job.came += len(block)
                job.fraction = min(done / total, 1.0) if total else 0.0
                size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
                job.tell(f"downloading {job.what}: {size}")
                if job.target.suffix in _SMALL and done > LARGEST_JSON:
                    break
                block = _next(job, blocks)
    except OSError as error:
        raise _not_written(job, error) from error
    if done < total:
        raise _Broken(f"{done / 1e6:.1f} of {total / 1e6:.1f} MB came")


def _next(job: _Job, blocks: Iterator[bytes]) -> bytes:
    """Return the next block, b"" at the end; whatever goes wrong here is the network's."""
    try:
        return next(blocks, b"")
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _Broken(_why(error)) from error


def _keep_tag(job: _Job, response: Response) -> None:
    if response.headers.get("ETag"):
        job.tag.write_text(str(response.headers["ETag"]), encoding="utf-8")
    else:
        job.tag.unlink(missing_ok=True)


def _check_room(job: _Job, wanted: int) -> None:
    free = shutil.disk_usage(job.part.parent).free
    if wanted > free:
        raise ModelError(
            f"{job.what} needs {wanted / 1e6:,.0f} MB more and {job.part.parent} has {free / 1e6:,.0f} MB free; make "
            "room and try again."
        )


def _not_written(job: _Job, error: OSError) -> ModelError:
    what = "make room and try again" if error.errno in _FULL else "set NAPARI_SAMDEPTH_MODELS to another folder"
    return ModelError(f"{job.part} cannot be written ({error.strerror or first_line(error)}); {what}.")


def _sign_in(job: _Job) -> str:
    return (
        f"{job.host} sent a web page instead of {job.target.name}, as networks do that one has to sign in to: open any "
        f"page in a browser, then try again, or {job.by_hand}."
    )
