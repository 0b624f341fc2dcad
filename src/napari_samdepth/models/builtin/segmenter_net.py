"""The network of the built-in segmenter: SAM with a small image encoder.

The result of :func:`build` is a :class:`segment_anything.modeling.Sam`, so it runs in an unmodified
``SamPredictor``. It works on 256 x 256 inputs: the embedding is (256, 32, 32) (stride 8) and the low-resolution
masks are 128 x 128 (stride 2).

Sources. Trunk: EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019, and its Lite variant) with batch norm
folded into the convolutions. Pyramid: top-down sum of scales (Lin et al., "Feature Pyramid Networks", CVPR 2017)
and space-to-depth for the two finest scales. Prompt encoder and mask decoder: Kirillov et al., "Segment Anything",
ICCV 2023; the decoder here computes the same function with the same weights, laid out for speed.

This module imports torch; import it only from inside functions.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

IMG_SIZE = 256
STRIDE = 8
EMBED_DIM = 256
GRID = IMG_SIZE // STRIDE

# (repeats, kernel, stride, expansion, in channels, out channels) of each stage of EfficientNet-Lite0
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_TAPS = (0, 1, 2, 4, 6)  # the stages whose outputs have stride 2, 4, 8, 16 and 32


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow pads: at stride 2 the odd pixel goes to the bottom and right."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(cin, cout, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            lo, hi = (self.kernel_size[0] - 2) // 2, (self.kernel_size[0] - 1) // 2
            x = F.pad(x, (lo, hi, lo, hi))
        return super().forward(x)


class PointwiseConv2d(nn.Conv2d):
    """1 x 1 convolution as a matrix product over channels-last pixels (on one thread twice as fast)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class InvertedResidual(nn.Module):
    """MobileNet-style block: expand, depthwise, project; residual where the shapes agree."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = cin * expansion
        self.expand = PointwiseConv2d(cin, mid) if expansion != 1 else None
        self.depthwise = SameConv2d(mid, mid, kernel, stride, groups=mid)
        self.project = PointwiseConv2d(mid, cout)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return cast(Tensor, x + y if self.residual else y)


class Trunk(nn.Module):
    """EfficientNet-Lite0 without its head; gives the features at strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        stages = []
        for repeats, kernel, stride, expansion, cin, cout in _STAGES:
            blocks = [InvertedResidual(cin, cout, kernel, stride, expansion)]
            blocks += [InvertedResidual(cout, cout, kernel, 1, expansion) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        taps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _TAPS:
                taps.append(x)
        return taps


class Mixer(nn.Module):
    """Depthwise 5 x 5, then a two-layer pointwise network, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.GroupNorm(1, channels)
        self.up = PointwiseConv2d(channels, 2 * channels)
        self.down = PointwiseConv2d(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.down(F.gelu(self.up(self.norm(self.spatial(x))))))


class Pyramid(nn.Module):
    """Joins the five scales at stride 8 into the (B, 256, 32, 32) embedding."""

    def __init__(self, width: int = 160) -> None:
        super().__init__()
        channels = (16 * 16, 24 * 4, 40, 112, 320)  # strides 2 and 4 come in through space-to-depth
        self.lateral = nn.ModuleList(PointwiseConv2d(c, width) for c in channels)
        self.top = Mixer(width)
        self.middle = Mixer(width)
        self.bottom = nn.Sequential(Mixer(width), Mixer(width))
        self.out = PointwiseConv2d(width, EMBED_DIM)
        self.norm = nn.LayerNorm(EMBED_DIM, eps=1e-6)
        nn.init.constant_(self.norm.weight, 0.2)  # about the spread of the embeddings that SAM's decoder knows

    def forward(self, taps: list[Tensor]) -> Tensor:
        s2, s4, s8, s16, s32 = taps
        x = self.top(self.lateral[4](s32))
        x = self.middle(F.interpolate(x, scale_factor=2.0, mode="bilinear") + self.lateral[3](s16))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear") + self.lateral[2](s8)
        x = x + self.lateral[1](F.pixel_unshuffle(s4, 2)) + self.lateral[0](F.pixel_unshuffle(s2, 4))
        x = self.out(self.bottom(x))
        return cast(Tensor, self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class SmallImageEncoder(nn.Module):
    """Image encoder of the built-in model: (B, 3, 256, 256) normalised pixels to (B, 256, 32, 32)."""

    img_size = IMG_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.pyramid = Pyramid()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.pyramid(self.trunk(x.contiguous(memory_format=torch.channels_last))))


def _heads(x: Tensor, count: int) -> Tensor:
    return cast(Tensor, x.unflatten(-1, (count, -1))).transpose(1, 2)


def _attend(layer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over projected q, k, v of shape (N, tokens, channels), and its output projection."""
    count = layer.num_heads
    out = F.scaled_dot_product_attention(_heads(q, count), _heads(k, count), _heads(v, count))  # type: ignore[arg-type]
    return cast(Tensor, layer.out_proj(out.transpose(1, 2).flatten(2)))  # type: ignore[operator]


class TokenMaskDecoder(MaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder, same weights and same function, with everything kept as (N, tokens, channels).

    The image's positional code is projected once instead of added to every prompt's tokens; what all prompts
    of an image share is computed once per image; the two transposed convolutions run as matrix products, so that
    only the four finished masks are rearranged into pixels.
    """

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode N prompts.

        ``image_embeddings`` (G, 256, h, w) where N is a multiple of G: prompts of one image lie together;
        ``image_pe`` (1, 256, h, w); ``sparse_prompt_embeddings`` (N, t, 256); ``dense_prompt_embeddings``
        (N, 256, h, w), expanded where it is the same for all. Returns logits (N, 4, 4h, 4w) and predicted IoU (N, 4).
        """
        n, (h, w) = sparse_prompt_embeddings.shape[0], image_embeddings.shape[-2:]
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output.expand(n, -1, -1), sparse_prompt_embeddings], dim=1)
        keys = image_embeddings
        dense = dense_prompt_embeddings
        if dense.stride(0) == 0 or dense.shape[0] == 1:
            keys = keys + dense[:1]
        else:
            keys = keys.repeat_interleave(n // keys.shape[0], dim=0) + dense
        hs, src = self._transform(keys.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2), tokens)
        hyper = torch.stack(
            [mlp(hs[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)],
            dim=1,
        )
        masks = self._upscale(src, hyper, h, w)
        return masks, self.iou_prediction_head(hs[:, 0])

    def _transform(self, keys: Tensor, key_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """SAM's two-way transformer; ``keys`` (G or N, T, 256), ``tokens`` (N, t, 256)."""
        n = tokens.shape[0]

        def every(x: Tensor) -> Tensor:
            return x if x.shape[0] == n else x.repeat_interleave(n // x.shape[0], dim=0)

        def with_pe(proj: nn.Linear, x: Tensor) -> Tensor:
            return F.linear(x, proj.weight, proj.bias) + F.linear(key_pe, proj.weight)

        queries = tokens
        for layer in self.transformer.layers:
            attn = layer.self_attn
            if layer.skip_first_layer_pe:
                queries = _attend(attn, attn.q_proj(queries), attn.k_proj(queries), attn.v_proj(queries))
            else:
                q = queries + tokens
                queries = queries + _attend(attn, attn.q_proj(q), attn.k_proj(q), attn.v_proj(queries))
            queries = layer.norm1(queries)
            attn = layer.cross_attn_token_to_image
            update = _attend(
                attn, attn.q_proj(queries + tokens), every(with_pe(attn.k_proj, keys)), every(attn.v_proj(keys))
            )
            queries = layer.norm2(queries + update)
            queries = layer.norm3(queries + layer.mlp(queries))
            attn = layer.cross_attn_image_to_token
            q = queries + tokens
            update = _attend(attn, every(with_pe(attn.q_proj, keys)), attn.k_proj(q), attn.v_proj(queries))
            keys = layer.norm4(every(keys) + update)
        attn = self.transformer.final_attn_token_to_image
        update = _attend(attn, attn.q_proj(queries + tokens), with_pe(attn.k_proj, keys), attn.v_proj(keys))
        return self.transformer.norm_final_attn(queries + update), keys

    def _upscale(self, src: Tensor, hyper: Tensor, h: int, w: int) -> Tensor:
        """Masks (N, m, 4h, 4w) from tokens ``src`` (N, h*w, 256) and mask weights ``hyper`` (N, m, 32)."""
        first, norm, _, second, _ = self.output_upscaling
        n, t, _ = src.shape
        c1, c2 = first.out_channels, second.out_channels
        x = F.linear(src, first.weight.permute(2, 3, 1, 0).reshape(4 * c1, -1), first.bias.repeat(4))
        x = F.gelu(F.layer_norm(x.view(n, t * 4, c1), (c1,), norm.weight, norm.bias, norm.eps))
        x = F.linear(x, second.weight.permute(2, 3, 1, 0).reshape(4 * c2, -1), second.bias.repeat(4))
        x = F.gelu(x).view(n, t * 16, c2)
        masks = (hyper @ x.transpose(1, 2)).view(n, -1, h, w, 2, 2, 2, 2)
        return masks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(n, -1, 4 * h, 4 * w)


def build() -> Sam:
    """The built-in segmenter's network with untrained weights, in evaluation mode."""
    sam = Sam(
        image_encoder=SmallImageEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(GRID, GRID),
            input_image_size=(IMG_SIZE, IMG_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=TokenMaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=2048, num_heads=8),
            transformer_dim=EMBED_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=[127.0, 127.0, 127.0],
        pixel_std=[128.0, 128.0, 128.0],
    )
    return sam.eval()
