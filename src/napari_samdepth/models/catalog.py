"""The models that can be named, and what they are good for."""

from __future__ import annotations

from napari_samdepth.core.depthmap import DepthKind
from napari_samdepth.core.errors import ModelError
from napari_samdepth.models.entry import ModelEntry, Task

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_CONFIGS = ("config.json", "preprocessor_config.json")


def _sam(name: str, title: str, good_for: str, size: int, checksum: str, url: str, licence: str) -> ModelEntry:
    title = f"{title} · {_megabytes(size)}"
    return ModelEntry(
        name, "segment", "sam", title, good_for, licence, size, architecture=name[:5], url=url, checksum=checksum
    )


def _sam2(size_name: str, size: int, good_for: str) -> ModelEntry:
    return ModelEntry(
        f"sam2.1-{size_name}",
        "segment",
        "sam2",
        f"SAM 2.1 {size_name} · {_megabytes(size)}",
        good_for,
        "Apache-2.0",
        size,
        hub_id=f"facebook/sam2.1-hiera-{size_name}",
        files=("config.json", "model.safetensors"),
        optional_files=("preprocessor_config.json", "processor_config.json"),
    )


def _depth(
    name: str,
    hub_id: str,
    title: str,
    good_for: str,
    licence: str,
    size: int,
    *,
    revision: str = "main",
    weights: str = "model.safetensors",
    kind: DepthKind = "inverse",
    unit: str | None = None,
) -> ModelEntry:
    return ModelEntry(
        name,
        "depth",
        "transformers-depth",
        f"{title} · {_megabytes(size)}",
        good_for,
        licence,
        size,
        hub_id=hub_id,
        revision=revision,
        files=(*_CONFIGS, weights),
        kind=kind,
        unit=unit,
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


_MICRO_SAM_LICENCE = "see the model's card on bioimage.io"

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        "builtin",
        "segment",
        "builtin",
        "built-in",
        "Nuclei, coins and other compact objects; fast on a CPU, offline.",
        "see NOTICE",
        0,
    ),
    _sam(
        "vit_b",
        "SAM ViT-B",
        "Photographs and most other images; the smallest of the three original SAMs.",
        375042383,
        "sha256:ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        f"{_META}/sam_vit_b_01ec64.pth",
        "Apache-2.0",
    ),
    _sam(
        "vit_l",
        "SAM ViT-L",
        "Better edges than ViT-B, about three times slower to encode.",
        1250000000,
        "sha256:3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        f"{_META}/sam_vit_l_0b3195.pth",
        "Apache-2.0",
    ),
    _sam(
        "vit_h",
        "SAM ViT-H",
        "The best of the original SAMs; needs a GPU to be pleasant.",
        2560000000,
        "sha256:a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        f"{_META}/sam_vit_h_4b8939.pth",
        "Apache-2.0",
    ),
    _sam(
        "vit_b_lm",
        "SAM ViT-B, light microscopy",
        "Cells and nuclei in light microscopy (micro-sam).",
        375000000,
        "xxh128:fe9252a29f3f4ea53c15a06de471e186",
        f"{_BIOIMAGE}/diplomatic-bug/1.2/files/vit_b.pt",
        _MICRO_SAM_LICENCE,
    ),
    _sam(
        "vit_l_lm",
        "SAM ViT-L, light microscopy",
        "Cells and nuclei in light microscopy (micro-sam), larger.",
        1250000000,
        "xxh128:017f20677997d628426dec80a8018f9d",
        f"{_BIOIMAGE}/idealistic-rat/1.2/files/vit_l.pt",
        _MICRO_SAM_LICENCE,
    ),
    _sam(
        "vit_b_em_organelles",
        "SAM ViT-B, EM organelles",
        "Mitochondria, nuclei and other organelles in electron microscopy (micro-sam).",
        375000000,
        "xxh128:f3bf2ed83d691456bae2c3f9a05fb438",
        f"{_BIOIMAGE}/noisy-ox/1.2/files/vit_b.pt",
        _MICRO_SAM_LICENCE,
    ),
    _sam(
        "vit_l_em_organelles",
        "SAM ViT-L, EM organelles",
        "Organelles in electron microscopy (micro-sam), larger.",
        1250000000,
        "xxh128:810b084b6e51acdbf760a993d8619f2d",
        f"{_BIOIMAGE}/humorous-crab/1.2/files/vit_l.pt",
        _MICRO_SAM_LICENCE,
    ),
    _sam2("tiny", 156000000, "Photographs; encodes several times faster than ViT-B."),
    _sam2("small", 184000000, "Photographs; a little better than tiny at nearly its speed."),
    _sam2("base-plus", 323000000, "Photographs; between small and large."),
    _sam2("large", 898000000, "Photographs and fine structures; the best of SAM 2.1."),
    ModelEntry(
        "builtin",
        "depth",
        "builtin",
        "built-in",
        "A quick relative depth on any CPU, offline; soft edges.",
        "see NOTICE",
        0,
        kind="inverse",
    ),
    _depth(
        "dpt-large",
        "Intel/dpt-large",
        "DPT large",
        "General scenes, indoors and outdoors; relative depth.",
        "Apache-2.0",
        1370000000,
        revision="bc15f29aa3a80d532f2ed650b5e16ac48d8958f9",
    ),
    _depth(
        "dpt-hybrid-midas",
        "Intel/dpt-hybrid-midas",
        "DPT hybrid (MiDaS 3.0)",
        "General scenes; a third of DPT large's size.",
        "Apache-2.0",
        490000000,
        weights="pytorch_model.bin",
    ),
    _depth(
        "dpt-swinv2-tiny-256",
        "Intel/dpt-swinv2-tiny-256",
        "DPT SwinV2 tiny (MiDaS 3.1)",
        "General scenes where speed matters; relative depth from 256-pixel inputs.",
        "MIT",
        164000000,
        revision="f7f350e1a10a5ea58671b68ab5f49dc18ec00483",
    ),
    _depth(
        "depth-anything-v2-small",
        "depth-anything/Depth-Anything-V2-Small-hf",
        "Depth Anything V2 small",
        "Sharp relative depth at little cost; the one to try first.",
        "Apache-2.0",
        99000000,
    ),
    _depth(
        "zoedepth-nyu-kitti",
        "Intel/zoedepth-nyu-kitti",
        "ZoeDepth (rooms and streets)",
        "Distances in metres in rooms and streets like those it was trained on.",
        "MIT",
        1380000000,
        kind="distance",
        unit="m",
    ),
    ModelEntry(
        "grounding-dino-tiny",
        "text",
        "grounding-dino",
        "Grounding DINO tiny · 690 MB",
        "Boxes from words, to be turned into masks by any segmenter.",
        "Apache-2.0",
        690000000,
        hub_id="IDEA-Research/grounding-dino-tiny",
        files=(*_CONFIGS, "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        optional_files=("special_tokens_map.json", "vocab.txt", "processor_config.json"),
    ),
)


def entries(task: Task | None = None) -> tuple[ModelEntry, ...]:
    """Return the models for `task` (all if None), those that ship with the package first."""
    return tuple(entry for entry in ENTRIES if task in (None, entry.task))


def find(name: str, task: Task | None = None) -> ModelEntry:
    """Return the model called `name`.

    Raises
    ------
    ModelError
        If there is none of that name for the task; the message names those that exist.
    """
    for entry in entries(task):
        if entry.name == name:
            return entry
    known = ", ".join(dict.fromkeys(entry.name for entry in entries(task)))
    raise ModelError(f"There is no model called {name!r}; choose one of: {known}, or give the path of a checkpoint.")
