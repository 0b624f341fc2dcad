"""SAM's mask decoder, once, in two orders of operations: bit for bit segment_anything's, and laid out for many clicks.

`MaskDecoder` is asked for masks. For one object it computes in `_StockOrder`: every number comes from the same
operations on the same numbers as segment_anything's, so masks and scores are its own; what two clicks on an image share
is kept, sums that the stock decoder forms twice are formed once, what is needed no longer is written over, and the
transposed convolutions get their weights with channels last, as the image comes. Which kernel an operation gets is up
to torch's libraries and the processor: the first masks are made both ways, and the stock way stays where a bit differs.

For many single clicks it computes in `_FoldedOrder`, which differs in rounding:

- A click has seven tokens, the image 4096. Where a projection of the image meets tokens next it is folded into them,
  ``(x W) q = x (W q)``: 256 channels meet 8 heads x 7 tokens = 56 columns, and no longer 128 first.
- Masks are made only for clicks with a predicted IoU above what is asked for.
- Transposed convolutions whose stride is their kernel are matrix products; channels come last throughout.

Decoders that are not as segment_anything builds them, or have hooks, are run as they are.

Source of the network: Kirillov et al., "Segment Anything", ICCV 2023, appendix A.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.models.runtime.device import torch_module


class MaskDecoder:
    """The prompt encoder and mask decoder of a network of SAM's form, asked in the order that suits the question.

    Parameters
    ----------
    network
        With ``prompt_encoder`` and ``mask_decoder``, as segment_anything's Sam has them, on the device where it stays.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._positions: Any = None
        self._stock: _StockOrder | None = None
        self._folded: _FoldedOrder | None = None
        self._shared: tuple[weakref.ref[Embedding], SeenImage] | None = None

    @property
    def positions(self) -> Any:
        """(1, C, h, w) dense positions."""
        if self._positions is None:
            self._positions = self._network.prompt_encoder.get_dense_pe()
        return self._positions

    def masks(self, features: Any, points: Any, box: Any, mask: Any, several: bool) -> tuple[Any, Any]:
        """Decode prompts, in inference mode.

        Parameters
        ----------
        features
            (1, C, h, w) the image's embedding.
        points, box, mask
            As the prompt encoder takes them, of one object or of n.
        several
            Whether three masks are wanted of each, else one.

        Returns
        -------
        Logits (n, m, 4 h, 4 w) and predicted IoU (n, m).
        """
        sparse, dense = self._network.prompt_encoder(points=points, boxes=box, masks=mask)
        decoder = self._network.mask_decoder
        if len(sparse) == 1 and is_stock(decoder):
            if self._stock is None:
                self._stock = _StockOrder(decoder, self.positions)
            return self._stock(features, sparse, dense, several, plain=mask is None)
        result: tuple[Any, Any] = decoder(
            image_embeddings=features,
            image_pe=self.positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
        )
        return result

    def masks_above(
        self, embedding: Embedding, features: Callable[[], Any], clicks: tuple[Any, Any], threshold: float
    ) -> tuple[Any, Any, Any]:
        """Decode many single foreground clicks on an image, in inference mode.

        Parameters
        ----------
        embedding
            Stands for the image.
        features
            Gives its features (1, C, h, w); called where what clicks share is not kept.
        clicks
            (n, 1, 2) (x, y) in the network's input, and labels (n, 1).
        threshold
            Only masks with a predicted IoU above this are made.

        Returns
        -------
        Of the masks made, click after click: logits (k, 4 h, 4 w), predicted IoU (k,), and which click each is of (k,).
        """
        decoder = self._network.mask_decoder
        if not can_fold(decoder):
            logits, scores = self.masks(features(), clicks, None, None, True)
            of, at = torch_module().nonzero(scores > threshold, as_tuple=True)
            return logits[of, at], scores[of, at], of
        sparse, dense = self._network.prompt_encoder(points=clicks, boxes=None, masks=None)
        if self._folded is None:
            self._folded = _FoldedOrder(decoder, self.positions)
        if self._shared is None or self._shared[0]() is not embedding:
            self._shared = weakref.ref(embedding), self._folded.seen(features(), dense[:1])
        return self._folded(self._shared[1], sparse, threshold)


