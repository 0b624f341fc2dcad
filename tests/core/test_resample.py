"""Resampling inside a box, number for number as torch does it for whole images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.resample import Frame, logits_in_box, mask_to_logits, positive_box, resize_box, round_as

torch = pytest.importorskip("torch")


def by_torch(values, shape):
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    return torch.nn.functional.interpolate(tensor, shape, mode="bilinear", align_corners=False)[0, 0].numpy()


round_as(by_torch)


def by_torch_through_frame(logits, frame):
    """As segment_anything's postprocess_masks: up to the model's input, padding off, to the image."""
    middle = by_torch(logits, frame.input_size)[: frame.valid_size[0], : frame.valid_size[1]]
    return by_torch(middle, frame.image_shape)


def sam_frame(image_shape, side=1024):
    scale = side / max(image_shape)
    valid = (int(image_shape[0] * scale + 0.5), int(image_shape[1] * scale + 0.5))
    return Frame(image_shape=image_shape, input_size=(side, side), valid_size=valid)


def noise(shape=(256, 256), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("target", [(64, 64), (128, 200), (33, 47), (256, 256), (500, 741), (1, 1), (7, 1024)])
@pytest.mark.parametrize("source", [(64, 64), (37, 90), (1, 5)])
def test_whole_images_as_torch(source, target):
    values = noise(source)
    ours = resize_box(values, source, target, (0, 0, *target))
    theirs = by_torch(values, target)
    assert ours.dtype == np.float32
    assert ours.shape == target
    # up to H + W = 128 torch takes another kernel, whose source positions are rounded differently in the last bit
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 if sum(target) > 128 else 5e-5)


@pytest.mark.parametrize("box", [(0, 0, 5, 9), (17, 40, 100, 41), (99, 180, 128, 200), (50, 60, 51, 61)])
def test_a_box_is_a_piece_of_the_whole(box):
    values = noise((64, 64))
    whole = resize_box(values, (64, 64), (128, 200), (0, 0, 128, 200))
    piece = resize_box(values, (64, 64), (128, 200), box)
    np.testing.assert_array_equal(piece, whole[box[0] : box[2], box[1] : box[3]])


def test_a_part_of_the_source_will_do():
    values = noise((64, 64))
    box = (60, 80, 90, 120)
    part = resize_box(values[20:50, 15:45], (64, 64), (128, 200), box, origin=(20, 15))
    np.testing.assert_array_equal(part, resize_box(values, (64, 64), (128, 200), box))


@pytest.mark.parametrize("image_shape", [(500, 741), (741, 500), (1024, 1024), (303, 384), (2048, 1500), (37, 1001)])
def test_masks_are_torch_s_masks(image_shape):
    frame = sam_frame(image_shape)
    logits = noise((256, 256), seed=4)
    ours = logits_in_box(logits, frame, (0, 0, *image_shape))
    theirs = by_torch_through_frame(logits, frame)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(ours > 0, theirs > 0)


@pytest.mark.parametrize("image_shape", [(500, 741), (741, 500), (100, 90), (1500, 2048), (40, 1001)])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_lies_outside_the_positive_box(image_shape, seed):
    """Also for single cells at the canvas's rim, which reach farthest for their size."""
    rng = np.random.default_rng(seed)
    frame = sam_frame(image_shape)
    valid = [max(1, int(256 * frame.valid_size[axis] / 1024)) for axis in (0, 1)]
    logits = np.full((256, 256), -3, dtype=np.float32)
    row, col = rng.integers(valid[0]), rng.integers(valid[1])
    # as strong as to outlast a reduction in size
    logits[row : row + rng.integers(1, 9), col : col + rng.integers(1, 9)] = 500
    whole = by_torch_through_frame(logits, frame) > 0
    box = positive_box(logits, frame)
    assert box is not None
    inside = np.zeros(image_shape, dtype=bool)
    inside[box[0] : box[2], box[1] : box[3]] = True
    assert whole.any()
    assert not (whole & ~inside).any()
    # and it is not just the whole image
    assert inside.sum() < 0.2 * inside.size


def test_positive_box_of_nothing():
    frame = sam_frame((500, 741))
    assert positive_box(np.full((256, 256), -1, np.float32), frame) is None
    # positive in the padding only
    logits = np.full((256, 256), -1, np.float32)
    logits[230:] = 1
    assert positive_box(logits, frame) is None


def test_positive_box_follows_the_threshold():
    logits = np.zeros((64, 64), dtype=np.float32)
    logits[10:20, 10:20] = 2
    logits[40:50, 40:50] = 1
    frame = Frame.whole((64, 64), (64, 64))
    low, high = positive_box(logits, frame, 0.5), positive_box(logits, frame, 1.5)
    assert low is not None
    assert high is not None
    assert high[2] < 40 < low[2]


@pytest.mark.parametrize("image_shape", [(300, 200), (200, 300), (256, 256)])
def test_a_mask_survives_the_way_to_logits_and_back(image_shape):
    rows, cols = np.indices(image_shape)
    mask = np.hypot(rows - 0.4 * image_shape[0], cols - 0.6 * image_shape[1]) < 0.25 * min(image_shape)
    frame = sam_frame(image_shape)
    logits = mask_to_logits(mask, frame, (256, 256))
    assert logits.shape == (256, 256)
    assert logits.dtype == np.float32
    assert np.abs(logits).max() <= 8
    back = logits_in_box(logits, frame, (0, 0, *image_shape)) > 0
    assert (back & mask).sum() / (back | mask).sum() > 0.98


@pytest.mark.parametrize("sizes", [((0, 4), (4, 4), (4, 4)), ((4, 4), (4, 0), (4, 4)), ((4, 4), (4, 4), (0, 4))])
def test_frame_refuses_empty_sizes(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        Frame(*sizes)


def test_frame_refuses_more_picture_than_input():
    with pytest.raises(ValueError, match="fit into"):
        Frame((4, 4), (8, 8), (9, 8))
