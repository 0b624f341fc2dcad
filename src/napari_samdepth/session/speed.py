"""How long a model takes for one image on this machine: measured where it runs, kept, and expected before it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from napari_samdepth.core.durations import in_words
from napari_samdepth.models.protocols import LoadedModel, Report
from napari_samdepth.models.runtime.hardware import hardware, threads
from napari_samdepth.storage.settings import change_settings, load_settings

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONG = 2.0
"""Seconds from which on a wait is foretold."""

MOST_CORES = 8
"""Beyond these, more cores hardly help."""


@dataclass(frozen=True)
class Expected:
    """How long an image should take, in seconds, and whether that was measured on this machine or is an estimate."""

    seconds: float
    measured: bool


def timed(run: Callable[[Report], T], report: Report) -> tuple[T, float]:
    """Run, and return the result with the seconds that it took, without those in `report`, where clicks are served.

    Raises
    ------
    Cancelled
        If `report` raises it, also right after the end: what nobody waits for any longer is not measured.
    """
    elsewhere = 0.0

    def tell(done: float, what: str) -> None:
        nonlocal elsewhere
        left = time.perf_counter()
        report(done, what)
        elsewhere += time.perf_counter() - left

    start = time.perf_counter()
    result = run(tell)
    seconds = time.perf_counter() - start - elsewhere
    report(1.0, "done")
    return result, seconds


def measured(task: str, model: str, network: LoadedModel, run: Callable[[Report], T], report: Report) -> T:
    """Run a network on one image, keep how long it took, and return the result.

    A run that had to move to the CPU halfway says nothing of either device, and is not kept. Raises as `timed` does.
    """
    device = network.device
    result, seconds = timed(run, report)
    if network.device == device:
        keep(task, model, device, seconds)
    return result


def keep(task: str, model: str, device: str, seconds: float) -> None:
    """Keep a measured run; where it cannot be kept the log says why, and nothing else happens."""
    try:
        machine = hardware(device)
        change_settings(lambda settings: settings.with_run(task, model, machine, max(seconds, 1e-4)))
    except OSError as error:
        logger.warning("The speed of %s cannot be kept: %s", model, error)


def expected(task: str, model: str, device: str, on_two_cores: float | None = None) -> Expected | None:
    """Return how long an image should take with a model on a device, None where nothing is known.

    Parameters
    ----------
    task
        "segment", "depth" or "text".
    model
        Catalog name, or path of an own model.
    device
        Torch device; "" while it is not known yet.
    on_two_cores
        Seconds on two cores of a server, a rule of thumb; None if not known.
    """
    if not device:
        return None
    kept = load_settings().timing(task, model, hardware(device))
    if kept is not None:
        return Expected(kept.typical, True)
    if on_two_cores is None or device != "cpu":
        return None
    return Expected(on_two_cores * 2 / min(threads(), MOST_CORES), False)


def speed_text(wait: Expected | None, device: str) -> str:
    """Return one sentence on a model's speed, for a tooltip."""
    if wait is None:
        return "Speed not yet measured here."
    if not wait.measured:
        return f"Not yet measured here; roughly estimated, {in_words(wait.seconds)} an image {on(device)}."
    return f"About {in_words(wait.seconds)} an image {on(device)}, measured here."


def on(device: str) -> str:
    """Return "on this CPU" or "on this GPU"."""
    return "on this CPU" if device == "cpu" else "on this GPU"
