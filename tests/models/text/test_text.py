"""Words to boxes and masks: Grounding DINO and SAM 3 against transformers' own processors, on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data

from napari_samdepth import Detections, TextDetector, find_text, load_text_detector
from napari_samdepth.core.errors import Cancelled, ModelError
from napari_samdepth.models.runtime.device import transformers_module
from tests.word_models import save_grounding_dino, save_sam3

TEXT = "Round coin.  nucleus; the dark thing"
PHRASES = ["round coin", "nucleus", "the dark thing"]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Grounding DINO."""
    return save_grounding_dino(tmp_path_factory.mktemp("words") / "dino")


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SAM 3."""
    return save_sam3(tmp_path_factory.mktemp("words") / "sam3")


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """A picture that is wider than high."""
    return np.stack([data.coins()] * 3, axis=-1)


def _best_first(found: dict[str, Any]) -> np.ndarray:
    return np.argsort(-found["scores"].numpy(), kind="stable")


def _within(boxes: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Rows first, and no farther than the picture."""
    height, width = rgb.shape[:2]
    return np.clip(boxes[:, [1, 0, 3, 2]], 0, [height, width, height, width])


def test_grounding_dino_gives_the_boxes_of_transformers(dino: Path, rgb: np.ndarray) -> None:
    """The same boxes and scores as the processor's post-processing, rows and columns for x and y."""
    import torch
    from PIL import Image

    transformers = transformers_module()
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(dino)
    processor = transformers.AutoProcessor.from_pretrained(dino)
    inputs = processor(images=Image.fromarray(rgb), text=". ".join(PHRASES) + ".", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    floor = 0.9
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], floor, floor, [rgb.shape[:2]]
    )
    detector = load_text_detector(dino)
    assert isinstance(detector, TextDetector)
    ours = find_text(detector, rgb, TEXT, floor)
    order = _best_first(theirs)
    assert 5 < len(ours) == len(order) < 48
    np.testing.assert_allclose(ours.scores, theirs["scores"].numpy()[order], atol=1e-6)
    np.testing.assert_allclose(ours.boxes, _within(theirs["boxes"].numpy()[order], rgb), atol=1e-3)
    # the name is the phrase that holds the token which fits best
    encoded = processor.tokenizer(". ".join(PHRASES) + ".", return_offsets_mapping=True)
    ends = np.cumsum([len(phrase) + 2 for phrase in PHRASES])
    best = outputs.logits[0].sigmoid()[outputs.logits[0].sigmoid().amax(-1) > floor][order]
    words = [at for at, token in enumerate(encoded["input_ids"]) if token not in (101, 102, 1012)]
    for name, fits in zip(ours.names, best.numpy(), strict=True):
        start = encoded["offset_mapping"][words[int(np.argmax(fits[words]))]][0]
        assert name == PHRASES[int(np.searchsorted(ends, start, side="right"))]
    assert len(set(ours.names)) > 1


def test_sam3_gives_the_masks_of_transformers(sam3: Path, rgb: np.ndarray) -> None:
    """The same boxes, scores and masks as the processor's post-processing, phrase by phrase."""
    import torch
    from PIL import Image

    transformers = transformers_module()
    model = transformers.Sam3Model.from_pretrained(sam3)
    processor = transformers.Sam3Processor.from_pretrained(sam3)
    floor = 0.36
    ours = find_text(load_text_detector(sam3), rgb, TEXT, floor)
    assert ours.patches is not None
    assert set(ours.names) == set(PHRASES)
    assert len(ours) < 12 * len(PHRASES)
    for phrase in PHRASES:
        inputs = processor(images=Image.fromarray(rgb), text=phrase, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        (theirs,) = processor.post_process_instance_segmentation(outputs, floor, 0.5, [rgb.shape[:2]])
        own = [at for at, name in enumerate(ours.names) if name == phrase]
        order = _best_first(theirs)
        assert 0 < len(own) == len(order)
        np.testing.assert_allclose(ours.scores[own], theirs["scores"].numpy()[order], atol=1e-5)
        np.testing.assert_allclose(ours.boxes[own], _within(theirs["boxes"].numpy()[order], rgb), atol=0.01)
        for at, mask in zip(own, theirs["masks"].numpy()[order].astype(bool), strict=True):
            full = ours.patches[at].full((rgb.shape[0], rgb.shape[1]))
            assert mask.any()
            assert (full != mask).mean() < 1e-4


def test_a_higher_threshold_needs_no_model(dino: Path, rgb: np.ndarray) -> None:
    """`above` keeps what a new run at that threshold would find; overlapping finds count once."""
    detector = load_text_detector(dino)
    low, high = find_text(detector, rgb, TEXT, 0.5), find_text(detector, rgb, TEXT, 0.9)
    kept = low.above(0.9)
    np.testing.assert_array_equal(low.boxes[kept], high.boxes)
    assert [low.names[at] for at in kept] == list(high.names)
    assert len(low.above(0.5, overlap=0.3)) < len(low)


def test_progress_and_cancel(dino: Path, sam3: Path, rgb: np.ndarray) -> None:
    """Both tell how far they are and stop when asked to."""
    for folder in (dino, sam3):
        detector, told = load_text_detector(folder), list[float]()
        find_text(detector, rgb, TEXT, 0.5, lambda part, _what, told=told: told.append(part))
        assert told == sorted(told)
        assert told[-1] == 1.0
        assert len(told) > 3

        def stop(part: float, _what: str) -> None:
            if part > 0.2:
                raise Cancelled

        with pytest.raises(Cancelled):
            find_text(detector, rgb, TEXT, 0.5, stop)


@pytest.mark.parametrize("text", ["", " . ; ", "...?"])
def test_a_text_without_words_is_refused(dino: Path, rgb: np.ndarray, text: str) -> None:
    """One sentence that says what to type."""
    with pytest.raises(ModelError, match="Say what to look for"):
        find_text(load_text_detector(dino), rgb, text)


def test_texts_that_are_too_long_are_refused(dino: Path, sam3: Path, rgb: np.ndarray) -> None:
    """Grounding DINO takes 256 word pieces in all, SAM 3 takes 32 a phrase."""
    with pytest.raises(ModelError, match="too long"):
        find_text(load_text_detector(dino), rgb, ". ".join("the " * n for n in range(1, 40)))
    with pytest.raises(ModelError, match="too long"):
        find_text(load_text_detector(sam3), rgb, "nucleus of the very long name and then some")


def test_wrong_folders_are_refused(dino: Path, tmp_path: Path) -> None:
    """A file, a missing path, another kind of model, a folder without tokenizer: one sentence each."""
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"")
    with pytest.raises(ModelError, match="is a file"):
        load_text_detector(checkpoint)
    with pytest.raises(ModelError, match="no file or folder"):
        load_text_detector(tmp_path / "absent")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "dpt"}))
    with pytest.raises(ModelError, match="dpt model"):
        load_text_detector(other)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((dino / name).read_bytes())
    with pytest.raises(ModelError, match="can be read"):
        load_text_detector(bare)
    with pytest.raises(ModelError, match="grounding-dino-tiny"):
        load_text_detector("grounding-dino-tiny", download=False)


def test_detections_check_themselves() -> None:
    """Every object needs a box, a score and a name."""
    with pytest.raises(ValueError, match="a box, a score and a name"):
        Detections(np.zeros((2, 4)), np.zeros(2), ("coin",), (4, 4))
