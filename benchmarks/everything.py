"""Whole-image masks: `segment_everything` against `segment_anything.SamAutomaticMaskGenerator`.

A vit_b in the real format: random image encoder; prompt encoder and mask decoder of the built-in model, which were
trained from SAM's own. Random decoders would give nothing that passes the filters; these give masks of every size, of
which so many pass as on a photograph once their scores and steepness are raised (`PROMISE`, `STEEPNESS`: the built-in
model is more modest than SAM). The embedding, which no side's time holds, is the built-in encoder's of a mosaic of
coins at four scales, for an image of 2048 x 2048.

Both sides give run-length encodings: the peer's other formats would cost it more.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Case, Options, Row, grown, measure, memory
from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.maskset import FoundMask, MaskSet
from napari_samdepth.models.auto_masks.everything import segment_everything
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.models.runtime.device import Device, torch_module
from napari_samdepth.models.sam.checkpoint import build_sam
from napari_samdepth.models.sam.segmenter import SamSegmenter
from napari_samdepth.models.weights.checkpoint import read_weights

PROMISE, STEEPNESS = 0.5, 20.0
PEER = "SamAutomaticMaskGenerator"


def checkpoint(folder: Path) -> Path:
    """Return the path of a vit_b checkpoint as described above, written on first use."""
    torch = torch_module()
    from segment_anything import sam_model_registry

    path = folder / "planted_vit_b.pth"
    if path.exists():
        return path
    torch.manual_seed(0)
    trained = load_segmenter("builtin", device="cpu").network.state_dict()  # type: ignore[attr-defined]
    weights = sam_model_registry["vit_b"]().state_dict()
    weights |= {name: value for name, value in trained.items() if not name.startswith("image_encoder")}
    weights = {name: value for name, value in weights.items() if not name.startswith("pixel_")}
    for number in range(4):
        for part in ("weight", "bias"):
            weights[f"mask_decoder.output_hypernetworks_mlps.{number}.layers.2.{part}"] *= STEEPNESS
    weights["mask_decoder.iou_prediction_head.layers.2.bias"] += PROMISE
    torch.save(weights, path)
    return path


def mosaic(side: int = 512) -> NDArray[np.uint8]:
    """Return coins at four scales in the four quarters of a picture, RGB uint8 (side, side, 3)."""
    from skimage import data
    from skimage.transform import resize

    quarter = side // 2
    quarters = []
    for count in (1, 2, 3, 1):
        tile = resize(data.coins(), (-(-quarter // count),) * 2, anti_aliasing=True)
        quarters.append(np.tile(tile, (count, count))[:quarter, :quarter])
    quarters[3] = quarters[3][::-1, ::-1]
    grey = np.block([quarters[:2], quarters[2:]])
    return np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)


@cache
def features() -> Any:
    """Return the built-in encoder's (1, 256, 64, 64) of the mosaic, which is twice its usual canvas."""
    torch = torch_module()
    sam = load_segmenter("builtin", device="cpu").network  # type: ignore[attr-defined]
    with torch.inference_mode():
        pixels = torch.as_tensor(mosaic()).permute(2, 0, 1)[None]
        return sam.image_encoder((pixels - sam.pixel_mean) / sam.pixel_std)


def sides(options: Options, precision: Any = "float32") -> tuple[Any, Any]:
    """Return the peer's and our search as functions; ours gives a MaskSet and its records."""
    from segment_anything import SamAutomaticMaskGenerator

    path = checkpoint(options.folder)
    sam = build_sam("vit_b", read_weights(path), path).to(options.device)
    generator = SamAutomaticMaskGenerator(sam, points_per_side=options.points, output_mode="uncompressed_rle")
    local = features().to(options.device)
    shape = (options.side, options.side)
    predictor = generator.predictor

    def set_image(image: Any) -> None:
        predictor.features, predictor.is_image_set = local, True
        predictor.original_size, predictor.input_size = shape, (1024, 1024)

    predictor.set_image = set_image
    picture = np.zeros((*shape, 3), np.uint8)
    segmenter = SamSegmenter(sam, "vit_b", "vit_b:0", Device(options.device, ""), precision=precision)
    embedding = Embedding({"image": features()[0].numpy()}, shape, (1024, 1024), segmenter.model, {"image": local})

    def ours() -> tuple[MaskSet, list[dict[str, Any]]]:
        found = segment_everything(segmenter, embedding, points_per_side=options.points)
        return found, found.records("rle")

    return lambda: generator.generate(picture), ours


