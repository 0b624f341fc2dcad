"""The depth training: caster, rasteriser, scenes, pictures, losses, starting weights, measures, and smoke runs."""

import json
import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("numba", reason="the training extra is not installed")
torch = pytest.importorskip("torch")

from napari_samdepth.models.builtin.depth_builtin import WEIGHTS, BuiltinDepth  # noqa: E402
from training.depth import (  # noqa: E402
    batches,
    cache,
    edges,
    gpu,
    marked,
    measures,
    mesh_scenes,
    meshes,
    pictures,
    raster,
    scenes,
    stamps,
    start,
    textures,
)
from training.depth.builder import Builder  # noqa: E402
from training.depth.caster import cast  # noqa: E402
from training.depth.losses import blank, depth_loss  # noqa: E402
from training.depth.rays import BOX, CONE, CYLINDER, ELLIPSOID  # noqa: E402

GREY = np.full((1, 2, 2, 3), 0.5)


def depth_of(*primitives, shape=(41, 41), focal=40.0):
    """Depth seen from the origin along +x, of (kind, centre, half) primitives under one lamp."""
    b = Builder(np.random.default_rng(0), {"plain": np.array([0]), "pattern": np.array([0]), "photo": np.array([0])})
    for kind, centre, half in primitives:
        b.add(kind, centre, half, texture=0)
    b.lamp((0, 0, 5), 100.0, (1, 1, 1), 0.1)
    frame = scenes.look_along(0.0, 0.0, 0.0)
    return cast(b.pack(np.ones((2, 3))), GREY, np.zeros(3), frame, focal, shape, samples=1)


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
def test_the_middle_ray_meets_the_front_of_a_shape(kind):
    _, depth = depth_of((kind, (5, 0, 0), (1, 1, 1)))
    assert depth[20, 20] == pytest.approx(4.0, abs=1e-3)
    assert np.isinf(depth[0, 0])


def test_a_sphere_has_its_depth_off_the_middle_too():
    _, depth = depth_of((ELLIPSOID, (5, 0, 0), (2, 2, 2)))
    x, y = (8 + 0.5 - 20.5) / 40, 0.0
    direction = np.array([1, -x, -y])
    centre = np.array([5.0, 0, 0])
    b, c = direction @ centre, centre @ centre - 4
    expected = (b - np.sqrt(b * b - direction @ direction * c)) / (direction @ direction)
    assert depth[20, 8] == pytest.approx(expected, abs=1e-3)


def test_a_cone_narrows_upwards():
    _, depth = depth_of((CONE, (5, 0, 0), (1, 1, 1)))
    widths = np.isfinite(depth).sum(1)
    assert widths[14] < widths[20] < widths[25]


def test_the_nearer_shape_hides_the_farther_and_a_room_is_seen_from_inside():
    _, depth = depth_of((BOX, (0, 0, 0), (9, 9, 9)), (BOX, (3, 0, 0), (0.5, 0.5, 0.5)))
    assert depth[20, 20] == pytest.approx(2.5, abs=1e-3)
    assert depth[0, 20] == pytest.approx(9.0, abs=1e-3)


def test_a_lamp_lights_the_side_that_it_faces():
    picture, depth = depth_of((ELLIPSOID, (5, 0, 0), (1, 1, 1)))
    assert picture[14, 20].mean() > 1.2 * picture[26, 20].mean()
    assert picture.shape == (*depth.shape, 3)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_scenes_come_again_from_their_seed_and_hold_depth(kind):
    atlas, index = textures.atlas(np.random.default_rng(1), count=12)
    rgb, inverse, name = scenes.render(5, atlas, index, kind, samples=1)
    again = scenes.render(5, atlas, index, kind, samples=1)
    assert name == kind
    assert rgb.dtype == np.uint8
    assert rgb.shape[:2] == inverse.shape
    assert np.array_equal(rgb, again[0])
    assert np.array_equal(inverse, again[1])
    assert (inverse >= 0).all()
    assert np.isfinite(inverse).all()
    assert np.percentile(inverse, 97) > 1.2 * np.percentile(inverse, 3)


