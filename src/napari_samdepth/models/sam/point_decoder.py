"""SAM's mask decoder for many single clicks on one image, laid out for speed.

It computes the function of segment_anything's ``MaskDecoder`` with the same weights, in another order:

- What does not depend on the click (the image's side of the first layer, what positions add) is computed once.
- A click has seven tokens, the image 4096. Where a projection of the image meets tokens next it is folded into them,
  ``(x W) q = x (W q)``: 256 channels meet 8 heads x 7 tokens = 56 columns, and no longer 128 first.
- Masks are made only for clicks with a predicted IoU above what is asked for.
- Transposed convolutions whose stride is their kernel are matrix products; channels come last throughout.

Results differ from the stock decoder's in rounding.

Source of the network: Kirillov et al., "Segment Anything", ICCV 2023, appendix A.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.models.runtime.device import torch_module
from napari_samdepth.models.sam.mask_decoder import among_tokens, is_stock


def can_decode(decoder: Any) -> bool:
    """Return whether `decoder` is a mask decoder as segment_anything builds it, with nothing hooked into it."""
    return is_stock(decoder) and len(decoder.output_upscaling) == 5


@dataclass(frozen=True, eq=False)
class SharedImage:
    """What all clicks on an image have in common.

    Attributes
    ----------
    pixels
        (N, C) the image's embedding with the dense prompt that stands for no mask.
    keys, queries
        (heads, d, N) of the first layer: for tokens that look at the image, and for the image that looks at tokens.
    values
        (heads, N, d) what those tokens see.
    """

    pixels: Any
    keys: Any
    queries: Any
    values: Any


class ClickDecoder:
    """A mask decoder's function for single clicks.

    Parameters
    ----------
    decoder
        A ``MaskDecoder`` of segment_anything, for which `can_decode` holds.
    positions
        (1, C, h, w) dense positions, as ``PromptEncoder.get_dense_pe`` gives them.
    """

    def __init__(self, decoder: Any, positions: Any) -> None:
        linear = torch_module().nn.functional.linear
        self._decoder = decoder
        self._grid = (positions.shape[2], positions.shape[3])
        places = positions.flatten(2)[0].T
        layers = list(decoder.transformer.layers)
        looks = [*(layer.cross_attn_token_to_image for layer in layers), decoder.transformer.final_attn_token_to_image]
        # What positions add to the keys of each look at the image, and to the queries of each look back.
        self._key_places = [self._columns(linear(places, look.k_proj.weight), look) for look in looks]
        self._query_places = [
            self._columns(layer.cross_attn_image_to_token.q_proj(places), layer.cross_attn_image_to_token)
            for layer in layers
        ]
        first, _, _, second, _ = decoder.output_upscaling
        self._up = [
            (part.weight.permute(2, 3, 1, 0).reshape(-1, part.in_channels), part.bias.repeat(4))
            for part in (first, second)
        ]

    def shared(self, features: Any, dense: Any) -> SharedImage:
        """Return what clicks on an image have in common.

        Parameters
        ----------
        features
            (1, C, h, w) the image's embedding.
        dense
            (1, C, h, w) the dense prompt that stands for no mask.
        """
        linear = torch_module().nn.functional.linear
        pixels = (features + dense).flatten(2)[0].T.contiguous()
        layer = self._decoder.transformer.layers[0]
        look, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        return SharedImage(
            pixels,
            self._columns(linear(pixels, look.k_proj.weight), look) + self._key_places[0],
            self._columns(linear(pixels, back.q_proj.weight), back) + self._query_places[0],
            _heads(look.v_proj(pixels), look).contiguous(),
        )

    def __call__(self, shared: SharedImage, sparse: Any, above: float) -> tuple[Any, Any, Any]:
        """Decode clicks.

        Parameters
        ----------
        shared
            Of the image.
        sparse
            (n, 2, C) the clicks' sparse prompts: a point and the padding that stands for no box.
        above
            Only masks with a predicted IoU above this are made.

        Returns
        -------
        Of the masks made, click after click: logits (k, 4 h, 4 w), predicted IoU (k,), and which click each is of (k,).
        """
        torch, decoder = torch_module(), self._decoder
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        prompts = torch.cat([outputs.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, pixels = self._transformed(shared, prompts)
        scores = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        clicks, masks = torch.nonzero(scores > above, as_tuple=True)
        networks = decoder.output_hypernetworks_mlps[1:]
        kernels = torch.stack([network(tokens[:, at]) for at, network in enumerate(networks, start=2)], dim=1)
        logits = scores.new_empty((len(clicks), 4 * self._grid[0], 4 * self._grid[1]))
        for click in clicks.unique().tolist():
            own = clicks == click
            logits[own] = self._masks(pixels[click], kernels[click, masks[own]])
        return logits, scores[clicks, masks], clicks

    def _transformed(self, shared: SharedImage, prompts: Any) -> tuple[Any, Any]:
        """Return the tokens (n, T, C) and the image (n, N, C) after the two-way transformer."""
        transformer = self._decoder.transformer
        tokens, pixels = prompts, shared.pixels.expand(len(prompts), -1, -1)
        for at, layer in enumerate(transformer.layers):
            tokens = among_tokens(layer, tokens, prompts)
            look = layer.cross_attn_token_to_image
            if at == 0:
                seen = self._first_look(look, tokens + prompts, shared)
            else:
                seen = self._look(at, look, tokens + prompts, pixels)
            tokens = layer.norm2(tokens + seen)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            pixels = self._looked_back(at, layer, tokens + prompts, tokens, pixels, shared)
        last = transformer.final_attn_token_to_image
        tokens = tokens + self._look(len(transformer.layers), last, tokens + prompts, pixels)
        return transformer.norm_final_attn(tokens), pixels

    def _first_look(self, look: Any, placed: Any, shared: SharedImage) -> Any:
        """Return what tokens (n, T, C) see in the image that no click has changed yet."""
        query = _heads(look.q_proj(placed), look) / math.sqrt(_width(look))
        share = _of_all(query, shared.keys).softmax(dim=-1)
        return look.out_proj((share @ shared.values).transpose(1, 2).flatten(2))

    def _look(self, at: int, look: Any, placed: Any, pixels: Any) -> Any:
        """Return what tokens (n, T, C) see in the image (n, N, C)."""
        torch = torch_module()
        query = _heads(look.q_proj(placed), look) / math.sqrt(_width(look))
        near = _of_all(query, self._key_places[at]).flatten(1, 2)
        folded = (query @ look.k_proj.weight.view(look.num_heads, _width(look), -1)).flatten(1, 2)
        share = torch.baddbmm(near, folded, pixels.mT).softmax(dim=-1)
        mixed = (share @ pixels).view(*query.shape[:3], -1)
        heads = mixed @ look.v_proj.weight.view(look.num_heads, _width(look), -1).mT
        heads += look.v_proj.bias.view(look.num_heads, 1, -1)
        return look.out_proj(heads.transpose(1, 2).flatten(2))

    def _looked_back(self, at: int, layer: Any, placed: Any, tokens: Any, pixels: Any, shared: SharedImage) -> Any:
        """Return the image (n, N, C) after it has looked at the tokens (n, T, C)."""
        torch, back = torch_module(), layer.cross_attn_image_to_token
        key = _heads(back.k_proj(placed), back) / math.sqrt(_width(back))
        logits = _of_all(key, shared.queries if at == 0 else self._query_places[at]).flatten(1, 2)
        if at > 0:
            folded = (key @ back.q_proj.weight.view(back.num_heads, _width(back), -1)).flatten(1, 2)
            logits = torch.baddbmm(logits, folded, pixels.mT)
        share = logits.view(*key.shape[:3], -1).softmax(dim=2).flatten(1, 2)
        out = back.out_proj.weight.view(-1, back.num_heads, _width(back)).permute(1, 2, 0)
        values = _heads(back.v_proj(tokens), back) @ out
        # The shares of a head sum to one: what is added to one head's values is added to the result.
        values[:, 0] += back.out_proj.bias
        looked = torch.baddbmm(pixels, share.mT, values.flatten(1, 2))
        norm = layer.norm4
        return torch.nn.functional.layer_norm(looked, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

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

    def _columns(self, x: Any, attention: Any) -> Any:
        """Return (heads, d, N) of (N, heads x d)."""
        return _heads(x, attention).mT.contiguous()


class ManyClicks:
    """A `ClickDecoder` for a SAM, made at first use, that keeps what clicks on one image after another share."""

    def __init__(self, sam: Any) -> None:
        """Decode with the prompt encoder and mask decoder of `sam`."""
        self._sam = sam
        self._decoder: ClickDecoder | None = None
        self._shared: tuple[weakref.ref[Embedding], SharedImage] | None = None

    def above(
        self, embedding: Embedding, features: Callable[[], Any], clicks: tuple[Any, Any], threshold: float
    ) -> tuple[Any, Any, Any]:
        """Decode single clicks on an image.

        Parameters
        ----------
        embedding
            Stands for the image.
        features
            Gives its features (1, C, h, w); called where they are not kept.
        clicks
            (n, 1, 2) (x, y) in the network's input, and labels (n, 1).
        threshold
            Only masks with a predicted IoU above this are made.

        Returns
        -------
        As `ClickDecoder` does, on the network's device.
        """
        with torch_module().inference_mode():
            encoder = self._sam.prompt_encoder
            sparse, dense = encoder(points=clicks, boxes=None, masks=None)
            if self._decoder is None:
                self._decoder = ClickDecoder(self._sam.mask_decoder, encoder.get_dense_pe())
            if self._shared is None or self._shared[0]() is not embedding:
                self._shared = weakref.ref(embedding), self._decoder.shared(features(), dense[:1])
            return self._decoder(self._shared[1], sparse, threshold)


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
