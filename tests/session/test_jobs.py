"""The lane: latest wins, cancel, failures, and nothing left running."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from napari_samdepth.models.protocols import Report
from napari_samdepth.session.jobs import Lane, Progress


class Seen:
    """Collects what a lane brings to the main thread."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.errors: list[Exception] = []
        self.progress: list[Progress] = []
        self.idle = 0
        self.threads: set[str] = set()

    def take(self, value: object) -> None:
        self.threads.add(threading.current_thread().name)
        self.done.append(value)

    def on_idle(self) -> None:
        self.idle += 1


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def lane(seen: Seen) -> Iterator[Lane]:
    made = Lane()
    made.progressed.connect(seen.progress.append)
    made.idle.connect(seen.on_idle)
    yield made
    made.close()


def test_work_runs_elsewhere_and_its_answer_arrives_here(lane: Lane, seen: Seen) -> None:
    lane.submit("a", lambda _report: threading.current_thread().name, seen.take, seen.errors.append)
    assert lane.wait(5)
    assert seen.done == ["napari-samdepth models"]
    assert seen.threads == {"MainThread"}
    assert seen.idle == 1


def test_of_many_requests_of_a_kind_the_latest_is_answered(lane: Lane, seen: Seen) -> None:
    gate = threading.Event()
    lane.submit("block", lambda _report: gate.wait(5), lambda _value: None, seen.errors.append)
    for number in range(20):
        lane.submit("click", lambda _report, number=number: number, seen.take, seen.errors.append)
    gate.set()
    assert lane.wait(5)
    assert seen.done == [19]


def test_a_late_answer_is_dropped(lane: Lane, seen: Seen) -> None:
    begun, gate = threading.Event(), threading.Event()

    def slow(_report: Report) -> str:
        begun.set()
        gate.wait(5)
        return "old"

    lane.submit("click", slow, seen.take, seen.errors.append)
    assert begun.wait(5)
    lane.submit("click", lambda _report: "new", seen.take, seen.errors.append)
    gate.set()
    assert lane.wait(5)
    assert seen.done == ["new"]


def test_an_answer_that_is_ready_but_not_delivered_can_still_become_stale(lane: Lane, seen: Seen) -> None:
    lane.submit("click", lambda _report: "old", seen.take, seen.errors.append)
    time.sleep(0.2)
    lane.cancel("click")
    assert lane.wait(5)
    assert seen.done == []


def test_running_work_is_stopped_through_its_report(lane: Lane, seen: Seen) -> None:
    steps: list[int] = []
    begun = threading.Event()

    def long(report: Report) -> str:
        for step in range(500):
            report(step / 500, "step")
            steps.append(step)
            begun.set()
            time.sleep(0.01)
        return "finished"

    lane.submit("encode", long, seen.take, seen.errors.append)
    assert begun.wait(5)
    lane.cancel("encode")
    assert lane.wait(5)
    time.sleep(0.1)
    assert seen.done == []
    assert seen.errors == []
    assert len(steps) < 100


def test_urgent_work_goes_first(lane: Lane, seen: Seen) -> None:
    gate = threading.Event()
    lane.submit("block", lambda _report: gate.wait(5), lambda _value: None, seen.errors.append)
    lane.submit("slow", lambda _report: "slow", seen.take, seen.errors.append)
    lane.submit("click", lambda _report: "click", seen.take, seen.errors.append, urgent=True)
    gate.set()
    assert lane.wait(5)
    assert seen.done == ["click", "slow"]


def test_urgent_work_is_done_between_the_steps_of_a_long_job(lane: Lane, seen: Seen) -> None:
    begun = threading.Event()

    def long(report: Report) -> str:
        for step in range(200):
            report(step / 200, "step")
            begun.set()
            time.sleep(0.01)
        return "long"

    lane.submit("search", long, seen.take, seen.errors.append)
    assert begun.wait(5)
    lane.submit("click", lambda _report: "click", seen.take, seen.errors.append, urgent=True)
    assert lane.wait(10)
    assert seen.done == ["click", "long"]


