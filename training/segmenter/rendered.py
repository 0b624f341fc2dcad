"""Rendered scenes that judge: another renderer (mitsuba), other solids and other surfaces than the training scenes.

Lathed vases, twisted prisms, rings, superquadrics and knots with physically based materials under area light, on
a floor in a room. Needs the package mitsuba (extra ``training``). About a second a scene.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from training.segmenter.paint import Array, Rng

SIZE = (320, 384)


def _grid_faces(rows: int, cols: int) -> Array:
    """Triangles of a (rows, cols) grid of vertices whose columns close on themselves."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(cols), indexing="ij")
    a, b = (i * cols + j).ravel(), (i * cols + (j + 1) % cols).ravel()
    return np.concatenate([np.stack([a, b, b + cols], 1), np.stack([a, b + cols, a + cols], 1)])


def _surface(rng: Rng, kind: str) -> tuple[Array, Array]:
    """Vertices (n, 3), standing on z = 0 and about two units tall, and triangles."""
    rows, cols = 48, 64
    t = np.linspace(0, 1, rows)[:, None]
    a = np.linspace(0, 2 * np.pi, cols, endpoint=False)[None]
    if kind == "vase":
        knots = np.concatenate([[0.0], rng.uniform(0.25, 1.0, 5), [0.0]])
        r = np.interp(t, np.linspace(0, 1, 7), knots)
        r = 0.5 * (r + np.interp(np.clip(t + 0.05, 0, 1), np.linspace(0, 1, 7), knots))
        xyz = r * np.cos(a), r * np.sin(a), 2 * t + 0 * a
    elif kind == "prism":
        sides, twist = int(rng.integers(3, 7)), rng.uniform(0, 2.5)
        r = np.cos(np.pi / sides) / np.cos((a % (2 * np.pi / sides)) - np.pi / sides)
        r = r * np.where((t == 0) | (t == 1), 0.0, 1.0) * (1 - rng.uniform(0, 0.5) * t) * rng.uniform(0.5, 0.9)
        xyz = r * np.cos(a + twist * t), r * np.sin(a + twist * t), 2 * t + 0 * a
    elif kind == "superquadric":
        e, n = rng.uniform(0.3, 2.2, 2)
        v = np.pi * (t - 0.5)

        def power(x: Array, p: float) -> Array:
            return np.asarray(np.sign(x) * np.abs(x) ** p)

        r = power(np.cos(v), e)
        xyz = r * power(np.cos(a), n), r * power(np.sin(a), n), 1 + power(np.sin(v), e) + 0 * a
    else:  # ring or knot: a tube along a closed curve
        u = 2 * np.pi * t
        p, q = (1, 0) if kind == "ring" else (2, 3)
        tube = rng.uniform(0.15, 0.4) if kind == "ring" else 0.2
        big = 0.75 + 0.3 * np.cos(q * u) * (q > 0)
        path = np.stack([big * np.cos(p * u), big * np.sin(p * u), 0.3 * np.sin(q * u)], -1)
        out = np.stack([np.cos(p * u), np.sin(p * u), 0 * u], -1)
        points = path + tube * (np.cos(a)[..., None] * out + np.sin(a)[..., None] * np.array([0, 0, 1.0]))
        xyz = tuple(np.moveaxis(points, -1, 0))
    vertices = np.stack([np.broadcast_to(x, (rows, cols)) for x in xyz], -1).reshape(-1, 3)
    if kind in ("ring", "knot") and rng.random() < 0.6:
        vertices = vertices[:, [0, 2, 1]]
    return vertices, _grid_faces(rows, cols)


def _mesh(mi: Any, name: str, vertices: Array, faces: Array, material: dict[str, Any]) -> Any:
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(material)
    mesh = mi.Mesh(name, len(vertices), len(faces), has_vertex_normals=False, props=properties)
    params = mi.traverse(mesh)
    params["vertex_positions"] = vertices.astype(np.float32).ravel()
    params["faces"] = faces.astype(np.uint32).ravel()
    params.update()
    return mesh


def _material(rng: Rng, mi: Any) -> dict[str, Any]:
    colour: dict[str, Any] = {"type": "rgb", "value": rng.uniform(0.05, 0.9, 3).tolist()}
    return {
        "type": "twosided",
        "inner": {
            "type": "principled",
            "base_color": colour,
            "roughness": float(rng.uniform(0.15, 0.9)),
            "metallic": float(rng.choice([0.0, 0.0, 0.6])),
            "specular": 0.5,
        },
    }


