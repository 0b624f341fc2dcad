"""Photographs with a clear licence, cut into views and labelled by the teacher.

The photographs come from scikit-image's wheel and from Debian packages; `LIBRARY` names every one of them.  The
teacher is TCMonoDepth's small network (Li et al., 2021; MIT), run by onnxruntime on the view and on its mirror image.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

from training.depth import cache

Array = np.ndarray[Any, Any]
TEACHER_SHAPE = (192, 320)
WHEEL = ("astronaut", "camera", "chelsea", "coffee", "rocket")
LIBRARY: dict[str, list[str]] = {
    "mate-backgrounds": [
        "Dune",
        "FreshFlower",
        "Garden",
        "GreenMeadow",
        "LadyBird",
        "RainDrops",
        "Storm",
        "TwoWings",
        "YellowFlower",
    ],
    "plasma-workspace-wallpapers": (
        ["BytheWater", "ColdRipple", "DarkestHour", "EveningGlow", "FallenLeaf", "OneStandsOut", "Path", "summer_1am"]
    ),
    "lomiri-wallpapers-16.04": (
        [
            "Bridge_by_Sander_Klootwijk",
            "Dragonfly_by_Bolly",
            "Picture_0B_by_freespace",
            "Picture_1A_by_freespace",
            "Wine_by_Jakkub_Mede",
            "aitzgorri_by_Aitzol_Berasategi",
            "free_by_Peter_Nerlich",
            "friends_by_Aitzol_Berasategi",
            "greentock_by_Peter_Nerlich",
            "life_by_Aitzol_Berasategi",
            "picosdeeuropa_by_Aitzol_Berasategi",
            "seeding_by_Clements_Engelhardt",
            "sunset_by_Aitzol_Berasategi",
        ]
    ),
    "lomiri-wallpapers-20.04": ["Kleiber_by_Lukas_Baubkus"],
    "palapeli-data": ["castle-maintenon", "cincinnati-bridge", "european-honey-bee", "panther-chameleon-female"],
    "python3-sklearn": ["china", "flower"],
}
"""Debian package → pictures in it; their authors and licences are in the project's notice."""
HELD_OUT = [
    "coffee",
    "Garden",
    "ColdRipple",
    "aitzgorri_by_Aitzol_Berasategi",
    "life_by_Aitzol_Berasategi",
    "cincinnati-bridge",
    "castle-maintenon",
    "china",
]
"""Photographs that only measure agreement with the teacher."""


def fetch(folder: Path) -> None:
    """Download and unpack the Debian packages of `LIBRARY` with apt-get and dpkg-deb."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in LIBRARY:
        if not (folder / package).exists():
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
            subprocess.run(
                ["dpkg-deb", "-x", str(next(folder.glob(f"{package}_*.deb"))), package], cwd=folder, check=True
            )


def _file_of(folder: Path, package: str, name: str) -> Path:
    """The largest picture of that name; Plasma keeps each wallpaper in several sizes in a folder of its name."""
    found = [
        p for p in (folder / package).rglob("*") if p.suffix in (".jpg", ".png") and (p.stem == name or name in p.parts)
    ]
    if not found:
        raise FileNotFoundError(f"The picture {name} is not in {folder / package}: run with --fetch first.")
    return max(found, key=lambda p: p.stat().st_size)


def photographs(folder: Path) -> dict[str, Array]:
    """Every photograph at hand by name, (H, W, 3) uint8, at most 1600 pixels long: scikit-image's and `folder`'s."""
    out = {}
    for name in WHEEL:
        picture = getattr(data, name)()
        out[name] = picture if picture.ndim == 3 else np.dstack([picture] * 3)
    for package, names in LIBRARY.items():
        if not (folder / package).exists():
            print(f"{package} is not in {folder}: going on without its pictures.")
            continue
        for name in names:
            with Image.open(_file_of(folder, package, name)) as image:
                image.draft("RGB", (1600, 1600))
                picture = image.convert("RGB")
                picture.thumbnail((1600, 1600))
                out[name] = np.asarray(picture)
    return out


class Teacher:
    """The teacher network behind one call."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _once(self, picture: Image.Image) -> Array:
        x = np.asarray(picture, np.float32).transpose(2, 0, 1)[None]
        return np.asarray(self.session.run(None, {"input": x})[0][0, 0])

    def label(self, rgb: Array) -> Array:
        """Relative inverse depth (H, W) float32 of (H, W, 3) uint8, averaged with that of the mirror image."""
        picture = Image.fromarray(rgb).resize(TEACHER_SHAPE[::-1], Image.Resampling.BILINEAR)
        mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mean = 0.5 * (self._once(picture) + self._once(mirrored)[:, ::-1])
        full = Image.fromarray(mean.astype(np.float32)).resize(rgb.shape[1::-1], Image.Resampling.BILINEAR)
        return np.asarray(full, np.float32)


def _view(rng: np.random.Generator, picture: Array, whole: bool) -> Array:
    """A crop of a picture, its longer side 320 pixels."""
    height, width = picture.shape[:2]
    aspect = 5 / 3 if width >= height else 1.0
    aspect = float(rng.choice([aspect, 4 / 3, 1.0, 0.75]))
    scale = 1.0 if whole else rng.uniform(0.45, 1.0)
    w = min(width, height * aspect) * scale
    h = w / aspect
    r, c = int(rng.uniform(0, height - h)), int(rng.uniform(0, width - w))
    crop = Image.fromarray(picture[r : r + max(int(h), 32), c : c + max(int(w), 32)])
    factor = 320 / max(crop.size)
    return np.asarray(
        crop.resize((round(crop.size[0] * factor), round(crop.size[1] * factor)), Image.Resampling.LANCZOS)
    )


def label_views(folder: Path, store: Path, teacher: Teacher, each: int = 24, seed: int = 0) -> int:
    """Label `each` views of every photograph into `store`/photos, the held-out ones into `store`/photos_held_out."""
    made = 0
    for number, (name, picture) in enumerate(photographs(folder).items()):
        rng = np.random.default_rng((seed, number))
        target = store / ("photos_held_out" if name in HELD_OUT else "photos")
        target.mkdir(parents=True, exist_ok=True)
        for k in range(2 if name in HELD_OUT else each):
            rgb = _view(rng, picture, whole=k < 2)
            inverse = teacher.label(rgb)
            cache.save(target / f"{name}_{k:02d}.npz", rgb, inverse - inverse.min(), "photo")
            made += 1
    return made


def main() -> None:
    """Fetch the photographs and label their views."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of unpacked Debian packages")
    parser.add_argument("--teacher", type=Path, required=True, help="tcmonodepth_tcsmallnet_192x320.onnx")
    parser.add_argument("--fetch", action="store_true", help="download the packages into --pictures first")
    args = parser.parse_args()
    if args.fetch:
        fetch(args.pictures)
    print(f"{label_views(args.pictures, args.cache, Teacher(args.teacher))} views labelled in {args.cache}")


if __name__ == "__main__":
    main()
