"""The command ``napari-samdepth``: the same work without a window.

Whatever goes wrong is said in one sentence on stderr with exit code 2; files are whole or not written at all.
Libraries are imported by the commands that need them, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_samdepth.cli.cache import add_cache
from napari_samdepth.cli.many import add_many
from napari_samdepth.cli.models import add_models
from napari_samdepth.cli.options import (
    BOX,
    POINT,
    SEGMENTERS,
    Parser,
    add_device,
    add_model,
    add_out,
    box,
    point,
    progress,
    segmenter_of,
    to_file,
    to_folder,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_samdepth.demo import Shown

KINDS = ("inverse", "distance", "height", "index")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 bad input or a failure, 130 interrupted.

    Parameters
    ----------
    arguments
        Words after the command's name; those of the process if None.
    """
    # must be set before torch is loaded, or one busy neighbour makes everything several times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        print("napari-samdepth: interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _expected(error):
            raise
        print(f"napari-samdepth: {_sentence(error)}", file=sys.stderr)
        return 2
    return code


def _expected(error: Exception) -> bool:
    """Whether an error tells the user what is wrong with what they gave, rather than of a fault in this program."""
    from napari_samdepth.core.errors import ModelError

    return isinstance(error, ModelError | ValueError | OSError | MemoryError)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else " the result"
        return f"cannot read or write{where}: {error.strerror}."
    if isinstance(error, MemoryError):
        wanted = re.search(r"Unable to allocate (\d+(?:\.\d+)?)\.? (\w+)", str(error))
        size = f" for {wanted[1]} {wanted[2]}" if wanted else ""
        return f"there is not enough memory{size}; give a smaller image or ask for less."
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="napari-samdepth", description="Segment with clicks, estimate depth, read it per label.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_demo(commands)
    _add_segment(commands)
    add_many(commands, _picture)
    _add_depth(commands)
    _add_readout(commands)
    add_models(commands)
    add_cache(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from napari_samdepth import __version__

        print(f"napari-samdepth {__version__}")
        parser.exit()


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="run everything on two sample pictures with the built-in models")
    demo.add_argument(
        "--out", type=to_folder, default="demo-output", metavar="FOLDER",
        help="where the files go; made if it is not there (demo-output)",
    )  # fmt: skip
    demo.add_argument("--no-show", action="store_true", help="do not open napari afterwards")
    add_device(demo)
    demo.set_defaults(run=_demo)


def _add_segment(commands: Any) -> None:
    segment = commands.add_parser("segment", help="one object from points and a box: a labels TIFF")
    segment.add_argument("image", metavar="IMAGE", help="a TIFF, PNG, JPEG or .npy file")
    segment.add_argument(
        "--point", action="append", default=[], type=point, metavar=POINT,
        help="a click in pixels, from 0,0 at the top left; :0 for background (may be given again)",
    )  # fmt: skip
    segment.add_argument("--box", type=box, metavar=BOX, help="a box in pixels around the object")
    add_out(segment, "the labels TIFF to write")
    add_model(segment, SEGMENTERS)
    segment.set_defaults(run=_segment)


def _add_depth(commands: Any) -> None:
    depth = commands.add_parser("depth", help="estimate depth: a float32 TIFF")
    depth.add_argument("image", metavar="IMAGE", help="a TIFF, PNG, JPEG or .npy file")
    add_out(depth, "the depth TIFF to write")
    add_model(depth, "a name of `models list`, or a folder in transformers' format")
    depth.set_defaults(run=_depth)


def _add_readout(commands: Any) -> None:
    readout = commands.add_parser("readout", help="depth per label: a CSV table")
    readout.add_argument("labels", metavar="LABELS", help="an image of integers, 0 for background")
    readout.add_argument("depth", metavar="DEPTH", help="an image of the same size, one value per pixel")
    readout.add_argument(
        "--kind", choices=KINDS,
        help="what the depth's values mean, where the file does not say; larger is nearer (inverse, height) or farther "
        "(distance, index)",
    )  # fmt: skip
    readout.add_argument("--unit", metavar="UNIT", help="the unit of the depth's values, such as m or nm")
    readout.add_argument("--out", type=to_file, metavar="FILE.csv", help="the CSV to write (printed if not given)")
    readout.set_defaults(run=_readout)


