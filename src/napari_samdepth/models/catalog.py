"""The models that come with the package or can be downloaded, one spec each; a new one opens no other file."""

from __future__ import annotations

from typing import Any

from napari_samdepth.models.auto_masks.point_grid import Search
from napari_samdepth.models.formats import DEPTH, GROUNDING_DINO, SAM2, SAM_FILE, SAM_FOLDER
from napari_samdepth.models.spec import LoadRequest, ModelSpec

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_CONFIGS = ("config.json", "preprocessor_config.json")
_SECONDS = {"vit_b": 11.0, "vit_l": 34.0, "vit_h": 65.0}


def _load_builtin_segmenter(asked: LoadRequest) -> Any:
    from napari_samdepth.models.builtin.segmenter import load_builtin

    return load_builtin(asked.device, asked.report)


def _load_builtin_depth(asked: LoadRequest) -> Any:
    from napari_samdepth.models.builtin.depth_builtin import BuiltinDepth

    return BuiltinDepth(asked.device)


def _sam(name: str, title: str, good_for: str, size: int, checksum: str, url: str, licence: str) -> ModelSpec:
    return SAM_FILE.spec(
        name,
        title=f"{title} · {_megabytes(size)}",
        good_for=good_for,
        licence=licence,
        size=size,
        architecture=name[:5],
        seconds=_SECONDS[name[:5]],
        url=url,
        checksum=checksum,
    )


def _sam2(size_name: str, size: int, seconds: float, good_for: str) -> ModelSpec:
    return SAM2.spec(
        f"sam2.1-{size_name}",
        title=f"SAM 2.1 {size_name} · {_megabytes(size)}",
        good_for=good_for,
        licence="Apache-2.0",
        size=size,
        seconds=seconds,
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
    weights: str = "model.safetensors",
    **facts: Any,
) -> ModelSpec:
    return DEPTH.spec(
        name,
        title=f"{title} · {_megabytes(size)}",
        good_for=good_for,
        licence=licence,
        size=size,
        hub_id=hub_id,
        files=(*_CONFIGS, weights),
        **({"kind": "inverse"} | facts),
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


_MICRO_SAM_LICENCE = "see the model's card on bioimage.io"

SPECS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="builtin",
        task="segment",
        load=_load_builtin_segmenter,
        title="built-in",
        good_for="Nuclei, coins and other compact objects; fast on a CPU, offline.",
        licence="see NOTICE",
        # less sure of itself than SAM, blind to small objects but in crops, and quick
        search=Search(
            points_per_side=9,
            pred_iou_thresh=0.7,
            stability_score_thresh=0.5,
            crop_n_layers=2,
            crop_n_points_downscale_factor=1,
        ),
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
    SAM_FOLDER.spec(
        "slimsam-77",
        title="SlimSAM-77 · 39 MB",
        good_for="Photographs at a fraction of ViT-B's time and size, a little less exact.",
        licence="Apache-2.0",
        size=38900000,
        seconds=2.0,
        hub_id="Zigeng/SlimSAM-uniform-77",
        files=("config.json", "model.safetensors"),
        optional_files=("preprocessor_config.json",),
    ),
    _sam2("tiny", 156000000, 2.5, "Photographs; encodes several times faster than ViT-B."),
    _sam2("small", 184000000, 3.0, "Photographs; a little better than tiny at nearly its speed."),
    _sam2("base-plus", 323000000, 5.0, "Photographs; between small and large."),
    _sam2("large", 898000000, 12.0, "Photographs and fine structures; the best of SAM 2.1."),
    ModelSpec(
        name="builtin",
        task="depth",
        load=_load_builtin_depth,
        title="built-in",
        good_for="A quick relative depth on any CPU, offline; soft edges.",
        licence="see NOTICE",
        kind="inverse",
    ),
    _depth(
        "dpt-large",
        "Intel/dpt-large",
        "DPT large",
        "General scenes, indoors and outdoors; relative depth.",
        "Apache-2.0",
        1370000000,
        seconds=5.0,
        revision="bc15f29aa3a80d532f2ed650b5e16ac48d8958f9",
    ),
    _depth(
        "dpt-hybrid-midas",
        "Intel/dpt-hybrid-midas",
        "DPT hybrid (MiDaS 3.0)",
        "General scenes; a third of DPT large's size.",
        "Apache-2.0",
        490000000,
        seconds=3.0,
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
        seconds=10.0,
        kind="distance",
        unit="m",
    ),
    GROUNDING_DINO.spec(
        "grounding-dino-tiny",
        title="Grounding DINO tiny · 690 MB",
        good_for="Boxes from words, to be turned into masks by any segmenter.",
        licence="Apache-2.0",
        size=690000000,
        hub_id="IDEA-Research/grounding-dino-tiny",
        files=(*_CONFIGS, "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        optional_files=("special_tokens_map.json", "vocab.txt", "processor_config.json"),
    ),
)
