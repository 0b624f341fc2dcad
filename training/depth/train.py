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
from training.depth.start import teacher

RATES = {"published": 4e-4, "context": 1.5e-3}
SHARES = {"scenes": 0.25, "meshes": 0.28, "photos": 0.35, "composed": 0.12}
"""Of a batch: ray-cast scenes, mesh scenes, labelled photographs, those with cut-outs pasted on them."""
WARM_UP = 20
KEEP = 0.998
"""Of the moving average of the weights, a step."""


def build(teacher_file: Path, start: Path | None = None) -> DepthNet:
    """The network with the teacher's weights and an empty context branch, or with the weights of `start`."""
    if start is None:
        net = teacher(teacher_file)
    else:
        net = DepthNet()
        net.load_state_dict({name: value.float() for name, value in load_file(start).items()})
    return net.train().to(memory_format=torch.channels_last)  # 1.7 times as fast on a CPU


def optimiser(net: DepthNet, rate: float) -> torch.optim.AdamW:
    """AdamW with the context branch, which starts from nothing, at a higher rate."""
    context = [p for name, p in net.named_parameters() if name.startswith("context.")]
    rest = [p for name, p in net.named_parameters() if not name.startswith("context.")]
    parts = ((rest, RATES["published"]), (context, RATES["context"]))
    groups = [{"params": parameters, "base": rate * base} for parameters, base in parts]
    return torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.01)


def _rate(done: float, step: int) -> float:
    """Warm-up, then a cosine to 3 % over the whole budget; `done` is the share of it that is spent."""
    return min(1.0, (step + 1) / WARM_UP) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def export(state: dict[str, torch.Tensor], path: Path, note: dict[str, str]) -> None:
    """Write weights as float16 safetensors, moved into place once whole."""
    part = path.with_suffix(".part")
    save_file({k: v.half().cpu().contiguous() for k, v in state.items()}, part, metadata=note)
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
        self.net = build(args.teacher, args.start).to(args.device)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimiser = optimiser(self.net, args.rate)
        self.step, self.spent = 0, 0.0
        if args.resume and args.resume.exists():
            saved = torch.load(args.resume, weights_only=True, map_location=args.device)
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
        x, y = x[good].contiguous(memory_format=torch.channels_last).to(self.args.device), y[good].to(self.args.device)
        # bfloat16 is 1.7 times as fast; the last convolution stays in float32, where differences are small
        with torch.autocast(x.device.type, torch.bfloat16):
            features = self.net.features(x)
        loss = depth_loss(self.net.out(features.float())[:, 0], y)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        keep = min(KEEP, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.average[key].lerp_(value, 1 - keep)
        return float(loss.detach())


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train until the minutes or the steps are spent; returns the last validation."""
    torch.set_num_threads(args.threads)
    run = Run(args)
    pools = {name: Pool(args.cache / name) for name in SHARES}
    before, begin, losses = run.spent, time.monotonic(), []
    while run.step < args.steps and run.spent < 60 * args.minutes:
        filled = {name: pool for name, pool in pools.items() if pool.paths}
        weight = np.array([args.shares[name] for name in filled])
        rng = np.random.default_rng((args.seed, run.step))  # by the step, so that a resumed run draws new crops
        crops = batch(rng, [*filled.values()], [*(weight / weight.sum())], args.batch)
        losses.append(run.advance(*crops, run.spent / (60 * args.minutes)))
        run.spent = before + time.monotonic() - begin
        if run.step % args.every == 0:
            run.save()
            report = {
                "step": run.step,
                "minutes": round(run.spent / 60, 2),
                "cpu_minutes": round(time.process_time() / 60, 2),
                "loss": round(float(np.mean(losses)), 4),
                "views": {name: pool.refresh() for name, pool in pools.items()},
            }
            print(json.dumps(report), flush=True)
            losses = []
    run.save()
    return _validate(run, args.cache)


def _validate(run: Run, store: Path) -> dict[str, float]:
    net = DepthNet()
    net.load_state_dict({k: v.cpu() for k, v in run.average.items()})
    scenes, photos = validate(net, store / "scenes_held_out"), validate(net, store / "photos_held_out")
    return {f"{a}_{k}": round(v, 4) for a, d in (("scene", scenes), ("photo", photos)) for k, v in d.items()}
