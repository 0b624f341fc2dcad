"""The segmenter's training: it runs, resumes and learns; its data and split are what they claim to be."""

import json

import numpy as np
import pytest
import torch

from training.segmenter import __main__ as command
from training.segmenter import baselines, cache, judge, losses, prompts, split, train
from training.segmenter.bfloat import ROWS, Bfloat16Products
from training.segmenter.stages import STAGES, Stage
from training.segmenter.windows import Pool, draw_window


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    cache.fill(root, {"fluorescence": 2, "composed": 1, "raycast": 2})
    return root


@pytest.mark.parametrize("family", list(cache.FAMILIES))
def test_samples_are_labelled_and_repeatable(family):
    rgb, labels = cache.make_sample(family, 3)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (*labels.shape, 3)
    assert any(cache.make_sample(family, number)[1].max() >= 1 for number in range(3, 7))  # even ground has no regions
    again, same = cache.make_sample(family, 3)
    np.testing.assert_array_equal(rgb, again)
    np.testing.assert_array_equal(labels, same)


def test_windows_hold_their_objects(samples):
    pool = Pool(None, [], samples)
    rng = np.random.default_rng(0)
    for _ in range(12):
        window = draw_window(rng, pool, 4)
        assert window.image.shape == (3, 256, 256)
        assert window.image.min() >= 0
        assert window.image.max() <= 255
        assert window.masks.shape == (4, 256, 256)
        assert all(mask.max() > 0.5 or mask.min() < 0 for mask in window.masks)


def test_first_clicks_lie_in_the_object():
    rng = np.random.default_rng(0)
    mask = np.zeros((256, 256), np.float32)
    mask[100:140, 60:200] = 1
    for _ in range(30):
        points, labels = prompts.first_prompt(rng, mask)
        if labels[0] == prompts.FOREGROUND:
            assert mask[int(points[0][1]), int(points[0][0])] == 1
        else:
            assert labels == [prompts.CORNER_A, prompts.CORNER_B]


def test_corrective_click_goes_where_the_mask_is_most_wrong():
    rng = np.random.default_rng(0)
    truth = np.zeros((128, 128), bool)
    truth[20:60, 20:60] = True
    shown = truth.copy()
    shown[20:60, 40:60] = False
    shown[100:104, 100:104] = True
    (x, y), label = prompts.corrective_click(rng, truth & ~shown, shown & ~truth)
    assert label == prompts.FOREGROUND
    assert 40 <= x / 2 < 60
    assert 20 <= y / 2 < 60


def test_embedding_of_prompts_is_segment_anythings():
    from napari_samdepth.models.builtin.segmenter_net import build

    encoder = build().prompt_encoder
    points = torch.tensor([[[30.0, 40.0], [0.0, 0.0]]])
    ours = prompts.embed(encoder, points, torch.tensor([[1, prompts.PAD]]))
    theirs, _ = encoder((points[:, :1], torch.ones(1, 1)), None, None)
    torch.testing.assert_close(ours, theirs)
    corners = torch.tensor([[[10.0, 20.0], [50.0, 70.0]]])
    ours = prompts.embed(encoder, corners, torch.tensor([[prompts.CORNER_A, prompts.CORNER_B]]))
    theirs, _ = encoder(None, corners.reshape(1, 4), None)
    torch.testing.assert_close(ours, theirs)


def test_loss_prefers_the_right_mask():
    target = torch.zeros(1, 128, 128)
    target[:, 30:60, 30:60] = 1
    right = (target[:, None] * 2 - 1) * 8
    both = torch.cat([right, -right], 1)
    each = losses.mask_loss(both, target)
    assert each[0, 0] < 0.05
    assert each[0, 1] > 1
    torch.testing.assert_close(losses.iou(both, target), torch.tensor([[1.0, 0.0]]))


def test_smoke_run_trains_resumes_and_exports(samples, tmp_path):
    out = tmp_path / "run.pt"
    arguments = ["--cache", str(samples), "--samples", "0", "--out", str(out), "--random-start", "--windows", "1"]
    command.main([*arguments, "--prompts", "2", "--steps", "2"])
    first = torch.load(out, weights_only=True)
    assert first["step"] == 2
    assert np.isfinite(first["log"]).all()
    command.main([*arguments, "--prompts", "2", "--steps", "3"])
    second = torch.load(out, weights_only=True)
    assert second["step"] == 3
    assert second["seconds"] > first["seconds"]
    moved = [k for k, v in second["sam"].items() if not torch.equal(v, first["sam"][k])]
    assert any(k.startswith("image_encoder.trunk") for k in moved)
    assert any(k.startswith("mask_decoder") for k in moved)
    command.main(["--export", str(out), str(tmp_path / "w.safetensors")])
    from napari_samdepth.models.builtin.segmenter import load_builtin

    assert load_builtin("cpu", weights=tmp_path / "w.safetensors").model.startswith("builtin:")


