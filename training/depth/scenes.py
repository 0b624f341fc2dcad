"""Random scenes with exact depth: rooms, streets, table-tops and clutter without a floor, seen from many angles."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.depth import builder as things
from training.depth.builder import Builder, any_turn, turn_z
from training.depth.caster import cast
from training.depth.rays import BOX, CONE, CYLINDER, ELLIPSOID

Array = np.ndarray[Any, Any]
KINDS = ("room", "street", "table", "clutter")
SHARES = (0.56, 0.17, 0.17, 0.10)
SHAPES = ((240, 320), (240, 320), (256, 256), (320, 240), (216, 352))


def look_along(yaw: float, pitch: float, roll: float) -> Array:
    """Camera frame (3, 3), rows right, down, forward, for angles in radians; positive `pitch` looks up."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * down, -s * right + c * down, forward])


def warm(rng: np.random.Generator) -> Array:
    """A random colour (3,) of light, mostly warm."""
    return np.clip(np.array([1.0, 0.9, 0.78]) + rng.normal(0, 0.12, 3), 0.4, 1.3)


def _on_top(b: Builder, at: Array, turn: Array, width: float, depth: float, count: int, size: float) -> None:
    for _ in range(count):
        x, y = b.rng.uniform(-0.46, 0.46) * width, b.rng.uniform(-0.46, 0.46) * depth
        place = at + np.array([x, y, 0.0]) @ turn
        things.vessel(b, place, turn_z(b.rng.uniform(0, 6.3)), size * float(np.exp(b.rng.normal(0, 0.4))))


def _walls(b: Builder, w: float, d: float, h: float) -> None:
    """The room's shell, as a box seen from inside, and what hangs on its walls."""
    rng = b.rng
    shell = b.look(0.08) | {"period": float(rng.uniform(0.3, 3.0)), "gloss": 0.0}
    if rng.random() < 0.7:
        shell["tint"] = np.clip(shell["tint"] + 0.2, 0, 1)
    shell["texture"] = (
        b.texture("plain", "plain", "pattern") if rng.random() < 0.85 else shell["texture"],
        b.texture("plain"),
        b.texture("pattern", "photo", "plain"),
    )
    b.add(BOX, (0, 0, h / 2), (w / 2, d / 2, h / 2), **shell)
    for _ in range(int(rng.integers(1, 8))):
        side, along = int(rng.integers(4)), rng.uniform(-0.42, 0.42)
        turn = turn_z(side * np.pi / 2)
        reach, span = (d, w) if side % 2 == 0 else (w, d)
        hw, hh = rng.uniform(0.15, 0.7), rng.uniform(0.2, 0.6)
        z = rng.uniform(1.0, 1.9)
        flat: dict[str, Any] = b.look(0.6) | {"period": 0.0}
        kind = rng.random()
        if kind < 0.25:  # a window
            flat |= {"glow": float(rng.uniform(0.5, 3)), "texture": b.texture("plain")}
        elif kind < 0.5:  # a door
            hw, hh, z = rng.uniform(0.35, 0.5), 1.0, 1.0
        elif kind < 0.6:  # a curtain or a pillar
            hh, z = h / 2, h / 2
        thick = rng.uniform(0.01, 0.05) if kind < 0.85 else rng.uniform(0.05, 0.35)
        b.part((0, 0, 0), turn, BOX, (along * span, -reach / 2, z), (hw, thick, min(hh, h / 2)), flat)


def _furniture(b: Builder, w: float, d: float) -> None:
    rng = b.rng
    along_walls = [things.sofa, things.shelf, things.cabinet, things.bed, things.plant, things.cabinet, things.shelf]
    for _ in range(int(rng.integers(2, 9))):
        side = int(rng.integers(4))
        reach, span = (d, w) if side % 2 == 0 else (w, d)
        at = np.array([rng.uniform(-0.45, 0.45) * span, -reach / 2 + rng.uniform(0.3, 0.6), 0.0]) @ turn_z(
            side * np.pi / 2
        )
        along_walls[int(rng.integers(len(along_walls)))](b, at, turn_z(side * np.pi / 2 + rng.normal(0, 0.05)))
    for _ in range(int(rng.integers(0, 5))):
        at, turn = np.array([rng.uniform(-0.4, 0.4) * w, rng.uniform(-0.4, 0.4) * d, 0.0]), turn_z(rng.uniform(0, 6.3))
        kind = rng.random()
        if kind < 0.45:
            tw, td, th = rng.uniform(0.5, 2.0), rng.uniform(0.4, 1.0), rng.uniform(0.35, 0.9)
            things.table(b, at, turn, (tw, td, th))
            _on_top(b, np.add(at, (0, 0, th)), turn, tw, td, int(rng.integers(0, 9)), 0.25)
            for _ in range(int(rng.integers(0, 4))):
                place = at + np.array([rng.uniform(-0.5, 0.5) * tw, rng.choice([-1, 1]) * (td / 2 + 0.25), 0]) @ turn
                things.chair(b, place, turn_z(rng.uniform(0, 6.3)))
        elif kind < 0.7:
            things.chair(b, at, turn)
        elif kind < 0.82:
            things.person(b, at, turn)
        else:
            _on_top(b, at, turn, 1.0, 1.0, int(rng.integers(1, 6)), 0.4)


