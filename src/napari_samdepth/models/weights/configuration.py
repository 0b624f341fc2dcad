"""The configuration of a folder in transformers' format, looked at before transformers acts on it.

A configuration can name code to run, parts to fetch, and numbers that ask for terabytes or for a billion layers. Each
is refused in one sentence while it is still text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.weights.file_formats import read_json, unreadable

LARGEST_NUMBER = 1 << 20
"""No width, vocabulary or index of a network is larger."""
MOST_LAYERS = 300
"""Of one kind, and in sum where a list has them by stages."""
MOST_CLASSES = 30_000
"""Of objects, where a configuration has them: each is given a name when it is read."""
LARGEST_IMAGE = 4096
"""Pixels a side that a network may be made for."""

_LAYERS = re.compile(r"(^|_)(layers|depths?|blocks|stages|levels)($|_per_)|num_.*(layers|blocks|stages)")
_PROCESSING = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_OTHERS = (*_PROCESSING, "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json")


def read_configuration(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json, which asks for nothing that is not in the folder.

    Raises
    ------
    ModelError
        If there is none, it is no configuration of transformers, brings code, names a part that would be fetched, or
        holds numbers beyond reason.
    """
    path = folder / "config.json"
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"{folder} holds no config.json; give a folder in transformers' format, or a checkpoint file."
        ) from error
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    try:
        settings = read_json(path)
    except ModelError as error:
        why = str(error).removeprefix(f"{path} ").partition(";")[0]
        raise ModelError(f"{path} is not a configuration of transformers ({why}); download the model again.") from error
    if not isinstance(settings.get("model_type"), str):
        raise ModelError(f"{path} is not a configuration of transformers (no model_type); download the model again.")
    _check_code(folder, settings)
    _check_whole(folder, settings)
    _check_numbers(path, settings)
    return settings


def check_processing(folder: Path) -> None:
    """Look likewise at the files of a folder's image processor and tokenizer, where there are any.

    Raises
    ------
    ModelError
        If one is not a JSON object, brings code, or asks for images beyond reason.
    """
    for name in _OTHERS:
        path = folder / name
        if not os.path.lexists(path):
            continue
        settings = read_json(path)
        if name == "tokenizer.json":
            continue
        _check_code(folder, settings)
        if name in _PROCESSING:
            for key, value in _numbers(settings):
                if abs(value) > LARGEST_IMAGE:
                    raise ModelError(f"{path} asks for images of {value} pixels ({key}); download the model again.")


def _check_code(folder: Path, settings: dict[str, Any]) -> None:
    if any(key == "auto_map" and value for key, value in _entries(settings)):
        raise ModelError(f"{folder} brings Python code of its own, which is never run; choose a model without it.")


def _check_whole(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a network of which a part would have to come from elsewhere."""
    if os.path.lexists(folder / "adapter_config.json"):
        raise ModelError(f"{folder} holds an adapter to another model, which is not in it; give a whole model.")
    parts = [settings, *(value for _, value in _entries(settings) if isinstance(value, dict))]
    for part in parts:
        named = part.get("backbone")
        if named and not part.get("backbone_config") and part.get("model_type") != "timm_backbone":
            raise ModelError(
                f"{folder} names a part that is not in it (the backbone {named!r}), and nothing is fetched for a "
                "folder; give a whole model."
            )
        if part.get("quantization_config"):
            raise ModelError(f"{folder} holds quantised weights, which are not read; choose the model in float32.")


def _check_numbers(path: Path, settings: dict[str, Any]) -> None:
    for key, value in _entries(settings):
        numbers = value if isinstance(value, list) else [value]
        whole = [abs(number) for number in numbers if isinstance(number, int)]
        counted = sum(whole) if _LAYERS.search(key) else max(whole, default=0)
        most = LARGEST_NUMBER
        if _LAYERS.search(key):
            most = MOST_LAYERS
        elif key.endswith("image_size"):
            most = LARGEST_IMAGE
        elif key == "num_labels":
            most = MOST_CLASSES
        if counted > most or len(numbers) > LARGEST_NUMBER:
            raise ModelError(f"{path} asks for {counted} ({key}), which no network has; download the model again.")


def _numbers(settings: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for key, value in _entries(settings):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int):
                yield key, number


def _entries(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give each key with its value, at every depth; what is nested in a list counts under the list's key."""
    waiting: list[tuple[str, Any]] = list(settings.items())
    while waiting:
        key, value = waiting.pop()
        yield key, value
        if isinstance(value, dict):
            waiting.extend((str(name), inner) for name, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((key, inner) for inner in value if isinstance(inner, (dict, list)))