def is_stock(decoder: Any) -> bool:
    """Return whether `decoder` is a mask decoder as segment_anything builds it, with nothing hooked into it."""
    return type(decoder).__name__ == "MaskDecoder" and _is_whole(decoder)


def can_fold(decoder: Any) -> bool:
    """Return whether `decoder` has the parts of segment_anything's, with nothing hooked into them."""
    there = hasattr(decoder, "output_upscaling") and len(decoder.output_upscaling) == 5
    return there and type(decoder).__name__.endswith("MaskDecoder") and _is_whole(decoder)


def _is_whole(decoder: Any) -> bool:
    if type(getattr(decoder, "transformer", None)).__name__ != "TwoWayTransformer":
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in decoder.modules())


@dataclass(frozen=True, eq=False)
class SeenImage:
    """What the first layer sees of an image, whatever the prompts, laid out as an order wants it.

    Attributes
    ----------
    pixels
        The image's embedding with the dense prompt.
    keys, values, queries
        For tokens that attend to the image, and for the image that attends to tokens.
    """

    pixels: Any
    keys: Any
    values: Any
    queries: Any


class _Order(ABC):
    """The decoder's layers one after the other; how tokens and image attend to each other is the subclasses'.

    Parameters
    ----------
    decoder
        A ``MaskDecoder`` of segment_anything.
    positions
        (1, C, h, w) dense positions.
    """

    def __init__(self, decoder: Any, positions: Any) -> None:
        self._decoder = decoder
        self._grid = (positions.shape[2], positions.shape[3])

    @abstractmethod
    def _to_image(self, at: int, attention: Any, placed: Any, pixels: Any, seen: SeenImage) -> Any:
        """Return what tokens (n, T, C), with their positions, get from the image; `at` counts layers."""

    @abstractmethod
    def _from_image(self, at: int, layer: Any, placed: Any, tokens: Any, pixels: Any, seen: SeenImage) -> Any:
        """Return the image after it has attended to the tokens (n, T, C), normalised."""

    def _prompted(self, sparse: Any) -> Any:
        """Return the output tokens and the sparse prompts (n, T, C)."""
        torch, decoder = torch_module(), self._decoder
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        return torch.cat([outputs.expand(len(sparse), -1, -1), sparse], dim=1)

    def _transformed(self, seen: SeenImage, prompts: Any, pixels: Any) -> tuple[Any, Any]:
        """Return the tokens (n, T, C) and the image after the two-way transformer."""
        transformer, tokens = self._decoder.transformer, prompts
        for at, layer in enumerate(transformer.layers):
            tokens = _among_tokens(layer, tokens, prompts)
            got = self._to_image(at, layer.cross_attn_token_to_image, tokens + prompts, pixels, seen)
            tokens = layer.norm2(tokens + got)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            pixels = self._from_image(at, layer, tokens + prompts, tokens, pixels, seen)
        last = transformer.final_attn_token_to_image
        tokens = tokens + self._to_image(len(transformer.layers), last, tokens + prompts, pixels, seen)
        return transformer.norm_final_attn(tokens), pixels

    def _kernels(self, tokens: Any, first: int) -> Any:
        """Return the kernels (n, k, c) of the masks from number `first` on."""
        networks = enumerate(self._decoder.output_hypernetworks_mlps[first:], start=1 + first)
        return torch_module().stack([network(tokens[:, at]) for at, network in networks], dim=1)


