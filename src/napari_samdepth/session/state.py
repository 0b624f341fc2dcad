"""What the panels show of a session, as one evented value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from psygnal import SignalGroupDescriptor


@dataclass
class SessionState:
    """The visible state of a session; only the session writes it, panels read it and listen to `events`.

    Attributes
    ----------
    image
        Name of the image being annotated, "" before the first start.
    model, device, device_reason
        The segmenter in use and where it runs; "" until it is loaded.
    phase
        "idle" (nothing started), "busy" (loading or encoding), "ready" (clicks are answered).
    task, progress
        What the lane is doing ("" if nothing) and how far it is, 0 to 1.
    message, problem
        One sentence for the user, and whether it tells of a problem.
    scores
        Scores of the masks on offer; empty when there are none.
    chosen
        Index of the mask shown among them.
    foreground
        Whether a plain click means foreground.
    each_click
        Whether every click makes an object of its own.
    next_label
        The number that the next accepted mask gets.
    editing
        Number of the label being refined, 0 if a new one is made.
    live
        Readout of the mask on offer: median, nearness, spread; empty without depth.
    can_undo, can_redo
        Whether there is a step to undo or redo.
    found, kept
        Masks of the whole-image search, and how many of them pass the thresholds.
    waiting
        Objects that were accepted and wait for the model.
    occupied
        Label on which a mask lies that was to be accepted, 0 if none: it can be refined instead.
    revision
        Grows whenever what searches found may be another.
    boxes
        Boxes in `SAM shapes` that words found and masks are to be made of.
    words_found
        Objects that words found at any score.
    depth_layer
        Name of the depth layer that readouts use, "" if there is none.
    depth_text
        Kind, unit and source of that depth in words.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    image: str = ""
    model: str = ""
    device: str = ""
    device_reason: str = ""
    phase: str = "idle"
    task: str = ""
    progress: float = 0.0
    message: str = ""
    problem: bool = False
    scores: tuple[float, ...] = ()
    chosen: int = 0
    foreground: bool = True
    each_click: bool = False
    next_label: int = 1
    editing: int = 0
    live: dict[str, float] = field(default_factory=dict)
    can_undo: bool = False
    can_redo: bool = False
    found: int = 0
    kept: int = 0
    waiting: int = 0
    occupied: int = 0
    revision: int = 0
    boxes: int = 0
    words_found: int = 0
    depth_layer: str = ""
    depth_text: str = ""

    def say(self, message: str, problem: bool = False) -> None:
        """Show one sentence, "" for none; `problem` says that something went wrong."""
        self.message, self.problem = message, problem
