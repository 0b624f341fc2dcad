"""Train the built-in depth estimator: `python -m training.depth --minutes 60 --out depth.safetensors`.

Fetches, renders and labels into a cache first, where that is not there yet.  A smoke run: `--scenes 4 --steps 3`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from training.depth import cache, meshes, pictures, stamps
from training.depth.start import TEACHER, teacher
from training.depth.train import SHARES, train

BUILD = Path("build/depth")


def prepare(args: argparse.Namespace) -> None:
    """Fill the cache with scenes to train on and to measure with, and photographs, as far as apt-get brings them."""
    if shutil.which("apt-get") and not args.offline:
        pictures.fetch(args.pictures)
        meshes.fetch(args.models)
    library = args.models / "library.npz"
    if args.models.exists() and not library.exists():
        meshes.pack(args.models, library)
    train_on = range(cache.FIRST, cache.FIRST + args.scenes)
    measure = cache.HELD_OUT[: min(args.scenes, len(cache.HELD_OUT))]
    cuts, found = ([], []) if args.offline else (pictures.textures(args.pictures), stamps.find(args.pictures))
    made = cache.render_scenes(args.cache / "scenes", train_on, pictures=cuts)
    made += cache.render_scenes(args.cache / "scenes_held_out", measure)
    if library.exists():
        made += cache.render_mesh_scenes(args.cache / "meshes", train_on, library, found, pictures=cuts)
        made += cache.render_mesh_scenes(args.cache / "meshes_held_out", measure, library, found, held_out=True)
    print(json.dumps({"scenes rendered": made}), flush=True)
    if not args.offline:
        views = pictures.label_views(args.pictures, args.cache, teacher(args.teacher), cutouts=found)
        print(json.dumps({"views labelled": views}), flush=True)


def _share(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in SHARES:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(SHARES)}.")
    return name, float(value)


def main() -> None:
    """Read the command line, prepare, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BUILD / "depth.safetensors", help="weights, float16 safetensors")
    parser.add_argument("--cache", type=Path, default=BUILD / "cache", help="folder of rendered and labelled views")
    parser.add_argument("--pictures", type=Path, default=BUILD / "pictures", help="folder of unpacked Debian packages")
    parser.add_argument("--models", type=Path, default=BUILD / "models", help="folder of the catalogues of models")
    parser.add_argument("--teacher", type=Path, default=TEACHER, help="tcmonodepth_tcsmallnet_192x320.onnx")
    parser.add_argument("--start", type=Path, help="weights to go on from, instead of the teacher's")
    parser.add_argument("--resume", type=Path, help="file to resume from, and to save to")
    parser.add_argument("--minutes", type=float, default=60, help="of training on the clock, preparation not counted")
    parser.add_argument("--steps", type=int, default=10**9, help="stop after so many steps")
    parser.add_argument("--scenes", type=int, default=2500, help="rendered scenes of each kind to train on")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--shares", type=_share, nargs="*", default=[], help="of a batch, such as photos=0.5")
    parser.add_argument("--every", type=int, default=50, help="save after so many steps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--offline", action="store_true", help="neither fetch packages nor label photographs")
    parser.add_argument("--prepared", action="store_true", help="train on what the cache holds")
    args = parser.parse_args()
    args.shares = SHARES | dict(args.shares)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not args.prepared:
        prepare(args)
    print(json.dumps(train(args)))


if __name__ == "__main__":
    main()
