"""Measure the shipped depth estimator: `python -m training.depth.evaluate --cache DIR --opencv DIR`.

Works through the adapter that users call.  Prints Markdown tables: measured frames (the motorcycle of scikit-image, the
Aloe of Debian's opencv-doc) and held-out rendered scenes with their boundaries and the order of touching regions;
held-out photographs against the teacher; the check set marked by hand; and the time an estimate takes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from skimage import data

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.models.builtin.depth_builtin import WEIGHTS, BuiltinDepth
from training.depth import cache, edges, marked, measures

Array = np.ndarray[Any, Any]
Guess = Callable[[Array], DepthMap]
PRINCIPAL_POINTS = 31.086
"""Pixels between the principal points of the motorcycle pair: inverse depth is proportional to disparity + this."""
ALOE = "usr/share/doc/opencv-doc/examples/data"


class Frame(NamedTuple):
    """Its kind, the picture (H, W, 3) uint8, inverse depth (H, W) up to a factor, NaN where it is unknown."""

    kind: str
    rgb: Array
    truth: Array


def motorcycle() -> Frame:
    """scikit-image's pair, (500, 741), measured."""
    left, _, disparity = data.stereo_motorcycle()
    return Frame("motorcycle", left, np.where(np.isfinite(disparity), disparity + PRINCIPAL_POINTS, np.nan))


def aloe(folder: Path) -> Frame:
    """The Aloe of Debian's opencv-doc unpacked in `folder`, (1110, 1282), measured; 0 is unknown."""
    with Image.open(folder / ALOE / "aloeL.jpg") as image:
        rgb = np.asarray(image.convert("RGB"))
    with Image.open(folder / ALOE / "aloeGT.png") as image:
        disparity = np.asarray(image.convert("L"), np.float64)
    return Frame("Aloe", rgb, np.where(disparity > 0, disparity, np.nan))


def stored(folder: Path, limit: int = 10**6) -> list[Frame]:
    """The cached views of a folder; a photograph's kind is its name.  Of rendered depth the sky is far, not unknown."""
    out = []
    for path in sorted(folder.glob("[!.]*.npz"))[:limit]:
        rgb, inverse, kind = cache.load(path)
        out.append(Frame(path.stem.rsplit("_", 1)[0] if kind == "photo" else kind, rgb, np.maximum(inverse, 1e-4)))
    return out


def ramp(rgb: Array) -> DepthMap:
    """The guess "lower rows are nearer"."""
    return DepthMap(np.asarray(measures.ramp(rgb.shape[:2])), "inverse", source="ramp")


def table(title: str, frames: list[Frame], guesses: dict[str, Guess], against_teacher: bool = False) -> str:
    """One Markdown table, a row for each kind of frame and each guess."""
    head = "| frames | n | guess | Spearman | AbsRel | error / range |"
    if not against_teacher:
        head += " pairs | order | contrast | boundary F1 | labels right / wrong / unsure |"
    lines = [f"{title}\n", head, "|" + "---|" * (head.count("|") - 1)]
    kinds = [*dict.fromkeys(frame.kind for frame in frames)]
    pairs = [None if against_teacher else edges.touching(f.truth, f.rgb) for f in frames]
    for name, guess in guesses.items():
        rows = []
        for frame, touching in zip(frames, pairs, strict=True):
            depth = guess(frame.rgb)
            line: list[Any] = [*measures.score(depth.values, frame.truth)]
            if touching is not None:
                right, contrast = edges.order(depth.values, touching)
                f1, labels = edges.boundary_f1(depth.values, frame.truth), edges.label_order(depth, touching)
                line += [right, contrast, f1, labels]
            rows.append(line)
        several = len(kinds) > 1 and len(frames) > 2
        for kind in ["all", *(() if against_teacher else kinds)] if several else kinds:
            mine = [row for row, frame in zip(rows, frames, strict=True) if kind in ("all", frame.kind)]
            numbers = " | ".join(f"{np.mean([row[k] for row in mine]):.3f}" for k in range(3))
            line_ = f"| {kind} | {len(mine)} | {name} | {numbers} |"
            if not against_teacher:
                right = np.concatenate([row[3] for row in mine])
                weight = np.array([len(row[3]) for row in mine])[:, None]
                said = (np.array([row[6] for row in mine]) * weight).sum(0) / max(weight.sum(), 1)
                contrast = float(np.nanmean([row[4] for row in mine]))
                f1 = float(np.nanmean([row[5] for row in mine]))
                line_ += f" {len(right)} | {right.mean():.3f} | {contrast:.3f} | {f1:.3f} |"
                line_ += f" {said[0]:.2f} / {said[1]:.2f} / {said[2]:.2f} |"
            lines.append(line_)
    return "\n".join(lines) + "\n"


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
    parser.add_argument("--cache", type=Path, help="folder with scenes_held_out, meshes_held_out, photos_held_out")
    parser.add_argument("--opencv", type=Path, help="folder in which Debian's opencv-doc is unpacked")
    parser.add_argument("--pictures", type=Path, help="folder of unpacked Debian packages, for all of the check set")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--start", type=Path, help="weights to be compared with, such as those of an earlier version")
    parser.add_argument("--limit", type=int, default=160, help="scenes of each kind")
    args = parser.parse_args()
    estimator = BuiltinDepth("cpu", weights=args.weights)
    guesses: dict[str, Guess] = {"built-in": estimator.estimate}
    if args.start:
        guesses["start"] = BuiltinDepth("cpu", weights=args.start).estimate
    guesses["ramp"] = ramp
    frames = [motorcycle()] + ([aloe(args.opencv)] if args.opencv else [])
    print(table("Measured frames, never trained on", frames, guesses), flush=True)
    for name, title in (
        ("meshes_held_out", "Mesh scenes of models, cut-outs and textures never trained on"),
        ("scenes_held_out", "Ray-cast scenes never trained on"),
    ):
        found = stored(args.cache / name, args.limit) if args.cache else []
        if found:
            print(table(title, found, guesses), flush=True)
    photos = stored(args.cache / "photos_held_out") if args.cache else []
    if photos:
        print(table("Photographs never trained on, against the teacher", photos, guesses, True), flush=True)
    for name, guess in guesses.items():
        print(f"Check set marked by hand, {name}: {marked.judge(guess, args.pictures)}")
    median, least, processor = latency(estimator, frames[0].rgb)
    print(
        f"\nA picture of 500 × 741 takes {median:.3f} s (median of 15; least {least:.3f} s; {processor:.3f} s of "
        f"processor time) on the CPU with {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
