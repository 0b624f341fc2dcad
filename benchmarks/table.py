"""What all benchmarks share: a case with a peer and ours, how they are measured, and the row that comes of it."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]


class Skipped(Exception):
    """Raised by a row that cannot be measured here; the message says why."""


@dataclass
class Options:
    """What the command line asked for."""

    folder: Path
    runs: int = 5
    device: str = "cpu"
    points: int = 16
    side: int = 2048


@dataclass
class Case:
    """A peer and ours, and how their results are compared (raises AssertionError, returns what to print)."""

    peer: Callable[[], Any]
    ours: Callable[[], Any]
    compare: Callable[[Any, Any], str]


@dataclass
class Row:
    """One line of the table; `passed` where outputs agree and the floor is met."""

    name: str
    peer: str
    floor: float
    ratio: float
    seconds: tuple[float, float] | None = None
    processor: float | None = None
    note: str = ""
    same: bool = True
    at_most: bool = False
    spread: dict[str, list[float]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether outputs agree and the floor is met."""
        return self.same and (self.ratio <= self.floor if self.at_most else self.ratio >= self.floor)


HEADER = f"{'work':<20}{'peer':<34}{'floor':>8}{'ratio':>8}{'of cpu':>8}{'peer s':>9}{'ours s':>9}  "


def show(row: Row) -> str:
    """Return a row as a line of the table."""
    floor = f"{'<=' if row.at_most else '>='} {row.floor:g}"
    processor = "" if row.processor is None else f"{row.processor:.2f}"
    seconds = ("", "") if row.seconds is None else tuple(f"{value:.3f}" for value in row.seconds)
    verdict = "" if row.passed else ("MISSED  " if row.same else "OUTPUTS DIFFER  ")
    return (
        f"{row.name:<20}{row.peer:<34}{floor:>8}{row.ratio:>8.2f}{processor:>8}{seconds[0]:>9}{seconds[1]:>9}  "
        f"{verdict}{row.note}; load {os.getloadavg()[0]:.1f}"
    )


def measure(name: str, peer: str, floor: float, case: Case, runs: int, clock_only: bool = False) -> Row:
    """Return the ratio of medians, peer and ours in turn after one warm-up of each, whose results are compared.

    Parameters
    ----------
    name, peer, floor
        Of the row.
    case
        What to run.
    runs
        How often each side runs after its warm-up.
    clock_only
        Leave the processor time out: the work happens in other processes.
    """
    try:
        note, same = case.compare(case.peer(), case.ours()), True
    except AssertionError as error:
        note, same = str(error).splitlines()[0] if str(error) else "no reason given", False
    wall: dict[str, list[float]] = {"peer": [], "ours": []}
    used: dict[str, list[float]] = {"peer": [], "ours": []}
    for _ in range(runs):
        for who, run in (("peer", case.peer), ("ours", case.ours)):
            start, before = time.perf_counter(), time.process_time()
            run()
            wall[who].append(time.perf_counter() - start)
            used[who].append(time.process_time() - before)
    theirs, ours = (statistics.median(wall[who]) for who in ("peer", "ours"))
    processor = None
    if not clock_only:
        processor = statistics.median(used["peer"]) / statistics.median(used["ours"])
    return Row(name, peer, floor, theirs / ours, (theirs, ours), processor, note, same, spread=wall)


def grown(run: Callable[[], object]) -> int:
    """Return by how many bytes `run` raises this process's memory at its peak (Linux); for a process of its own."""
    gc.collect()
    # 5 sets the peak back to what is in use now: loading weights takes more than some of the runs do
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Return a figure of this process's memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def memory(name: str, peer: str, floor: float, options: Options) -> Row:
    """Return ours over the peer's extra peak memory, each variant measured in a process of its own."""
    found = {}
    for variant in ("peer", "ours"):
        command = [sys.executable, "-m", "benchmarks", "--variant", f"{name}:{variant}", "--device", options.device]
        command += ["--points", str(options.points), "--side", str(options.side)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE)
        found[variant] = int(done.stdout.split()[-1])
    note = f"peer {found['peer'] / 1e6:.0f} MB, ours {found['ours'] / 1e6:.0f} MB"
    return Row(name, peer, floor, found["ours"] / found["peer"], note=note, at_most=True)