def _room(b: Builder) -> tuple[Array, Array, float, Array]:
    rng = b.rng
    w, d, h = rng.uniform(2.5, 7), rng.uniform(2.8, 10), rng.uniform(2.2, 3.4)
    _walls(b, w, d, h)
    _furniture(b, w, d)
    if rng.random() < 0.4:  # a rug
        b.add(BOX, (rng.uniform(-1, 1), rng.uniform(-1, 1), 0.005), (rng.uniform(0.5, 1.5), 1.0, 0.005), **b.look(0.4))
    for _ in range(int(rng.integers(1, 4))):
        at = (rng.uniform(-0.4, 0.4) * w, rng.uniform(-0.4, 0.4) * d, rng.uniform(0.6, 0.97) * h)
        b.lamp(at, rng.uniform(1.0, 6.0), warm(rng), rng.uniform(0.05, 0.5))
    for _ in range(60):
        eye = np.array(
            [rng.uniform(-0.46, 0.46) * w, rng.uniform(-0.46, 0.46) * d, rng.uniform(0.5, min(2.0, h - 0.2))]
        )
        if b.clear_of(eye, 0.25):
            break
    yaw = np.arctan2(-eye[1], -eye[0]) + rng.normal(0, 0.7)  # mostly towards the middle
    pitch = rng.normal(-0.14, 0.2) if rng.random() < 0.8 else rng.uniform(-1.2, 0.4)
    return eye, look_along(yaw, pitch, rng.normal(0, 0.06)), rng.uniform(45, 85), np.full((2, 3), rng.uniform(0.1, 0.6))


def _street(b: Builder) -> tuple[Array, Array, float, Array]:
    rng = b.rng
    ground = b.look(0.5) | {"period": float(rng.uniform(1, 8))}
    b.add(BOX, (0, 0, -50), (600, 600, 50), **ground)
    if rng.random() < 0.6:
        b.add(BOX, (0, 0, 0), (500, rng.uniform(1.5, 5), 0.02), **b.look(0.2))
    for side in (-1, 1):
        x = -5.0
        while x < 90 and rng.random() < 0.9:
            size = (rng.uniform(2, 9), rng.uniform(2, 8), rng.uniform(2.5, 16))
            if rng.random() < 0.65:
                things.house(b, (x + size[0], side * (rng.uniform(5, 14) + size[1]), 0), np.eye(3), size)
            x += 2 * size[0] + rng.uniform(0, 8)
    makers = [things.tree, things.tree, things.car, things.person, things.person]
    for _ in range(int(rng.integers(2, 14))):
        at = np.array([rng.uniform(2, 40), rng.uniform(-9, 9), 0.0])
        makers[int(rng.integers(len(makers)))](b, at, turn_z(rng.choice([0, np.pi / 2]) + rng.normal(0, 0.3)))
    for _ in range(int(rng.integers(0, 6))):  # poles, hedges, stones
        at, tall = np.array([rng.uniform(2, 25), rng.uniform(-7, 7), 0.0]), rng.uniform(0.3, 5)
        r = rng.uniform(0.05, 0.2) if tall > 1.2 else rng.uniform(0.2, 1.5)
        b.add(
            int(rng.choice([BOX, ELLIPSOID, CYLINDER])),
            np.add(at, (0, 0, tall / 2)),
            (r, r * rng.uniform(1, 4), tall / 2),
            **b.look(0.4),
        )
    for _ in range(int(rng.integers(0, 4))):  # hills
        far = rng.uniform(100, 400)
        b.add(
            ELLIPSOID,
            (far, rng.uniform(-1, 1) * far, 0),
            (far / 3, far / 2, rng.uniform(0.05, 0.35) * far),
            **b.look(0.5),
        )
    sun = np.array([rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.3, 1.2)])
    strength = rng.uniform(0.2, 1.6)
    b.lamp(sun * 4000, strength * float(sun @ sun) * 1.6e7, warm(rng), 40.0)
    sky = np.stack([rng.uniform(0.5, 1.0, 3), np.array([0.35, 0.5, 0.85]) * rng.uniform(0.5, 1.3)])
    for _ in range(60):
        eye = np.array(
            [
                rng.uniform(-3, 3),
                rng.uniform(-4, 4),
                rng.choice([rng.uniform(0.3, 2), rng.uniform(1.4, 1.8), rng.uniform(2, 7)]),
            ]
        )
        if b.clear_of(eye, 0.4):
            break
    pitch = rng.normal(-0.05 - 0.04 * eye[2], 0.12)
    return eye, look_along(rng.normal(0, 0.5), pitch, rng.normal(0, 0.05)), rng.uniform(40, 80), sky


