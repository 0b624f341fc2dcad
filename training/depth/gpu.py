"""Train on a CUDA machine within minutes: `pack` here, `run` there, and the weights come back as one file.

    python -m training.depth.gpu pack --pictures build/depth/pictures --models build/depth/models --out pack.zip
    python -m training.depth.gpu run --pack pack.zip --out depth.safetensors --minutes 9

A pack of 24 MB holds what views are made of: reduced photographs and cut-outs, models of few triangles, the
published weights.  On the machine all cores render scenes and label photographs while the GPU trains on what is there,
held in its memory, where crops are cut and recoloured; weights are written every minute.  A rehearsal without a GPU:
`run --device cpu --workers 1 --steps 3`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from training.depth import batches, cache, meshes, pictures, stamps
from training.depth.losses import blank, depth_loss
from training.depth.start import TEACHER, teacher
from training.depth.train import KEEP, SHARES, WARM_UP, export, optimiser

Array = np.ndarray[Any, Any]
LONGEST = 640
"""Photographs travel at so many pixels."""
MOST = 4000
"""Models of more triangles stay at home."""
VIEW = (320, 416)
"""All views are brought to this size in the GPU's memory; what shape they had is kept beside."""
PART = 50
"""Scenes or photographs that a worker makes at a time."""


def pack(folder: Path, models: Path, out: Path, teacher_file: Path) -> dict[str, float]:
    """Write the zip file; returns how many photographs, cut-outs and models it holds, and its megabytes."""
    library = meshes.thinned(meshes.load(models / "library.npz"), MOST)
    # the machine leaves out every fifth of these once more: it cannot tell that the others never came
    cuts = [path for k, path in enumerate(stamps.find(folder)) if k % meshes.HELD_OUT_EVERY]
    part = out.with_name(f".{out.name}.part")
    count = 0
    with zipfile.ZipFile(part, "w") as z:
        for key in pictures.names(folder):
            if key.split("/")[0] in pictures.INSTALLED:
                continue
            package, name = key.split("/", 1)
            place = "pictures/" if "/" in name or package == "enlightenment-data" else ""
            image = Image.fromarray(pictures.photograph(folder, key, LONGEST))
            z.writestr(f"pictures/{package}/{place}{name}.jpg", _bytes(image, "JPEG", quality=90))
            count += 1
        for path in cuts:
            with Image.open(path) as image:
                image.thumbnail((400, 400))
                inside = path.parts[path.parts.index("stamps") :]
                z.writestr(f"pictures/{stamps.PACKAGE}/{'/'.join(inside)}", _bytes(image.convert("RGBA"), "PNG"))
        written = io.BytesIO()
        meshes.write(library, written)
        z.writestr("library.npz", written.getvalue())
        z.write(teacher_file, "teacher.onnx")
    part.replace(out)
    megabytes = round(out.stat().st_size / 1e6, 1)
    return {"photographs": count, "cutouts": len(cuts), "models": len(library.size), "megabytes": megabytes}


