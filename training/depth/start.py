"""The starting weights: TCMonoDepth's small network, read from its ONNX file (batch norms are folded in there)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from napari_samdepth.models.builtin.depth_net import DepthNet

TEACHER = Path(__file__).parents[3] / "shared/data/teacher/tcmonodepth_tcsmallnet_192x320.onnx"


def _convolutions(path: Path) -> tuple[list[tuple[Tensor, Tensor]], float]:
    """Weight and bias of every convolution in the file's order, and what its input is divided by."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    found = [n.input[1:3] for n in graph.node if n.op_type == "Conv"]
    pairs = [(torch.tensor(values[weight]), torch.tensor(values[bias])) for weight, bias in found]
    divisor = next((float(values[n.input[1]]) for n in graph.node if n.op_type == "Div" and n.input[0] == "input"), 1.0)
    return pairs, divisor


def teacher(path: Path = TEACHER) -> DepthNet:
    """The network with the published weights: `DepthNet` whose context branch still adds nothing, in eval mode.

    Its answer is that of the file before the last ReLU, at half of the input's size, for input in 0..1 where the file
    takes 0..255.  FileNotFoundError without the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}: give the place of tcmonodepth_tcsmallnet_192x320.onnx.")
    pairs, divisor = _convolutions(path)
    torch.manual_seed(0)
    net = DepthNet()
    own = [m for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and not name.startswith("context")]
    with torch.no_grad():
        for module, (weight, bias) in zip(own, pairs, strict=True):
            module.weight.copy_(weight)
            assert module.bias is not None
            module.bias.copy_(bias)
        net.first.weight.mul_(255 / divisor)
    return net.eval()
