"""Train on a CUDA machine within minutes: `pack` here, `run` there, and the weights come back as one file.

    python -m training.depth.gpu pack --cache build/depth/cache --out build/depth/pack.npz
    python -m training.depth.gpu run --pack build/depth/pack.npz --out depth.safetensors --minutes 9

A pack holds every cached view in one file, photographs as JPEG, depth as 16-bit PNG; 4,000 views take about 200 MB, and
`--limit` keeps as many of each kind as the way there carries.  On the machine all views lie in the GPU's memory, where
crops are cut and recoloured.  A rehearsal without a GPU: `run --device cpu --steps 3`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from napari_samdepth.models.builtin.depth_net import DepthNet
from training.depth import batches, cache
from training.depth.losses import blank, depth_loss
from training.depth.start import TEACHER, teacher
from training.depth.train import KEEP, SHARES, WARM_UP, export, optimiser

Array = np.ndarray[Any, Any]
VIEW = (320, 416)
"""All views are brought to this size in the GPU's memory, each with its own aspect kept in `aspect`."""


def _bytes(image: Image.Image, form: str, **options: Any) -> Array:
    out = io.BytesIO()
    image.save(out, form, **options)
    return np.frombuffer(out.getvalue(), np.uint8)


def pack(folder: Path, out: Path, limit: int, teacher_file: Path) -> int:
    """Write up to `limit` views of each kind below the cache `folder`, and the starting weights; returns how many."""
    parts: dict[str, Array] = {}
    blobs, starts, kinds = [], [0], []
    for kind, name in enumerate(SHARES):
        for path in sorted((folder / name).glob("[!.]*.npz"))[:limit]:
            rgb, inverse, _ = cache.load(path)
            top = float(inverse.max()) or 1.0
            depth = Image.fromarray(np.round(65535 * inverse / top).astype(np.uint16))
            for blob in (_bytes(Image.fromarray(rgb), "JPEG", quality=92), _bytes(depth, "PNG")):
                blobs.append(blob)
                starts.append(starts[-1] + len(blob))
            kinds.append(kind)
    parts |= {"blobs": np.concatenate(blobs), "starts": np.array(starts), "kinds": np.array(kinds)}
    parts |= {f"start.{k}": v.numpy() for k, v in teacher(teacher_file).state_dict().items()}
    part = out.with_name(f".{out.name}.part.npz")
    np.savez(part, allow_pickle=False, **parts)
    part.replace(out)
    return len(kinds)


