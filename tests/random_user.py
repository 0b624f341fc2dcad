"""A user who does anything at any moment, and what must hold whatever was done.

Labels are never overwritten, none is written into another slice than the one its clicks lie in, undo brings them back
to what they were, nothing raises but sentences for the user, and the next click works.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points
from napari.utils.notifications import ErrorNotification, notification_manager
from numpy.typing import NDArray

from napari_samdepth.core.errors import UserError
from napari_samdepth.session.session import AnnotationSession, session_of

USERS = 1000
"""Numbers of the labels that the user draws begin here."""
PATIENCE = 120.0


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return grey disks (H, W) on a dark ground; one of radius a sixth of the height lies at a third of both sides."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    lit = (rows - height // 3) ** 2 + (cols - width // 3) ** 2 < (height / 6) ** 2
    lit |= (rows - 3 * height // 4) ** 2 + (cols - 3 * width // 4) ** 2 < (height / 7) ** 2
    return np.clip(np.where(lit, 200, 40) + rng.normal(0, 4, lit.shape), 0, 255).astype(np.uint8)


class RandomUser:
    """Does random things in a viewer, and looks after each whether all is as it must be."""

    def __init__(
        self,
        viewer: ViewerModel,
        folder: Path,
        seed: int,
        words: str = "",
        pump: Callable[[], None] | None = None,
        more: tuple[Callable[[RandomUser], None], ...] = (),
    ) -> None:
        """Prepare layers.

        Parameters
        ----------
        viewer
            An empty one.
        folder
            Where files on disk may be made.
        seed
            Of what is done.
        words
            Folder of a text detector, "" to look for no words.
        pump
            Lets a window catch up after each action.
        more
            Actions beside those that need no window.
        """
        self.viewer = viewer
        self.folder = folder
        self.random = np.random.default_rng(seed)
        self.words = words
        self.pump = pump
        self.session: AnnotationSession = session_of(viewer)
        self.done: list[str] = []
        self.faults: list[str] = []
        self.napari: list[str] = []
        self.made = 0
        self._own: dict[str, NDArray[np.bool_]] = {}
        self._start: dict[str, NDArray[Any]] = {}
        self._seen: dict[str, NDArray[Any]] = {}
        self._refined: set[int] = set()
        self._replaying = False
        self._actions: list[Callable[..., None]] = [
            getattr(self, name) for name, times in WEIGHTS.items() for _ in range(times)
        ] + [self._bound(action) for action in more for _ in range(8)]
        for kind in ("grey", "stack", "grey"):
            self.add_image(kind)
        self.add_labels()
        notification_manager.notification_ready.connect(self._on_notification)

    def close(self) -> None:
        """Stop listening."""
        notification_manager.notification_ready.disconnect(self._on_notification)
        self.session.close()

    def act(self, count: int, every: int = 100) -> None:
        """Do `count` things; every now and then all is taken back and done again, and a click must work."""
        for number in range(count):
            action = self._actions[int(self.random.integers(len(self._actions)))]
            name = getattr(action, "__name__", str(action))
            self.done.append(name)
            self.try_to(action)
            self.look()
            if number % every == every - 1:
                self.done.append("— all back")
                self.try_to(self.take_all_back)
                self.done.append("— a click")
                self.try_to(self.click_works)
                self._remember()
            assert not self.faults, self.report()

    def report(self) -> str:
        """Return what went wrong, and what was done before."""
        return "\n".join([*self.faults, "", "done before: " + ", ".join(self.done[-40:])])

    def try_to(self, action: Callable[[], None]) -> None:
        """Do something; what is no sentence for the user is a fault, unless napari alone raised it."""
        try:
            action()
            if self.pump is not None:
                self.pump()
            elif self.random.random() < 0.5:
                self.session.deliver()
        except AssertionError:
            raise
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            if _ours(error):
                self.faults.append(text)
            else:
                self.napari.append(f"{self.done[-1]}: {error!r}")

    def public(self, call: Callable[..., Any], *words: Any, **named: Any) -> Any:
        """Call the session as a script or dock does: it may refuse with a sentence."""
        try:
            return call(*words, **named)
        except UserError as error:
            text = str(error)
        if not text:
            self.faults.append("a refusal without a word")
        return None

    # what must hold

    def look(self) -> None:
        """Compare all labels with how they were at the last look."""
        for layer in self.labels_layers():
            data, key = np.array(layer.data), layer.unique_id
            before = self._seen.get(str(key))
            self._seen[str(key)] = data
            if before is None or before.shape != data.shape:
                self._begin(layer)
                continue
            changed = before != data
            if changed.any():
                self._look_at(layer, before, data, changed)
        waiting = self.session.masks.document.waiting
        self._refined |= {request.editing for request in waiting} | {self.session.state.editing}

    def _look_at(self, layer: Labels, before: NDArray[Any], after: NDArray[Any], changed: NDArray[np.bool_]) -> None:
        allowed = self._refined | {0, self.session.state.editing}
        own = self._own[str(layer.unique_id)]
        if self._replaying:
            bad = changed & own & ~np.isin(before, list(allowed))
        else:
            bad = changed & ~np.isin(before, list(allowed))
            outside = changed & ~self._in_planes(changed.shape)
            if outside.any():
                self.faults.append(f"{outside.sum()} pixels of {layer.name} were written in another slice")
        if bad.any():
            numbers = np.unique(before[bad]).tolist()
            self.faults.append(f"{bad.sum()} pixels of labels {numbers} in {layer.name} were overwritten")

    def _in_planes(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return where labels may be written now: in slices that are or were shown since the last look."""
        there = np.zeros(shape, dtype=bool)
        for key in self._planes:
            axes, at = key[:2], list(key[2:])
            if len(shape) != len(key):
                return np.ones(shape, dtype=bool)
            there[tuple(slice(None) if axis in axes else at.pop(0) for axis in range(len(shape)))] = True
        return there

    @property
    def _planes(self) -> set[tuple[int, ...]]:
        document = self.session.masks.document
        now = {request.plane.slice_key for request in document.waiting} | {document.slice_key}
        planes, self._before = now | getattr(self, "_before", set()), now
        return {key for key in planes if key}

    def take_all_back(self) -> None:
        """Undo everything: labels are as they were; redo everything: they are as they came to be."""
        self._unlock()
        self.quiet()
        self.look()
        session = self.session
        came = {str(layer.unique_id): np.array(layer.data) for layer in self.labels_layers()}
        self._replaying = True
        steps = 0
        while session.state.can_undo:
            session.undo()
            self.look()
            steps += 1
            assert steps < 10_000, "undo never ends"
        self.quiet()
        for layer in self.labels_layers():
            start, data = self._start.get(str(layer.unique_id)), np.asarray(layer.data)
            if start is not None and start.shape == data.shape and (start != data).any():
                self.faults.append(
                    f"undo left {(start != data).sum()} pixels of {layer.name}: {np.unique(data[start != data])}"
                )
        for number in range(steps):
            if not session.state.can_redo:
                self.faults.append(f"{steps} steps were undone, and only {number} can be done again")
                break
            session.redo()
        self.quiet()
        for layer in self.labels_layers():
            before, data = came.get(str(layer.unique_id)), np.asarray(layer.data)
            if before is not None and before.shape == data.shape and (before != data).any():
                self.faults.append(f"redo left {(before != data).sum()} pixels of {layer.name} as they had not been")
        self.look()
        self._replaying = False

    def click_works(self) -> None:
        """Whatever was done before: a click on a picture is answered, and Enter makes a label."""
        self.quiet()
        self.viewer.dims.ndisplay = 2
        self.viewer.dims.order = tuple(range(self.viewer.dims.ndim))
        image = self.viewer.add_image(picture(48, 64, self.made), name=f"clear {self.made}")
        self.made += 1
        self.session.start(image)
        self.session.masks.each_click = False
        self.session.toggle_foreground(True)
        self.quiet()
        state = self.session.state
        self.session.masks.prompts.points.add((16, 21))
        self.quiet()
        if not state.scores:
            self.faults.append(f"a click is not answered: {state.message}")
            return
        target = self.session.masks.layer
        if target is None or target.data.shape == (48, 64):
            number = self.session.accept()
            layer = self.session.masks.layer
            if number is None and not state.occupied:
                self.faults.append(f"Enter makes no label: {state.message}")
            elif number is not None and not (np.asarray(layer.data) == number).any():
                self.faults.append("Enter wrote nothing")
        self.look()
        self.viewer.layers.remove(image)

    def quiet(self) -> None:
        """Wait until nothing is under way; then nothing waits, and the preview is the mask on offer."""
        session = self.session
        assert session.wait(PATIENCE), f"the lane is never idle: {session.state}"
        if self.pump is not None:
            self.pump()
        state, annotator = session.state, session.masks
        if state.waiting and not annotator._refused:
            self.faults.append(f"{state.waiting} objects wait for nobody: {state.message}")
        if state.task or state.phase == "busy":
            self.faults.append(f"idle, and still said to be busy: {state.task!r} {state.phase}")
        if annotator.prompts is not None:
            shown = bool(np.any(annotator.prompts.preview.data))
            if shown and not state.scores:
                self.faults.append("a mask is shown that is not on offer")

    # layers

    def labels_layers(self) -> list[Labels]:
        """Return the Labels layers that are no helpers."""
        return [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Labels) and not self.session.is_helper(layer) and not layer.multiscale
        ]

    def _begin(self, layer: Labels) -> None:
        data = np.array(layer.data)
        key = str(layer.unique_id)
        self._start[key] = np.zeros_like(data) if self.session.masks.labels.made(layer) else data
        self._own[key] = self._start[key] != 0

    def _remember(self) -> None:
        """Let go of layers that are gone."""
        there = {str(layer.unique_id) for layer in self.labels_layers()}
        for known in (self._seen, self._own, self._start):
            for key in [key for key in known if key not in there]:
                del known[key]
        if len(self.viewer.layers) > 14:
            for layer in list(self.viewer.layers)[: len(self.viewer.layers) - 14]:
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)

    def _unlock(self) -> None:
        for layer in self.labels_layers():
            layer.editable = True
            if isinstance(layer.data, np.ndarray) and not layer.data.flags.writeable:
                layer.data.flags.writeable = True

    def one(self, things: Any) -> Any:
        """Return one of some things, None if there is none."""
        things = list(things)
        return things[int(self.random.integers(len(things)))] if things else None

    def images(self) -> list[Image]:
        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def place(self) -> NDArray[np.float64] | None:
        """Return a point (ndim,) somewhere in the shown slice, on or near the image that was started on."""
        image, document = self.session.image, self.session.masks.document
        if image is None or document.plane is None:
            return None
        shape = np.array(document.plane.shape)
        where = self.random.uniform(-0.1, 1.1, 2) * shape if self.random.random() < 0.3 else shape * (1 / 3, 1 / 3)
        if self.random.random() < 0.3:
            where = shape * 0.75
        at: NDArray[np.float64] = document.plane.to_data((where + self.random.normal(0, 2, 2))[None])[0]
        return at

    # what users do

    def add_image(self, kind: str = "") -> None:
        kind = kind or self.one(("grey", "stack", "colour", "float", "pyramid", "binary", "four"))
        self.made += 1
        grey, name = picture(48, 64, self.made), f"{kind} {self.made}"
        match kind:
            case "grey":
                self.viewer.add_image(grey, name=name)
            case "stack":
                stack = np.stack([picture(40, 48, self.made + at) for at in range(3)]).astype(np.uint16) * 100
                self.viewer.add_image(stack, name=name, scale=(2, 0.5, 0.5))
            case "colour":
                self.viewer.add_image(np.stack([grey, grey // 2, grey], axis=-1), rgb=True, name=name, translate=(3, 5))
            case "float":
                noisy = grey.astype(np.float32) * 1e-3
                noisy[:3, :3] = np.nan
                self.viewer.add_image(noisy, name=name, units=("um", "um"))
            case "pyramid":
                large = picture(96, 128, self.made)
                self.viewer.add_image([large, large[::2, ::2]], multiscale=True, name=name)
            case "binary":
                self.viewer.add_image(grey > 100, name=name)
            case "four":
                self.viewer.add_image(np.broadcast_to(grey, (2, 2, *grey.shape)).copy(), name=name)

    def add_labels(self) -> None:
        image = self.one(self.images())
        shape = (48, 64) if image is None or image.multiscale else tuple(image.data.shape[: image.ndim])
        data = np.zeros(shape, dtype=self.one((np.uint8, np.uint16, np.int32, np.int64)))
        data[..., 2:6, 3:9] = 77
        self.made += 1
        match int(self.random.integers(4)):
            case 0:
                held = np.lib.format.open_memmap(
                    self.folder / f"{self.made}.npy", mode="w+", dtype=data.dtype, shape=shape
                )
                held[...] = data
                data = held
            case 1:
                data.flags.writeable = False
            case _:
                pass
        where = {} if image is None else {"scale": image.scale, "translate": image.translate, "units": image.units}
        self.viewer.add_labels(data, name=f"labels {self.made}", **where)

    def start(self) -> None:
        image = self.one(self.images())
        self.public(self.session.start, image, labels=self.one([None, None, *self.labels_layers()]))

    def start_on_points(self) -> None:
        own = [layer for layer in self.viewer.layers if isinstance(layer, Points) and not self.session.is_helper(layer)]
        self.public(self.session.start, self.one(self.images()), points=self.one(own))

    def add_points(self) -> None:
        image = self.one(self.images())
        ndim = 2 if image is None else image.ndim
        count = int(self.random.integers(0, 4))
        data = self.random.uniform(0, 40, (count, ndim))
        if count and self.random.random() < 0.3:
            data[0, -1] = np.nan
        features = (
            {"confidence": self.random.random(count), "kind": ["a"] * count} if self.random.random() < 0.5 else {}
        )
        self.made += 1
        self.viewer.add_points(data, name=f"points {self.made}", ndim=ndim, size=3, features=features or None)

    def click(self) -> None:
        at, prompts = self.place(), self.session.masks.prompts
        if at is not None:
            prompts.points.add(at)

    def background_click(self) -> None:
        before = self.session.state.foreground
        self.session.toggle_foreground(False)
        self.click()
        self.session.toggle_foreground(before)

    def delete_point(self) -> None:
        prompts = self.session.masks.prompts
        if prompts is not None and len(prompts.points.data) and not prompts.points_are_users:
            prompts.points.selected_data = {int(self.random.integers(len(prompts.points.data)))}
            prompts.points.remove_selected()

    def move_point(self) -> None:
        prompts = self.session.masks.prompts
        if prompts is not None and len(prompts.points.data) and not prompts.points_are_users:
            data = np.array(prompts.points.data)
            data[-1] += 1
            prompts.points.data = data

    def draw(self, kind: str, count: int) -> None:
        places = [self.place() for _ in range(count)]
        if all(at is not None for at in places):
            self.session.masks.prompts.shapes.add(np.array(places), shape_type=kind)

    def box(self) -> None:
        plane, at = self.session.masks.document.plane, self.place()
        if plane is not None and at is not None:
            low = plane.from_data(at[None])[0]
            high = low + self.random.uniform(0, 20, 2)
            corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])
            self.session.masks.prompts.shapes.add(plane.to_data(corners), shape_type="rectangle")

    def scribble(self) -> None:
        self.draw("path", 4)

    def lasso(self) -> None:
        self.draw("polygon", 5)

    def delete_shapes(self) -> None:
        prompts = self.session.masks.prompts
        if prompts is not None and prompts.shapes.nshapes:
            prompts.shapes.selected_data = {int(self.random.integers(prompts.shapes.nshapes))}
            prompts.shapes.remove_selected()

    def key(self) -> None:
        prompts = self.session.masks.prompts
        if prompts is not None:
            layer = self.one(prompts.layers)
            press = self.one(layer.keymap.values())
            if press is not None:
                self._replaying = True
                press(layer)
                self.look()
                self._replaying = False

    def accept(self) -> None:
        self.public(self.session.accept)

    def make_label(self) -> None:
        """Click, wait for the mask, and accept it."""
        self.click()
        self.quiet()
        self.accept()

    def clear(self) -> None:
        self.session.clear()

    def cancel(self) -> None:
        self.session.cancel()

    def next_candidate(self) -> None:
        self.session.next_candidate()

    def choose(self) -> None:
        self.session.choose(int(self.random.integers(-1, 4)))

    def toggle_foreground(self) -> None:
        self.session.toggle_foreground()

    def undo(self) -> None:
        self._again(self.session.undo)

    def redo(self) -> None:
        self._again(self.session.redo)

    def _again(self, step: Callable[[], None]) -> None:
        self._replaying = True
        for _ in range(int(self.random.integers(1, 5))):
            step()
            self.look()
        self._replaying = False

    def refine(self) -> None:
        layer = self.session.masks.layer
        there = [] if layer is None else np.unique(np.asarray(layer.data)).tolist()
        label = int(self.one([0, 5, *there]))
        self.public(self.session.edit, label)
        self._refined.add(self.session.state.editing)

    def each_click(self) -> None:
        self.session.masks.each_click = self.random.random() < 0.3

    def slice_change(self) -> None:
        dims = self.viewer.dims
        axis = int(self.random.integers(dims.ndim))
        dims.set_current_step(axis, int(self.random.integers(max(int(dims.nsteps[axis]), 1))))

    def roll(self) -> None:
        self.viewer.dims.roll() if self.random.random() < 0.6 else self.viewer.dims.transpose()

    def three_dimensions(self) -> None:
        self.viewer.dims.ndisplay = 5 - self.viewer.dims.ndisplay if self.random.random() < 0.8 else 2

    def contrast(self) -> None:
        image = self.session.image or self.one(self.images())
        if image is not None and not image.rgb and image.dtype != bool:
            low, high = image.contrast_limits
            image.contrast_limits = (low, high + (high - low) * 0.1)

    def gamma(self) -> None:
        image = self.session.image
        if image is not None:
            image.gamma = float(self.random.uniform(0.5, 2))

    def change_in_place(self) -> None:
        image = self.session.image
        if image is not None and not image.multiscale and image.dtype != bool:
            image.data[..., 3:9, 3:9] = image.data[..., 5:11, 5:11].copy()
            image.refresh()

    def replace_data(self) -> None:
        image = self.one(self.images())
        if image is None or image.multiscale or image.rgb:
            return
        data = np.asarray(image.data)
        match int(self.random.integers(5)):
            case 0:
                image.data = data[..., ::-1].copy()
            case 1:
                image.data = data.astype(np.float64) + 1
            case 2:
                image.data = data[..., : max(data.shape[-1] - 3, 20)].copy()
            case 3 if data.ndim == 3:
                image.data = data[0].copy()
            case 3 if data.ndim == 2:
                image.data = np.stack([data, data, data])
            case _:
                image.data = np.zeros_like(data)

    def place_image(self) -> None:
        layer = self.one([self.session.image, *self.viewer.layers])
        if layer is None:
            return
        match int(self.random.integers(4)):
            case 0:
                layer.scale = [float(self.random.choice([0.5, 1, 2]))] * layer.ndim
            case 1:
                layer.translate = self.random.uniform(-5, 5, layer.ndim)
            case 2:
                layer.units = (self.one(("um", "nm", "pixel")),) * layer.ndim
            case _:
                layer.scale = [1.0] * layer.ndim

    def rename(self) -> None:
        layer = self.one(self.viewer.layers)
        if layer is not None and not layer.name.endswith("masks"):
            layer.name = self.one(("a", "image", "SAM prompts", f"x{self.made}"))

    def move_layer(self) -> None:
        if len(self.viewer.layers) > 1:
            count = len(self.viewer.layers)
            self.viewer.layers.move(int(self.random.integers(count)), int(self.random.integers(count)))

    def remove(self) -> None:
        layer = self.one(self.viewer.layers)
        if layer is not None:
            self.viewer.layers.remove(layer)

    def remove_helper(self) -> None:
        prompts = self.session.masks.prompts
        if prompts is not None:
            self.viewer.layers.remove(self.one(prompts.layers))

    def hide(self) -> None:
        layer = self.one(self.viewer.layers)
        if layer is not None:
            layer.visible = not layer.visible

    def select(self) -> None:
        self.viewer.layers.selection.active = self.one(self.viewer.layers)

    def duplicate(self) -> None:
        layer = self.one(self.viewer.layers)
        if layer is not None:
            data, state, kind = layer.as_layer_data_tuple()
            if isinstance(data, list):
                data = [np.array(part) for part in data]
            elif not getattr(layer, "multiscale", False):
                data = np.array(data)
            self.made += 1
            copy = Layer.create(data, {**state, "name": f"copy {self.made}"}, kind)
            self.viewer.add_layer(copy)

    def target(self) -> None:
        self.public(self.session.masks.use, self.one([None, *self.labels_layers()]))

    def lock(self) -> None:
        layer = self.one(self.labels_layers())
        if layer is not None:
            layer.editable = not layer.editable

    def unlock(self) -> None:
        self._unlock()

    def paint(self) -> None:
        """Draw a label of the user's where nothing is labelled."""
        layer = self.one(self.labels_layers())
        key = "" if layer is None else str(layer.unique_id)
        if layer is None or key not in self._start or not layer.editable or not isinstance(layer.data, np.ndarray):
            return
        if not layer.data.flags.writeable:
            return
        number = 99 if np.asarray(layer.data).dtype.itemsize == 1 else USERS + int(self.random.integers(10))
        free = np.argwhere(np.asarray(layer.data) == 0)
        chosen = free[self.random.integers(len(free), size=3)] if len(free) else free
        index = tuple(chosen.T)
        if not layer.visible:
            layer.set_view_slice()
        try:
            layer.data_setitem(index, number)
        finally:
            # napari may stumble after it has written
            for known in (self._start, self._seen):
                known[key][index] = np.asarray(layer.data)[index]
            self._own[key][index] = np.asarray(layer.data)[index] != 0

    def search_everything(self) -> None:
        self.public(self.session.everything.search, 4, 0)

    def filter_everything(self) -> None:
        self.session.everything.filter(*self.random.uniform(0.2, 0.95, 3), int(self.random.integers(0, 30)))

    def accept_everything(self) -> None:
        self.public(self.session.everything.accept)

    def discard_everything(self) -> None:
        self.session.everything.discard()

    def keep_everything(self) -> None:
        self.session.everything.keep_found()

    def find_words(self) -> None:
        if self.words:
            self.session.words.filter(0.9)
            self.public(self.session.words.find, "coin. round thing.", self.words)

    def filter_words(self) -> None:
        self.session.words.filter(float(self.random.uniform(0.8, 1)))

    def accept_words(self) -> None:
        self.public(self.session.words.accept)

    def discard_words(self) -> None:
        self.session.words.discard()

    def add_depth(self) -> None:
        self.public(self.session.add_depth, image_layer=self.one([None, *self.images()]))

    def use_depth(self) -> None:
        kind = self.one(("inverse", "distance", "height", "disparity", "nearness", ""))
        image = self.one(self.images())
        if image is not None:
            self.public(self.session.use_depth, image, kind, self.one((None, "mm")))

    def readout(self) -> None:
        self.public(self.session.readout, self.one([None, *self.labels_layers()]))

    def request_readout(self) -> None:
        layer = self.one(self.labels_layers())
        if layer is not None:
            self.public(self.session.request_readout, layer, lambda _table: None, self._told)

    def stop(self) -> None:
        self.session.stop()

    def finish(self) -> None:
        self.session.finish()

    def wait(self) -> None:
        self.quiet()

    def reopen(self) -> None:
        if self.pump is not None:
            return  # the docks hold the session
        self.session.close()
        self.session = session_of(self.viewer)
        # another session undoes nothing of the one before
        for layer in self.labels_layers():
            self._start[str(layer.unique_id)] = np.array(layer.data)

    def _told(self, error: Exception) -> None:
        if not isinstance(error, UserError):
            self.faults.append("".join(traceback.format_exception(error)))

    def _on_notification(self, notification: Any) -> None:
        if isinstance(notification, ErrorNotification):
            self.faults.append("".join(traceback.format_exception(notification.exception)))

    def _bound(self, action: Callable[[RandomUser], None]) -> Callable[[], None]:
        def act() -> None:
            action(self)

        act.__name__ = action.__name__
        return act


WEIGHTS = {
    "click": 22, "make_label": 14, "background_click": 4, "delete_point": 2, "move_point": 2, "box": 4, "scribble": 4,
    "lasso": 3,
    "delete_shapes": 2, "key": 5, "accept": 16, "clear": 3, "cancel": 2, "next_candidate": 3, "choose": 2,
    "toggle_foreground": 1, "undo": 7, "redo": 5, "refine": 6, "each_click": 1, "slice_change": 5, "roll": 2,
    "three_dimensions": 2, "contrast": 2, "gamma": 1, "change_in_place": 2, "replace_data": 2, "place_image": 2,
    "rename": 1, "move_layer": 1, "remove": 1, "remove_helper": 1, "hide": 1, "select": 2, "duplicate": 1,
    "add_image": 1, "add_labels": 1, "add_points": 1, "start": 5, "start_on_points": 2, "target": 2, "lock": 1,
    "unlock": 2, "paint": 3, "search_everything": 2, "filter_everything": 2, "accept_everything": 2,
    "discard_everything": 1, "keep_everything": 1, "find_words": 2, "filter_words": 1, "accept_words": 2,
    "discard_words": 1, "add_depth": 2, "use_depth": 1, "readout": 2, "request_readout": 2, "stop": 2, "finish": 1,
    "wait": 6, "reopen": 1,
}  # fmt: skip
"""How often each thing is done."""


def _ours(error: BaseException | None) -> bool:
    """Whether code of the plugin had a part in an exception."""
    while error is not None:
        if any("napari_samdepth" in frame.filename for frame in traceback.extract_tb(error.__traceback__)):
            return True
        error = error.__cause__ or error.__context__
    return False
