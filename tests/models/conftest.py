"""Networks with random weights, saved in the very file formats of the real ones, and a server to fetch them from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_samdepth.models.runtime.device import prepare_openmp
from napari_samdepth.models.sam import checkpoint as sam_files

# as the package itself does: threads that spin make these tests crawl beside other work
prepare_openmp()


def _randomised(module: Any, seed: int) -> Any:
    """Give every parameter values that matter (biases and position tables start as zeros otherwise)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        elif "rel_pos" in name or "pos_embed" in name or parameter.ndim == 1:
            parameter.data.normal_(0, 0.1, generator=generator)
        else:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    for buffer in module.buffers():  # the positions' frequencies
        buffer.normal_(generator=generator)
    return module


@pytest.fixture(scope="session")
def tiny_sam() -> Any:
    """A real `Sam` with a small image encoder: two windowed blocks and a global one, 1024 px input."""
    from functools import partial

    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=3,
            embed_dim=64,
            img_size=1024,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=14,
            out_chans=256,
        ),
        prompt_encoder=PromptEncoder(256, (64, 64), (1024, 1024), 16),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3, transformer=TwoWayTransformer(2, 256, 8, 2048), transformer_dim=256
        ),
    )
    return _randomised(sam, 1).requires_grad_(False).eval()


@pytest.fixture
def small_architecture(tiny_sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small network of the tests stand for vit_b."""
    import copy

    import segment_anything

    monkeypatch.setitem(sam_files.ARCHITECTURES, 64, "vit_b")
    monkeypatch.setitem(
        segment_anything.sam_model_registry, "vit_b", lambda checkpoint=None: copy.deepcopy(tiny_sam).to("meta")
    )


@pytest.fixture
def weights(tiny_sam: Any) -> dict[str, Any]:
    return dict(tiny_sam.state_dict())


@pytest.fixture(scope="session")
def sam_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return the path of a .pth file with random weights of "vit_b", "vit_l" or "vit_h", made on first use."""
    import torch
    from segment_anything import sam_model_registry

    folder = tmp_path_factory.mktemp("checkpoints")

    def path_of(architecture: str) -> Path:
        path = folder / f"sam_{architecture}.pth"
        if not path.exists():
            with torch.device("meta"):
                sam = sam_model_registry[architecture]()
            torch.save(_randomised(sam.to_empty(device="cpu"), 2).state_dict(), path)
        return path

    yield path_of
    # pytest keeps the last folders; gigabytes of noise are not worth keeping
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Return an RGB image uint8 (H, W, 3) of smooth random blobs; grey if asked."""

    def draw(height: int, width: int, seed: int = 0, grey: bool = False) -> np.ndarray:
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[:height, :width]
        channels = []
        for _ in range(1 if grey else 3):
            row, col = rng.uniform(0, height), rng.uniform(0, width)
            wave = np.sin(rows / (5 + 20 * rng.random()) + rng.random()) * np.cos(cols / (5 + 20 * rng.random()))
            blob = np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * (0.2 * max(height, width)) ** 2))
            channels.append(np.clip(110 + 60 * wave + 80 * blob, 0, 255))
        return np.stack(channels * (3 if grey else 1), axis=-1).astype(np.uint8)

    return draw


@pytest.fixture
def steps() -> SimpleNamespace:
    """A report that notes what it is told; raises `Cancelled` at the note number `stop_at`."""
    from napari_samdepth.core.errors import Cancelled

    notes: list[tuple[float, str]] = []
    state = SimpleNamespace(notes=notes, stop_at=None)

    def report(fraction: float, what: str) -> None:
        notes.append((fraction, what))
        if state.stop_at is not None and len(notes) > state.stop_at:
            raise Cancelled

    state.report = report
    return state


@pytest.fixture
def full_size() -> Callable[[bool], None]:
    """Skip what takes minutes unless NAPARI_SAMDEPTH_SLOW is set."""
    import os

    def ask(takes_minutes: bool) -> None:
        if takes_minutes and not os.environ.get("NAPARI_SAMDEPTH_SLOW"):
            pytest.skip("takes minutes: set NAPARI_SAMDEPTH_SLOW=1")

    return ask
