"""Networks from a local folder in transformers' format: tensors only, no code from the folder, no network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Device, choose_device, first_line, torch_module, transformers_module
from napari_samdepth.models.runtime.torch_model import TorchModel, ready
from napari_samdepth.models.weights.checkpoint import read_weights
from napari_samdepth.models.weights.checksums import file_checksum

M = TypeVar("M", bound=TorchModel)
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load_folder(
    path: Path,
    name: str,
    device: str | None,
    report: Report | None,
    class_name: str,
    adapted: Callable[[Any, str, str, Device], M],
) -> M:
    """Return the network of a folder in its adapter, ready to use.

    Parameters
    ----------
    path
        The folder.
    name
        What the user calls it; the folder's name if empty.
    device
        As in `choose_device`.
    report
        Told how far loading is.
    class_name
        The network's, as in `load_network`.
    adapted
        Makes the adapter of the network, its name, the `identity` of its weights, and the device that it is on.

    Raises
    ------
    ModelError
        If the folder cannot be loaded.
    Cancelled
        If `report` raises it.
    """
    tell = report or silent
    chosen = choose_device(device)
    name = name or path.name
    tell(0.0, f"reading {name}")
    network = load_network(path, class_name)
    tell(0.7, f"checking {name}")
    return ready(adapted(network, name, identity(path), Device("cpu", chosen.reason)), chosen, tell)


def weight_files(path: Path) -> list[Path]:
    """Return the weight files of a folder, safetensors if there are any, else torch's.

    Raises
    ------
    ModelError
        If there are none.
    """
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        files = sorted(path.glob(pattern))
        if files:
            return files
    raise ModelError(f"{path} holds no weights (model.safetensors or pytorch_model.bin); download the model again.")


def identity(path: Path) -> str:
    """Return the xxh128 of the weights in a folder, of the first file if they are in several."""
    return file_checksum(weight_files(path)[0], "xxh128")


def load_network(path: Path, class_name: str) -> Any:
    """Return a network of transformers, float32, on the CPU, in eval mode.

    Parameters
    ----------
    path
        A folder with config.json and weights.
    class_name
        Of transformers, such as "AutoModelForDepthEstimation".

    Raises
    ------
    ModelError
        If the folder's files are missing, cut off, not what the configuration describes, or want to run code.
    """
    transformers = transformers_module()
    torch = torch_module()
    from safetensors import SafetensorError

    files = weight_files(path)
    if files[0].suffix == ".bin":
        # read once by ourselves, mapped and not copied, for a sentence of ours where something is wrong
        for file in files:
            read_weights(file)
    auto = getattr(transformers, class_name)
    try:
        with _quiet(transformers):
            model, found = auto.from_pretrained(
                str(path),
                dtype=torch.float32,
                use_safetensors=files[0].suffix == ".safetensors",
                output_loading_info=True,
                **_LOCAL,
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(f"{path} cannot be loaded ({first_line(error)}); download the model again.") from error
    except SafetensorError as error:
        raise ModelError(f"{files[0]} is cut off or damaged; download it again.") from error
    lacking = sorted(found["missing_keys"]) + sorted(str(entry[0]) for entry in found["mismatched_keys"])
    if lacking:
        # transformers would go on with random numbers in their place
        raise ModelError(f"{path} lacks weights that its configuration asks for ({lacking[0]}); download it again.")
    return model.requires_grad_(False).eval()


def load_processor(path: Path, class_name: str) -> Any:
    """Return an image processor of transformers from a folder.

    Raises
    ------
    ModelError
        If the folder has no readable preprocessor_config.json.
    """
    transformers = transformers_module()
    try:
        return getattr(transformers, class_name).from_pretrained(str(path), **_LOCAL)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ModelError(
            f"{path} has no image processor that can be read ({first_line(error)}); it needs preprocessor_config.json."
        ) from error


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from drawing progress bars and from listing keys: progress and refusals are ours to tell."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def telling_blocks(model: Any, tell: Any, what: str) -> Iterator[None]:
    """Tell before each block of the longest list of blocks in `model` how far it is; the teller may raise to stop."""
    torch = torch_module()
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    blocks = list(max(lists, key=len, default=[]))

    def hook(index: int) -> Any:
        return lambda *_: tell(index / len(blocks), f"{what}, block {index + 1} of {len(blocks)}")

    handles = [block.register_forward_pre_hook(hook(index)) for index, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
