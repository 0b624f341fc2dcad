"""Matrix products and convolutions in bfloat16 that keep an image's depth order: the mean goes through in float32.

What enters a layer of a network is much the same at every place of the image, plus what differs from place to place;
depth is made of the latter. Eight bits for the sum leave few for the difference. So the mean over all places is taken
off first, the rest goes through the layer in bfloat16, and the mean through the same layer in float32; the layer is
linear, so the two add up. On a DPT-large this takes away half to five sixths of what bfloat16 does to the order of
depths, for a twentieth more time than bfloat16 alone.

On the CPU the weights of matrix products are kept in the order that the processor's kernel reads them (oneDNN's, the
one that torch's own compiler uses), which saves putting them into it at every call.
"""

from __future__ import annotations

from typing import Any
from weakref import proxy, ref

from napari_samdepth.models.runtime.device import torch_module

LEAST = 32
"""Channels, in and out, below which a layer takes too little time to be worth it."""
PIECE = 1 << 20
"""Elements that are centred and rounded at a time, so that what is between stays in the cache."""


def subtract_means(network: Any) -> None:
    """Let the large linear layers and convolutions of `network` compute in bfloat16, between float32 tensors.

    Parameters
    ----------
    network
        A torch module in eval mode with float32 weights in channels-last order; its layers get another ``forward``.
        Convolutions with 1 x 1 kernels, with groups, or of images that are not padded by zeros stay as they are, as
        does what is too small to matter.
    """
    torch = torch_module()
    last = _Last()
    for module in network.modules():
        # layers derived from these may compute something else
        if type(module) is torch.nn.Linear and min(module.weight.shape) >= LEAST:
            module.forward = MeanSubtractedLinear(module, last)
        elif type(module) is torch.nn.Conv2d and _is_worth_it(module):
            module.forward = MeanSubtractedConvolution(module)


def _is_worth_it(convolution: Any) -> bool:
    return bool(
        min(convolution.weight.shape[:2]) >= LEAST
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and convolution.kernel_size[0] * convolution.kernel_size[1] > 1
    )


class _Last:
    """What was centred last: queries, keys and values are made of the same tensor."""

    def __init__(self) -> None:
        self._of: Any = lambda: None
        self._start: Any = None
        self._centred: tuple[Any, Any] | None = None

    def centred(self, x: Any) -> tuple[Any, Any]:
        """Return the mean (1, C) of x (..., C) and the rest (N, C) in bfloat16."""
        torch = torch_module()
        rows = x.reshape(-1, x.shape[-1])
        # the same tensor may hold something else by now; tensors made for inference do not count their changes
        if self._centred is None or self._of() is not x or not torch.equal(rows[0], self._start):
            mean = rows.mean(0, keepdim=True)
            self._centred = mean, _rest(rows, mean)
            self._of, self._start = ref(x, self._forget), rows[0].clone()
        return self._centred

    def _forget(self, _gone: Any) -> None:
        self._centred = self._start = None


def _rest(rows: Any, mean: Any) -> Any:
    """Return ``rows - mean`` in bfloat16, of (N, C) and (1, C)."""
    torch = torch_module()
    step = max(1, PIECE // rows.shape[1])
    if len(rows) <= 2 * step:
        return (rows - mean).to(torch.bfloat16)
    rest = torch.empty(rows.shape, dtype=torch.bfloat16, device=rows.device)
    for top in range(0, len(rows), step):
        rest[top : top + step] = rows[top : top + step] - mean
    return rest


class MeanSubtractedLinear:
    """The ``forward`` of a linear layer whose deviations from the mean go through in bfloat16.

    Parameters
    ----------
    layer
        A ``torch.nn.Linear``.
    last
        Shared by the layers of a network.
    """

    def __init__(self, layer: Any, last: _Last) -> None:
        self._layer: Any = proxy(layer)
        self._last = last
        self._weight: Any = None

    def __call__(self, x: Any) -> Any:
        """Return (..., out) of (..., in), both float32."""
        torch, layer = torch_module(), self._layer
        mean, rest = self._last.centred(x)
        if self._weight is None or self._weight.device != x.device:
            self._weight = layer.weight.to(torch.bfloat16)
            if _packs(x):
                self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, len(rest))
        if _packs(x):
            product = torch.ops.mkldnn._linear_pointwise(rest, self._weight, None, "none", [], "")
        else:
            product = torch.nn.functional.linear(rest, self._weight)
        through = torch.nn.functional.linear(mean, layer.weight, layer.bias)
        return product.float().add_(through).view(*x.shape[:-1], -1)


def _packs(x: Any) -> bool:
    """Return whether torch packs weights for products with `x`."""
    torch = torch_module()
    return x.device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class MeanSubtractedConvolution:
    """The ``forward`` of a convolution whose deviations from each channel's mean go through in bfloat16.

    Parameters
    ----------
    layer
        A ``torch.nn.Conv2d`` without groups that pads with zeros.
    """

    def __init__(self, layer: Any) -> None:
        self._layer: Any = proxy(layer)
        self._weight: Any = None

    def __call__(self, x: Any) -> Any:
        """Return (B, out, h, w) of (B, in, H, W), both float32, channels last."""
        torch, layer = torch_module(), self._layer
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        mean = rows.mean(0, keepdim=True)
        rest = _rest(rows, mean).view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)
        if self._weight is None or self._weight.device != x.device:
            self._weight = layer.weight.to(torch.bfloat16, memory_format=torch.channels_last)
        how = layer.stride, layer.padding, layer.dilation
        product = torch.nn.functional.conv2d(rest, self._weight, None, *how)
        return product.float().add_(self._of_constant(mean[0], x.shape[2:], how))

    def _of_constant(self, mean: Any, size: tuple[int, int], how: Any) -> Any:
        """Return what the layer makes of an image with the same (in,) everywhere: (1, out, h, w).

        Only which taps of the kernel lie on the image, and which on its padding, differs from place to place.
        """
        torch, layer = torch_module(), self._layer
        stride, padding, dilation = how
        inside = torch.ones((1, 1, *size), device=mean.device)
        kernel = layer.kernel_size
        on_image = torch.nn.functional.unfold(inside, kernel, dilation, padding, stride)[0].T
        taps = layer.weight.permute(0, 2, 3, 1).reshape(-1, layer.in_channels) @ mean
        taps = taps.view(layer.out_channels, -1).T
        made = on_image @ taps if layer.bias is None else torch.addmm(layer.bias, on_image, taps)
        high = (size[0] + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        return made.view(1, high, -1, layer.out_channels).permute(0, 3, 1, 2)
