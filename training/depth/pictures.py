"""Photographs with a clear licence: fetched from Debian packages, cut into views, labelled by the frozen teacher.

`LIBRARY` names every picture; NOTICE-depth.txt says whose it is.  The teacher is TCMonoDepth's small network (see
`start`), run at three sizes whose answers are fitted to each other and averaged.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from skimage import data
from torch.nn import functional as F

from napari_samdepth.models.builtin.depth_builtin import fused, input_size
from napari_samdepth.models.builtin.depth_net import DepthNet
from training.depth import cache, stamps

Array = np.ndarray[Any, Any]
TEACHER_SIDES = (256, 384, 512)
LONGEST = 1600
SIDE = 400
"""Views are so many pixels long."""
INSTALLED = ("scikit-image", "matplotlib")
WHEEL = ("astronaut", "camera", "chelsea", "coffee", "rocket")
LIBRARY: dict[str, str] = {
    "mate-backgrounds": "Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings YellowFlower",
    "plasma-workspace-wallpapers": (
        "BytheWater ColdRipple DarkestHour EveningGlow FallenLeaf OneStandsOut Path summer_1am"
    ),
    "lomiri-wallpapers-16.04": (
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Picture_1A_by_freespace"
        " Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi"
        " greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi"
        " seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi"
    ),
    "lomiri-wallpapers-20.04": "Kleiber_by_Lukas_Baubkus",
    "palapeli-data": "castle-maintenon cincinnati-bridge european-honey-bee panther-chameleon-female",
    "python3-sklearn": "china flower",
    "lxqt-themes": (
        "beam Butterfly-Kenneth-Wimer Valendas after-the-rain appleflower butterfly drop flowers fog"
        " this-is-not-windows"
    ),
    "kphotoalbum": "donna donna_2 pool skagen snow spiff spiff_2 cold_water grand_canyon_2",
    "enlightenment-data": (
        "Bamboo God-Rays Green-Maple Lichen-Branches Mountain Peaks Red-Maple Sea-of-Lanterns Snow-Trees Spruce-Needles"
        " Sunset-Hills White-Flower Yellow-Flower"
    ),
    "gcompris-qt-data": (
        "clickgame/sea1 clickgame/sea2 clickgame/sea3 clickgame/sea4 clickgame/sea6"
        " details/Chenonceau_background details/EgeskovSlotSpejling_background details/EilanDonanCastle_background"
        " details/FanoeWindmill_background details/GizahPyramids_background details/NDP_background"
        " details/Nagoya_background details/Neuschwanstein_background details/OperaSidney_background"
        " details/TajMahal_background details/TowerBridgeLondon_background"
        " erase/alpaca erase/bee erase/butterfly erase/calf erase/camels erase/caterpillar erase/chamaeleon"
        " erase/cheetah erase/crab erase/dolphin erase/flying_fox erase/gibbon erase/giraffe erase/goat erase/gorilla"
        " erase/gosling erase/heron erase/horse erase/kingfisher erase/kitten erase/long_nosed_monkey erase/macaque"
        " erase/meerkats erase/northern_harrier erase/nubian_ibex erase/penguin erase/pika erase/red_panda"
        " erase/rhinoceros erase/spoonbills erase/squirrel erase/swans erase/toucan"
        " explore_farm_animals/cat explore_farm_animals/chicken explore_farm_animals/cow explore_farm_animals/dog"
        " explore_farm_animals/duck explore_farm_animals/horse explore_farm_animals/owl explore_farm_animals/pig"
        " explore_farm_animals/sheep explore_monuments/bentPyramid explore_monuments/greatPyramidOfGiza"
        " explore_monuments/meidumPyramid explore_monuments/redPyramid explore_monuments/arlesAmphitheater"
        " explore_monuments/chateaudeChambord explore_monuments/chateaudeChenonceau explore_monuments/citedeCarcassonne"
        " explore_monuments/eiffelTower explore_monuments/montStMichel explore_monuments/palaisdesPapes"
        " explore_monuments/pontduGard explore_monuments/reimsCathedral explore_monuments/rocamadour"
        " explore_monuments/aulaPalatina explore_monuments/berlinCathedral explore_monuments/brandenburgGate"
        " explore_monuments/neuschwansteinCastle explore_monuments/schwerinPalace"
        " explore_monuments/trierImperialBaths explore_monuments/wormsCathedral explore_monuments/ajantaCave"
        " explore_monuments/charminar explore_monuments/gatewayofIndia explore_monuments/goldenTemple"
        " explore_monuments/greatStupa explore_monuments/hawaMahal explore_monuments/konarkSunTemple"
        " explore_monuments/mysorePalace explore_monuments/qutubMinar explore_monuments/rangGhar"
        " explore_monuments/victoriaMemorial explore_monuments/cabrillo explore_monuments/canyondeChelly"
        " explore_monuments/castleClinton explore_monuments/fortSumter explore_monuments/lincolnMemorial"
        " explore_monuments/mountRushmore explore_monuments/navajo explore_monuments/statueofLiberty"
        " explore_monuments/chichenItza explore_monuments/christTheRedeemer explore_monuments/colosseum"
        " explore_monuments/greatWallofChina explore_monuments/machuPicchu explore_monuments/petra"
        " explore_monuments/tajMahal explore_world_animals/bison explore_world_animals/chameleon"
        " explore_world_animals/crocodile explore_world_animals/dragon explore_world_animals/giraffe"
        " explore_world_animals/hedgehog explore_world_animals/jaguar explore_world_animals/kangaroo"
        " explore_world_animals/koala explore_world_animals/lemur explore_world_animals/moose"
        " explore_world_animals/narwhal explore_world_animals/panda explore_world_animals/polar_bear"
        " explore_world_animals/scarlet_macaw explore_world_music/africa explore_world_music/america"
        " explore_world_music/australia explore_world_music/ireland explore_world_music/italy explore_world_music/japan"
        " explore_world_music/mexico explore_world_music/orchestra"
    ),
}
"""Debian package → names of pictures in it, with the activity before the name for GCompris; see NOTICE-depth.txt."""
CHECKED = {
    *(f"scikit-image/{name}" for name in WHEEL),
    "python3-sklearn/china",
    "python3-sklearn/flower",
    "lomiri-wallpapers-16.04/Wine_by_Jakkub_Mede",
    "lomiri-wallpapers-16.04/friends_by_Aitzol_Berasategi",
    "gcompris-qt-data/explore_world_music/america",
    "gcompris-qt-data/explore_world_music/mexico",
    "gcompris-qt-data/explore_farm_animals/chicken",
    "gcompris-qt-data/explore_monuments/statueofLiberty",
    "kphotoalbum/pool",
    "kphotoalbum/spiff",
}
"""Photographs kept for the check set of touching things marked by hand, tests/data/depth_order.json."""
HELD_OUT = CHECKED | {
    "mate-backgrounds/Garden",
    "plasma-workspace-wallpapers/ColdRipple",
    "lomiri-wallpapers-16.04/aitzgorri_by_Aitzol_Berasategi",
    "lomiri-wallpapers-16.04/life_by_Aitzol_Berasategi",
    "palapeli-data/cincinnati-bridge",
    "palapeli-data/castle-maintenon",
}
"""Photographs that are neither labelled for training nor cut into textures."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def fetch(folder: Path) -> None:
    """Download and unpack the packages of `LIBRARY` and of the cut-outs, and opencv-doc (the Aloe) beside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {package: folder / package for package in (*LIBRARY, stamps.PACKAGE)}
    places["opencv-doc"] = folder.parent / "opencv-doc"
    for package, place in places.items():
        if not place.exists():
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
            archive = next(folder.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg-deb", "-x", str(archive.resolve()), str(place.resolve())], check=True)
            archive.unlink()
    unpack_themes(folder / "enlightenment-data")
    unpack_resources(folder / "gcompris-qt-data")


def unpack_themes(folder: Path) -> None:
    """Write the photograph inside every .edj file below `folder` to `folder`/pictures."""
    out = folder / "pictures"
    out.mkdir(exist_ok=True)
    for theme in sorted(folder.rglob("backgrounds/*.edj")):
        content = theme.read_bytes()
        at = content.find(b"\xff\xd8\xff")
        while at >= 0:
            try:
                with Image.open(io.BytesIO(content[at:])) as image:
                    image.convert("RGB").save(out / f"{theme.stem}.png")
                break
            except (OSError, UnidentifiedImageError):
                at = content.find(b"\xff\xd8\xff", at + 3)


def unpack_resources(folder: Path, least: int = 12_000) -> None:
    """Write the pictures inside every Qt resource below `folder` to `folder`/pictures/ACTIVITY; small ones are left."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from qtpy.QtCore import QDirIterator, QFile, QResource

    for resource in sorted(folder.rglob("*.rcc")):
        if not QResource.registerResource(str(resource), f"/{resource.stem}"):
            continue
        out = folder / "pictures" / resource.stem
        names = QDirIterator(f":/{resource.stem}", QDirIterator.IteratorFlag.Subdirectories)
        while names.hasNext():
            file = QFile(names.next())
            if file.fileName().endswith(SUFFIXES) and file.size() > least:
                file.open(QFile.OpenModeFlag.ReadOnly)
                out.mkdir(parents=True, exist_ok=True)
                (out / Path(file.fileName()).name).write_bytes(bytes(file.readAll().data()))
                file.close()
        QResource.unregisterResource(str(resource), f"/{resource.stem}")


