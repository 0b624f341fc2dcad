"""Render scenes into the cache: `python -m training.depth.render --cache DIR --first 1000 --count 2000`.

Ray-cast scenes without --library, mesh scenes of the packed models with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.depth import cache, pictures, stamps


def main() -> None:
    """Render the held-out scenes, or training scenes from a range of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--first", type=int, default=cache.FIRST)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--held-out", action="store_true", help="the scenes that measure and are never trained on")
    parser.add_argument("--library", type=Path, help="models packed by training.depth.meshes")
    parser.add_argument("--pictures", type=Path, help="folder of unpacked Debian packages: textures and cut-outs")
    args = parser.parse_args()
    seeds = cache.HELD_OUT if args.held_out else range(args.first, args.first + args.count)
    held_out = "_held_out" if args.held_out else ""
    cuts = pictures.textures(args.pictures) if args.pictures and not args.held_out else []
    if args.library:
        folder = args.cache / f"meshes{held_out}"
        found = stamps.find(args.pictures) if args.pictures else []
        made = cache.render_mesh_scenes(folder, seeds, args.library, found, args.held_out, cuts)
    else:
        folder = args.cache / f"scenes{held_out}"
        made = cache.render_scenes(folder, seeds, pictures=cuts)
    print(f"{made} scenes rendered into {folder}")


if __name__ == "__main__":
    main()