def _floor(rng: Rng) -> dict[str, Any]:
    a, b = rng.uniform(0.1, 0.9, 3), rng.uniform(0.1, 0.9, 3)
    if rng.random() < 0.4:
        return {"type": "diffuse", "reflectance": {"type": "rgb", "value": a.tolist()}}
    from mitsuba import ScalarTransform3f

    return {
        "type": "diffuse",
        "reflectance": {
            "type": "checkerboard",
            "color0": {"type": "rgb", "value": a.tolist()},
            "color1": {"type": "rgb", "value": (0.7 * a + 0.3 * b).tolist()},
            "to_uv": ScalarTransform3f().scale(float(rng.uniform(6, 25))),
        },
    }


def render(number: int) -> tuple[Array, Array]:
    """Scene ``number``: RGB uint8 (320, 384, 3) and labels of the objects' visible parts, int32."""
    import mitsuba as mi

    if mi.variant() is None:
        mi.set_variant("scalar_rgb")
    rng = np.random.default_rng([77_000, number])
    turn = mi.ScalarTransform4f
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 4},
        "light": {
            "type": "rectangle",
            "to_world": turn().look_at([rng.uniform(-4, 4), rng.uniform(-5, 0), 7], [0, 0, 0], [0, 1, 0]).scale(1.5),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [16.0, 15.0, 14.0]}},
        },
        "sky": {"type": "constant", "radiance": {"type": "rgb", "value": rng.uniform(0.2, 0.6, 3).tolist()}},
        "floor": {"type": "rectangle", "to_world": turn().scale(12), "bsdf": _floor(rng)},
        "wall": {
            "type": "rectangle",
            "to_world": turn().translate([0, 5, 0]).rotate([1, 0, 0], 90).scale(12),
            "bsdf": _floor(rng),
        },
    }
    kinds = ("vase", "prism", "superquadric", "ring", "knot")
    count = int(rng.integers(3, 8))
    for index in range(count):
        vertices, faces = _surface(rng, str(rng.choice(kinds)))
        size = float(np.exp(rng.uniform(np.log(0.35), np.log(1.4))))
        vertices = (vertices - [0, 0, vertices[:, 2].min()]) * size * rng.uniform(0.8, 1.2, 3)
        vertices = vertices + np.array([rng.uniform(-2.6, 2.6), rng.uniform(-2.2, 3.2), 0])
        scene[f"object{index}"] = _mesh(mi, f"object{index}", vertices, faces, _material(rng, mi))
    view = turn().look_at([rng.uniform(-2, 2), -rng.uniform(5.5, 8), rng.uniform(2, 5)], [0, 0.3, 0.7], [0, 0, 1])
    film = {"type": "hdrfilm", "width": SIZE[1], "height": SIZE[0], "pixel_format": "rgb", "rfilter": {"type": "box"}}
    scene["sensor"] = {
        "type": "perspective", "fov": float(rng.uniform(30, 50)), "to_world": view, "film": film,
        "sampler": {"type": "independent", "sample_count": 16},
    }  # fmt: skip
    loaded = mi.load_dict(scene)
    linear = np.array(mi.render(loaded, seed=mi.UInt32(number)))[..., :3]
    rgb = (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    return rgb, _labels(mi, loaded)


def _labels(mi: Any, scene: Any) -> Array:
    """Which object each pixel's ray meets first, as the renderer tells it; one ray a pixel, so nothing is blended."""
    integrator = mi.load_dict({"type": "aov", "aovs": "index:shape_index"})
    index = np.array(mi.render(scene, integrator=integrator, spp=1))[..., -1].round().astype(int) - 1  # 0 is nothing
    names = [shape.id() for shape in scene.shapes()]
    number = np.array([int(name[6:]) + 1 if name.startswith("object") else 0 for name in names], np.int32)
    return np.where((index >= 0) & (index < len(names)), number[np.clip(index, 0, len(names) - 1)], 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="0 judges; from 1000 on they serve choices")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.first, options.first + options.count):
        picture, labels = render(number)
        np.savez_compressed(options.folder / f"{number:04d}.npz", rgb=picture, labels=labels)