def test_work_beside_the_models_keeps_none_of_them_waiting(lane: Lane, seen: Seen) -> None:
    gate = threading.Event()

    def compute(_report: Report) -> str:
        gate.wait(5)
        return "table"

    lane.submit("table", compute, seen.take, seen.errors.append, aside=True)
    lane.submit("slow", lambda _report: "slow", seen.take, seen.errors.append)
    lane.submit("click", lambda _report: "click", seen.take, seen.errors.append, urgent=True)
    assert not lane.wait(0.3)
    assert sorted(map(str, seen.done)) == ["click", "slow"]
    assert seen.idle == 1, "the models are idle, whatever is computed beside them"
    gate.set()
    assert lane.wait(5)
    assert seen.done[2:] == ["table"]


def test_work_beside_the_models_begins_after_the_clicks_that_wait(lane: Lane, seen: Seen) -> None:
    begun, gate, order = threading.Event(), threading.Event(), list[str]()

    def block(_report: Report) -> None:
        begun.set()
        gate.wait(5)

    def click(_report: Report) -> None:
        time.sleep(0.1)
        order.append("click")

    lane.submit("block", block, lambda _value: None, seen.errors.append)
    assert begun.wait(5)
    lane.submit("click", click, lambda _value: None, seen.errors.append, urgent=True)
    lane.submit("table", lambda _report: order.append("table"), lambda _value: None, seen.errors.append, aside=True)
    time.sleep(0.1)
    gate.set()
    assert lane.wait(5)
    assert order == ["click", "table"]


def test_of_work_beside_the_models_the_latest_request_is_answered(lane: Lane, seen: Seen) -> None:
    begun, gate = threading.Event(), threading.Event()

    def old(_report: Report) -> str:
        begun.set()
        gate.wait(5)
        return "old"

    lane.submit("table", old, seen.take, seen.errors.append, aside=True)
    assert begun.wait(5)
    for number in range(3):
        lane.submit("table", lambda _report, number=number: number, seen.take, seen.errors.append, aside=True)
    gate.set()
    assert lane.wait(5)
    assert seen.done == [2]


def test_a_failure_is_told_and_the_lane_goes_on(lane: Lane, seen: Seen) -> None:
    def fail(_report: Report) -> None:
        raise MemoryError("no room")

    lane.submit("a", fail, seen.take, seen.errors.append)
    lane.submit("b", lambda _report: "b", seen.take, seen.errors.append)
    assert lane.wait(5)
    assert [str(error) for error in seen.errors] == ["no room"]
    assert seen.done == ["b"]


def test_progress_is_reported_on_the_main_thread(lane: Lane, seen: Seen) -> None:
    def work(report: Report) -> None:
        report(0.25, "a quarter")
        time.sleep(0.3)

    lane.submit("a", work, seen.take, seen.errors.append)
    assert lane.wait(5)
    assert (seen.progress[0].fraction, seen.progress[0].text) == (0.25, "a quarter")


def test_waiting_gives_up_in_time(lane: Lane, seen: Seen) -> None:
    gate = threading.Event()
    lane.submit("a", lambda _report: gate.wait(5), seen.take, seen.errors.append)
    begin = time.monotonic()
    assert not lane.wait(0.2)
    assert time.monotonic() - begin < 2
    gate.set()


def test_a_closed_lane_answers_nothing_and_its_thread_ends(lane: Lane, seen: Seen) -> None:
    lane.submit("a", lambda _report: "a", seen.take, seen.errors.append)
    lane.submit("table", lambda _report: "t", seen.take, seen.errors.append, aside=True)
    lane.close()
    lane.submit("b", lambda _report: "b", seen.take, seen.errors.append)
    lane.deliver()
    assert seen.done == []
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("napari-samdepth") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_ends_lets_a_step_under_way_end_first() -> None:
    """Else Python takes the thread away amid torch's code, and the process aborts."""
    script = """
import threading, time
from napari_samdepth.session.jobs import Lane

lane, begun = Lane(), threading.Event()

def work(report):
    begun.set()
    try:
        while True:
            report(0.5, "at work")
            time.sleep(0.2)
    finally:
        time.sleep(0.3)
        print("ended", flush=True)

lane.submit("kind", work, print, print)
begun.wait()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "ended\n", "")
