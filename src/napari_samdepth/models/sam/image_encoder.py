"""Blocks of SAM's image encoder in parts that fit the cache and that threads can share out.

The stock encoder of segment_anything keeps the whole attention matrix of a block (805 MB for ViT-B's global blocks)
and goes through memory with it five times: product, two additions of the relative-position bias, softmax, product.
On the CPU a block is done here in three rounds: queries, keys and values of some pixels, the attention of a window (or
of a head's few rows), the rest for some pixels. The parts of a round are independent, so that each thread takes its own
(`thread_pool`), and the attention goes on PIECE elements of its matrix. In float32 every number is computed by
the same operations in the same order, so the result equals the stock encoder's bit for bit wherever the matrix product
of some rows equals these rows of the whole product (it does with the libraries that torch ships for x86); elsewhere it
differs in rounding. Torch's fused attention with the bias as its mask, which differs from stock in rounding, was slower
here, except in the windows in bfloat16. A GPU takes all windows at once, and goes through it.

Sources: decomposed relative positions, Li et al., "MViTv2", CVPR 2022, as used by segment_anything; attention in
pieces, Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021 (here the softmax sees whole rows, so there
is nothing to renormalise).

This module is imported only from inside functions; it does not import torch itself.
"""

from __future__ import annotations

from typing import Any

from napari_samdepth.models.runtime.device import torch_module
from napari_samdepth.models.runtime.thread_pool import ThreadPool

PIECE = 1 << 20
"""Elements of the attention matrix that are worked on at a time on the CPU (4 MiB in float32)."""
PIXELS = 512
"""Pixels that a thread takes at a time, fewer where there are many threads."""
FEWEST_PIXELS = 128
"""Below so many the products of matrices become slow."""
ROWS = 8
"""Rows of the image whose attention, in a global block and one head, a thread takes at a time."""
FEW = 1024
"""Below so many keys (a window has 196) torch's fused attention is quicker in bfloat16, above the pieces are."""
FUSED_ROWS = 512
"""Rows of the attention matrix per call of torch's fused attention."""


def run_block(block: Any, x: Any, pool: ThreadPool) -> Any:
    """Return what ``block(x)`` returns, with the attention in pieces.

    Parameters
    ----------
    block
        A transformer block of segment_anything's ``ImageEncoderViT``.
    x
        Tensor (B, H, W, C).
    pool
        Threads for the CPU.
    """
    torch = torch_module()
    if x.device.type != "cpu":
        return _whole(block, x)
    out = torch.empty_like(x)
    for image, result in zip(x, out, strict=True):
        _in_parts(block, image, result, pool)
    return out


def _whole(block: Any, x: Any) -> Any:
    """Return what ``block(x)`` returns, all windows at once."""
    attention, size = block.attn, block.window_size
    height, width = x.shape[1], x.shape[2]
    qkv = attention.qkv(block.norm1(x))
    if size > 0:
        # the padding of the windows is zeros before qkv, so its bias after it: no need to compute that
        heads = _at_once(attention, _to_windows(qkv, size, attention.qkv.bias))
        heads = _from_windows(heads, size, height, width)
    else:
        heads = _at_once(attention, qkv)
    x = x + attention.proj(heads)
    return x + block.mlp(block.norm2(x))


