"""Layers whose deviations from the mean go through in bfloat16, against the same layers in float32."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from napari_samdepth.models.depth.mean_subtraction import subtract_means
from napari_samdepth.models.runtime.device import torch_module

torch = torch_module()

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (1, 3), "padding": (0, 1), "bias": False},
    {"kernel_size": 5, "padding": 2, "dilation": 2},
    {"kernel_size": 4, "stride": 4},
]


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def different(found: Any, exact: Any) -> float:
    """Return the difference as a share of how much the exact values differ from place to place."""
    spread = exact - exact.mean(dim=tuple(range(1, exact.ndim)), keepdim=True)
    return float((found - exact).norm() / spread.norm())


@pytest.fixture(params=["linear", *range(len(CONVOLUTIONS))], ids=str)
def layer_and_input(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A layer in a network, and an input whose places share much and differ little."""
    torch.manual_seed(3)
    if request.param == "linear":
        return torch.nn.Sequential(torch.nn.Linear(96, 80)), 5 + 0.1 * torch.randn(1, 300, 96)
    network = torch.nn.Sequential(torch.nn.Conv2d(72, 64, **CONVOLUTIONS[request.param]))
    shared = torch.randn(1, 72, 1, 1) * 5
    return network.to(memory_format=torch.channels_last), shared + 0.1 * torch.randn(1, 72, 21, 26)


def inner(values: Any) -> Any:
    """Return values per channel, away from the edges, where what is shared differs from place to place as well."""
    if values.ndim == 3:
        return values[0].T
    return values[0, :, 2:-2, 2:-2].flatten(1) if values.shape[-1] > 9 else values[0].flatten(1)


def test_what_differs_from_place_to_place_survives(layer_and_input: tuple[Any, Any]) -> None:
    network, x = layer_and_input
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        usual = different(inner(network(x).float()), inner(exact))
    subtract_means(network)
    found = network(x)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert not torch.equal(found, exact)
    assert different(inner(found), inner(exact)) < min(0.005, usual / 5)
    assert torch.allclose(found, exact, atol=0.05)


def test_the_same_everywhere_is_as_in_float32(layer_and_input: tuple[Any, Any]) -> None:
    network, x = layer_and_input
    flat = x[:, :, :1, :1].expand_as(x) if x.ndim == 4 else x[:, :1].expand_as(x)
    exact = network(flat)
    subtract_means(network)
    assert torch.allclose(network(flat), exact, atol=2e-4)


def test_several_images_at_once(layer_and_input: tuple[Any, Any]) -> None:
    network, x = layer_and_input
    both = torch.cat([x, x.flip(1) + 0.2])
    exact = network(both)
    subtract_means(network)
    assert different(network(both), exact) < 0.02


def test_a_tensor_that_changed_is_centred_anew() -> None:
    first, second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
    network = torch.nn.ModuleList([first, second])
    x = torch.randn(1, 40, 64)
    expected = first(x), second(x + 3)
    subtract_means(network)
    assert torch.allclose(first(x), expected[0], atol=0.03)
    x += 3
    assert torch.allclose(second(x), expected[1], atol=0.03)


def test_what_is_small_or_of_another_kind_stays() -> None:
    class Own(torch.nn.Linear):  # type: ignore[misc, name-defined]
        """Something that computes differently."""

    kept = torch.nn.ModuleList(
        [
            torch.nn.Linear(64, 31),
            torch.nn.Conv2d(64, 64, 1),
            torch.nn.Conv2d(64, 64, 3, groups=64),
            torch.nn.Conv2d(64, 64, 3, padding="same"),
            torch.nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
            torch.nn.ConvTranspose2d(64, 64, 2),
            Own(64, 64),
        ]
    )
    subtract_means(kept)
    assert not any("forward" in vars(module) for module in kept)


def test_a_network_is_let_go_of_at_once() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(64, 64))
    subtract_means(network)
    network(torch.randn(2, 64))
    gone = weakref.ref(network[0])
    gc.disable()
    try:
        del network
        assert gone() is None
    finally:
        gc.enable()
