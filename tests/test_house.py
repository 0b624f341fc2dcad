"""The rules of the house (docs/architecture.md): who may import whom, where axes are flipped, how fast it starts."""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import napari_samdepth

PACKAGE = Path(napari_samdepth.__file__).parent
TOP = PACKAGE.parents[1]

QT = {"qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "superqt"}
TORCH = {"torch", "torchvision", "transformers", "segment_anything"}

# room -> what must not be loaded once all of its modules are imported
NEVER_LOADED = {
    "core": QT | TORCH | {"napari", "magicgui"},
    "measure": QT | TORCH | {"napari", "magicgui"},
    "models": QT | TORCH | {"napari", "magicgui"},
    "annotation": QT | TORCH | {"napari", "magicgui"},
    "storage": QT | TORCH | {"napari", "magicgui"},
    "session": QT | TORCH,
    "widgets": TORCH,
    "cli": QT | TORCH | {"napari", "magicgui"},
    "demo": QT | TORCH | {"napari", "magicgui"},
    "samples": QT | TORCH,
}

# room -> the rooms it may name, at the top or inside a function
MAY_KNOW = {
    "core": {"core"},
    "measure": {"measure", "core"},
    "models": {"models", "measure", "core"},
    "storage": {"storage", "measure", "core"},
    "annotation": {"annotation", "core"},
    "session": {"session", "annotation", "models", "storage", "measure", "core"},
    "widgets": {"widgets", "session", "measure", "core"},
    "cli": {"cli", "demo", "models", "storage", "measure", "core"},
    "demo": {"models", "storage", "measure", "core"},
    "samples": {"session", "core"},
}

# third party -> the only files that may name it, as beginnings of dotted module names
ONLY_IN = {
    "segment_anything": ("models.sam.", "models.builtin.segmenter_net"),
    "transformers": ("models.depth.", "models.sam.", "models.text."),
    "torch": ("models.",),
    "torchvision": ("models.",),
    "qtpy": ("widgets.",),
    "superqt": ("widgets.",),
    "magicgui": ("widgets.",),
    "napari": ("session.", "widgets.", "samples", "cli"),
}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(name: str) -> str:
    return name.partition(".")[0]


def imports(tree: ast.AST) -> set[str]:
    """Every module that is named in an import, at the top or deeper; `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def is_network(name: str) -> bool:
    """Whether a module is the inside of a built-in network: torch at its top, itself imported inside functions only."""
    at_top = [node for node in tree_of(name).body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = set().union(*(imports(node) for node in at_top)) if at_top else set()
    return name.startswith("models.builtin.") and "torch" in named


NETWORKS = {name for name in MODULES if is_network(name)}


@pytest.mark.parametrize("room", NEVER_LOADED)
def test_importing_a_room_loads_nothing_forbidden(room):
    names = [name for name in MODULES if room_of(name) == room and name not in NETWORKS]
    assert names, f"the room {room} is empty"
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module('napari_samdepth.' + name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert "napari_samdepth" in loaded
    assert sorted(loaded & NEVER_LOADED[room]) == []


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_modules_name_only_the_rooms_and_libraries_they_may_know(name):
    room = room_of(name)
    assert room in MAY_KNOW, f"say in MAY_KNOW what {room} may know"
    for imported in imports(tree_of(name)):
        top = imported.split(".")[0]
        if top == "napari_samdepth":
            inside = imported.removeprefix("napari_samdepth").removeprefix(".")
            assert inside in ("", "__version__") or room_of(inside) in MAY_KNOW[room], imported
        if top in ONLY_IN:
            assert name.startswith(ONLY_IN[top]) or (name + ".").startswith(ONLY_IN[top]), imported
    if room in ("core", "measure"):
        foreign = {imported.split(".")[0] for imported in imports(tree_of(name))} - set(sys.stdlib_module_names)
        assert foreign <= {"numpy", "scipy", "skimage", "pandas", "napari_samdepth"}


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_depth_classes_of_transformers_have_one_importer(name):
    depth_classes = [i for i in imports(tree_of(name)) if i.startswith("transformers") and "Depth" in i]
    assert not depth_classes or name == "models.depth.transformers_depth"


def layers_added(tree: ast.AST) -> list[int]:
    """Lines that call `<something>viewer.add_...(...)`."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("add_"):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name.endswith("viewer"):
                lines.append(node.lineno)
    return lines


def test_widgets_never_add_layers():
    assert layers_added(ast.parse("self._viewer.add_labels(1)")) == [1]
    assert not layers_added(ast.parse("viewer.window.add_dock_widget(1)"))
    for name in MODULES:
        if room_of(name) == "widgets":
            assert not layers_added(tree_of(name)), name


def flips(tree: ast.AST) -> list[int]:
    """Lines that turn (row, col) round: x[..., ::-1], shape[::-1], x[..., [1, 0]], np.flip and its kin.

    Reversing what was just sorted is no flip, and neither is mirroring a tensor.
    """
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            last = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
            ordered = isinstance(node.value, ast.Call) and "sort" in ast.unparse(node.value.func)
            turned = ast.unparse(last) in ("::-1", "[1, 0]", "(1, 0)", "[1, 0, 3, 2]")
            if turned and not ordered:
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.flip", "np.fliplr"):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("points[:, ::-1]", 1),
        ("points[..., ::-1]", 1),
        ("shape[::-1]", 1),
        ("points[:, [1, 0]]", 1),
        ("box[..., [1, 0, 3, 2]]", 1),
        ("np.flip(points, axis=1)", 1),
        ("np.argsort(x)[::-1]", 0),
        ("sorted(x)[::-1]", 0),
        ("points[::2]", 0),
        ("points[:, 1]", 0),
    ],
)
def test_flips_are_seen(code, count):
    assert len(flips(ast.parse(code))) == count


