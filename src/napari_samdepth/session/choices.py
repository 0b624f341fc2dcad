"""What a panel can offer: the catalog's models and the user's own, with what is said of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from napari_samdepth.core.durations import in_words
from napari_samdepth.core.errors import ModelError, UserError
from napari_samdepth.models.formats import FOLDERS_ONLY, format_of
from napari_samdepth.models.registry import specs
from napari_samdepth.models.runtime.device import Precision, choose_device
from napari_samdepth.models.spec import OURS, ModelSpec, Task
from napari_samdepth.models.weights import store
from napari_samdepth.models.weights.checkpoint import check_file
from napari_samdepth.session.speed import LONG, Expected, expected, on, speed_text
from napari_samdepth.storage.settings import OwnModel, change_settings, load_settings


class ChoiceError(UserError, ValueError):
    """A file or folder cannot be taken as a model; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class ModelChoice:
    """One model in a list.

    Attributes
    ----------
    name
        What the session loads: a catalog name, or the path of an own model.
    title
        A short title for the list.
    tooltip
        What it is good for, its licence, size and speed.
    present
        Whether its weights are on this machine.
    size
        Bytes to download.
    hint
        What to say of the wait before it starts, "" where it is short.
    own
        Whether it is the user's own.
    coarser
        Whether it may run faster and less exactly, in bfloat16.
    problem
        Why it cannot be used and what to do, "" if it can.
    """

    name: str
    title: str
    tooltip: str
    present: bool
    size: int
    hint: str = ""
    own: bool = False
    coarser: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Variant:
    """A model as it is to be loaded: its name or path, and the precision of what takes its time."""

    model: str = "builtin"
    precision: Precision = "float32"

    @property
    def key(self) -> str:
        """What it is kept under, and its speed."""
        return self.model if self.precision == "float32" else f"{self.model}, {self.precision}"


DOES = {"segment": "look at an image", "depth": "estimate depth", "text": "look for words"}
FOLDERS = FOLDERS_ONLY
"""Tasks whose own models are always folders."""


def model_choices(task: Task, device: str = "") -> tuple[ModelChoice, ...]:
    """Return the models for a task, those that ship with the package first, the user's own last.

    Parameters
    ----------
    task
        What they are for.
    device
        Torch device that they will run on, for their speed; "" while it is not known.
    """
    own = [model.path for model in load_settings().own if model.task == task]
    return (
        *(_from_spec(spec, device) for spec in specs(task)),
        *(_from_path(task, path, device, own) for path in own),
    )


def remember_own(task: Task, path: str | os.PathLike[str]) -> str:
    """Take a file or folder into the list of models, now and in later sessions; return the name to load it by.

    It is looked at only briefly here; its weights are checked when it is loaded.

    Raises
    ------
    ChoiceError
        If it is not there, or no model for the task, or cannot be remembered.
    """
    full = Path(os.path.abspath(Path(path).expanduser()))
    try:
        format_of(full, task)
        if full.is_file():
            check_file(full)
        change_settings(lambda settings: settings.with_own(OwnModel(task, str(full))))
    except ModelError as error:
        raise ChoiceError(str(error)) from error
    except OSError as error:
        raise ChoiceError(f"{full} cannot be remembered ({error.strerror or error}); check the disk.") from error
    return str(full)


def forget_own(task: Task, name: str) -> None:
    """Take an own model out of the list; its file stays.

    Raises
    ------
    ChoiceError
        If the settings cannot be written.
    """
    try:
        change_settings(lambda settings: settings.without_own(OwnModel(task, name)))
    except OSError as error:
        raise ChoiceError(f"{name} cannot be forgotten ({error.strerror or error}); check the disk.") from error


def short_name(model: str) -> str:
    """Return what to call a model in a word: its catalog name, or the name of its file."""
    return Path(model).name if Path(model).is_absolute() else model


def device_text() -> tuple[str, str]:
    """Return the device that models will run on, and why. Loads torch, which takes seconds: call it on the lane."""
    device = choose_device()
    return device.name, device.reason


def _from_spec(spec: ModelSpec, device: str) -> ModelChoice:
    status = store.spec_status(spec)
    present = status.present
    wait = expected(spec.task, spec.name, device, spec.seconds)
    size = f"comes with {spec.package}" if spec.ships else f"{spec.size / 1e6:,.0f} MB"
    if spec.ships and spec.package == OURS:
        size = "ships with the package"
    where = "" if present else " (not downloaded yet)"
    tooltip = f"{spec.good_for}\nLicence: {spec.licence}. Size: {size}{where}.\n{speed_text(wait, device)}"
    hint = _hint(spec.title.partition(" · ")[0], spec.task, wait, device)
    coarser = "bfloat16" in spec.precisions
    return ModelChoice(
        spec.name, spec.title, tooltip, present, spec.size, hint, coarser=coarser, problem=status.problem
    )


def _from_path(task: Task, path: str, device: str, own: list[str]) -> ModelChoice:
    place = Path(path)
    alike = sum(Path(other).name == place.name for other in own) > 1
    title = f"{place.name} ({place.parent.name})" if alike else place.name
    problem = _problem_of(place)
    if problem:
        return ModelChoice(path, f"missing · {title}", f"{path}\n{problem}", True, 0, own=True, problem=problem)
    wait = expected(task, path, device)
    tooltip = f"Your own: {path}\nIts licence is the one it came with. {speed_text(wait, device)}"
    try:
        coarser = "bfloat16" in format_of(place, task).precisions
    except ModelError:
        coarser = False  # what is wrong with it is said when it is loaded
    return ModelChoice(path, title, tooltip, True, 0, _hint(title, task, wait, device), own=True, coarser=coarser)


def _problem_of(place: Path) -> str:
    """Return why the file or folder of an own model is not there, "" if it is."""
    try:
        os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return f"“{place.name}” is no longer in {place.parent}; put it back there, or forget it with ✕."
    except OSError as error:
        return f"“{place.name}” cannot be read ({error.strerror}); check its permissions, or forget it with ✕."
    return ""


def _hint(title: str, task: Task, wait: Expected | None, device: str) -> str:
    if wait is None or wait.seconds <= LONG:
        return ""
    where = on(device)
    guess = "" if wait.measured else " (an estimate)"
    return f"{where[0].upper()}{where[1:]} {title} takes about {in_words(wait.seconds)} to {DOES[task]}{guess}."
