"""One lane for the models: work off the main thread, answers on it, and the latest request wins.

Each kind of work carries a generation number. A new request of a kind makes older ones stale: a waiting one is
dropped, a running one is asked to stop through its `Report`, and an answer that comes late anyway is thrown away.
What needs no model is computed aside, in a second thread, so that no model waits for it.
Nothing here knows Qt: whoever owns an event loop adds a listener and calls `deliver` from the main thread.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from psygnal import Signal

from napari_samdepth.core.errors import Cancelled
from napari_samdepth.models.protocols import Report

LOG = logging.getLogger(__name__)
IDLE_SECONDS = 2.0
"""How long the thread stays when there is nothing to do (a new one costs the models a new pool of threads)."""

EXIT_SECONDS = 10.0
"""How long the end of the process waits for a step under way; a step is a block of a network, or an import."""
_LANES: WeakSet[Lane] = WeakSet()


@atexit.register
def _end_all() -> None:
    """Cancel what runs, and wait for it: a thread that Python takes away amid torch's code aborts the process."""
    threads = [thread for lane in tuple(_LANES) for thread in lane.end()]
    end = time.monotonic() + EXIT_SECONDS
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0.0))


@dataclass(frozen=True, eq=False)
class Job:
    """One request: `work` runs on the lane, then exactly one of `done` and `failed` on the main thread."""

    kind: str
    generation: int
    work: Callable[[Report], Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    urgent: bool = False
    aside: bool = False


@dataclass(frozen=True, eq=False)
class Progress:
    """How far the running job of a kind is: `fraction` from 0 to 1 and `text`."""

    kind: str
    fraction: float
    text: str


class Lane:
    """A queue with a thread for the models and one beside it.

    All public methods may be called from any thread but `deliver`: main thread only.
    """

    progressed = Signal(object)
    idle = Signal()

    def __init__(self) -> None:
        """Begin without a thread; `deliver` emits `progressed` with a Progress, and `idle` when no model runs."""
        self._lock = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._finished: deque[Callable[[], None]] = deque()
        self._progress: Progress | None = None
        self._generation: dict[str, int] = {}
        self._kinds_aside: set[str] = set()
        self._threads: dict[bool, threading.Thread] = {}
        self._closed = False
        self._was_busy = False
        # work aside that tells how far it is, and is shown for that
        self._telling: set[Job] = set()
        self._listeners: list[Callable[[], None]] = []
        _LANES.add(self)

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, from the lane's thread, whenever there is something to deliver."""
        self._listeners = [*self._listeners, listener]

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Stop calling `listener`."""
        self._listeners = [other for other in self._listeners if other != listener]

    def submit(
        self,
        kind: str,
        work: Callable[[Report], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        urgent: bool = False,
        aside: bool = False,
    ) -> None:
        """Queue `work`; it makes earlier requests of the same kind stale.

        Urgent work goes before the rest, and between the steps that a running job reports. Work aside runs no model:
        it keeps none waiting, and begins when nothing urgent is left.
        """
        with self._lock:
            if self._closed:
                return
            job = Job(kind, self._bump(kind), work, done, failed, urgent, aside)
            if aside:
                self._kinds_aside.add(kind)
            # urgent ones stand in front, in their own order
            urgent_ones = sum(waiting.urgent for waiting in self._waiting)
            self._waiting.insert(urgent_ones if urgent else len(self._waiting), job)
            self._was_busy = self._was_busy or not aside
            if aside not in self._threads:
                name = f"napari-samdepth {'tables' if aside else 'models'}"
                self._threads[aside] = threading.Thread(target=self._run, args=(aside,), name=name, daemon=True)
                self._threads[aside].start()
            self._lock.notify_all()

    def cancel(self, *kinds: str) -> None:
        """Make every request of these kinds stale (of all kinds if none is named)."""
        with self._lock:
            for kind in kinds or tuple(self._generation):
                self._bump(kind)

    def cancel_models(self) -> None:
        """Make every request stale but those aside."""
        with self._lock:
            for kind in self._generation.keys() - self._kinds_aside:
                self._bump(kind)

    def close(self) -> None:
        """Cancel everything and let the thread end."""
        with self._lock:
            self._closed = True
            for kind in tuple(self._generation):
                self._bump(kind)
            self._finished.clear()
            self._listeners = []
            self._lock.notify_all()

    def end(self) -> list[threading.Thread]:
        """Close, and return the threads that still have to notice."""
        with self._lock:
            threads = list(self._threads.values())
        self.close()
        return threads

    def busy(self, *kinds: str) -> bool:
        """Whether a live request of these kinds (of any kind if none is named) waits, runs or is undelivered."""
        with self._lock:
            if not kinds and self._finished:
                return True
            return any(not kinds or job.kind in kinds for job in self._jobs())

    def deliver(self) -> None:
        """Run the callbacks of finished jobs and report progress. Main thread only."""
        with self._lock:
            progress, self._progress = self._progress, None
        if progress is not None:
            self.progressed.emit(progress)
        while True:
            with self._lock:
                if not self._finished:
                    break
                callback = self._finished.popleft()
            callback()
        with self._lock:
            shown = [job for job in self._jobs() if not job.aside or job in self._telling]
            idle = self._was_busy and not self._finished and not shown
            self._was_busy = self._was_busy and not idle
        if idle:
            self.idle.emit()

    def wait(self, timeout: float) -> bool:
        """Deliver until nothing is left to do; False where `timeout` seconds were not enough. Main thread only."""
        end = time.monotonic() + timeout
        while True:
            self.deliver()
            if not self.busy():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            with self._lock:
                if not self._finished:
                    self._lock.wait(min(left, 0.1))

    def _bump(self, kind: str) -> int:
        self._generation[kind] = self._generation.get(kind, 0) + 1
        self._waiting = deque(job for job in self._waiting if job.kind != kind)
        return self._generation[kind]

    def _live(self, job: Job) -> bool:
        return self._generation.get(job.kind) == job.generation

    def _jobs(self) -> list[Job]:
        """Return the requests that wait or run and are still wanted."""
        return [job for job in (*self._waiting, *self._running) if self._live(job)]

    def _run(self, aside: bool) -> None:
        while (job := self._next(aside)) is not None:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        """Run a job that was taken from the queue and hand in its outcome."""
        outcome = self._work(job)
        with self._lock:
            self._running.remove(job)
            self._telling.discard(job)
            if not self._closed:
                self._finished.append(outcome)
            self._lock.notify_all()
        self._wake()

    def _serve_urgent(self) -> None:
        """Run the urgent jobs that wait, in between the steps of a long one: a click waits for no search."""
        while True:
            with self._lock:
                job = next((waiting for waiting in self._waiting if waiting.urgent), None)
                if job is None:
                    return
                self._waiting.remove(job)
                self._running.append(job)
            self._finish(job)

    def _next(self, aside: bool) -> Job | None:
        """Wait for the next job of a thread; None where it is to end."""
        with self._lock:
            end = time.monotonic() + IDLE_SECONDS
            while not self._closed:
                job = next((waiting for waiting in self._waiting if waiting.aside == aside), None)
                if job is not None and not (aside and any(other.urgent for other in self._jobs())):
                    self._waiting.remove(job)
                    self._running.append(job)
                    return job
                if job is None and time.monotonic() >= end:
                    break
                self._lock.wait(max(end - time.monotonic(), 0.01))
            self._threads.pop(aside, None)
            return None

    def _work(self, job: Job) -> Callable[[], None]:
        """Run one job and return what the main thread is to call."""

        def report(fraction: float, text: str) -> None:
            with self._lock:
                if not self._live(job):
                    raise Cancelled
                self._progress = Progress(job.kind, fraction, text)
                if job.aside:
                    self._was_busy = True
                    self._telling.add(job)
            self._wake()
            if not job.urgent and not job.aside:
                self._serve_urgent()

        try:
            result = job.work(report)
        except Cancelled:
            return lambda: None
        except Exception as error:
            # The user gets one sentence; the log keeps the rest.
            LOG.debug("%s failed", job.kind, exc_info=True)
            return self._if_live(job, job.failed, error)
        return self._if_live(job, job.done, result)

    def _if_live(self, job: Job, callback: Callable[[Any], None], value: Any) -> Callable[[], None]:
        def call() -> None:
            with self._lock:
                live = self._live(job)
            if live:
                callback(value)

        return call

    def _wake(self) -> None:
        for listener in self._listeners:
            listener()
