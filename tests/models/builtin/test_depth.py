"""The built-in depth estimator: contract, sizes, invariances, quality floors, speed-independent behaviour."""

import numpy as np
import pytest
from skimage import data, transform

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.builtin import depth_builtin
from napari_samdepth.models.builtin.depth_builtin import BuiltinDepth, input_size
from napari_samdepth.models.protocols import DepthEstimator

DX = 31.086  # offset of the motorcycle pair's principal points in pixels: inverse depth ~ disparity + DX


@pytest.fixture(scope="module")
def estimator():
    return BuiltinDepth("cpu")


@pytest.fixture(scope="module")
def motorcycle():
    left, _, disparity = data.stereo_motorcycle()
    return left, np.where(np.isfinite(disparity), disparity + DX, np.nan)


def spearman(a, b):
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def errors(predicted, truth):
    """Spearman, and mean relative error after least-squares scale and shift, over the pixels with a truth."""
    valid = np.isfinite(truth)
    p, t = predicted[valid].astype(float), truth[valid]
    scale, shift = np.polyfit(p, t, 1)
    return spearman(p[::7], t[::7]), float(np.mean(np.abs(scale * p + shift - t) / t))


def test_it_is_a_depth_estimator(estimator):
    assert isinstance(estimator, DepthEstimator)
    assert estimator.name == "builtin"
    assert estimator.device == "cpu"
    assert "CPU" in estimator.device_reason or "cpu" in estimator.device_reason
    assert estimator.model.startswith("builtin-depth:")


def test_the_result_says_what_it_is(estimator):
    dm = estimator.estimate(data.astronaut())
    assert dm.values.shape == (512, 512)
    assert dm.values.dtype == np.float32
    assert (dm.kind, dm.unit, dm.source) == ("inverse", None, estimator.model)


def test_the_map_knows_how_far_it_was_enlarged(estimator):
    picture = data.astronaut()
    assert estimator.estimate(picture).upsampling == pytest.approx(512 / 192)  # the network gives half of 384
    assert estimator.estimate(np.kron(picture, np.ones((2, 2, 1), np.uint8))).upsampling == pytest.approx(1024 / 192)
    assert estimator.estimate(picture[:20, :20]).upsampling == 1


def test_values_run_from_far_0_to_near_1(estimator, motorcycle):
    values = estimator.estimate(motorcycle[0]).values
    assert values.min() >= 0
    assert values.max() <= 1
    assert np.ptp(values) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (33, 31), (40, 900), (900, 40), (1, 2000), (257, 385), (1200, 900)])
def test_any_size_and_aspect(estimator, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    values = estimator.estimate(image).values
    assert values.shape == shape
    assert np.isfinite(values).all()


def test_grey_images_give_depth_too(estimator):
    grey = data.camera()
    values = estimator.estimate(np.dstack([grey] * 3)).values
    assert values.shape == grey.shape
    assert np.ptp(values) > 0


@pytest.mark.parametrize("value", [0, 255])
def test_a_flat_image_gives_finite_values(estimator, value):
    assert np.isfinite(estimator.estimate(np.full((60, 80, 3), value, np.uint8)).values).all()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)],
)
def test_other_arrays_are_refused_in_one_sentence(estimator, wrong):
    with pytest.raises(ModelError, match="uint8"):
        estimator.estimate(wrong)


def test_the_same_image_gives_the_same_depth(estimator):
    image = data.coffee()
    assert np.array_equal(estimator.estimate(image).values, estimator.estimate(image).values)


def test_a_mirror_image_gives_the_mirrored_depth(estimator):
    image = data.coffee()
    straight = estimator.estimate(image).values
    mirrored = estimator.estimate(image[:, ::-1].copy()).values[:, ::-1]
    assert np.abs(straight - mirrored).max() < 0.02 * np.ptp(straight)


def test_the_input_is_left_alone(estimator):
    image = data.coffee()
    image.flags.writeable = False
    before = image.copy()
    estimator.estimate(image)
    assert np.array_equal(image, before)


def test_half_the_size_gives_about_the_same_depth(estimator, motorcycle):
    image, _ = motorcycle
    small = (transform.resize(image, (250, 370), anti_aliasing=True) * 255).astype(np.uint8)
    coarse = estimator.estimate(small).values
    fine = transform.resize(estimator.estimate(image).values, (250, 370), anti_aliasing=True)
    assert spearman(coarse.ravel(), fine.ravel()) > 0.95


def test_the_motorcycle_meets_the_floors_and_beats_the_ramp(estimator, motorcycle):
    image, truth = motorcycle
    rank, error = errors(estimator.estimate(image).values, truth)
    ramp_rank, ramp_error = errors(np.broadcast_to(np.arange(500.0)[:, None], truth.shape), truth)
    assert rank >= 0.70
    assert error <= 0.125
    assert rank > ramp_rank
    assert error < ramp_error


def test_progress_is_told_and_cancelling_stops_the_work(estimator):
    told = []
    estimator.estimate(data.coffee(), report=lambda fraction, what: told.append((fraction, what)))
    assert told[0][0] == 0.0
    assert told[-1][0] == 1.0

    def cancel(fraction, what):
        raise Cancelled

    with pytest.raises(Cancelled):
        estimator.estimate(data.coffee(), report=cancel)


def test_weights_are_small_and_half_precision():
    from safetensors import safe_open

    assert depth_builtin.WEIGHTS.stat().st_size <= 8_000_000
    with safe_open(str(depth_builtin.WEIGHTS), "np") as file:
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"float16"}  # noqa: SIM118


def test_wrong_weights_are_refused_in_one_sentence(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, str(path))
    with pytest.raises(ModelError, match="built-in depth estimator"):
        BuiltinDepth("cpu", weights=path)


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no file"):
        BuiltinDepth("cpu", weights=tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((384, 384), (384, 384)), ((500, 741), (256, 384)), ((10, 10), (384, 384)), ((10, 4000), (64, 768))],
)
def test_input_size_keeps_the_aspect_within_bounds(shape, expected):
    assert input_size(shape) == expected


def test_answers_at_two_sizes_are_averaged_after_a_fit():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    fine = torch.rand(1, 1, 20, 30)
    assert torch.allclose(depth_builtin._fused(fine, 0.1 * fine - 7), fine, atol=1e-5)
    assert torch.equal(depth_builtin._fused(fine, -fine), fine)
    assert torch.allclose(depth_builtin._fused(fine, torch.ones_like(fine)), fine)
    first, second = (fine + 0.1 * torch.randn_like(fine) for _ in range(2))
    error = torch.nn.functional.mse_loss
    assert error(depth_builtin._fused(first, second), fine) < 0.7 * error(first, fine)
