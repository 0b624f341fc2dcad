"""Render scenes into the cache: `python -m training.depth.render --cache DIR --first 1000 --count 2000`."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.depth import cache


def main() -> None:
    """Render the held-out scenes, or training scenes from a range of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--first", type=int, default=cache.FIRST)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--held-out", action="store_true", help="the scenes that measure and are never trained on")
    args = parser.parse_args()
    seeds = cache.HELD_OUT if args.held_out else range(args.first, args.first + args.count)
    name = "held_out" if args.held_out else "scenes"
    print(f"{cache.render_scenes(args.cache / name, seeds)} scenes rendered into {args.cache / name}")


if __name__ == "__main__":
    main()
