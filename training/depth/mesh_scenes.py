"""Random rooms and yards of catalogue models and cut-outs with exact depth, drawn by the z-buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.transform import resize

from training.depth.meshes import OUTDOORS, Library
from training.depth.raster import ATLAS, CUTOUT, FAR, MODEL, Light, Surfaces, render
from training.depth.scenes import SHAPES, develop, look_along, warm

Array = np.ndarray[Any, Any]
OVERSAMPLING = 2
INDOORS = 0.75
"""Share of rooms: yards are seen over a floor that fills the lower half, which teaches that lower is nearer."""


@dataclass(frozen=True, eq=False)
class Stock:
    """What scenes are built of: a library and which of its models, textures and their kinds, cut-outs and their ratios.

    atlas (n, k, k, 3) float32 linear, kinds as `textures.atlas` gives them; cutouts (c, s, s, 4) uint8, ratio (c,) of
    height to width.
    """

    library: Library
    models: Array
    atlas: Array
    kinds: dict[str, Array]
    cutouts: Array
    ratio: Array


class World:
    """Collects triangles and materials, then gives them as `Surfaces`."""

    def __init__(self, rng: np.random.Generator, stock: Stock) -> None:
        self.rng = rng
        self.stock = stock
        self.parts: list[tuple[Array, Array, Array, bool]] = []
        self.materials: list[tuple[int, int, Array, float]] = []

    def texture(self, *kinds: str) -> int:
        """A random texture of the atlas of one of `kinds`."""
        return int(self.rng.choice(self.stock.kinds[kinds[int(self.rng.integers(len(kinds)))]]))

    def add(
        self, triangles: Array, uv: Array, material: Array, new: list[tuple[int, int, Array, float]], casts: bool
    ) -> None:
        """Add triangles (t, 3, 3), uv (t, 3, 2), material (t,) into the list `new` of source, texture, tint, gloss."""
        self.parts.append((triangles, uv, material + len(self.materials), casts))
        self.materials += new

    def quad(
        self, at: Any, across: Any, up: Any, texture: int, period: float, tint: Any = 1.0, casts: bool = False
    ) -> None:
        """Add the parallelogram at + s across + t up, its texture repeated every `period` metres, or stretched if 0."""
        o, a, b = (np.asarray(v, float) for v in (at, across, up))
        corners = np.stack([o, o + a, o + a + b, o + b])
        u, v = (np.linalg.norm(a) / period, np.linalg.norm(b) / period) if period else (1.0, 1.0)
        places = np.array([(0, 0), (u, 0), (u, v), (0, v)])
        index = np.array([(0, 1, 2), (0, 2, 3)])
        material = [(ATLAS, texture, np.broadcast_to(np.asarray(tint, float), 3), 0.0)]
        self.add(corners[index], places[index], np.zeros(2, int), material, casts)

    def model(self, which: int, at: Any, turn: float, scale: float) -> None:
        """Put a model of the library at `at`, turned about the vertical, perhaps mirrored and with other materials."""
        rng, library = self.rng, self.stock.library
        rows = slice(library.first[which], library.first[which + 1])
        triangles = library.triangles[rows].astype(float) * scale
        if rng.random() < 0.5:
            triangles = triangles * (-1, 1, 1)
        c, s = np.cos(turn), np.sin(turn)
        triangles = triangles @ np.array([(c, s, 0), (-s, c, 0), (0, 0, 1)]) + np.asarray(at, float)
        used, material = np.unique(library.material[rows], return_inverse=True)
        new = []
        for texture in used:
            gloss = float(rng.uniform(0.1, 0.8)) if rng.random() < 0.25 else 0.0
            chance = rng.random()
            if library.plain[texture] and chance < 0.45:
                new.append((ATLAS, self.texture("plain" if chance < 0.3 else "pattern"), np.ones(3), gloss))
            else:
                tint = np.clip(rng.normal(1, 0.25, 3), 0.3, 1.6) if chance > 0.7 else np.ones(3)
                new.append((MODEL, int(texture), tint, gloss))
        self.add(triangles, library.uv[rows], material, new, True)

    def cutout(self, which: int, at: Any, facing: Any, height: float) -> None:
        """Stand a cut-out at `at`, its flat side towards the point `facing`, leaning back a little."""
        at, towards = np.asarray(at, float), np.asarray(facing, float) - np.asarray(at, float)
        across = np.array([-towards[1], towards[0], 0.0]) / (np.hypot(*towards[:2]) + 1e-9)
        if self.rng.random() < 0.5:
            across = -across
        width = height / self.stock.ratio[which]
        up = np.array([0, 0, height]) - 0.1 * height * towards / (np.linalg.norm(towards) + 1e-9)
        corners = np.stack([at - across * width / 2, at + across * width / 2])
        corners = np.concatenate([corners, corners[::-1] + up])
        index = np.array([(0, 1, 2), (0, 2, 3)])
        places = np.array([(0.0, 0.0), (1, 0), (1, 1), (0, 1)])[index]
        tint = np.broadcast_to(self.rng.uniform(0.6, 1.2), 3)
        self.add(corners[index], places, np.zeros(2, int), [(CUTOUT, which, tint, 0.0)], True)

    def surfaces(self) -> Surfaces:
        """All of it as arrays."""
        triangles, uv, material, casts = zip(*self.parts, strict=True)
        source, texture, tint, gloss = zip(*self.materials, strict=True)
        return Surfaces(
            np.concatenate(triangles).astype(np.float32),
            np.concatenate(uv).astype(np.float32),
            np.concatenate(material).astype(np.int32),
            np.concatenate([np.full(len(t), c) for t, c in zip(triangles, casts, strict=True)]),
            np.array(source, np.int32),
            np.array(texture, np.int32),
            np.stack(tint).astype(np.float32),
            np.array(gloss, np.float32),
            self.stock.atlas,
            self.stock.library.textures,
            self.stock.cutouts,
        )


def _room(w: World, half: Array, height: float) -> None:
    """Floor, walls with flat things on them, ceiling of a room of half-sizes (2,)."""
    rng, (x, y) = w.rng, half
    w.quad((-x, -y, 0), (2 * x, 0, 0), (0, 2 * y, 0), w.texture("pattern", "plain", "photo"), rng.uniform(0.4, 3))
    paper, period = w.texture("plain", "plain", "plain", "pattern"), rng.uniform(0.5, 4)
    for at, along, inwards in (
        ((-x, -y, 0), (2 * x, 0, 0), (0, 1, 0)),
        ((-x, y, 0), (2 * x, 0, 0), (0, -1, 0)),
        ((-x, -y, 0), (0, 2 * y, 0), (1, 0, 0)),
        ((x, -y, 0), (0, 2 * y, 0), (-1, 0, 0)),
    ):
        w.quad(at, along, (0, 0, height), paper if rng.random() < 0.8 else w.texture("pattern", "photo"), period)
        length = np.linalg.norm(along)
        for _ in range(int(rng.integers(0, 4))):
            wide, tall, low = rng.uniform(0.3, 1.6), rng.uniform(0.3, 1.2), rng.uniform(0.8, 1.8)
            if rng.random() < 0.25:  # a door
                wide, tall, low = 0.9, 2.05, 0.0
            start = np.array(at) + np.array(along) * rng.uniform(0.05, 0.9) + 0.02 * np.array(inwards) + (0, 0, low)
            across = np.array(along) / length * wide
            tall = min(tall, height - low - 0.02)
            kind = w.texture("photo", "photo", "plain", "pattern")
            w.quad(start, across, (0, 0, tall), kind, 0.0, rng.uniform(0.5, 1.3))
    w.quad((-x, -y, height), (2 * x, 0, 0), (0, 2 * y, 0), w.texture("plain"), 2.0, rng.uniform(0.7, 2.0))


def _yard(w: World) -> None:
    """Open ground with walls, hedges or façades on it."""
    rng, far = w.rng, 70.0
    ground = w.texture("pattern", "plain", "photo")
    w.quad((-far, -far, 0), (2 * far, 0, 0), (0, 2 * far, 0), ground, rng.uniform(0.4, 3))
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.9 else 0):
        at = (rng.uniform(-25, 25), rng.uniform(6, 35) * rng.choice([-1, 1]), 0)
        along = (rng.uniform(5, 25), rng.normal(0, 4), 0)
        if rng.random() < 0.4:
            at, along = (at[1], at[0], 0), (along[1], along[0], 0)
        kind = w.texture("pattern", "photo", "plain")
        w.quad(at, along, (0, 0, rng.uniform(1.5, 9)), kind, rng.uniform(1, 5), rng.uniform(0.5, 1.2), True)


def _furnish(w: World, half: Array, height: float, outdoors: bool) -> list[tuple[float, ...]]:
    """Stand models about, some on others; (x, y, half-width, half-depth, height) of those on the floor."""
    rng, lib = w.rng, w.stock.library
    outside = np.isin(lib.category[w.stock.models], OUTDOORS)
    fitting = w.stock.models[(outside == outdoors) | (rng.random(len(outside)) < 0.12)]
    large = fitting[(lib.size[fitting].max(1) > 0.45) & (lib.elevation[fitting] < 0.3)]
    small = w.stock.models[lib.size[w.stock.models].max(1) < 0.6]
    placed: list[tuple[float, ...]] = []
    for _ in range(int(rng.integers(8, 30) if outdoors else rng.integers(7, 24)) if len(large) else 0):
        which = int(rng.choice(large))
        size = lib.size[which]
        if not outdoors and (size[:2].max() > 1.6 * half.min() or size[2] > height):
            continue
        for _ in range(8):
            x, y = rng.uniform(-half, half)
            turn = rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.12)
            c, s = abs(np.cos(turn)), abs(np.sin(turn))
            wide, deep = 0.5 * (c * size[0] + s * size[1]), 0.5 * (c * size[1] + s * size[0])
            if not outdoors and (abs(x) + wide > half[0] or abs(y) + deep > half[1]):
                continue
            if any(abs(x - p[0]) < 0.9 * (wide + p[2]) and abs(y - p[1]) < 0.9 * (deep + p[3]) for p in placed):
                continue
            scale = rng.uniform(0.85, 1.2)
            w.model(which, (x, y, lib.elevation[which]), turn, scale)
            placed.append((x, y, 1.1 * wide, 1.1 * deep, size[2]))
            top = lib.top[which] or (size[2] if 0.3 < size[2] < 1.1 and size[:2].min() > 0.35 else 0.0)
            for _ in range(int(rng.integers(0, 5)) if top and len(small) else 0):
                on = (x + rng.uniform(-0.8, 0.8) * wide, y + rng.uniform(-0.8, 0.8) * deep, scale * top)
                w.model(int(rng.choice(small)), on, rng.uniform(0, 6.3), rng.uniform(0.85, 1.2))
            break
    return placed


def _camera(
    rng: np.random.Generator, placed: list[tuple[float, ...]], half: Array, outdoors: bool
) -> tuple[Array, Array] | None:
    """An eye outside of everything and what it looks at, or None where no place was found."""
    for _ in range(40):
        x, y, _, _, tall = placed[int(rng.integers(len(placed)))]
        angle, away = rng.uniform(0, 6.3), float(np.exp(rng.uniform(np.log(0.8), np.log(9 if outdoors else 6))))
        eye = np.array([x + away * np.cos(angle), y + away * np.sin(angle), rng.uniform(0.3, 2.0)])
        if not outdoors and np.any(np.abs(eye[:2]) > half - 0.1):
            continue
        if all(abs(eye[0] - p[0]) > p[2] + 0.15 or abs(eye[1] - p[1]) > p[3] + 0.15 for p in placed):
            return eye, np.array([x, y, rng.uniform(0.2, max(0.4, min(1.4, tall)))])
    return None


def _stand_cutouts(w: World, eye: Array, target: Array, half: Array, outdoors: bool) -> None:
    """Stand a few cut-outs between the eye and what lies behind its target."""
    rng = w.rng
    if not len(w.stock.cutouts) or rng.random() < 0.45:
        return
    ahead = (target - eye)[:2]
    for _ in range(int(rng.integers(1, 6))):
        along, aside = rng.uniform(0.35, 1.8), rng.normal(0, 0.35)
        x, y = eye[:2] + along * ahead + aside * along * np.array([-ahead[1], ahead[0]])
        if not outdoors and np.any(np.abs((x, y)) > half - 0.15):
            continue
        away = float(np.hypot(x - eye[0], y - eye[1]))
        if away < 0.5:
            continue
        height = away * float(np.exp(rng.uniform(np.log(0.12), np.log(0.6))))
        low = 0.0 if rng.random() < 0.7 else rng.uniform(0, 1.2)
        w.cutout(int(rng.integers(len(w.stock.cutouts))), (x, y, low), eye, height)


def _light(rng: np.random.Generator, half: Array) -> Light:
    sun = np.array([rng.normal(0, 0.7), rng.normal(0, 0.7), 1.0])
    colour = warm(rng)
    n = int(rng.integers(0, 3))
    lamps = np.stack(
        [rng.uniform(-half[0], half[0], n), rng.uniform(-half[1], half[1], n), rng.uniform(1.2, 2.4, n)], 1
    )
    return Light(
        sun / np.linalg.norm(sun),
        colour * rng.uniform(0.15, 1.3),
        lamps,
        rng.uniform(0.3, 1.5, (n, 1)) * colour[::-1],
        np.full(3, rng.uniform(0.25, 0.7)),
    )


def _background(w: World, shape: tuple[int, int]) -> Array:
    """A sky (H, W, 3), sometimes with the shapes of a photograph in it."""
    rng = w.rng
    up = np.linspace(1, 0, shape[0])[:, None, None]
    sky = (1 - up) * rng.uniform(0.6, 1.1, 3) + up * np.array([0.35, 0.5, 0.9]) * rng.uniform(0.4, 1.2)
    sky = np.broadcast_to(sky, (*shape, 3))
    if rng.random() < 0.35:
        sky = sky * (0.5 + resize(w.stock.atlas[w.texture("photo")], shape, order=1))
    return np.asarray(sky)


def make(seed: int, stock: Stock, size: float = 1.0) -> tuple[Array, Array, str] | None:
    """Make and render the scene of this `seed`, `size` times as large as those of the ray caster.

    Returns the picture (H, W, 3) uint8, inverse depth (H, W) float32 in 1/metre (0 for the sky) and "mesh" or "yard";
    None where the scene came out without depth.
    """
    rng = np.random.default_rng((11, seed))
    w, outdoors = World(rng, stock), bool(rng.random() > INDOORS)
    half = rng.uniform(2.5, 8.5, 2) if outdoors else rng.uniform(1.9, 4.2, 2)
    height = rng.uniform(2.3, 3.2)
    if outdoors:
        _yard(w)
    else:
        _room(w, half, height)
    placed = _furnish(w, half, height, outdoors)
    view = _camera(rng, placed, half, outdoors) if placed else None
    if view is None:
        return None
    eye, target = view
    _stand_cutouts(w, eye, target, half, outdoors)
    ahead = target - eye
    yaw = np.arctan2(ahead[1], ahead[0]) + rng.normal(0, 0.15)
    pitch = np.arctan2(ahead[2], np.hypot(*ahead[:2])) + rng.normal(0, 0.08)
    base = SHAPES[int(rng.integers(len(SHAPES)))]
    fine = (round(base[0] * size) * OVERSAMPLING, round(base[1] * size) * OVERSAMPLING)
    focal = 0.5 * max(fine) / np.tan(np.radians(rng.uniform(40, 80)) / 2)
    frame = look_along(yaw, pitch, rng.normal(0, 0.06))
    radiance, depth = render(w.surfaces(), _light(rng, half), eye, frame, focal, fine)
    seen = depth < FAR
    radiance = np.where(seen[..., None], radiance, _background(w, fine))
    if rng.random() < 0.3:  # haze
        clear = np.exp(-np.minimum(depth, 300) / rng.uniform(15, 90))[..., None]
        radiance = np.where(seen[..., None], radiance * clear + 0.7 * (1 - clear), radiance)
    k = OVERSAMPLING
    radiance = radiance.reshape(fine[0] // k, k, fine[1] // k, k, 3).mean((1, 3))
    inverse = np.where(seen, 1 / depth, 0)[k // 2 :: k, k // 2 :: k].astype(np.float32)
    low, high = np.percentile(inverse, (3, 97))
    if high < 1.3 * low or np.median(radiance) < 1e-3:
        return None
    return develop(rng, radiance), inverse, "yard" if outdoors else "mesh"
