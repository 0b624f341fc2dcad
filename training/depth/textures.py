"""Textures for the rendered scenes: drawn from noise and patterns, and cut from scikit-image's own photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from skimage import color, data, transform

Array = np.ndarray[Any, Any]
SIZE = 128
PLAIN, PATTERN, PHOTO = "plain", "pattern", "photo"
PHOTOGRAPHS = ("brick", "grass", "gravel", "coins", "immunohistochemistry", "retina")


def photographs() -> list[Array]:
    """Photographs in scikit-image's wheel, (H, W, 3) uint8 each; those that measure anything are never among them."""
    pictures = [getattr(data, name)() for name in PHOTOGRAPHS]
    return [p if p.ndim == 3 else np.dstack([p] * 3) for p in pictures]


def _noise(rng: np.random.Generator, smooth: float, stretch: float = 1.0) -> Array:
    field = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), (smooth, smooth * stretch), mode="wrap")
    return np.asarray((field - field.mean()) / (field.std() + 1e-9))


def _colour(rng: np.random.Generator) -> Array:
    """A random albedo (3,), mostly muted."""
    hsv = np.array([rng.random(), rng.beta(1.2, 3.0), rng.uniform(0.15, 0.95)])
    return np.asarray(color.hsv2rgb(hsv[None, None])[0, 0])


def _plain(rng: np.random.Generator) -> Array:
    base = _colour(rng) * np.ones((SIZE, SIZE, 3))
    return base * (1 + rng.uniform(0, 0.12) * _noise(rng, rng.uniform(0.5, 12))[..., None])


def _pattern(rng: np.random.Generator) -> Array:
    a, b = _colour(rng), _colour(rng)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    n = int(rng.integers(1, 9))
    kind = rng.integers(0, 7)
    if kind == 0:
        mix = ((x * n).astype(int) + (y * n).astype(int)) % 2
    elif kind == 1:  # stripes
        mix = (x * n % 1 < rng.uniform(0.1, 0.9)).astype(float)
    elif kind == 2:  # wood: bent rings
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * (x * n * 2 + 0.4 * _noise(rng, 4, 8)))
    elif kind == 3:  # tiles with joints
        width = rng.uniform(0.03, 0.12)
        mix = ((x * n % 1 < width) | (y * n % 1 < width)).astype(float)
    elif kind == 4:  # bricks
        row = (y * n).astype(int)
        mix = (((x * n / 2 + 0.5 * (row % 2)) % 1 < 0.06) | (y * n % 1 < 0.1)).astype(float)
    elif kind == 5:  # windows of a façade
        mix = ((abs(x * n % 1 - 0.5) < 0.3) & (abs(y * n % 1 - 0.5) < 0.33)).astype(float)
    else:  # marble, earth, carpet
        mix = 0.5 + 0.25 * (_noise(rng, 6) + _noise(rng, 1.5))
    tex = a + (b - a) * np.clip(mix, 0, 1)[..., None]
    return np.asarray(tex * (1 + rng.uniform(0, 0.15) * _noise(rng, rng.uniform(0.4, 4))[..., None]))


def _cut(rng: np.random.Generator, pictures: list[Array]) -> Array:
    p = pictures[int(rng.integers(len(pictures)))]
    side = int(rng.uniform(0.25, 1.0) * min(p.shape[:2]))
    r, c = int(rng.integers(0, p.shape[0] - side + 1)), int(rng.integers(0, p.shape[1] - side + 1))
    tex: Array = transform.resize(p[r : r + side, c : c + side], (SIZE, SIZE), anti_aliasing=True)
    return np.asarray(np.power(tex[:, ::-1] if rng.random() < 0.5 else tex, 2.2))


def atlas(
    rng: np.random.Generator, count: int = 180, pictures: list[Array] | None = None
) -> tuple[Array, dict[str, Array]]:
    """Draw `count` textures; photographs are cut from `pictures` as well as from scikit-image's.

    Returns (count, 128, 128, 3) float64 linear albedo in 0.02..1, the first one clouds, and for each kind (plain,
    pattern, photo) the indices that are of it.
    """
    pictures = photographs() + (pictures or [])
    clouds = np.clip(0.5 + 0.35 * _noise(rng, 10), 0, 1)[..., None] * np.ones(3)
    kinds = [PLAIN] * (count // 3) + [PATTERN] * (count // 3) + [PHOTO] * (count - 1 - 2 * (count // 3))
    made = [clouds]
    for kind in kinds:
        made.append(_plain(rng) if kind == PLAIN else _pattern(rng) if kind == PATTERN else _cut(rng, pictures))
    index = {k: 1 + np.flatnonzero(np.array(kinds) == k) for k in (PLAIN, PATTERN, PHOTO)}
    return np.clip(np.stack(made), 0.02, 1.0).astype(np.float64), index
