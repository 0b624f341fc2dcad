"""Opening an image again: from the embedding cache on disk, against encoding it, and against micro-sam's reopening.

Ours is all that happens from the pixels on: the identity of the plane, the key, reading, the checksum, the embedding.
micro-sam's `precompute_image_embeddings` finds what it wrote before at a path that the user names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.microsam import microsam
from benchmarks.networks import picture, random_sam
from benchmarks.table import Case, Options, Row, measure
from napari_samdepth.core.plane import Plane
from napari_samdepth.models.runtime.device import Device
from napari_samdepth.models.sam.segmenter import SamSegmenter
from napari_samdepth.storage.embeddings import EmbeddingCache, embedding_key


def reopened(segmenter: SamSegmenter, rgb: np.ndarray[Any, Any], folder: Path) -> Callable[[], Any]:
    """Keep the embedding of a picture, and return what opens it again."""
    cache = EmbeddingCache(folder, 10**9)

    def key(plane: Plane) -> str:
        return embedding_key(plane.key, segmenter.model, segmenter.device)

    cache.keep(key(Plane(rgb)), segmenter.encode(rgb), rgb)
    assert cache.flush()

    def run() -> Any:
        found = cache.load(key(Plane(rgb)), rgb)
        assert found is not None
        return found.features["image"]

    return run


def reopen(options: Options) -> Row:
    """Encoding a 1024 x 768 picture with vit_b, and taking its embedding from the disk."""
    rgb = picture(768, 1024)
    segmenter = SamSegmenter(random_sam().to(options.device), "vit_b", "vit_b:0", Device(options.device, ""))
    case = Case(
        lambda: segmenter.encode(rgb).features["image"],
        reopened(segmenter, rgb, options.folder / "reopen"),
        _identical,
    )
    return measure("reopen", "encoding it again", 100.0, case, options.runs)


def reopen_microsam(options: Options) -> Row:
    """`precompute_image_embeddings` that finds its own file, and ours."""
    util, _ = microsam()
    from segment_anything import SamPredictor

    sam, rgb = random_sam().to(options.device), picture(768, 1024)
    predictor, path = SamPredictor(sam), str(options.folder / "embeddings.zarr")
    predictor.model_type = predictor.model_name = "vit_b"
    stretched = util._to_image(rgb)
    segmenter = SamSegmenter(sam, "vit_b", "vit_b:0", Device(options.device, ""))

    def peer() -> Any:
        found = util.precompute_image_embeddings(predictor, rgb, save_path=path, ndim=2, verbose=False)
        return np.asarray(found["features"])[0]

    peer()
    ours = reopened(segmenter, stretched, options.folder / "reopen-microsam")
    return measure("reopen-micro-sam", "precompute_image_embeddings", 0.0, Case(peer, ours, _close), options.runs)


def _identical(theirs: Any, found: Any) -> str:
    assert np.array_equal(theirs, found), "features differ"
    return "identical"


def _close(theirs: Any, found: Any) -> str:
    difference = float(np.linalg.norm(found - theirs) / np.linalg.norm(theirs))
    assert difference <= 1e-5, f"features differ by {difference:.1e}"
    return f"features differ by {difference:.1e}"


ROWS = {"reopen": reopen, "reopen-micro-sam": reopen_microsam}
