"""The cache of training material: one .npz a view, with a picture `rgb` (H, W, 3) uint8 and `inverse` (H, W) float16.

Rendered scenes come from seeds, so the cache can be thrown away and made again.  Scenes of the held-out seeds use
another set of textures and are never trained on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from training.depth import scenes, textures

Array = np.ndarray[Any, Any]
HELD_OUT = range(160)  # seeds; training seeds start at FIRST
FIRST = 1000
ATLAS_EVERY = 250  # scenes that share one set of textures


def save(path: Path, rgb: Array, inverse: Array, kind: str) -> None:
    """Write a view, moved into place once whole; inverse depth is scaled to 0..1 so that float16 holds it."""
    top = float(np.percentile(inverse, 99.5)) or 1.0
    half = np.clip(inverse / top, 0, 4).astype(np.float16)
    part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(part, rgb=rgb, inverse=half, kind=np.array(kind))
    part.replace(path)


def load(path: Path) -> tuple[Array, Array, str]:
    """A view: picture (H, W, 3) uint8, inverse depth (H, W) float32, its kind."""
    with np.load(path) as z:
        return z["rgb"], z["inverse"].astype(np.float32), str(z["kind"])


def render_scenes(folder: Path, seeds: range, samples: int = 2) -> int:
    """Render the scenes of `seeds` that `folder` does not hold yet; returns how many were made."""
    folder.mkdir(parents=True, exist_ok=True)
    made, group = 0, None
    for seed in seeds:
        path = folder / f"{seed:06d}.npz"
        if path.exists():
            continue
        if group != seed // ATLAS_EVERY:
            group = seed // ATLAS_EVERY
            atlas, index = textures.atlas(np.random.default_rng((7, group)))
        save(path, *scenes.render(seed, atlas, index, samples=samples))
        made += 1
    return made
