"""What the commands share: options that choose a model, and numbers as they may be typed."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from napari_samdepth.core.no_reading import NoReading
    from napari_samdepth.models.protocols import Segmenter

POINT = "ROW,COL[:0|1]"
BOX = "ROW_MIN,COL_MIN,ROW_MAX,COL_MAX"
SCRIBBLE = "ROW,COL ROW,COL ...[:0|1]"
LASSO = "ROW,COL ROW,COL ROW,COL ..."
SEGMENTERS = "a name of `models list`, a SAM checkpoint, or a folder with SAM 2"


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses in one sentence, without the usage lines."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}; see {self.prog} --help.\n")


def add_model(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options that choose a model, where it runs and how exactly; `what` says what may be given."""
    parser.add_argument("--model", default="builtin", metavar="NAME|PATH", help=f"{what} (builtin)")
    add_device(parser)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32",
        help="bfloat16 is faster and coarser, and only used where the processor gains by it (float32)",
    )  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--device``."""
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda, cuda:NUMBER or mps; the fastest there is if not given"
    )


def segmenter_of(options: argparse.Namespace) -> Segmenter:
    """Load the segmenter that the options of `add_model` choose; nothing is downloaded. Raises ModelError."""
    from napari_samdepth.models.loading import load_segmenter

    return load_segmenter(options.model, options.device, progress(), download=False, precision=options.precision)


def progress() -> Callable[[float, str], None]:
    """Return a report that keeps one line of the terminal up to date, and says nothing where there is none."""
    if not sys.stderr.isatty():
        return lambda done, what: None

    def show(done: float, what: str) -> None:
        print(f"\r{what[:60]:<60} {100 * done:3.0f} %", end="\n" if done >= 1 else "", file=sys.stderr, flush=True)

    return show


def no_reading(text: str) -> NoReading:
    """Return which value of a depth map means no reading: auto, none or a number."""
    from napari_samdepth.core.no_reading import checked_no_reading

    try:
        return checked_no_reading(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _numbers(text: str, wanted: int, shape: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != wanted or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected {shape} in pixels, got {text!r}")
    return numbers


def point(text: str) -> tuple[float, float, int]:
    """Return the (row, col, sign) of a click in pixels; sign is 0 for background."""
    place, _, sign = text.partition(":")
    if sign not in ("", "0", "1"):
        raise argparse.ArgumentTypeError(f"expected {POINT} in pixels, got {text!r}")
    row, col = _numbers(place, 2, POINT)
    return row, col, int(sign or 1)


def box(text: str) -> list[float]:
    """Return the (row_min, col_min, row_max, col_max) of a box in pixels."""
    row_min, col_min, row_max, col_max = numbers = _numbers(text, 4, BOX)
    if row_min >= row_max or col_min >= col_max:
        raise argparse.ArgumentTypeError(f"ROW_MIN must be below ROW_MAX, and COL_MIN below COL_MAX, got {text!r}")
    return numbers


def scribble(text: str) -> tuple[list[tuple[float, float]], int]:
    """Return the (row, col) along a path in pixels, and its sign, 0 for background."""
    path, _, sign = text.partition(":")
    if sign not in ("", "0", "1") or not path.split():
        raise argparse.ArgumentTypeError(f"expected '{SCRIBBLE}' in pixels, got {text!r}")
    return _path(path, SCRIBBLE), int(sign or 1)


def lasso(text: str) -> list[tuple[float, float]]:
    """Return the corners (row, col) of a polygon in pixels, three or more."""
    corners = _path(text, LASSO)
    if len(corners) < 3:
        raise argparse.ArgumentTypeError(f"expected at least three corners, '{LASSO}' in pixels, got {text!r}")
    return corners


def _path(text: str, shape: str) -> list[tuple[float, float]]:
    pairs = [_numbers(pair, 2, f"'{shape}'") for pair in text.split()]
    return [(row, col) for row, col in pairs]


def natural(text: str) -> int:
    """Return a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return number


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    number = natural(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1 on, got '0'")
    return number
