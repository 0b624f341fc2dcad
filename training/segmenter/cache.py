"""Synthetic samples on disk: one ``FAMILY/NUMBER.npz`` each, with ``rgb`` uint8 (320, 320, 3) and ``labels`` uint16.

A sample depends on its family and number alone, so a cache can grow while a training run reads it, and two machines
make the same one.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.segmenter import cells, raycast, shapes
from training.segmenter.paint import Array, Rng

FAMILIES: dict[str, Callable[[Rng], tuple[Array, Array]]] = {
    "fluorescence": cells.fluorescence,
    "stained": cells.stained,
    "bright_field": cells.bright_field,
    "coins": cells.coins,
    "composed": shapes.composed,
    "photo_regions": shapes.photo_regions,
    "raycast": raycast.scene,
}


def make_sample(family: str, number: int) -> tuple[Array, Array]:
    """Sample ``number`` of ``family``: RGB uint8 (320, 320, 3) and labels uint16 (320, 320)."""
    return FAMILIES[family](np.random.default_rng([zlib.crc32(family.encode()), number]))


def fill(root: Path, counts: dict[str, int], seconds: float = float("inf")) -> int:
    """Write what is missing, families in turn, until done or out of time; returns how many were written."""
    stop, written = time.monotonic() + seconds, 0
    for number in range(max(counts.values())):
        for family, count in counts.items():
            path = root / family / f"{number:05d}.npz"
            if number >= count or path.exists():
                continue
            if time.monotonic() > stop:
                return written
            path.parent.mkdir(parents=True, exist_ok=True)
            rgb, labels = make_sample(family, number)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as handle:
                np.savez(handle, rgb=rgb, labels=labels)
            os.replace(partial, path)
            written += 1
    return written


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    print(fill(options.root, dict.fromkeys(options.families, options.count), options.minutes * 60), "samples written")
