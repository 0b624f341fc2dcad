"""Work on parts of an image in a few threads: numpy lets go of the interpreter while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LARGE_PX = 1 << 20
"""Images with more pixels than this are worth the threads."""
T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 4
"""More gain nothing: the parts are bound by memory."""


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[T], R], parts: Iterable[T], worth_it: bool = True) -> list[R]:
    """Return `function` of each part, in order; in threads where it is worth it and there are cores for them.

    The threads end before this returns. The first error of a part is raised.
    """
    workers = min(cores(), MOST_THREADS) if worth_it else 1
    if workers == 1:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(workers, thread_name_prefix="napari-samdepth-rows") as pool:
        return list(pool.map(function, parts))
