"""Shipped weights: the averaged ones of a checkpoint, in float16, as one safetensors file."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file


def export(checkpoint: Path, weights: Path) -> int:
    """Write ``weights`` from ``checkpoint``; returns the file's size in bytes."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    # what SAM derives its positional code from must stay exact: float16 would shift it by up to a pixel
    half = {k: v.float() if "gaussian" in k else v.half() for k, v in state["average"].items()}
    partial = weights.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in half.items()}, partial, metadata={"steps": str(state["step"])})
    partial.chmod(0o644)  # safetensors writes for its owner alone; this file ships
    os.replace(partial, weights)
    return weights.stat().st_size
