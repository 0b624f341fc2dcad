"""SAM's mask decoder for one object, bit for bit as segment_anything computes it, with nothing computed twice.

The first layer's view of the image does not depend on the prompts: it is kept from click to click. Sums that the stock
decoder forms twice are formed once, and what is needed no longer is written over. The transposed convolutions get their
weights with channels last, as the image comes: on a CPU most of their time went into bringing both into another order.

Every number comes from the same operations on the same numbers, so masks and scores are the stock decoder's. Which
kernel an operation gets is up to torch's libraries and the processor: the first masks are made both ways, and the stock
way stays where a bit differs.

Source of the network: Kirillov et al., "Segment Anything", ICCV 2023, appendix A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from weakref import ref

from napari_samdepth.models.runtime.device import torch_module


def is_stock(decoder: Any) -> bool:
    """Return whether `decoder` is a mask decoder as segment_anything builds it, with nothing hooked into it."""
    if type(decoder).__name__ != "MaskDecoder" or type(decoder.transformer).__name__ != "TwoWayTransformer":
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in decoder.modules())


@dataclass(frozen=True, eq=False)
class SeenImage:
    """What the first layer sees of an image, whatever the prompts.

    Attributes
    ----------
    pixels
        (1, N, C) the image's embedding with the dense prompt.
    keys, values, queries
        (1, N, c) for tokens that look at the image, and for the image that looks at tokens.
    """

    pixels: Any
    keys: Any
    values: Any
    queries: Any


class ObjectDecoder:
    """A mask decoder's function for the prompts of one object.

    Parameters
    ----------
    decoder
        A ``MaskDecoder`` of segment_anything, for which `is_stock` holds.
    positions
        (1, C, h, w) dense positions, as ``PromptEncoder.get_dense_pe`` gives them.
    """

    def __init__(self, decoder: Any, positions: Any) -> None:
        self._decoder = decoder
        self._places = positions.flatten(2).permute(0, 2, 1)
        self._kernels = {part: _channels_last(part.weight) for part in decoder.output_upscaling if _enlarges(part)}
        self._seen: tuple[ref[Any], SeenImage] | None = None
        self._same_bits: bool | None = None

    def __call__(self, features: Any, sparse: Any, dense: Any, several: bool, plain: bool) -> tuple[Any, Any]:
        """Decode the prompts of one object, in inference mode.

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
        torch, decoder = torch_module(), self._decoder
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens, pixels = self._transformed(self._look_at(features, dense, plain), torch.cat([outputs[None], sparse], 1))
        networks = enumerate(decoder.output_hypernetworks_mlps, start=1)
        kernels = torch.stack([network(tokens[:, at]) for at, network in networks], dim=1)
        wanted = slice(1, None) if several else slice(0, 1)
        masks = self._masks(pixels.transpose(1, 2).view(features.shape), kernels)
        return masks[:, wanted], decoder.iou_prediction_head(tokens[:, 0])[:, wanted]

    def _look_at(self, features: Any, dense: Any, plain: bool) -> SeenImage:
        """Return what the first layer sees of the image."""
        if plain and self._seen is not None and self._seen[0]() is features:
            return self._seen[1]
        pixels = (features + dense).flatten(2).permute(0, 2, 1)
        seen = self._seen_by(self._decoder.transformer.layers[0], pixels)
        if plain:
            self._seen = ref(features), seen
        return seen

    def _seen_by(self, layer: Any, pixels: Any) -> SeenImage:
        placed = pixels + self._places
        look, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        return SeenImage(pixels, look.k_proj(placed), look.v_proj(pixels), back.q_proj(placed))

    def _transformed(self, seen: SeenImage, prompts: Any) -> tuple[Any, Any]:
        """Return the tokens (1, T, C) and the image (1, N, C) after the two-way transformer."""
        transformer, tokens, pixels = self._decoder.transformer, prompts, seen.pixels
        for at, layer in enumerate(transformer.layers):
            if at > 0:
                seen = self._seen_by(layer, pixels)
            tokens, pixels = _layer(layer, tokens, prompts, seen)
        placed = pixels + self._places
        tokens = tokens + transformer.final_attn_token_to_image(q=tokens + prompts, k=placed, v=pixels)
        return transformer.norm_final_attn(tokens), pixels

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
            if part in self._kernels:
                x = x.contiguous(memory_format=torch.channels_last)
                x = torch.nn.functional.conv_transpose2d(x, self._kernels[part], part.bias, part.stride)
            elif type(part).__name__ == "LayerNorm2d":
                x = _normed(part, x.contiguous())
            elif type(part).__name__ == "GELU" and part.approximate == "none":
                # torch takes another kernel, with other bits, where memory is not in the order of the axes
                torch.ops.aten.gelu_(x if x.is_contiguous() else x.permute(0, 2, 3, 1))
            else:
                x = part(x)
        return x


def _enlarges(part: Any) -> bool:
    """Return whether a part is a transposed convolution as segment_anything builds them, on a CPU."""
    if type(part).__name__ != "ConvTranspose2d" or part.weight.device.type != "cpu":
        return False
    plain = part.padding == part.output_padding == (0, 0) and part.groups == 1
    return bool(plain and part.kernel_size == part.stride)


def _channels_last(weight: Any) -> Any:
    return weight.detach().contiguous(memory_format=torch_module().channels_last)


def among_tokens(layer: Any, tokens: Any, prompts: Any) -> Any:
    """Return the tokens (n, T, C) after they have looked at each other, the first step of a layer."""
    if layer.skip_first_layer_pe:
        return layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
    placed = tokens + prompts
    return layer.norm1(tokens + layer.self_attn(q=placed, k=placed, v=tokens))


def _layer(layer: Any, tokens: Any, prompts: Any, seen: SeenImage) -> tuple[Any, Any]:
    """Return the tokens (1, T, C) and the image (1, N, C) after one layer."""
    tokens = among_tokens(layer, tokens, prompts)
    look, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    tokens = layer.norm2(tokens + _attend(look, look.q_proj(tokens + prompts), seen.keys, seen.values))
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    looked = _attend(back, seen.queries, back.k_proj(tokens + prompts), back.v_proj(tokens))
    looked += seen.pixels
    return tokens, layer.norm4(looked)


def _attend(attention: Any, queries: Any, keys: Any, values: Any) -> Any:
    """Return what `attention` gives for projected queries (1, n, c), keys and values (1, N, c)."""
    torch = torch_module()
    queries, keys, values = (attention._separate_heads(x, attention.num_heads) for x in (queries, keys, values))
    weights = queries @ keys.mT
    weights /= math.sqrt(queries.shape[-1])
    return attention.out_proj(attention._recombine_heads(torch.softmax(weights, dim=-1) @ values))


def _normed(norm: Any, x: Any) -> Any:
    """Return what segment_anything's ``LayerNorm2d`` gives for (1, c, h, w), which is written over."""
    apart = x - x.mean(1, keepdim=True)
    apart /= (torch_module().pow(apart, 2, out=x).mean(1, keepdim=True) + norm.eps).sqrt()
    apart *= norm.weight[:, None, None]
    apart += norm.bias[:, None, None]
    return apart
