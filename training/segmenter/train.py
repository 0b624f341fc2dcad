"""The training loop: one encode a window, several objects each, one to three rounds of clicks."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from napari_samdepth.models.builtin.segmenter_net import build
from training.segmenter import losses, pretrained
from training.segmenter.prompts import PAD, corrective_click, embed, first_prompt
from training.segmenter.windows import Pool, draw_window

RATES = {"image_encoder.trunk": 3e-4, "image_encoder.pyramid": 1e-3, "prompt_encoder": 2e-4, "mask_decoder": 2e-4}
WARM_UP = 50
EMA_DECAY = 0.997


@dataclass
class Run:
    """Everything that a checkpoint must hold to go on."""

    sam: Sam
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    rng: np.random.Generator
    step: int = 0
    seconds: float = 0.0
    log: list[float] = field(default_factory=list)


def start(seed: int, pretrain: bool = True) -> Run:
    """A fresh run from the starting weights (random ones where ``pretrain`` is false)."""
    torch.manual_seed(seed)
    sam = build()
    if pretrain:
        pretrained.load_starting_weights(sam)
    sam.train()
    groups = [
        {"params": [p for n, p in sam.named_parameters() if n.startswith(prefix)], "lr": rate, "peak": rate}
        for prefix, rate in RATES.items()
    ]
    average = {k: v.detach().clone() for k, v in sam.state_dict().items()}
    return Run(sam, torch.optim.AdamW(groups, weight_decay=0.01), average, np.random.default_rng(seed))


def set_rate(run: Run, progress: float) -> None:
    """Warm-up by steps, then a cosine over the time budget (``progress`` in 0–1) down to 1 %."""
    factor = min(1.0, (run.step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _first_round(rng: np.random.Generator, masks: Tensor, boxes: float) -> tuple[Tensor, Tensor]:
    prompts = [first_prompt(rng, mask.numpy(), boxes) for mask in masks]
    return torch.tensor([p for p, _ in prompts]), torch.tensor([k for _, k in prompts])


def _next_round(rng: np.random.Generator, shown: Tensor, target: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    got, want = (shown > 0).numpy(), (target > 0.5).numpy()
    clicks = [
        ((0.0, 0.0), PAD) if blank else corrective_click(rng, w & ~g, g & ~w)
        for g, w, blank in zip(got, want, empty.tolist(), strict=True)
    ]
    return torch.tensor([[p] for p, _ in clicks]), torch.tensor([[k] for _, k in clicks])


def batch_loss(run: Run, pool: Pool, windows: int, prompts: int) -> Tensor:
    """Loss of one step: ``windows`` windows with ``prompts`` objects each."""
    rng, sam = run.rng, run.sam
    drawn = [draw_window(rng, pool, prompts) for _ in range(windows)]
    images = torch.stack([w.image for w in drawn])
    masks = torch.cat([w.masks for w in drawn])
    empty = (masks.amin((1, 2)) < 0) | (masks.amax((1, 2)) <= 0)
    target = torch.nn.functional.avg_pool2d(masks.clamp(min=0)[:, None], 2)[:, 0]
    features = sam.image_encoder((images - sam.pixel_mean) / sam.pixel_std)
    pe = sam.prompt_encoder.get_dense_pe()
    points, labels = _first_round(rng, masks, pool.stage.boxes)
    rounds = int(rng.choice([1, 2, 3], p=pool.stage.rounds))
    shown: Tensor | None = None
    total = torch.zeros(())
    for turn in range(rounds):
        taught = turn == rounds - 1 or rng.random() < 0.5
        with torch.set_grad_enabled(taught):
            sparse = embed(sam.prompt_encoder, points.float(), labels)
            dense = _dense(sam, shown if shown is not None and rng.random() < 0.8 else None, len(points))
            logits, scores = sam.mask_decoder.predict_masks(features, pe, sparse, dense)
        if taught:
            total = total + losses.decode_loss(logits, scores, target, empty, first=turn == 0)
        if turn + 1 < rounds:
            shown = _shown(rng, logits.detach(), scores.detach(), target, turn)
            more, kinds = _next_round(rng, shown, target, empty)
            points, labels = _join(points, labels, more, kinds, turn)
    return total


def _shown(rng: np.random.Generator, logits: Tensor, scores: Tensor, target: Tensor, turn: int) -> Tensor:
    """What the user sees: after one prompt the best of three as foretold (or in truth), then the single mask."""
    if turn > 0:
        return logits[:, 0]
    judge = losses.iou(logits, target) if rng.random() < 0.25 else scores
    return logits[torch.arange(len(logits)), 1 + judge[:, 1:].argmax(1)]


def _join(points: Tensor, labels: Tensor, more: Tensor, kinds: Tensor, turn: int) -> tuple[Tensor, Tensor]:
    """Add a click to each prompt, before the closing pad of those that have no box, as SAM orders them."""
    order = torch.sort((torch.cat([labels, kinds], 1) == PAD).int(), dim=1, stable=True).indices
    points, labels = torch.cat([points, more], 1), torch.cat([labels, kinds], 1)
    return points.gather(1, order[..., None].expand(-1, -1, 2)), labels.gather(1, order)


def _dense(sam: Sam, shown: Tensor | None, count: int) -> Tensor:
    encoder = sam.prompt_encoder
    if shown is None:
        h, w = encoder.image_embedding_size
        none: Tensor = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(count, -1, h, w)
        return none
    given: Tensor = encoder.mask_downscaling(shown.clamp(-32, 32)[:, None])
    return given


def save(run: Run, path: Path) -> None:
    """Write a checkpoint beside ``path`` and move it into place."""
    partial = path.with_suffix(".partial")
    state = {
        "sam": run.sam.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "average": run.average,
        "step": run.step,
        "seconds": run.seconds,
        "log": run.log,
    }
    torch.save(state, partial)
    os.replace(partial, path)


def merge(parts: list[Path], out: Path) -> None:
    """Write a checkpoint whose weights are the mean of several runs' that went on from the same one.

    Such runs lie in one basin, and their mean is better than each of them (Wortsman et al., "Model soups", ICML 2022).
    What the optimizer knows is the first one's.
    """
    states = [torch.load(path, map_location="cpu", weights_only=True) for path in parts]
    mean = {name: torch.stack([s["average"][name] for s in states]).mean(0) for name in states[0]["average"]}
    partial = out.with_suffix(".partial")
    torch.save({**states[0], "sam": mean, "average": mean}, partial)
    os.replace(partial, out)


def resume(run: Run, path: Path, seed: int) -> None:
    """Go on from a checkpoint (the sampling goes on from another seed, so that windows do not repeat)."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    run.sam.load_state_dict(state["sam"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.average = state["average"]
    run.step, run.seconds, run.log = state["step"], state["seconds"], state["log"]
    run.rng = np.random.default_rng([seed, run.step])


def train(run: Run, pool: Pool, out: Path, minutes: float, steps: int, windows: int, prompts: int) -> None:
    """Train until ``minutes`` (counted over all resumes) or ``steps`` are spent, saving every three minutes."""
    last_save = last_note = began = time.monotonic()
    before = run.seconds
    while run.step < steps and run.seconds < minutes * 60:
        set_rate(run, max(run.seconds / (minutes * 60), run.step / steps))
        loss = batch_loss(run, pool, windows, prompts)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(run.sam.parameters(), 2.0)
        if torch.isfinite(norm):
            run.optimizer.step()
        run.step += 1
        decay = min(EMA_DECAY, run.step / (run.step + 10))
        with torch.no_grad():
            for name, value in run.sam.state_dict().items():
                run.average[name].lerp_(value, 1 - decay)
        run.log.append(float(loss.detach()))
        now = time.monotonic()
        run.seconds = before + now - began
        if now - last_note > 20:
            print(f"step {run.step} {run.seconds / 60:.1f} min loss {np.mean(run.log[-60:]):.4f}", flush=True)
            last_note = now
            pool.refresh()
        if now - last_save > 180:
            save(run, out)
            last_save = now
    save(run, out)
