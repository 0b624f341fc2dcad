"""The main job in a real window: dock, start, click, refine, accept, undo, depth, inspect."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from skimage import data

from .conftest import Bench

COIN = (52, 49)


def test_the_main_job_as_a_user_does_it(bench: Bench) -> None:
    viewer, state = bench.viewer, bench.session.state
    assert not bench.segment.start_button.isEnabled()
    assert "Open an image first" in bench.segment.start_button.toolTip()
    viewer.open_sample("napari-samdepth", "coins")
    QApplication.processEvents()
    bench.segment.start_button.click()
    bench.until(lambda: state.phase == "ready")
    assert bench.segment.model.device.text()

    before = bench.canvas()
    bench.click(*COIN)
    bench.until(lambda: len(state.scores) == 3)
    bench.settle()
    preview = viewer.layers["SAM preview"].data == 1
    assert preview[COIN]
    assert len(viewer.layers["SAM prompts"].data) == 1
    at = bench.canvas_position(60, 55)
    shown = bench.canvas()
    ratio = shown.shape[0] / viewer.window._qt_viewer.canvas.native.height()
    pixel = round(at.y() * ratio), round(at.x() * ratio)
    blue, red = (int(shown[pixel][channel]) - int(before[pixel][channel]) for channel in (2, 0))
    assert blue > red + 20, "the mask is drawn in cyan over the coin"

    bench.click(250, 300, alt=True)
    bench.settle()
    assert list(viewer.layers["SAM prompts"].features["prompt"]) == ["foreground", "background"]
    bench.key("Ctrl+Z")
    bench.settle()
    assert len(viewer.layers["SAM prompts"].data) == 1
    assert bench.segment.masks[0].isVisible()

    bench.key("Return")
    bench.settle()
    labels = viewer.layers["coins masks"]
    assert np.array_equal(labels.data == 1, preview)
    bench.key("Ctrl+Z")
    bench.settle()
    assert not labels.data.any()
    bench.key("Ctrl+Shift+Z")
    bench.settle()
    assert np.array_equal(labels.data == 1, preview)

    bench.depth.add_button.click()
    bench.until(lambda: "coins depth" in viewer.layers)
    bench.click(60, 110)
    bench.until(lambda: bool(state.live))
    bench.until(lambda: "nearness" in bench.segment.live.text())
    bench.segment.accept_button.click()
    bench.until(lambda: len(bench.inspect.model.table) == 2)
    assert "nearness" in labels.features.columns


def test_rows_and_labels_find_each_other(bench: Bench) -> None:
    viewer = bench.viewer
    picture = data.coins()
    viewer.add_image(np.tile(np.linspace(0, 1, 384, dtype=np.float32), (303, 1)), name="ramp")
    labels = np.zeros(picture.shape, dtype=np.int32)
    labels[40:80, 30:70], labels[200:240, 300:350] = 4, 9
    layer = viewer.add_labels(labels, name="mine")
    bench.session.use_depth(viewer.layers["ramp"], "height", "m")
    bench.until(lambda: len(bench.inspect.model.table) == 2)
    assert bench.inspect.labels.layer is layer

    view = bench.inspect.view
    view.selectRow(1)
    assert layer.selected_label == 9
    assert np.allclose(viewer.scene.camera.center[1:], (219.5, 324.5), atol=1)
    layer.selected_label = 4
    assert view.selectionModel().currentIndex().siblingAtColumn(0).data() == "4"

    layer.data_setitem((np.array([10, 11]), np.array([10, 11])), 12)
    bench.until(lambda: 12 in bench.inspect.model.table.index)
    layer.undo()
    bench.until(lambda: 12 not in bench.inspect.model.table.index)


def test_a_problem_is_one_sentence_in_the_dock(bench: Bench) -> None:
    bench.viewer.add_image(np.zeros((4, 32, 32)), name="volume")
    bench.viewer.dims.ndisplay = 3
    bench.settle()
    bench.segment.start_button.click()
    bench.until(bench.segment.message.isVisible)
    assert "3-D" in bench.segment.message.text()


def test_closing_the_dock_releases_keys_and_helper_layers(bench: Bench) -> None:
    viewer = bench.viewer
    viewer.add_image(data.coins(), name="coins")
    bench.settle()
    bench.segment.start_button.click()
    bench.until(lambda: bench.session.state.phase == "ready")
    points = viewer.layers["SAM prompts"]
    assert points.keymap
    bench.segment.close()
    QApplication.processEvents()
    assert not points.keymap
    assert [layer.name for layer in viewer.layers] == ["coins"]


def test_every_control_has_a_tooltip_and_the_docks_fit(bench: Bench) -> None:
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit

    for dock in (bench.segment, bench.depth, bench.inspect):
        for kind in (QAbstractButton, QComboBox, QLineEdit):
            for control in dock.findChildren(kind):
                inner = control.objectName().startswith("qt_") or control.parent() in dock.findChildren(QComboBox)
                titled = control.parent().metaObject().className() in ("QTableView", "QCollapsible")
                assert inner or titled or control.toolTip(), f"{control} {control.objectName()} in {dock}"
        assert dock.minimumSizeHint().width() <= 380
        assert dock.sizeHint().height() <= 640
        assert dock.layoutDirection() == Qt.LayoutDirection.LeftToRight


def test_opening_and_closing_the_docks_leaves_nothing_behind(make_napari_viewer: object) -> None:
    viewer = make_napari_viewer(show=True)  # type: ignore[operator]
    viewer.add_image(data.coins())
    names = ("Segment", "Depth", "Inspect")

    def listeners() -> int:
        events = (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.dims.events.current_step)
        return sum(len(emitter.callbacks) for emitter in events)

    counts = []
    for _ in range(20):
        for name in names:
            dock, _widget = viewer.window.add_plugin_dock_widget("napari-samdepth", name)
            viewer.window.remove_dock_widget(dock)
        QApplication.processEvents()
        counts.append(listeners())
    assert counts[-1] == counts[0]


def test_a_click_lands_where_it_is_made_whatever_the_units(bench: Bench) -> None:
    viewer, state = bench.viewer, bench.session.state
    viewer.add_image(data.coins(), scale=(0.1, 0.1), units=("um", "um"), name="coins")
    viewer.add_labels(np.zeros((8, 8), dtype=int), scale=(4000, 4000), units=("nm", "nm"), name="coarse")
    viewer.reset_view()
    bench.segment.start()
    bench.until(lambda: state.phase == "ready")
    bench.settle()
    bench.click(COIN[0] * 100, COIN[1] * 100)  # the view is in nm
    bench.settle()
    assert np.allclose(viewer.layers["SAM prompts"].data, [COIN], atol=1)
    assert (viewer.layers["SAM preview"].data == 1)[COIN]
    bench.click(COIN[0] * 100, 7000)
    bench.settle()
    assert np.allclose(viewer.layers["SAM prompts"].data[1], (COIN[0], 70), atol=1)


def test_the_model_sees_all_channels_where_that_is_chosen(bench: Bench) -> None:
    viewer, state = bench.viewer, bench.session.state
    viewer.add_image(np.full((90, 120), 15, dtype=np.uint8), contrast_limits=(0, 255), name="red", colormap="red")
    viewer.add_image(
        data.coins()[:90, :120], contrast_limits=(0, 255), name="green", colormap="green", blending="additive"
    )
    bench.settle()
    bench.segment.image.choose(viewer.layers["red"])
    bench.segment.as_shown.setChecked(True)
    bench.segment.start()
    bench.until(lambda: state.phase == "ready")
    rgb = bench.session._annotator.encoded.rgb
    assert np.array_equal(rgb[..., 1], data.coins()[:90, :120])
    assert (rgb[..., 0] == 15).all()
