"""A z-buffer for textured triangles, with cut-outs, and the light on what it shows.  Compiled by numba.

Triangles are drawn in homogeneous coordinates (Olano and Greer, 1997), so that those which cross the camera's plane
need no clipping.  Camera space: x right, y down, z forward, in metres; depth is z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
FAR = 1e4
ATLAS, MODEL, CUTOUT = 0, 1, 2
"""Where a material's texture lies."""


@dataclass(frozen=True, eq=False)
class Surfaces:
    """A scene's triangles and what they are made of.

    triangles (T, 3, 3) float32 in the world, z upwards, metres; uv (T, 3, 2) float32; material (T,) int32; casts (T,)
    bool, whether it throws a shadow.  Of each material: source (m,) int32 (`ATLAS`, `MODEL`, `CUTOUT`), texture (m,)
    int32 there, tint (m, 3) and gloss (m,) float32.  atlas (a, k, k, 3) float32 linear; models (b, n, n, 3) uint8;
    cutouts (c, s, s, 4) uint8, whose last channel is opacity.
    """

    triangles: Array
    uv: Array
    material: Array
    casts: Array
    source: Array
    texture: Array
    tint: Array
    gloss: Array
    atlas: Array
    models: Array
    cutouts: Array


@dataclass(frozen=True, eq=False)
class Light:
    """sun (3,) towards it, and its colour (3,); lamps (n, 3) in metres, their colours (n, 3); ambient colour (3,)."""

    sun: Array
    sun_colour: Array
    lamps: Array
    lamp_colours: Array
    ambient: Array


@njit(cache=True, fastmath=True, nogil=True)
def _transparent(cutouts: Array, index: int, u: float, v: float) -> bool:
    side = cutouts.shape[1]
    col = min(side - 1, max(0, int(u * side)))
    row = min(side - 1, max(0, int((1.0 - v) * side)))
    return bool(cutouts[index, row, col, 3] < 128)


@njit(cache=True, fastmath=True, nogil=True)
def _draw(
    corners: Array,
    uv: Array,
    cutout: Array,
    cutouts: Array,
    focal: float,
    near: float,
    depth: Array,
    who: Array,
    inside: Array,
) -> None:
    """Draw camera-space triangles (T, 3, 3) into depth (H, W), who (H, W) and the corners' weights inside (H, W, 2)."""
    height, width = depth.shape
    for t in range(corners.shape[0]):
        a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
        if a[2] < near and b[2] < near and c[2] < near:
            continue
        # rows of the inverse of the matrix whose columns are the corners: weight / z along a pixel's ray
        n0 = (b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0])
        n1 = (c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0])
        n2 = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
        volume = a[0] * n0[0] + a[1] * n0[1] + a[2] * n0[2]
        if abs(volume) < 1e-14:
            continue
        left, right, top, bottom = 1e9, -1e9, 1e9, -1e9
        for k in range(3):
            p, q = corners[t, k], corners[t, (k + 1) % 3]
            if p[2] >= near:
                x, y = p[0] / p[2], p[1] / p[2]
                left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
            if (p[2] >= near) != (q[2] >= near):
                s = (near - p[2]) / (q[2] - p[2])
                x, y = (p[0] + s * (q[0] - p[0])) / near, (p[1] + s * (q[1] - p[1])) / near
                left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
        col0 = max(0.0, math.floor(left * focal + width / 2 - 0.5))
        col1 = min(width - 1.0, math.ceil(right * focal + width / 2 - 0.5))
        row0 = max(0.0, math.floor(top * focal + height / 2 - 0.5))
        row1 = min(height - 1.0, math.ceil(bottom * focal + height / 2 - 0.5))
        for row in range(int(row0), int(row1) + 1):
            y = (row + 0.5 - height / 2) / focal
            for col in range(int(col0), int(col1) + 1):
                x = (col + 0.5 - width / 2) / focal
                w0 = (n0[0] * x + n0[1] * y + n0[2]) / volume
                w1 = (n1[0] * x + n1[1] * y + n1[2]) / volume
                w2 = (n2[0] * x + n2[1] * y + n2[2]) / volume
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
                    continue
                inverse = w0 + w1 + w2
                if inverse * near > 1.0 or inverse * depth[row, col] <= 1.0:
                    continue
                z = 1.0 / inverse
                s1, s2 = w1 * z, w2 * z
                if cutout[t] >= 0:
                    s0 = 1.0 - s1 - s2
                    u = s0 * uv[t, 0, 0] + s1 * uv[t, 1, 0] + s2 * uv[t, 2, 0]
                    v = s0 * uv[t, 0, 1] + s1 * uv[t, 1, 1] + s2 * uv[t, 2, 1]
                    if _transparent(cutouts, cutout[t], u, v):
                        continue
                depth[row, col] = z
                who[row, col] = t
                inside[row, col, 0], inside[row, col, 1] = s1, s2


