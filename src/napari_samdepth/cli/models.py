"""The command ``napari-samdepth models``: what models there are, fetched, found and verified."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_samdepth.cli.errors import WorkFailed
from napari_samdepth.cli.options import Parser, progress

if TYPE_CHECKING:
    from napari_samdepth.storage.settings import Settings

NOT_VERIFIED = "not verified: no published checksum"


def add_models(commands: Any) -> None:
    """Add the command to those of a parser."""
    models = commands.add_parser("models", help="models: what there is, and what is on this machine")
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    actions.add_parser("list", help="all models, with size, speed, licence and use").set_defaults(run=_list)
    for name, run, text in (
        ("download", _download, "fetch a model's weights; continues where it stopped"),
        ("path", _path, "where a model's files are (the models' folder without a name)"),
        ("verify", _verify, "read a model's files again and compare checksums"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "name", metavar="NAME", nargs="?" if name == "path" else None, help="as `models list` has it"
        )
        action.set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    from napari_samdepth.models.registry import specs
    from napari_samdepth.models.weights.store import spec_status
    from napari_samdepth.storage.settings import load_settings

    settings = load_settings()
    problems: dict[str, None] = {}
    for spec in specs():
        status = spec_status(spec)
        place = "ships with it" if spec.ships else "here" if status.present else f"{spec.size / 1e6:,.0f} MB"
        place = "unreadable" if status.problem else place
        problems[status.problem] = None
        speed, note = _speed(settings, spec.task, spec.name), f" ({NOT_VERIFIED})" if status.unverified else ""
        print(f"{spec.name:<26}{spec.task:<9}{place:<15}{speed:<22}{spec.licence:<39}{spec.good_for}{note}")
    for own in settings.own:
        path = Path(own.path)
        place, speed = "here" if os.path.exists(path) else "missing", _speed(settings, own.task, own.path)
        print(f"{path.name:<26}{own.task:<9}{place:<15}{speed:<22}{'your own':<39}{own.path}")
    for problem in filter(None, problems):
        print(f"napari-samdepth: {problem}", file=sys.stderr)
    return 0


def _speed(settings: Settings, task: str, model: str) -> str:
    """Return how long an image took with a model: on this CPU, and on GPUs by their names."""
    from napari_samdepth.core.durations import in_words
    from napari_samdepth.models.runtime.hardware import hardware

    here, said = hardware("cpu"), []
    for timing in settings.timings:
        kind, _, name = timing.machine.partition(" · ")
        if (timing.task, timing.model) == (task, model) and (kind != "cpu" or timing.machine == here):
            said.append(f"{in_words(timing.typical)} on {'this CPU' if kind == 'cpu' else name}")
    return ", ".join(said) + "  " if said else "not measured yet"


def _download(options: argparse.Namespace) -> int:
    from napari_samdepth.core.errors import ModelError
    from napari_samdepth.models.registry import find
    from napari_samdepth.models.weights.store import fetch

    ships = find(options.name).ships
    try:
        print(fetch(options.name, report=progress()))
    except ModelError as error:
        if ships:
            raise
        raise WorkFailed(str(error)) from error
    return 0


def _path(options: argparse.Namespace) -> int:
    from napari_samdepth.models.registry import find
    from napari_samdepth.models.weights.store import missing, models_folder, spec_status

    if options.name is None:
        print(models_folder())
        return 0
    spec = find(options.name)
    status = spec_status(spec)
    if not status.present:
        raise ValueError(missing(spec))
    print(status.path or "ships with the package")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from napari_samdepth.models.weights.store import verify

    status = verify(options.name, report=progress())
    if status.unverified:
        files = ", ".join(status.unverified)
        print(f"{options.name}: {status.path}, as it was downloaded; {files} {NOT_VERIFIED}")
    else:
        print(f"{options.name}: {status.path or 'ships with the package'}, as it should be")
    return 0
