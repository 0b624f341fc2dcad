"""Every model that can be named: those of the catalog, those of other packages, and those that a script registers.

Another package brings models by the entry-point group ``napari_samdepth.models``; an entry point gives a `ModelSpec`,
several of them, or a function that returns either.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.catalog import SPECS
from napari_samdepth.models.spec import ModelSpec, Task

logger = logging.getLogger(__name__)

GROUP = "napari_samdepth.models"
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")

_registered: dict[tuple[Task, str], ModelSpec] = {(spec.task, spec.name): spec for spec in SPECS}
_lock = threading.RLock()
_state = {"asked": False}


def register_model(spec: ModelSpec) -> None:
    """Let a model be chosen by its name, in scripts, on the command line and in the docks.

    Parameters
    ----------
    spec
        What is known of it. It takes the place of one of the same task, name and package.

    Raises
    ------
    ValueError
        If it is no spec, its name could not be typed or would be taken for a path, or is another package's.
    """
    if not isinstance(spec, ModelSpec):
        raise ValueError(f"register_model takes a ModelSpec, got {type(spec).__name__}.")
    if not isinstance(spec.name, str) or not spec.name.strip() or not spec.name.isprintable():
        raise ValueError(f"A model's name must be printable text, got {spec.name!r}.")
    if is_like_path(spec.name):
        raise ValueError(f"A model's name must not look like the path of a file, got {spec.name!r}.")
    with _lock:
        there = _registered.get((spec.task, spec.name))
        if there is not None and (there in SPECS or there.package != spec.package):
            raise ValueError(f"There is a model called {spec.name!r} already, of {there.package}; choose another name.")
        _registered[spec.task, spec.name] = spec


def specs(task: Task | None = None) -> tuple[ModelSpec, ...]:
    """Return the models for `task` (all if None): the catalog's in its order, then those of others."""
    _ask_packages()
    with _lock:
        return tuple(spec for spec in _registered.values() if task in (None, spec.task))


def find(name: str, task: Task | None = None) -> ModelSpec:
    """Return the model called `name`.

    Raises
    ------
    ModelError
        If there is none of that name for the task; the message names those that exist.
    """
    for spec in specs(task):
        if spec.name == name:
            return spec
    known = ", ".join(dict.fromkeys(spec.name for spec in specs(task)))
    raise ModelError(f"There is no model called {name!r}; choose one of: {known}, or give the path of a checkpoint.")


def is_path(text: str) -> bool:
    """Whether a user means a file or folder: it looks like one, or lies there and no model is called that."""
    named = any(spec.name == text for spec in specs())
    return is_like_path(text) or (bool(text) and not named and os.path.exists(text))


def is_like_path(text: str) -> bool:
    """Whether a text is the path of a file or folder by its looks."""
    separators = [mark for mark in (os.sep, os.altsep, "/") if mark]
    if any(mark in text for mark in separators) or text.lower().endswith(WEIGHT_SUFFIXES):
        return True
    return text.startswith("~")


def _ask_packages() -> None:
    """Register what installed packages bring, once; one that fails is told of in the log and left out."""
    with _lock:
        if _state["asked"]:
            return
        _state["asked"] = True
        for point in entry_points(group=GROUP):
            package = point.dist.name if point.dist is not None else point.module
            try:
                for spec in _brought(point):
                    register_model(replace(spec, package=package))
            except Exception as error:
                # whatever is wrong with another package, our own models go on
                logger.warning("The models of %s (%s) are left out: %s", package, point.value, error, exc_info=True)


def _brought(point: EntryPoint) -> Iterable[ModelSpec]:
    given: Any = point.load()
    if callable(given):
        given = given()
    found = (given,) if isinstance(given, ModelSpec) else tuple(given)
    odd = next((spec for spec in found if not isinstance(spec, ModelSpec)), None)
    if odd is not None:
        raise ValueError(f"an entry point must give ModelSpecs, got {type(odd).__name__}.")
    return found