@njit(cache=True, fastmath=True, nogil=True)
def _draw_from_sun(corners: Array, uv: Array, cutout: Array, cutouts: Array, depth: Array) -> None:
    """Draw triangles (T, 3, 3) of map column, map row, distance into the shadow map depth (S, S)."""
    height, width = depth.shape
    for t in range(corners.shape[0]):
        x0, y0, z0 = corners[t, 0]
        x1, y1, z1 = corners[t, 1]
        x2, y2, z2 = corners[t, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        for row in range(max(0, int(min(y0, y1, y2))), min(height - 1, int(max(y0, y1, y2)) + 1) + 1):
            for col in range(max(0, int(min(x0, x1, x2))), min(width - 1, int(max(x0, x1, x2)) + 1) + 1):
                x, y = col + 0.5, row + 0.5
                s1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
                s2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
                s0 = 1.0 - s1 - s2
                if s0 < 0.0 or s1 < 0.0 or s2 < 0.0:
                    continue
                z = s0 * z0 + s1 * z1 + s2 * z2
                if z >= depth[row, col]:
                    continue
                if cutout[t] >= 0:
                    u = s0 * uv[t, 0, 0] + s1 * uv[t, 1, 0] + s2 * uv[t, 2, 0]
                    v = s0 * uv[t, 0, 1] + s1 * uv[t, 1, 1] + s2 * uv[t, 2, 1]
                    if _transparent(cutouts, cutout[t], u, v):
                        continue
                depth[row, col] = z


@njit(cache=True, fastmath=True, nogil=True)
def _texel(texture: Array, u: float, v: float, linear: Array, out: Array) -> None:
    """Bilinear look-up with wrap-around; `linear` (256,) turns bytes into linear light, or is empty."""
    side = texture.shape[0]
    x, y = (u - math.floor(u)) * side - 0.5, (1.0 - (v - math.floor(v))) * side - 0.5
    col, row = math.floor(x), math.floor(y)
    ax, ay = x - col, y - row
    c0, c1 = int(col) % side, (int(col) + 1) % side
    r0, r1 = int(row) % side, (int(row) + 1) % side
    for k in range(3):
        if linear.size:
            p, q = linear[int(texture[r0, c0, k])], linear[int(texture[r0, c1, k])]
            r, s = linear[int(texture[r1, c0, k])], linear[int(texture[r1, c1, k])]
        else:
            p, q, r, s = texture[r0, c0, k], texture[r0, c1, k], texture[r1, c0, k], texture[r1, c1, k]
        out[k] = (1 - ay) * ((1 - ax) * p + ax * q) + ay * ((1 - ax) * r + ax * s)


@njit(cache=True, fastmath=True, nogil=True)
def _shade(
    who: Array,
    inside: Array,
    triangles: Array,
    uv: Array,
    material: Array,
    source: Array,
    texture: Array,
    tint: Array,
    gloss: Array,
    atlas: Array,
    models: Array,
    cutouts: Array,
    eye: Array,
    sun: Array,
    sun_colour: Array,
    lamps: Array,
    lamp_colours: Array,
    ambient: Array,
    open_: Array,
    to_map: Array,
    offset: Array,
    shadows: Array,
    taps: Array,
    linear: Array,
    out: Array,
) -> None:
    """Write the linear radiance of every drawn pixel into out (H, W, 3); open_ (H, W) is how open a corner is, 0..1."""
    height, width = who.shape
    none = np.empty(0, np.float32)
    colour, point, normal, view, light = np.empty(3), np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for row in range(height):
        for col in range(width):
            t = who[row, col]
            if t < 0:
                continue
            s1, s2 = inside[row, col, 0], inside[row, col, 1]
            s0 = 1.0 - s1 - s2
            for k in range(3):
                point[k] = s0 * triangles[t, 0, k] + s1 * triangles[t, 1, k] + s2 * triangles[t, 2, k]
                view[k] = eye[k] - point[k]
            u = s0 * uv[t, 0, 0] + s1 * uv[t, 1, 0] + s2 * uv[t, 2, 0]
            v = s0 * uv[t, 0, 1] + s1 * uv[t, 1, 1] + s2 * uv[t, 2, 1]
            m = material[t]
            if source[m] == 0:
                _texel(atlas[texture[m]], u, v, none, colour)
            elif source[m] == 1:
                _texel(models[texture[m]], u, v, linear, colour)
            else:
                _texel(cutouts[texture[m]], min(max(u, 1e-3), 0.999), min(max(v, 1e-3), 0.999), linear, colour)
            e0, e1 = triangles[t, 1] - triangles[t, 0], triangles[t, 2] - triangles[t, 0]
            normal[0] = e0[1] * e1[2] - e0[2] * e1[1]
            normal[1] = e0[2] * e1[0] - e0[0] * e1[2]
            normal[2] = e0[0] * e1[1] - e0[1] * e1[0]
            length = math.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + 1e-12
            away = math.sqrt(view[0] ** 2 + view[1] ** 2 + view[2] ** 2) + 1e-12
            if normal[0] * view[0] + normal[1] * view[1] + normal[2] * view[2] < 0:
                length = -length
            for k in range(3):
                normal[k] /= length
                view[k] /= away
            lit = 0.0
            x = to_map[0, 0] * point[0] + to_map[0, 1] * point[1] + to_map[0, 2] * point[2] + offset[0]
            y = to_map[1, 0] * point[0] + to_map[1, 1] * point[1] + to_map[1, 2] * point[2] + offset[1]
            z = to_map[2, 0] * point[0] + to_map[2, 1] * point[1] + to_map[2, 2] * point[2]
            for tap in range(taps.shape[0]):
                c, r = int(x + taps[tap, 0]), int(y + taps[tap, 1])
                outside = c < 0 or r < 0 or c >= shadows.shape[1] or r >= shadows.shape[0]
                if outside or z < shadows[r, c] + 0.04:
                    lit += 1.0 / taps.shape[0]
            facing = max(0.0, normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2])
            shine = 0.0
            if gloss[m] > 0 and facing > 0:
                h0, h1, h2 = sun[0] + view[0], sun[1] + view[1], sun[2] + view[2]
                half = math.sqrt(h0 * h0 + h1 * h1 + h2 * h2) + 1e-9
                shine = gloss[m] * max(0.0, (h0 * normal[0] + h1 * normal[1] + h2 * normal[2]) / half) ** 40
            for k in range(3):
                light[k] = lit * facing * sun_colour[k] + ambient[k] * open_[row, col] * (0.75 + 0.25 * normal[2])
            for n in range(lamps.shape[0]):
                d0, d1, d2 = lamps[n, 0] - point[0], lamps[n, 1] - point[1], lamps[n, 2] - point[2]
                square = d0 * d0 + d1 * d1 + d2 * d2
                towards = max(0.0, d0 * normal[0] + d1 * normal[1] + d2 * normal[2]) / math.sqrt(square + 1e-9)
                for k in range(3):
                    light[k] += lamp_colours[n, k] * towards / (0.15 + square)
            for k in range(3):
                out[row, col, k] = colour[k] * tint[m, k] * light[k] + lit * shine * sun_colour[k]


LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
SHADOW_MAP = 768


def _openness(depth: Array) -> Array:
    """How open each place is, 0..1 (H, W): screen-space ambient occlusion, computed at a quarter of the size."""
    small = depth[2::4, 2::4]
    small = np.minimum(small, 60.0)
    hidden = np.zeros_like(small)
    for reach in (1, 2, 4, 8):
        for down, right in ((0, reach), (reach, 0), (reach, reach), (reach, -reach)):
            pair = 0.5 * (np.roll(small, (down, right), (0, 1)) + np.roll(small, (-down, -right), (0, 1)))
            behind = small - pair
            hidden += np.clip(behind / (0.06 * small), 0, 1) * (behind < 0.3 * small) / 16
    open_ = np.repeat(np.repeat(1 - np.clip(1.6 * hidden, 0, 0.75), 4, 0), 4, 1)
    return np.ascontiguousarray(open_[: depth.shape[0], : depth.shape[1]], np.float32)


def _sun_frame(sun: Array) -> Array:
    """Rows: two directions across the light, and the one along it, away from the sun."""
    across = np.cross(sun, (0.0, 1.0, 0.0))
    across /= np.linalg.norm(across) + 1e-12
    return np.stack([across, np.cross(sun, across), -sun])


def render(
    s: Surfaces, light: Light, eye: Array, frame: Array, focal: float, shape: tuple[int, int], near: float = 0.08
) -> tuple[Array, Array]:
    """Render a scene: linear radiance (H, W, 3) float32, 0 where nothing is, and depth (H, W) float32, `FAR` there.

    `eye` (3,) in metres; `frame` (3, 3) rows right, down, forward; `focal` in pixels; `shape` (rows, columns).
    """
    camera = (s.triangles.astype(np.float64) - eye) @ frame.T
    cutout = np.where(s.source[s.material] == CUTOUT, s.texture[s.material], -1).astype(np.int32)
    depth = np.full(shape, FAR)
    who = np.full(shape, -1, np.int32)
    inside = np.zeros((*shape, 2))
    _draw(camera, s.uv, cutout, s.cutouts, focal, near, depth, who, inside)
    sun_frame = _sun_frame(light.sun)
    casting = s.triangles[s.casts].astype(np.float64) @ sun_frame.T
    shadows = np.full((SHADOW_MAP, SHADOW_MAP), FAR)
    scale, offset = 1.0, np.zeros(2)
    if len(casting):
        low, high = casting[..., :2].min((0, 1)), casting[..., :2].max((0, 1))
        scale = (SHADOW_MAP - 2) / max(float((high - low).max()), 1e-6)
        offset = -low * scale
        casting[..., :2] = casting[..., :2] * scale + offset
        _draw_from_sun(casting, s.uv[s.casts], cutout[s.casts], s.cutouts, shadows)
    to_map = sun_frame * np.array([scale, scale, 1.0])[:, None]
    taps = np.array([(-1.2, -0.6), (0.6, -1.2), (1.2, 0.6), (-0.6, 1.2)])
    out = np.zeros((*shape, 3), np.float32)
    materials = (s.source, s.texture, s.tint, s.gloss, s.atlas, s.models, s.cutouts)
    lights = (light.sun, light.sun_colour, light.lamps, light.lamp_colours, light.ambient, _openness(depth))
    _shade(
        who, inside, s.triangles, s.uv, s.material, *materials, eye, *lights, to_map, offset, shadows, taps, LINEAR, out
    )
    return out, depth.astype(np.float32)
