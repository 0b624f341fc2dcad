"""The cache of training material: one .npz a view, with a picture `rgb` (H, W, 3) uint8 and `inverse` (H, W) float16.

Rendered scenes come from seeds, so the cache can be thrown away and made again.  Scenes of the held-out seeds use
another set of textures and are never trained on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from training.depth import mesh_scenes, meshes, scenes, stamps, textures

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


def render_scenes(folder: Path, seeds: range, samples: int = 2, pictures: list[Array] | None = None) -> int:
    """Render the scenes of `seeds` that `folder` lacks, with textures cut from `pictures`; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    made, group = 0, None
    for seed in seeds:
        path = folder / f"{seed:06d}.npz"
        if path.exists():
            continue
        if group != seed // ATLAS_EVERY:
            group = seed // ATLAS_EVERY
            atlas, index = textures.atlas(np.random.default_rng((7, group)), pictures=pictures)
        save(path, *scenes.render(seed, atlas, index, samples=samples))
        made += 1
    return made


def stock(
    library: meshes.Library, cutouts: list[Path], group: int, held_out: bool, pictures: list[Array] | None = None
) -> mesh_scenes.Stock:
    """What mesh scenes of a group of seeds are built of; held-out scenes know neither its models nor its cut-outs."""
    drawn, kinds = textures.atlas(np.random.default_rng((7, group)), pictures=pictures)
    own = [path for k, path in enumerate(cutouts) if (k % meshes.HELD_OUT_EVERY == 0) == held_out]
    return mesh_scenes.Stock(library, library.split(held_out), drawn.astype(np.float32), kinds, *stamps.load(own))


def render_mesh_scenes(
    folder: Path,
    seeds: range,
    library: Path,
    cutouts: list[Path],
    held_out: bool = False,
    pictures: list[Array] | None = None,
    size: float = 1.0,
) -> int:
    """Render the mesh scenes of `seeds` that `folder` does not hold yet; returns how many were made."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not (folder / f"{seed:06d}.npz").exists()]
    made, group, packed = 0, None, meshes.load(library) if missing else None
    for seed in missing:
        assert packed is not None
        if group != seed // ATLAS_EVERY:
            group = seed // ATLAS_EVERY
            parts = stock(packed, cutouts, group, held_out, pictures)
        view = mesh_scenes.make(seed, parts, size)
        if view is not None:
            save(folder / f"{seed:06d}.npz", *view)
            made += 1
    return made