class _StockOrder(_Order):
    """For the prompts of one object, bit for bit as segment_anything computes them."""

    def __init__(self, decoder: Any, positions: Any) -> None:
        super().__init__(decoder, positions)
        self._places = positions.flatten(2).permute(0, 2, 1)
        self._channels_last = {
            part: part.weight.detach().contiguous(memory_format=torch_module().channels_last)
            for part in decoder.output_upscaling
            if _enlarges(part)
        }
        self._seen: tuple[weakref.ref[Any], SeenImage] | None = None
        self._placed: tuple[Any, Any] = (None, None)
        self._same_bits: bool | None = None

    def __call__(self, features: Any, sparse: Any, dense: Any, several: bool, plain: bool) -> tuple[Any, Any]:
        """Decode the prompts of one object.

        Parameters
        ----------
        features
            (1, C, h, w) the image's embedding.
        sparse, dense
            (1, n, C) and (1, C, h, w) as the prompt encoder gives them.
        several
            As the stock decoder's ``multimask_output``.
        plain
            Whether `dense` stands for no mask. Then what is seen of `features` is kept for the next call.

        Returns
        -------
        Logits (1, m, 4 h, 4 w) and predicted IoU (1, m), m = 3 if `several`, else 1.
        """
        seen = self._image_seen(features, dense, plain)
        tokens, pixels = self._transformed(seen, self._prompted(sparse), seen.pixels)
        self._placed = (None, None)
        wanted = slice(1, None) if several else slice(0, 1)
        masks = self._masks(pixels.transpose(1, 2).view(features.shape), self._kernels(tokens, 0))
        return masks[:, wanted], self._decoder.iou_prediction_head(tokens[:, 0])[:, wanted]

    def _image_seen(self, features: Any, dense: Any, plain: bool) -> SeenImage:
        """Return what the first layer sees of the image."""
        if plain and self._seen is not None and self._seen[0]() is features:
            return self._seen[1]
        pixels = (features + dense).flatten(2).permute(0, 2, 1)
        placed = pixels + self._places
        layer = self._decoder.transformer.layers[0]
        look, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        seen = SeenImage(pixels, look.k_proj(placed), look.v_proj(pixels), back.q_proj(placed))
        if plain:
            self._seen = weakref.ref(features), seen
        return seen

    def _with_places(self, pixels: Any) -> Any:
        """Return the image with its positions, added once a layer."""
        if self._placed[0] is not pixels:
            self._placed = pixels, pixels + self._places
        return self._placed[1]

    def _to_image(self, at: int, attention: Any, placed: Any, pixels: Any, seen: SeenImage) -> Any:
        if at == 0:
            keys, values = seen.keys, seen.values
        else:
            keys, values = attention.k_proj(self._with_places(pixels)), attention.v_proj(pixels)
        return _attend(attention, attention.q_proj(placed), keys, values)

    def _from_image(self, at: int, layer: Any, placed: Any, tokens: Any, pixels: Any, seen: SeenImage) -> Any:
        back = layer.cross_attn_image_to_token
        queries = seen.queries if at == 0 else back.q_proj(self._with_places(pixels))
        changed = _attend(back, queries, back.k_proj(placed), back.v_proj(tokens))
        changed += pixels
        return layer.norm4(changed)

    def _masks(self, x: Any, kernels: Any) -> Any:
        """Return logits (1, k, 4 h, 4 w) of the image (1, C, h, w) and the masks' kernels (1, k, c)."""
        if self._same_bits:
            fine = self._upscaled(x)
            return (kernels @ fine.flatten(2)).view(1, -1, *fine.shape[2:])
        fine = self._decoder.output_upscaling(x)
        masks = kernels @ fine.flatten(2)
        if self._same_bits is None:
            self._same_bits = torch_module().equal(masks, kernels @ self._upscaled(x).flatten(2))
        return masks.view(1, -1, *fine.shape[2:])

    def _upscaled(self, x: Any) -> Any:
        """Return the image (1, c, 4 h, 4 w) of (1, C, h, w); what the parts make is written over by the next."""
        torch = torch_module()
        for part in self._decoder.output_upscaling:
            if part in self._channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
                x = torch.nn.functional.conv_transpose2d(x, self._channels_last[part], part.bias, part.stride)
            elif type(part).__name__ == "LayerNorm2d":
                x = _normed(part, x.contiguous())
            elif type(part).__name__ == "GELU" and part.approximate == "none":
                # torch takes another kernel, with other bits, where memory is not in the order of the axes
                torch.ops.aten.gelu_(x if x.is_contiguous() else x.permute(0, 2, 3, 1))
            else:
                x = part(x)
        return x