def agreement(theirs: list[dict[str, Any]], found: MaskSet) -> tuple[float, float]:
    """Return the smallest and the mean over all masks, theirs and ours, of the best IoU with one of the other side."""
    from segment_anything.utils.amg import rle_to_mask

    stock = []
    for record in theirs:
        col, row, width, height = (int(value) for value in record["bbox"])
        mask = rle_to_mask(record["segmentation"])[row : row + height + 1, col : col + width + 1]
        stock.append(Patch(mask, (row, col)))
    mine = [mask.patch for mask in found.masks]
    table = np.array([[overlap(one, other) for other in mine] for one in stock])
    best = np.concatenate([table.max(axis=0), table.max(axis=1)])
    return float(best.min()), float(best.mean())


def overlap(one: Patch, other: Patch) -> float:
    """Return the IoU of two masks."""
    low = np.maximum(one.box[:2], other.box[:2])
    high = np.minimum(one.box[2:], other.box[2:])
    if (high <= low).any():
        return 0.0
    parts = [
        patch.mask[
            low[0] - patch.origin[0] : high[0] - patch.origin[0], low[1] - patch.origin[1] : high[1] - patch.origin[1]
        ]
        for patch in (one, other)
    ]
    common = np.count_nonzero(parts[0] & parts[1])
    return float(common / (one.area + other.area - common))


def search(options: Options, precision: Any) -> Row:
    """Peer and ours on the same embedding: every mask has a partner with IoU >= 0.99, counts agree within 1 %.

    With "bfloat16" the encoder, which is not measured here, is coarser; the search is the same.
    """
    peer, ours = sides(options, precision)

    def compare(theirs: list[dict[str, Any]], answer: tuple[MaskSet, list[dict[str, Any]]]) -> str:
        found, records = answer
        areas = sorted(mask.area for mask in found.masks)
        least, mean = agreement(theirs, found)
        note = (
            f"{len(theirs)} and {len(records)} masks of {areas[0]:,} to {areas[-1]:,} px from "
            f"{options.points}² clicks on {options.side}²; best IoU at least {least:.4f}, mean {mean:.4f}"
        )
        assert abs(len(records) - len(theirs)) <= 0.01 * len(theirs), note
        assert least >= 0.99, note
        return note

    name, floor = ("everything", 2.0) if precision == "float32" else ("everything-bf16", 3.0)
    return measure(name, PEER, floor, Case(peer, ours, compare), options.runs)


def search_memory(options: Options, variant: str | None = None) -> Row | int:
    """Extra peak memory of a search; with `variant` that of one side, for a process of its own."""
    if variant is None:
        return memory("everything-memory", PEER, 1 / 3, options)
    small = Options(options.folder, device=options.device, points=8, side=options.side)
    peer, ours = sides(small)
    return grown(peer if variant == "peer" else ours)


def thousand(side: int) -> MaskSet:
    """Return 1,000 found masks: discs of every size in a picture of `side`, scores and stability spread, one crop."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(1000):
        radius = float(side * np.exp(rng.uniform(np.log(0.004), np.log(0.12))))
        centre = rng.uniform(radius, side - radius, 2)
        reach = int(radius) + 1
        rows, cols = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        patch = Patch(np.hypot(rows, cols) < radius, (int(centre[0]) - reach, int(centre[1]) - reach))
        score, stable = rng.uniform(0.6, 1.0, 2)
        point = (float(centre[0]), float(centre[1]))
        found = FoundMask.pack(patch, float(score), float(stable), point, (0, 0, side, side))
        assert found is not None
        masks.append(found)
    return MaskSet(tuple(masks), (side, side))


def refilter(side: int, options: Options) -> Row:
    """Filter 1,000 masks anew, all of which stay, to the pixels of a Labels layer, as a slider does; milliseconds."""
    from napari.layers import Labels

    found = thousand(side)
    layer = Labels(np.zeros((side, side), np.int32))

    def run() -> int:
        kept = found.filtered(0.6, 0.6, box_nms_thresh=0.99)
        layer.data[...] = kept.labels()
        layer.refresh()
        return len(kept)

    kept, times = run(), []
    for _ in range(max(options.runs, 5)):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    median = float(np.median(times))
    note = f"{kept} of 1,000 masks written on {side}², milliseconds by the clock"
    return Row(f"refilter-{side}", "(none: at most 100 ms)", 100, median, note=note, at_most=True)


ROWS = {
    "everything": lambda options: search(options, "float32"),
    "everything-bf16": lambda options: search(options, "bfloat16"),
    "everything-memory": search_memory,
    "refilter-1024": lambda options: refilter(1024, options),
    "refilter-2048": lambda options: refilter(2048, options),
}
VARIANTS = {"everything-memory": search_memory}
