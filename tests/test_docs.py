"""What the pages say about the code: the list of modules, and the README's examples as far as they can be read."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import napari_samdepth
from napari_samdepth.cli.parser import build_parser

PACKAGE = Path(napari_samdepth.__file__).parent
TOP = PACKAGE.parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("napari-samdepth ")]


def test_architecture_lists_every_module_and_no_other():
    page = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = page.split("## Modules")[1].split("\n## ")[0]
    for room in ("core", "measure", "models", "annotation", "storage", "session", "widgets", "cli"):
        text = listed.split(f"`{room}/`")[1]
        text = re.split(r"`(?:core|measure|models|annotation|storage|session|widgets|cli)/`", text)[0]
        there = {path.stem for path in (PACKAGE / room).rglob("*.py")} - {"__init__", "__main__"}
        assert set(re.findall(r"`([a-z_0-9]+)`", text)) == there, room


def test_python_examples_use_names_that_exist():
    assert len(blocks("python")) >= 4
    used = set()
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sd":
                used.add(node.attr)
    assert used >= {"load_segmenter", "depth_readout", "session_of"}
    assert used <= set(napari_samdepth.__all__)


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    options = build_parser().parse_args(shlex.split(line, comments=True)[1:])
    assert callable(options.run)


def test_every_command_has_an_example():
    shown = {shlex.split(line)[1] for line in commands()}
    assert shown == {"demo", "segment", "everything", "words", "depth", "readout", "models", "cache", "recover"}
