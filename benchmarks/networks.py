"""Encoding, clicking and depth: ours against SamPredictor and transformers' pipeline, with the same weights.

click: prompt to pixels in a napari Labels layer of 4096 x 4096; the peer predicts with SamPredictor, writes the mask
and refreshes. The embedding is random and the decoder's last layer is planted so that masks are discs of a few
thousandths of the image, as nuclei and coins are. click-busy: the same beside a process that computes without end.
There each side has a process of its own, because how OpenMP's threads wait is settled when torch is loaded: the peer
loads torch as it comes, ours through napari_samdepth. They take turns as everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import PACKAGE, Case, Options, Row, grown, measure, memory
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.depth.transformers_depth import load_depth
from napari_samdepth.models.runtime.device import Device, torch_module
from napari_samdepth.models.sam.segmenter import SamSegmenter

SIDE = 4096


def random_sam() -> Any:
    """Return a vit_b whose weights, position tables included, are random."""
    torch = torch_module()
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval().requires_grad_(False)
    for name, parameter in sam.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            parameter.normal_(0, 0.05)
    return sam


def picture(height: int, width: int) -> np.ndarray[Any, Any]:
    """Return a smooth RGB picture with some noise."""
    rows, cols = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    waves = np.stack([np.sin(rows / n) * np.cos(cols / (2 * n)) for n in (17, 29, 53)], axis=-1)
    return np.clip(128 + 80 * waves + noise, 0, 255).astype(np.uint8)


def encode(precision: Any, device: str = "cpu") -> Case:
    """`SamPredictor.set_image` and ours on a 1024 x 768 picture."""
    from segment_anything import SamPredictor

    sam, rgb = random_sam().to(device), picture(768, 1024)
    predictor = SamPredictor(sam)
    segmenter = SamSegmenter(sam, "vit_b", "vit_b:0", Device(device, ""), precision=precision)

    def peer() -> Any:
        predictor.set_image(rgb)
        return predictor.features[0].cpu().numpy()

    def compare(theirs: Any, found: Any) -> str:
        difference = np.linalg.norm(found - theirs) / np.linalg.norm(theirs)
        assert difference <= (1e-5 if precision == "float32" else 3e-2), difference
        return f"features differ by {difference:.1e}"

    return Case(peer, lambda: segmenter.encode(rgb).features["image"], compare)


def planted(sam: Any) -> Any:
    """Make the decoder's masks discs: its per-pixel features become a disc, its tokens' weights on them a constant."""
    torch = torch_module()
    rows, cols = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    disc = 8.7 - torch.hypot(rows - 100, cols - 130)

    class Planted(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x * 0.001 + disc

    sam.mask_decoder.output_upscaling.append(Planted())
    for mlp in sam.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].bias += 1
    return sam


def click() -> Case:
    """One click on a 4096 x 4096 image, to the pixels of a Labels layer."""
    torch = torch_module()
    from napari.layers import Labels
    from segment_anything import SamPredictor

    from napari_samdepth.session.geometry import Shown
    from napari_samdepth.session.prompt_layers import PreviewWriter

    sam = planted(random_sam())
    features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))
    predictor = SamPredictor(sam)
    predictor.features, predictor.is_image_set = features, True
    predictor.original_size, predictor.input_size = (SIDE, SIDE), (1024, 1024)
    segmenter = SamSegmenter(sam, "vit_b", "vit_b:0", Device("cpu", ""))
    local = {"image": features}
    embedding = Embedding({"image": features[0].numpy()}, (SIDE, SIDE), (1024, 1024), "vit_b:0", local)
    layers = [Labels(np.zeros((SIDE, SIDE), np.uint8)) for _ in range(2)]
    writer = PreviewWriter(layers[1])
    shown = Shown(0, 1, (0, 0), (SIDE, SIDE))

    def peer() -> Any:
        masks, scores, _ = predictor.predict(np.array([[2080.0, 1600.0]]), np.array([1]))
        layers[0].data[:] = 0
        layers[0].data[masks[scores.argmax()]] = 1
        layers[0].refresh()
        return layers[0].data

    def ours() -> Any:
        writer.draw(shown, segmenter.decode(embedding, Prompts([(1600.0, 2080.0)])).patch())
        return layers[1].data

    def compare(theirs: Any, found: Any) -> str:
        assert np.array_equal(theirs, found)
        assert theirs.any()
        return f"identical, {int(theirs.sum()):,} pixels"

    return Case(peer, ours, compare)


def depth(precision: Any, folder: Path, device: str = "cpu") -> Case:
    """DPT-large (real size) on a 480 x 640 picture.

    The last layer's bias is planted so that the final ReLU cuts nothing off: untrained, it sets most pixels to zero,
    and ranks of rounding errors round zero tell nothing (Spearman 0.955 in bfloat16). Trained ones are positive.
    """
    torch = torch_module()
    import transformers
    from PIL import Image
    from scipy.stats import spearmanr

    path = folder / "dpt-large"
    if not path.exists():
        torch.manual_seed(0)
        config = transformers.DPTConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
            backbone_out_indices=[5, 11, 17, 23], neck_hidden_sizes=[256, 512, 1024, 1024],
        )  # fmt: skip
        network = transformers.DPTForDepthEstimation(config)
        with torch.no_grad():
            list(network.head.modules())[-2].bias += 1
        network.save_pretrained(path)
        transformers.DPTImageProcessor().save_pretrained(path)
    pipeline = transformers.pipeline("depth-estimation", model=str(path), device=device)
    estimator = load_depth(path, device=device, precision=precision)
    rgb = picture(480, 640)

    def compare(theirs: Any, found: Any) -> str:
        worst = np.abs(found - theirs).max() / np.ptp(theirs)
        rank = spearmanr(theirs.ravel(), found.ravel()).statistic
        assert worst <= 1e-4 if precision == "float32" else rank >= 0.9999, (worst, rank)
        return f"differs by {worst:.1e} of the range, Spearman {rank:.6f}"

    def peer() -> Any:
        return pipeline(Image.fromarray(rgb))["predicted_depth"].cpu().numpy()

    return Case(peer, lambda: estimator.estimate(rgb).values, compare)


def beside_a_busy_process(options: Options) -> Row:
    """A click in a process of each side, while a third one never rests; seconds are those the processes report."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    first = {"peer": "import torch", "ours": "import napari_samdepth.models.runtime.device as d; d.torch_module()"}
    served = {
        who: subprocess.Popen(
            [sys.executable, "-c", f"{first[who]}; from benchmarks.networks import serve; serve({who!r})"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PACKAGE, env=environment,
        )
        for who in ("peer", "ours")
    }  # fmt: skip
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def ask(who: str) -> int:
        pipe = served[who]
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        pipe.stdin.write("click\n")
        pipe.stdin.flush()
        return int(pipe.stdout.readline())

    def compare(theirs: int, found: int) -> str:
        assert theirs == found > 0, (theirs, found)
        return f"one busy process beside it; the same {found:,} pixels"

    case = Case(lambda: ask("peer"), lambda: ask("ours"), compare)
    try:
        return measure("click-busy", "SamPredictor + write + refresh", 5.0, case, max(options.runs, 9), clock_only=True)
    finally:
        for process in (busy, *served.values()):
            process.kill()
            process.wait()


def serve(who: str) -> None:
    """Click once per line on the standard input and answer with the number of pixels; for `beside_a_busy_process`."""
    case = click()
    run = case.peer if who == "peer" else case.ours
    for _ in sys.stdin:
        print(int(run().sum()), flush=True)


def encode_memory(options: Options, variant: str | None = None) -> Row | int:
    """Extra peak memory of encoding; with `variant` that of one side, for a process of its own."""
    if variant is None:
        return memory("encode-memory", "SamPredictor.set_image", 0.2, options)
    case = encode("float32", options.device)
    return grown(case.peer if variant == "peer" else case.ours)


def _encode(options: Options, name: str, precision: str, floor: float) -> Row:
    return measure(name, "SamPredictor.set_image", floor, encode(precision, options.device), options.runs)


def _depth(options: Options, name: str, precision: str, floor: float) -> Row:
    case = depth(precision, options.folder, options.device)
    return measure(name, 'pipeline("depth-estimation")', floor, case, options.runs)


ROWS = {
    "encode": lambda options: _encode(options, "encode", "float32", 1.6),
    "encode-bf16": lambda options: _encode(options, "encode-bf16", "bfloat16", 2.5),
    "encode-memory": encode_memory,
    "click": lambda options: measure("click", "SamPredictor + write + refresh", 2.5, click(), max(options.runs, 9)),
    "click-busy": beside_a_busy_process,
    "depth": lambda options: _depth(options, "depth", "float32", 1.0),
    "depth-bf16": lambda options: _depth(options, "depth-bf16", "bfloat16", 1.6),
}
VARIANTS = {"encode-memory": encode_memory}
