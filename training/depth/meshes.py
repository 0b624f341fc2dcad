"""Textured models of furniture, vehicles and people from Debian's package sweethome3d-furniture, packed into arrays.

The catalogue gives every model's size in metres.  Every fifth model is held out: scenes that measure use those alone.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
PACKAGE = "sweethome3d-furniture"
TEXTURE = 64
"""Textures of models are kept at so many pixels a side."""
LEAST, MOST = 20, 40_000
"""Models of fewer triangles are signs, of more cost too much time."""
UNUSED = ("Doors and windows", "Staircases")
OUTDOORS = ("Exterior", "Vehicles", "Characters")
HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue: where the model lies, its size (x, y, z) in metres, how it stands."""

    path: Path
    name: str
    category: str
    collection: str
    size: Array
    rotation: Array
    top: float
    """Height in metres at which other things stand on it; 0 where nothing does."""
    elevation: float


@dataclass(frozen=True, eq=False)
class Library:
    """Models packed one after the other.

    triangles (T, 3, 3) float32 in metres, z upwards, standing on 0 and centred; uv (T, 3, 2) float32; material (T,)
    int32 into textures (m, 64, 64, 3) uint8; plain (m,) bool: of one colour; first (n + 1,) where each model's
    triangles begin; size (n, 3), top (n,), elevation (n,) in metres; category (n,) and collection (n,) words; held_out
    (n,) bool, whether scenes that measure are built of it, and no others.
    """

    triangles: Array
    uv: Array
    material: Array
    textures: Array
    plain: Array
    first: Array
    size: Array
    top: Array
    elevation: Array
    category: Array
    collection: Array
    held_out: Array

    def split(self, held_out: bool) -> Array:
        """The indices of the models that are trained on, or of those that are not."""
        return np.flatnonzero(self.held_out == held_out)


def fetch(folder: Path) -> None:
    """Download the Debian package with apt-get and unpack its catalogues into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*/PluginFurnitureCatalog.properties")):
        return
    subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=folder, check=True)
    archive = next(folder.glob(f"{PACKAGE}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", archive.name, "package"], cwd=folder, check=True)
    archive.unlink()
    for archive in sorted((folder / "package").rglob("*.sh3f")):
        with zipfile.ZipFile(archive) as z:
            z.extractall(folder / archive.stem)


def catalogue(folder: Path) -> list[Entry]:
    """The usable models in the catalogues below `folder`, in an order that does not depend on the file system."""
    found = []
    for file in sorted(folder.glob("*/PluginFurnitureCatalog.properties")):
        items: dict[int, dict[str, str]] = {}
        for line in file.read_text(encoding="latin1").splitlines():
            match = re.match(r"(\w+)#(\d+)=(.*)", line.strip())
            if match:
                items.setdefault(int(match[2]), {})[match[1]] = match[3]
        for item in items.values():
            path = file.parent / item.get("model", "").lstrip("/")
            if path.suffix.lower() != ".obj" or not path.is_file() or path.stat().st_size > 4_000_000:
                continue
            if item.get("doorOrWindow") == "true" or item.get("category") in UNUSED:
                continue
            numbers = [float(value) for value in item.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()]
            found.append(
                Entry(
                    path=path,
                    name=item.get("name", ""),
                    category=item.get("category", ""),
                    collection=file.parent.name,
                    size=np.array([float(item.get(key, 50)) for key in ("width", "depth", "height")]) / 100,
                    rotation=np.array(numbers).reshape(3, 3),
                    top=max(0.0, float(item.get("dropOnTopElevation", 0))) / 100,
                    elevation=float(item.get("elevation", 0)) / 100,
                )
            )
    return found


@dataclass
class _Material:
    colour: Array
    texture: Array | None = None
    opacity: float = 1.0


def _materials(path: Path) -> dict[str, _Material]:
    found: dict[str, _Material] = {}
    if not path.is_file():
        return found
    now = _Material(np.full(3, 0.6))
    for line in path.read_text(encoding="latin1").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            now = found[rest.strip()] = _Material(np.full(3, 0.6))
        elif word == "Kd":
            now.colour = np.array([float(value) for value in rest.split()[:3]])
        elif word == "d":
            now.opacity = float(rest.split()[-1])
        elif word == "map_Kd" and (path.parent / rest.strip()).is_file():
            with Image.open(path.parent / rest.strip()) as image:
                small = image.convert("RGB").resize((TEXTURE, TEXTURE), Image.Resampling.BOX)
            now.texture = np.asarray(small)
    return found


def _corner(word: str, n_vertices: int) -> tuple[int, int]:
    """Indices of vertex and texture coordinate of a face's corner, from 0; -1 where there is none."""
    parts = word.split("/")
    vertex = int(parts[0])
    place = int(parts[1]) - 1 if len(parts) > 1 and parts[1] else -1
    return (vertex - 1 if vertex > 0 else n_vertices + vertex), place


