"""The training loop of the built-in depth estimator: optimiser, schedule, moving average, saving, validation."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from napari_samdepth.models.builtin.depth_net import DepthNet
from training.depth import cache, measures
from training.depth.batches import Pool, batch
from training.depth.losses import blank, depth_loss
from training.depth.start import trunk_state

FROZEN_BLOCKS = 5
RATES = {"trunk": 3e-4, "decoder": 1e-3}


def build(seed: int, start: Path | None = None) -> DepthNet:
    """The network with ImageNet's trunk, or with the weights of `start`; stem and first blocks stay as they are."""
    torch.manual_seed(seed)
    net = DepthNet()
    if start is None:
        net.trunk.load_state_dict(trunk_state())
    else:
        net.load_state_dict({name: value.float() for name, value in load_file(start).items()})
    for part in (net.trunk.stem, *net.trunk.blocks[:FROZEN_BLOCKS]):
        part.requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # 15 % faster on a CPU


def _optimiser(net: DepthNet, rate: float) -> torch.optim.AdamW:
    trunk = [p for p in net.trunk.parameters() if p.requires_grad]
    rest = [p for name, p in net.named_parameters() if not name.startswith("trunk.")]
    parts = ((trunk, RATES["trunk"]), (rest, RATES["decoder"]))
    groups = [{"params": parameters, "base": rate * base} for parameters, base in parts]
    return torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.01)


def _rate(done: float, step: int) -> float:
    """Warm-up over 60 steps, then a cosine to 2 % over the whole budget; `done` is the share of it that is spent."""
    return min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def export(state: dict[str, torch.Tensor], path: Path, note: dict[str, str]) -> None:
    """Write weights as float16 safetensors, moved into place once whole."""
    part = path.with_suffix(".part")
    save_file({k: v.half().contiguous() for k, v in state.items()}, part, metadata=note)
    part.chmod(0o644)  # safetensors makes it readable to its owner alone, and the file is to be shipped
    part.replace(path)


def validate(net: nn.Module, folder: Path, limit: int = 80) -> dict[str, float]:
    """Mean loss, rank correlation, error and share of pictures better than the ramp, on held-out views."""
    rows, losses = [], []
    net.eval()
    for path in sorted(folder.glob("[!.]*.npz"))[:limit]:
        rgb, inverse, _ = cache.load(path)
        size = [max(32, 32 * round(n / 32)) for n in inverse.shape]
        x = torch.from_numpy(rgb.astype(np.float32).transpose(2, 0, 1) / 255)[None]
        with torch.inference_mode():
            out = net(nn.functional.interpolate(x, size=size, mode="bilinear"))
            truth = nn.functional.interpolate(
                torch.from_numpy(inverse)[None, None], size=out.shape[-2:], mode="bilinear"
            )[:, 0]
            losses.append(float(depth_loss(out, truth)))
        t = truth[0].numpy()
        mine, ramp = measures.score(out[0].numpy(), t), measures.score(measures.ramp(t.shape), t)
        rows.append((mine.spearman, mine.ranged, mine.spearman > ramp.spearman, mine.ranged < ramp.ranged))
    net.train()
    mean = np.mean(rows, 0) if rows else np.zeros(4)
    names = ("spearman", "error", "better_ranks", "smaller_error")
    return {"loss": float(np.mean(losses or [0]))} | dict(zip(names, mean.tolist(), strict=True))


class Run:
    """One training run: network, its moving average, optimiser, clock; saved and resumed as one file."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.net = build(args.seed, args.start)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimiser = _optimiser(self.net, args.rate)
        self.step, self.spent = 0, 0.0
        if args.resume and args.resume.exists():
            saved = torch.load(args.resume, weights_only=True)
            self.net.load_state_dict(saved["net"])
            self.average = saved["average"]
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.spent = saved["step"], saved["spent"]

    def save(self) -> None:
        """Write the state for resuming (when asked for) and the averaged weights."""
        if self.args.resume:
            part = self.args.resume.with_suffix(".part")
            torch.save(
                {
                    "net": self.net.state_dict(),
                    "average": self.average,
                    "optimiser": self.optimiser.state_dict(),
                    "step": self.step,
                    "spent": self.spent,
                },
                part,
            )
            part.replace(self.args.resume)
        export(self.average, self.args.out, {"steps": str(self.step), "seed": str(self.args.seed)})

    def advance(self, x: torch.Tensor, y: torch.Tensor, done: float) -> float:
        """One step; returns its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * _rate(done, self.step)
        good = ~blank(y)
        loss = depth_loss(self.net(x[good].contiguous(memory_format=torch.channels_last)), y[good])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.average[key].lerp_(value, 1 - keep)
        return float(loss.detach())


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train until the minutes or the steps are spent; returns the last validation."""
    torch.set_num_threads(args.threads)
    run = Run(args)
    pools = [Pool(args.cache / "scenes"), Pool(args.cache / "photos")]
    pools = [p for p in pools if p.paths]
    shares = [1 - args.photos, args.photos] if len(pools) == 2 else [1.0]
    before, begin, losses = run.spent, time.monotonic(), []
    while run.step < args.steps and run.spent < 60 * args.minutes:
        rng = np.random.default_rng((args.seed, run.step))  # by the step, so that a resumed run draws new crops
        losses.append(run.advance(*batch(rng, pools, shares, args.batch), run.spent / (60 * args.minutes)))
        run.spent = before + time.monotonic() - begin
        if run.step % args.every == 0:
            run.save()
            views = [p.refresh() for p in pools]
            print(
                json.dumps(
                    {
                        "step": run.step,
                        "minutes": round(run.spent / 60, 2),
                        "loss": round(float(np.mean(losses)), 4),
                        "views": views,
                    }
                ),
                flush=True,
            )
            losses = []
        if run.step % args.validate == 0:
            print(json.dumps({"step": run.step} | _validate(run, args.cache)), flush=True)
    run.save()
    return _validate(run, args.cache)


def _validate(run: Run, store: Path) -> dict[str, float]:
    net = DepthNet()
    net.load_state_dict(run.average)
    scenes, photos = validate(net, store / "held_out"), validate(net, store / "photos_held_out")
    return {f"{a}_{k}": round(v, 4) for a, d in (("scene", scenes), ("photo", photos)) for k, v in d.items()}
