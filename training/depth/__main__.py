"""Train the built-in depth estimator: `python -m training.depth --minutes 60 --out depth.safetensors`.

Renders scenes and labels photographs into a cache first, where they are not there yet.  A smoke run:
`--scenes 4 --steps 3`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from training.depth import cache
from training.depth.train import train

BUILD = Path("build/depth")
TEACHER = Path(__file__).parents[3] / "shared/data/teacher/tcmonodepth_tcsmallnet_192x320.onnx"


def prepare(args: argparse.Namespace) -> None:
    """Fill the cache: scenes to train on and to measure with, and photographs when the teacher is at hand."""
    made = cache.render_scenes(args.cache / "scenes", range(cache.FIRST, cache.FIRST + args.scenes))
    made += cache.render_scenes(args.cache / "held_out", cache.HELD_OUT[: min(args.scenes, len(cache.HELD_OUT))])
    print(json.dumps({"scenes rendered": made}), flush=True)
    if args.photos <= 0 or (args.cache / "photos").exists():
        return
    if not args.teacher.exists():
        print(f"There is no teacher at {args.teacher}: training on rendered scenes alone; give --teacher to use it.")
        return
    from training.depth import pictures

    if shutil.which("apt-get"):
        pictures.fetch(args.pictures)
    views = pictures.label_views(args.pictures, args.cache, pictures.Teacher(args.teacher))
    print(json.dumps({"views labelled": views}), flush=True)


def main() -> None:
    """Read the command line, prepare, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BUILD / "depth.safetensors", help="weights, float16 safetensors")
    parser.add_argument("--cache", type=Path, default=BUILD / "cache", help="folder of rendered and labelled views")
    parser.add_argument("--pictures", type=Path, default=BUILD / "pictures", help="folder of unpacked Debian packages")
    parser.add_argument("--teacher", type=Path, default=TEACHER, help="tcmonodepth_tcsmallnet_192x320.onnx")
    parser.add_argument("--start", type=Path, help="weights to go on from, instead of ImageNet's trunk")
    parser.add_argument("--resume", type=Path, help="file to resume from, and to save to")
    parser.add_argument("--minutes", type=float, default=60, help="of training, preparation not counted")
    parser.add_argument("--steps", type=int, default=10**9, help="stop after so many steps")
    parser.add_argument("--scenes", type=int, default=600, help="rendered scenes to train on")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--photos", type=float, default=0.35, help="share of teacher-labelled photographs in a batch")
    parser.add_argument("--every", type=int, default=50, help="save after so many steps")
    parser.add_argument("--validate", type=int, default=300, help="validate after so many steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    prepare(args)
    print(json.dumps(train(args)))


if __name__ == "__main__":
    main()
