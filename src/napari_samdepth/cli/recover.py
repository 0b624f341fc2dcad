"""The command ``napari-samdepth recover``: labels that were not saved when napari ended, without a window."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_samdepth.cli.files import to_folder

if TYPE_CHECKING:
    from napari_samdepth.core.journal import RecoveredWork
    from napari_samdepth.storage.journal import Recoverable


def add_recover(commands: Any) -> None:
    """Add the command to those of a parser."""
    recover = commands.add_parser("recover", help="write labels that were not saved when napari ended: a TIFF each")
    recover.add_argument(
        "--out", type=to_folder, metavar="FOLDER", help="where the files go; made if it is not there (recovered)"
    )
    recover.add_argument("--list", action="store_true", help="only say what there is")
    recover.add_argument(
        "--discard", action="store_true", help="remove the unsaved work, after writing it where --out is given"
    )
    recover.set_defaults(run=_recover)


def _recover(options: argparse.Namespace) -> int:
    from napari_samdepth.storage.journal import recoverable

    if options.list and (options.discard or options.out):
        raise ValueError("--list only says what there is; give it without --out and --discard.")
    items = recoverable()
    if not items:
        print("There is no unsaved work.")
    for item in items:
        said = _said(item)
        if options.list:
            print(said)
            continue
        if options.out or not options.discard:
            print(f"{_write(item, options.out or Path('recovered'))}: {said}")
        if options.discard:
            item.discard()
            print(f"discarded: {said}")
    if items and not options.list and not options.discard:
        print("The work can still be restored in napari; `napari-samdepth recover --discard` removes it.")
    return 0


def _said(item: Recoverable) -> str:
    """Return one line on unsaved work."""
    notes = [f"{item.labels:,} label{'' if item.labels == 1 else 's'}"]
    if item.image_path:
        gone = "" if Path(item.image_path).exists() else ", which is gone"
        notes.append(f"of {item.image_path}{gone}")
    if item.damaged:
        notes.append("(something could not be read and is missing)")
    return f"{item.name}, {item.time:%d %B %Y, %H:%M}, {' '.join(notes)}"


def _write(item: Recoverable, folder: Path) -> Path:
    """Write the labels, and what is said of them, into new files; return that of the labels."""
    from napari_samdepth.storage.export import write_labels
    from napari_samdepth.storage.prompts import PromptStore, labels_digest

    work = item.work()
    stem = re.sub(r"[^\w.-]+", "-", f"{item.name}-{item.labels_name}-{item.time:%Y%m%d-%H%M%S}").strip("-.")
    path = folder / f"{stem}.tif"
    count = 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.tif"
    write_labels(path, work.labels, overwrite=False)
    if work.header.image.digest and work.prompts:
        # the file, opened beside the image, takes its prompts up again
        PromptStore().keep(work.header.image.digest, labels_digest(work.labels), list(work.prompts.values()))
    if work.features:
        _write_features(path.with_suffix(".csv"), work)
    return path


def _write_features(path: Path, work: RecoveredWork) -> None:
    import pandas as pd

    from napari_samdepth.storage.export import write_table

    rows = [{"label": label, **said} for label, said in sorted(work.features.items())]
    write_table(path, pd.DataFrame(rows).set_index("label"))