def _picture(path: str) -> NDArray[np.uint8]:
    from napari_samdepth.core.plane import to_rgb
    from napari_samdepth.storage.export import read_image

    image = read_image(path)
    try:
        return to_rgb(image)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def _inside(options: argparse.Namespace, shape: tuple[int, ...]) -> None:
    """Refuse points outside of the image, and a box that does not touch it."""
    rows, cols = shape[:2]
    beyond = f"lies outside of the image of {rows} rows and {cols} columns, which are counted from 0."
    for row, col, _ in options.point:
        if not (-0.5 <= row < rows - 0.5 and -0.5 <= col < cols - 0.5):
            raise ValueError(f"--point {row:g},{col:g} {beyond}")
    if options.box is not None:
        row_min, col_min, row_max, col_max = options.box
        if row_min >= rows or col_min >= cols or row_max <= 0 or col_max <= 0:
            raise ValueError(f"--box {','.join(f'{number:g}' for number in options.box)} {beyond}")


def _segment(options: argparse.Namespace) -> int:
    import numpy as np

    from napari_samdepth.core.labelling import write_mask
    from napari_samdepth.core.prompts import Prompts
    from napari_samdepth.storage.export import write_labels

    if not options.point and options.box is None:
        raise ValueError(f"Give at least one --point {POINT} or a --box {BOX}.")
    points = [(row, col) for row, col, _ in options.point]
    prompts = Prompts(points, [sign for *_, sign in options.point], options.box)
    rgb = _picture(options.image)
    _inside(options, rgb.shape)
    segmenter = segmenter_of(options)
    answer = segmenter.decode(segmenter.encode(rgb), prompts)
    labels = np.zeros(rgb.shape[:2], dtype=np.uint8)
    change = write_mask(labels, answer.patch(), 1)
    if change is None:
        raise ValueError("The model finds no object there; try another --point or --box.")
    change.apply(labels)
    write_labels(options.out, labels)
    print(
        f"{options.out}: {change.count} px, score {min(float(answer.scores[answer.best]), 1.0):.2f} "
        f"({segmenter.name} on {segmenter.device})"
    )
    return 0


def _depth(options: argparse.Namespace) -> int:
    from napari_samdepth.models.loading import load_depth_estimator
    from napari_samdepth.storage.export import write_depth

    rgb = _picture(options.image)
    estimator = load_depth_estimator(
        options.model, options.device, progress(), download=False, precision=options.precision
    )
    depth = estimator.estimate(rgb)
    write_depth(options.out, depth)
    print(f"{options.out}: {depth.kind} depth, {depth.unit or 'no unit'} ({estimator.name} on {estimator.device})")
    return 0


def _readout(options: argparse.Namespace) -> int:
    import numpy as np

    from napari_samdepth.measure.readout import depth_readout
    from napari_samdepth.storage.export import read_depth, read_image, write_table

    labels = np.squeeze(read_image(options.labels))
    if labels.dtype.kind not in "biu" or labels.ndim != 2:
        raise ValueError(
            f"{options.labels} cannot be used as labels: they are integers in rows and columns, got {labels.dtype} of "
            f"shape {labels.shape}."
        )
    depth = read_depth(options.depth, options.kind, options.unit)
    if labels.shape != depth.values.shape:
        raise ValueError(
            f"{options.labels} has {labels.shape[0]} rows and {labels.shape[1]} columns, {options.depth} has "
            f"{depth.values.shape[0]} and {depth.values.shape[1]}; take the depth of the same image."
        )
    table = depth_readout(labels, depth)
    if options.out is None:
        print(table.to_csv(float_format="%.7g"), end="")
    else:
        write_table(options.out, table)
        print(f"{options.out}: {len(table)} labels")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from napari_samdepth.demo import run
    from napari_samdepth.models.loading import load_depth_estimator, load_segmenter

    segmenter = load_segmenter("builtin", options.device)
    estimator = load_depth_estimator("builtin", options.device)
    results = run(segmenter, estimator, options.out, print)
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