def test_the_loss_ignores_scale_and_shift_and_nothing_else():
    torch.manual_seed(0)
    target = torch.rand(2, 32, 48).cumsum(1)
    same = float(depth_loss(3 * target + 7, target))
    assert same < 1e-2
    assert float(depth_loss(-target, target)) > 1.0
    assert float(depth_loss(target + 0.3 * target.std() * torch.randn_like(target), target)) > 10 * same


def test_blank_maps_are_recognised():
    maps = torch.stack([torch.full((8, 8), 3.0), torch.arange(64.0).view(8, 8)])
    assert blank(maps).tolist() == [True, False]


def test_measures_know_a_perfect_a_useless_and_a_reversed_map():
    truth = np.linspace(1, 2, 600).reshape(20, 30)
    assert measures.score(5 * truth - 3, truth).abs_rel == pytest.approx(0, abs=1e-6)
    assert measures.score(-truth, truth).spearman == pytest.approx(-1)
    assert measures.score(measures.ramp(truth.shape), truth).spearman > 0.99
    hidden = np.where(truth > 1.5, np.nan, truth)
    assert measures.score(truth, hidden).abs_rel == pytest.approx(0, abs=1e-6)


def test_a_view_survives_the_cache(tmp_path):
    rgb = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    inverse = np.linspace(0, 5, 12, dtype=np.float32).reshape(3, 4)
    cache.save(tmp_path / "view.npz", rgb, inverse, "room")
    back, depth, kind = cache.load(tmp_path / "view.npz")
    assert kind == "room"
    assert np.array_equal(back, rgb)
    assert np.corrcoef(depth.ravel(), inverse.ravel())[0, 1] > 0.9999
    assert [p.name for p in tmp_path.iterdir()] == ["view.npz"]


needs_teacher = pytest.mark.skipif(not start.TEACHER.exists(), reason="the teacher's file is not at hand")


@needs_teacher
def test_the_start_is_the_published_network():
    pytest.importorskip("onnx", reason="the training extra is not installed")
    net = start.teacher()
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((1, 3, 64, 96), dtype=np.float32))
    with torch.inference_mode():
        before = net(x)
        net.context.leave.bias += 1.0
        after = net(x)
    assert before.shape == (1, 32, 48)
    assert before.std() > 1e-3
    assert not torch.allclose(before, after)  # the context branch is joined to the rest, and adds nothing at first
    onnxruntime = pytest.importorskip("onnxruntime", reason="the peer is not installed")
    session = onnxruntime.InferenceSession(str(start.TEACHER), providers=["CPUExecutionProvider"])
    whole = rng.integers(0, 256, (1, 3, 192, 320)).astype(np.float32)
    with torch.inference_mode():
        mine = start.teacher()(torch.from_numpy(whole / 255)).relu()[None]
        mine = torch.nn.functional.interpolate(mine, scale_factor=2, mode="bilinear", align_corners=False)
    assert np.abs(mine.numpy()[0] - session.run(None, {"input": whole})[0][0]).max() < 1e-5


def test_a_missing_teacher_is_said():
    with pytest.raises(FileNotFoundError, match="tcmonodepth"):
        start.teacher(start.TEACHER.with_name("nowhere.onnx"))


def surfaces(triangles, uv=None, source=raster.ATLAS, cutouts=None):
    """Triangles (T, 3, 3) of one material: grey, or the cut-out number 0."""
    triangles = np.asarray(triangles, np.float32)
    uv = np.zeros((*triangles.shape[:2], 2), np.float32) if uv is None else np.asarray(uv, np.float32)
    return raster.Surfaces(
        triangles,
        uv,
        np.zeros(len(triangles), np.int32),
        np.ones(len(triangles), bool),
        np.array([source], np.int32),
        np.zeros(1, np.int32),
        np.ones((1, 3), np.float32),
        np.zeros(1, np.float32),
        GREY.astype(np.float32),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 4), np.uint8) if cutouts is None else cutouts,
    )


DAY = raster.Light(np.array([0.0, 0, 1]), np.ones(3), np.zeros((0, 3)), np.zeros((0, 3)), np.full(3, 0.5))
AHEAD = scenes.look_along(0.0, 0.0, 0.0)


def seen(s, shape=(40, 60), eye=(0.0, 0, 0)):
    return raster.render(s, DAY, np.array(eye), AHEAD, 30.0, shape)


