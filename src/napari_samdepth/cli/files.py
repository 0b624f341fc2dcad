"""Files that the commands read and write, and what is refused of them before anything is computed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_samdepth.cli.options import natural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ = {"image": "IMAGE", "labels": "LABELS", "depth": "DEPTH", "model": "--model", "detector": "--detector"}
"""Options that may name a file to read, and what the user knows them by."""
WRITTEN = {"out": "--out", "table": "--table"}
"""Options that name a file to write. A folder to write into, as of the demo, is looked at by its command."""


def add_image(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``IMAGE`` and the option ``--page``."""
    parser.add_argument("image", metavar="IMAGE", help="a TIFF, PNG, JPEG, WEBP or .npy file")
    parser.add_argument(
        "--page", type=natural, metavar="NUMBER",
        help="which page, frame, slice or channel of a file with several, counted from 0 (0)",
    )  # fmt: skip


def add_out(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--out`` and ``--overwrite`` to a command that writes a TIFF; `what` says what is in it."""
    parser.add_argument("--out", type=to_tiff, required=True, metavar="FILE.tif", help=what)
    add_overwrite(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--overwrite``."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")


def to_file(text: str) -> Path:
    """Return the path of a file to write; refuse a folder, or one in no folder, before anything is computed."""
    path = Path(text)
    if _is_folder(path):
        raise argparse.ArgumentTypeError(f"{text} is a folder; give the name of a file in it")
    _in_a_folder(path)
    return path


def to_folder(text: str) -> Path:
    """Return the path of a folder to write into, which may be new; refuse a file, or one in no folder."""
    path = Path(text)
    if not _is_folder(path) and path.exists():
        raise argparse.ArgumentTypeError(f"{text} is a file; give the name of a folder")
    _in_a_folder(path)
    return path


def to_tiff(text: str) -> Path:
    """Return the path of a TIFF to write, or of a pipe or device that takes one; refuse names of other formats."""
    path = to_file(text)
    special = path.exists() and not path.is_file()
    if path.suffix.lower() not in (".tif", ".tiff") and not special and not text.startswith("/dev/"):
        raise argparse.ArgumentTypeError(f"a TIFF is written, so its name must end in .tif; got {text!r}")
    return path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {error.strerror}; give another name") from error


def _in_a_folder(path: Path) -> None:
    """Refuse a path whose folder is not there: a mistyped one would be made, and the result be looked for in vain."""
    folder = path.parent if not path.is_symlink() else Path(os.path.realpath(path)).parent
    if not _is_folder(folder):
        raise argparse.ArgumentTypeError(f"there is no folder {folder}; make it, or check its name")
    if not path.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"nothing can be written to the folder {folder}; choose another")


def check_files(options: argparse.Namespace) -> None:
    """Refuse to write over what is read, two files to one place, or over a file that is there already.

    Raises
    ------
    ValueError
        If what the options name would destroy a file.
    """
    from napari_samdepth.storage.atomic import same_file

    given = vars(options)
    writes = {said: path for name, said in WRITTEN.items() if isinstance(path := given.get(name), Path)}
    reads = {said: path for name, said in READ.items() if (path := given.get(name)) and os.path.isfile(path)}
    for option, path in writes.items():
        for said, other in reads.items():
            if same_file(path, other):
                raise ValueError(f"{option} {path} is the file given as {said}; give the result another name.")
        for said, other in writes.items():
            if said != option and same_file(path, other) and os.path.realpath(path) != os.devnull:
                raise ValueError(f"{option} and {said} are one file, {path}; give them two names.")
    refuse_existing((path for path in writes.values() if not path.is_dir()), given.get("overwrite", False))


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write to files that are there already, unless `overwrite`; raises ValueError."""
    from napari_samdepth.storage.atomic import check_output

    for path in paths:
        try:
            check_output(path, overwrite=overwrite)
        except FileExistsError:
            raise ValueError(f"{path} exists already; give another name, or --overwrite to replace it.") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}; give another name.") from error


def read_rgb(options: argparse.Namespace) -> NDArray[np.uint8]:
    """Return the picture of the options of `add_image`, uint8 (H, W, 3). Raises ValueError."""
    from napari_samdepth.core.plane import to_rgb
    from napari_samdepth.storage.images import read_image

    image = read_image(options.image, options.page, tell)
    try:
        return to_rgb(image)
    except ValueError as error:
        raise ValueError(f"{options.image} cannot be used: {error}") from error


def tell(text: str) -> None:
    """Say something that is no error on stderr."""
    print(f"napari-samdepth: {text}", file=sys.stderr)


def say(options: argparse.Namespace, text: str) -> None:
    """Print what was done, on stderr where a result goes to stdout."""
    from napari_samdepth.storage.atomic import is_standard_output

    paths = (vars(options).get(name) for name in WRITTEN)
    print(text, file=sys.stderr if any(path and is_standard_output(path) for path in paths) else sys.stdout)
