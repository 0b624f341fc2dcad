"""The built-in depth estimator: contract, sizes, invariances, quality floors, speed-independent behaviour."""

from pathlib import Path

import numpy as np
import pytest
from skimage import data, transform

from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.builtin import depth_builtin
from napari_samdepth.models.builtin.depth_builtin import BuiltinDepth, input_size
from napari_samdepth.models.protocols import DepthEstimator

BUILD = Path(__file__).parents[3] / "build/depth"
OPENCV, PICTURES = BUILD / "opencv-doc", BUILD / "pictures"
"""Where `python -m training.depth.pictures --fetch` puts Debian's packages."""
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
    assert estimator.estimate(picture).upsampling == pytest.approx(512 / 320)  # the network gives half of 640
    assert estimator.estimate(np.kron(picture, np.ones((2, 2, 1), np.uint8))).upsampling == pytest.approx(1024 / 320)
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
    assert spearman(straight.ravel()[::7], mirrored.ravel()[::7]) > 0.97
    assert np.abs(straight - mirrored).mean() < 0.05 * np.ptp(straight)


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
    assert rank >= 0.78
    assert error <= 0.105
    assert rank > ramp_rank
    assert error < ramp_error


@pytest.fixture(scope="module")
def edges():
    """What training measures with; it needs the training extra."""
    pytest.importorskip("numba", reason="the training extra is not installed")
    return pytest.importorskip("training.depth.edges", reason="the training code is not at hand")


def test_the_motorcycle_has_edges_and_its_parts_are_in_order(estimator, motorcycle, edges):
    image, truth = motorcycle
    depth = estimator.estimate(image)
    pairs = edges.touching(truth, image)
    right, contrast = edges.order(depth.values, pairs)
    assert len(right) > 60
    assert right.mean() >= 0.90
    assert contrast >= 0.12
    assert edges.boundary_f1(depth.values, truth) >= 0.36
    of_labels = edges.label_order(depth, pairs)
    assert of_labels[0] >= 0.72
    assert of_labels[1] <= 0.03


@pytest.mark.skipif(not (OPENCV / "usr").exists(), reason="Debian's opencv-doc is not unpacked in build/depth")
def test_the_aloe_has_edges_and_its_leaves_are_in_order(estimator, edges):
    from training.depth.evaluate import aloe

    frame = aloe(OPENCV)
    depth = estimator.estimate(frame.rgb)
    assert edges.order(depth.values, edges.touching(frame.truth, frame.rgb))[0].mean() >= 0.88
    assert edges.boundary_f1(depth.values, frame.truth) >= 0.58


def test_sure_answers_about_things_marked_by_hand_are_right(estimator):
    pytest.importorskip("numba", reason="the training extra is not installed")
    marked = pytest.importorskip("training.depth.marked", reason="the training code is not at hand")
    verdict = marked.judge(estimator.estimate, PICTURES)
    assert verdict.right + verdict.wrong + verdict.unsure >= 45  # 79 with the Debian packages
    assert verdict.sure_right >= 0.95, verdict
    assert verdict.unsure <= 0.2 * (verdict.right + verdict.wrong)


def test_the_motorcycle_takes_little_processor_time(estimator, motorcycle):
    import time

    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spent = []
        for _ in range(3):
            begin = time.process_time()
            estimator.estimate(motorcycle[0])
            spent.append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
    assert min(spent) < 0.3  # 0.08 on an idle core


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

    assert depth_builtin.WEIGHTS.stat().st_size <= 3_000_000
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
    [((640, 640), (640, 640)), ((500, 741), (432, 640)), ((10, 10), (640, 640)), ((10, 4000), (64, 1280))],
)
def test_input_size_keeps_the_aspect_within_bounds(shape, expected):
    assert input_size(shape) == expected


def test_answers_at_two_sizes_are_averaged_after_a_fit():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    fine = torch.rand(1, 1, 20, 30)
    assert torch.allclose(depth_builtin.fused([fine, 0.1 * fine - 7]), fine, atol=1e-5)
    assert torch.equal(depth_builtin.fused([fine, -fine]), fine)
    assert torch.allclose(depth_builtin.fused([fine, torch.ones_like(fine)]), fine)
    first, second = (fine + 0.1 * torch.randn_like(fine) for _ in range(2))
    error = torch.nn.functional.mse_loss
    assert error(depth_builtin.fused([first, second]), fine) < 0.7 * error(first, fine)
