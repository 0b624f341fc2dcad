"""Attention of SAM's image encoder in pieces that fit the cache.

The stock encoder of segment_anything keeps the whole attention matrix of a block (805 MB for ViT-B's global blocks)
and goes through memory with it five times: product, two additions of the relative-position bias, softmax, product.
Here the same operations are done on a few rows of it at a time. On the CPU in float32 every number is computed by the
same operations in the same order, so the result equals the stock encoder's bit for bit wherever the matrix product of
some rows equals these rows of the whole product (it does with the libraries that torch ships for x86); elsewhere it
differs in rounding. On a GPU, and in bfloat16, the pieces go through torch's fused attention with the bias as its mask,
which differs from stock in rounding.

Sources: decomposed relative positions, Li et al., "MViTv2", CVPR 2022, as used by segment_anything; attention in
pieces, Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021 (here the softmax sees whole rows, so there
is nothing to renormalise).

This module is imported only from inside functions; it does not import torch itself.
"""

from __future__ import annotations

from typing import Any

from napari_samdepth.models.device import torch_module

PIECE = 1 << 20
"""Elements of the attention matrix that are worked on at a time on the CPU (4 MiB in float32)."""
FUSED_ROWS = 512
"""Rows of the attention matrix per call of torch's fused attention."""


def run_block(block: Any, x: Any) -> Any:
    """Return what ``block(x)`` returns, with the attention in pieces.

    Parameters
    ----------
    block
        A transformer block of segment_anything's ``ImageEncoderViT``.
    x
        Tensor (B, H, W, C).
    """
    attention, size = block.attn, block.window_size
    height, width = x.shape[1], x.shape[2]
    qkv = attention.qkv(block.norm1(x))
    if size > 0:
        # the padding of the windows is zeros before qkv, so its bias after it: no need to compute that
        heads = attend(attention, _to_windows(qkv, size, attention.qkv.bias))
        heads = _from_windows(heads, size, height, width)
    else:
        heads = attend(attention, qkv)
    x = x + attention.proj(heads)
    return x + block.mlp(block.norm2(x))


def attend(attention: Any, qkv: Any) -> Any:
    """Return what an attention feeds into its last projection, computed in pieces.

    Parameters
    ----------
    attention
        An ``Attention`` of segment_anything's image encoder, with or without relative positions.
    qkv
        Tensor (B, H, W, 3 C), what its ``qkv`` gives.

    Returns
    -------
    Tensor (B, H, W, C).
    """
    torch = torch_module()
    batch, height, width, _ = qkv.shape
    heads = attention.num_heads
    qkv = qkv.reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, batch * heads, height * width, -1).unbind(0)
    bias = _bias(attention, q, height, width) if attention.use_rel_pos else None
    if q.device.type == "cpu" and q.dtype == torch.float32:
        out = _exact(q, k, v, attention.scale, bias, height, width)
    else:
        out = _fused(q, k, v, attention.scale, bias)
    return out.view(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4).reshape(batch, height, width, -1)


def _bias(attention: Any, q: Any, height: int, width: int) -> tuple[Any, Any]:
    """Return the bias per row and per column of the keys: (b, n, height) and (b, n, width)."""
    torch = torch_module()
    table_rows = _relative(attention.rel_pos_h, height)
    table_cols = _relative(attention.rel_pos_w, width)
    grid = q.reshape(q.shape[0], height, width, -1)
    by_row = torch.einsum("bhwc,hkc->bhwk", grid, table_rows)
    by_col = torch.einsum("bhwc,wkc->bhwk", grid, table_cols)
    return by_row.reshape(q.shape[0], -1, height), by_col.reshape(q.shape[0], -1, width)


def _relative(table: Any, size: int) -> Any:
    """Return (size, size, c): the position vectors of every pair, resized if the table is for another size."""
    torch = torch_module()
    span = 2 * size - 1
    if table.shape[0] != span:
        resized = torch.nn.functional.interpolate(table.T[None], size=span, mode="linear")
        table = resized[0].T
    steps = torch.arange(size, device=table.device)
    return table[steps[:, None] - steps[None, :] + size - 1]


def _exact(q: Any, k: Any, v: Any, scale: float, bias: tuple[Any, Any] | None, height: int, width: int) -> Any:
    """Return softmax(q k^T * scale + bias) v, (b, n, c), in the stock order of operations on pieces of PIECE."""
    torch = torch_module()
    count, length, _ = q.shape
    rows = max(1, min(length, PIECE // length))
    group = max(1, min(count, PIECE // (rows * length)))
    scaled, keys = q * scale, k.transpose(-2, -1)
    out = torch.empty_like(v)
    for first in range(0, count, group):
        some = slice(first, min(first + group, count))
        for top in range(0, length, rows):
            part = slice(top, min(top + rows, length))
            logits = torch.bmm(scaled[some, part], keys[some])
            if bias is not None:
                grid = logits.view(logits.shape[0], logits.shape[1], height, width)
                grid += bias[0][some, part, :, None]
                grid += bias[1][some, part, None, :]
            out[some, part] = torch.bmm(logits.softmax(dim=-1), v[some])
    return out


def _fused(q: Any, k: Any, v: Any, scale: float, bias: tuple[Any, Any] | None) -> Any:
    """Return softmax(q k^T * scale + bias) v, (b, n, c), through torch's fused attention."""
    torch = torch_module()
    fused = torch.nn.functional.scaled_dot_product_attention
    if bias is None:
        return fused(q[None], k[None], v[None], scale=scale)[0]
    out = torch.empty_like(v)
    length = q.shape[1]
    for top in range(0, length, FUSED_ROWS):
        part = slice(top, min(top + FUSED_ROWS, length))
        mask = (bias[0][:, part, :, None] + bias[1][:, part, None, :]).reshape(q.shape[0], -1, length)
        out[:, part] = fused(q[None, :, part], k[None], v[None], attn_mask=mask[None].to(q.dtype), scale=scale)[0]
    return out


def _to_windows(x: Any, size: int, fill: Any) -> Any:
    """Return (B * windows, size, size, C): the image, padded with `fill` (C,), cut into windows, row after row."""
    batch, height, width, channels = x.shape
    down, across = -(-height // size), -(-width // size)
    if (height, width) != (down * size, across * size):
        padded = x.new_zeros((batch, down * size, across * size, channels))
        if fill is not None:
            padded[:] = fill
        padded[:, :height, :width] = x
        x = padded
    x = x.view(batch, down, size, across, size, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch * down * across, size, size, channels)


def _from_windows(x: Any, size: int, height: int, width: int) -> Any:
    """Return (B, height, width, C): the inverse of `_to_windows`, without the padding."""
    down, across = -(-height // size), -(-width // size)
    batch, channels = x.shape[0] // (down * across), x.shape[-1]
    x = x.view(batch, down, across, size, size, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, down * size, across * size, channels)[:, :height, :width].contiguous()
