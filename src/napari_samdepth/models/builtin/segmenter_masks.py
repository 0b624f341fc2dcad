"""How views are chosen, what is decoded in one, and candidates that came from a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import MASK_THRESHOLD, Candidates, Patch, patch_above

if TYPE_CHECKING:
    from napari_samdepth.models.builtin.segmenter_views import View


@dataclass(frozen=True)
class ZoomSettings:
    """How views are chosen; sizes in image pixels, found on validation images.

    Attributes
    ----------
    start
        Side of the view that a first click is decoded in.
    least
        Side of the smallest window.
    span
        Side of the wanted window over the object's longer side.
    enough
        ViewMasks again only where the wanted window is smaller than this share of the present one.
    most_views
        Most views decoded for one prompt.
    sure
        Below this predicted IoU zoom in on the click, whatever the mask.
    wide
        Below this predicted IoU decode the whole of a large image (four first views or more), too: the object may be
        larger than the first view.
    trust
        The last view counts unless an earlier one's predicted IoU is higher by more than this.
    """

    start: int = 512
    least: int = 40
    span: float = 2.5
    enough: float = 0.7
    most_views: int = 4
    sure: float = 0.8
    wide: float = 0.7
    trust: float = 0.05


@dataclass(frozen=True, eq=False)
class ViewMasks:
    """One decode: the view, its logits (4, 128, 128) with the single mask first, and their predicted IoU (4,)."""

    view: View
    logits: Any
    scores: Any
    several: bool

    @property
    def offered(self) -> slice:
        """Which of the four masks are offered."""
        return slice(1, 4) if self.several else slice(0, 1)

    @property
    def best(self) -> int:
        """Index of the offered mask with the highest predicted IoU."""
        first = 1 if self.several else 0
        return first + int(self.scores[self.offered].argmax())

    @property
    def score(self) -> float:
        """Foretold IoU of the best mask."""
        return float(self.scores[self.best])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The best mask (128, 128)."""
        mask: NDArray[np.bool_] = (self.logits[self.best] > MASK_THRESHOLD).cpu().numpy()
        return mask


@dataclass(frozen=True, eq=False)
class ViewCandidates(Candidates):
    """Candidates that were decoded in a window: `patch` reads the window's logits, finer than the canvas."""

    def patch(self, index: int | None = None) -> Patch:
        """Return mask `index` (the best if None) inside the box that it can touch, at image resolution."""
        from napari_samdepth.models.builtin.segmenter_views import View

        given = self.feedback[self.best if index is None else index]
        view = View.of_window(given.window, self.image_shape)
        found = patch_above(given.logits, view.frame)
        return found.moved((view.top, view.left)) if found.mask.size else found