def test_a_few_steps_on_one_window_lower_its_loss(samples):
    run = train.start(0, pretrain=False)
    pool = Pool(None, [], samples)

    def loss():
        run.rng = np.random.default_rng(5)
        return train.batch_loss(run, pool, 1, 2)

    before = loss()
    for _ in range(6):
        run.optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(run.sam.parameters(), 2.0)
        run.optimizer.step()
    assert loss() < before


def test_products_in_bfloat16_are_near_those_in_float32():
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 48)
    x = torch.randn(2, ROWS, 32, requires_grad=True)

    def gradients():
        out = layer(x).sin()
        return out.detach(), *torch.autograd.grad(out.sum(), [x, layer.weight, layer.bias])

    exact = gradients()
    with Bfloat16Products():
        coarse = gradients()
    for a, b in zip(exact, coarse, strict=True):
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999
    with Bfloat16Products():
        assert torch.equal(layer(x[0, :8]), torch.nn.functional.linear(x[0, :8], layer.weight, layer.bias))


def test_merged_checkpoints_hold_the_mean_and_go_on(samples, tmp_path):
    runs = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for path, shift in zip(runs, (0.0, 1.0), strict=True):
        run = train.start(0, pretrain=False)
        run.average = {name: value + shift for name, value in run.average.items()}
        train.save(run, path)
    out = tmp_path / "both.pt"
    command.main(["--merge", *map(str, runs), "--out", str(out)])
    first, mean = (torch.load(path, weights_only=True) for path in (runs[0], out))
    for name, value in first["average"].items():
        torch.testing.assert_close(mean["average"][name], value + 0.5)
        torch.testing.assert_close(mean["sam"][name], value + 0.5)
    command.main(["--cache", str(samples), "--samples", "0", "--random-start", "--windows", "1", "--prompts", "2",
                  "--bfloat16", "--stage", "plain", "--steps", "1", "--out", str(out)])  # fmt: skip
    assert torch.load(out, weights_only=True)["step"] == 1


def test_a_plain_stage_keeps_brightness(samples):
    pool = Pool(None, [], samples, Stage({"fluorescence": 1.0}, plain=1.0))
    kept = [draw_window(np.random.default_rng(n), pool, 1).image for n in range(3)]
    jittered = Pool(None, [], samples, Stage({"fluorescence": 1.0}))
    assert any(not torch.equal(a, draw_window(np.random.default_rng(n), jittered, 1).image) for n, a in enumerate(kept))
    assert all(abs(sum(stage.sources.values()) - 1) < 1e-9 for stage in STAGES.values())


def test_rate_rises_and_falls():
    run = train.start(0, pretrain=False)
    rates = []
    for step, progress in ((0, 0.0), (train.WARM_UP, 0.01), (500, 0.5), (999, 1.0)):
        run.step = step
        train.set_rate(run, progress)
        rates.append(run.optimizer.param_groups[0]["lr"])
    assert rates[0] < rates[1] > rates[2] > rates[3] > 0


def test_split_is_seeded_whole_and_without_overlap(shared_dir):
    index = json.loads((shared_dir / "data/dsb2018/index.json").read_text())
    parts = split.read_split()
    assert parts == split.make_split(index)
    ids = [name for part in parts.values() for name in part]
    assert len(ids) == len(set(ids)) == len(index)
    assert 0.13 < len(parts["test"]) / len(index) < 0.17


def test_judge_clicks_centres_then_errors():
    truth = np.zeros((50, 60), bool)
    truth[10:31, 20:41] = True
    assert judge.centre(truth) == (20, 30)
    shown = truth.copy()
    shown[10:31, 34:41] = False
    at, label = judge.corrective(shown, truth)
    assert label == 1
    assert truth[at]
    assert not shown[at]
    assert judge.corrective(truth, truth) is None
    assert judge.overlap(truth, shown) == pytest.approx(shown.sum() / truth.sum())


def test_baselines_find_a_bright_disc():
    y, x = np.mgrid[:120, :120]
    truth = (y - 60) ** 2 + (x - 50) ** 2 < 200
    rgb = np.repeat((20 + 180 * truth).astype(np.uint8)[..., None], 3, 2)
    assert baselines.region_under(baselines.otsu_watershed(rgb), truth) > 0.9
    assert baselines.random_walker_clicks(rgb, truth, 2)[-1] > 0.8
