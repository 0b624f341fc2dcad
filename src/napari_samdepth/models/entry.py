"""What is known of a model that can be named: where its weights come from and how they are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_samdepth.core.depthmap import DepthKind

Task = Literal["segment", "depth", "text"]
Family = Literal["builtin", "sam", "sam2", "transformers-depth", "grounding-dino"]

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class ModelEntry:
    """One model.

    Attributes
    ----------
    name
        What `load_segmenter` and `load_depth_estimator` take.
    task
        "segment", "depth" or "text" (words to boxes).
    family
        Which adapter loads it.
    title
        One line for a list of models.
    good_for
        One sentence: when to choose it.
    licence
        Of the weights.
    size
        Bytes to download, rounded where the source does not publish them; 0 for what ships with the package.
    architecture
        SAM: "vit_b", "vit_l" or "vit_h"; else "".
    url
        Of a single checkpoint file, or "" where the files come from the hub.
    checksum
        "sha256:..." or "xxh128:..." of that file, or "".
    hub_id, revision
        "owner/name" on the hub and the revision (branch or commit) that is fetched.
    files, optional_files
        What is fetched from the hub; an optional file may be absent there.
    kind, unit
        Depth models: what the values mean, see `napari_samdepth.core.depthmap`.
    """

    name: str
    task: Task
    family: Family
    title: str
    good_for: str
    licence: str
    size: int
    architecture: str = ""
    url: str = ""
    checksum: str = ""
    hub_id: str = ""
    revision: str = "main"
    files: tuple[str, ...] = ()
    optional_files: tuple[str, ...] = ()
    kind: DepthKind | None = None
    unit: str | None = None

    @property
    def ships(self) -> bool:
        """Whether the weights come with the package."""
        return self.family == "builtin"

    @property
    def file_name(self) -> str:
        """Name of the single checkpoint file, "" for hub models."""
        return self.url.rsplit("/", 1)[-1]

    def file_url(self, file: str, endpoint: str = HUB) -> str:
        """Return the address of one of `files` on the hub (or on a mirror at `endpoint`)."""
        return f"{endpoint.rstrip('/')}/{self.hub_id}/resolve/{self.revision}/{file}"
