"""Measure the shipped depth estimator: `python -m training.depth.evaluate --cache DIR --teacher FILE.onnx`.

Works through the adapter that users call.  Prints Markdown tables: the motorcycle picture, held-out rendered scenes,
held-out photographs (agreement with the teacher), each beside the ramp "lower rows are nearer" and the teacher, and the
time an estimate takes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data

from napari_samdepth.models.builtin.depth_builtin import WEIGHTS, BuiltinDepth
from training.depth import cache, measures

Array = np.ndarray[Any, Any]
Guess = Callable[[Array], Array]
View = tuple[str, Array, Array]
"""Its kind, the picture (H, W, 3) uint8, inverse depth (H, W)."""
PRINCIPAL_POINTS = 31.086
"""Pixels between the principal points of the motorcycle pair: inverse depth is proportional to disparity + this."""


def motorcycle() -> tuple[Array, Array]:
    """The left picture (500, 741, 3) uint8 and its inverse depth (500, 741), in pixels of disparity, NaN unknown."""
    left, _, disparity = data.stereo_motorcycle()
    return left, np.where(np.isfinite(disparity), disparity + PRINCIPAL_POINTS, np.nan)


def compare(guesses: dict[str, Guess], views: list[View]) -> dict[str, list[measures.Score]]:
    """Scores of every guess on every view."""
    return {name: [measures.score(guess(rgb), truth) for _, rgb, truth in views] for name, guess in guesses.items()}


def table(title: str, views: list[View], guesses: dict[str, Guess]) -> str:
    """One Markdown table, a row for each kind of view and each guess, with the share of views better than the ramp."""
    scores = compare(guesses, views)
    kinds = [*dict.fromkeys(kind for kind, _, _ in views)]
    head = "| views | n | guess | Spearman | AbsRel | error / range | better ranks than the ramp | smaller error |"
    lines = [f"{title}\n", head, "|" + "---|" * 8]
    for kind in ["all", *kinds] if len(kinds) > 1 else kinds:
        rows = [i for i, view in enumerate(views) if kind in ("all", view[0])]
        for name in guesses:
            mine = np.array([scores[name][i] for i in rows])
            ramp = np.array([scores["ramp"][i] for i in rows])
            wins = np.mean([mine[:, 0] > ramp[:, 0], mine[:, 2] < ramp[:, 2]], 1)
            share = " | |" if name == "ramp" else f" {wins[0]:.0%} | {wins[1]:.0%} |"
            numbers = " | ".join(f"{n:.3f}" for n in mine.mean(0))
            lines.append(f"| {kind} | {len(rows)} | {name} | {numbers} |{share}")
    return "\n".join(lines) + "\n"


def stored(folder: Path) -> list[View]:
    """The cached views of a folder as (kind, picture, inverse depth); a photograph's kind is its name."""
    out = []
    for path in sorted(folder.glob("[!.]*.npz")):
        rgb, inverse, kind = cache.load(path)
        out.append((path.stem.rsplit("_", 1)[0] if kind == "photo" else kind, rgb, inverse))
    return out


def latency(estimator: BuiltinDepth, picture: Array, repeats: int = 15) -> tuple[float, float, float]:
    """Median and least seconds on the clock of `repeats` estimates, and median seconds of processor time."""
    estimator.estimate(picture)
    clock, processor = [], []
    for _ in range(repeats):
        begin, used = time.perf_counter(), time.process_time()
        estimator.estimate(picture)
        clock.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
    return float(np.median(clock)), min(clock), float(np.median(processor))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder with held_out and photos_held_out")
    parser.add_argument("--teacher", type=Path, help="tcmonodepth_tcsmallnet_192x320.onnx, to be compared with")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    estimator = BuiltinDepth("cpu", weights=args.weights)
    guesses: dict[str, Guess] = {
        "built-in": lambda rgb: estimator.estimate(rgb).values,
        "ramp": lambda rgb: measures.ramp(rgb.shape[:2]),
    }
    against_teacher = dict(guesses)
    if args.teacher:
        from training.depth.pictures import Teacher

        guesses["teacher"] = Teacher(args.teacher, threads=2).label
    picture, truth = motorcycle()
    parts = [("The motorcycle picture, against the measured disparity", [("motorcycle", picture, truth)], guesses)]
    if args.cache:
        scenes, photos = stored(args.cache / "held_out"), stored(args.cache / "photos_held_out")
        parts.append(("Photographs never trained on, against the teacher", photos, against_teacher))
        parts.append(("Rendered scenes never trained on, against their exact depth", scenes, guesses))
    for title, views, who in parts:
        print(table(title, views, who), flush=True)
    median, least, processor = latency(estimator, picture)
    print(
        f"A picture of {picture.shape[0]} × {picture.shape[1]} takes {median:.3f} s (median of 15; "
        f"least {least:.3f} s; {processor:.3f} s of processor time) on the CPU with {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
