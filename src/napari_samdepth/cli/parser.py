"""The words that the command takes: all subcommands with their options."""

from __future__ import annotations

import argparse
from typing import Any

from napari_samdepth.cli.cache import add_cache
from napari_samdepth.cli.demo import add_demo
from napari_samdepth.cli.depth import add_depth, add_readout
from napari_samdepth.cli.models import add_models
from napari_samdepth.cli.options import Parser
from napari_samdepth.cli.recover import add_recover
from napari_samdepth.cli.segment import add_everything, add_segment, add_words


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses holds `run`, the function that does the work and returns the exit code."""
    parser = Parser(prog="napari-samdepth", description="Segment with clicks, estimate depth, read it per label.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error came from, for those who want to mend it"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for add in (
        add_demo, add_segment, add_everything, add_words, add_depth, add_readout, add_models, add_recover, add_cache,
    ):  # fmt: skip
        add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from napari_samdepth import __version__

        print(f"napari-samdepth {__version__}")
        parser.exit()
