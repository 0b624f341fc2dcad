"""How good the shipped segmenter is, measured through the public protocol, as tables for docs/.

``python -m training.segmenter.evaluate nuclei --data ../shared/data/dsb2018`` and likewise ``baselines``, ``coins``,
``everything`` (whole-image masks), ``bfloat16`` (what it costs), ``scenes`` (``--scenes`` FOLDER of
``training.segmenter.rendered``), ``drawn`` (scribbles and a lasso, on nuclei and scenes), ``motorcycle`` (writes a
figure) and ``times``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.builtin.segmenter import WEIGHTS, BuiltinSegmenter, load_builtin
from napari_samdepth.models.runtime.device import torch_module
from training.segmenter import baselines, whole
from training.segmenter.drawn import drawn
from training.segmenter.judge import Verdict, centre, judge, overlap
from training.segmenter.paint import Array

HEAD = "| | objects | 1 click | best of 3 | 2 clicks | 3 clicks | 4 clicks | 5 clicks | box | ≥ .5 at 1 | ≥ .8 at 1 |"
# parts of the motorcycle picture, (row, col), outlined by hand to within a few pixels
MOTORCYCLE = {
    "tank": [
        (245, 328), (228, 335), (212, 352), (195, 370), (180, 385), (170, 405), (163, 430), (163, 455), (168, 475),
        (178, 488), (195, 490), (215, 480), (235, 465), (240, 440), (240, 410), (243, 380), (248, 350),
    ],
    "seat": [
        (162, 150), (165, 180), (170, 205), (168, 230), (180, 262), (195, 290), (188, 330), (195, 358), (205, 340),
        (220, 310), (240, 275), (255, 265), (243, 245), (215, 215), (205, 175), (195, 150),
    ],
    "front wheel": [
        (325, 514), (345, 516), (370, 522), (395, 537), (415, 558), (433, 585), (447, 615), (449, 640), (440, 660),
        (420, 675), (395, 682), (370, 680), (345, 668), (325, 650), (312, 632), (305, 610), (300, 585), (297, 562),
        (300, 540), (310, 522),
    ],
    "headlamp": [(122, 535), (126, 550), (138, 560), (155, 563), (172, 556), (184, 542), (187, 528), (178, 515),
                 (160, 508), (142, 512), (129, 522)],
    "crate": [(182, 548), (182, 615), (215, 608), (250, 602), (250, 560), (235, 553)],
    "carton": [(185, 616), (185, 682), (275, 680), (275, 614)],
}  # fmt: skip
WHAT = ("nuclei", "drawn", "baselines", "everything", "bfloat16", "coins", "scenes", "motorcycle", "times")
BINS = ((0, 10), (10, 16), (16, 24), (24, 40), (40, 10**6))


def nuclei(root: Path, part: str, per_image: int) -> Iterator[tuple[str, Array, list[Array]]]:
    """Kind, picture and up to ``per_image`` seeded objects of each image in a part of the split."""
    for _, kind, rgb, labels in whole.pictures(root, part):
        ids = np.random.default_rng(0).permutation(np.unique(labels)[1:])[:per_image]
        yield kind, rgb, [labels == i for i in ids]


def coins() -> Iterator[tuple[str, Array, list[Array]]]:
    """scikit-image's coins with the labels of ``training.segmenter.label_coins``."""
    from skimage import data

    from training.segmenter.label_coins import coin_labels

    labels = coin_labels()
    yield "coins", np.stack([data.coins()] * 3, -1), [labels == i for i in range(1, labels.max() + 1)]


def scenes(folder: Path, first: int, last: int) -> Iterator[tuple[str, Array, list[Array]]]:
    """Rendered scenes ``first`` to ``last`` (excluded) of a folder, objects of at least 80 visible pixels."""
    for path in sorted(folder.glob("*.npz")):
        if first <= int(path.stem) < last:
            with np.load(path) as sample:
                rgb, labels = sample["rgb"], sample["labels"]
            objects = [labels == i for i in np.unique(labels)[1:]]
            yield "scenes", rgb, [truth for truth in objects if truth.sum() >= 80]


def measure(
    segmenter: BuiltinSegmenter, pictures: Iterator[tuple[str, Array, list[Array]]]
) -> list[tuple[str, float, Verdict]]:
    """(kind, diameter of the disc of equal area, verdict) of every object."""
    found = []
    for kind, rgb, objects in pictures:
        embedding = segmenter.encode(rgb)
        for truth in objects:
            diameter = float(np.sqrt(4 / np.pi * truth.sum()))
            found.append((kind, diameter, judge(segmenter, embedding, truth)))
    return found


