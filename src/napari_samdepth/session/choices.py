"""What a panel can offer: models, with what is said of them, and whether their weights are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_samdepth.models import catalog, download
from napari_samdepth.models.device import choose_device


@dataclass(frozen=True)
class ModelChoice:
    """One model in a list: its name, a short title, a tooltip, whether it is there, and how long an image may take.

    `size` is in bytes; `wait` is "" for quick models.
    """

    name: str
    title: str
    tooltip: str
    present: bool
    size: int
    wait: str = ""


CPU_WAITS = {
    "vit_b": "about 15 s",
    "vit_l": "about 40 s",
    "vit_h": "well over a minute",
    "sam2.1-large": "about 15 s",
    "dpt-large": "about 5 s",
    "zoedepth-nyu-kitti": "about 10 s",
}
"""How long one image takes on a CPU, by catalog name or architecture; models that take a second or two are left out."""


def model_choices(task: Literal["segment", "depth", "text"]) -> tuple[ModelChoice, ...]:
    """Return the models for a task, those that ship with the package first."""
    choices = []
    for entry in catalog.entries(task):
        present = entry.ships or download.status(entry.name).present
        where = "" if present else f" Not downloaded yet ({entry.size / 1e6:,.0f} MB)."
        choices.append(
            ModelChoice(
                entry.name,
                entry.title,
                f"{entry.good_for} Licence: {entry.licence}.{where}",
                present,
                entry.size,
                CPU_WAITS.get(entry.name) or CPU_WAITS.get(entry.architecture, ""),
            )
        )
    return tuple(choices)


def device_text() -> tuple[str, str]:
    """Return the device that models will run on, and why. Loads torch, which takes seconds: call it on the lane."""
    device = choose_device()
    return device.name, device.reason
