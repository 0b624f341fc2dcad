"""What the adapters share: a named network on a device, and the way to the CPU when a GPU's memory is full."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from napari_samdepth.core.embedding import Embedding
from napari_samdepth.core.errors import Cancelled, ModelError, UserError
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import (
    Device,
    cpu_after_out_of_memory,
    empty_cache,
    first_line,
    is_out_of_memory,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")
M = TypeVar("M", bound="TorchModel")


class TorchModel:
    """A network that has a name, an identity and a device, and goes on on the CPU when a GPU runs out of memory.

    Attributes
    ----------
    fits
        Whether its parts are known to go together. Where they are not, as in a folder of the user's, any failure is the
        folder's and is told as such; elsewhere it is a fault of the program's.
    """

    fits = True

    def __init__(self, network: Any, name: str, identity: str, device: Device) -> None:
        """Take over `network`, which is on `device` or will be moved there.

        Parameters
        ----------
        network
            A torch module in eval mode.
        name
            What the user calls it.
        identity
            Of the network and its weights.
        device
            Where it runs.
        """
        self._network = network
        self._name = name
        self._identity = identity
        self._device = device

    @property
    def name(self) -> str:
        """Catalog name, or name of the file or folder."""
        return self._name

    @property
    def model(self) -> str:
        """Identity of the network and its weights."""
        return self._identity

    @property
    def device(self) -> str:
        """Torch device in use."""
        return self._device.name

    @property
    def device_reason(self) -> str:
        """One sentence: why this device."""
        return self._device.reason

    @property
    def network(self) -> Any:
        """The network itself, for those who compare with other tools."""
        return self._network

    @property
    def nbytes(self) -> int:
        """Bytes of the network's weights in memory, 0 once it is closed."""
        if isinstance(self._network, _Closed):
            return 0
        tensors = (*self._network.parameters(), *self._network.buffers())
        return int(sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    def close(self) -> None:
        """Let go of the network's memory; whoever uses the model afterwards gets a ModelError. Twice is no harm."""
        self._network = _Closed(self._name)
        self._moved()
        if self._device.is_gpu:
            empty_cache(self._device.name)

    def move(self, device: Device) -> None:
        """Move the network to `device`; where a GPU's memory does not hold it, go on on the CPU and say so."""
        before, self._device = self._device, device
        try:
            self._with_fallback("loading the model", lambda: self._network.to(self._device.name))
        except BaseException:
            self._device = before
            raise
        self._moved()

    def _moved(self) -> None:
        """Forget what lies on the device before; subclasses fill it in."""

    def _check_own(self, embedding: Embedding) -> None:
        """Raise ModelError where an embedding was made by another model."""
        if embedding.model != self._identity:
            raise ModelError(
                f"This embedding was made by {embedding.model}, not by {self._identity}; encode the image again."
            )

    def _check_finite(self, *results: Any) -> None:
        """Refuse tensors or arrays with NaN or infinities, which damaged weights compute of any image."""
        for result in results:
            finite = np.isfinite(result) if isinstance(result, np.ndarray) else result.isfinite()
            if finite.all():
                continue
            raise ModelError(
                f"{self._name} gives no finite numbers for this image, so its weights are damaged or of another "
                "network; choose another model."
            )

    def _with_fallback(self, doing: str, run: Callable[[], T]) -> T:
        """Run, and where a GPU's memory is not enough, move to the CPU, say so and run there.

        Raises
        ------
        ModelError
            If network, weights and processor do not go together (see `fits`).
        """
        try:
            return self._explained(doing, run)
        except RuntimeError as error:
            if not (self._device.is_gpu and is_out_of_memory(error)):
                raise
        self._device = cpu_after_out_of_memory(self._device, doing)
        self._network.to("cpu")
        self._moved()
        return self._explained(doing, run)

    def _explained(self, doing: str, run: Callable[[], T]) -> T:
        try:
            return run()
        except (UserError, Cancelled):
            raise
        except Exception as error:
            if self.fits or is_out_of_memory(error):
                raise
            logger.info("%s fails while %s", self._name, doing, exc_info=True)
            raise ModelError(
                f"{self._name} cannot be used for {doing} ({first_line(error)}): its files do not go together; choose "
                "another model."
            ) from error


class _Closed:
    """Stands where a network was that was let go."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        raise ModelError(f"{self._name} was closed; load it again.")

    def __call__(self, *_arguments: Any, **_named: Any) -> Any:
        raise ModelError(f"{self._name} was closed; load it again.")


def ready(model: M, device: Device, tell: Report) -> M:
    """Move a model that was loaded on the CPU to its device, tell that it is ready, and return it."""
    if device.is_gpu:
        tell(0.9, f"moving to {device.name}")
        model.move(device)
    tell(1.0, f"{model.name} is ready")
    return model