def test_a_slanted_triangle_has_exact_depth_and_the_nearer_one_hides_it():
    wall = [[(5, -9, -9), (5, 9, -9), (9, 0, 9)]]
    _, depth = seen(surfaces(wall))
    y = (np.arange(40) + 0.5 - 20) / 30  # z / x along the rays of the middle column is -y
    expected = 7 / (1 + (2 / 9) * y)  # the plane x = 7 + 2 z / 9
    assert depth[10:30, 30] == pytest.approx(expected[10:30], rel=1e-5)
    _, both = seen(surfaces([*wall, [(3, -1, -1), (3, 1, -1), (3, 0, 1)]]))
    assert both[20, 30] == pytest.approx(3.0)
    assert both[20, 2] == pytest.approx(depth[20, 2])


def test_a_triangle_that_reaches_behind_the_camera_is_drawn_up_to_the_edge():
    floor = [[(-5, -20, -1), (-5, 20, -1), (50, 0, -1)]]
    _, depth = seen(surfaces(floor))
    y = (np.arange(40) + 0.5 - 20) / 30
    assert depth[25:, 30] == pytest.approx(1 / y[25:], rel=1e-5)
    assert (depth[:20] == raster.FAR).all()


def test_what_is_transparent_shows_what_is_behind():
    square = [[(3, 1, -1), (3, -1, -1), (3, -1, 1)], [(3, 1, -1), (3, -1, 1), (3, 1, 1)]]
    places = [[(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1), (0, 1)]]
    cutouts = np.full((1, 4, 4, 4), 255, np.uint8)
    cutouts[0, :, :2, 3] = 0  # the left half
    _, depth = seen(surfaces(square, places, raster.CUTOUT, cutouts))
    assert depth[20, 25] == raster.FAR
    assert depth[20, 35] == pytest.approx(3.0)


def test_things_throw_shadows_and_corners_are_darker():
    floor = [[(0, -20, -1), (0, 20, -1), (60, 0, -1)]]
    roof = [[(2, -1, 0.9), (2, 1, 0.9), (6, 0, 0.9)]]
    lit, _ = seen(surfaces(floor))
    shaded, depth = seen(surfaces(floor + roof))
    under = (depth > 2.2) & (depth < 3.5) & (np.arange(40)[:, None] > 22)
    under[:, :28] = under[:, 32:] = False
    assert shaded[under].mean() < 0.7 * lit[under].mean()


