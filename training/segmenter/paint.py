"""Small drawing helpers shared by the synthetic images: smooth noise, blob shapes, photograph textures, colours."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Array = NDArray[Any]
Rng = np.random.Generator

# scikit-image's photographs that come in its wheel, as textures; coins and motorcycle judge and are left out
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


@cache
def photograph(name: str) -> Array:
    """A photograph of scikit-image's wheel as uint8 (H, W, 3), the longer side at most 768."""
    from pathlib import Path

    import skimage
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / name) as handle:
        picture = handle.convert("RGB")
        picture.thumbnail((768, 768))
        return np.asarray(picture)


def smooth_noise(rng: Rng, size: int, cells: float) -> Array:
    """Smooth random field (size, size) in 0–1 with about ``cells`` bumps a side."""
    n = max(2, round(cells)) + 3
    field = ndi.zoom(rng.random((n, n)), (size + 8) / (n - 2), order=3)[4 : size + 4, 4 : size + 4]
    return np.asarray((field - field.min()) / (np.ptp(field) + 1e-6))


def photo_texture(rng: Rng, size: int) -> Array:
    """A random crop of a random photograph as float (size, size, 3) in 0–1."""
    picture = photograph(str(rng.choice(PHOTOGRAPHS)))
    side = int(min(picture.shape[:2]) * rng.uniform(0.25, 1.0))
    r = int(rng.integers(0, picture.shape[0] - side + 1))
    c = int(rng.integers(0, picture.shape[1] - side + 1))
    crop = picture[r : r + side, c : c + side]
    index = (np.arange(size) * side / size).astype(int)
    crop = crop[index][:, index].astype(np.float32) / 255
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.4:
        crop = crop[..., rng.permutation(3)]
    return np.asarray(np.clip(crop * rng.uniform(0.5, 1.2) + rng.uniform(-0.15, 0.15), 0, 1))


def texture(rng: Rng, size: int) -> Array:
    """A surface's colour as float (size, size, 3): plain, gradient, noise, stripes, checks or photograph."""
    kind = rng.choice(6, p=[0.25, 0.15, 0.15, 0.1, 0.05, 0.3])
    if kind == 5:
        return photo_texture(rng, size)
    a, b = rng.random(3), rng.random(3)
    if rng.random() < 0.25:
        a, b = np.full(3, a[0]), np.full(3, b[0])
    if rng.random() < 0.5:
        b = np.clip(a + rng.normal(0, 0.12, 3), 0, 1)
    if kind == 0:
        t = np.zeros((size, size))
    elif kind == 2:
        t = smooth_noise(rng, size, rng.uniform(2, 60))
    else:
        y, x = np.mgrid[:size, :size] / size
        angle, freq = rng.uniform(0, np.pi), rng.uniform(2, 25)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        if kind == 1:
            t = np.clip(0.5 + u - 0.5, 0, 1)
        elif kind == 3:
            t = (np.sin(u * freq * 6.28) > 0).astype(float)
        else:
            t = ((np.sin(u * freq * 6.28) > 0) ^ (np.sin(v * freq * 6.28) > 0)).astype(float)
    return np.asarray(a + (b - a) * t[..., None])


def blob(rng: Rng, size: int, centre: tuple[float, float], radius: float, rough: float, stretch: float) -> Array:
    """Normalised radius u (size, size) of a wobbly ellipse: inside where u < 1."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    y, x = y - centre[0], x - centre[1]
    angle = rng.uniform(0, np.pi)
    a, b = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    a, b = a / np.sqrt(stretch), b * np.sqrt(stretch)
    theta = np.arctan2(b, a)
    limit = np.ones_like(theta)
    for k in range(2, 7):
        limit += rough * rng.normal() / k * np.cos(k * theta + rng.uniform(0, 6.28))
    return np.asarray(np.hypot(a, b) / (radius * np.maximum(limit, 0.3)))


def polygon(rng: Rng, size: int, centre: tuple[float, float], radius: float) -> Array:
    """Mask (size, size) of a random polygon: regular, star, bar or free."""
    from skimage.draw import polygon2mask

    n = int(rng.integers(3, 10))
    theta = np.arange(n) * 2 * np.pi / n + rng.uniform(0, 6.28)
    r = np.full(n, radius)
    kind = rng.integers(4)
    if kind == 1:
        theta = np.arange(2 * n) * np.pi / n + rng.uniform(0, 6.28)
        r = np.tile([radius, radius * rng.uniform(0.35, 0.8)], n)
    elif kind == 3:
        theta, r = np.sort(rng.uniform(0, 2 * np.pi, n)), radius * rng.uniform(0.4, 1.2, n)
    stretch = rng.uniform(0.25, 1) if kind == 2 else rng.uniform(0.6, 1)
    p = np.stack([r * np.sin(theta) * stretch, r * np.cos(theta)], 1)
    turn = rng.uniform(0, 6.28)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(polygon2mask((size, size), p @ rotation + np.asarray(centre)))


def sensor(rng: Rng, image: Array, noise: float) -> Array:
    """Blur and noise of a camera, to uint8."""
    if rng.random() < 0.6:
        image = ndi.gaussian_filter(image, (s := rng.uniform(0.3, 1.6), s, 0))
    image = image + rng.normal(0, 1, image.shape) * noise * rng.random()
    return np.asarray(np.clip(image * 255, 0, 255).astype(np.uint8))