def read(entry: Entry) -> tuple[Array, Array, Array, list[_Material]]:
    """Triangles (T, 3, 3), uv (T, 3, 2), material (T,) and the materials of a model; its glass is left out."""
    vertices: list[list[float]] = []
    places: list[list[float]] = []
    corners: list[tuple[tuple[int, int], ...]] = []
    which: list[int] = []
    names: list[str] = []
    known: dict[str, _Material] = {}
    current = 0
    for line in entry.path.read_text(encoding="latin1").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append([float(value) for value in rest.split()[:3]])
        elif word == "vt":
            places.append([float(value) for value in rest.split()[:2]])
        elif word == "f":
            face = [_corner(part, len(vertices)) for part in rest.split()]
            corners += [(face[0], face[k], face[k + 1]) for k in range(1, len(face) - 1)]
            which += [current] * (len(face) - 2)
        elif word == "usemtl":
            if rest.strip() not in names:
                names.append(rest.strip())
            current = names.index(rest.strip())
        elif word == "mtllib":
            known |= _materials(entry.path.parent / rest.strip())
    index = np.array(corners)
    triangles = np.array(vertices)[index[..., 0]] @ entry.rotation.T
    triangles = np.stack([triangles[..., 0], -triangles[..., 2], triangles[..., 1]], -1)
    low, high = triangles.min((0, 1)), triangles.max((0, 1))
    triangles = (triangles - (low + high) / 2) / np.maximum(high - low, 1e-6) * entry.size
    triangles[..., 2] += entry.size[2] / 2
    materials = [known.get(name, _Material(np.full(3, 0.6))) for name in names or [""]]
    material = np.array(which)
    opaque = np.array([m.opacity for m in materials])[material] > 0.35
    uv = np.array([*places, [0.0, 0.0]])[index[..., 1]]
    return triangles[opaque], uv[opaque], material[opaque], materials


def pack(folder: Path, file: Path) -> Library:
    """Read every model below `folder` into one library and write it to `file`; unreadable models are left out."""
    triangles, uv, material, plain, kept = [], [], [], [], []
    textures: list[Array] = []
    for entry in catalogue(folder):
        try:
            t, u, m, materials = read(entry)
        except (ValueError, IndexError, OSError) as error:
            print(f"{entry.path.name} is left out: {error}")
            continue
        if not LEAST < len(t) < MOST:
            continue
        triangles.append(t.astype(np.float32))
        uv.append(np.mod(u, 1024).astype(np.float32) if np.abs(u).max() > 1024 else u.astype(np.float32))
        material.append(m.astype(np.int32) + len(textures))
        for one in materials:
            flat = np.broadcast_to(255 * np.clip(one.colour, 0, 1), (TEXTURE, TEXTURE, 3)).astype(np.uint8)
            textures.append(flat if one.texture is None else one.texture)
            plain.append(one.texture is None)
        kept.append(entry)
    library = Library(
        np.concatenate(triangles),
        np.concatenate(uv),
        np.concatenate(material),
        np.stack(textures),
        np.array(plain),
        np.cumsum([0, *(len(t) for t in triangles)]),
        np.stack([entry.size for entry in kept]),
        np.array([entry.top for entry in kept]),
        np.array([entry.elevation for entry in kept]),
        np.array([entry.category for entry in kept]),
        np.array([entry.collection for entry in kept]),
        np.arange(len(kept)) % HELD_OUT_EVERY == 0,
    )
    part = file.with_name(f".{file.name}.part.npz")
    write(library, part)
    part.replace(file)
    return library


def write(library: Library, file: Path | BinaryIO) -> None:
    """Write a library as .npz, compressed."""
    np.savez_compressed(file, **{name: getattr(library, name) for name in Library.__dataclass_fields__})


def thinned(library: Library, most: int) -> Library:
    """The models of at most `most` triangles, coordinates in float16, with the textures that they use."""
    kept = np.flatnonzero(np.diff(library.first) <= most)
    rows = np.concatenate([np.arange(library.first[k], library.first[k + 1]) for k in kept])
    used, material = np.unique(library.material[rows], return_inverse=True)
    whole = {
        name: getattr(library, name)[kept]
        for name in ("size", "top", "elevation", "category", "collection", "held_out")
    }
    return Library(
        triangles=library.triangles[rows].astype(np.float16),
        uv=library.uv[rows].astype(np.float16),
        material=material.astype(np.int32),
        textures=library.textures[used],
        plain=library.plain[used],
        first=np.cumsum([0, *np.diff(library.first)[kept]]),
        **whole,
    )


def load(file: Path) -> Library:
    """Read a library that `pack` wrote."""
    with np.load(file) as z:
        return Library(**{name: z[name] for name in Library.__dataclass_fields__})


def main() -> None:
    """Fetch and pack the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--out", type=Path, required=True, help="the packed library, .npz")
    args = parser.parse_args()
    fetch(args.folder)
    library = pack(args.folder, args.out)
    print(f"{len(library.size)} models, {len(library.triangles)} triangles, {len(library.textures)} textures")


if __name__ == "__main__":
    main()
