"""micro-sam's functions beside ours, where it is installed (``pip install micro-sam``); left out where it is not.

Its embedding of a picture against our encoding, and its AutomaticMaskGenerator against `segment_everything`, with the
same weights, embedding and clicks as in `benchmarks.everything`. No floor is set: the rows only tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.everything import agreement, checkpoint, features, sides
from benchmarks.networks import picture
from benchmarks.table import Case, Options, Row, Skipped, measure
from napari_samdepth.core.maskset import MaskSet
from napari_samdepth.models.runtime.device import Device, torch_module
from napari_samdepth.models.sam.checkpoint import build_sam
from napari_samdepth.models.sam.segmenter import SamSegmenter
from napari_samdepth.models.weights.checkpoint import read_weights


def microsam() -> tuple[Any, Any]:
    """Return its modules util and instance_segmentation."""
    torch_module()
    try:
        from micro_sam import instance_segmentation, util
    except ImportError as error:
        raise Skipped("micro-sam is not installed") from error
    return util, instance_segmentation


def network(options: Options) -> Any:
    """Return the planted vit_b."""
    path = checkpoint(options.folder)
    return build_sam("vit_b", read_weights(path), path).to(options.device)


def embedding(options: Options) -> Row:
    """`precompute_image_embeddings` and `encode` on a 1024 x 768 picture."""
    util, _ = microsam()
    from segment_anything import SamPredictor

    sam, rgb = network(options), picture(768, 1024)
    predictor = SamPredictor(sam)
    segmenter = SamSegmenter(sam, "vit_b", "vit_b:0", Device(options.device, ""))

    def compare(theirs: Any, found: Any) -> str:
        difference = float(np.linalg.norm(found - theirs) / np.linalg.norm(theirs))
        assert difference <= 1e-5, f"features differ by {difference:.1e}"
        return f"features differ by {difference:.1e}"

    # it stretches each channel to 0-255 first; ours encodes what comes of that
    stretched = util._to_image(rgb)
    case = Case(
        lambda: np.asarray(util.precompute_image_embeddings(predictor, rgb, ndim=2, verbose=False)["features"])[0],
        lambda: segmenter.encode(stretched).features["image"],
        compare,
    )
    return measure("micro-sam-encode", "precompute_image_embeddings", 0.0, case, options.runs)


def masks(options: Options) -> Row:
    """Its AutomaticMaskGenerator and `segment_everything`, from the same embedding to run-length encodings."""
    _, instance_segmentation = microsam()
    from segment_anything import SamPredictor

    predictor = SamPredictor(network(options))
    generator = instance_segmentation.AutomaticMaskGenerator(predictor, points_per_side=options.points)
    shape = (options.side, options.side)
    known = {"features": features().numpy(), "input_size": (1024, 1024), "original_size": shape}
    blank = np.zeros((*shape, 3), np.uint8)

    def peer() -> Any:
        generator.initialize(blank, image_embeddings=known)
        return generator.generate(output_mode="rle")

    def compare(theirs: list[dict[str, Any]], answer: tuple[MaskSet, Any]) -> str:
        least, mean = agreement(theirs, answer[0])
        note = f"{len(theirs)} and {len(answer[0])} masks; best IoU at least {least:.4f}, mean {mean:.4f}"
        assert abs(len(theirs) - len(answer[0])) <= 0.01 * len(theirs), note
        assert least >= 0.99, note
        return note

    case = Case(peer, sides(options)[1], compare)
    return measure("micro-sam-masks", "its AutomaticMaskGenerator", 0.0, case, options.runs)


ROWS = {"micro-sam-encode": embedding, "micro-sam-masks": masks}
