"""Models of other packages and of scripts: registered, listed, loaded by name and clicked with."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_samdepth as sd
from napari_samdepth.core.candidates import Candidates
from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import ModelError
from napari_samdepth.models import registry
from napari_samdepth.models.catalog import SPECS
from napari_samdepth.models.spec import LoadRequest, ModelSpec

PLUGIN = '''
"""A model of another package: what is as bright as the pixel clicked on, and hangs together with it."""

import numpy as np
from scipy import ndimage

import napari_samdepth as sd


class Flood:
    name, model, device, device_reason = "flood", "flood:1", "cpu", "it needs no more"

    def encode(self, rgb, report=None):
        grey = rgb.mean(axis=2).astype(np.float32)
        return sd.Embedding({"grey": grey}, grey.shape, grey.shape, self.model)

    def decode(self, embedding, prompts, multimask=None):
        assert prompts.kinds == {"points"}, "takes clicks alone"
        grey, mask = embedding.features["grey"], np.zeros(embedding.image_shape, bool)
        for (row, col), label in zip(prompts.points, prompts.labels):
            at = round(row), round(col)
            pieces, _ = ndimage.label(np.abs(grey - grey[at]) < 60)
            mask = mask | (pieces == pieces[at]) if label else mask & (pieces != pieces[at])
        return sd.Candidates.of_masks(mask[None], scores=[0.9])


def models():
    return [
        sd.ModelSpec(
            name="flood", task="segment", load=lambda asked: Flood(), title="Flood fill", licence="MIT",
            good_for="Flat colours.", prompt_kinds={"points"}, seconds=0.01,
        ),
        sd.ModelSpec(name="flood-odd", task="segment", load=lambda asked: object()),
        sd.ModelSpec(name="flood-broken", task="segment", load=lambda asked: 1 / 0),
    ]
'''


def install(site: Path, name: str, module: str, source: str, value: str) -> None:
    """Install a package as pip would: its module, and beside it what the packages of an environment are known by."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[napari_samdepth.models]\nmodels = {value}\n")


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that has asked no package yet, and forgets afterwards."""
    monkeypatch.setattr(registry, "_registered", {(spec.task, spec.name): spec for spec in SPECS})
    monkeypatch.setattr(registry, "_state", {"asked": False})


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, afresh: None) -> Iterator[None]:
    install(tmp_path / "site", "napari-flood", "napari_flood_plugin", PLUGIN, "napari_flood_plugin:models")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    sys.modules.pop("napari_flood_plugin", None)


def squares() -> np.ndarray:
    rgb = np.full((60, 80, 3), 30, np.uint8)
    rgb[10:25, 10:30], rgb[30:50, 40:70] = 200, 120
    return rgb


def test_a_model_of_another_package_is_listed_and_clicked_with(plugin: None) -> None:
    spec = registry.find("flood", "segment")
    assert (spec.title, spec.package, spec.ships) == ("Flood fill", "napari-flood", True)
    assert [model.name for model in registry.specs("segment")][-3:] == ["flood", "flood-odd", "flood-broken"]
    segmenter = sd.load_segmenter("flood")
    assert segmenter.name == "flood"
    embedding = segmenter.encode(squares())
    found = segmenter.decode(embedding, sd.Prompts([(15, 15)]))
    assert found.patch().box == (10, 10, 25, 30)
    assert found.patch().area == 300
    for prompts in (
        sd.Prompts(box=(28, 38, 52, 72)),
        sd.Prompts(scribbles=[[(35, 45), (45, 65)]]),
        sd.Prompts(lasso=[(29, 39), (29, 71), (51, 71), (51, 39)]),
    ):
        assert segmenter.decode(embedding, prompts).patch().box == (30, 40, 50, 70)


def test_clicks_in_a_viewer_go_to_the_model_of_another_package(plugin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.components import ViewerModel

    viewer = ViewerModel()
    image = viewer.add_image(squares(), name="squares", rgb=True)
    session = sd.session_of(viewer)
    session.start(image, model="flood")
    session.wait()
    viewer.layers["SAM prompts"].add((15, 15))
    session.wait()
    session.accept()
    session.wait()
    labels = next(layer for layer in viewer.layers if type(layer).__name__ == "Labels" and layer.name.endswith("masks"))
    truth = np.zeros((60, 80), int)
    truth[10:25, 10:30] = 1
    np.testing.assert_array_equal(labels.data, truth)
    session.finish()
    session.wait()
    session.close()


def test_models_that_fail_are_one_sentence(plugin: None, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError, match="flood-odd of napari-flood gave a object, which is no Segmenter"):
        sd.load_segmenter("flood-odd")
    with pytest.raises(ModelError, match=r"flood-broken of napari-flood cannot be loaded \(division by zero\)"):
        sd.load_segmenter("flood-broken")
    assert "ZeroDivisionError" in caplog.text, "a fault of the package's is in the log"


@pytest.mark.parametrize(
    "source",
    [
        "import no_such_library",
        "models = 5",
        "models = ['flood']",
        "def models(): raise RuntimeError('no GPU')",
        "",
        "import napari_samdepth as sd\nmodels = sd.ModelSpec(name='vit_b', task='segment', load=print)",
        "import napari_samdepth as sd\nmodels = sd.ModelSpec(name='a/b', task='segment', load=print)",
    ],
)
def test_a_broken_package_is_left_out_and_told_of(
    source: str, tmp_path: Path, afresh: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "napari-broken", "broken_plugin", source, "broken_plugin:models")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with caplog.at_level(logging.WARNING):
        assert registry.specs() == SPECS
    assert "napari-broken" in caplog.text
    sys.modules.pop("broken_plugin", None)


def test_the_command_line_lists_and_uses_the_model_of_another_package(tmp_path: Path) -> None:
    from PIL import Image

    install(tmp_path / "site", "napari-flood", "napari_flood_plugin", PLUGIN, "napari_flood_plugin:models")
    Image.fromarray(squares()).save(tmp_path / "squares.png")
    code = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, "site")
        from napari_samdepth.cli import main
        main(["models", "list"])
        sys.exit(main(["segment", "squares.png", "--model", "flood", "--point", "15,15", "--out", "out.tif"]))
        """
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert any(line.startswith("flood ") and "Flat colours." in line for line in run.stdout.splitlines())
    assert "300 px" in run.stdout


