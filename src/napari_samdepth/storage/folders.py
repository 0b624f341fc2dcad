"""Where files of the plugin's own are: what may be lost, and what may not."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "NAPARI_SAMDEPTH_CACHE"
STATE_VARIABLE = "NAPARI_SAMDEPTH_STATE"


def cache_folder() -> Path:
    """Return the folder of what can be computed again: NAPARI_SAMDEPTH_CACHE, else one in the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return Path(user_cache_path("napari-samdepth", appauthor=False))


def state_folder() -> Path:
    """Return the folder of what cannot: NAPARI_SAMDEPTH_STATE, else one for the state of the user's programs."""
    chosen = os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_state_path

    return Path(user_state_path("napari-samdepth", appauthor=False))
