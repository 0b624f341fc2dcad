"""Networks from a local folder in transformers' format: tensors only, no code from the folder, no network."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.inputs import silent
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import (
    Device,
    choose_device,
    first_line,
    is_out_of_memory,
    torch_module,
    transformers_module,
)
from napari_samdepth.models.runtime.torch_model import TorchModel, ready
from napari_samdepth.models.weights.checkpoint import check_numbers, read_weights
from napari_samdepth.models.weights.checksums import file_checksum
from napari_samdepth.models.weights.configuration import check_processing, read_configuration
from napari_samdepth.models.weights.file_formats import (
    check_content,
    check_regular,
    read_json,
    safetensors_header,
    unreadable,
)

M = TypeVar("M", bound=TorchModel)
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = {
    "GroundingDinoProcessor": (("tokenizer.json",), ("vocab.txt",)),
    "Sam3Processor": (("tokenizer.json",), ("vocab.json", "merges.txt")),
}
"""By the class of a processor with words the files of its tokenizer, in one of several formats."""
_MOST_COMPUTED = 1 << 26
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_offline: dict[str, Any] = {"users": 0, "before": False}
_offline_lock = threading.Lock()


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
    model = adapted(network, name, identity(path), Device("cpu", chosen.reason))
    model.fits = False  # configuration, weights and processor come from elsewhere, and may not go together
    return ready(model, chosen, tell)


def weight_files(path: Path) -> list[Path]:
    """Return the weight files of a folder as transformers would choose them, safetensors if there are any.

    Raises
    ------
    ModelError
        If there are none, one is missing or cannot be read, or a list of them names a file outside of the folder.
    """
    for single in _SINGLE:
        index = path / f"{single}.index.json"
        if os.path.lexists(path / single):
            files = [path / single]
        elif os.path.lexists(index):
            files = _shards(path, index)
        else:
            continue
        for file in files:
            check_regular(file)
        return files
    raise ModelError(f"{path} holds no weights (model.safetensors or pytorch_model.bin); download the model again.")


def _shards(path: Path, index: Path) -> list[Path]:
    """Return the files that an index spreads the weights over."""
    listed = read_json(index).get("weight_map")
    names = sorted(set(listed.values()), key=str) if isinstance(listed, dict) and _hashable(listed.values()) else []
    if not names:
        raise ModelError(f"{index} lists no files of weights; download the model again.")
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ModelError(f"{index} names a file outside of its folder ({name!r}); download the model again.")
    lacking = next((name for name in names if not os.path.lexists(path / name)), None)
    if lacking is not None:
        raise ModelError(f"{path} lacks {lacking}, which {index.name} lists; download the model again.")
    return [path / name for name in names]


def _hashable(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (str, int, float, type(None))) for value in values)


def identity(path: Path) -> str:
    """Return the xxh128 of what decides a network's answers: all weights in a folder, and how images are prepared."""
    import xxhash

    prepared = (path / name for name in ("config.json", "preprocessor_config.json", "processor_config.json"))
    files = [*weight_files(path), *(file for file in prepared if file.is_file())]
    checksums = [f"{file.name} {file_checksum(file, 'xxh128')}" for file in files]
    return str(xxhash.xxh128("\n".join(checksums).encode()).hexdigest())


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
    read_configuration(path)
    files = weight_files(path)
    for file in files:
        _check_weights(file)
    auto = getattr(transformers, class_name)
    try:
        with offline(), _quiet(transformers):
            _check_size(transformers, auto, path, sum(file.stat().st_size for file in files))
            model, found = auto.from_pretrained(
                str(path),
                dtype=torch.float32,
                use_safetensors=files[0].suffix == ".safetensors",
                output_loading_info=True,
                **_LOCAL,
            )
    except ModelError:
        raise
    except Exception as error:  # whatever transformers makes of a foreign folder, it is the folder that is bad
        raise ModelError(_why_not_loaded(path, error)) from error
    lacking = sorted(found["missing_keys"]) + sorted(str(entry[0]) for entry in found["mismatched_keys"])
    if lacking:
        # transformers would go on with random numbers in their place
        raise ModelError(f"{path} lacks weights that its configuration asks for ({lacking[0]}); download it again.")
    check_numbers(path, model.state_dict())
    return model.requires_grad_(False).eval()


