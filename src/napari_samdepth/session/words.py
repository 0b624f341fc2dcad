"""Words: boxes found on the lane, shown in `SAM boxes` to be edited, and made into labels in one step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray
from skimage.segmentation import relabel_sequential

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.detections import Detections, painted
from napari_samdepth.models.loading import load_text_detector
from napari_samdepth.models.protocols import Report, TextDetector
from napari_samdepth.models.text import THRESHOLD, find_text, segment_boxes
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.encoding import Encoded
from napari_samdepth.session.found import NOTHING_ADDED, add_features, added, at_full_size
from napari_samdepth.session.geometry import LayerError
from napari_samdepth.session.history import FoundBox
from napari_samdepth.session.jobs import Lane
from napari_samdepth.session.speed import measured
from napari_samdepth.session.state import SessionState

START = THRESHOLD
"""Score that the slider starts from."""
FLOOR = 0.05
"""Score from which on a box is kept for the slider."""
SAME_OBJECT = 0.8
"""Boxes that overlap more than this (IoU) are one object, found by two phrases."""

Mask = tuple[Patch, FoundBox, float]
"""A mask, the box that it was made of, and the IoU that the segmenter foretells."""


class Words:
    """Finds what words name in the encoded plane; the user edits the boxes, the segmenter makes masks of them."""

    def __init__(self, viewer: ViewerModel, lane: Lane, state: SessionState, annotator: Annotator) -> None:
        """The session's parts."""
        self._viewer = viewer
        self._lane = lane
        self._state = state
        self._annotator = annotator
        self._detectors: dict[str, TextDetector] = {}
        self._found: Detections | None = None
        self._encoded: Encoded | None = None
        self._threshold = START
        self._shown: set[int] = set()
        self._dropped: set[int] = set()

    def find(self, text: str, model: str = "grounding-dino-tiny") -> None:
        """Look for what `text` names in the encoded plane, on the lane; the boxes come into `SAM boxes`.

        Parameters
        ----------
        text
            Phrases with a full stop after each: "nucleus. coin."
        model
            A catalog name, or a folder with Grounding DINO or SAM 3.

        Raises
        ------
        LayerError
            If nothing is encoded yet.
        """
        encoded = self._annotator.need_encoded("words are looked for")

        def work(report: Report) -> Detections:
            if model not in self._detectors:
                self._detectors[model] = load_text_detector(model, report=report)
            detector = self._detectors[model]
            return measured(
                "text", model, detector, lambda tell: find_text(detector, encoded.rgb, text, FLOOR, tell), report
            )

        def done(found: Detections) -> None:
            if self._annotator.encoding.current is not encoded:
                return
            self._found, self._encoded = found, encoded
            self._shown, self._dropped = set(), set()
            self._state.words_found = len(found)
            self._propose(step=True, keep=[])
            if not self._state.boxes:
                self._state.say("Nothing was found; lower the score, or try other words.")

        self._state.say("")
        self._state.task, self._state.progress = "finding words", 0.0
        self._lane.submit("words", work, done, self._annotator.fail)

    def filter(self, threshold: float) -> None:
        """Show the boxes scored above `threshold`, now and after the next search; no model runs.

        Boxes that the user moved or drew stay, those that the user deleted stay away.
        """
        self._threshold = threshold
        if self._found is None or self._annotator.encoding.current is not self._encoded:
            return
        boxes = [box for box, _ in self._annotator.proposals.here]
        here = {box.number for box in boxes}
        self._dropped = (self._dropped | (self._shown - here)) - here
        self._propose(step=False, keep=[box for box in boxes if not self._as_found(box)])

    def accept(self) -> None:
        """Make masks of the boxes in `SAM boxes` on the lane and write them as labels, over none that are there.

        Label names and scores go into the features. One step to undo.

        Raises
        ------
        LayerError
            If nothing is encoded, or no box is there.
        """
        encoded, boxes = self._annotator.need_encoded("masks are made"), self._annotator.proposals.here
        if not boxes:
            raise LayerError("There is no box to make masks of; find words first.")
        ready = self._found.patches if self._found is not None and self._encoded is encoded else None
        there: dict[FoundBox, Mask] = {}
        if ready is not None:
            there = {box: (ready[box.number], box, box.score) for box, _ in boxes if self._as_found(box)}

        def work(report: Report) -> list[Mask]:
            made = [(box, where) for box, where in boxes if box not in there]
            answers = segment_boxes(encoded.segmenter, encoded.embedding, [where for _, where in made], report)
            masks = {box: (patch, box, iou) for (box, _), (patch, iou) in zip(made, answers, strict=True)}
            return [there.get(box) or masks[box] for box, _ in boxes]

        def done(masks: list[Mask]) -> None:
            if self._annotator.encoding.current is not encoded:
                return
            try:
                self._write(masks, encoded)
            except LayerError as error:
                self._annotator.fail(error)

        self._state.say("")
        self._state.task, self._state.progress = "making masks", 0.0
        self._lane.submit("words", work, done, self._annotator.fail)

    def discard(self) -> None:
        """Take the boxes of the encoded slice away; undo brings them back."""
        proposals = self._annotator.proposals
        if proposals.here:
            proposals.put(proposals.elsewhere, step=True)
        self._found, self._state.words_found = None, 0

    def _write(self, masks: list[Mask], encoded: Encoded) -> None:
        labels = painted([patch for patch, _, _ in masks], encoded.shown.shape)
        seen = np.unique(labels[labels > 0])
        kept = [masks[number - 1] for number in seen]
        labels = relabel_sequential(labels)[0].astype(np.int32)
        boxes = {box for _, box, _ in masks}
        rest = tuple(box for box in self._annotator.proposals.everywhere if box not in boxes)
        numbers = self._annotator.masks.write_many(
            at_full_size(labels, encoded, self._viewer.dims),
            len(kept),
            encoded.image,
            lambda commit: self._annotator.proposals.put(rest, step=True, commit=commit),
        )
        layer = self._annotator.masks.layer
        if numbers is None or layer is None:
            self._state.say(NOTHING_ADDED, problem=True)
            return
        kept = [mask for mask, number in zip(kept, numbers, strict=True) if number]
        told = {
            "name": [box.name for _, box, _ in kept],
            "word_score": [box.score for _, box, _ in kept],
            "predicted_iou": [iou for _, _, iou in kept],
        }
        add_features(layer, numbers[numbers > 0], told)
        self._found, self._state.words_found = None, 0
        self._state.say(added(numbers))

    def _propose(self, step: bool, keep: list[FoundBox]) -> None:
        """Show what passes the threshold, beside boxes of other slices and those to be kept."""
        found, encoded = self._found, self._encoded
        assert found is not None
        assert encoded is not None
        edited = {box.number for box in keep}
        numbers = [int(i) for i in found.above(self._threshold, SAME_OBJECT) if i not in self._dropped | edited]
        self._shown = {*numbers, *(edited - {-1})}
        fresh = [FoundBox(self._corners(i), found.names[i], float(found.scores[i]), i) for i in numbers]
        self._annotator.proposals.put((*self._annotator.proposals.elsewhere, *keep, *fresh), step=step)

    def _as_found(self, box: FoundBox) -> bool:
        """Whether a box still lies where the detector put it."""
        found = self._found
        if found is None or not 0 <= box.number < len(found):
            return False
        return box.same(replace(box, corners=self._corners(box.number)))

    def _corners(self, number: int) -> NDArray[np.float64]:
        """Return the corners (4, ndim) of a detection's box in data pixels of the image."""
        assert self._found is not None
        assert self._encoded is not None
        # detections count from the first pixel's edge, layers from its centre
        top, left, bottom, right = self._found.boxes[number] - 0.5
        corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
        return self._encoded.shown.to_data(corners)