def unpack(file: Path, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Views (n, 3, *VIEW) uint8 and their inverse depth (n, *VIEW) float16 on `device`, kinds, aspects, weights."""
    with np.load(file) as z:
        blobs, starts, kinds = z["blobs"], z["starts"], z["kinds"]
        weights = {name[6:]: torch.from_numpy(z[name]) for name in z.files if name.startswith("start.")}
    rgb, inverse, aspect = [], [], []
    for k in range(len(kinds)):
        one, other = (blobs[starts[2 * k + j] : starts[2 * k + j + 1]].tobytes() for j in (0, 1))
        with Image.open(io.BytesIO(one)) as image, Image.open(io.BytesIO(other)) as depth:
            aspect.append(image.width / image.height)
            rgb.append(torch.from_numpy(np.asarray(image.resize(VIEW[::-1], Image.Resampling.BILINEAR)).copy()))
            # nearest: a mean of near and far is a depth that nothing has
            values = np.asarray(depth.resize(VIEW[::-1], Image.Resampling.NEAREST)).astype(np.float32) / 65535
            inverse.append(torch.from_numpy(values.astype(np.float16)))
    pixels = torch.stack(rgb).permute(0, 3, 1, 2).contiguous()
    return pixels.to(device), torch.stack(inverse).to(device), torch.tensor(kinds), torch.tensor(aspect), weights


def crops(
    rng: np.random.Generator, rgb: Tensor, inverse: Tensor, aspect: Tensor, chosen: Array, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Crops of the `chosen` views, recoloured where the views lie: (B, 3, *size) and (B, *size / 2)."""
    shapes = [(1000, round(1000 * float(aspect[k]))) for k in chosen]
    theta = torch.stack([batches.window(rng, shape, size) for shape in shapes]).to(rgb.device)
    which = torch.as_tensor(chosen, device=rgb.device)
    fine = F.affine_grid(theta, [len(chosen), 3, *size], align_corners=False)
    half = F.affine_grid(theta, [len(chosen), 1, size[0] // 2, size[1] // 2], align_corners=False)
    x = F.grid_sample(rgb[which].float() / 255, fine, padding_mode="border", align_corners=False)
    y = F.grid_sample(inverse[which].float()[:, None], half, padding_mode="border", align_corners=False)[:, 0]

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (len(chosen), *(shape or (1, 1, 1))))).float().to(x.device)

    x = x.clamp(1e-4, 1) ** torch.exp(draw(-0.4, 0.4)) * torch.exp(draw(-0.25, 0.25) + draw(-0.1, 0.1, 3, 1, 1))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draw(0.4, 1.4) * (draw(0, 1) > 0.08)
    middle = x.mean((1, 2, 3), keepdim=True)
    x = middle + (x - middle) * torch.exp(draw(-0.35, 0.35))
    x = x + torch.randn_like(x) * draw(0.0, 0.04) * (draw(0, 1) > 0.5)
    return x.clamp(0, 1), y


def run(args: argparse.Namespace) -> dict[str, float]:
    """Train until the minutes or steps are spent, writing the averaged weights every minute."""
    began = time.monotonic()
    rgb, inverse, kinds, aspect, weights = unpack(args.pack, args.device)
    net = DepthNet()
    net.load_state_dict(weights)
    net = net.train().to(args.device).to(memory_format=torch.channels_last)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    steps = optimiser(net, args.rate)
    of_kind = [np.flatnonzero(kinds.numpy() == k) for k in range(len(SHARES))]
    share = np.array([value if len(of_kind[k]) else 0.0 for k, value in enumerate(SHARES.values())])
    rng = np.random.default_rng(args.seed)
    step, saved, losses = 0, time.monotonic(), []
    while step < args.steps and time.monotonic() - began < 60 * args.minutes:
        done = max((time.monotonic() - began) / (60 * args.minutes), step / args.steps)
        for group in steps.param_groups:
            warm = min(1.0, (step + 1) / WARM_UP)
            group["lr"] = group["base"] * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
        size = batches.SIZES[int(rng.integers(len(batches.SIZES)))]
        chosen = np.array([rng.choice(of_kind[k]) for k in rng.choice(len(share), args.batch, p=share / share.sum())])
        x, y = crops(rng, rgb, inverse, aspect, chosen, size)
        good = ~blank(y)
        with torch.autocast(x.device.type, torch.bfloat16):
            features = net.features(x[good].contiguous(memory_format=torch.channels_last))
        loss = depth_loss(net.out(features.float())[:, 0], y[good])
        steps.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        steps.step()
        step += 1
        with torch.no_grad():
            for key, value in net.state_dict().items():
                average[key].lerp_(value, 1 - min(KEEP, (1 + step) / (10 + step)))
        losses.append(loss.detach())
        if time.monotonic() - saved > 60 or step == args.steps:
            export(average, args.out, {"steps": str(step), "seed": str(args.seed)})
            saved = time.monotonic()
            print(json.dumps({"step": step, "loss": round(float(torch.stack(losses).mean()), 4)}), flush=True)
            losses = []
    export(average, args.out, {"steps": str(step), "seed": str(args.seed)})
    return {"steps": step, "minutes": (time.monotonic() - began) / 60, "views": len(kinds)}


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("pack", help="write the cache into one file")
    one.add_argument("--cache", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--teacher", type=Path, default=TEACHER)
    one.add_argument("--limit", type=int, default=4000, help="views of each kind")
    one.set_defaults(do=lambda a: {"views": pack(a.cache, a.out, a.limit, a.teacher)})
    two = parts.add_parser("run", help="train on a pack")
    two.add_argument("--pack", type=Path, required=True)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--minutes", type=float, default=9)
    two.add_argument("--steps", type=int, default=10**6)
    two.add_argument("--batch", type=int, default=96)
    two.add_argument("--rate", type=float, default=2.0, help="factor on the learning rates, for the larger batch")
    two.add_argument("--device", default="cuda")
    two.add_argument("--seed", type=int, default=0)
    two.set_defaults(do=run)
    args = parser.parse_args()
    print(json.dumps(args.do(args)))


if __name__ == "__main__":
    main()