class Dot:
    name, model, device, device_reason = "dot", "dot:1", "cpu", "it needs no more"

    def encode(self, rgb: Any, report: Any = None) -> Embedding:
        return Embedding({}, rgb.shape[:2], rgb.shape[:2], self.model)

    def decode(self, embedding: Embedding, prompts: Any, multimask: Any = None) -> Candidates:
        mask = np.zeros(embedding.image_shape, bool)
        mask[tuple(np.round(prompts.points[0]).astype(int))] = True
        return Candidates.of_masks(mask[None])


def test_a_script_registers_a_model(afresh: None) -> None:
    requests: list[LoadRequest] = []

    def load(asked: LoadRequest) -> Dot:
        requests.append(asked)
        return Dot()

    spec = ModelSpec(name="dot", task="segment", load=load, precisions=("float32", "bfloat16"), package="script")
    sd.register_model(spec)
    sd.register_model(replace(spec, title="Dot"))
    assert registry.find("dot").title == "Dot"
    with pytest.raises(ValueError, match="There is a model called 'dot' already, of script"):
        sd.register_model(replace(spec, package="another"))
    with pytest.raises(ValueError, match="There is a model called 'builtin' already"):
        sd.register_model(replace(spec, name="builtin"))
    segmenter = sd.load_segmenter("dot", "cpu")
    assert isinstance(segmenter, Dot), "one that takes every kind of prompt is not wrapped"
    assert (requests[0].path, requests[0].device, requests[0].precision) == (None, "cpu", "float32")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"task": "paint"}, "must be one of segment, depth, text"),
        ({"load": "module:function"}, "must be a function"),
        ({"prompt_kinds": {"clicks"}}, "must be some of box, lasso"),
        ({"prompt_kinds": ()}, "must be some of box, lasso"),
        ({"precisions": ("float16",)}, "must be float32 and perhaps"),
        ({"seconds": -1.0}, "must not be negative"),
        ({"hub_id": "a/b"}, "must name what is fetched"),
    ],
)
def test_a_spec_says_what_is_wrong_with_it(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelSpec(**({"name": "dot", "task": "segment", "load": print} | facts))


@pytest.mark.parametrize("name", ["", "  ", "a/b", "model.pth", "~me", "two\nlines"])
def test_names_can_be_typed_and_are_no_paths(name: str, afresh: None) -> None:
    with pytest.raises(ValueError, match="A model's name must"):
        sd.register_model(ModelSpec(name=name, task="segment", load=print))


def test_only_specs_are_registered(afresh: None) -> None:
    with pytest.raises(ValueError, match="takes a ModelSpec, got str"):
        sd.register_model("vit_b")  # type: ignore[arg-type]
