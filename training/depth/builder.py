"""Things made of primitives: furniture, vessels, people, trees, cars, houses."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.depth.caster import Packed
from training.depth.rays import BOX, CONE, CYLINDER, ELLIPSOID

Array = np.ndarray[Any, Any]


def turn_z(angle: float) -> Array:
    """Rotation (3, 3) about the vertical by `angle` in radians; rows are the turned x, y, z axes."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def any_turn(rng: np.random.Generator) -> Array:
    """A uniformly random rotation (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


class Builder:
    """Collects primitives, then packs them.  Positions and sizes are (x, y, z) in metres, z upwards."""

    def __init__(self, rng: np.random.Generator, textures: dict[str, Array]) -> None:
        self.rng = rng
        self.textures = textures
        self.rows: list[tuple[Any, ...]] = []
        self.lights: list[tuple[Any, ...]] = []

    def texture(self, *kinds: str) -> int:
        """The index of a random texture of one of `kinds`."""
        return int(self.rng.choice(self.textures[kinds[int(self.rng.integers(len(kinds)))]]))

    def look(self, photo: float = 0.25) -> dict[str, Any]:
        """A random material: texture, period, tint and gloss; `photo` is the share of cut photographs."""
        rng = self.rng
        kind = "photo" if rng.random() < photo else "plain" if rng.random() < 0.6 else "pattern"
        tint = np.clip(rng.normal(0.85, 0.2, 1) * (1 + 0.15 * rng.standard_normal(3)), 0.1, 1.2)
        return {
            "texture": self.texture(kind),
            "period": float(np.exp(rng.uniform(-1.6, 1.2))),
            "tint": tint,
            "gloss": float(rng.uniform(0.2, 2.0)) if rng.random() < 0.3 else 0.0,
        }

    def add(
        self,
        kind: int,
        centre: Any,
        half: Any,
        axes: Array | None = None,
        texture: Any = 1,
        period: float = 1.0,
        tint: Any = (1, 1, 1),
        glow: float = 0.0,
        gloss: float = 0.0,
    ) -> None:
        """Add one primitive; `texture` is an index or (sides, top, bottom)."""
        faces = (texture,) * 3 if np.isscalar(texture) else tuple(texture)
        axes = np.eye(3) if axes is None else axes
        half = np.maximum(np.asarray(half, float), 2e-3)
        self.rows.append(
            (kind, np.asarray(centre, float), axes, half, faces, period, np.asarray(tint, float), glow, gloss)
        )

    def part(
        self, base: Any, turn: Array, kind: int, at: Any, half: Any, look: dict[str, Any], axes: Array | None = None
    ) -> None:
        """Add a primitive given in the frame (`base`, `turn`) of the thing that it belongs to."""
        inner = np.eye(3) if axes is None else axes
        self.add(kind, np.asarray(base, float) + np.asarray(at, float) @ turn, half, inner @ turn, **look)

    def lamp(self, at: Any, power: float, colour: Any, radius: float) -> None:
        """Add a lamp; `power` is its radiance at a metre."""
        self.lights.append((np.asarray(at, float), power * np.asarray(colour, float), radius))

    def clear_of(self, eye: Array, distance: float) -> bool:
        """Whether `eye` is outside of every primitive but the first by `distance` metres."""
        for _, centre, axes, half, *_rest in self.rows[1:]:
            if np.all(np.abs(axes @ (eye - centre)) < half + distance):
                return False
        return True

    def pack(self, sky: Any) -> Packed:
        """The collected scene as arrays; `sky` is (2, 3) radiance at the horizon and the zenith."""
        k, c, a, h, t, p, tint, glow, gloss = zip(*self.rows, strict=True)
        at, power, radius = zip(*self.lights, strict=True)
        return Packed(
            np.array(k, np.int64),
            np.array(c),
            np.ascontiguousarray(a),
            np.array(h),
            np.array(t, np.int64),
            np.array(p, float),
            np.array(tint),
            np.array(glow, float),
            np.array(gloss, float),
            np.array(at),
            np.array(power),
            np.array(radius, float),
            np.asarray(sky, float),
        )


def table(b: Builder, at: Any, turn: Array, size: tuple[float, float, float]) -> None:
    """A table or desk of `size` (width, depth, height) standing at `at`."""
    w, d, h = size
    top, legs, thick = b.look(), b.look(0.0), b.rng.uniform(0.01, 0.03)
    b.part(at, turn, BOX, (0, 0, h - thick), (w / 2, d / 2, thick), top)
    if b.rng.random() < 0.25:
        b.part(at, turn, CYLINDER, (0, 0, h / 2), (0.05, 0.05, h / 2), legs)
        return
    r = b.rng.uniform(0.015, 0.04)
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.part(at, turn, BOX, (sx * (w / 2 - r), sy * (d / 2 - r), h / 2 - thick), (r, r, h / 2 - thick), legs)


def chair(b: Builder, at: Any, turn: Array) -> None:
    """A chair with four legs, or a stool."""
    w, h = b.rng.uniform(0.38, 0.5), b.rng.uniform(0.4, 0.5)
    table(b, at, turn, (w, w, h))
    if b.rng.random() < 0.85:
        b.part(at, turn, BOX, (0, -w / 2, h + 0.22), (w / 2, 0.02, b.rng.uniform(0.12, 0.3)), b.look())


def sofa(b: Builder, at: Any, turn: Array) -> None:
    """A sofa or an armchair."""
    w, look = b.rng.uniform(0.7, 2.2), b.look()
    b.part(at, turn, BOX, (0, 0, 0.2), (w / 2, 0.42, 0.2), look)
    b.part(at, turn, BOX, (0, -0.36, 0.45), (w / 2, 0.1, 0.4), look)
    for s in (-1, 1):
        b.part(at, turn, BOX, (s * (w / 2 - 0.08), 0, 0.3), (0.09, 0.42, 0.3), look)
    for _ in range(int(b.rng.integers(0, 3))):
        b.part(at, turn, ELLIPSOID, (b.rng.uniform(-w / 2 + 0.2, w / 2 - 0.2), -0.15, 0.55), (0.22, 0.1, 0.2), b.look())


def bed(b: Builder, at: Any, turn: Array) -> None:
    """A bed with a head board and pillows."""
    w, length = b.rng.uniform(0.9, 1.9), 2.0
    b.part(at, turn, BOX, (0, 0, 0.25), (w / 2, length / 2, 0.25), b.look())
    b.part(at, turn, BOX, (0, 0.15, 0.5), (w / 2 + 0.01, length / 2 - 0.15, 0.05), b.look())
    b.part(at, turn, BOX, (0, -length / 2, 0.5), (w / 2, 0.04, 0.5), b.look())
    for s in (-1, 1):
        b.part(at, turn, ELLIPSOID, (s * w / 4, -0.75, 0.58), (w / 5, 0.2, 0.1), b.look(0.1))


def shelf(b: Builder, at: Any, turn: Array) -> None:
    """An open shelf with books and boxes."""
    rng = b.rng
    w, h, d, look = rng.uniform(0.6, 1.8), rng.uniform(0.7, 2.2), rng.uniform(0.22, 0.45), b.look(0.1)
    b.part(at, turn, BOX, (0, -d / 2, h / 2), (w / 2, 0.01, h / 2), look)
    for s in (-1, 1):
        b.part(at, turn, BOX, (s * w / 2, 0, h / 2), (0.015, d / 2, h / 2), look)
    levels = int(rng.integers(2, 6))
    for level in range(levels + 1):
        z = h * level / levels
        b.part(at, turn, BOX, (0, 0, z), (w / 2, d / 2, 0.012), look)
        x = -w / 2 + 0.05
        while level < levels and x < w / 2 - 0.1 and rng.random() < 0.85:
            t = rng.uniform(0.02, 0.15)
            hh = rng.uniform(0.3, 0.85) * h / levels / 2
            b.part(at, turn, BOX, (x + t, rng.uniform(-0.05, 0.05), z + hh), (t, d / 3, hh), b.look(0.4))
            x += 2 * t + rng.uniform(0, 0.05)


def cabinet(b: Builder, at: Any, turn: Array) -> None:
    """A closed cupboard, fridge, chest of drawers or monitor on a stand."""
    rng = b.rng
    w, d, h = rng.uniform(0.3, 1.2), rng.uniform(0.3, 0.7), rng.uniform(0.4, 2.1)
    b.part(at, turn, BOX, (0, 0, h / 2), (w / 2, d / 2, h / 2), b.look())
    for k in range(int(rng.integers(0, 4))):
        b.part(at, turn, BOX, (0, d / 2, h * (k + 0.5) / 4), (w / 2.2, 0.012, h / 9), b.look(0.1))


def plant(b: Builder, at: Any, turn: Array) -> None:
    """A pot with leaves."""
    rng, size = b.rng, b.rng.uniform(0.15, 1.2)
    b.part(at, turn, CYLINDER, (0, 0, size * 0.15), (size * 0.15, size * 0.15, size * 0.15), b.look(0.1))
    look = b.look(0.3) | {"tint": np.array([0.35, 0.8, 0.25]) * rng.uniform(0.4, 1.2)}
    for _ in range(int(rng.integers(6, 22))):
        way = rng.standard_normal(3) * (0.22, 0.22, 0.25) * size
        b.part(
            at, turn, ELLIPSOID, np.add(way, (0, 0, 0.75 * size)), size * rng.uniform(0.03, 0.2, 3), look, any_turn(rng)
        )


def person(b: Builder, at: Any, turn: Array, scale: float = 1.0) -> None:
    """A standing figure of ellipsoids."""
    rng, s = b.rng, scale * b.rng.uniform(0.85, 1.1)
    coat, trousers = b.look(0.3), b.look(0.1)
    skin = b.look(0.0) | {"tint": np.array([0.9, 0.65, 0.5]) * rng.uniform(0.3, 1.1), "texture": b.texture("plain")}
    b.part(at, turn, ELLIPSOID, (0, 0, 1.6 * s), (0.09 * s, 0.1 * s, 0.13 * s), skin)
    b.part(at, turn, ELLIPSOID, (0, -0.02 * s, 1.65 * s), (0.1 * s, 0.1 * s, 0.11 * s), b.look(0.2))
    b.part(at, turn, ELLIPSOID, (0, 0, 1.15 * s), (0.22 * s, 0.14 * s, 0.35 * s), coat)
    for side in (-1, 1):
        b.part(at, turn, ELLIPSOID, (side * 0.27 * s, 0.03, 1.12 * s), (0.07 * s, 0.08 * s, 0.33 * s), coat)
        b.part(at, turn, ELLIPSOID, (side * 0.1 * s, 0, 0.45 * s), (0.1 * s, 0.11 * s, 0.48 * s), trousers)


def vessel(b: Builder, at: Any, turn: Array, size: float) -> None:
    """Something that stands on a table: bottle, cup, bowl, fruit, box, book, tin or lamp, about `size` metres high."""
    rng, look = b.rng, b.look(0.35)
    w = size * rng.uniform(0.2, 0.6)
    kind = rng.integers(0, 7)
    if kind == 0:  # bottle
        b.part(at, turn, CYLINDER, (0, 0, size * 0.35), (w / 2, w / 2, size * 0.35), look)
        b.part(at, turn, ELLIPSOID, (0, 0, size * 0.7), (w / 2, w / 2, w / 2), look)
        b.part(at, turn, CYLINDER, (0, 0, size * 0.85), (w / 6, w / 6, size * 0.15), look)
    elif kind == 1:  # cup with a handle
        b.part(at, turn, CYLINDER, (0, 0, size * 0.3), (w * 0.7, w * 0.7, size * 0.3), look)
        b.part(at, turn, BOX, (w * 0.85, 0, size * 0.3), (w * 0.2, w * 0.08, size * 0.15), look)
    elif kind == 2:  # fruit, ball
        b.part(at, turn, ELLIPSOID, (0, 0, w / 2), np.array([w, w, w]) * rng.uniform(0.4, 0.55, 3), look)
    elif kind == 3:  # box
        b.part(
            at,
            turn,
            BOX,
            (0, 0, size / 2),
            (w / 2 + 0.01, size * rng.uniform(0.1, 0.5), size / 2),
            look | {"period": 0.0},
        )
    elif kind == 4:  # a pile of books
        for k in range(int(rng.integers(1, 5))):
            t = size * 0.05
            b.part(
                at,
                turn,
                BOX,
                (0, 0, (2 * k + 1) * t),
                (size * 0.3, size * 0.4, t),
                b.look(0.5),
                turn_z(rng.normal(0, 0.2)),
            )
    elif kind == 5:  # lamp
        b.part(at, turn, CYLINDER, (0, 0, size * 0.4), (w / 10, w / 10, size * 0.4), look)
        b.part(
            at, turn, CONE, (0, 0, size * 0.9), (w, w, size * 0.25), b.look(0.1) | {"glow": float(rng.uniform(0, 2))}
        )
    else:  # screen
        b.part(at, turn, BOX, (0, 0, size * 0.6), (size * 0.6, 0.015, size * 0.35), look | {"period": 0.0})
        b.part(at, turn, BOX, (0, 0, size * 0.12), (0.02, 0.02, size * 0.12), b.look(0.0))


def tree(b: Builder, at: Any, turn: Array) -> None:
    """A tree: a trunk and a crown of ellipsoids, or a fir."""
    rng, h = b.rng, b.rng.uniform(2, 9)
    leaves = b.look(0.5) | {"tint": np.array([0.45, 0.75, 0.3]) * rng.uniform(0.4, 1.3), "period": h / 3}
    b.part(at, turn, CYLINDER, (0, 0, h * 0.25), (h * 0.03, h * 0.03, h * 0.25), b.look(0.3))
    if rng.random() < 0.3:
        b.part(at, turn, CONE, (0, 0, h * 0.6), (h * 0.22, h * 0.22, h * 0.45), leaves)
        return
    for _ in range(int(rng.integers(2, 9))):
        b.part(
            at,
            turn,
            ELLIPSOID,
            rng.standard_normal(3) * (0.13 * h, 0.13 * h, 0.1 * h) + (0, 0, 0.68 * h),
            h * rng.uniform(0.08, 0.26, 3),
            leaves,
            any_turn(rng),
        )


def car(b: Builder, at: Any, turn: Array) -> None:
    """A car or a van."""
    rng, paint = b.rng, b.look(0.1) | {"gloss": 2.0}
    h = rng.uniform(0.45, 0.9)
    b.part(at, turn, BOX, (0, 0, 0.6), (2.1, 0.85, 0.35), paint)
    b.part(at, turn, BOX, (-0.3, 0, 0.6 + h), (1.2, 0.75, h * 0.6), b.look(0.1))
    b.part(at, turn, BOX, (-0.3, 0, 0.62 + h * 1.6), (1.15, 0.72, 0.03), paint)
    dark = {"texture": b.texture("plain"), "tint": np.full(3, 0.1)}
    wheel = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    for x in (-1.3, 1.3):
        for y in (-0.8, 0.8):
            b.part(at, turn, CYLINDER, (x, y, 0.33), (0.33, 0.33, 0.1), dark, wheel)


def house(b: Builder, at: Any, turn: Array, size: tuple[float, float, float]) -> None:
    """A house of `size` half-width, half-depth and height, with doors and a flat or sloped top."""
    w, d, h = size
    look = b.look(0.2) | {"texture": b.texture("pattern", "pattern", "photo"), "period": float(b.rng.uniform(1.0, 6.0))}
    b.part(at, turn, BOX, (0, 0, h / 2), (w, d, h / 2), look)
    if b.rng.random() < 0.4:
        slope = np.array([[1.0, 0, 0], [0, 0.707, 0.707], [0, -0.707, 0.707]])
        b.part(at, turn, BOX, (0, 0, h), (w * 1.05, d * 0.74, d * 0.74), b.look(0.3), slope)
    for x in b.rng.uniform(-w * 0.8, w * 0.8, int(b.rng.integers(0, 4))):
        b.part(at, turn, BOX, (x, 0, 1.0), (0.5, d + 0.05, 1.0), b.look(0.2))
