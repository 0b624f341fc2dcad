"""Print the longest modules, classes and functions: a nudge to split them, not a gate."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
NUDGES = {"modules": 300, "classes": 200, "functions": 40}
SHOWN = 5


def lengths() -> Iterator[tuple[str, int, str]]:
    """Yield (what, number of lines, where) for all modules, classes and functions of the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        where = str(path.relative_to(SOURCE / "napari_samdepth"))
        text = path.read_text(encoding="utf-8")
        yield "modules", len(text.splitlines()), where
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                what = "classes" if isinstance(node, ast.ClassDef) else "functions"
                yield what, (node.end_lineno or node.lineno) - node.lineno + 1, f"{where}:{node.lineno} {node.name}"


def main() -> None:
    """Print the longest of each, marked where they are beyond what is easily read."""
    found = list(lengths())
    for what, nudge in NUDGES.items():
        longest = sorted((entry for entry in found if entry[0] == what), key=lambda entry: -entry[1])[:SHOWN]
        print(f"longest {what} (aim: at most {nudge} lines)")
        for _, count, where in longest:
            print(f"  {count:5d} {'!' if count > nudge else ' '} {where}")


if __name__ == "__main__":
    main()
