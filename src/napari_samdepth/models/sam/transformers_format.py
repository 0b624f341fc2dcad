"""Segment Anything in transformers' format (``SamModel``), and what was made from it: SlimSAM (Chen et al. 2024).

The weights are renamed and put into segment_anything's network, so that whatever is fast for SAM's own checkpoints is
fast for these. Widths and depths are read from the weights, the rest from config.json.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Device, Precision, choose_device, first_line, torch_module
from napari_samdepth.models.runtime.torch_model import ready
from napari_samdepth.models.sam.checkpoint import fill
from napari_samdepth.models.sam.segmenter import SamSegmenter
from napari_samdepth.models.weights.checkpoint import read_weights
from napari_samdepth.models.weights.configuration import read_configuration
from napari_samdepth.models.weights.pretrained import identity, weight_files

_POSITIONS = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
_RENAMED = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
        (r"^vision_encoder\.", "image_encoder."),
        (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
        (r"\.neck\.conv1\.", ".neck.0."),
        (r"\.neck\.layer_norm1\.", ".neck.1."),
        (r"\.neck\.conv2\.", ".neck.2."),
        (r"\.neck\.layer_norm2\.", ".neck.3."),
        (r"\.point_embed\.", ".point_embeddings."),
        (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
        (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
        (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
        (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
        (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
        (r"\.upscale_conv1\.", ".output_upscaling.0."),
        (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
        (r"\.upscale_conv2\.", ".output_upscaling.3."),
        (r"\.layer_norm", ".norm"),
    )
]
_FEED_FORWARD = re.compile(r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.(.+)\.(\w+)$")


def load_sam_folder(
    path: Path,
    name: str = "",
    device: str | None = None,
    report: Report | None = None,
    *,
    precision: Precision = "float32",
) -> SamSegmenter:
    """Return a segmenter from a folder with ``SamModel`` in transformers' format.

    Parameters
    ----------
    path
        The folder: config.json and weights.
    name
        What the user calls it; the folder's name if empty.
    device
        As in `choose_device`.
    report
        Told how far loading is.
    precision
        As in `SamSegmenter`.

    Raises
    ------
    ModelError
        If the folder cannot be read, or weights and configuration do not fit together.
    Cancelled
        If `report` raises it.
    """
    tell = report or silent
    chosen = choose_device(device)
    name = name or path.name
    tell(0.0, f"reading {name}")
    settings = read_configuration(path)
    weights: dict[str, Any] = {}
    for file in weight_files(path):
        weights |= read_weights(file)
    renamed = renamed_weights(weights, path)
    del weights
    tell(0.3, f"building {name}")
    sam = fill(_laid_out(settings, renamed, path), renamed, "its configuration", path)
    del renamed
    tell(0.7, f"checking {name}")
    segmenter = SamSegmenter(sam, name, f"sam:{identity(path)}", Device("cpu", chosen.reason), precision=precision)
    return ready(segmenter, chosen, tell)


def renamed_weights(weights: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the weights of a ``SamModel`` under the names that segment_anything gives them.

    Raises
    ------
    ModelError
        If the positions of the image and those of the prompts, which are one in segment_anything, differ.
    """
    torch = torch_module()
    positions = [weights[name] for name in _POSITIONS if name in weights]
    if len(positions) == 2 and not torch.equal(*positions):
        raise ModelError(f"{path} holds two tables of positions that differ; choose another model.")
    found = {}
    last = _last_layers(weights)
    for name, value in weights.items():
        if name in _POSITIONS:
            continue
        parts = _FEED_FORWARD.match(name)
        if parts:
            network, layer, kind = parts.groups()
            number = {"proj_in": 0, "proj_out": last[network]}.get(layer)
            number = int(layer.removeprefix("layers.")) + 1 if number is None else number
            found[f"{network}.layers.{number}.{kind}"] = value
            continue
        found[_renamed(name)] = value
    if positions:
        found["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = positions[0]
    return found


def _renamed(name: str) -> str:
    for pattern, new in _RENAMED:
        name = pattern.sub(new, name)
    return name


def _last_layers(weights: dict[str, Any]) -> dict[str, int]:
    """Return for each small network of the decoder the number of its last layer."""
    found: dict[str, int] = {}
    for name in weights:
        parts = _FEED_FORWARD.match(name)
        if parts and parts[3] == "weight":
            found[parts[1]] = found.get(parts[1], -1) + 1
    return found


def _laid_out(settings: dict[str, Any], weights: dict[str, Any], path: Path) -> Any:
    """Return a network without memory, as wide and deep as the weights. Raises ModelError where that cannot be."""
    try:
        return _layout(settings, weights)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise ModelError(
            f"{path} is no Segment Anything model that can be built ({first_line(error)}); download it again."
        ) from error


def _layout(settings: dict[str, Any], weights: dict[str, Any]) -> Any:
    torch = torch_module()
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    vision = settings.get("vision_config") or {}
    decoder = settings.get("mask_decoder_config") or {}
    prompts = settings.get("prompt_encoder_config") or {}
    for part, default in ((vision, "gelu"), (prompts, "gelu"), (decoder, "relu")):
        if part.get("hidden_act", default) != default:
            raise ValueError(f"it wants {part['hidden_act']} where SAM has {default}")
    side, patch = int(vision.get("image_size", 1024)), int(vision.get("patch_size", 16))
    cells = (side // patch, side // patch)
    width = weights["image_encoder.patch_embed.proj.weight"].shape[0]
    hidden = weights["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]
    channels = weights["image_encoder.neck.0.weight"].shape[0]
    norm = partial(torch.nn.LayerNorm, eps=float(vision.get("layer_norm_eps", 1e-6)))
    with torch.device("meta"):
        encoder = ImageEncoderViT(
            img_size=side,
            patch_size=patch,
            embed_dim=width,
            depth=_count(weights, "image_encoder.blocks."),
            num_heads=int(vision.get("num_attention_heads", 12)),
            mlp_ratio=(hidden + 0.5) / width,  # segment_anything rounds the product down
            out_chans=channels,
            qkv_bias=bool(vision.get("qkv_bias", True)),
            norm_layer=norm,
            use_abs_pos=bool(vision.get("use_abs_pos", True)),
            use_rel_pos=bool(vision.get("use_rel_pos", True)),
            window_size=int(vision.get("window_size", 14)),
            global_attn_indexes=tuple(vision.get("global_attn_indexes", (2, 5, 8, 11))),
        )
        layers = "mask_decoder.transformer.layers."
        transformer = TwoWayTransformer(
            depth=_count(weights, layers),
            embedding_dim=channels,
            num_heads=int(decoder.get("num_attention_heads", 8)),
            mlp_dim=weights[f"{layers}0.mlp.lin1.weight"].shape[0],
        )
        head = "mask_decoder.iou_prediction_head.layers."
        masks = MaskDecoder(
            num_multimask_outputs=weights["mask_decoder.mask_tokens.weight"].shape[0] - 1,
            transformer=transformer,
            transformer_dim=channels,
            iou_head_depth=_count(weights, head),
            iou_head_hidden_dim=weights[f"{head}0.weight"].shape[0],
        )
        middle = weights["prompt_encoder.mask_downscaling.3.weight"].shape[0]
        sam = Sam(encoder, PromptEncoder(channels, cells, (side, side), middle), masks)
    # transformers rounds these in another place than segment_anything
    for layer in transformer.layers:
        for part in (layer.norm1, layer.norm2, layer.norm3, layer.norm4):
            part.eps = float(decoder.get("layer_norm_eps", 1e-6))
    return sam


def _count(weights: dict[str, Any], prefix: str) -> int:
    """Return how many numbered parts follow a prefix."""
    return len({name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)})
