"""A Points layer of the user's that serves for clicks: what it needs for that, and its own colours afterwards."""

from __future__ import annotations

import numpy as np
from napari.layers import Points

FEATURE = "prompt"
FOREGROUND, BACKGROUND = "foreground", "background"
COLOURS = {FOREGROUND: "#2ecc71", BACKGROUND: "#e74c3c"}


class LentPoints:
    """Colours the points by what they say, and gives them back in the user's own colours."""

    def __init__(self, layer: Points) -> None:
        """Give the layer the feature that tells foreground from background, and its colours."""
        self._layer = layer
        plain = str(layer.face_color_mode) == "direct"
        # colours that follow a feature of the user's are theirs to choose again
        self._own = dict(zip(map(tuple, layer.data), layer.face_color.copy(), strict=True)) if plain else None
        self._usual = layer.current_face_color
        features = layer.features.copy()
        if FEATURE not in features.columns:
            features[FEATURE] = np.full(len(layer.data), FOREGROUND, dtype=object)
            layer.features = features
        layer.feature_defaults = {FEATURE: FOREGROUND}
        layer.face_color_cycle = COLOURS
        layer.face_color = FEATURE

    def give_back(self) -> None:
        """Colour the points as they were, and those that came since in the colour that new ones had."""
        layer = self._layer
        if self._own is None:
            return
        layer.selected_data = set()
        layer.face_color_mode = "direct"
        layer.current_face_color = self._usual
        if len(layer.data):
            layer.face_color = self._usual
            layer.face_color = [
                self._own.get(tuple(point), colour) for point, colour in zip(layer.data, layer.face_color, strict=True)
            ]
