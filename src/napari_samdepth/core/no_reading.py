"""No reading is not a distance: what sensors write where they measured nothing, found and left out.

Depth cameras and disparity maps write 0, elevation models -9999, others the largest number of their type. Such a value
is told from depth by where it lies: far outside of all other values, or at zero where nothing can be. What is
legitimate stays: zeros of height maps and focus indices, of 8-bit pictures of relative depth, and of disparities that
run down to 0.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.depthmap import DepthKind, as_depth

NoReading = float | Literal["auto", "none"]
"""Which value means that nothing was measured: "auto" finds it, "none" says that every number is depth."""

FILLS_BELOW = (-999.0, -9999.0, -99999.0, -32767.0, -32768.0, -2147483647.0, -2147483648.0)
"""Customary values; no reading where they lie farther below all others than a quarter of what those span."""
FILLS_ABOVE = (9999.0, 32767.0, 65504.0, 65535.0, 99999.0, 999999.0, 2147483647.0, 4294967295.0)
"""Customary values; no reading where they lie farther above all others than those span."""
_HUGE = 1e4
_TIMES = 1000  # a value so many times as large as all others needs no custom to be none of them
_ISOLATED_SHARE = 0.2
_ISOLATED_STEPS = 5
_SAMPLE = 1 << 16


def checked_no_reading(value: Any) -> NoReading:
    """Return what was given or typed as a `NoReading`: text is read, None counts as "none", "" as "auto".

    Raises
    ------
    ValueError
        If it is neither of the two words nor a number.
    """
    word = value.strip().lower() if isinstance(value, str) else value
    if word is None or word == "none":
        return "none"
    if word in ("", "auto"):
        return "auto"
    try:
        number = float(word) if not isinstance(word, bool) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise ValueError(f"No reading is “auto”, “none” or a number such as 0 or -9999, got {value!r}.")
    return number if math.isfinite(number) else "none"  # NaN and infinities never are depth


def leave_out(
    values: NDArray[Any], kind: DepthKind, unit: str | None, no_reading: NoReading
) -> tuple[NDArray[np.floating[Any]], tuple[float, ...]]:
    """Return depth with NaN where there is no reading, and the values that meant so.

    Parameters
    ----------
    values
        Real numbers of any shape and dtype, as a sensor or a file gives them.
    kind, unit
        What they mean, as in `DepthMap`.
    no_reading
        Which value means no reading.

    Returns
    -------
    Floats as `as_depth` gives them (the array itself where nothing had to be changed), and the values left out.
    """
    if no_reading == "none":
        fills: tuple[float, ...] = ()
    elif no_reading == "auto":
        fills = find_no_reading(values, kind, unit)
    else:
        fills = (no_reading,)
    depth = as_depth(values)
    holes = [(values == _in_dtype(fill, values.dtype), fill) for fill in fills]
    there = [(hole, fill) for hole, fill in holes if hole.any()]
    if there:
        depth = np.array(depth)
        for hole, _ in there:
            depth[hole] = np.nan
    return depth, tuple(fill for _, fill in there)


def find_no_reading(values: NDArray[Any], kind: DepthKind, unit: str | None) -> tuple[float, ...]:
    """Return the values that stand for no reading in a depth map or a plane of one; see the module's text.

    Parameters
    ----------
    values
        Real numbers of any shape and dtype.
    kind, unit
        What they mean: distances and disparities (inverse depth with a unit) are never exactly 0, relative inverse
        depth, heights and indices may be.
    """
    if values.dtype.kind not in "iuf":
        return ()
    rest = values.reshape(-1)
    if values.dtype.kind == "f":
        rest = rest[np.isfinite(rest)]
    fills: list[float] = []
    for _ in range(4):  # more than one may be in use, such as 0 and 65535
        fill = _outlier(rest, kind)
        if fill is None:
            break
        fills.append(fill)
        rest = rest[rest != _in_dtype(fill, values.dtype)]
    if _zero_is_none(rest, kind, unit):
        fills.append(0.0)
    return tuple(fills)


def missing_text(values: NDArray[Any], depth: NDArray[np.floating[Any]], fills: tuple[float, ...]) -> str:
    """Return how much of a map holds no reading, "12 % of the pixels hold no reading (0)"; "" if all do.

    Parameters
    ----------
    values, depth, fills
        What was given to `leave_out` and what it returned.
    """
    missing = ~np.isfinite(depth)
    count = int(np.count_nonzero(missing))
    if not count:
        return ""
    names = [f"{fill:g}" for fill in fills]
    if values.dtype.kind == "f":
        names += [name for name, has in (("NaN", np.isnan), ("inf", np.isinf)) if has(values).any()]
    percent = 100 * count / missing.size
    share = f"{percent:.0f} %" if percent >= 1 else "Less than 1 %"
    return f"{share} of the pixels hold no reading ({', '.join(names)})"


def _in_dtype(fill: float, dtype: np.dtype[Any]) -> float:
    """Return a value as an array of this dtype would hold it, to be compared with."""
    return float(dtype.type(fill)) if dtype.kind == "f" else fill


def _outlier(values: NDArray[Any], kind: DepthKind) -> float | None:
    """Return the least or the largest value if it stands out from all others as no depth does."""
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    negative = low < 0 and kind in ("distance", "index")  # neither can be: one such value alone is a mark
    if low in FILLS_BELOW or low <= -_HUGE or negative:
        rest = values[values != values.min()]
        if rest.size:
            least, most = float(rest.min()), float(rest.max())
            far = least - low > (most - least) / 4
            if (low in FILLS_BELOW and far) or (negative and least >= 0) or _huge(low, least, most):
                return low
    if high in FILLS_ABOVE or high >= _HUGE:
        rest = values[values != values.max()]
        if rest.size:
            least, most = float(rest.min()), float(rest.max())
            far = high - most > most - least and (most > least or most != 0)
            if (high in FILLS_ABOVE and far) or _huge(high, least, most):
                return high
    return None


def _huge(value: float, least: float, most: float) -> bool:
    others = max(abs(least), abs(most))
    return abs(value) >= _HUGE and others > 0 and abs(value) >= _TIMES * others


def _zero_is_none(values: NDArray[Any], kind: DepthKind, unit: str | None) -> bool:
    if kind not in ("distance", "inverse") or not values.size or values.min() != 0:
        return False
    integer, picture = values.dtype.kind in "iu", values.dtype.itemsize == 1 and not unit
    if integer and not picture and (kind == "distance" or unit):
        return True
    if kind == "inverse" and not unit and (picture or not integer):
        return False
    return _isolated_zero(values)


def _isolated_zero(values: NDArray[Any]) -> bool:
    """Whether many values are exactly 0 and between them and the others nothing lies, though those lie dense."""
    others = values[values > 0]
    if not others.size or values.size - others.size < max(2, 1e-4 * values.size):
        return False
    gap, most = float(others.min()), float(others.max())
    if gap >= _ISOLATED_SHARE * most:
        return True
    distinct = np.unique(others[:: max(others.size // _SAMPLE, 1)])[:101].astype(np.float64)
    return len(distinct) > 1 and gap >= _ISOLATED_STEPS * float(np.median(np.diff(distinct)))
