"""Composed pictures: shapes of one or several parts, of every size, pasted over textures and over one another."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from training.segmenter.paint import (
    PHOTOGRAPHS,
    Array,
    Rng,
    blob,
    photo_texture,
    photograph,
    polygon,
    sensor,
    smooth_noise,
    texture,
)

SIZE = 320


def _outline(rng: Rng, centre: tuple[float, float], radius: float) -> Array:
    if rng.random() < 0.5:
        u = blob(rng, SIZE, centre, radius, rng.choice([0.0, 0.1, 0.3]), rng.uniform(1, 3))
        if rng.random() < 0.1:
            return (u < 1) & (u > rng.uniform(0.3, 0.7))
        return u < 1
    return polygon(rng, SIZE, centre, radius)


def _parts(rng: Rng, radius: float) -> list[Array]:
    """The masks of an object's parts, the first the main one."""
    centre = (rng.uniform(0.05, 0.95) * SIZE, rng.uniform(0.05, 0.95) * SIZE)
    parts = [_outline(rng, centre, radius)]
    for _ in range(rng.choice(4, p=[0.55, 0.2, 0.15, 0.1])):
        angle = rng.uniform(0, 6.28)
        reach = radius * rng.uniform(0.2, 0.95)
        at = (centre[0] + reach * np.sin(angle), centre[1] + reach * np.cos(angle))
        parts.append(_outline(rng, at, radius * rng.uniform(0.25, 0.7)))
    return parts


def composed(rng: Rng) -> tuple[Array, Array]:
    """Picture uint8 (320, 320, 3) and labels; objects from some 6 to 300 px across, later ones in front."""
    image = photo_texture(rng, SIZE) if rng.random() < 0.6 else texture(rng, SIZE)
    if rng.random() < 0.4:
        image = ndi.gaussian_filter(image, (s := rng.uniform(0.5, 4), s, 0))
    labels = np.zeros((SIZE, SIZE), np.uint16)
    count = int(rng.integers(2, 14))
    radii = np.sort(np.exp(rng.uniform(np.log(5), np.log(150), count)))[::-1]
    number = 0
    for radius in radii:
        parts = _parts(rng, float(radius))
        whole = np.logical_or.reduce(parts)
        if whole.sum() < 30:
            continue
        number += 1
        if rng.random() < 0.4:
            shadow = ndi.gaussian_filter(whole.astype(np.float32), rng.uniform(1, 8))
            shadow = ndi.shift(shadow, rng.uniform(-8, 8, 2), order=1)
            image = image * (1 - rng.uniform(0.2, 0.7) * shadow[..., None])
        shared = texture(rng, SIZE)
        for part in parts:
            fill = shared if rng.random() < 0.5 else texture(rng, SIZE)
            if rng.random() < 0.5:
                height = ndi.gaussian_filter(part.astype(np.float32), 2 + radius / rng.uniform(3, 10))
                gy, gx = np.gradient(height)
                angle = rng.uniform(0, 6.28)
                slope = gx * np.cos(angle) + gy * np.sin(angle)
                fill = fill * (0.6 + 0.5 * height + rng.uniform(2, 12) * slope)[..., None]
            soft = ndi.gaussian_filter(part.astype(np.float32), 0.6)[..., None]
            image = image + (fill - image) * soft
        labels[whole] = number
    light = 0.5 + rng.uniform(0, 1) * smooth_noise(rng, SIZE, 2)
    return sensor(rng, np.clip(image * light[..., None], 0, 1), 0.07), labels


def photo_regions(rng: Rng) -> tuple[Array, Array]:
    """Regions of even colour in a photograph (Felzenszwalb and Huttenlocher, IJCV 2004), as stand-ins for objects."""
    from skimage.segmentation import felzenszwalb

    picture = photograph(str(rng.choice(PHOTOGRAPHS)))
    side = int(min(picture.shape[:2]) * rng.uniform(0.4, 1.0))
    r = int(rng.integers(0, picture.shape[0] - side + 1))
    c = int(rng.integers(0, picture.shape[1] - side + 1))
    index = (np.arange(SIZE) * side / SIZE).astype(int)
    crop = ndi.gaussian_filter(picture[r : r + side, c : c + side].astype(np.float32), (0.5, 0.5, 0))[index][:, index]
    labels = felzenszwalb(crop / 255, scale=10 ** rng.uniform(2.3, 3.2), sigma=1.0, min_size=400).astype(np.uint16) + 1
    area = np.bincount(labels.ravel())
    labels[area[labels] > 0.5 * SIZE**2] = 0
    return np.clip(crop, 0, 255).astype(np.uint8), labels
