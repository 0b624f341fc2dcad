"""The depth training: caster, scenes, losses, starting weights, and a smoke run of a few steps."""

import json

import numpy as np
import pytest

pytest.importorskip("numba", reason="the training extra is not installed")
torch = pytest.importorskip("torch")

from napari_samdepth.models.builtin.depth_builtin import WEIGHTS, BuiltinDepth  # noqa: E402
from training.depth import cache, measures, scenes, textures  # noqa: E402
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


def test_folding_batch_norms_keeps_what_a_block_computes():
    from training.depth.start import EPS, _fold

    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8, eps=EPS).eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2.0)
    state = {"c.weight": conv.weight.detach()} | {f"n.{k}": v for k, v in norm.state_dict().items()}
    weight, bias = _fold(state, "c", "n")
    x = torch.rand(2, 3, 9, 9)
    assert torch.allclose(torch.nn.functional.conv2d(x, weight, bias), norm(conv(x)), atol=1e-5)


def test_a_smoke_run_trains_saves_and_resumes(tmp_path, capsys, monkeypatch):
    from training.depth import __main__ as training

    monkeypatch.setattr(cache, "HELD_OUT", range(1))
    out, state = tmp_path / "depth.safetensors", tmp_path / "state.pt"
    command = ["train", "--cache", str(tmp_path), "--out", str(out), "--resume", str(state), "--start", str(WEIGHTS)]
    command += ["--scenes", "2", "--photos", "0", "--batch", "2", "--every", "2"]
    threads = torch.get_num_threads()
    try:
        for steps in (2, 4):
            monkeypatch.setattr("sys.argv", [*command, "--steps", str(steps)])
            training.main()
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["scenes rendered"] for line in lines if "scenes rendered" in line] == [3, 0]
    assert [line["step"] for line in lines if "minutes" in line] == [2, 4]
    assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
    assert torch.load(state, weights_only=True)["step"] == 4
    values = BuiltinDepth("cpu", weights=out).estimate(np.zeros((40, 50, 3), np.uint8)).values
    assert np.isfinite(values).all()
