"""Threads that share out the parts of a layer, each computing its parts alone.

On a CPU torch has all its threads work on every operation together: they wait for each other thousands of times an
image, and the slowest decides each time. Where a layer falls into independent parts (rows of an image, windows, heads)
it is quicker to give every thread parts of its own. The operations and their order stay the same.

This module does not import torch itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from napari_samdepth.models.runtime.device import torch_module

Part = TypeVar("Part")
Task = Callable[[], None]


class ThreadPool:
    """Carries out work on parts; made by `thread_pool`.

    Attributes
    ----------
    count
        How many parts are worked on at once.
    """

    def __init__(self, count: int, modes: Callable[[], Any]) -> None:
        """Start `count` threads, none for 1; each works inside a context manager that `modes` makes."""
        self.count = count
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        names = [f"napari-samdepth part {index + 1}" for index in range(count if count > 1 else 0)]
        self._threads = [threading.Thread(target=self._serve, args=(modes,), name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def each(self, work: Callable[[Part], None], parts: Sequence[Part]) -> None:
        """Call `work` on every part, in any order, and return when all are done; what one of them raises is raised."""
        if not self._threads:
            for part in parts:
                work(part)
            return
        torch = torch_module()
        # products of matrices take their number of threads from the process, the rest of torch from its own thread
        torch.set_num_threads(1)
        try:
            for part in parts:
                self._tasks.put(lambda part=part: work(part))  # type: ignore[misc]
            errors = [self._done.get() for _ in parts]
        finally:
            torch.set_num_threads(self.count)
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, modes: Callable[[], Any]) -> None:
        torch_module().set_num_threads(1)
        with modes():
            while (task := self._tasks.get()) is not None:
                error: BaseException | None = None
                try:
                    task()
                except BaseException as caught:
                    error = caught
                self._done.put(error)


@contextmanager
def thread_pool(device: str) -> Iterator[ThreadPool]:
    """Give a pool of as many threads as torch uses on the CPU, or one that works alone on any other device.

    Its threads are in the caller's inference mode and autocast.
    """
    torch = torch_module()
    count = int(torch.get_num_threads()) if device == "cpu" else 1
    inference = torch.is_inference_mode_enabled()
    coarse, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    @contextmanager
    def modes() -> Iterator[None]:
        with torch.inference_mode(inference), torch.autocast(device, dtype, enabled=coarse):
            yield

    made = ThreadPool(count, modes)
    try:
        yield made
    finally:
        made.close()
        if count > 1:
            torch.set_num_threads(count)
