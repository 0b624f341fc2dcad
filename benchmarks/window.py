"""Does the window stay alive while a worker encodes with vit_b, and what does the worker cost?

    scripts/with_display.sh .venv/bin/python -m benchmarks.window [--repeat 3]

In one run, alternating: the encoder on the main thread, and on a session's lane while a real napari window's event
loop ticks every 5 ms. Printed: the gaps between ticks (99th percentile and largest) and worker time over main-thread
time, medians. Weights are random: they cost what trained ones cost. Exits with 1 where a floor is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.models.protocols import Report, Segmenter
from napari_samdepth.models.runtime.device import torch_module

P99_MS, MOST_MS, RATIO = 50.0, 250.0, 1.15
TICK_MS = 5


def random_vit_b(folder: Path) -> Segmenter:
    """Return a vit_b with random weights, saved and loaded as a real checkpoint."""
    torch = torch_module()
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    path = folder / "vit_b.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    return load_segmenter(path)


def main() -> int:
    """Measure, print, and compare with the floors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    import napari
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from napari_samdepth.session.session import session_of
    from napari_samdepth.widgets.dock import Bridge

    rgb = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    viewer = napari.Viewer()
    viewer.add_image(rgb)
    session = session_of(viewer)
    bridge = Bridge(session)
    ticks: list[float] = []
    timer = QTimer()
    timer.setInterval(TICK_MS)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder:
        segmenter = random_vit_b(Path(folder))
    segmenter.encode(rgb)
    main_thread, worker, gaps = [], [], []
    for _ in range(options.repeat):
        begin = time.perf_counter()
        segmenter.encode(rgb)
        main_thread.append(time.perf_counter() - begin)
        spent: list[float] = []

        def work(report: Report, spent: list[float] = spent) -> None:
            start = time.perf_counter()
            segmenter.encode(rgb, report)
            spent.append(time.perf_counter() - start)

        ticks.clear()
        timer.start()
        session.lane.submit("embed", work, lambda _result: None, lambda error: print(error, file=sys.stderr))
        while not spent:
            QApplication.processEvents()
            # the event loop sleeps between events as exec() would
            time.sleep(0.0005)
        timer.stop()
        worker += spent
        gaps += [1000 * gap for gap in np.diff(ticks)]
    bridge.release()
    session.close()
    viewer.close()
    return show(main_thread, worker, gaps)


def show(main_thread: list[float], worker: list[float], gaps: list[float]) -> int:
    """Print the figures; 1 where one of them misses its floor."""
    ratio = statistics.median(worker) / statistics.median(main_thread)
    p99, most = float(np.percentile(gaps, 99)), max(gaps)
    torch = torch_module()
    print(f"threads {torch.get_num_threads()}, load {os.getloadavg()[0]:.1f}, {len(gaps)} ticks of {TICK_MS} ms")
    print(f"vit_b encode, main thread   {statistics.median(main_thread):8.2f} s")
    print(f"vit_b encode, worker        {statistics.median(worker):8.2f} s   ratio {ratio:.2f} (floor {RATIO})")
    print(f"event loop, 99th percentile {p99:8.1f} ms  (floor {P99_MS:.0f})")
    print(f"event loop, longest gap     {most:8.1f} ms  (floor {MOST_MS:.0f})")
    return int(not (ratio <= RATIO and p99 <= P99_MS and most <= MOST_MS))


if __name__ == "__main__":
    sys.exit(main())
