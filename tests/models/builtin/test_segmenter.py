"""The built-in segmenter: the network is SAM's, the adapter keeps the protocol, and the shipped weights find things."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_samdepth.core.candidates import Candidates, MaskInput, Patch
from napari_samdepth.core.errors import ModelError
from napari_samdepth.core.prompts import Prompts
from napari_samdepth.models.builtin.segmenter import WEIGHTS, BuiltinSegmenter, load_builtin
from napari_samdepth.models.protocols import Segmenter

COINS = Path(__file__).parents[2] / "data" / "coins-labels.png"


@pytest.fixture(scope="module")
def segmenter() -> BuiltinSegmenter:
    return load_builtin("cpu")


@pytest.fixture(scope="module")
def coins():
    from skimage import data

    return np.stack([data.coins()] * 3, -1), np.array(Image.open(COINS))


def iou(a, b):
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


def discs(shape, centres, radius, rng):
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = [(y - r) ** 2 + (x - c) ** 2 < radius**2 for r, c in centres]
    picture = 30 + 150 * np.any(truth, axis=0) + rng.normal(0, 6, shape)
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, 2), truth


def test_weights_are_small_and_in_half_precision():
    from safetensors.numpy import load_file

    assert WEIGHTS.stat().st_size <= 20e6
    kinds = {name: value.dtype for name, value in load_file(WEIGHTS).items()}
    assert {str(kind) for name, kind in kinds.items() if "gaussian" not in name} == {"float16"}


def test_it_is_a_segmenter(segmenter):
    assert isinstance(segmenter, Segmenter)
    assert segmenter.name == "builtin"
    assert segmenter.device == "cpu"
    assert segmenter.model.startswith("builtin:")


def test_decoder_computes_what_segment_anything_computes(segmenter):
    import torch
    from segment_anything.modeling import MaskDecoder

    torch.manual_seed(0)
    sam = segmenter.network
    features, pe = torch.randn(1, 256, 32, 32), sam.prompt_encoder.get_dense_pe()
    points = torch.rand(3, 2, 2) * 256, torch.tensor([[1, 0], [1, 1], [0, 1]])
    for mask in (None, torch.randn(3, 1, 128, 128)):
        sparse, dense = sam.prompt_encoder(points, None, mask)
        ours = sam.mask_decoder.predict_masks(features, pe, sparse, dense)
        theirs = MaskDecoder.predict_masks(sam.mask_decoder, features, pe, sparse, dense)
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_decoder_takes_several_images_at_once(segmenter):
    import torch

    torch.manual_seed(0)
    sam = segmenter.network
    features, pe = torch.randn(2, 256, 32, 32), sam.prompt_encoder.get_dense_pe()
    sparse, dense = sam.prompt_encoder((torch.rand(6, 1, 2) * 256, torch.ones(6, 1)), None, None)
    together = sam.mask_decoder.predict_masks(features, pe, sparse, dense)
    for image in range(2):
        own = slice(3 * image, 3 * image + 3)
        alone = sam.mask_decoder.predict_masks(features[image : image + 1], pe, sparse[own], dense[own])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[own], b, rtol=1e-4, atol=1e-3)


def test_runs_in_an_unmodified_sam_predictor(segmenter, coins):
    from segment_anything import SamPredictor

    rgb, labels = coins
    predictor = SamPredictor(segmenter.network)
    predictor.set_image(rgb)
    masks, scores, low = predictor.predict(np.array([[334, 43]]), np.array([1]))
    assert masks.shape == (3, *labels.shape)
    assert low.shape == (3, 128, 128)
    assert iou(masks[scores.argmax()], labels == labels[43, 334]) > 0.6


def test_every_coin_within_three_clicks(segmenter, coins):
    from training.segmenter.judge import judge

    rgb, labels = coins
    embedding = segmenter.encode(rgb)
    reached = [max(judge(segmenter, embedding, labels == i, clicks=3, box=False).clicks) for i in range(1, 25)]
    assert min(reached) >= 0.85


@pytest.mark.parametrize("shape", [(64, 64), (500, 741), (300, 90), (61, 400), (1500, 1201)])
def test_candidates_cover_the_image(segmenter, shape):
    rng = np.random.default_rng(0)
    at = (shape[0] // 2 + 3, shape[1] // 2 - 5)
    rgb, truth = discs(shape, [at], 14, rng)
    found = segmenter.decode(segmenter.encode(rgb), Prompts([at]))
    assert len(found) == 3
    assert found.masks.shape == (3, *shape)
    assert found.best == found.scores.argmax()
    assert iou(found.masks[found.best], truth[0]) > 0.8


def test_small_object_in_a_large_image(segmenter):
    rng = np.random.default_rng(1)
    centres = [(r, c) for r in range(40, 4080, 90) for c in range(40, 4080, 90)]
    y, x = np.mgrid[-10:11, -10:11]
    disc = y**2 + x**2 < 81
    picture = rng.normal(30, 6, (4096, 4096)).astype(np.float32)
    for r, c in centres:
        picture[r - 10 : r + 11, c - 10 : c + 11] += 130 * disc
    rgb = np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    r, c = centres[len(centres) // 3]
    found = segmenter.decode(segmenter.encode(rgb), Prompts([(r, c)]))
    patch = found.patch()
    truth = np.zeros((4096, 4096), bool)
    truth[r - 10 : r + 11, c - 10 : c + 11] = disc
    assert iou(patch.full((4096, 4096)), truth) > 0.8
    assert max(found.logits.shape) <= 512


@pytest.mark.parametrize("number", [5, 18])
def test_large_object_in_a_large_image(segmenter, coins, number):
    """The first view lies within the coin and shows nothing that ends."""
    rgb, labels = coins
    times = 14
    large = np.asarray(
        Image.fromarray(rgb).resize((rgb.shape[1] * times, rgb.shape[0] * times), Image.Resampling.BICUBIC)
    )
    truth = labels == number
    middle = np.argwhere(truth).mean(0) * times
    found = segmenter.decode(segmenter.encode(large), Prompts([tuple(middle)]))
    mask = found.patch().full(large.shape[:2])
    assert iou(mask[times // 2 :: times, times // 2 :: times], truth) > 0.85


@pytest.mark.parametrize("canvas", [False, True])
def test_what_is_fed_back_means_the_same_in_another_process(segmenter, coins, tmp_path, canvas):
    rgb, labels = coins
    embedding = segmenter.encode(rgb)
    first = segmenter.decode(embedding, Prompts([(43, 334)]))
    fed = MaskInput(first.logits[first.best]) if canvas else first.feedback[first.best]
    second = segmenter.decode(embedding, Prompts([(43, 334), (30, 330)], mask=fed))
    assert len(second) == 1
    assert iou(second.masks[0], labels == labels[43, 334]) > 0.85
    for _ in range(70):  # whatever the segmenter may have kept of the first decode is forgotten by now
        segmenter.decode(embedding, Prompts([(193, 212)]))
    np.savez(tmp_path / "fed.npz", rgb=rgb, logits=fed.logits, window=fed.window or ())
    code = (
        "import sys, numpy as np, napari_samdepth as sd\n"
        "from napari_samdepth.core.candidates import MaskInput\n"
        "given = np.load(sys.argv[1])\n"
        "fed = MaskInput(given['logits'], tuple(given['window'].tolist()) or None)\n"
        "segmenter = sd.load_segmenter('builtin', device='cpu')\n"
        "prompts = sd.Prompts([(43, 334), (30, 330)], mask=fed)\n"
        "found = segmenter.decode(segmenter.encode(given['rgb']), prompts)\n"
        "np.savez(sys.argv[2], masks=found.masks, logits=found.logits)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "fed.npz", tmp_path / "out.npz"], check=True)
    fresh = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(fresh["masks"], second.masks)
    again = segmenter.decode(embedding, Prompts([(43, 334), (30, 330)], mask=fed))
    np.testing.assert_array_equal(again.logits, second.logits)


def test_refuses_masks_that_are_not_its_own(segmenter, coins):
    embedding = segmenter.encode(coins[0])
    for fed in (
        MaskInput(np.zeros((256, 256)), (0, 0, 40, 40)),
        MaskInput(np.zeros((128, 128)), (0, 0, 40, 50)),
        MaskInput(np.zeros((128, 128)), (900, 0, 940, 40)),
    ):
        with pytest.raises(ModelError, match="click anew"):
            segmenter.decode(embedding, Prompts([(43, 334)], mask=fed))


def test_a_mask_at_image_resolution_is_a_prompt(segmenter, coins):
    rgb, labels = coins
    truth = labels == labels[193, 212]
    embedding = segmenter.encode(rgb)
    for mask in (truth, Patch.of(truth)):
        found = segmenter.decode(embedding, Prompts([(193, 212)], mask=mask))
        assert iou(found.masks[0], truth) > 0.85
    with pytest.raises(ModelError, match="lies outside"):
        segmenter.decode(embedding, Prompts(mask=Patch(np.ones((3, 3), bool), (rgb.shape[0] - 1, 0))))


def test_a_scribble_and_a_lasso_find_the_coin(segmenter, coins):
    rgb, labels = coins
    truth = labels == labels[193, 212]
    rows, cols = np.nonzero(truth)
    embedding = segmenter.encode(rgb)
    path = np.linspace((193, cols.min() + 4), (193, cols.max() - 4), 30)
    beside = np.linspace((rows.max() + 4, cols.min()), (rows.max() + 4, cols.max()), 9)
    around = [(rows.min() - 3, 212), (193, cols.max() + 3), (rows.max() + 3, 212), (193, cols.min() - 3)]
    for prompts in (
        Prompts(scribbles=[path]),
        Prompts(scribbles=[path, beside], scribble_labels=[1, 0]),
        Prompts(lasso=around),
    ):
        found = segmenter.decode(embedding, prompts)
        assert len(found) == 1
        assert iou(found.masks[0], truth) > 0.85


def test_logits_of_unknown_origin_are_used(segmenter, coins):
    rgb, labels = coins
    truth = labels == labels[193, 212]
    canvas = np.where(truth, 8.0, -8.0).astype(np.float32)
    found = segmenter.decode(segmenter.encode(rgb), Prompts([(193, 212)], mask=canvas))
    assert iou(found.masks[0], truth) > 0.85


def test_canvas_and_patch_tell_the_same_mask(segmenter, coins):
    rgb, _ = coins
    found = segmenter.decode(segmenter.encode(rgb), Prompts([(193, 212)]))
    coarse = Candidates(found.logits, found.scores, found.frame)
    assert iou(found.masks[found.best], coarse.masks[found.best]) > 0.95


def test_canvas_there_and_back():
    import torch

    from napari_samdepth.models.builtin.segmenter_views import OUTSIDE, View, from_canvas, to_canvas

    view = View.around((90.0, 200.0), 100, (240, 300))
    y, x = torch.meshgrid(torch.linspace(-6, 6, 128), torch.linspace(-4, 4, 128), indexing="ij")
    canvas = to_canvas((y + x)[None], view, (240, 300))[0]
    assert (canvas[:40] == OUTSIDE).all()
    back = from_canvas(canvas, view)
    assert (back - (y + x))[4:-4, 4:-4].abs().max() < 0.2


def test_embedding_without_local_parts_decodes_the_same(segmenter, coins):
    from napari_samdepth.core.embedding import Embedding

    rgb, _ = coins
    made = segmenter.encode(rgb)
    stored = Embedding(dict(made.features), made.image_shape, made.input_size, made.model)
    prompts = Prompts([(123, 205)])
    a, b = segmenter.decode(made, prompts), segmenter.decode(stored, prompts)
    np.testing.assert_array_equal(a.logits, b.logits)


def test_many_points_at_once(segmenter, coins):
    rgb, _ = coins
    embedding = segmenter.encode(rgb)
    points = np.array([[43.0, 334.0], [193.0, 212.0]])
    logits, scores, frame = segmenter.point_masks(embedding, points)
    assert logits.shape == (2, 3, 128, 128)
    assert scores.shape == (2, 3)
    assert frame.image_shape == rgb.shape[:2]
    alone, _, _ = segmenter.point_masks(embedding, points[1:])
    np.testing.assert_allclose(logits[1:], alone, atol=1e-2)


def test_refuses_what_is_not_its_own(segmenter, coins, tmp_path):
    from dataclasses import replace

    from safetensors.numpy import save_file

    rgb, _ = coins
    embedding = segmenter.encode(rgb)
    with pytest.raises(ModelError, match="encode the image again"):
        segmenter.decode(replace(embedding, model="vit_b:0"), Prompts([(1, 1)]))
    with pytest.raises(ModelError, match="uint8"):
        segmenter.encode(rgb.astype(float))
    save_file({"a": np.zeros(3, np.float16)}, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        load_builtin("cpu", weights=tmp_path / "odd.safetensors")
