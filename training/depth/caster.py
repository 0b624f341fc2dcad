# ruff: noqa: NPY002 - numba compiles only the old random functions
"""A small ray caster: boxes, ellipsoids, cylinders and cones, with shadows, one bounce of light and exact depth.

Camera rays have length 1 along the optical axis, so that the ray parameter is the depth.  The world has z upwards, in
metres.  Compiled by numba; nothing here depends on the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from training.depth.rays import FAR, look_up, surface, trace

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Packed:
    """A scene as arrays, n primitives and m lights.

    kind (n,) int64; centre (n, 3); axes (n, 3, 3), rows are the local axes; half (n, 3) half-sizes in metres;
    texture (n, 3) int64 (sides, top, bottom); period (n,) metres per texture repeat, 0 stretches it over a face;
    tint (n, 3) linear albedo factor; glow (n,) emission; gloss (n,) strength of the highlight;
    light_at (m, 3), light_colour (m, 3), light_radius (m,); sky (2, 3) horizon and zenith radiance.
    """

    kind: Array
    centre: Array
    axes: Array
    half: Array
    texture: Array
    period: Array
    tint: Array
    glow: Array
    gloss: Array
    light_at: Array
    light_colour: Array
    light_radius: Array
    sky: Array


@njit(cache=True, fastmath=True)
def _direct(s: Any, p: Array, n: Array, view: Array, gloss: float, out: Array, lo: Array, ld: Array, only: int) -> None:
    """Add to `out` the light that reaches `p` from every lamp, or only from one, with one jittered shadow ray each."""
    kind, centre, axes, half, light_at, light_colour, light_radius = s
    d, o = np.empty(3), np.empty(3)
    for m in range(light_at.shape[0]):
        if only >= 0 and m != only:
            continue
        r2 = 0.0
        for a in range(3):
            d[a] = light_at[m, a] + light_radius[m] * (np.random.random() * 2 - 1) - p[a]
            r2 += d[a] * d[a]
            o[a] = p[a] + n[a] * 2e-3
        r = math.sqrt(r2)
        cosine = (d[0] * n[0] + d[1] * n[1] + d[2] * n[2]) / r
        if cosine <= 0.0:
            continue
        if trace(kind, centre, axes, half, o, d, 0.98, lo, ld)[1] >= 0:
            continue
        half_way = 0.0
        if gloss > 0.0:
            h0, h1, h2 = d[0] / r - view[0], d[1] / r - view[1], d[2] / r - view[2]
            length = math.sqrt(h0 * h0 + h1 * h1 + h2 * h2) + 1e-9
            half_way = gloss * max(0.0, (h0 * n[0] + h1 * n[1] + h2 * n[2]) / length) ** 40
        for c in range(3):
            out[c] += light_colour[m, c] * (cosine + half_way) / (0.3 + r2)


@njit(cache=True, fastmath=True)
def _bounce(s: Any, tint: Array, sky: Array, p: Array, n: Array, out: Array, lo: Array, ld: Array) -> None:
    """Add one bounce of light arriving at `p` from a cosine-weighted random direction."""
    d, o = np.empty(3), np.empty(3)
    z, turn = np.random.random() * 2 - 1, np.random.random() * 2 * math.pi
    r = math.sqrt(max(0.0, 1 - z * z))
    d[0], d[1], d[2] = n[0] + r * math.cos(turn), n[1] + r * math.sin(turn), n[2] + z
    for a in range(3):
        o[a] = p[a] + n[a] * 2e-3
    length = math.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2) + 1e-9
    for a in range(3):
        d[a] /= length
    t, i, face = trace(s[0], s[1], s[2], s[3], o, d, FAR, lo, ld)
    if i < 0:
        up = max(0.0, d[2])
        for c in range(3):
            out[c] += sky[0, c] * (1 - up) + sky[1, c] * up
        return
    q, m, uv, light = np.empty(3), np.empty(3), np.empty(4), np.zeros(3)
    for a in range(3):
        q[a] = o[a] + t * d[a]
    surface(i, face, s[0][i], s[1], s[2], s[3], q, d, m, uv)
    lamps = s[4].shape[0]
    _direct(s, q, m, d, 0.0, light, lo, ld, np.random.randint(lamps))
    for c in range(3):
        out[c] += tint[i, c] * 0.5 * (lamps * light[c] + 0.3 * sky[1, c])


@njit(cache=True, fastmath=True, nogil=True)
def _cast(
    kind: Array,
    centre: Array,
    axes: Array,
    half: Array,
    texture: Array,
    period: Array,
    tint: Array,
    glow: Array,
    gloss: Array,
    light_at: Array,
    light_colour: Array,
    light_radius: Array,
    sky: Array,
    atlas: Array,
    eye: Array,
    frame: Array,
    focal: float,
    height: int,
    width: int,
    samples: int,
    seed: int,
) -> tuple[Array, Array, Array, Array]:
    np.random.seed(seed)
    albedo, light = np.zeros((height, width, 3)), np.zeros((height, width, 3))
    depth, who = np.full((height, width), FAR), np.full((height, width), -1)
    lo, ld, d, p, n, uv, colour = (
        np.empty(3),
        np.empty(3),
        np.empty(3),
        np.empty(3),
        np.empty(3),
        np.empty(4),
        np.empty(3),
    )
    s = (kind, centre, axes, half, light_at, light_colour, light_radius)
    for row in range(height):
        for col in range(width):
            for k in range(samples + 1):
                jx, jy = (0.5, 0.5) if k == 0 else (np.random.random(), np.random.random())
                x, y = (col + jx - width / 2) / focal, (row + jy - height / 2) / focal
                for a in range(3):
                    d[a] = frame[0, a] * x + frame[1, a] * y + frame[2, a]
                t, i, face = trace(kind, centre, axes, half, eye, d, FAR, lo, ld)
                if k == 0:  # the ray through the pixel's centre gives the depth and no colour
                    depth[row, col], who[row, col] = t, i
                    continue
                length = math.sqrt(1 + x * x + y * y)
                for a in range(3):
                    p[a] = eye[a] + t * d[a]
                    d[a] /= length
                if i < 0:
                    up = min(1.0, max(0.0, d[2]) * 2)
                    look_up(atlas, 0, d[0] * 0.7, d[1] * 0.7 + d[2], colour)
                    for c in range(3):
                        albedo[row, col, c] += (sky[0, c] * (1 - up) + sky[1, c] * up) * (0.7 + 0.5 * colour[c])
                        light[row, col, c] += 1.0
                    continue
                surface(i, face, kind[i], centre, axes, half, p, d, n, uv)
                which = texture[i, 0 if face < 4 else (2 if face == 4 else 1)]
                if period[i] > 0:
                    look_up(atlas, which, uv[0] / period[i], uv[1] / period[i], colour)
                else:
                    look_up(atlas, which, uv[2], uv[3], colour)
                for c in range(3):
                    albedo[row, col, c] += colour[c] * tint[i, c]
                    light[row, col, c] += glow[i] + 0.12 * sky[1, c]
                _direct(s, p, n, d, gloss[i], light[row, col], lo, ld, -1)
                _bounce(s, tint, sky, p, n, light[row, col], lo, ld)
    return albedo / samples, light / samples, depth, who


@njit(cache=True, fastmath=True)
def _smooth(light: Array, depth: Array, who: Array) -> Array:
    """Average the noisy light over 5 × 5 pixels of the same primitive at a like depth."""
    height, width = depth.shape
    out = np.empty_like(light)
    for r in range(height):
        for q in range(width):
            total, weight = np.zeros(3), 0.0
            for y in range(max(0, r - 2), min(height, r + 3)):
                for x in range(max(0, q - 2), min(width, q + 3)):
                    if who[y, x] == who[r, q] and abs(depth[y, x] - depth[r, q]) <= 0.05 * depth[r, q]:
                        total += light[y, x]
                        weight += 1.0
            out[r, q] = total / weight
    return out


def cast(
    scene: Packed,
    atlas: Array,
    eye: Array,
    frame: Array,
    focal: float,
    shape: tuple[int, int],
    samples: int = 4,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Render a scene.

    `atlas` (t, k, k, 3) linear textures (0 modulates the sky); `eye` (3,) metres; `frame` (3, 3) rows right, down,
    forward; `focal` in pixels; `shape` (rows, columns).  Returns linear radiance (H, W, 3) float32 and depth along the
    optical axis (H, W) float32 in metres, infinite for the sky.
    """
    values = [getattr(scene, name) for name in Packed.__dataclass_fields__]
    values += [atlas, eye, frame, focal, *shape, samples, seed]
    albedo, light, depth, who = _cast(*values)
    radiance = albedo * _smooth(light, depth, who)
    depth[depth >= FAR / 2] = np.inf
    return radiance.astype(np.float32), depth.astype(np.float32)
