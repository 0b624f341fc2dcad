"""The threads of a pool: every part is done once, in the caller's modes, and torch has its threads back afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from napari_samdepth.models.runtime.device import torch_module
from napari_samdepth.models.runtime.thread_pool import thread_pool

torch = torch_module()
COUNT = 2


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(COUNT)
    yield
    torch.set_num_threads(before)


def test_each_part_is_done_once_by_threads_that_compute_alone() -> None:
    done: list[int] = []
    seen: set[tuple[str, int]] = set()
    meet = threading.Barrier(COUNT, timeout=60)

    def work(part: int) -> None:
        if part < COUNT:
            meet.wait()  # both threads are at work
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        done.append(part)

    with thread_pool("cpu") as threads:
        for _ in range(2):
            done.clear()
            threads.each(work, range(20))
            assert sorted(done) == list(range(20))
            assert torch.get_num_threads() == COUNT
    assert sorted(seen) == [("napari-samdepth part 1", 1), ("napari-samdepth part 2", 1)]
    assert not [thread.name for thread in threading.enumerate() if "part" in thread.name]


@pytest.mark.parametrize("coarse", [False, True])
def test_the_callers_modes_hold_in_the_threads(coarse: bool) -> None:
    x = torch.ones(4, 4)
    found = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=coarse), thread_pool("cpu") as threads:
        threads.each(lambda _part: found.append(x @ x), range(4))
    assert {(each.dtype, each.is_inference()) for each in found} == {
        (torch.bfloat16 if coarse else torch.float32, True)
    }


def test_what_a_part_raises_is_raised_after_the_others_are_done() -> None:
    done: list[int] = []

    def work(part: int) -> None:
        if part == 1:
            raise MemoryError("no room for part 1")
        done.append(part)

    with thread_pool("cpu") as threads:
        with pytest.raises(MemoryError, match="part 1"):
            threads.each(work, range(6))
        assert sorted(done) == [0, 2, 3, 4, 5]
        assert torch.get_num_threads() == COUNT
        threads.each(work, [7])
    assert done[-1] == 7


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_one_thread_or_another_device_works_in_the_callers_thread(device: str) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
    names = set()
    with thread_pool(device) as threads:
        threads.each(lambda _part: names.add(threading.current_thread().name), range(3))
    assert names == {threading.current_thread().name}