def _table(b: Builder) -> tuple[Array, Array, float, Array]:
    rng = b.rng
    far = rng.uniform(0.8, 5)
    _walls(b, 2 * far, 2 * far, 3.0)
    w, d, h = rng.uniform(0.6, 2.0), rng.uniform(0.5, 1.4), rng.uniform(0.4, 1.0)
    things.table(b, (0, 0, 0), np.eye(3), (w, d, h))
    size = rng.uniform(0.05, 0.3)
    _on_top(b, np.array([0, 0, h]), np.eye(3), min(w, 7 * size), min(d, 7 * size), int(rng.integers(2, 14)), size)
    if rng.random() < 0.5:
        _furniture(b, 2 * far, 2 * far)
    for _ in range(int(rng.integers(1, 3))):
        b.lamp(
            (rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(h + 0.7, 2.9)),
            rng.uniform(1, 4),
            warm(rng),
            rng.uniform(0.03, 0.4),
        )
    for _ in range(60):
        pitch = rng.uniform(-1.55, -0.05) if rng.random() < 0.7 else rng.uniform(-0.5, 0.1)
        yaw, away = rng.uniform(0, 6.3), size * rng.uniform(2.0, 7.0)
        eye = np.array([0, 0, h + size * 0.5]) - away * np.array(
            [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)]
        )
        if b.clear_of(eye, 0.05) and np.all(np.abs(eye[:2]) < far - 0.1) and 0.1 < eye[2] < 2.9:
            break
    frame = look_along(yaw + rng.normal(0, 0.15), pitch + rng.normal(0, 0.1), rng.normal(0, 0.12))
    return eye, frame, rng.uniform(40, 70), np.full((2, 3), rng.uniform(0.1, 0.6))


def _clutter(b: Builder) -> tuple[Array, Array, float, Array]:
    """Objects anywhere before a wall or open sky: nothing here says that lower is nearer."""
    rng = b.rng
    far = rng.uniform(4, 20)
    b.add(BOX, (0, 0, 0), (far, far, far), any_turn(rng), **b.look(0.4))
    for _ in range(int(rng.integers(4, 30))):
        reach = far * rng.uniform(0.08, 0.9)
        at = np.array([reach, rng.uniform(-0.7, 0.7) * reach, rng.uniform(-0.6, 0.6) * reach])
        half = reach * rng.uniform(0.03, 0.22) * np.exp(rng.normal(0, 0.5, 3))
        b.add(int(rng.choice([BOX, BOX, ELLIPSOID, CYLINDER, CONE])), at, half, any_turn(rng), **b.look(0.35))
    for _ in range(int(rng.integers(1, 4))):
        b.lamp(rng.uniform(-0.5, 0.5, 3) * far, rng.uniform(0.05, 0.25) * far**2, warm(rng), 0.05 * far)
    return (
        np.zeros(3),
        look_along(rng.normal(0, 0.1), rng.normal(0, 0.1), rng.uniform(-0.3, 0.3)),
        rng.uniform(45, 75),
        np.full((2, 3), 0.4),
    )


def develop(rng: np.random.Generator, radiance: Array) -> Array:
    """Linear radiance to an 8-bit picture: exposure, a shoulder, white balance, gamma."""
    level = np.percentile(radiance.mean(-1), rng.uniform(50, 80)) + 1e-4
    exposed = radiance * rng.uniform(0.3, 0.75) / level * (1 + rng.normal(0, 0.05, 3))
    shoulder = exposed * (1 + exposed / 6) / (1 + exposed * 0.7)
    return np.asarray(np.clip(255 * np.clip(shoulder, 0, 1) ** (1 / 2.2) + 0.5, 0, 255)).astype(np.uint8)


def render(
    seed: int, atlas: Array, textures: dict[str, Array], kind: str | None = None, samples: int = 4
) -> tuple[Array, Array, str]:
    """Make and render the scene of this `seed`.

    Returns the picture (H, W, 3) uint8, inverse depth (H, W) float32 in 1/metre (0 for the sky) and the scene's kind.
    """
    rng = np.random.default_rng(seed)
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    makers = {"room": _room, "street": _street, "table": _table, "clutter": _clutter}
    for _ in range(20):
        b = Builder(rng, textures)
        eye, frame, view, sky = makers[kind](b)
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        focal = 0.5 * max(shape) / np.tan(np.radians(view) / 2)
        radiance, depth = cast(b.pack(sky), atlas, eye, frame, focal, shape, samples, int(rng.integers(2**31)))
        inverse = (1.0 / depth).astype(np.float32)
        low, high = np.percentile(inverse, (3, 97))
        if np.median(radiance) > 1e-4 and high > 1.3 * low and np.percentile(depth, 2) > 0.05:
            break
    return develop(rng, radiance), inverse, kind
