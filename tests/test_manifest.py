"""What napari reads about the package, and whether what it promises is there."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_samdepth import samples

PACKAGE = Path(samples.__file__).parent
TOP = PACKAGE.parents[1]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(PACKAGE / "napari.yaml")


def resolve(python_name):
    module, name = python_name.split(":")
    return getattr(import_module(module), name)


def test_installed_under_its_name(manifest):
    installed = PluginManifest.from_distribution("napari-samdepth")
    assert installed.name == manifest.name == "napari-samdepth"
    assert installed.contributions == manifest.contributions


def test_manifest_at_top_level_is_a_link_to_the_one_in_the_package():
    link = TOP / "napari.yaml"
    assert link.is_symlink()
    assert link.resolve() == (PACKAGE / "napari.yaml").resolve()


def test_docks(manifest):
    widgets = {widget.display_name: widget for widget in manifest.contributions.widgets}
    assert {"Segment", "Depth", "Inspect"} <= set(widgets)


@pytest.mark.window
def test_every_command_leads_somewhere(manifest, qapp):
    for command in manifest.contributions.commands:
        found = resolve(command.python_name)
        assert callable(found)
        if inspect.isclass(found):
            first = next(iter(inspect.signature(found).parameters.values()))
            assert "Viewer" in str(first.annotation), command.id


def test_menus(manifest):
    placed = {menu: [item.command for item in items] for menu, items in manifest.contributions.menus.items()}
    assert "napari-samdepth.segment" in placed["napari/layers/segment"]
    assert {"napari-samdepth.depth", "napari-samdepth.inspect"} <= set(placed["napari/layers/measure"])
    # a widget's command in a menu must be declared as a widget, or napari shows a dead entry
    declared = {widget.command for widget in manifest.contributions.widgets}
    assert {command for commands in placed.values() for command in commands} <= declared


def test_menu_ids_are_napari_s_own(manifest):
    from napari._app_model.constants import MenuId

    assert set(manifest.contributions.menus) <= {member.value for member in MenuId}


@pytest.mark.parametrize("key", ["motorcycle", "coins", "astronaut"])
def test_samples_open_without_a_download(key, manifest, monkeypatch):
    import socket

    def refuse(*_args, **_kwargs):
        raise AssertionError("a sample asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    promised = {sample.key: sample.command for sample in manifest.contributions.sample_data}
    command = next(command for command in manifest.contributions.commands if command.id == promised[key])
    layers = resolve(command.python_name)()
    assert layers[-1][1]["name"] == key
    assert all(kind == "image" and np.asarray(values).ndim in (2, 3) for values, _, kind in layers)


def test_motorcycle_s_depth_is_understood(viewer_model):
    """The measured disparity arrives as a depth layer that needs no further word from the user."""
    from napari.layers import Layer

    from napari_samdepth.session.layers import METADATA_KEY

    depth, photo = (Layer.create(*layer) for layer in samples.motorcycle())
    viewer_model.add_layer(depth)
    viewer_model.add_layer(photo)
    assert depth.metadata[METADATA_KEY]["kind"] == "inverse"
    assert depth.data.shape == photo.data.shape[:2] == (500, 741)
    assert np.isnan(depth.data).sum() == 27226
    assert not np.isinf(depth.data).any()
    assert viewer_model.layers.selection.active is photo
    # the front wheel is nearer than the shelves at the back
    assert np.nanmedian(depth.data[300:420, 540:660]) > np.nanmedian(depth.data[20:80, 400:600])


@pytest.mark.window
def test_menu_entries_appear_in_a_real_window(make_napari_viewer):
    from app_model.types import MenuItem
    from napari._app_model import get_app_model

    viewer = make_napari_viewer(show=False)
    assert viewer is not None
    app = get_app_model()
    for menu, title in [
        ("napari/layers/segment", "Segment (SAM and depth)"),
        ("napari/layers/measure", "Depth (SAM and depth)"),
        ("napari/layers/measure", "Inspect (SAM and depth)"),
        ("napari/plugins", "SAM and depth"),
    ]:
        items = app.menus.get_menu(menu)
        titles = [str(item.command.title if isinstance(item, MenuItem) else item.title) for item in items]
        assert any(title in shown for shown in titles), (menu, titles)
