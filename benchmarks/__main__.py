"""One table of ratios: every figure against a peer, side by side in one run.

    python -m benchmarks [row ...] [--runs 5] [--points 16] [--device cpu] [--json FILE]

Without names all rows run (half an hour on two cores). Weights are random or planted: they cost what trained ones cost.
Peer and ours take turns in one process after one warm-up of each; the ratio is that of the medians, by the clock and,
since a busy machine falsifies that, in processor time. Memory is measured with one variant a process. Exits with 1
where outputs differ or a floor is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import everything, microsam, networks, readout, reopen
from benchmarks.table import HEADER, Options, Row, Skipped, show
from napari_samdepth.models.runtime.device import bfloat16_gains, torch_module

MODULES = (networks, everything, readout, reopen, microsam)
ROWS: dict[str, Callable[[Options], Any]] = {name: row for module in MODULES for name, row in module.ROWS.items()}
VARIANTS = networks.VARIANTS | everything.VARIANTS


def main() -> int:
    """Print the table; return 1 where a row did not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", default=list(ROWS), metavar="row", help=", ".join(ROWS))
    parser.add_argument("--runs", type=int, default=5, help="how often each side runs after its warm-up")
    parser.add_argument("--points", type=int, default=16, help="clicks along a side for whole-image masks")
    parser.add_argument("--side", type=int, default=2048, help="side of the picture for whole-image masks")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the rows that run networks")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = sorted(set(asked.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {unknown[0]}; choose from {', '.join(ROWS)}")
    with tempfile.TemporaryDirectory() as folder:
        options = Options(Path(folder), asked.runs, asked.device, asked.points, asked.side)
        if asked.variant:
            name, _, variant = asked.variant.partition(":")
            print(VARIANTS[name](options, variant))
            return 0
        rows = table(asked.rows, options)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) | {"passed": row.passed} for row in rows], indent=1), "utf-8")
    return int(not all(row.passed for row in rows))


def table(names: list[str], options: Options) -> list[Row]:
    """Measure and print the rows."""
    torch = torch_module()
    gains = bfloat16_gains(options.device)
    print(
        f"{options.device}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {options.runs} runs each"
    )
    print(HEADER, flush=True)
    rows = []
    for name in names:
        if name.endswith("bf16") and not gains:
            print(f"{name:<20}left out: bfloat16 does not gain on this processor")
            continue
        try:
            row = ROWS[name](options)
        except Skipped as reason:
            print(f"{name:<20}left out: {reason}")
            continue
        rows.append(row)
        print(show(row), flush=True)
        gc.collect()
    return rows


if __name__ == "__main__":
    sys.exit(main())
