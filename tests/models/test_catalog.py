from __future__ import annotations

import re

import pytest

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.catalog import ENTRIES, entries, find


def test_all_names_that_are_promised_exist() -> None:
    segmenters = {"builtin", "vit_b", "vit_l", "vit_h", "vit_b_lm", "vit_l_lm", "vit_b_em_organelles"}
    segmenters |= {"vit_l_em_organelles", "sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large"}
    depth = {"builtin", "dpt-large", "dpt-hybrid-midas", "dpt-swinv2-tiny-256", "depth-anything-v2-small"}
    assert segmenters <= {entry.name for entry in entries("segment")}
    assert depth <= {entry.name for entry in entries("depth")}
    assert [entry.name for entry in entries("text")] == ["grounding-dino-tiny"]
    assert entries("segment")[0].ships
    assert entries("depth")[0].ships


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.task}-{entry.name}")
def test_an_entry_can_be_fetched_checked_and_shown(entry: object) -> None:
    from napari_samdepth.models.entry import ModelEntry

    assert isinstance(entry, ModelEntry)
    assert entry.title
    assert "\n" not in entry.title
    assert entry.good_for.endswith(".")
    assert entry.licence
    assert (entry.kind is not None) == (entry.task == "depth")
    if entry.ships:
        assert not entry.url
        assert entry.size == 0
    elif entry.url:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|xxh128:[0-9a-f]{32}", entry.checksum)
        assert entry.architecture in ("vit_b", "vit_l", "vit_h")
        assert entry.url.startswith("https://")
        assert entry.size > 3e8
    else:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub_id)
        assert "config.json" in entry.files
        assert sum(file.endswith((".safetensors", ".bin")) for file in entry.files) == 1
        assert entry.size > 5e7


def test_names_are_unique_per_task() -> None:
    names = [(entry.task, entry.name) for entry in ENTRIES]
    assert len(set(names)) == len(names)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ModelError, match=r"no model called 'vit_x'; choose one of: builtin, vit_b, .*path of a checkp"):
        find("vit_x", "segment")
    with pytest.raises(ModelError, match="dpt-large"):
        find("vit_b", "depth")
    assert find("vit_b").architecture == "vit_b"
    assert find("builtin", "depth").kind == "inverse"


def test_addresses_on_the_hub_and_on_a_mirror() -> None:
    entry = find("dpt-large")
    assert entry.file_url("config.json", "http://mirror/").startswith("http://mirror/Intel/dpt-large/resolve/")
    assert entry.file_url("config.json").endswith(f"/{entry.revision}/config.json")
