"""Views: the square pieces of an image that the built-in segmenter looks at."""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = 0.005, 0.998
LEAST_RANGE = 24.0


def stretch(view: Tensor) -> Tensor:
    """Stretch a view's values to 0–255 from their 0.5 and 99.8 percentiles, all channels alike.

    ``view`` is float (3, h, w) in 0–255. A view that spans fewer than 24 grey values is not stretched further than
    those, so that an empty one stays quiet.
    """
    values = view.flatten()
    values = values[:: max(1, values.numel() // 20000)]
    ordered = values.sort().values
    low = ordered[int(LOW * (len(ordered) - 1))]
    high = ordered[int(HIGH * (len(ordered) - 1))]
    span = torch.clamp(high - low, min=LEAST_RANGE)
    return ((view - low) * (255.0 / span)).clamp(0.0, 255.0)
