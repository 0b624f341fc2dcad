"""Models that are closed: their memory goes, what uses them afterwards is told, embeddings stay."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.loading import load_depth_estimator, load_segmenter
from napari_samdepth.models.protocols import Closable
from napari_samdepth.models.runtime.device import Device, empty_cache
from napari_samdepth.models.sam.segmenter import SamSegmenter

RGB = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)


def weights_of(network: Any) -> list[weakref.ref[Any]]:
    return [weakref.ref(module) for module in network.modules()]


@pytest.mark.parametrize("task", ["segment", "depth"])
def test_a_closed_model_leaves_no_weights_behind(task: str) -> None:
    model: Any = load_segmenter("builtin", "cpu") if task == "segment" else load_depth_estimator("builtin", "cpu")
    assert isinstance(model, Closable)
    assert model.nbytes > 1e6
    if task == "segment":
        embedding = model.encode(RGB)
        model.decode(embedding, Prompts([(20, 30)]))
        model.masks_above(embedding, np.array([(20.0, 30.0)]), 0.0)
    else:
        model.estimate(RGB)
    alive = weights_of(model.network)
    model.close()
    gc.collect()
    assert [module() for module in alive if module() is not None] == []
    assert model.nbytes == 0
    assert (model.name, model.device) == ("builtin", "cpu"), "what it was is still known"
    model.close()
    with pytest.raises(ModelError, match="builtin was closed; load it again"):
        model.encode(RGB) if task == "segment" else model.estimate(RGB)


def test_another_of_the_same_weights_takes_the_embeddings_of_a_closed_one(tiny_sam: Any) -> None:
    from copy import deepcopy

    first, second = (SamSegmenter(deepcopy(tiny_sam), "tiny", "tiny:0", Device("cpu", "asked for")) for _ in range(2))
    embedding, prompts = first.encode(RGB), Prompts([(20, 30)])
    masks = first.decode(embedding, prompts).masks
    alive = weights_of(first.network)
    first.close()
    gc.collect()
    assert not any(module() for module in alive)
    np.testing.assert_array_equal(second.decode(embedding, prompts).masks, masks)
    with pytest.raises(ModelError, match="tiny was closed"):
        first.decode(embedding, prompts)


def test_only_gpus_have_memory_to_give_back() -> None:
    for device in ("cpu", "cuda:0", "mps"):
        empty_cache(device)
