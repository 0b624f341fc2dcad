"""Rendered scenes for training: solids of one or several parts on a floor before a wall, lit, shadowed and textured.

A plain ray caster in numpy: every primitive is a unit solid under an affine map, so a ray is carried into the
solid's own frame and met there in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.segmenter.paint import Array, Rng, sensor, texture

SIZE = 320
FAR = 1e6


@dataclass(frozen=True)
class Part:
    """A unit solid ``kind`` mapped to the world by ``x = linear @ local + origin``."""

    kind: str
    linear: Array
    origin: Array
    skin: int
    number: int


def _quadric(o: Array, d: Array, kind: str) -> tuple[Array, Array]:
    """Smallest positive ray parameter and local normal for ball, tube (capped cylinder) and cone."""
    if kind == "ball":
        m = np.ones(3)
        k, s = 1.0, 0.0
    elif kind == "tube":
        m = np.array([1.0, 1.0, 0.0])
        k, s = 1.0, 0.0
    else:  # x² + y² = ((1 - z) / 2)²
        m = np.array([1.0, 1.0, -0.25])
        k, s = 0.25, -0.5
    a = (d * d) @ m
    b = (o * d) @ m - s * d[:, 2] / 2
    c = (o * o) @ m - s * o[:, 2] - k
    a = np.where(np.abs(a) < 1e-9, 1e-9, a)
    root = b * b - a * c
    ok = root > 0
    root = np.sqrt(np.maximum(root, 0))
    best, normal = np.full(len(o), FAR), np.zeros_like(o)
    for sign in (-1, 1):
        t = (-b + sign * root) / a
        p = o + t[:, None] * d
        hit = ok & (t > 1e-3) & (t < best) & (np.abs(p[:, 2]) <= 1.0 if kind != "ball" else True)
        best = np.where(hit, t, best)
        n = p * m
        n[:, 2] -= s / 2
        normal = np.where(hit[:, None], n, normal)
    if kind != "ball":
        for z in (-1.0, 1.0) if kind == "tube" else (-1.0,):
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (z - o[:, 2]) / d[:, 2]
                p = o[:, :2] + t[:, None] * d[:, :2]
                hit = (t > 1e-3) & (t < best) & ((p * p).sum(1) <= 1)
            best = np.where(hit, t, best)
            normal = np.where(hit[:, None], [0, 0, z], normal)
    return best, normal


def _box(o: Array, d: Array) -> tuple[Array, Array]:
    d = np.where(np.abs(d) < 1e-9, 1e-9, d)
    t1, t2 = (-1 - o) / d, (1 - o) / d
    near, far = np.minimum(t1, t2), np.maximum(t1, t2)
    axis = near.argmax(1)
    t = near.max(1)
    hit = (t < far.min(1)) & (t > 1e-3)
    normal = np.zeros_like(o)
    normal[np.arange(len(o)), axis] = -np.sign(d[np.arange(len(o)), axis])
    return np.where(hit, t, FAR), normal


def _meet(part: Part, o: Array, d: Array) -> tuple[Array, Array, Array]:
    """Ray parameter, world normal (not normalised) and inverse linear map of a part."""
    inverse = np.linalg.inv(part.linear)
    t, normal = np.full(len(o), FAR), np.zeros_like(o)
    away = part.origin - o
    along = np.einsum("ij,ij->i", away, d)
    # only rays that come within the solid's bounding ball are carried on
    near = np.einsum("ij,ij->i", away, away) - along**2 <= (part.linear**2).sum()
    if near.any():
        lo, ld = (o[near] - part.origin) @ inverse.T, d[near] @ inverse.T
        t[near], n = _box(lo, ld) if part.kind == "box" else _quadric(lo, ld, part.kind)
        normal[near] = n @ inverse
    return t, normal, inverse


def _turn(rng: Rng, upright: bool) -> Array:
    if upright:
        a = rng.uniform(0, 6.28)
        return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q


def _thing(rng: Rng, at: Array, size: float, number: int, skins: int) -> list[Part]:
    """One object: a single solid, a stack, a table or a solid with limbs."""
    kinds = ("ball", "tube", "box", "cone")

    def skin() -> int:
        return int(rng.integers(skins))

    turn, own = _turn(rng, True), skin()
    form = rng.choice(["single", "stack", "table", "limbs"], p=[0.4, 0.25, 0.1, 0.25])
    half = size * rng.uniform(0.35, 1.0, 3)
    kind = str(rng.choice(kinds))
    if form == "single":
        if rng.random() < 0.3:
            turn = _turn(rng, False)
        lift = np.abs(turn @ np.diag(half)).sum(1)[2] if kind == "box" else np.linalg.norm((turn @ np.diag(half))[2])
        return [Part(kind, turn @ np.diag(half), at + np.array([0, 0, lift]), own, number)]
    parts: list[Part] = []
    if form == "stack":
        z = 0.0
        for _ in range(int(rng.integers(2, 5))):
            h = size * rng.uniform(0.15, 0.6)
            w = size * rng.uniform(0.25, 0.8)
            linear = turn @ np.diag([w, w * rng.uniform(0.8, 1.0), h])
            here = own if rng.random() < 0.6 else skin()
            middle = at + np.array([0, 0, z + h * 0.97])
            parts.append(Part(str(rng.choice(kinds)), linear, middle, here, number))
            z += 1.9 * h
    elif form == "table":
        h, top = size * rng.uniform(0.4, 1.0), size * 0.08
        plate = turn @ np.diag([half[0], half[1], top])
        parts.append(Part("box", plate, at + np.array([0, 0, 2 * h + top]), own, number))
        for sx in (-0.85, 0.85):
            for sy in (-0.85, 0.85):
                foot = turn @ np.array([sx * half[0], sy * half[1], h])
                leg = turn @ np.diag([size * 0.06, size * 0.06, h])
                parts.append(Part(str(rng.choice(["tube", "box"])), leg, at + foot, own, number))
    else:
        body = turn @ np.diag(half)
        parts.append(Part(kind, body, at + np.array([0, 0, half[2]]), own, number))
        for _ in range(int(rng.integers(1, 6))):
            limb = size * np.array([0.1, 0.1, 0.4]) * rng.uniform(0.5, 1.6, 3)
            offset = turn @ (half * rng.uniform(-0.9, 0.9, 3)) + [0, 0, half[2]]
            here = own if rng.random() < 0.5 else skin()
            parts.append(Part(str(rng.choice(kinds)), _turn(rng, False) @ np.diag(limb), at + offset, here, number))
    return parts


def _layout(rng: Rng, skins: int) -> list[Part]:
    parts: list[Part] = []
    for number in range(1, int(rng.integers(1, 9)) + 1):
        at = np.array([rng.uniform(-3, 3), rng.uniform(-2.5, 3.5), 0.0])
        size = float(np.exp(rng.uniform(np.log(0.3), np.log(2.0))))
        parts += _thing(rng, at, size, number, skins)
    return parts


def _rays(rng: Rng) -> tuple[Array, Array]:
    eye = np.array([rng.uniform(-4, 4), -rng.uniform(4, 11), rng.uniform(1.2, 7)])
    goal = np.array([rng.uniform(-1.5, 1.5), rng.uniform(-1, 2), rng.uniform(0.2, 1.5)])
    forward = (goal - eye) / np.linalg.norm(goal - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    span = np.tan(np.radians(rng.uniform(25, 65)) / 2)
    y, x = ((np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE * 2 - 1) * span
    d = forward + x.reshape(-1, 1) * right - y.reshape(-1, 1) * up
    return np.broadcast_to(eye, d.shape), d / np.linalg.norm(d, axis=1, keepdims=True)


def _lookup(skin: Array, u: Array, v: Array) -> Array:
    n = len(skin)
    return np.asarray(skin[(u * n).astype(int) % n, (v * n).astype(int) % n])


def _shadow(parts: list[Part], p: Array, light: Array) -> Array:
    o, d = p + 1e-3 * light, np.broadcast_to(light, p.shape)
    dark = np.zeros(len(p), bool)
    for part in parts:
        dark |= _meet(part, o, d)[0] < FAR
    return dark


def scene(rng: Rng) -> tuple[Array, Array]:
    """A picture uint8 (320, 320, 3) and the objects' labels; what is hidden behind another object is not labelled."""
    skins = [texture(rng, 128) for _ in range(int(rng.integers(3, 9)))]
    ground, wall = texture(rng, 256), texture(rng, 256)
    parts = _layout(rng, len(skins))
    o, d = _rays(rng)
    depth = np.full(len(d), FAR)
    normal, colour = np.zeros_like(d), np.zeros_like(d)
    labels = np.zeros(len(d), np.uint16)
    back, tile = rng.uniform(4, 9), rng.uniform(1, 8)
    for axis, at, surface in ((2, 0.0, ground), (1, back, wall)):
        with np.errstate(divide="ignore"):
            t = (at - o[:, axis]) / d[:, axis]
        hit = (t > 0) & (t < depth)
        p = o + np.where(hit, t, 0)[:, None] * d
        depth = np.where(hit, t, depth)
        colour = np.where(hit[:, None], _lookup(surface, p[:, 0] / tile + 50, p[:, 3 - axis] / tile + 50), colour)
        normal = np.where(hit[:, None], np.eye(3)[axis] * (1 if axis == 2 else -1), normal)
    colour = np.where((depth < FAR)[:, None], colour, rng.random(3))
    for part in parts:
        t, n, inverse = _meet(part, o, d)
        hit = t < depth
        if not hit.any():
            continue
        p = o[hit] + t[hit, None] * d[hit]
        local = (p - part.origin) @ inverse.T
        x, y, z = local.T
        u, v = (x, y) if part.kind == "box" else (np.arctan2(y, x) / 3.14, z)
        depth[hit], normal[hit], labels[hit] = t[hit], n[hit], part.number
        colour[hit] = _lookup(skins[part.skin], u / 2 + 0.5 * z * (part.kind == "box") + 7, v / 2 + 7)
    return _shade(rng, parts, o + np.minimum(depth, 100)[:, None] * d, d, normal, colour), labels.reshape(SIZE, SIZE)


def _shade(rng: Rng, parts: list[Part], p: Array, d: Array, normal: Array, colour: Array) -> Array:
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1.2, 0.2), rng.uniform(0.4, 1.5)])
    light /= np.linalg.norm(light)
    normal = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)
    normal = np.where(((normal * d).sum(1) > 0)[:, None], -normal, normal)
    ambient = rng.uniform(0.25, 0.7)
    diffuse = np.maximum(normal @ light, 0) * (1 - rng.uniform(0.4, 1.0) * _shadow(parts, p, light))
    half = light - d
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    gloss = rng.choice([0.0, 0.2, 0.6]) * np.maximum((normal * half).sum(1), 0) ** rng.uniform(8, 60) * (diffuse > 0)
    image = colour * (ambient + (1.2 - ambient) * diffuse)[:, None] + gloss[:, None]
    image = np.clip(image * rng.uniform(0.7, 1.4), 0, 1).reshape(SIZE, SIZE, 3)
    if rng.random() < 0.15:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    return sensor(rng, image, 0.04)