def _file_of(folder: Path, package: str, name: str) -> Path:
    """The largest picture of that name; Plasma keeps each wallpaper in several sizes in a folder of its name."""
    place = folder / package
    if "/" in name or package == "enlightenment-data":
        place /= "pictures"
    stem = Path(name)
    found = [
        p
        for p in (place / stem.parent).rglob("*")
        if p.suffix in SUFFIXES and (p.stem == stem.name or stem.name in p.parts)
    ]
    if not found:
        raise FileNotFoundError(f"The picture {name} is not in {folder / package}: run with --fetch first.")
    return max(found, key=lambda p: p.stat().st_size)


def photograph(folder: Path, key: str, longest: int = LONGEST) -> Array:
    """The photograph of this key (H, W, 3) uint8, at most `longest` pixels long.

    "scikit-image/NAME" and "matplotlib/NAME" are installed, "PACKAGE/NAME" lies in the Debian package below `folder`.
    """
    package, name = key.split("/", 1)
    if package == "scikit-image":
        picture = getattr(data, name)()
        picture = picture[0] if isinstance(picture, tuple) else picture  # the left one of a stereo pair
        return np.asarray(picture if picture.ndim == 3 else np.dstack([picture] * 3))
    sample = Path(matplotlib.get_data_path()) / f"sample_data/{name}.jpg"
    with Image.open(sample if package == "matplotlib" else _file_of(folder, package, name)) as image:
        image.draft("RGB", (longest, longest))
        reduced = image.convert("RGB")
    reduced.thumbnail((longest, longest))
    return np.asarray(reduced)


