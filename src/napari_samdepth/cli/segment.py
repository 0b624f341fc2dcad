"""The commands that segment: ``segment`` one object, ``everything`` without prompts, ``words`` what text names."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_samdepth.cli.files import add_image, add_out, read_rgb, say, to_file
from napari_samdepth.cli.options import (
    BOX,
    LASSO,
    POINT,
    SCRIBBLE,
    SEGMENTERS,
    add_model,
    box,
    count,
    lasso,
    natural,
    point,
    progress,
    scribble,
    segmenter_of,
    share,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


SEARCHED = ("points_per_side", "crop_n_layers", "pred_iou_thresh", "stability_score_thresh")
"""Options that stand for what a search with the model starts from."""


def add_segment(commands: Any) -> None:
    """Add the command ``segment`` to those of a parser."""
    segment = commands.add_parser("segment", help="one object from points, a box, scribbles or a lasso: a labels TIFF")
    add_image(segment)
    segment.add_argument(
        "--point", action="append", default=[], type=point, metavar=POINT,
        help="a click in pixels, from 0,0 at the top left; :0 for background (may be given again)",
    )  # fmt: skip
    segment.add_argument("--box", type=box, metavar=BOX, help="a box in pixels around the object")
    segment.add_argument(
        "--scribble", action="append", default=[], type=scribble, metavar=f"'{SCRIBBLE}'",
        help="a path drawn over the object, in pixels; :0 for one over the background (may be given again)",
    )  # fmt: skip
    segment.add_argument(
        "--lasso", type=lasso, metavar=f"'{LASSO}'", help="a polygon drawn around the object, in pixels"
    )
    add_out(segment, "the labels TIFF to write")
    add_model(segment, SEGMENTERS)
    segment.set_defaults(run=_segment)


def add_everything(commands: Any) -> None:
    """Add the command ``everything`` to those of a parser."""
    everything = commands.add_parser("everything", help="all masks of an image: a labels TIFF")
    add_image(everything)
    for name, kind, unit, text in (
        ("--points-per-side", count, "COUNT", "clicks along each side of the grid (32; built-in 9)"),
        ("--crop-n-layers", natural, "COUNT", "layers of crops searched as well (0; built-in 2)"),
        ("--pred-iou-thresh", share, "SHARE", "least predicted IoU, 0 to 1 (0.88; built-in 0.7)"),
        ("--stability-score-thresh", share, "SHARE", "least stability, 0 to 1 (0.95; built-in 0.5)"),
    ):
        everything.add_argument(name, type=kind, metavar=unit, help=text)
    everything.add_argument("--min-area", type=natural, default=0, metavar="PIXELS", help="least area of a mask (0)")
    _add_results(everything)
    everything.set_defaults(run=_everything)


def add_words(commands: Any) -> None:
    """Add the command ``words`` to those of a parser."""
    words = commands.add_parser("words", help="what words name in an image: a labels TIFF")
    words.add_argument("text", metavar="TEXT", help="names with a full stop after each: 'nucleus. coin.'")
    add_image(words)
    words.add_argument(
        "--detector", default="grounding-dino-tiny", metavar="NAME|FOLDER",
        help="who finds boxes: a name of `models list`, or a folder in transformers' format (grounding-dino-tiny)",
    )  # fmt: skip
    words.add_argument(
        "--threshold", type=share, default=0.25, metavar="SHARE", help="least score of a box, 0 to 1 (0.25)"
    )
    _add_results(words)
    words.set_defaults(run=_words)


def _add_results(command: argparse.ArgumentParser) -> None:
    add_out(command, "the labels TIFF to write")
    command.add_argument(
        "--table", type=to_file, metavar="FILE.csv", help="a CSV to write with what is known of each label"
    )
    add_model(command, SEGMENTERS)


def _inside(options: argparse.Namespace, shape: tuple[int, ...]) -> None:
    """Refuse points and scribbles outside of the image, and a box or a lasso that does not touch it."""
    rows, cols = shape[:2]
    beyond = f"lies outside of the image of {rows} rows and {cols} columns, which are counted from 0."
    clicks = [("--point", row, col) for row, col, _ in options.point]
    drawn = [("--scribble", row, col) for path, _ in options.scribble for row, col in path]
    for name, row, col in clicks + drawn:
        if not (-0.5 <= row < rows - 0.5 and -0.5 <= col < cols - 0.5):
            raise ValueError(f"{name} {row:g},{col:g} {beyond}")
    if options.lasso is not None:
        lows, highs = (tuple(pick(side) for side in zip(*options.lasso, strict=True)) for pick in (min, max))
        if lows[0] > rows - 0.5 or lows[1] > cols - 0.5 or highs[0] < -0.5 or highs[1] < -0.5:
            raise ValueError(f"--lasso {beyond}")
    if options.box is not None:
        row_min, col_min, row_max, col_max = options.box
        if row_min >= rows or col_min >= cols or row_max <= 0 or col_max <= 0:
            raise ValueError(f"--box {','.join(f'{number:g}' for number in options.box)} {beyond}")


def _segment(options: argparse.Namespace) -> int:
    import numpy as np

    from napari_samdepth.core.labelling import write_mask
    from napari_samdepth.core.prompts import Prompts
    from napari_samdepth.storage.export import write_labels

    if not options.point and not options.scribble and options.box is None and options.lasso is None:
        raise ValueError(f"Give at least one --point {POINT}, a --box {BOX}, a --scribble or a --lasso.")
    prompts = Prompts(
        [(row, col) for row, col, _ in options.point],
        [sign for *_, sign in options.point],
        options.box,
        scribbles=[path for path, _ in options.scribble],
        scribble_labels=[sign for _, sign in options.scribble],
        lasso=options.lasso,
    )
    rgb = read_rgb(options)
    _inside(options, rgb.shape)
    segmenter = segmenter_of(options)
    answer = segmenter.decode(segmenter.encode(rgb), prompts)
    labels = np.zeros(rgb.shape[:2], dtype=np.uint8)
    change = write_mask(labels, answer.patch(), 1)
    if change is None:
        raise ValueError("The model finds no object there; try another prompt.")
    change.apply(labels)
    write_labels(options.out, labels, overwrite=options.overwrite)
    score = min(float(answer.scores[answer.best]), 1.0)
    say(options, f"{options.out}: {change.count} px, score {score:.2f} ({segmenter.name} on {segmenter.device})")
    return 0


def _everything(options: argparse.Namespace) -> int:
    import pandas as pd

    from napari_samdepth.models.auto_masks.everything import segment_everything, usual_search

    rgb = read_rgb(options)
    segmenter = segmenter_of(options)
    said = {name: getattr(options, name) for name in SEARCHED if getattr(options, name) is not None}
    search = replace(usual_search(segmenter.name), **said)
    picture = rgb if search.crop_n_layers else None
    found = segment_everything(segmenter, segmenter.encode(rgb), **vars(search), rgb=picture, report=progress())
    found = found.filtered(0.0, 0.0, 1.0, 1.0, min_area=options.min_area)
    scores = found.scores[found.by_area]
    told = {"parent": found.parents(), "predicted_iou": scores[:, 0], "stability_score": scores[:, 1]}
    return _write(options, found.labels(), pd.DataFrame(told))


def _words(options: argparse.Namespace) -> int:
    import numpy as np
    import pandas as pd

    from napari_samdepth.core.detections import painted
    from napari_samdepth.models.loading import load_text_detector
    from napari_samdepth.models.text.grounding_dino import find_text, segment_boxes

    rgb = read_rgb(options)
    detector = load_text_detector(options.detector, options.device, progress(), download=False)
    found = find_text(detector, rgb, options.text, options.threshold, progress())
    if not len(found):
        raise ValueError(f"Nothing was found above a score of {options.threshold:g}; lower --threshold or say it anew.")
    if found.patches is not None:
        patches, iou = list(found.patches), [float("nan")] * len(found)
    else:
        segmenter = segmenter_of(options)
        masks = segment_boxes(segmenter, segmenter.encode(rgb), found.boxes - 0.5, progress())
        patches, iou = [patch for patch, _ in masks], [score for _, score in masks]
    labels = painted(patches, found.image_shape)
    told = pd.DataFrame({"name": found.names, "word_score": found.scores, "predicted_iou": iou})
    return _write(options, labels, told[np.isin(np.arange(1, len(told) + 1), labels)])


def _write(options: argparse.Namespace, labels: NDArray[np.int32], table: pd.DataFrame) -> int:
    """Write labels and table; row i of the table tells of label i + 1."""
    from napari_samdepth.storage.export import write_labels, write_table

    write_labels(options.out, labels, overwrite=options.overwrite)
    if options.table is not None:
        table.index = table.index + 1
        table.index.name = "label"
        write_table(options.table, table, overwrite=options.overwrite)
    say(options, f"{options.out}: {len(table)} masks")
    return 0
