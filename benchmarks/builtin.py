"""How long the built-in segmenter and depth estimator take on this machine, from a click to pixels in the layer.

    .venv/bin/python -m benchmarks.builtin [--clicks 30]

A session on a `ViewerModel` is driven as the window drives it: a point is added, and the time runs until the mask
stands in the preview layer; every third click starts a new object, the others refine it. Medians after one warm-up.
Exits with 1 where a floor is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from napari.components import ViewerModel
from skimage import data
from skimage.transform import resize

from napari_samdepth.models.loading import load_depth_estimator, load_segmenter
from napari_samdepth.models.runtime.device import torch_module
from napari_samdepth.session.session import session_of

ENCODE_S, CLICK_S, DEPTH_S = 0.2, 0.12, 0.15


def median_of(repeat: int, work: Callable[[], object]) -> float:
    """Return the median seconds of `work` after one warm-up."""
    work()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def clicks(picture: np.ndarray, count: int) -> tuple[float, float]:
    """Return the median and the 90th percentile of click to pixels, in seconds."""
    viewer = ViewerModel()
    image = viewer.add_image(picture)
    session = session_of(viewer)
    session.start(image)
    session.wait(120)
    points, preview = viewer.layers["SAM prompts"], viewer.layers["SAM preview"]
    rng = np.random.default_rng(0)
    times = []
    for number in range(count + 3):
        if number % 3 == 0:
            session.clear()
            centre = rng.uniform(60, 450, 2)
        begin = time.perf_counter()
        points.add(centre + rng.uniform(-12, 12, 2))
        session.wait(30)
        assert preview.data.any(), session.state.message
        times.append(time.perf_counter() - begin)
    session.close()
    return statistics.median(times[3:]), float(np.percentile(times[3:], 90))


def main() -> int:
    """Measure, print, and compare with the floors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=30)
    options = parser.parse_args()
    picture = (resize(data.coins(), (512, 512)) * 255).astype(np.uint8)
    rgb = np.repeat(picture[..., None], 3, axis=2)
    segmenter, estimator = load_segmenter("builtin"), load_depth_estimator("builtin")
    encode = median_of(15, lambda: segmenter.encode(rgb))
    motorcycle = data.stereo_motorcycle()[0]
    depth = median_of(9, lambda: estimator.estimate(motorcycle))
    click, slow = clicks(picture, options.clicks)
    print(f"threads {torch_module().get_num_threads()}, load {os.getloadavg()[0]:.1f}, device {segmenter.device}")
    print(f"encode 512 x 512            {1000 * encode:7.0f} ms  (floor {1000 * ENCODE_S:.0f})")
    print(
        f"click to pixels, median     {1000 * click:7.0f} ms  (floor {1000 * CLICK_S:.0f}), 90 % in {1000 * slow:.0f}"
    )
    print(f"depth 500 x 741             {1000 * depth:7.0f} ms  (floor {1000 * DEPTH_S:.0f})")
    return int(not (encode <= ENCODE_S and click <= CLICK_S and depth <= DEPTH_S))


if __name__ == "__main__":
    sys.exit(main())