class _FoldedOrder(_Order):
    """For many single clicks on one image: what they share once, the image's projections folded into the tokens."""

    def __init__(self, decoder: Any, positions: Any) -> None:
        super().__init__(decoder, positions)
        linear = torch_module().nn.functional.linear
        places = positions.flatten(2)[0].T
        layers = list(decoder.transformer.layers)
        looks = [*(layer.cross_attn_token_to_image for layer in layers), decoder.transformer.final_attn_token_to_image]
        # What positions add to the keys of each attention to the image, and to the queries of each one back.
        self._key_places = [_columns(linear(places, look.k_proj.weight), look) for look in looks]
        self._query_places = [
            _columns(layer.cross_attn_image_to_token.q_proj(places), layer.cross_attn_image_to_token)
            for layer in layers
        ]
        first, _, _, second, _ = decoder.output_upscaling
        self._up = [
            (part.weight.permute(2, 3, 1, 0).reshape(-1, part.in_channels), part.bias.repeat(4))
            for part in (first, second)
        ]

    def seen(self, features: Any, dense: Any) -> SeenImage:
        """Return what clicks on an image (1, C, h, w) have in common, with the dense prompt that stands for no mask.

        Pixels are (N, C), keys and queries (heads, d, N), values (heads, N, d).
        """
        linear = torch_module().nn.functional.linear
        pixels = (features + dense).flatten(2)[0].T.contiguous()
        layer = self._decoder.transformer.layers[0]
        look, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        return SeenImage(
            pixels,
            _columns(linear(pixels, look.k_proj.weight), look) + self._key_places[0],
            _heads(look.v_proj(pixels), look).contiguous(),
            _columns(linear(pixels, back.q_proj.weight), back) + self._query_places[0],
        )

    def __call__(self, seen: SeenImage, sparse: Any, above: float) -> tuple[Any, Any, Any]:
        """Decode clicks.

        Parameters
        ----------
        seen
            Of the image.
        sparse
            (n, 2, C) the clicks' sparse prompts: a point and the padding that stands for no box.
        above
            Only masks with a predicted IoU above this are made.

        Returns
        -------
        Of the masks made, click after click: logits (k, 4 h, 4 w), predicted IoU (k,), and which click each is of (k,).
        """
        torch = torch_module()
        tokens, pixels = self._transformed(seen, self._prompted(sparse), seen.pixels.expand(len(sparse), -1, -1))
        scores = self._decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        clicks, masks = torch.nonzero(scores > above, as_tuple=True)
        kernels = self._kernels(tokens, 1)
        logits = scores.new_empty((len(clicks), 4 * self._grid[0], 4 * self._grid[1]))
        for click in clicks.unique().tolist():
            own = clicks == click
            logits[own] = self._masks(pixels[click], kernels[click, masks[own]])
        return logits, scores[clicks, masks], clicks

    def _to_image(self, at: int, attention: Any, placed: Any, pixels: Any, seen: SeenImage) -> Any:
        torch = torch_module()
        query = _heads(attention.q_proj(placed), attention) / math.sqrt(_width(attention))
        if at == 0:
            share = _of_all(query, seen.keys).softmax(dim=-1)
            return attention.out_proj((share @ seen.values).transpose(1, 2).flatten(2))
        near = _of_all(query, self._key_places[at]).flatten(1, 2)
        folded = (query @ attention.k_proj.weight.view(attention.num_heads, _width(attention), -1)).flatten(1, 2)
        share = torch.baddbmm(near, folded, pixels.mT).softmax(dim=-1)
        mixed = (share @ pixels).view(*query.shape[:3], -1)
        heads = mixed @ attention.v_proj.weight.view(attention.num_heads, _width(attention), -1).mT
        heads += attention.v_proj.bias.view(attention.num_heads, 1, -1)
        return attention.out_proj(heads.transpose(1, 2).flatten(2))

    def _from_image(self, at: int, layer: Any, placed: Any, tokens: Any, pixels: Any, seen: SeenImage) -> Any:
        torch, back = torch_module(), layer.cross_attn_image_to_token
        key = _heads(back.k_proj(placed), back) / math.sqrt(_width(back))
        logits = _of_all(key, seen.queries if at == 0 else self._query_places[at]).flatten(1, 2)
        if at > 0:
            folded = (key @ back.q_proj.weight.view(back.num_heads, _width(back), -1)).flatten(1, 2)
            logits = torch.baddbmm(logits, folded, pixels.mT)
        share = logits.view(*key.shape[:3], -1).softmax(dim=2).flatten(1, 2)
        out = back.out_proj.weight.view(-1, back.num_heads, _width(back)).permute(1, 2, 0)
        values = _heads(back.v_proj(tokens), back) @ out
        # The shares of a head sum to one: what is added to one head's values is added to the result.
        values[:, 0] += back.out_proj.bias
        changed = torch.baddbmm(pixels, share.mT, values.flatten(1, 2))
        norm = layer.norm4
        return torch.nn.functional.layer_norm(changed, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def _masks(self, pixels: Any, kernels: Any) -> Any:
        """Return logits (k, 4 h, 4 w) of the image's pixels (N, C) and the masks' kernels (k, c)."""
        functional = torch_module().nn.functional
        _, norm, first, _, second = self._decoder.output_upscaling
        fine = functional.linear(pixels, *self._up[0]).view(-1, *norm.weight.shape)
        fine = first(functional.layer_norm(fine, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        fine = second(functional.linear(fine, *self._up[1])).view(-1, kernels.shape[-1])
        # Places come in the order row, column, then row and column in their 2 x 2, and again.
        masks = (kernels @ fine.T).view(-1, *self._grid, 2, 2, 2, 2)
        return masks.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * self._grid[0], 4 * self._grid[1])


def _among_tokens(layer: Any, tokens: Any, prompts: Any) -> Any:
    """Return the tokens (n, T, C) after they have attended to each other, the first step of a layer."""
    if layer.skip_first_layer_pe:
        return layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
    placed = tokens + prompts
    return layer.norm1(tokens + layer.self_attn(q=placed, k=placed, v=tokens))


def _attend(attention: Any, queries: Any, keys: Any, values: Any) -> Any:
    """Return what `attention` gives for projected queries (1, n, c), keys and values (1, N, c)."""
    torch = torch_module()
    queries, keys, values = (attention._separate_heads(x, attention.num_heads) for x in (queries, keys, values))
    weights = queries @ keys.mT
    weights /= math.sqrt(queries.shape[-1])
    return attention.out_proj(attention._recombine_heads(torch.softmax(weights, dim=-1) @ values))


def _enlarges(part: Any) -> bool:
    """Return whether a part is a transposed convolution as segment_anything builds them, on a CPU."""
    if type(part).__name__ != "ConvTranspose2d" or part.weight.device.type != "cpu":
        return False
    plain = part.padding == part.output_padding == (0, 0) and part.groups == 1
    return bool(plain and part.kernel_size == part.stride)


def _normed(norm: Any, x: Any) -> Any:
    """Return what segment_anything's ``LayerNorm2d`` gives for (1, c, h, w), which is written over."""
    apart = x - x.mean(1, keepdim=True)
    apart /= (torch_module().pow(apart, 2, out=x).mean(1, keepdim=True) + norm.eps).sqrt()
    apart *= norm.weight[:, None, None]
    apart += norm.bias[:, None, None]
    return apart


def _of_all(tokens: Any, columns: Any) -> Any:
    """Return ``tokens @ columns``, (n, heads, T, N), of (n, heads, T, d) and (heads, d, N)."""
    torch = torch_module()
    if len(tokens) == 1:
        return torch.bmm(tokens[0], columns)[None]
    count, heads, length, _ = tokens.shape
    return torch.bmm(tokens.transpose(0, 1).flatten(1, 2), columns).view(heads, count, length, -1).transpose(0, 1)


def _width(attention: Any) -> int:
    """Return the channels of a head."""
    return int(attention.internal_dim) // int(attention.num_heads)


def _heads(x: Any, attention: Any) -> Any:
    """Return (..., heads, N, d) of (..., N, heads x d)."""
    return x.unflatten(-1, (attention.num_heads, -1)).transpose(-2, -3)


def _columns(x: Any, attention: Any) -> Any:
    """Return (heads, d, N) of (N, heads x d)."""
    return _heads(x, attention).mT.contiguous()