def _check_weights(file: Path) -> None:
    """Refuse a file of weights that is damaged or holds anything but dense tensors, before transformers reads it."""
    if file.suffix != ".safetensors":
        read_weights(file)  # mapped and not copied, for a sentence of ours where something is wrong
        return
    check_content(file, file.name)
    odd = next((name for name, entry in safetensors_header(file).items() if entry.get("dtype") == "C64"), None)
    if odd is not None:
        raise ModelError(f"{file} holds weights that are complex (the entry {odd!r}); download it again.")


def _check_size(transformers: Any, auto: Any, path: Path, stored: int) -> None:
    """Refuse a configuration that asks for far more weights than the files can hold; the rest would be made up.

    The network is laid out without memory first (torch's device "meta").
    """
    torch = torch_module()
    config_class = getattr(auto, "config_class", None) or transformers.AutoConfig
    config = config_class.from_pretrained(str(path), **_LOCAL)
    with torch.device("meta"):
        network = auto.from_config(config) if hasattr(auto, "from_config") else auto._from_config(config)
    wanted = sum(part.numel() for part in network.parameters())
    computed = sum(part.numel() for part in network.buffers())
    # no format has less than a byte a number
    if wanted > stored or computed > max(stored, _MOST_COMPUTED):
        raise ModelError(
            f"{path} lacks weights that its configuration asks for ({max(wanted, computed):,} numbers, and its files "
            f"have {stored:,} bytes); download it again."
        )


def _why_not_loaded(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(path, error)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return f"There is not enough memory for {path}; close other programs or choose a smaller model."
    if "ignore_mismatched_sizes" in str(error):
        return f"{path} holds weights of other shapes than its configuration asks for; download the model again."
    return f"{path} cannot be loaded ({_short(error)}); download the model again."


def _short(error: Exception) -> str:
    """Return the first sentence of what transformers says, of which the rest is advice for programmers."""
    return first_line(error).partition(". ")[0].rstrip(":")


def load_processor(path: Path, class_name: str) -> Any:
    """Return an image processor of transformers, or one for images and words, from a folder.

    Raises
    ------
    ModelError
        If the folder's preprocessor_config.json or the files of its tokenizer are not there or cannot be used.
    """
    transformers = transformers_module()
    check_processing(path)
    needed = TOKENIZERS.get(class_name, ())
    if not any((path / name).is_file() for name in PROCESSORS):
        raise ModelError(
            f"{path} has no image processor that can be read ({PROCESSORS[0]} is missing); it needs {PROCESSORS[0]}."
        )
    if needed and not any(all((path / name).is_file() for name in names) for names in needed):
        # transformers would go on with one that knows no words
        raise ModelError(f"{path} has no tokenizer ({needed[0][0]} is missing); download the model again.")
    try:
        with offline(), _quiet(transformers):
            return getattr(transformers, class_name).from_pretrained(str(path), **_LOCAL)
    except Exception as error:  # as above
        raise ModelError(
            f"{path} has no image processor{' and tokenizer' if needed else ''} that can be read ({_short(error)}); "
            "download the model again."
        ) from error


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep transformers and the hub's library from any request to the hub, as HF_HUB_OFFLINE=1 does.

    ``local_files_only`` alone does not: a configuration can name a backbone to be looked up, and weights in torch's
    format are offered for conversion.
    """
    from huggingface_hub import constants

    with _offline_lock:
        if not _offline["users"]:
            _offline["before"] = constants.HF_HUB_OFFLINE
            constants.HF_HUB_OFFLINE = True
        _offline["users"] += 1
    try:
        yield
    finally:
        with _offline_lock:
            _offline["users"] -= 1
            if not _offline["users"]:
                constants.HF_HUB_OFFLINE = _offline["before"]


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
