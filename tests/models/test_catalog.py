from __future__ import annotations

import re

import pytest

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.catalog import SPECS
from napari_samdepth.models.registry import find, specs
from napari_samdepth.models.spec import ModelSpec


def test_all_names_that_are_promised_exist() -> None:
    segmenters = {"builtin", "vit_b", "vit_l", "vit_h", "vit_b_lm", "vit_l_lm", "vit_b_em_organelles"}
    segmenters |= {"vit_l_em_organelles", "sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large"}
    depth = {"builtin", "dpt-large", "dpt-hybrid-midas", "dpt-swinv2-tiny-256", "depth-anything-v2-small"}
    assert segmenters <= {spec.name for spec in specs("segment")}
    assert depth <= {spec.name for spec in specs("depth")}
    assert [spec.name for spec in specs("text")] == ["grounding-dino-tiny"]
    assert specs("segment")[0].ships
    assert specs("depth")[0].ships


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.task}-{spec.name}")
def test_an_entry_can_be_fetched_checked_and_shown(spec: object) -> None:
    assert isinstance(spec, ModelSpec)
    assert spec.title
    assert "\n" not in spec.title
    assert spec.good_for.endswith(".")
    assert spec.licence
    assert (spec.kind is not None) == (spec.task == "depth")
    if spec.ships:
        assert not spec.url
        assert spec.size == 0
    elif spec.url:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|xxh128:[0-9a-f]{32}", spec.checksum)
        assert spec.architecture in ("vit_b", "vit_l", "vit_h")
        assert spec.url.startswith("https://")
        assert spec.size > 3e8
    else:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.hub_id)
        assert "config.json" in spec.files
        assert sum(file.endswith((".safetensors", ".bin")) for file in spec.files) == 1
        assert spec.size > 3e7


def test_names_are_unique_per_task() -> None:
    names = [(spec.task, spec.name) for spec in SPECS]
    assert len(set(names)) == len(names)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ModelError, match=r"no model called 'vit_x'; choose one of: builtin, vit_b, .*path of a checkp"):
        find("vit_x", "segment")
    with pytest.raises(ModelError, match="dpt-large"):
        find("vit_b", "depth")
    assert find("vit_b").architecture == "vit_b"
    assert find("builtin", "depth").kind == "inverse"


def test_addresses_on_the_hub_and_on_a_mirror() -> None:
    spec = find("dpt-large")
    assert spec.file_url("config.json", "http://mirror/").startswith("http://mirror/Intel/dpt-large/resolve/")
    assert spec.file_url("config.json").endswith(f"/{spec.revision}/config.json")
