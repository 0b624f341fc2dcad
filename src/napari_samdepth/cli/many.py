"""The commands ``napari-samdepth everything`` and ``napari-samdepth words``: many masks of one image at once."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_samdepth.cli.options import (
    SEGMENTERS,
    add_model,
    add_out,
    count,
    natural,
    progress,
    segmenter_of,
    share,
    to_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Picture = Callable[[str], NDArray[np.uint8]]


SEARCHED = ("points_per_side", "crop_n_layers", "pred_iou_thresh", "stability_score_thresh")
"""Options that stand for what a search with the model starts from."""


def add_many(commands: Any, picture: Picture) -> None:
    """Add both commands to those of a parser; `picture` reads an image file as uint8 (H, W, 3)."""
    everything = commands.add_parser("everything", help="all masks of an image: a labels TIFF")
    for name, kind, unit, text in (
        ("--points-per-side", count, "COUNT", "clicks along each side of the grid (32; built-in 9)"),
        ("--crop-n-layers", natural, "COUNT", "layers of crops searched as well (0; built-in 2)"),
        ("--pred-iou-thresh", share, "SHARE", "least predicted IoU, 0 to 1 (0.88; built-in 0.7)"),
        ("--stability-score-thresh", share, "SHARE", "least stability, 0 to 1 (0.95; built-in 0.5)"),
    ):
        everything.add_argument(name, type=kind, metavar=unit, help=text)
    everything.add_argument("--min-area", type=natural, default=0, metavar="PIXELS", help="least area of a mask (0)")
    everything.set_defaults(run=_everything, picture=picture)
    words = commands.add_parser("words", help="what words name in an image: a labels TIFF")
    words.add_argument("text", metavar="TEXT", help="names with a full stop after each: 'nucleus. coin.'")
    words.add_argument(
        "--detector", default="grounding-dino-tiny", metavar="NAME|FOLDER",
        help="who finds boxes: a name of `models list`, or a folder in transformers' format (grounding-dino-tiny)",
    )  # fmt: skip
    words.add_argument(
        "--threshold", type=share, default=0.25, metavar="SHARE", help="least score of a box, 0 to 1 (0.25)"
    )
    words.set_defaults(run=_words, picture=picture)
    for command in (everything, words):
        command.add_argument("image", metavar="IMAGE", help="a TIFF, PNG, JPEG or .npy file")
        add_out(command, "the labels TIFF to write")
        command.add_argument(
            "--table", type=to_file, metavar="FILE.csv", help="a CSV to write with what is known of each label"
        )
        add_model(command, SEGMENTERS)


def _everything(options: argparse.Namespace) -> int:
    import pandas as pd

    from napari_samdepth.models.auto_masks.everything import segment_everything, usual_search

    rgb = options.picture(options.image)
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

    rgb = options.picture(options.image)
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

    write_labels(options.out, labels)
    if options.table is not None:
        table.index = table.index + 1
        table.index.name = "label"
        write_table(options.table, table)
    print(f"{options.out}: {len(table)} masks")
    return 0