CUBE = """mtllib cube.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 1
v 2 0 1
v 2 1 1
v 0 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl red
f 1/1 2/2 3/3 4/4
f 5/1 6/2 7/3 8/4
f 1/1 2/2 6/3 5/4
f 4/1 3/2 7/3 8/4
f -8/1 -5/2 -1/3 -4/4
usemtl glass
f 2 3 7 6
"""
PROPERTIES = "name#{0}=Box {0}\nmodel#{0}=/box/cube.obj\nwidth#{0}=200\ndepth#{0}=80\nheight#{0}=50\ncategory#{0}={1}\n"


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory):
    """A folder with one catalogue of six boxes of which five count, as the Debian package holds them."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "some/box").mkdir(parents=True)
    kinds = ["Living room"] * 3 + ["Exterior"] * 2 + ["Staircases"]
    lines = "".join(PROPERTIES.format(k, kind) for k, kind in enumerate(kinds))
    (folder / "some/PluginFurnitureCatalog.properties").write_text(lines, encoding="latin1")
    (folder / "some/box/cube.obj").write_text(CUBE + "usemtl red\n" + "f 1 2 3\n" * 20)
    (folder / "some/box/cube.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl glass\nKd 1 1 1\nd 0.2\n")
    return folder


def test_models_are_read_in_metres_and_their_glass_is_left_out(catalogues, tmp_path):
    entries = meshes.catalogue(catalogues)
    assert [entry.category for entry in entries] == ["Living room"] * 3 + ["Exterior"] * 2
    triangles, uv, material, materials = meshes.read(entries[0])
    assert len(triangles) == len(uv) == len(material) == 30
    assert np.ptp(triangles, axis=(0, 1)) == pytest.approx([2.0, 0.8, 0.5])
    assert triangles[..., 2].min() == pytest.approx(0)
    assert materials[material[0]].colour == pytest.approx([1, 0, 0])
    library = meshes.pack(catalogues, tmp_path / "library.npz")
    again = meshes.load(tmp_path / "library.npz")
    assert np.array_equal(again.triangles, library.triangles)
    assert again.split(True).tolist() == [0]
    assert again.split(False).tolist() == [1, 2, 3, 4]


def stamp_file(folder):
    """A photograph-like cut-out where the Debian package keeps it: an ellipse of noise."""
    from PIL import Image

    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (240, 300, 4), dtype=np.uint8)
    rows, cols = np.indices((240, 300))
    pixels[..., 3] = 255 * (((rows - 120) / 100) ** 2 + ((cols - 150) / 140) ** 2 < 1)
    (folder / "stamps/animals").mkdir(parents=True)
    path = folder / "stamps/animals/noise.png"
    Image.fromarray(pixels).save(path)
    Image.fromarray(pixels).save(folder / "stamps/animals/other.png")
    return path


def test_cutouts_are_found_and_cropped(tmp_path):
    path = stamp_file(tmp_path)
    assert stamps.find(tmp_path)[0] == path
    pixels, ratio = stamps.load([path], 32)
    assert pixels.shape == (1, 32, 32, 4)
    assert ratio[0] == pytest.approx(200 / 280, rel=0.02)
    assert pixels[0, 16, 16, 3] == 255
    assert pixels[0, 0, 0, 3] == 0


def test_mesh_scenes_come_again_from_their_seed(catalogues, tmp_path):
    library = meshes.pack(catalogues, tmp_path / "library.npz")
    drawn, kinds = textures.atlas(np.random.default_rng(1), count=12)
    path = stamp_file(tmp_path)
    stock = mesh_scenes.Stock(library, library.split(False), drawn.astype(np.float32), kinds, *stamps.load([path], 32))
    found = {}
    for seed in range(40):
        view = mesh_scenes.make(seed, stock, 0.25)
        if view is not None:
            found.setdefault(view[2], (seed, view))
    assert set(found) == {"mesh", "yard"}
    for seed, (rgb, inverse, _) in found.values():
        again = mesh_scenes.make(seed, stock, 0.25)
        assert np.array_equal(rgb, again[0])
        assert np.array_equal(inverse, again[1])
        assert rgb.shape[:2] == inverse.shape
        assert np.isfinite(inverse).all()
        assert np.percentile(inverse, 97) > 1.3 * np.percentile(inverse, 3)


def test_pasted_cutouts_are_nearer_than_what_they_hide():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    inverse = np.linspace(0, 1, 60, dtype=np.float32)[:, None] * np.ones(80, np.float32)
    cutouts = np.full((1, 16, 16, 4), 200, np.uint8)
    cutouts[..., 3] = 255
    pasted, depth = pictures.compose(rng, rgb, inverse, cutouts, np.ones(1))
    changed = depth != inverse
    assert changed.any()
    assert (depth >= inverse).all()
    assert (pasted[~changed] == rgb[~changed]).all()


@pytest.mark.parametrize("shape", [(50, 120), (120, 50), (333, 500), (77, 77)])
def test_views_lie_inside_their_picture(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    for seed in range(20):
        view = pictures.view(np.random.default_rng(seed), picture, whole=seed < 4)
        assert max(view.shape) == pictures.SIDE


def test_views_are_labelled_by_the_teacher_and_held_out_ones_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "names", lambda folder: ["scikit-image/coffee", "scikit-image/brick"])
    cuts = [stamp_file(tmp_path), tmp_path / "stamps/animals/other.png"]
    net = start.DepthNet()
    assert pictures.label_views(tmp_path, tmp_path, net, each=3, cutouts=cuts) == 5
    assert pictures.label_views(tmp_path, tmp_path, net, each=3, cutouts=cuts) == 0
    files = {folder: len([*(tmp_path / folder).glob("*.npz")]) for folder in ("photos", "photos_held_out", "composed")}
    assert files == {"photos": 3, "photos_held_out": 2, "composed": 2}


def test_no_picture_that_measures_is_labelled_or_cut_into_textures():
    known = {f"{package}/{name}" for package, words in pictures.LIBRARY.items() for name in words.split()}
    known |= {f"scikit-image/{name}" for name in pictures.WHEEL}
    keys = {entry["key"] for entry in json.loads(marked.FILE.read_text())}
    assert keys & known <= pictures.HELD_OUT
    assert known >= pictures.HELD_OUT
    assert not {key.split("/")[1] for key in keys} & set(textures.PHOTOGRAPHS)
    assert "stereo_motorcycle" not in textures.PHOTOGRAPHS + pictures.WHEEL


def test_every_source_of_pictures_is_in_the_notice():
    text = (marked.FILE.parents[2] / "NOTICE-depth.txt").read_text()
    for package in [*pictures.LIBRARY, meshes.PACKAGE, stamps.PACKAGE]:
        assert package in text
    for words in pictures.LIBRARY.values():
        for name in words.split():
            assert name.split("/")[-1].split("_by_")[0].removesuffix("_background") in text, name


def step_scene():
    """A near square before a far wall, (120, 160): inverse depth and a picture of it."""
    truth = np.full((120, 160), 0.5)
    truth[30:90, 50:110] = 1.0
    rgb = np.full((120, 160, 3), 60, np.uint8)
    rgb[30:90, 50:110] = 200
    return truth, rgb


def test_boundaries_count_where_the_step_is_and_in_its_direction():
    truth, _ = step_scene()
    assert edges.boundary_f1(3 * truth - 1, truth) > 0.95
    assert edges.boundary_f1(-truth, truth) < 0.1
    assert edges.boundary_f1(np.roll(truth, 12, 1), truth) < 0.8
    assert np.isnan(edges.boundary_f1(truth, np.ones_like(truth)))


def test_regions_that_touch_are_ordered_by_the_map():
    from napari_samdepth.core.depthmap import DepthMap

    truth, rgb = step_scene()
    pairs = edges.touching(truth, rgb, count=20, least=20)
    assert len(pairs.first) > 3
    right, contrast = edges.order(truth, pairs)
    assert right.all()
    assert contrast == pytest.approx(1.0, abs=0.1)
    assert not edges.order(-truth, pairs)[0].any()
    assert edges.label_order(DepthMap(truth, "inverse"), pairs) == (1.0, 0.0, 0.0)
    assert edges.label_order(DepthMap(-truth, "inverse"), pairs) == (0.0, 1.0, 0.0)


def test_marks_are_judged_by_the_order_of_touching_labels(monkeypatch):
    from napari_samdepth.core.depthmap import DepthMap

    mark = {"what": "square, wall", "front": [60, 60], "behind": [60, 40]}
    entry = {"key": "a/b", "size": [120, 160], "licence": "", "pairs": [mark, mark | {"front": [10, 150]}]}
    truth, rgb = step_scene()
    monkeypatch.setattr(marked, "at_hand", lambda folder: [entry])
    monkeypatch.setattr(pictures, "photograph", lambda folder, key, longest: rgb)
    right = marked.judge(lambda image: DepthMap(truth, "inverse"))
    assert (right.right, right.wrong) == (1, 0)
    wrong = marked.judge(lambda image: DepthMap(-truth, "inverse"))
    assert (wrong.right, wrong.wrong) == (0, 1)
    assert wrong.mistakes == ["b (square, wall)"]
    flat = marked.judge(lambda image: DepthMap(np.ones_like(truth), "inverse"))
    assert flat.unsure == 2


def test_ranking_asks_for_steps_in_the_right_direction():
    from training.depth.losses import _ranking

    t = torch.zeros(1, 24, 24)
    t[:, :, 12:] = 1.0
    assert float(_ranking(t, t)) < 1e-6
    assert float(_ranking(torch.zeros_like(t), t)) > 0.3
    assert float(_ranking(-t, t)) > 0.6


def test_large_crops_come_in_small_batches(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    rgb = np.zeros((40, 60, 3), np.uint8)
    cache.save(tmp_path / "a/view.npz", rgb, np.ones((40, 60), np.float32), "room")
    pool = batches.Pool(tmp_path / "a")
    for size, count in (((192, 256), 6), ((320, 416), 2)):
        monkeypatch.setattr(batches, "SIZES", (size,))
        x, y = batches.batch(np.random.default_rng(0), [pool], [1.0], 6)
        assert x.shape == (count, 3, *size)
        assert y.shape == (count, size[0] // 2, size[1] // 2)


def test_a_smoke_run_trains_saves_and_resumes(catalogues, tmp_path, capsys, monkeypatch):
    from training.depth import __main__ as training

    monkeypatch.setattr(cache, "HELD_OUT", range(1))
    for module in (scenes, mesh_scenes):
        monkeypatch.setattr(module, "SHAPES", ((96, 128),))
    monkeypatch.setattr(batches, "SIZES", ((64, 96),))
    monkeypatch.setattr(textures, "atlas", partial(textures.atlas, count=12))
    out, state = tmp_path / "depth.safetensors", tmp_path / "state.pt"
    command = ["train", "--cache", str(tmp_path), "--out", str(out), "--resume", str(state), "--start", str(WEIGHTS)]
    command += ["--models", str(catalogues), "--scenes", "2", "--batch", "2", "--every", "2", "--offline"]
    threads = torch.get_num_threads()
    try:
        for steps in (2, 4):
            monkeypatch.setattr("sys.argv", [*command, "--steps", str(steps)])
            training.main()
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rendered = [line["scenes rendered"] for line in lines if "scenes rendered" in line]
    assert rendered[0] >= 3
    assert [line["step"] for line in lines if "minutes" in line] == [2, 4]
    assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
    assert torch.load(state, weights_only=True)["step"] == 4
    values = BuiltinDepth("cpu", weights=out).estimate(np.zeros((40, 50, 3), np.uint8)).values
    assert np.isfinite(values).all()


@needs_teacher
def test_the_script_for_a_gpu_is_rehearsed_on_the_cpu(catalogues, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx", reason="the training extra is not installed")
    from PIL import Image

    rng = np.random.default_rng(0)
    there = tmp_path / "pictures"
    stamp_file(there)
    (there / "python3-sklearn").mkdir()
    for name in ("china", "flower"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(there / f"python3-sklearn/{name}.jpg")
    monkeypatch.setattr(pictures, "LIBRARY", {"python3-sklearn": "china flower"})
    meshes.pack(catalogues, tmp_path / "library.npz")
    packed, out = tmp_path / "pack.zip", tmp_path / "depth.safetensors"
    folders = ["--pictures", str(there), "--models", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["gpu", "pack", *folders, "--out", str(packed)])
    gpu.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["photographs"], said["cutouts"], said["models"]) == (2, 1, 5)

    class Makers:
        """Stands for the worker processes, which need minutes: two views of their two commands."""

        def __init__(self, folder, workers):
            library = meshes.load(folder / "library.npz")
            assert library.split(True).tolist() == [0]
            assert stamps.find(folder / "pictures")
            view = pictures.photograph(folder / "pictures", "python3-sklearn/china")
            for kind in ("scenes", "photos"):
                (folder / "cache" / kind).mkdir(parents=True)
                inverse = rng.random(view.shape[:2], dtype=np.float32)
                cache.save(folder / "cache" / kind / "view.npz", view, inverse, kind)

        def stop(self):
            """Nothing runs."""

    monkeypatch.setattr(gpu, "Makers", Makers)
    monkeypatch.setattr(batches, "SIZES", ((64, 96),))
    command = [
        "gpu",
        "run",
        "--pack",
        str(packed),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--steps",
        "3",
        "--batch",
        "2",
    ]
    monkeypatch.setattr("sys.argv", [*command, "--least", "2", "--room", "4"])
    gpu.main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["steps"] == 3
    values = BuiltinDepth("cpu", weights=out).estimate(np.zeros((40, 50, 3), np.uint8)).values
    assert np.isfinite(values).all()


def test_workers_are_given_parts_and_ended(tmp_path, monkeypatch):
    called = []

    class Process:
        returncode = 0

        def __init__(self, words, **_):
            called.append(words[words.index("-m") + 1 :])

        def wait(self):
            time.sleep(0.005)
            return 0

        def terminate(self):
            """It has ended."""

    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    makers = gpu.Makers(tmp_path, 2)
    end = time.monotonic() + 30
    while len(called) < 8 and time.monotonic() < end:
        time.sleep(0.01)
    makers.stop()
    labels = [words for words in called if words[0].endswith("pictures")]
    assert sorted(words[words.index("--part") + 1] for words in labels) == ["0", "1"]
    renders = [words for words in called if words[0].endswith("render")]
    asked = {(words[words.index("--first") + 1], "--library" in words) for words in renders}
    assert {("1000", True), ("1000", False), ("1050", True)} <= asked
