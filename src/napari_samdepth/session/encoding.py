"""Segmenters and encoded planes: computed on the lane, kept in memory and on disk, let go when no longer used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.core.plane import Plane
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.session.choices import Variant, short_name
from napari_samdepth.session.geometry import Shown
from napari_samdepth.session.layers import PlaneSource
from napari_samdepth.session.speed import measured
from napari_samdepth.storage.embeddings import EmbeddingCache, embedding_key

if TYPE_CHECKING:
    from napari_samdepth.core.embedding import Embedding
    from napari_samdepth.models.protocols import Report, Segmenter

EMBEDDINGS_BUDGET = 256 * 2**20
"""Bytes of embeddings kept in memory: 64 planes of SAM's."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoded plane: the image it was read from, where it lies there, its pixels, and what the model made of them.

    Attributes
    ----------
    image
        The layer.
    source
        The plane as it was taken from the layer.
    variant
        The model, and its precision.
    segmenter, embedding
        What decodes prompts, and on what.
    plane
        The pixels as seen.
    """

    image: Image
    source: PlaneSource
    variant: Variant
    segmenter: Segmenter
    embedding: Embedding
    plane: Plane

    @property
    def shown(self) -> Shown:
        """Where the plane lies in the layer's data."""
        return self.source.shown

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The pixels (H, W, 3)."""
        return self.plane.rgb


class EncodedPlanes:
    """The segmenter in use and the embeddings of a session; methods that compute run on the lane's thread."""

    def __init__(self) -> None:
        """Begin with nothing loaded."""
        self._lock = threading.Lock()
        self._segmenters: dict[str, Segmenter] = {}
        self._embeddings: OrderedDict[tuple[str, str], Embedding] = OrderedDict()
        self.cache = EmbeddingCache()

    def loaded(self, variant: Variant) -> bool:
        """Whether a model is in memory."""
        return variant.key in self._segmenters

    def encode(self, image: Image, source: PlaneSource, variant: Variant, report: Report) -> Encoded:
        """Return a plane encoded, from memory where it was encoded before. Raises ModelError, Cancelled."""
        segmenter = self._segmenter(variant, report)
        report(0.0, f"encoding on {segmenter.device}")
        plane = source.render()
        return Encoded(image, source, variant, segmenter, self._embedding(variant, segmenter, plane, report), plane)

    def keep_only(self, variant: Variant) -> None:
        """Let go of all models but this one, and of embeddings that no model here can decode."""
        with self._lock:
            kept = self._segmenters.get(variant.key)
            self._segmenters = {} if kept is None else {variant.key: kept}
            for key in [key for key in self._embeddings if kept is not None and key[0] != kept.model]:
                del self._embeddings[key]

    def clear(self) -> None:
        """Let go of all models and embeddings."""
        with self._lock:
            self._segmenters.clear()
            self._embeddings.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of the embeddings kept in memory."""
        with self._lock:
            return sum(_nbytes(embedding) for embedding in self._embeddings.values())

    def _segmenter(self, variant: Variant, report: Report) -> Segmenter:
        if variant.key not in self._segmenters:
            report(0.0, f"loading {short_name(variant.model)}")
            self._segmenters[variant.key] = load_segmenter(variant.model, report=report, precision=variant.precision)
        return self._segmenters[variant.key]

    def _embedding(self, variant: Variant, segmenter: Segmenter, plane: Plane, report: Report) -> Embedding:
        key = (segmenter.model, plane.key)
        embedding = (
            self._embeddings.get(key)
            or self._from_disk(segmenter, plane)
            or self._encode(variant, segmenter, plane, report)
        )
        with self._lock:
            self._embeddings[key] = embedding
            self._embeddings.move_to_end(key)
            left = sum(_nbytes(kept) for kept in self._embeddings.values()) - EMBEDDINGS_BUDGET
            while left > 0 and len(self._embeddings) > 1:
                left -= _nbytes(self._embeddings.popitem(last=False)[1])
        return embedding

    def _from_disk(self, segmenter: Segmenter, plane: Plane) -> Embedding | None:
        return self.cache.load(embedding_key(plane.key, segmenter.model, segmenter.device), plane.rgb)

    def _encode(self, variant: Variant, segmenter: Segmenter, plane: Plane, report: Report) -> Embedding:
        made = measured("segment", variant.key, segmenter, lambda tell: segmenter.encode(plane.rgb, tell), report)
        # asked after encoding, which may have gone on on the CPU
        self.cache.keep(embedding_key(plane.key, segmenter.model, segmenter.device), made, plane.rgb)
        return made


def _nbytes(embedding: Embedding) -> int:
    return sum(int(array.nbytes) for array in embedding.features.values())
