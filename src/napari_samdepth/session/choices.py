"""What a panel can offer: the catalog's models and the user's own, with what is said of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from napari_samdepth.core.durations import in_words
from napari_samdepth.core.errors import ModelError, UserError
from napari_samdepth.models import catalog
from napari_samdepth.models.entry import ModelEntry, Task
from napari_samdepth.models.loading import check_path
from napari_samdepth.models.runtime.device import Precision, choose_device
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
COARSER = ("sam", "transformers-depth")
"""Families whose networks run in bfloat16 as well."""
FOLDERS = ("depth", "text")
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
        *(_from_catalog(entry, device) for entry in catalog.entries(task)),
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
        check_path(full, task)
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


def _from_catalog(entry: ModelEntry, device: str) -> ModelChoice:
    status = store.entry_status(entry)
    present = status.present
    wait = expected(entry.task, entry.name, device, entry.architecture)
    size = "ships with the package" if entry.ships else f"{entry.size / 1e6:,.0f} MB"
    where = "" if present else " (not downloaded yet)"
    tooltip = f"{entry.good_for}\nLicence: {entry.licence}. Size: {size}{where}.\n{speed_text(wait, device)}"
    hint = _hint(entry.title.partition(" · ")[0], entry.task, wait, device)
    coarser = entry.family in COARSER
    return ModelChoice(
        entry.name, entry.title, tooltip, present, entry.size, hint, coarser=coarser, problem=status.problem
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
    coarser = task == "depth" or (task == "segment" and place.is_file())
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
