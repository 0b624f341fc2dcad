"""Synthetic microscopy (fluorescence, stained tissue, bright field) and coins; every image with instance labels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from training.segmenter.paint import Array, Rng, blob, sensor, smooth_noise

SIZE = 320


def _populate(
    rng: Rng, low: float, high: float, crowd: float, rough: float, stretch: float = 1.9
) -> list[tuple[Array, float]]:
    """Blobs as (normalised radius, radius); ``crowd`` in 0–1 is how much a blob may lie over earlier ones."""
    taken = np.zeros((SIZE, SIZE), bool)
    base = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    count = int(np.clip(rng.uniform(0.15, 0.8) * SIZE**2 / (3.1 * base**2), 2, 70))
    result = []
    for _ in range(count):
        radius = base * float(np.exp(rng.normal(0, 0.2)))
        u = blob(rng, SIZE, (rng.uniform(0, SIZE), rng.uniform(0, SIZE)), radius, rough, rng.uniform(1, stretch))
        inside = u < 1
        if inside.sum() < 12 or (inside & taken).sum() > crowd * inside.sum():
            continue
        u = np.where(taken, 9.0, u)
        taken |= inside
        result.append((u, radius))
    return result


def _labels(blobs: list[tuple[Array, float]]) -> Array:
    labels = np.zeros((SIZE, SIZE), np.uint16)
    for number, (u, _) in enumerate(blobs, 1):
        labels[u < 1] = number
    return labels


def fluorescence(rng: Rng) -> tuple[Array, Array]:
    """Bright cells on a dark ground, uneven, blurred, noisy; sometimes tinted."""
    blobs = _populate(rng, 5, 45, rng.choice([0.0, 0.15, 0.3]), rng.uniform(0, 0.22))
    image = rng.uniform(0, 0.15) + rng.uniform(0, 0.25) * smooth_noise(rng, SIZE, rng.uniform(1, 5))
    spread = rng.uniform(0.1, 0.9)
    grain = smooth_noise(rng, SIZE, rng.uniform(15, 90))
    for u, _ in blobs:
        level = 1 - spread * rng.random()
        profile = np.clip((1.06 - u) * rng.uniform(3, 14), 0, 1) * (1 - rng.uniform(0, 0.5) * np.clip(u, 0, 1) ** 2)
        image = np.maximum(image, level * profile * (1 - rng.uniform(0, 0.6) * grain) + image * (1 - profile))
    image = ndi.gaussian_filter(image, rng.uniform(0.4, 2.2))
    image = rng.poisson(image * (full := 10 ** rng.uniform(1.2, 3.5))) / full
    tint = np.ones(3) if rng.random() < 0.7 else rng.random(3) * 0.9 + 0.1
    return sensor(rng, image[..., None] * tint, 0.04), _labels(blobs)


def stained(rng: Rng) -> tuple[Array, Array]:
    """Dark purple to brown nuclei over pale, streaky tissue, with unlabelled pale patches."""
    blobs = _populate(rng, 6, 40, rng.choice([0.0, 0.15, 0.3]), rng.uniform(0, 0.25))
    light = np.array([0.93, 0.85, 0.92]) + rng.normal(0, 0.06, 3)
    tissue = np.array([0.85, 0.55, 0.75]) + rng.normal(0, 0.13, 3)
    nucleus = np.array([0.4, 0.25, 0.58]) + rng.normal(0, 0.12, 3)
    t = smooth_noise(rng, SIZE, rng.uniform(3, 20)) * 0.7 + smooth_noise(rng, SIZE, rng.uniform(30, 80)) * 0.3
    image = light + (tissue - light) * np.clip(t * rng.uniform(0.6, 1.8), 0, 1)[..., None]
    grain = smooth_noise(rng, SIZE, rng.uniform(25, 100))
    for u, _ in blobs:
        colour = nucleus + rng.normal(0, 0.07, 3) + (tissue - nucleus) * rng.uniform(0, 0.55)
        alpha = np.clip((1.08 - u) * rng.uniform(3, 12), 0, 1) * (1 - rng.uniform(0, 0.5) * grain)
        image = image + (colour - image) * alpha[..., None]
    if rng.random() < 0.2:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    return sensor(rng, np.clip(image, 0, 1), 0.06), _labels(blobs)


def bright_field(rng: Rng) -> tuple[Array, Array]:
    """Cells that differ from a grey ground by rim, halo or texture only, as in phase contrast."""
    blobs = _populate(rng, 6, 50, rng.choice([0.0, 0.1, 0.25]), rng.uniform(0, 0.2))
    image = rng.uniform(0.35, 0.75) + rng.uniform(0, 0.3) * (smooth_noise(rng, SIZE, rng.uniform(1, 4)) - 0.5)
    inner, rim, halo = rng.normal(0, 0.12), rng.choice([-1, 1]) * rng.uniform(0.08, 0.4), rng.normal(0, 0.12)
    width, relief = rng.uniform(1.2, 4), rng.uniform(0, 0.25)
    grain = smooth_noise(rng, SIZE, rng.uniform(15, 90)) - 0.5
    angle = rng.uniform(0, 6.28)
    for u, radius in blobs:
        distance = (np.minimum(u, 4) - 1) * radius
        inside = np.clip(0.5 - distance, 0, 1)
        gy, gx = np.gradient(ndi.gaussian_filter(inside, 1.2))
        image = image + inside * (inner + rng.normal(0, 0.04) + grain * rng.uniform(0, 0.4))
        image = image + rim * np.exp(-((distance / width) ** 2))
        image = image + halo * np.exp(-(((distance - 2 * width) / width) ** 2))
        image = image + relief * 3 * (np.cos(angle) * gx + np.sin(angle) * gy)
    tint = np.ones(3) if rng.random() < 0.7 else 1 - 0.3 * rng.random(3)
    return sensor(rng, np.clip(image, 0, 1)[..., None] * tint, 0.07), _labels(blobs)


def coins(rng: Rng) -> tuple[Array, Array]:
    """Embossed discs under slanting light on an uneven, textured ground, with rims and shadows."""
    blobs = _populate(rng, 12, 70, 0.0, rng.uniform(0, 0.03), 1.15)
    ramp = smooth_noise(rng, SIZE, rng.uniform(1, 2.5))
    ground = rng.uniform(0.05, 0.5) + rng.uniform(0.1, 0.6) * ramp
    ground = ground + rng.uniform(0, 0.12) * (smooth_noise(rng, SIZE, rng.uniform(20, 100)) - 0.5)
    shade, image = np.ones((SIZE, SIZE)), ground.copy()
    angle, depth = rng.uniform(0, 6.28), rng.uniform(0.5, 3)
    relief = sum(rng.uniform(0.3, 1) * smooth_noise(rng, SIZE, c) for c in (12, 30, 60))
    relief = np.where(rng.random() < 0.5, np.round(relief * 5) / 5, relief)
    tint = np.ones(3) if rng.random() < 0.6 else 1 - rng.uniform(0, 0.5, 3)
    for u, radius in blobs:
        inside = np.clip((1 - u) * radius + 0.5, 0, 1)
        shadow = ndi.shift(inside, (3 * np.sin(angle), 3 * np.cos(angle)), order=1)
        shade *= 1 - rng.uniform(0, 0.6) * ndi.gaussian_filter(shadow, rng.uniform(0.5, 3))
        ring = np.exp(-(((u - rng.uniform(0.82, 0.97)) * radius / rng.uniform(1, 2.5)) ** 2))
        gy, gx = np.gradient(ndi.gaussian_filter(relief + ring * rng.uniform(0, 1.5), 0.8))
        face = rng.uniform(0.3, 0.85) + depth * (np.cos(angle) * gx + np.sin(angle) * gy)
        face = face * (0.5 + rng.uniform(0.2, 0.8) * ramp) + 0.15 * (smooth_noise(rng, SIZE, 50) - 0.5)
        image = np.where(inside > 0, face * inside + image * (1 - inside), image)
    labels = _labels(blobs)
    image = np.where(labels > 0, image, image * shade)
    return sensor(rng, np.clip(image, 0, 1)[..., None] * tint, 0.06), labels
