"""Loading segmenters and encoding planes on the lane; what was encoded before is kept, in memory and on disk."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.core.plane import Plane
from napari_samdepth.models.loading import load_segmenter
from napari_samdepth.session.choices import Variant, short_name
from napari_samdepth.session.geometry import Shown
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.layers import PlaneSource
from napari_samdepth.session.speed import measured
from napari_samdepth.session.state import SessionState
from napari_samdepth.storage.embeddings import EmbeddingCache, embedding_key

if TYPE_CHECKING:
    from napari_samdepth.core.embedding import Embedding
    from napari_samdepth.models.protocols import Report, Segmenter

EMBEDDINGS_KEPT = 8
SEARCHES = ("everything", "words")
"""Kinds of work that go on in the plane they were begun in, whatever is shown."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoded plane: the image it was read from, where it lies there, by which model, and its pixels (H, W, 3)."""

    image: Image
    shown: Shown
    model: str
    segmenter: Segmenter
    embedding: Embedding
    rgb: NDArray[np.uint8]


class Encoding:
    """The segmenters and embeddings of a session.

    Attributes
    ----------
    current
        The plane that clicks are answered on, None until it is encoded.
    variant
        The model asked for last, and its precision.
    given_up
        Loading it was cancelled or failed: it is not tried again, which may be a download, before the user asks.
    """

    def __init__(self, lane: Lane, state: SessionState, fail: Callable[[Exception], None]) -> None:
        """`fail` shows an error to the user."""
        self._lane = lane
        self._state = state
        self._fail = fail
        self._segmenters: dict[str, Segmenter] = {}
        self._embeddings: OrderedDict[tuple[str, str], Embedding] = OrderedDict()
        self._cache = EmbeddingCache()
        self._wanted: Shown | None = None
        self.current: Encoded | None = None
        self.variant = Variant()
        self.given_up = False

    @property
    def slice_key(self) -> tuple[int, ...]:
        """The slice that is encoded or being encoded, () if none."""
        if self.current is None and not self._lane.busy("embed"):
            return ()
        return self._wanted.slice_key if self._wanted is not None else ()

    def request(
        self,
        image: Image,
        source: PlaneSource,
        variant: Variant,
        done: Callable[[], None],
        patience: float = 0.0,
    ) -> None:
        """Encode a plane on the lane and make it `current`; a newer request makes this one void.

        Parameters
        ----------
        image, source
            The image, and its plane.
        variant
            The model, and its precision.
        done
            Called when the plane is encoded.
        patience
            Seconds to wait for a newer request before anything is computed.
        """
        self.current, self._wanted, self.variant, self.given_up = None, source.shown, variant, False
        self._state.phase = "busy"
        self._state.task, self._state.progress = f"loading {short_name(variant.model)}", 0.0

        def work(report: Report) -> Encoded:
            end = time.monotonic() + patience
            while time.monotonic() < end:
                report(0.0, "encoding")
                time.sleep(0.02)
            segmenter = self._segmenter(variant, report)
            report(0.0, f"encoding on {segmenter.device}")
            plane = source.render()
            embedding = self._embedding(variant, segmenter, plane, report)
            return Encoded(image, source.shown, variant.model, segmenter, embedding, plane.rgb)

        def finish(encoded: Encoded) -> None:
            self.current = encoded
            self._state.device = encoded.segmenter.device
            self._state.device_reason = encoded.segmenter.device_reason
            self._state.phase = "ready"
            done()
            if not_kept := self._cache.take_message():
                self._state.say(not_kept, problem=True)

        # a search goes on in its slice; another one is not kept waiting for it
        self._lane.submit("embed", work, finish, self._fail, urgent=self.searching)

    def drop(self) -> None:
        """Forget the current plane and any request under way; searches go on in theirs."""
        self._lane.cancel("embed")
        self.current = self._wanted = None

    def end_searches(self) -> str:
        """Cancel the searches under way; return a sentence on it, "" if there was none."""
        if not self.searching:
            return ""
        self._lane.cancel(*SEARCHES)
        return "The search under way was ended; start it anew when the image is encoded."

    @property
    def searching(self) -> bool:
        """Whether a search of the whole image or for words is under way."""
        return self._lane.busy(*SEARCHES)

    def give_up(self) -> None:
        """What was under way was cancelled or failed."""
        self.given_up = self.variant.key not in self._segmenters

    @property
    def under_way(self) -> bool:
        """Whether a plane is being encoded."""
        return self._lane.busy("embed")

    @property
    def instant(self) -> bool:
        """Whether encoding is quick enough to be done unasked when the slice changes."""
        return self.variant.model == "builtin" and self.variant.key in self._segmenters

    def _segmenter(self, variant: Variant, report: Report) -> Segmenter:
        if variant.key not in self._segmenters:
            report(0.0, f"loading {short_name(variant.model)}")
            self._segmenters[variant.key] = load_segmenter(variant.model, report=report, precision=variant.precision)
        return self._segmenters[variant.key]

    def _embedding(self, variant: Variant, segmenter: Segmenter, plane: Plane, report: Report) -> Embedding:
        key = (segmenter.model, plane.key)
        if key not in self._embeddings:
            self._embeddings[key] = self._from_disk(segmenter, plane) or self._encode(variant, segmenter, plane, report)
        self._embeddings.move_to_end(key)
        while len(self._embeddings) > EMBEDDINGS_KEPT:
            self._embeddings.popitem(last=False)
        return self._embeddings[key]

    def _from_disk(self, segmenter: Segmenter, plane: Plane) -> Embedding | None:
        return self._cache.load(embedding_key(plane.key, segmenter.model, segmenter.device), plane.rgb)

    def _encode(self, variant: Variant, segmenter: Segmenter, plane: Plane, report: Report) -> Embedding:
        made = measured("segment", variant.key, segmenter, lambda tell: segmenter.encode(plane.rgb, tell), report)
        # asked after encoding, which may have gone on on the CPU
        self._cache.keep(embedding_key(plane.key, segmenter.model, segmenter.device), made, plane.rgb)
        return made
