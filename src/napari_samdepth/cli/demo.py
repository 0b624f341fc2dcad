"""The command ``napari-samdepth demo``: everything on two sample pictures, then a look at the result."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from napari_samdepth.cli.files import add_overwrite, refuse_existing, to_folder
from napari_samdepth.cli.options import add_device

if TYPE_CHECKING:
    from napari_samdepth.demo import Shown


def add_demo(commands: Any) -> None:
    """Add the command to those of a parser."""
    demo = commands.add_parser("demo", help="run everything on two sample pictures with the built-in models")
    demo.add_argument(
        "--out", type=to_folder, default="demo-output", metavar="FOLDER",
        help="where the files go; made if it is not there (demo-output)",
    )  # fmt: skip
    demo.add_argument("--no-show", action="store_true", help="do not open napari afterwards")
    add_overwrite(demo)
    add_device(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from napari_samdepth.demo import files, run
    from napari_samdepth.models.loading import load_depth_estimator, load_segmenter

    refuse_existing(files(options.out), options.overwrite)
    segmenter = load_segmenter("builtin", options.device)
    estimator = load_depth_estimator("builtin", options.device)
    results = run(segmenter, estimator, options.out, print, overwrite=options.overwrite)
    print(f"\nAll files are in {options.out.resolve()}")
    if not options.no_show and _has_display():
        _show(results)
    return 0


def _has_display() -> bool:
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(named) or not sys.platform.startswith("linux")


def _show(results: list[Shown]) -> None:
    """Open napari with the layers of every scene; the first scene is shown."""
    import napari

    from napari_samdepth.measure.readout import for_features

    viewer = napari.Viewer(title="napari-samdepth demo")
    for shown in results[1:] + results[:1]:
        name, scale = shown.scene.name, {"visible": shown is results[0]}
        viewer.add_image(shown.scene.rgb, name=name, **scale)
        viewer.add_image(shown.depth.values, name=f"{name} depth", colormap="inferno", visible=False)
        viewer.add_labels(shown.labels, name=f"{name} masks", features=for_features(shown.table), **scale)
    napari.run()
