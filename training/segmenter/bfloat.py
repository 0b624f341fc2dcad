"""Matrix products of training in bfloat16: inputs, outputs and weights stay float32, so optimizer and losses do too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROWS = 1024
"""Products of fewer rows gain nothing."""


class _Product(torch.autograd.Function):
    """``x @ weight.T + bias`` and its gradients, multiplied in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, kernel = x.reshape(-1, x.shape[-1]).bfloat16(), weight.bfloat16()
        ctx.save_for_backward(rows, kernel)
        ctx.shape, ctx.biased = x.shape, bias is not None
        out = (rows @ kernel.T).float()
        if bias is not None:
            out += bias
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, kernel = ctx.saved_tensors
        flat = grads[0].reshape(-1, kernel.shape[0])
        grad = flat.bfloat16()
        of_x = (grad @ kernel).float().view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_weight = (grad.T @ rows).float() if ctx.needs_input_grad[1] else None
        return of_x, of_weight, flat.sum(0) if ctx.biased else None


class Bfloat16Products(TorchFunctionMode):
    """While entered, every large ``linear`` is computed in bfloat16 (three times as fast where the processor can)."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.linear and args[0].numel() >= ROWS * args[0].shape[-1]:
            x, weight, bias = (*args, given.get("bias"))[:3]
            return _Product.apply(x, weight, bias)
        return func(*args, **given)