def _in_parts(block: Any, x: Any, out: Any, pool: ThreadPool) -> None:
    """Write what the block makes of an image (H, W, C) into `out`, part after part."""
    torch, attention = torch_module(), block.attn
    height, width, channels = x.shape
    pixels, result = x.reshape(-1, channels), out.view(-1, channels)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    qkv = x.new_empty((height * width, 3 * channels), dtype=dtype)
    heads = x.new_empty((height * width, channels), dtype=dtype)

    def asked(some: slice) -> None:
        qkv[some] = attention.qkv(block.norm1(pixels[some]))

    def answered(some: slice) -> None:
        rows = pixels[some] + attention.proj(heads[some])
        torch.add(rows, block.mlp(block.norm2(rows)), out=result[some])

    step = max(FEWEST_PIXELS, min(PIXELS, -(-height * width // (2 * pool.count))))
    spans = [slice(first, first + step) for first in range(0, height * width, step)]
    pool.each(asked, spans)
    see = _see_windows if block.window_size else _see_all
    see(block, qkv.view(height, width, -1), heads.view(height, width, channels), pool)
    pool.each(answered, spans)


def _see_windows(block: Any, qkv: Any, heads: Any, pool: ThreadPool) -> None:
    """Write the attention's heads (H, W, C) of an image's qkv (H, W, 3 C), window by window."""
    attention, size = block.attn, block.window_size
    tables = _tables(attention, size, size)

    def window(corner: tuple[int, int]) -> None:
        top, left = corner
        part = qkv[top : top + size, left : left + size]
        heads[top : top + size, left : left + size] = _window(attention, part, size, tables)

    pool.each(window, [(top, left) for top in range(0, len(qkv), size) for left in range(0, qkv.shape[1], size)])


def _see_all(block: Any, qkv: Any, heads: Any, pool: ThreadPool) -> None:
    """Write the attention's heads (H, W, C) of an image's qkv (H, W, 3 C), a few rows of a head at a time."""
    attention, width = block.attn, qkv.shape[1]
    tables = _tables(attention, len(qkv), width)
    queries, keys, values = _split(attention, qkv)
    keys, values = keys.contiguous(), values.contiguous()
    by_head = heads.view(-1, attention.num_heads, queries.shape[-1])

    def look(part: tuple[int, int]) -> None:
        head, top = part
        some = slice(top * width, min(top + ROWS, len(qkv)) * width)
        asking, one = queries[head : head + 1, some], slice(head, head + 1)
        near = _bias(asking, tables, range(top, min(top + ROWS, len(qkv))), width)
        by_head[some, head] = _attend(asking, keys[one], values[one], attention.scale, near)

    pool.each(look, [(head, top) for top in range(0, len(qkv), ROWS) for head in range(attention.num_heads)])


def _window(attention: Any, qkv: Any, size: int, tables: tuple[Any, Any] | None) -> Any:
    """Return the attention's heads (h, w, C) of a window, given its qkv (h, w, 3 C) with h, w <= size."""
    height, width, channels = qkv.shape
    window = qkv
    if (height, width) != (size, size):
        # the padding is zeros before qkv, so its bias after it: no need to compute that
        window = qkv.new_zeros((size, size, channels))
        if attention.qkv.bias is not None:
            window[:] = attention.qkv.bias
        window[:height, :width] = qkv
    queries, keys, values = _split(attention, window)
    # what the padding below would ask is not wanted
    queries = queries[:, : height * size]
    near = _bias(queries, tables, range(height), size)
    return _attend(queries, keys, values, attention.scale, near).view(height, size, -1)[:, :width]


def _split(attention: Any, qkv: Any) -> Any:
    """Return queries, keys and values, each (heads, n, d), of (h, W, 3 C)."""
    return qkv.reshape(-1, 3, attention.num_heads, qkv.shape[-1] // 3 // attention.num_heads).permute(1, 2, 0, 3)


def _tables(attention: Any, height: int, width: int) -> tuple[Any, Any] | None:
    """Return the position vectors of every pair of rows (h, h, d) and of columns (w, w, d), None if there are none."""
    if not attention.use_rel_pos:
        return None
    return _relative(attention.rel_pos_h, height), _relative(attention.rel_pos_w, width)


def _relative(table: Any, size: int) -> Any:
    """Return (size, size, c): the position vectors of every pair, resized if the table is for another size."""
    torch = torch_module()
    span = 2 * size - 1
    if table.shape[0] != span:
        resized = torch.nn.functional.interpolate(table.T[None], size=span, mode="linear")
        table = resized[0].T
    steps = torch.arange(size, device=table.device)
    return table[steps[:, None] - steps[None, :] + size - 1]


def _bias(queries: Any, tables: tuple[Any, Any] | None, rows: range, width: int) -> tuple[Any, Any] | None:
    """Return the bias (b, n, h) per row and (b, n, w) per column of the keys, for queries (b, n, d) of some rows."""
    if tables is None:
        return None
    torch = torch_module()
    count, length, depth = queries.shape
    grid = queries.reshape(count, len(rows), width, depth)
    by_row = torch.einsum("bhwc,hkc->bhwk", grid, tables[0][rows.start : rows.stop])
    by_col = torch.einsum("bhwc,wkc->bhwk", grid, tables[1])
    return by_row.reshape(count, length, -1), by_col.reshape(count, length, -1)


def _attend(q: Any, k: Any, v: Any, scale: float, bias: tuple[Any, Any] | None) -> Any:
    """Return softmax(q k^T * scale + bias) v as (n, heads x d), of q (heads, n, d), k and v (heads, N, d).

    The order of operations is the stock encoder's, on pieces of PIECE.
    """
    torch = torch_module()
    if q.dtype != torch.float32 and k.shape[1] < FEW:
        return _fused(q, k, v, scale, bias).transpose(0, 1).flatten(1)
    count, length, depth = q.shape
    rows = max(1, min(length, PIECE // k.shape[1]))
    group = max(1, min(count, PIECE // (rows * k.shape[1])))
    scaled, keys = q * scale, k.mT
    out = q.new_empty((length, count, depth))
    for first in range(0, count, group):
        some = slice(first, min(first + group, count))
        for top in range(0, length, rows):
            part = slice(top, min(top + rows, length))
            logits = torch.bmm(scaled[some, part], keys[some])
            if bias is not None:
                grid = logits.view(*logits.shape[:2], bias[0].shape[2], bias[1].shape[2])
                grid += bias[0][some, part, :, None]
                grid += bias[1][some, part, None, :]
            torch.softmax(logits, dim=-1, out=logits)
            out[part, some] = torch.bmm(logits, v[some]).transpose(0, 1)
    return out.view(length, -1)


def _fused(q: Any, k: Any, v: Any, scale: float, bias: tuple[Any, Any] | None) -> Any:
    """Return softmax(q k^T * scale + bias) v, (b, n, d), through torch's fused attention."""
    torch = torch_module()
    fused = torch.nn.functional.scaled_dot_product_attention
    if bias is None:
        return fused(q[None], k[None], v[None], scale=scale)[0]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for top in range(0, q.shape[1], FUSED_ROWS):
        part = slice(top, min(top + FUSED_ROWS, q.shape[1]))
        mask = bias[0][:, part, :, None] + bias[1][:, part, None, :]
        mask = mask.view(1, q.shape[0], part.stop - part.start, -1).to(q.dtype)
        out[:, part] = fused(q[None, :, part], k[None], v[None], attn_mask=mask, scale=scale)[0]
    return out


def _at_once(attention: Any, qkv: Any) -> Any:
    """Return the attention's heads (B, H, W, C) of (B, H, W, 3 C): windows or images, all at once."""
    batch, height, width, _ = qkv.shape
    heads = attention.num_heads
    split = qkv.reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = split.reshape(3, batch * heads, height * width, -1).unbind(0)
    bias = _bias(q, _tables(attention, height, width), range(height), width)
    out = _fused(q, k, v, attention.scale, bias)
    return out.view(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4).reshape(batch, height, width, -1)


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
