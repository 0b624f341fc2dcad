"""All that is known of a model that can be named, in one value: how it loads, what it takes, what it is good for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from napari_samdepth.core.depthmap import DepthKind
from napari_samdepth.core.prompts import PROMPT_KINDS, PromptKind
from napari_samdepth.models.auto_masks.point_grid import Search
from napari_samdepth.models.protocols import Report
from napari_samdepth.models.runtime.device import Precision

Task = Literal["segment", "depth", "text"]
HUB = "https://huggingface.co"
OURS = "napari-samdepth"
SAM_SEARCH = Search(crop_n_points_downscale_factor=2)


@dataclass(frozen=True)
class LoadRequest:
    """What a model is loaded with.

    Attributes
    ----------
    spec
        Of the model.
    path
        Its checkpoint file or folder; None where there is nothing to download.
    device
        Torch device asked for, None for the best there is.
    report
        Told how far loading is, or None.
    precision
        One of the spec's precisions.
    """

    spec: ModelSpec
    path: Path | None = None
    device: str | None = None
    report: Report | None = None
    precision: Precision = "float32"

    @property
    def files(self) -> Path:
        """The path of a model that has files."""
        assert self.path is not None
        return self.path


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model.

    Attributes
    ----------
    name
        What `load_segmenter` and its kin take.
    task
        "segment", "depth" or "text" (words to boxes).
    load
        Gives the model, ready to run, behind the protocol of its task: `Segmenter`, `DepthEstimator`, `TextDetector`.
        Import torch and other large libraries inside it.
    title
        A few words for a list of models; the name if empty.
    good_for
        One sentence: when to choose it.
    licence
        Of the weights.
    size
        Bytes to download, rounded where the source does not publish them; 0 where nothing is downloaded.
    prompt_kinds
        Segmenters: what `decode` takes; the other kinds are translated into these before it is called.
    precisions
        What it may run in; "bfloat16" is faster and coarser.
    search
        Segmenters: what a search for all masks starts from.
    seconds
        For an image on two cores of a server: a rule of thumb until it is measured. None if not known.
    kind, unit
        Depth models: what the values mean, see `napari_samdepth.core.depthmap`.
    architecture
        What a checkpoint must be ("vit_b", "vit_l", "vit_h"), or "".
    url, checksum
        Of a single checkpoint file, "sha256:..." or "xxh128:..."; "" where there is none.
    hub_id, revision, files, optional_files
        "owner/name" on the hub, the revision (branch or commit), and what is fetched; an optional file may be absent.
    package
        Name of the distribution that brings it.
    """

    name: str
    task: Task
    load: Callable[[LoadRequest], Any]
    title: str = ""
    good_for: str = ""
    licence: str = "see its package"
    size: int = 0
    prompt_kinds: frozenset[PromptKind] = PROMPT_KINDS
    precisions: tuple[Precision, ...] = ("float32",)
    search: Search = SAM_SEARCH
    seconds: float | None = None
    kind: DepthKind | None = None
    unit: str | None = None
    architecture: str = ""
    url: str = ""
    checksum: str = ""
    hub_id: str = ""
    revision: str = "main"
    files: tuple[str, ...] = ()
    optional_files: tuple[str, ...] = ()
    package: str = OURS

    def __post_init__(self) -> None:
        """Check what others wrote.

        Raises
        ------
        ValueError
            If a field cannot be what it is; the message says got and expected.
        """
        if self.task not in get_args(Task):
            raise ValueError(f"ModelSpec.task must be one of {', '.join(get_args(Task))}, got {self.task!r}.")
        if not callable(self.load):
            raise ValueError(f"ModelSpec.load must be a function of a LoadRequest, got {self.load!r}.")
        object.__setattr__(self, "prompt_kinds", frozenset(self.prompt_kinds))
        if not self.prompt_kinds or not self.prompt_kinds <= PROMPT_KINDS:
            known = ", ".join(sorted(PROMPT_KINDS))
            raise ValueError(f"ModelSpec.prompt_kinds must be some of {known}, got {sorted(self.prompt_kinds)}.")
        if not set(self.precisions) <= set(get_args(Precision)) or "float32" not in self.precisions:
            raise ValueError(f"ModelSpec.precisions must be float32 and perhaps bfloat16, got {self.precisions}.")
        if self.size < 0 or (self.seconds is not None and not self.seconds > 0):
            raise ValueError(f"ModelSpec.size and .seconds must not be negative, got {self.size} and {self.seconds}.")
        if self.hub_id and not self.files:
            raise ValueError(f"ModelSpec.files must name what is fetched of {self.hub_id}.")
        object.__setattr__(self, "title", self.title or self.name)

    @property
    def ships(self) -> bool:
        """Whether there is nothing to download: the weights come with a package, or there are none."""
        return not self.url and not self.hub_id

    @property
    def file_name(self) -> str:
        """Name of the single checkpoint file, "" for hub models."""
        return self.url.rsplit("/", 1)[-1]

    def file_url(self, file: str, endpoint: str = HUB) -> str:
        """Return the address of one of `files` on the hub (or on a mirror at `endpoint`)."""
        return f"{endpoint.rstrip('/')}/{self.hub_id}/resolve/{self.revision}/{file}"