def row(name: str, verdicts: list[Verdict]) -> str:
    """One line of the table under ``HEAD``."""
    clicks = np.array([v.clicks for v in verdicts])
    cells = [clicks[:, 0].mean(), np.mean([v.oracle for v in verdicts]), *clicks[:, 1:].mean(0)]
    cells += [np.mean([v.box for v in verdicts]), (clicks[:, 0] >= 0.5).mean(), (clicks[:, 0] >= 0.8).mean()]
    return f"| {name} | {len(verdicts)} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


def table(found: list[tuple[str, float, Verdict]], sizes: bool) -> str:
    """Markdown: all, by kind, by diameter."""
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1), row("all", [v for _, _, v in found])]
    kinds = sorted({kind for kind, _, _ in found})
    if len(kinds) > 1:
        lines += [row(kind, [v for k, _, v in found if k == kind]) for kind in kinds]
    for low, high in BINS if sizes else ():
        some = [v for _, d, v in found if low <= d < high]
        if some:
            lines.append(row(f"{low}–{high} px" if high < 10**6 else f"≥ {low} px", some))
    return "\n".join(lines)


def baseline_table(root: Path, part: str, per_image: int, walks: int) -> str:
    """Otsu with watershed on the same objects, random walker on the first ``walks`` objects of each image."""
    under, walked = [], []
    for _, rgb, objects in nuclei(root, part, per_image):
        labels = baselines.otsu_watershed(rgb)
        under += [baselines.region_under(labels, truth) for truth in objects]
        walked += [baselines.random_walker_clicks(rgb, truth, 5) for truth in objects[:walks]]
    lines = ["| | objects | 1 click | 3 clicks | 5 clicks | ≥ .5 at 1 | ≥ .8 at 1 |", "|" + "---|" * 7]
    one, several = np.array(under), np.array(walked)
    lines.append(
        f"| Otsu + watershed, region under the click | {len(one)} | {one.mean():.3f} | | | "
        f"{(one >= 0.5).mean():.3f} | {(one >= 0.8).mean():.3f} |"
    )
    first, third, fifth = several[:, 0], several[:, 2], several[:, 4]
    lines.append(
        f"| random walker, same clicks | {len(first)} | {first.mean():.3f} | {third.mean():.3f} | {fifth.mean():.3f} | "
        f"{(first >= 0.5).mean():.3f} | {(first >= 0.8).mean():.3f} |"
    )
    return "\n".join(lines)