def names(folder: Path) -> list[str]:
    """The keys of the photographs at hand: scikit-image's, and those of packages that lie in `folder`."""
    found = [f"scikit-image/{name}" for name in WHEEL]
    for package, words in LIBRARY.items():
        if (folder / package).exists():
            found += [f"{package}/{name}" for name in words.split()]
        else:
            print(f"{package} is not in {folder}: going on without its pictures.")
    return found


def textures(folder: Path, longest: int = 400) -> list[Array]:
    """The photographs that are trained on, small, for the textures of scenes."""
    return [photograph(folder, key, longest) for key in names(folder) if key not in HELD_OUT]


def label(teacher: DepthNet, rgb: Array, sides: tuple[int, ...] = TEACHER_SIDES) -> Array:
    """The teacher's relative inverse depth (H, W) float32 of (H, W, 3) uint8: the mean over `sides` once fitted."""
    pixels = torch.tensor(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    answers = []
    with torch.inference_mode():
        for side in sides:
            size = input_size((rgb.shape[0], rgb.shape[1]), side)
            x = F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
            out = teacher(x.float() / 255)[None]
            answers.append(F.interpolate(out, size=rgb.shape[:2], mode="bilinear", align_corners=False))
        both = fused(answers)[0, 0].numpy()
    return np.asarray(both, np.float32)


def view(rng: np.random.Generator, picture: Array, whole: bool) -> Array:
    """A crop of a picture, its longer side `SIDE` pixels."""
    height, width = picture.shape[:2]
    aspect = float(rng.choice([5 / 3 if width >= height else 1.0, 4 / 3, 1.0, 0.75]))
    scale = 1.0 if whole else rng.uniform(0.45, 1.0)
    w = min(width, height * aspect) * scale
    h = w / aspect
    r, c = int(rng.uniform(0, max(height - h, 0.0))), int(rng.uniform(0, max(width - w, 0.0)))
    crop = Image.fromarray(picture[r : r + max(int(h), 32), c : c + max(int(w), 32)])
    factor = SIDE / max(crop.size)
    return np.asarray(
        crop.resize((round(crop.size[0] * factor), round(crop.size[1] * factor)), Image.Resampling.LANCZOS)
    )


def compose(rng: np.random.Generator, rgb: Array, inverse: Array, cutouts: Array, ratio: Array) -> tuple[Array, Array]:
    """Paste one to four cut-outs on a labelled view, each nearer than what it hides, the farther ones first.

    `rgb` (H, W, 3) uint8, `inverse` (H, W), `cutouts` (n, s, s, 4) uint8 and their `ratio` (n,) of height to width.
    """
    picture, depth = rgb.astype(np.float32), inverse.copy()
    span = float(np.percentile(inverse, 98) - np.percentile(inverse, 2)) + 1e-6
    height, width = inverse.shape
    count = int(rng.integers(1, 5))
    for tall in sorted(np.exp(rng.uniform(np.log(0.15), np.log(0.8), count)) * height):
        which = int(rng.integers(len(cutouts)))
        shape = max(8, int(tall)), max(8, min(int(tall / ratio[which]), width))
        image = Image.fromarray(cutouts[which]).resize(shape[::-1], Image.Resampling.BILINEAR)
        stamp = np.asarray(image, np.float32)[:, :: 1 if rng.random() < 0.5 else -1]
        row = int(rng.uniform(-0.1 * shape[0], height - 0.7 * shape[0]))
        col = int(rng.uniform(-0.2 * shape[1], width - 0.8 * shape[1]))
        rows, cols = slice(max(row, 0), min(row + shape[0], height)), slice(max(col, 0), min(col + shape[1], width))
        stamp = stamp[rows.start - row : rows.stop - row, cols.start - col : cols.stop - col]
        opacity = stamp[..., 3:] / 255
        there = opacity[..., 0] > 0.5
        if not there.any():
            continue
        place = picture[rows, cols]
        # half-way to the brightness of the picture, so that pasted things do not stand out by their light alone
        gain = (0.5 + 0.5 * place.mean() / max(stamp[there][:, :3].mean(), 1)) * rng.uniform(0.8, 1.2)
        picture[rows, cols] = place * (1 - opacity) + np.clip(stamp[..., :3] * gain, 0, 255) * opacity
        behind = float(np.percentile(depth[rows, cols][there], 95))
        depth[rows, cols][there] = behind + span * float(np.exp(rng.uniform(np.log(0.04), np.log(0.5))))
    return picture.astype(np.uint8), depth


def label_views(
    folder: Path,
    store: Path,
    teacher: DepthNet,
    each: int = 12,
    seed: int = 0,
    cutouts: list[Path] | None = None,
    part: tuple[int, int] = (0, 1),
) -> int:
    """Label `each` views of every photograph into `store`/photos, two of each held-out one into photos_held_out.

    Of `part` (k, n) only every n-th photograph, from the k-th on.  With `cutouts` every second view is written once
    more to `store`/composed, with some of them pasted on it.
    """
    from training.depth import meshes

    used = [path for k, path in enumerate(cutouts or []) if k % meshes.HELD_OUT_EVERY]
    pixels, ratio = stamps.load(used, 256)
    made = 0
    for key in names(folder)[part[0] :: part[1]]:
        rng = np.random.default_rng((seed, *key.encode()))
        target = store / ("photos_held_out" if key in HELD_OUT else "photos")
        for place in (target, store / "composed"):
            place.mkdir(parents=True, exist_ok=True)
        stem, count = key.replace("/", "--"), 2 if key in HELD_OUT else each
        if (target / f"{stem}_{count - 1:02d}.npz").exists():
            continue
        picture = photograph(folder, key)
        for k in range(count):
            rgb = view(rng, picture, whole=k < 2)
            inverse = label(teacher, rgb)
            inverse = inverse - inverse.min()
            cache.save(target / f"{stem}_{k:02d}.npz", rgb, inverse, "photo")
            made += 1
            if len(pixels) and key not in HELD_OUT and k % 2 == 0:
                pasted = compose(rng, rgb, inverse, pixels, ratio)
                cache.save(store / "composed" / f"{stem}_{k:02d}.npz", *pasted, "photo")
    return made


def main() -> None:
    """Fetch the photographs and label their views."""
    from training.depth import start

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of unpacked Debian packages")
    parser.add_argument("--teacher", type=Path, default=start.TEACHER, help="tcmonodepth_tcsmallnet_192x320.onnx")
    parser.add_argument("--fetch", action="store_true", help="download the packages into --pictures first")
    parser.add_argument("--part", type=int, default=0, help="label only every --of-th photograph, from this one on")
    parser.add_argument("--of", type=int, default=1)
    args = parser.parse_args()
    if args.fetch:
        fetch(args.pictures)
    torch.set_num_threads(1)
    cutouts, part = stamps.find(args.pictures), (args.part, args.of)
    made = label_views(args.pictures, args.cache, start.teacher(args.teacher), cutouts=cutouts, part=part)
    print(f"{made} views labelled in {args.cache}")


if __name__ == "__main__":
    main()