@pytest.mark.parametrize("name", [name for name in MODULES if name != "core.coords" and name not in NETWORKS])
def test_axes_are_flipped_in_coords_alone(name):
    assert not flips(tree_of(name)), "use napari_samdepth.core.coords"
    assert flips(tree_of("core.coords"))


def unsafe_loads(tree: ast.AST) -> list[int]:
    """Lines that call torch.load without weights_only=True."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch_module().load"):
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if words.get("weights_only") != "True":
                lines.append(node.lineno)
    return lines


def test_checkpoints_are_never_unpickled_freely():
    assert unsafe_loads(ast.parse("torch.load(f)")) == [1]
    assert not unsafe_loads(ast.parse("torch.load(f, weights_only=True)"))
    for path in [*PACKAGE.rglob("*.py"), *(TOP / "training").rglob("*.py"), *(TOP / "benchmarks").rglob("*.py")]:
        assert not unsafe_loads(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {requirement.split(">")[0].split("[")[0].lower() for requirement in project["dependencies"]}
    homes = packages_distributions()
    for name in MODULES:
        for imported in {i.split(".")[0] for i in imports(tree_of(name))} - set(sys.stdlib_module_names):
            if imported != "napari_samdepth":
                assert {home.lower() for home in homes.get(imported, [imported])} & declared, (name, imported)


def test_no_qt_binding_in_the_base_install():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [need for need in project["dependencies"] if need.lower().startswith(("pyqt", "pyside", "napari["))]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"])
def test_links_between_pages_lead_somewhere(page):
    path = TOP / page
    for file in sorted(path.rglob("*.md")) if path.is_dir() else [path]:
        for link in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (file.parent / link).exists(), f"{file.name} links to {link}"


def test_public_names_resolve():
    code = (
        "import napari_samdepth as sd\n"
        "missing = [name for name in sd.__all__ if getattr(sd, name, None) is None]\n"
        "assert not missing, missing\n"
        "assert set(sd.__all__) <= set(dir(sd))\n"
        "assert not hasattr(sd, 'no_such_name')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def median_seconds(code: str, runs: int = 7) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def test_importing_the_package_is_quick_and_loads_no_library():
    forbidden = sorted(QT | TORCH | {"napari", "numpy", "pandas"})
    code = f"import napari_samdepth, sys; sys.exit(bool(set({forbidden!r}) & set(sys.modules)))"
    assert median_seconds(code) - median_seconds("pass") < 0.3
