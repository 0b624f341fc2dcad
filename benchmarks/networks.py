"""Encoding, clicking and depth: ours against SamPredictor and transformers' pipeline, with the same weights.

    python -m benchmarks.networks [encode] [encode-bf16] [click] [depth] [depth-bf16] [memory] [--runs 5] [--json FILE]

Weights are random: they cost what trained ones cost. Peer and ours take turns in one process after one warm-up of
each; the ratio is that of the medians, in wall time and, since a busy machine falsifies that, in processor time.
Memory is measured with one variant a process. The run fails when outputs differ or a floor is missed.

click: prompt to pixels in a napari Labels layer of 4096 x 4096; the peer predicts with SamPredictor, writes the mask
and refreshes. The embedding is random and the decoder's last layer is planted so that masks are discs of a few
thousandths of the image, as nuclei and coins are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.depth import load_depth
from napari_samdepth.models.device import Device, bfloat16_gains, torch_module
from napari_samdepth.models.protocols import Embedding
from napari_samdepth.models.sam import SamSegmenter

FLOORS = {"encode": 1.6, "encode-bf16": 2.5, "click": 2.5, "depth": 1.0, "depth-bf16": 1.6}
MEMORY_FLOOR = 0.2
SIDE = 4096


@dataclass
class Case:
    """A peer and ours, and how their results are compared (raises AssertionError, returns what to print)."""

    peer: Callable[[], Any]
    ours: Callable[[], Any]
    compare: Callable[[Any, Any], str]


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


def encode(precision: Any) -> Case:
    """`SamPredictor.set_image` and ours on a 1024 x 768 picture."""
    from segment_anything import SamPredictor

    sam, rgb = random_sam(), picture(768, 1024)
    predictor = SamPredictor(sam)
    segmenter = SamSegmenter(sam, "vit_b", "vit_b:0", Device("cpu", ""), precision=precision)

    def peer() -> Any:
        predictor.set_image(rgb)
        return predictor.features[0].numpy()

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
    upscale = sam.mask_decoder.output_upscaling
    upscale.register_forward_hook(lambda module, args, out: out * 0.001 + disc)
    for mlp in sam.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].bias += 1
    return sam


def click() -> Case:
    """One click on a 4096 x 4096 image, to the pixels of a Labels layer."""
    torch = torch_module()
    from napari.layers import Labels
    from segment_anything import SamPredictor

    from napari_samdepth.session.geometry import Shown
    from napari_samdepth.session.layers import PreviewWriter

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


def depth(precision: Any, folder: Path) -> Case:
    """DPT-large (real size) on a 480 x 640 picture."""
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
        transformers.DPTForDepthEstimation(config).save_pretrained(path)
        transformers.DPTImageProcessor().save_pretrained(path)
    pipeline = transformers.pipeline("depth-estimation", model=str(path), device="cpu")
    estimator = load_depth(path, device="cpu", precision=precision)
    rgb = picture(480, 640)

    def compare(theirs: Any, found: Any) -> str:
        worst = np.abs(found - theirs).max() / np.ptp(theirs)
        rank = spearmanr(theirs.ravel(), found.ravel()).statistic
        assert worst <= 1e-4 if precision == "float32" else rank >= 0.9999, (worst, rank)
        return f"differs by {worst:.1e} of the range, Spearman {rank:.6f}"

    def peer() -> Any:
        return pipeline(Image.fromarray(rgb))["predicted_depth"].numpy()

    return Case(peer, lambda: estimator.estimate(rgb).values, compare)


def measure(name: str, case: Case, runs: int) -> dict[str, Any]:
    """Return medians of wall and processor seconds, peer and ours in turn after a warm-up of each."""
    wall: dict[str, list[float]] = {"peer": [], "ours": []}
    cpu: dict[str, list[float]] = {"peer": [], "ours": []}
    theirs, found = case.peer(), case.ours()
    try:
        note, same = case.compare(theirs, found), True
    except AssertionError as error:
        note, same = f"OUTPUTS DIFFER {error}", False
    for _ in range(runs):
        for who, run in (("peer", case.peer), ("ours", case.ours)):
            start, used = time.perf_counter(), time.process_time()
            run()
            wall[who].append(time.perf_counter() - start)
            cpu[who].append(time.process_time() - used)
    kept = {"wall": wall, "cpu": cpu}
    seconds = {f"{who}_{unit}": statistics.median(kept[unit][who]) for unit in kept for who in ("peer", "ours")}
    ratios = {unit: seconds[f"peer_{unit}"] / seconds[f"ours_{unit}"] for unit in ("wall", "cpu")}
    print(
        f"{name:<14}{seconds['peer_wall']:>9.3f}{seconds['ours_wall']:>9.3f}{ratios['wall']:>7.2f}"
        f"{seconds['peer_cpu']:>9.3f}{seconds['ours_cpu']:>9.3f}{ratios['cpu']:>7.2f}{FLOORS[name]:>7.1f}"
        f"  load {os.getloadavg()[0]:.1f}  {note}",
        flush=True,
    )
    return {
        **seconds,
        "ratio_wall": ratios["wall"],
        "ratio_cpu": ratios["cpu"],
        "floor": FLOORS[name],
        "note": note,
        "same": same,
    }


def extra_memory(variant: str) -> int:
    """Return by how many bytes encoding raises the peak of this process; for a process of its own."""
    case = encode("float32")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (case.peer if variant == "peer" else case.ours)()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def memory() -> dict[str, Any]:
    """Return the extra peak memory of encoding, peer and ours, each in a process of its own."""
    found = {}
    for variant in ("peer", "ours"):
        command = [sys.executable, "-m", "benchmarks.networks", "--variant", variant]
        found[variant] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ratio = found["ours"] / found["peer"]
    sizes = f"peer {found['peer'] / 1e6:.0f} MB, ours {found['ours'] / 1e6:.0f} MB"
    print(f"{'memory':<14}{sizes}: {ratio:.2f} x, at most {MEMORY_FLOOR}")
    return {**found, "ratio": ratio, "floor": MEMORY_FLOOR}


def main() -> int:
    """Print one line per case; return 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[*FLOORS, "memory"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--variant", choices=("peer", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch = torch_module()
    if options.variant:
        print(extra_memory(options.variant))
        return 0
    print(f"{torch.get_num_threads()} threads; bfloat16 gains here: {bfloat16_gains()}")
    print(f"{'':<14}{'peer s':>9}{'ours s':>9}{'ratio':>7}{'peer cpu':>9}{'ours cpu':>9}{'ratio':>7}{'floor':>7}")
    figures: dict[str, Any] = {}
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        make: dict[str, Callable[[], Case]] = {
            "encode": lambda: encode("float32"),
            "encode-bf16": lambda: encode("bfloat16"),
            "click": click,
            "depth": lambda: depth("float32", Path(folder)),
            "depth-bf16": lambda: depth("bfloat16", Path(folder)),
        }
        for name in options.cases:
            if name == "memory":
                figures[name] = memory()
                missed |= figures[name]["ratio"] > MEMORY_FLOOR
                continue
            if name.endswith("bf16") and not bfloat16_gains():
                print(f"{name:<14}skipped: bfloat16 does not gain on this processor")
                continue
            figures[name] = measure(name, make[name](), options.runs)
            missed |= figures[name]["ratio_wall"] < figures[name]["floor"] or not figures[name]["same"]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