def precision_table(exact: BuiltinSegmenter, coarse: BuiltinSegmenter, root: Path, part: str, per_image: int) -> str:
    """How far the best masks of first clicks are from those that ``coarse``, its encoder in bfloat16, gives."""
    torch = torch_module()
    encoder: Any = coarse.network.image_encoder
    plain = encoder.forward

    def encode(pixels: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return plain(pixels).float()

    encoder.forward = encode
    found = []
    for _, rgb, objects in nuclei(root, part, per_image):
        embeddings = exact.encode(rgb), coarse.encode(rgb)
        for truth in objects:
            click = Prompts([centre(truth)])
            pairs = zip((exact, coarse), embeddings, strict=True)
            masks = [segmenter.decode(known, click).patch().full(truth.shape) for segmenter, known in pairs]
            found.append([overlap(*masks), *(overlap(mask, truth) for mask in masks)])
    apart, first, second = np.array(found).T
    return (
        f"{len(found)} objects, best mask after one click, encoder in bfloat16 against float32: mean IoU "
        f"{apart.mean():.4f}, median {np.median(apart):.4f}, {(apart >= 0.9).mean():.1%} above 0.9; "
        f"with the labels {second.mean():.4f} against {first.mean():.4f}"
    )


def _median(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    spent = []
    for _ in range(repeats):
        began = clock()
        run()
        spent.append(clock() - began)
    return 1e3 * float(np.median(spent))


def times(segmenter: BuiltinSegmenter, clock: Callable[[], float]) -> str:
    """Medians in milliseconds: encoding, a first click where nobody has looked yet, and the click after."""
    head = "| image | encode | first click | refining click |"
    lines = [f"{torch_module().get_num_threads()} threads", "", head, "|---|---|---|---|"]
    for side in (512, 1024, 4096):
        cells = " | ".join(f"{cell:.0f}" for cell in _times(segmenter, side, clock))
        lines.append(f"| {side} × {side} | {cells} |")
    return "\n".join(lines)


def _times(segmenter: BuiltinSegmenter, side: int, clock: Callable[[], float]) -> list[float]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    blobs = ((y % 40 - 20) ** 2 + (x % 40 - 20) ** 2 < 150).astype(np.uint8) * 140
    rgb = np.repeat((blobs + rng.integers(0, 60, (side, side), dtype=np.uint8))[..., None], 3, 2)
    embedding = segmenter.encode(rgb)
    spots = iter([(r * 40 + 20, c * 40 + 20) for r, c in rng.integers(1, side // 40 - 1, (100, 2))])

    def first() -> object:
        return segmenter.decode(embedding, Prompts([next(spots)])).patch()

    encode = _median(lambda: segmenter.encode(rgb), 7, clock)
    first()
    click = _median(first, 15, clock)
    at = next(spots)
    seen = segmenter.decode(embedding, Prompts([at]))
    more = Prompts([at, (at[0] + 3, at[1])], mask=seen.feedback[seen.best])
    return [encode, click, _median(lambda: segmenter.decode(embedding, more).patch(), 15, clock)]


def motorcycle(segmenter: BuiltinSegmenter, figure: Path) -> str:
    """Write a figure of larger parts of scikit-image's motorcycle, outlined roughly by hand, each from five clicks."""
    from matplotlib.figure import Figure
    from skimage import data
    from skimage.draw import polygon2mask

    rgb = np.ascontiguousarray(data.stereo_motorcycle()[0][..., :3])
    embedding = segmenter.encode(rgb)
    drawn = Figure(figsize=(12, 6.4), dpi=80, layout="constrained")
    lines = ["| part | 1 click | 2 clicks | 3 clicks | 4 clicks | 5 clicks | box |", "|" + "---|" * 7]
    panels = drawn.subplots(2, 3).ravel()
    for axes, (name, outline) in zip(panels, MOTORCYCLE.items(), strict=True):
        truth = polygon2mask(rgb.shape[:2], np.array(outline))
        verdict = judge(segmenter, embedding, truth)
        cells = " | ".join(f"{value:.2f}" for value in (*verdict.clicks, verdict.box))
        lines.append(f"| {name} | {cells} |")
        axes.imshow(np.where(verdict.mask[..., None], rgb // 2 + np.array([0, 110, 127], np.uint8), rgb))
        axes.contour(truth, [0.5], colors="yellow", linewidths=0.8)
        for (r, c), label in verdict.made:
            axes.plot(c, r, "o" if label else "X", color="lime" if label else "red", markeredgecolor="black")
        axes.set_title(f"{name}: IoU {verdict.clicks[-1]:.2f} after {len(verdict.made)} clicks", fontsize=10)
        axes.set_axis_off()
    drawn.savefig(figure)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.evaluate", description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/dsb2018"))
    parser.add_argument("--part", default="test", choices=["test", "validation"])
    parser.add_argument("--per-image", type=int, default=6)
    parser.add_argument("--walks", type=int, default=2)
    parser.add_argument("--scenes", type=Path, default=Path("scenes"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/motorcycle-parts.png"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a machine that is busy")
    parser.add_argument("--keep", type=Path, help="everything: scores by image, to go on with when a run is cut")
    options = parser.parse_args(arguments)
    if options.what == "baselines":
        print(baseline_table(options.data, options.part, options.per_image, options.walks))
        return
    segmenter = load_builtin("cpu", weights=options.weights)
    torch_module().set_num_threads(options.threads)
    if options.what == "nuclei":
        print(table(measure(segmenter, nuclei(options.data, options.part, options.per_image)), sizes=True))
    elif options.what == "drawn":
        print(drawn(segmenter, nuclei(options.data, options.part, options.per_image)))
        print("\n" + drawn(segmenter, scenes(options.scenes, 0, 1000)))
    elif options.what == "everything":
        print(whole.everything_table(segmenter, options.data, options.part, whole.Setting(), options.keep))
    elif options.what == "bfloat16":
        coarse = load_builtin("cpu", weights=options.weights)
        print(precision_table(segmenter, coarse, options.data, options.part, options.per_image))
    elif options.what == "coins":
        found = measure(segmenter, coins())
        good = sum(max(v.clicks[:3]) >= 0.85 for _, _, v in found)
        print(table(found, sizes=False) + f"\n\n{good} of {len(found)} coins with IoU ≥ 0.85 within three clicks")
    elif options.what == "scenes":
        test = (0, 1000) if options.part == "test" else (1000, 10**6)
        print(table(measure(segmenter, scenes(options.scenes, *test)), sizes=False))
    elif options.what == "motorcycle":
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        print(motorcycle(segmenter, options.figure))
    else:
        print(times(segmenter, time.process_time if options.clock == "cpu" else time.perf_counter))


if __name__ == "__main__":
    main()
