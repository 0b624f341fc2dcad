"""The command ``napari-samdepth cache``: how much the embeddings on disk take, and away with them."""

from __future__ import annotations

import argparse
from typing import Any

from napari_samdepth.cli.options import Parser


def add_cache(commands: Any) -> None:
    """Add the command to those of a parser."""
    cache = commands.add_parser("cache", help="encoded images on disk: how much they take, and away with them")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    actions.add_parser("info", help="where encoded images are kept, how many, and their size").set_defaults(run=_info)
    actions.add_parser("clear", help="remove them; images are encoded again when opened").set_defaults(run=_clear)


def _info(_options: argparse.Namespace) -> int:
    from napari_samdepth.storage.embeddings import EmbeddingCache

    usage = EmbeddingCache().usage()
    print(f"{usage.folder}: {_images(usage.count, usage.size)} of at most {_bytes(usage.limit)}")
    return 0


def _clear(_options: argparse.Namespace) -> int:
    from napari_samdepth.storage.embeddings import EmbeddingCache

    removed = EmbeddingCache().clear()
    print(f"{removed.folder}: {_images(removed.count, removed.size)} removed")
    return 0


def _images(count: int, size: int) -> str:
    return f"{count:,} encoded image{'' if count == 1 else 's'}, {_bytes(size)}"


def _bytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
