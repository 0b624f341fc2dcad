"""Checkpoints of Segment Anything (Kirillov et al., ICCV 2023): which architecture they are of, and the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.runtime.device import enough_memory, torch_module
from napari_samdepth.models.weights.checkpoint import check_numbers

ARCHITECTURES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""Width of the image encoder (channels of its patch embedding) and the architecture it means."""

_WIDTH_KEY = "image_encoder.patch_embed.proj.weight"
_PIXEL_MEAN = (123.675, 116.28, 103.53)
_PIXEL_STD = (58.395, 57.12, 57.375)


def architecture_of(weights: dict[str, Any], path: Path) -> str:
    """Return "vit_b", "vit_l" or "vit_h", read from the names and shapes of the weights.

    Raises
    ------
    ModelError
        If they are not a Segment Anything model's.
    """
    patches = weights.get(_WIDTH_KEY)
    width = patches.shape[0] if patches is not None and patches.ndim == 4 else None
    if width not in ARCHITECTURES:
        raise ModelError(
            f"{path} holds no Segment Anything weights (of ViT-B, ViT-L or ViT-H); "
            f"its first entry is {next(iter(weights))!r}; choose another checkpoint."
        )
    return ARCHITECTURES[width]


def build_sam(architecture: str, weights: dict[str, Any], path: Path) -> Any:
    """Return a `segment_anything` Sam with these weights, float32, on the CPU, in eval mode.

    The network is laid out without memory first, so that nothing is initialised only to be overwritten.

    Raises
    ------
    ModelError
        If names, shapes or types of the weights do not fit the architecture, or they are not finite.
    """
    torch = torch_module()
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        sam = sam_model_registry[architecture](checkpoint=None)
    return fill(sam, weights, architecture, path)


def fill(sam: Any, weights: dict[str, Any], what: str, path: Path) -> Any:
    """Return a network that was laid out without memory with its weights, as `build_sam` does.

    Parameters
    ----------
    sam
        A Sam on the device "meta".
    weights
        By segment_anything's names.
    what
        What they must fit, for the sentence that says that they do not.
    path
        Where they are from.
    """
    torch = torch_module()
    # before anything is copied: shapes that fit bound what is
    _check_fit(sam, weights, what, path)
    # Mapped tensors are copied: a network that is a view of a file dies with it.
    with enough_memory(f"loading {path.name}"):
        owned = {name: value.detach().to(torch.float32, copy=True) for name, value in weights.items()}
    check_numbers(path, owned)
    sam.load_state_dict(owned, strict=True, assign=True)
    sam.pixel_mean = torch.tensor(_PIXEL_MEAN).view(-1, 1, 1)
    sam.pixel_std = torch.tensor(_PIXEL_STD).view(-1, 1, 1)
    return sam.requires_grad_(False).eval()


def _check_fit(sam: Any, weights: dict[str, Any], what_for: str, path: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in sam.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in weights.items()}
    for what, names in (
        ("lacks", sorted(expected.keys() - got.keys())),
        ("has unknown", sorted(got.keys() - expected.keys())),
        ("has another shape of", sorted(name for name in expected.keys() & got.keys() if expected[name] != got[name])),
    ):
        if names:
            raise ModelError(
                f"{path} does not fit {what_for}: it {what} {names[0]}"
                f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}; choose another checkpoint."
            )
    integer = next((name for name, value in weights.items() if not value.is_floating_point()), None)
    if integer is not None:
        kind = str(weights[integer].dtype).removeprefix("torch.")
        raise ModelError(f"{path} holds {kind} where weights are fractions ({integer}); choose another checkpoint.")
