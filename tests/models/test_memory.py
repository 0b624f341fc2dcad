"""Where the machine's memory is not enough, every adapter says so in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.loading import load_depth_estimator, load_segmenter
from napari_samdepth.models.runtime.device import enough_memory
from napari_samdepth.models.weights.checkpoint import read_weights
from tests.models.weights.test_pretrained import SOURCES

RGB = np.full((40, 60, 3), 100, np.uint8)
SENTENCE = r"^There is not enough memory for [a-z ]+; give a smaller image, close other programs, or choose a smaller"


def _more_than_torch_can(*_: Any, **__: Any) -> Any:
    return torch.empty(1 << 55)


def _more_than_numpy_can(*_: Any, **__: Any) -> Any:
    return np.empty(1 << 50)


SEGMENTERS = {"builtin", "sam", "sam2"}


@pytest.mark.usefixtures("small_architecture")
@pytest.mark.parametrize("allocate", [_more_than_torch_can, _more_than_numpy_can])
@pytest.mark.parametrize("kind", ["builtin", "builtin depth", "sam", *SOURCES])
def test_too_little_memory_is_one_sentence(
    kind: str, allocate: Callable[..., Any], tmp_path: Path, weights: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.startswith("builtin"):
        model = (load_depth_estimator if "depth" in kind else load_segmenter)("builtin", "cpu")
    elif kind == "sam":
        torch.save(weights, tmp_path / "a.pth")
        model = load_segmenter(tmp_path / "a.pth", "cpu")
    else:
        make, load = SOURCES[kind]
        model = load(make(tmp_path / kind), "cpu")
    embedding = model.encode(RGB) if kind in SEGMENTERS else None
    for module in model.network.modules():
        monkeypatch.setattr(module, "forward", allocate)
    uses: list[Callable[[], Any]]
    if embedding is not None:
        uses = [lambda: model.encode(255 - RGB), lambda: model.decode(embedding, Prompts(box=(2, 2, 20, 20)))]
    elif kind in ("dino", "sam3"):
        uses = [lambda: model.detect(RGB, "coin.", 0.1)]
    else:
        uses = [lambda: model.estimate(RGB)]
    for use in uses:
        with pytest.raises(ModelError, match=SENTENCE):
            use()


def test_what_is_no_question_of_memory_passes() -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), enough_memory("anything"):
        raise RuntimeError("sizes differ")


def test_weights_too_large_for_memory_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "load", _more_than_torch_can)
    with pytest.raises(ModelError, match="claims to hold more than fits into memory"):
        read_weights(tmp_path / "a.pth")
