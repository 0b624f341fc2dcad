"""AnnotationSession: clicks in, labels out. The object that the dock widgets drive and that scripts can use alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points

from napari_samdepth.core.depthmap import DepthKind
from napari_samdepth.core.errors import LayerError, UserError
from napari_samdepth.core.no_reading import NoReading
from napari_samdepth.models.runtime.device import Precision
from napari_samdepth.session.annotator import Annotator
from napari_samdepth.session.auto_masks import Everything
from napari_samdepth.session.choices import Variant, device_text
from napari_samdepth.session.depths import Depths
from napari_samdepth.session.geometry import centre_on, go_to_plane, stack_position
from napari_samdepth.session.jobs import Lane, Progress
from napari_samdepth.session.label_edits import LabelEdits
from napari_samdepth.session.readouts import Readouts
from napari_samdepth.session.recovery import image_of, restored, unsaved_work
from napari_samdepth.session.state import SessionState
from napari_samdepth.session.text_search import Words
from napari_samdepth.storage.export import write_labels, write_table
from napari_samdepth.storage.journal import Recoverable

LOG = logging.getLogger(__name__)
_SESSIONS: WeakKeyDictionary[ViewerModel, ref[AnnotationSession]] = WeakKeyDictionary()
"""Both sides are weak: a session holds its viewer and would keep it alive from here; the viewer holds the session."""


def session_of(viewer: ViewerModel) -> AnnotationSession:
    """Return the viewer's one AnnotationSession, made on first use and kept as long as the viewer."""
    real: ViewerModel = _real(viewer)
    session = _SESSIONS[real]() if real in _SESSIONS else None
    if session is None:
        session = AnnotationSession(real)
        _SESSIONS[real] = ref(session)
    return session


