"""One object's prompts through our order of operations, against segment_anything's own decoder: the same bits."""

from __future__ import annotations

from typing import Any

import pytest
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

from napari_samdepth.models.runtime.device import torch_module
from napari_samdepth.models.sam.mask_decoder import _StockOrder, can_fold, is_stock

torch = torch_module()


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture
def features(tiny_sam: Any) -> Any:
    grid = tiny_sam.prompt_encoder.image_embedding_size
    return torch.randn(1, 256, *grid, generator=torch.Generator().manual_seed(5))


def prompted(sam: Any, kind: str) -> tuple[Any, Any]:
    """Return sparse and dense prompts of one object."""
    points = torch.tensor([[[30.0, 41.0], [12.5, 60.0], [50.0, 9.0]]]), torch.tensor([[1, 0, 1]])
    boxes = torch.tensor([[10.0, 12.0, 70.0, 55.0]])
    masks = torch.randn(1, 1, *sam.prompt_encoder.mask_input_size, generator=torch.Generator().manual_seed(6))
    given = {"points": (points, None, None), "box": (None, boxes, None), "mask": (points, boxes, masks)}[kind]
    result: tuple[Any, Any] = sam.prompt_encoder(*given)
    return result


def stock(sam: Any, features: Any, prompts: tuple[Any, Any], several: bool) -> tuple[Any, Any]:
    result: tuple[Any, Any] = sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), *prompts, several)
    return result


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("kind", ["points", "box", "mask"])
def test_every_bit_is_the_stock_decoders(tiny_sam: Any, features: Any, kind: str, several: bool) -> None:
    decoder = _StockOrder(tiny_sam.mask_decoder, tiny_sam.prompt_encoder.get_dense_pe())
    prompts = prompted(tiny_sam, kind)
    for _ in range(2):
        found = decoder(features, *prompts, several, plain=kind != "mask")
        for ours, theirs in zip(found, stock(tiny_sam, features, prompts, several), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_every_bit_is_the_stock_decoders_at_the_size_of_published_checkpoints(count: int) -> None:
    # kernels of torch's libraries, and with them the order of sums, depend on sizes
    torch.manual_seed(3)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    encoder = PromptEncoder(256, (64, 64), (1024, 1024), 16)
    stock_decoder = MaskDecoder(transformer_dim=256, transformer=transformer, iou_head_hidden_dim=256)
    features, positions = torch.randn(1, 256, 64, 64), encoder.get_dense_pe()
    decoder = _StockOrder(stock_decoder, positions)
    points = 1024 * torch.rand(1, count, 2), torch.ones(1, count)
    for mask in (None, torch.randn(1, 1, 256, 256)):
        prompts = encoder(points, None, mask)
        found = decoder(features, *prompts, True, plain=mask is None)
        for ours, theirs in zip(found, stock_decoder(features, positions, *prompts, True), strict=True):
            assert torch.equal(ours, theirs)


def test_an_image_is_looked_at_once_and_not_taken_for_another(
    tiny_sam: Any, features: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = _StockOrder(tiny_sam.mask_decoder, tiny_sam.prompt_encoder.get_dense_pe())
    first = tiny_sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image.v_proj
    looks, forward = [], first.forward
    monkeypatch.setattr(first, "forward", lambda x: looks.append(1) or forward(x))

    def check(image: Any, kind: str, expected: int) -> None:
        looks.clear()
        found = decoder(image, *prompted(tiny_sam, kind), True, plain=kind != "mask")
        assert len(looks) == expected
        assert torch.equal(found[0], stock(tiny_sam, image, prompted(tiny_sam, kind), True)[0])

    other = features + 1
    check(features, "points", 1)
    check(features, "box", 0)
    check(features, "mask", 1)  # a mask changes what is looked at
    check(features, "points", 0)
    check(other, "points", 1)
    check(features, "points", 1)


def test_what_is_kept_does_not_keep_the_image(tiny_sam: Any, features: Any) -> None:
    decoder = _StockOrder(tiny_sam.mask_decoder, tiny_sam.prompt_encoder.get_dense_pe())
    prompts = prompted(tiny_sam, "points")
    image = features + 1
    decoder(image, *prompts, True, plain=True)
    del image
    # a new tensor may get the old one's address, and is another image all the same
    fresh = features + 2
    assert torch.equal(decoder(fresh, *prompts, True, plain=True)[0], stock(tiny_sam, fresh, prompts, True)[0])


def test_hooks_and_other_decoders_are_left_to_themselves(tiny_sam: Any) -> None:
    assert is_stock(tiny_sam.mask_decoder)
    assert can_fold(tiny_sam.mask_decoder)
    assert not is_stock(tiny_sam.prompt_encoder)
    assert not can_fold(tiny_sam.prompt_encoder)
    handle = tiny_sam.mask_decoder.transformer.layers[1].norm4.register_forward_hook(lambda *_args: None)
    try:
        assert not is_stock(tiny_sam.mask_decoder)
        assert not can_fold(tiny_sam.mask_decoder)
    finally:
        handle.remove()
