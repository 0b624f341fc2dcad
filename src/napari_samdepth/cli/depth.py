"""The commands ``napari-samdepth depth`` and ``napari-samdepth readout``: a depth map, and what it says per label."""

from __future__ import annotations

import argparse
from typing import Any

from napari_samdepth.cli.files import add_image, add_out, add_overwrite, read_rgb, say, tell, to_file
from napari_samdepth.cli.options import add_model, no_reading, progress

KINDS = ("inverse", "distance", "height", "index")


def add_depth(commands: Any) -> None:
    """Add the command ``depth`` to those of a parser."""
    depth = commands.add_parser("depth", help="estimate depth: a float32 TIFF")
    add_image(depth)
    add_out(depth, "the depth TIFF to write")
    add_model(depth, "a name of `models list`, or a folder in transformers' format")
    depth.set_defaults(run=_depth)


def add_readout(commands: Any) -> None:
    """Add the command ``readout`` to those of a parser."""
    readout = commands.add_parser("readout", help="depth per label: a CSV table")
    readout.add_argument("labels", metavar="LABELS", help="an image of integers, 0 for background")
    readout.add_argument("depth", metavar="DEPTH", help="an image of the same size, one value per pixel")
    readout.add_argument(
        "--kind", choices=KINDS,
        help="what the depth's values mean, where the file does not say; larger is nearer (inverse, height) or farther "
        "(distance, index)",
    )  # fmt: skip
    readout.add_argument("--unit", metavar="UNIT", help="the unit of the depth's values, such as m or nm")
    readout.add_argument(
        "--no-reading", type=no_reading, metavar="VALUE",
        help="the value that the depth has where nothing was measured, such as 0 or -9999; those pixels are left out. "
        "auto finds it, none takes every number for depth (auto)",
    )  # fmt: skip
    readout.add_argument("--out", type=to_file, metavar="FILE.csv", help="the CSV to write (printed if not given)")
    add_overwrite(readout)
    readout.set_defaults(run=_readout)


def _depth(options: argparse.Namespace) -> int:
    from napari_samdepth.models.loading import load_depth_estimator
    from napari_samdepth.storage.export import write_depth

    rgb = read_rgb(options)
    estimator = load_depth_estimator(
        options.model, options.device, progress(), download=False, precision=options.precision
    )
    depth = estimator.estimate(rgb)
    write_depth(options.out, depth, overwrite=options.overwrite)
    about = f"{depth.kind} depth, {depth.unit or 'no unit'} ({estimator.name} on {estimator.device})"
    say(options, f"{options.out}: {about}")
    return 0


def _readout(options: argparse.Namespace) -> int:
    from napari_samdepth.measure.readout import depth_readout
    from napari_samdepth.storage.export import read_depth, write_table
    from napari_samdepth.storage.images import read_labels
    from napari_samdepth.storage.tables import to_csv

    labels = read_labels(options.labels, tell=tell)
    depth = read_depth(options.depth, options.kind, options.unit, options.no_reading, tell)
    if labels.shape != depth.values.shape:
        raise ValueError(
            f"{options.labels} has {labels.shape[0]} rows and {labels.shape[1]} columns, {options.depth} has "
            f"{depth.values.shape[0]} and {depth.values.shape[1]}; take the depth of the same image."
        )
    table = depth_readout(labels, depth)
    if options.out is None:
        print(to_csv(table), end="")
    else:
        write_table(options.out, table, overwrite=options.overwrite)
        say(options, f"{options.out}: {len(table)} labels")
    return 0
