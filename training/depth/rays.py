"""Where a ray meets a primitive, and what the surface is like there.

Every primitive is a unit shape under a rotation and three half-sizes, so a ray is moved into its frame without
normalising the direction: the ray parameter stays that of the world.  Compiled by numba.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

BOX, ELLIPSOID, CYLINDER, CONE = 0, 1, 2, 3
FAR = 1e9
Array = np.ndarray[Any, Any]


@njit(cache=True, fastmath=True)
def _hit_slab(o: Array, d: Array) -> tuple[float, int]:
    near, far, face_near, face_far = -FAR, FAR, 0, 0
    for a in range(3):
        if abs(d[a]) < 1e-12:
            if abs(o[a]) > 1.0:
                return FAR, 0
            continue
        t0, t1 = (-1.0 - o[a]) / d[a], (1.0 - o[a]) / d[a]
        f0, f1 = 2 * a, 2 * a + 1
        if t0 > t1:
            t0, t1, f0, f1 = t1, t0, f1, f0
        if t0 > near:
            near, face_near = t0, f0
        if t1 < far:
            far, face_far = t1, f1
    if near > far or far < 1e-4:
        return FAR, 0
    if near > 1e-4:
        return near, face_near
    return far, face_far  # the ray starts inside: a room is a box seen from within


@njit(cache=True, fastmath=True)
def _hit_quadric(kind: int, o: Array, d: Array) -> tuple[float, int]:
    """Sphere, capped cylinder or capped cone with its tip at z = 1; faces: 0 mantle, 4 bottom, 5 top."""
    best, face = FAR, 0
    if kind == ELLIPSOID:
        a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
        c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
    elif kind == CYLINDER:
        a = d[0] * d[0] + d[1] * d[1]
        b = o[0] * d[0] + o[1] * d[1]
        c = o[0] * o[0] + o[1] * o[1] - 1.0
    else:
        r0, r1 = 0.5 * (1.0 - o[2]), -0.5 * d[2]
        a = d[0] * d[0] + d[1] * d[1] - r1 * r1
        b = o[0] * d[0] + o[1] * d[1] - r0 * r1
        c = o[0] * o[0] + o[1] * o[1] - r0 * r0
    disc = b * b - a * c
    if disc > 0.0 and abs(a) > 1e-12:
        root = math.sqrt(disc)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            if 1e-4 < t < best and (kind == ELLIPSOID or abs(o[2] + t * d[2]) <= 1.0):
                best = t
    if kind != ELLIPSOID and abs(d[2]) > 1e-12:
        for cap in (-1.0, 1.0):
            if kind == CONE and cap > 0.0:
                continue
            t = (cap - o[2]) / d[2]
            x, y = o[0] + t * d[0], o[1] + t * d[1]
            if 1e-4 < t < best and x * x + y * y <= 1.0:
                best, face = t, (4 if cap < 0 else 5)
    return best, face


@njit(cache=True, fastmath=True)
def trace(
    s_kind: Array, centre: Array, axes: Array, half: Array, o: Array, d: Array, stop: float, lo: Array, ld: Array
) -> tuple[float, int, int]:
    """Nearest hit before `stop`: (t, primitive or -1, face).  `lo`, `ld` (3,) are scratch."""
    best, who, face = stop, -1, 0
    dd = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    for i in range(s_kind.shape[0]):
        x, y, z = o[0] - centre[i, 0], o[1] - centre[i, 1], o[2] - centre[i, 2]
        b = x * d[0] + y * d[1] + z * d[2]
        r2 = half[i, 0] ** 2 + half[i, 1] ** 2 + half[i, 2] ** 2
        c = x * x + y * y + z * z - r2
        if c > 0.0 and (b > 0.0 or b * b < c * dd):
            continue
        for a in range(3):
            lo[a] = (axes[i, a, 0] * x + axes[i, a, 1] * y + axes[i, a, 2] * z) / half[i, a]
            ld[a] = (axes[i, a, 0] * d[0] + axes[i, a, 1] * d[1] + axes[i, a, 2] * d[2]) / half[i, a]
        if s_kind[i] == BOX:
            t, f = _hit_slab(lo, ld)
        else:
            t, f = _hit_quadric(s_kind[i], lo, ld)
        if t < best:
            best, who, face = t, i, f
    return best, who, face


@njit(cache=True, fastmath=True)
def surface(
    i: int, face: int, kind: int, centre: Array, axes: Array, half: Array, p: Array, d: Array, n: Array, uv: Array
) -> None:
    """Fill the unit normal `n` (towards the viewer) and `uv` (metres, or 0..1 in uv[2:4]) at the hit point `p`."""
    q = np.empty(3)
    for a in range(3):
        q[a] = (
            axes[i, a, 0] * (p[0] - centre[i, 0])
            + axes[i, a, 1] * (p[1] - centre[i, 1])
            + axes[i, a, 2] * (p[2] - centre[i, 2])
        )
    g = np.zeros(3)
    if kind == BOX or face >= 4:
        a = face // 2
        g[a] = 1.0 if face % 2 == 1 else -1.0
        u, v = (1 if a == 0 else 0), (1 if a == 2 else 2)
        uv[0], uv[1] = q[u], q[v]
        uv[2], uv[3] = 0.5 + 0.5 * q[u] / half[i, u], 0.5 + 0.5 * q[v] / half[i, v]
    else:
        for a in range(3):
            g[a] = q[a] / (half[i, a] * half[i, a])
        if kind == CYLINDER:
            g[2] = 0.0
        elif kind == CONE:
            g[2] = 0.25 * (1.0 - q[2] / half[i, 2]) / half[i, 2]
        turn = math.atan2(q[1] / half[i, 1], q[0] / half[i, 0]) / (2 * math.pi) + 0.5
        uv[0], uv[1] = turn * 2 * math.pi * half[i, 0], q[2]
        uv[2], uv[3] = turn, 0.5 + 0.5 * q[2] / half[i, 2]
    for b in range(3):
        n[b] = axes[i, 0, b] * g[0] + axes[i, 1, b] * g[1] + axes[i, 2, b] * g[2]
    length = math.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-12
    if n[0] * d[0] + n[1] * d[1] + n[2] * d[2] > 0:
        length = -length
    for b in range(3):
        n[b] /= length


@njit(cache=True, fastmath=True)
def look_up(atlas: Array, t: int, u: float, v: float, out: Array) -> None:
    """Fill `out` (3,) with texture `t` of `atlas` at (u, v), repeated with period 1, bilinearly."""
    size = atlas.shape[1]
    x, y = (u - math.floor(u)) * size, (1.0 - (v - math.floor(v))) * size
    x0, y0 = int(x), int(y)
    fx, fy = x - x0, y - y0
    for c in range(3):
        top = atlas[t, y0 % size, x0 % size, c] * (1 - fx) + atlas[t, y0 % size, (x0 + 1) % size, c] * fx
        low = atlas[t, (y0 + 1) % size, x0 % size, c] * (1 - fx) + atlas[t, (y0 + 1) % size, (x0 + 1) % size, c] * fx
        out[c] = top * (1 - fy) + low * fy