def _bytes(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


class Makers:
    """Worker processes that fill the cache: the photographs first, then ever more scenes of both kinds."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.turn = 0
        self.running: set[subprocess.Popen[bytes]] = set()
        self.threads = [threading.Thread(target=self._work, args=(k, workers)) for k in range(workers)]
        for thread in self.threads:
            thread.start()

    def _work(self, number: int, workers: int) -> None:
        store = ["--cache", str(self.folder / "cache"), "--pictures", str(self.folder / "pictures")]
        labels = ["training.depth.pictures", *store, "--teacher", str(self.folder / "teacher.onnx")]
        self._call([*labels, "--part", str(number), "--of", str(workers)])
        while not self.stopped.is_set():
            with self.lock:
                turn, self.turn = self.turn, self.turn + 1
            seeds = ["--first", str(cache.FIRST + (turn // 2) * PART), "--count", str(PART)]
            library = ["--library", str(self.folder / "library.npz")] if turn % 2 == 0 else []
            self._call(["training.depth.render", *store, *seeds, *library])

    def _call(self, words: list[str]) -> None:
        if self.stopped.is_set():
            return
        lower = ["nice", "-n", "10"] if shutil.which("nice") else []  # the process that feeds the GPU goes first
        threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*lower, sys.executable, "-m", *words], env=os.environ | threads, stdout=subprocess.DEVNULL
        )
        self.running.add(process)
        if process.wait() and not self.stopped.is_set():
            print(json.dumps({"a worker failed": words[0], "code": process.returncode}), flush=True)
            self.stopped.wait(5)
        self.running.discard(process)

    def stop(self) -> None:
        """End the workers; what they have written stays."""
        self.stopped.set()
        for process in list(self.running):
            process.terminate()
        for thread in self.threads:
            thread.join()


class Views:
    """The cached views in a device's memory, as they come: pictures, inverse depth, aspects, and kinds' indices."""

    def __init__(self, folder: Path, device: str, room: int) -> None:
        self.folder = folder
        self.rgb = torch.zeros((room, 3, *VIEW), dtype=torch.uint8, device=device)
        self.inverse = torch.zeros((room, *VIEW), dtype=torch.float16, device=device)
        self.aspect: list[float] = []
        self.of_kind: dict[str, list[int]] = {name: [] for name in SHARES}
        self.known: set[Path] = set()

    def refresh(self, seconds: float = math.inf) -> int:
        """Take in views written since, for `seconds` at most; returns how many there are."""
        end = time.monotonic() + seconds
        for name, members in self.of_kind.items():
            for path in sorted((self.folder / name).glob("[!.]*.npz")):
                if path in self.known or len(self.aspect) == len(self.rgb) or time.monotonic() > end:
                    continue
                rgb, inverse, _ = cache.load(path)
                image = Image.fromarray(rgb).resize(VIEW[::-1], Image.Resampling.BILINEAR)
                # nearest: a mean of near and far is a depth that nothing has
                depth = Image.fromarray(inverse).resize(VIEW[::-1], Image.Resampling.NEAREST)
                at = len(self.aspect)
                self.rgb[at] = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self.rgb.device)
                self.inverse[at] = torch.from_numpy(np.array(depth)).to(self.rgb.device)
                self.aspect.append(rgb.shape[1] / rgb.shape[0])
                members.append(at)
                self.known.add(path)
        return len(self.aspect)

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Indices (count,) of random views, the kinds in their shares."""
        share = np.array([SHARES[name] if members else 0.0 for name, members in self.of_kind.items()])
        kinds = rng.choice(len(share), count, p=share / share.sum())
        members = [*self.of_kind.values()]
        return np.array([members[k][int(rng.integers(len(members[k])))] for k in kinds])

    def crops(self, rng: np.random.Generator, chosen: Array, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Crops of the `chosen` views, recoloured on the device: (B, 3, *size) and (B, *size / 2)."""
        shapes = [(1000, round(1000 * self.aspect[k])) for k in chosen]
        device = self.rgb.device
        theta = torch.stack([batches.window(rng, shape, size) for shape in shapes]).to(device)
        which = torch.as_tensor(chosen, device=device)
        fine = F.affine_grid(theta, [len(chosen), 3, *size], align_corners=False)
        half = F.affine_grid(theta, [len(chosen), 1, size[0] // 2, size[1] // 2], align_corners=False)
        x = F.grid_sample(self.rgb[which].float() / 255, fine, padding_mode="border", align_corners=False)
        y = F.grid_sample(self.inverse[which].float()[:, None], half, padding_mode="border", align_corners=False)

        def draw(low: float, high: float, *shape: int) -> Tensor:
            return torch.from_numpy(rng.uniform(low, high, (len(chosen), *(shape or (1, 1, 1))))).float().to(device)

        x = x.clamp(1e-4, 1) ** torch.exp(draw(-0.4, 0.4)) * torch.exp(draw(-0.25, 0.25) + draw(-0.1, 0.1, 3, 1, 1))
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * draw(0.4, 1.4) * (draw(0, 1) > 0.08)
        middle = x.mean((1, 2, 3), keepdim=True)
        x = middle + (x - middle) * torch.exp(draw(-0.35, 0.35))
        x = x + torch.randn_like(x) * draw(0.0, 0.04) * (draw(0, 1) > 0.5)
        return x.clamp(0, 1), y[:, 0]


def run(args: argparse.Namespace) -> dict[str, float]:
    """Make views and train on them until the minutes or steps are spent."""
    began = time.monotonic()
    folder = args.folder or args.out.parent / "gpu"
    with zipfile.ZipFile(args.pack) as z:
        z.extractall(folder)
    makers = Makers(folder, args.workers)
    try:
        step = _train(args, folder, began)
    finally:
        makers.stop()
    return {"steps": step, "minutes": round((time.monotonic() - began) / 60, 2)}


def _train(args: argparse.Namespace, folder: Path, began: float) -> int:
    net = teacher(folder / "teacher.onnx").train().to(args.device).to(memory_format=torch.channels_last)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    steps = optimiser(net, args.rate)
    views = Views(folder / "cache", args.device, args.room)
    while views.refresh() < args.least and time.monotonic() - began < 60 * args.minutes:
        time.sleep(1)
    rng = np.random.default_rng(args.seed)
    step, saved, losses = 0, time.monotonic(), []
    first = time.monotonic()
    while step < args.steps and time.monotonic() - began < 60 * args.minutes:
        left = began + 60 * args.minutes - first
        done = max((time.monotonic() - first) / left, step / args.steps)
        for group in steps.param_groups:
            warm = min(1.0, (step + 1) / WARM_UP)
            group["lr"] = group["base"] * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
        if step % 20 == 0:
            views.refresh(1.0)
        size = batches.SIZES[int(rng.integers(len(batches.SIZES)))]
        x, y = views.crops(rng, views.draw(rng, args.batch), size)
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
        if time.monotonic() - saved > 60:
            export(average, args.out, {"steps": str(step), "seed": str(args.seed)})
            saved = time.monotonic()
            mean = round(float(torch.stack(losses).mean()), 4)
            print(json.dumps({"step": step, "loss": mean, "views": len(views.aspect)}), flush=True)
            losses = []
    export(average, args.out, {"steps": str(step), "seed": str(args.seed)})
    return step


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("pack", help="write what views are made of into one file")
    one.add_argument("--pictures", type=Path, required=True, help="folder of unpacked Debian packages")
    one.add_argument("--models", type=Path, required=True, help="folder with library.npz, packed by training.depth")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--teacher", type=Path, default=TEACHER)
    one.set_defaults(do=lambda a: pack(a.pictures, a.models, a.out, a.teacher))
    two = parts.add_parser("run", help="make views and train on them")
    two.add_argument("--pack", type=Path, required=True)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--folder", type=Path, help="where the pack is unpacked and views are written")
    two.add_argument("--minutes", type=float, default=9)
    two.add_argument("--steps", type=int, default=10**6)
    two.add_argument("--batch", type=int, default=96)
    two.add_argument("--least", type=int, default=400, help="views to wait for before training begins")
    two.add_argument("--room", type=int, default=16_000, help="views that the device's memory has room for")
    two.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    two.add_argument("--rate", type=float, default=2.0, help="factor on the learning rates, for the larger batch")
    two.add_argument("--device", default="cuda")
    two.add_argument("--seed", type=int, default=0)
    two.set_defaults(do=run)
    args = parser.parse_args()
    print(json.dumps(args.do(args)))


if __name__ == "__main__":
    main()
