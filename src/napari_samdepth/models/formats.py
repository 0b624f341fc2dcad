"""The forms in which models lie on disk, whose they are and how each is loaded: the catalog's, and files of the user's.

A catalog model is a `Format` with a name and a place to fetch it from; a path of the user's is one without.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.auto_masks.point_grid import Search
from napari_samdepth.models.runtime.device import Precision
from napari_samdepth.models.spec import SAM_SEARCH, LoadRequest, ModelSpec, Task
from napari_samdepth.models.weights.configuration import read_configuration
from napari_samdepth.models.weights.file_formats import unreadable

BOTH: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Format:
    """How models of one form are recognised and loaded, and what all of them can do.

    Attributes
    ----------
    task, load, precisions, search
        As in `ModelSpec`.
    name
        What a sentence calls them.
    model_types
        Folders: values of ``model_type`` in config.json that it loads, () for any.
    file
        Whether it is a single file, not a folder.
    """

    task: Task
    name: str
    load: Callable[[LoadRequest], Any]
    model_types: tuple[str, ...] = ()
    file: bool = False
    precisions: tuple[Precision, ...] = ("float32",)
    search: Search = SAM_SEARCH

    def spec(self, name: str, **facts: Any) -> ModelSpec:
        """Return the spec of a model in this form, with what else is known of it."""
        return ModelSpec(
            name=name, task=self.task, load=self.load, precisions=self.precisions, search=self.search, **facts
        )


def _load_sam(asked: LoadRequest) -> Any:
    from napari_samdepth.models.sam.segmenter import load_sam

    spec = asked.spec
    return load_sam(
        asked.files, spec.name, asked.device, asked.report, architecture=spec.architecture, precision=asked.precision
    )


def _load_sam_folder(asked: LoadRequest) -> Any:
    from napari_samdepth.models.sam.transformers_format import load_sam_folder

    return load_sam_folder(asked.files, asked.spec.name, asked.device, asked.report, precision=asked.precision)


def _load_sam2(asked: LoadRequest) -> Any:
    from napari_samdepth.models.sam.sam2 import load_sam2

    return load_sam2(asked.files, asked.spec.name, asked.device, asked.report)


def _load_depth(asked: LoadRequest) -> Any:
    from napari_samdepth.models.depth.transformers_depth import load_depth

    spec = asked.spec
    return load_depth(asked.files, spec.name, asked.device, asked.report, spec=spec, precision=asked.precision)


def _load_grounding_dino(asked: LoadRequest) -> Any:
    from napari_samdepth.models.text.grounding_dino import load_grounding_dino

    return load_grounding_dino(asked.files, asked.spec.name, asked.device, asked.report)


def _load_sam3(asked: LoadRequest) -> Any:
    from napari_samdepth.models.sam.sam3 import load_sam3

    return load_sam3(asked.files, asked.spec.name, asked.device, asked.report)


SAM_FILE = Format("segment", "SAM", _load_sam, file=True, precisions=BOTH)
SAM_FOLDER = Format("segment", "SAM", _load_sam_folder, ("sam",), precisions=BOTH)
SAM2 = Format("segment", "SAM 2", _load_sam2, ("sam2", "sam2_video"))
DEPTH = Format("depth", "a depth model", _load_depth, precisions=BOTH)
GROUNDING_DINO = Format("text", "Grounding DINO", _load_grounding_dino, ("grounding-dino", "mm-grounding-dino"))
SAM3 = Format("text", "SAM 3", _load_sam3, ("sam3", "sam3_video"))
FORMATS = (SAM_FILE, SAM2, SAM_FOLDER, DEPTH, GROUNDING_DINO, SAM3)

FOLDERS_ONLY: tuple[Task, ...] = tuple(
    task for task in get_args(Task) if not any(form.file for form in FORMATS if form.task == task)
)
"""Tasks whose own models are always folders."""


def format_of(path: Path, task: Task) -> Format:
    """Return the form of a file or folder of the user's, which is looked at only briefly; loading looks closer.

    Raises
    ------
    ModelError
        If it is not there or not readable, a file where a folder is wanted, or the folder of another kind of model.
    """
    try:
        folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise ModelError(f"{path} is a link to what is not there; check where it leads.") from error
        raise ModelError(f"There is no file or folder {path}; check the path.") from error
    except (OSError, ValueError) as error:
        raise ModelError(unreadable(path, error)) from error
    forms = [form for form in FORMATS if form.task == task and form.file != folder]
    if not forms:
        what = "depth model" if task == "depth" else "model that finds words"
        raise ModelError(f"{path} is a file; a {what} is given as a folder with config.json and its weights.")
    if not folder:
        return forms[0]
    kind = str(read_configuration(path)["model_type"])
    for form in forms:
        if kind in form.model_types or not form.model_types:
            return form
    known = " or ".join(form.name for form in forms)
    if task == "text":
        raise ModelError(f"{path} holds a {kind} model; words are found by {known}.")
    raise ModelError(f"{path} holds a {kind} model; a segmenter's folder must hold {known}.")


def spec_of(path: Path, task: Task) -> ModelSpec:
    """Return the spec of a file or folder of the user's. Raises as `format_of` does."""
    return format_of(path, task).spec(path.name, good_for="Your own.", licence="the one it came with")