class AnnotationSession:
    """One viewer's annotation: start on an image, click, accept; add depth and read it out.

    Nothing here blocks: models run on the session's lane, and their results reach the layers when `deliver` is
    called on the main thread, by an event loop (the docks see to it) or by `wait` in a script.

    Attributes
    ----------
    state
        What the panels show, evented.
    lane
        Where models run.
    depths
        The depth layers.
    everything
        The search for all masks of the picture.
    words
        The search for what words name.
    tools
        Tools on labels that are there: delete, merge, split, fill holes, keep the largest piece, smooth.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        """Use `session_of` instead, so that a viewer has one session."""
        self.state = SessionState()
        self.lane = Lane()
        self.lane.progressed.connect(self._on_progress)
        self.lane.idle.connect(self._on_idle)
        self._viewer = viewer
        self._warm = False
        self.depths = Depths(viewer, self.lane, self.state)
        self._readouts = Readouts(viewer, self.lane, self.depths, self.state)
        self._annotator = Annotator(viewer, self.lane, self.state, self.depths)
        self.everything = Everything(viewer, self.lane, self.state, self._annotator)
        self.words = Words(viewer, self.lane, self.state, self._annotator)
        self.tools = LabelEdits(viewer, self._annotator)
        self.depths.changed.connect(self._annotator.read_live)
        self.depths.failed.connect(self._annotator.fail)
        # napari holds methods weakly and other callables strongly: this one keeps the session as long as the viewer
        self._on_removed = partial(self._on_layer_removed)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._on_layer_renamed)

    @property
    def image(self) -> Image | None:
        """The Image layer being annotated, None before `start`."""
        return self._annotator.image

    @property
    def masks(self) -> Annotator:
        """What accepted masks go to: `masks.layer` is the Labels layer, `masks.use(layer)` chooses another."""
        return self._annotator

    def start(
        self,
        image_layer: Image | None = None,
        model: str = "builtin",
        labels: Labels | None = None,
        points: Points | None = None,
        *,
        precision: Precision = "float32",
        as_shown: bool = False,
    ) -> None:
        """Begin (or go on) annotating an image: prompt layers appear and the shown plane is encoded on the lane.

        Parameters
        ----------
        image_layer
            The image; None takes the selected Image layer, else the topmost visible one.
        model
            Catalog name, or path of a checkpoint.
        labels
            The Labels layer that accepted masks go to; None goes on with the image's own, or makes `<image> masks` at
            the first accept.
        points
            A Points layer of the user's to click in, with as many dimensions as the image; its points count as
            foreground where its feature "prompt" does not say "background". None makes `SAM prompts`.
        precision
            "bfloat16" for a faster and coarser image encoder, as in `load_segmenter`.
        as_shown
            Whether the model sees all visible images as the canvas blends them, in colour, instead of this one alone.

        Raises
        ------
        LayerError
            If there is no image, the view shows no plane of it, or the labels cannot be written.
        """
        image = self.active_image() if image_layer is None else _real(image_layer)
        if image not in self._viewer.layers:
            raise LayerError(f"“{image.name}” is not in this viewer; add it first.")
        self._annotator.as_shown = as_shown
        source = self._annotator.read(image)
        self.tools.end_split()
        self._annotator.begin(image, source, Variant(model, precision), _real(points), _real(labels))
        if self._annotator.prompts is not None:
            self._annotator.prompts.bind(self._tool_keys)

    def accept(self) -> int | None:
        """Make the mask on offer a label; return its number, None where there is no mask (yet).

        While the mask is still being decoded the object waits for it: `wait` brings it, and the next click begins the
        next object.

        Raises
        ------
        LayerError
            If the Labels layer cannot be written.
        """
        return self._annotator.accept()

    def clear(self) -> None:
        """Drop the mask on offer and its prompts (undo brings them back), or leave a label that was to be split."""
        if self.tools.splitting:
            self.tools.end_split()
        else:
            self._annotator.clear()

    def stop(self) -> None:
        """Cancel what is running: loading, encoding, depth, decoding, reading a large stack; other readouts go on."""
        self.lane.cancel_models()
        self._readouts.stop()
        self._annotator.give_up()
        encoded = self._annotator.encoded is not None
        self.state.task, self.state.phase = "", "ready" if encoded else "idle"
        self.state.say("Cancelled." if encoded else "Cancelled; press Start to encode the image.")

    def cancel(self) -> None:
        """Cancel what is running, and drop the mask on offer with its prompts."""
        if self.lane.busy("embed", "depth", "everything", "words"):
            self.stop()
        self.clear()

    def undo(self) -> None:
        """Take back the last click, choice, clear, accepted label, or change of what searches found."""
        self._annotator.undo()

    def redo(self) -> None:
        """Do again what was undone last."""
        self._annotator.redo()

    def choose(self, index: int) -> None:
        """Show mask `index` of those on offer."""
        self._annotator.choose(index)

    def next_candidate(self) -> None:
        """Show the next of the masks on offer."""
        self._annotator.next_candidate()

    def edit(self, label: int) -> None:
        """Refine an existing label of the shown plane: its mask is on offer again and clicks change it.

        Raises
        ------
        LayerError
            If nothing is started, or the shown plane has no such label.
        """
        self._annotator.edit(label)

    def toggle_foreground(self, foreground: bool | None = None) -> None:
        """Say what a plain click means (Alt-, Shift- or right-click means the other); None flips it."""
        self._annotator.toggle_foreground(foreground)

    def set_each_click(self, each: bool | None = None) -> None:
        """Say whether every click makes an object of its own, accepted at once; None flips it."""
        self._annotator.set_each_click(each)

    def number_next(self, label: int) -> None:
        """Give the next accepted mask this number, also one that is there already; 0 for the next free one.

        So an object is gone on with in another slice. Raises LayerError if it is negative.
        """
        if label < 0:
            raise LayerError(f"A label is a number above 0, got {label}.")
        self._annotator.number_next(label)

    def delete_labels(self, numbers: Collection[int], labels: Labels | None = None) -> None:
        """Make labels background, in all slices of a layer (None: the one that masks go to), as one step of undo.

        Raises LayerError if there is no such label, or the layer cannot be written.
        """
        self.tools.delete(numbers, _real(labels))

    def merge_labels(self, numbers: Collection[int], into: int, labels: Labels | None = None) -> None:
        """Give the pixels of labels the number `into`; layer, slices and errors as in `delete_labels`."""
        self.tools.merge(numbers, into, _real(labels))

    def split_label(
        self, label: int, first: tuple[float, float], second: tuple[float, float], labels: Labels | None = None
    ) -> int:
        """Split a label of the shown slice in two, where it is narrow between two points; return the new number.

        Parameters
        ----------
        label
            The label.
        first, second
            (row, col) in pixels of the shown plane, one in each part; the part of `first` keeps its number.
        labels
            Its layer; None takes the one that masks go to.

        Raises
        ------
        LayerError
            If the points do not lie on two pixels of the label, or the layer cannot be written.
        """
        return self.tools.split(label, first, second, _real(labels))

    def split_by_clicks(self, label: int, labels: Labels | None = None) -> None:
        """Let the next two clicks split a label of the shown slice; errors as in `split_label`."""
        self.tools.begin_split(label, _real(labels))

    def fill_holes(self, label: int, labels: Labels | None = None) -> None:
        """Fill the background that a label encloses in the shown slice; other labels in it stay. Raises LayerError."""
        self.tools.fill_holes(label, _real(labels))

    def keep_largest(self, label: int, labels: Labels | None = None) -> None:
        """Keep the largest piece of a label in the shown slice. Raises LayerError."""
        self.tools.keep_largest(label, _real(labels))

    def smooth_label(self, label: int, labels: Labels | None = None) -> None:
        """Smooth a label's outline in the shown slice, over no other label. Raises LayerError."""
        self.tools.smooth(label, _real(labels))

    def click_on(self) -> None:
        """Select the layer that is clicked in, so that clicks are prompts again."""
        self.tools.end_split()
        if self._annotator.prompts is not None:
            self._annotator.prompts.focus()

    @property
    def clicks_are_off(self) -> bool:
        """Whether a click on the canvas is no prompt: another layer is selected, or the points are not added to."""
        prompts = self._annotator.prompts
        if prompts is None or self.tools.splitting:
            return False
        active = self._viewer.layers.selection.active
        if active is prompts.points:
            return str(prompts.points.mode) != "add"
        return active is not prompts.shapes

    @property
    def variant(self) -> Variant:
        """The model that was started, and how exactly it runs."""
        return self._annotator.variant

    def add_depth(
        self, model: str = "builtin", image_layer: Image | None = None, *, precision: Precision = "float32"
    ) -> None:
        """Estimate the depth of the shown plane and add it as an Image layer, named after the image.

        `precision` is as in `load_depth_estimator`.

        Raises
        ------
        LayerError
            If there is no image, or the view shows no plane of it.
        """
        image = _real(image_layer) if image_layer is not None else self.image or self.active_image()
        self.state.say("")
        self.depths.add(image, Variant(model, precision))

    def use_depth(
        self, layer: Image, kind: DepthKind, unit: str | None = None, no_reading: NoReading | None = "auto"
    ) -> None:
        """Let an Image layer serve as depth.

        Parameters
        ----------
        layer
            An Image layer with one value per pixel.
        kind
            What larger values mean.
        unit
            Unit of the values ("mm"), None if they are relative.
        no_reading
            The value that stands where nothing was measured, such as 0 or -9999: those pixels are left out. "auto"
            finds it (see `find_no_reading`), "none" or None takes every number for depth.

        Raises
        ------
        LayerError
            If the layer is a colour image, or there is no such kind or value.
        """
        self.depths.use(_real(layer), kind, unit, no_reading)

    def readout(self, labels: Labels | None = None, depth: Image | None = None) -> pd.DataFrame:
        """Return one row per label and write the table into the Labels layer's features.

        A 3-D stack whose depth lies on the same grid is read slice by slice (column `slice`), else the shown plane is.

        Parameters
        ----------
        labels
            None takes the layer that accepted masks go to.
        depth
            None takes the depth layer in use.

        Raises
        ------
        LayerError
            If there are no labels or no depth.
        """
        layer = _real(labels) if labels is not None else self.masks.layer
        if layer is None:
            raise LayerError("There are no labels to read; accept a mask first, or name a Labels layer.")
        return self._readouts.now(layer, _real(depth) if depth is not None else None)

    def request_readout(
        self, labels: Labels, done: Callable[[pd.DataFrame], None], failed: Callable[[Exception], None]
    ) -> None:
        """Do what `readout` does beside the models' work, so that nothing waits for it; the newest request wins.

        Parameters
        ----------
        labels
            The layer to read against the depth in use.
        done
            Called on the main thread with the table, which is in the layer's features by then; not called where the
            layer was removed.
        failed
            Called with what went wrong.

        Raises
        ------
        LayerError
            If there is no depth, or no plane is shown.
        """

        def told(error: Exception) -> None:
            if not isinstance(error, UserError):
                self._annotator.fail(error)
            failed(error)

        self._readouts.request(_real(labels), done, told)

    def drop_readout(self) -> None:
        """Nobody waits any longer for the readout that was requested."""
        self._readouts.cancel()

    def save_table(self, table: pd.DataFrame, path: str | Path, *, overwrite: bool = True) -> None:
        """Write a readout as CSV; raises OSError, FileExistsError where a file is there and `overwrite` is False."""
        write_table(path, table, overwrite=overwrite)

    def save_labels(self, path: str | Path, labels: Labels | None = None, *, overwrite: bool = True) -> Path:
        """Write labels as a TIFF, after which nothing of them is left to recover.

        Parameters
        ----------
        path
            Where to.
        labels
            None takes the layer that accepted masks go to.
        overwrite
            Whether a file that is there may be replaced.

        Raises
        ------
        LayerError
            If there are no labels.
        OSError
            If the file cannot be written (FileExistsError if it is there and `overwrite` is False).
        """
        layer = _real(labels) if labels is not None else self.masks.layer
        if layer is None:
            raise LayerError("There are no labels to save; accept a mask first, or name a Labels layer.")
        written = write_labels(path, layer.data, overwrite=overwrite)
        self._annotator.journals.saved(layer, written.resolve())
        self.state.say(f"Labels saved to {written}.")
        return written

    def recoverable(self) -> list[Recoverable]:
        """Return the work of all sessions that was not saved when they ended, the latest first."""
        return unsaved_work()

    def request_recoverable(self, done: Callable[[list[Recoverable]], None]) -> None:
        """Do what `recoverable` does beside the models' work, and call `done` with it on the main thread."""
        self.lane.submit("recoverable", lambda _report: unsaved_work(), done, self._annotator.fail, aside=True)

    def recover(self, item: Recoverable, image_layer: Image | None = None) -> Labels:
        """Bring labels back that were not saved, as a layer with their undo steps; the journal goes on with it.

        Parameters
        ----------
        item
            One of `recoverable`.
        image_layer
            The image that they belong to; None takes the one of that file or name, and opens the file where it is not
            in the viewer. Where the image is gone, or is another now, that is said and the labels come all the same.

        Raises
        ------
        JournalError
            If the work is restored in another window, was discarded meanwhile, or cannot be read.
        """
        image = _real(image_layer) if image_layer is not None else image_of(item, self._viewer)
        if image is None and Path(item.image_path).is_file():
            # a reader may fail in any way; the labels come without the image then
            with suppress(Exception):
                self._viewer.open(item.image_path)
            image = image_of(item, self._viewer)
        found = restored(item, image, self._annotator.document)
        self._annotator.recover(found, image)
        return found.layer

    def save_recoverable(self, item: Recoverable, path: str | Path, *, overwrite: bool = True) -> None:
        """Write labels that were not saved as a TIFF; they cannot be recovered afterwards.

        Raises JournalError if they cannot be read, OSError if the file cannot be written.
        """
        write_labels(path, item.work().labels, overwrite=overwrite)
        item.discard()
        self.state.say(f"Labels saved to {path}.")

    def show_label(self, labels: Labels, label: int, plane: int | None = None) -> None:
        """Select a label in its layer and centre the view on it; `plane` is the slice of a stack to go to."""
        labels.selected_label = label
        if plane is not None:
            go_to_plane(labels, plane, self._viewer)
        centre_on(labels, label, self._viewer)

    def shown_slice(self, labels: Labels) -> int | None:
        """Return the position of the shown plane in a 3-D layer, None for other layers or where none is shown."""
        return stack_position(labels, self._viewer.dims)

    def find_device(self) -> None:
        """Find out on the lane where models will run, and show it in the state."""

        def done(found: tuple[str, str]) -> None:
            self.state.device, self.state.device_reason = found

        if not self.state.device and not self.lane.busy("device"):
            self.lane.submit("device", lambda _report: device_text(), done, self._annotator.fail)

    def warm_up(self) -> None:
        """Have numba compile beside the models' work what napari's Labels need, or the first Start waits for it."""
        if not self._warm:
            self._warm = True
            self.lane.submit("warm up", lambda _report: _compile_mapping(), lambda _: None, LOG.info, aside=True)

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until the lane is idle and its results are in the layers; False after `timeout` seconds."""
        return self.lane.wait(timeout)

    def deliver(self) -> None:
        """Bring finished results into the layers. Main thread only; docks call it."""
        self.lane.deliver()

    def finish(self) -> None:
        """End the annotation: the prompt layers and their keys go away; labels and depth stay."""
        self._annotator.finish()

    def close(self) -> None:
        """Cancel everything, let go of the viewer and of all models; labels and depth stay."""
        self.tools.end_split()
        self.lane.close()
        self._annotator.close()
        self.words.close()
        self.depths.close()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.layers.events.renamed.disconnect(self._on_layer_renamed)
        _SESSIONS.pop(self._viewer, None)

    def is_helper(self, layer: object) -> bool:
        """Whether `layer` is one of the session's own: prompts, preview, masks found but not yet added."""
        return self._annotator.is_helper(layer) or (layer is not None and layer is self.everything.layer)

    def active_image(self) -> Image:
        """Return the selected Image layer, else the topmost visible one. Raises LayerError if there is none."""
        visible = [layer for layer in reversed(self._viewer.layers) if layer.visible]
        for layer in (self._viewer.layers.selection.active, *visible):
            if isinstance(layer, Image) and not self.depths.made(layer):
                return layer
        raise LayerError("There is no image; open one, or try File ▸ Open Sample ▸ SAM and depth.")

    @property
    def _tool_keys(self) -> dict[str, Callable[[], Any]]:
        """Keys that act on the label under the mouse."""

        def on_label(tool: Callable[[int], Any]) -> Callable[[], None]:
            def act() -> None:
                label = self.tools.under_cursor()
                try:
                    if not label:
                        raise LayerError("There is no label under the mouse.")
                    tool(label)
                except LayerError as error:
                    self.state.say(str(error), problem=True)

            return act

        def merge(label: int) -> None:
            self.merge_labels([label], int(self.tools.layer(None).selected_label))

        return {
            "Escape": self.clear,
            "Shift-D": on_label(lambda label: self.delete_labels([label])),
            "Shift-M": on_label(merge),
            "Shift-X": on_label(self.split_by_clicks),
            "Shift-F": on_label(self.fill_holes),
            "Shift-L": on_label(self.keep_largest),
            "Shift-S": on_label(self.smooth_label),
            "Shift-R": on_label(self.edit),
        }

    def _on_layer_removed(self, event: Any) -> None:
        layer: Layer = event.value
        self.depths.forget(layer)
        self.everything.forget(layer)
        self._annotator.forget(layer)

    def _on_layer_renamed(self, _event: Any) -> None:
        if self.image is not None:
            self.state.image = self.image.name
        if self.depths.active is not None:
            self.state.depth_layer = self.depths.active.layer.name

    def _on_progress(self, progress: Progress) -> None:
        self.state.task, self.state.progress = progress.text, progress.fraction

    def _on_idle(self) -> None:
        self.state.task, self.state.progress = "", 0.0


def _compile_mapping() -> None:
    """Use numba's typed dictionary once, as napari does for a preview of uint8: compiling it takes seconds."""
    try:
        # a dependency of napari's, which does without it where it is absent
        numba = import_module("numba")
    except ImportError:
        return
    numba.typed.Dict.empty(numba.types.uint8, numba.types.uint8)[np.uint8(1)] = np.uint8(1)


def _real(layer: Any) -> Any:
    """Return what is behind napari's proxy for plugins."""
    return getattr(layer, "__wrapped__", layer)
