"""From relative inverse depth to distances, with the help of known ones.

A monocular network's p and the distance Z are tied by ``1 / Z = s p + t`` with an unknown scale s > 0 and shift t,
which differ from picture to picture (Ranftl et al., "Towards Robust Monocular Depth Estimation", TPAMI 2022). Two known
distances, or one and something infinitely far, fix them; assuming t = 0 instead is far off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_samdepth.core.candidates import Patch
from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.readout import mask_readout

Floats = NDArray[np.float64]
Place = int | Patch | NDArray[np.bool_]
"""Where something is: a label's number, a mask (H, W), or a mask in its box."""


@dataclass(frozen=True)
class Calibration:
    """Scale and shift of one picture's inverse depth.

    Attributes
    ----------
    scale, shift
        s and t of ``1 / Z = s p + t``.
    unit
        Unit of the distances.
    known
        The distances that it was made from.
    fitted
        What it gives at their places.
    left_out
        What it would have given at each place had that one not been known; NaN where the others alone fix nothing.
    """

    scale: float
    shift: float
    unit: str
    known: tuple[float, ...]
    fitted: tuple[float, ...]
    left_out: tuple[float, ...]

    @property
    def leave_one_out_error(self) -> float:
        """Mean of ``|left_out - known| / known``; NaN where there are too few known distances to leave one out."""
        errors = np.abs(np.array(self.left_out) - self.known) / np.array(self.known)
        return float(errors[~np.isnan(errors)].mean()) if (~np.isnan(errors)).any() else float("nan")

    def error_at(self, distance: float) -> float:
        """Return the expected error at `distance`, in the same unit.

        An error in inverse depth (the root mean square of those left out) becomes one in distance that grows with the
        distance's square. NaN where nothing could be left out.
        """
        inverse = 1 / np.array(self.left_out) - 1 / np.array(self.known)
        inverse = inverse[~np.isnan(inverse)]
        return float(np.sqrt((inverse**2).mean()) * distance**2) if inverse.size else float("nan")

    def apply(self, depth: DepthMap) -> DepthMap:
        """Return distances for the map that this was made from: kind "distance", NaN where it says beyond infinity.

        Raises
        ------
        ValueError
            If the map is not inverse depth.
        """
        _need_inverse(depth)
        inverse = self.scale * depth.values.astype(np.float64) + self.shift
        values = np.divide(1, inverse, out=np.full(inverse.shape, np.nan), where=inverse > 0)
        source = f"{depth.source}, calibrated with {len(self.known)} known distances".lstrip(", ")
        return DepthMap(values.astype(np.float32), "distance", self.unit, source, depth.upsampling)


def calibrate(
    depth: DepthMap,
    known: Sequence[tuple[Place, float]],
    infinity: Sequence[Place] = (),
    unit: str = "m",
    labels: NDArray[np.integer[Any]] | None = None,
) -> Calibration:
    """Find scale and shift of a picture's inverse depth by least squares in inverse depth.

    Parameters
    ----------
    depth
        Relative inverse depth, (H, W).
    known
        Pairs of a place and its distance, which is compared with the median depth of the place's core. At least two
        at different depths, or one together with `infinity`.
    infinity
        Places that are infinitely far (the sky): they fix the shift, ``t = -s`` times their median.
    unit
        Unit of the distances.
    labels
        (H, W) integers; needed where places are given as label numbers.

    Raises
    ------
    ValueError
        If there is too little to go by, a place holds no depth, a distance is not positive, or the distances
        contradict the map (s <= 0); the message says which.
    """
    _need_inverse(depth)
    distances = np.array([distance for _, distance in known], dtype=np.float64)
    if not (np.isfinite(distances) & (distances > 0)).all():
        raise ValueError(f"Known distances must be finite and above 0, got {distances.tolist()}.")
    places = np.array([_value_at(depth, place, labels) for place, _ in known])
    far = np.median([_value_at(depth, place, labels) for place in infinity]) if len(infinity) else None
    fit = _fit(places, 1 / distances, far)
    if fit is None:
        raise ValueError(
            "Calibration needs two known distances at different depths, or one and something infinitely far; "
            f"got {len(known)} known and {len(infinity)} infinitely far."
        )
    if fit[0] <= 0:
        raise ValueError(
            "The known distances contradict the depth map: what is nearer there is said to be farther. "
            "Check that each distance belongs to its label."
        )
    fitted = tuple(_distance(fit, place) for place in places)
    return Calibration(*fit, unit, tuple(distances.tolist()), fitted, _left_out(places, 1 / distances, far))


def _fit(places: Floats, inverse: Floats, far: float | None) -> tuple[float, float] | None:
    """Return s and t, or None where they are not fixed."""
    if far is not None:
        offset = places - far
        if not (offset**2).sum() > 0:
            return None
        scale = float((offset * inverse).sum() / (offset**2).sum())
        return scale, -scale * float(far)
    centred = places - places.mean() if places.size else places
    if not (centred**2).sum() > 0:
        return None
    scale = float((centred * inverse).sum() / (centred**2).sum())
    return scale, float(inverse.mean() - scale * places.mean())


def _left_out(places: Floats, inverse: Floats, far: float | None) -> tuple[float, ...]:
    """Return the distance of each place by a fit to all the others."""
    others = ~np.eye(len(places), dtype=bool)
    return tuple(
        _distance(_fit(places[rest], inverse[rest], far), place) for rest, place in zip(others, places, strict=True)
    )


def _distance(fit: tuple[float, float] | None, place: float) -> float:
    if fit is None or fit[0] <= 0:
        return float("nan")
    inverse = fit[0] * place + fit[1]
    return float(1 / inverse) if inverse > 0 else float("inf")


def _value_at(depth: DepthMap, place: Place, labels: NDArray[np.integer[Any]] | None) -> float:
    """Return the median depth of a place's core."""
    if isinstance(place, Patch):
        patch = place
    elif isinstance(place, np.ndarray):
        if place.shape != depth.values.shape:
            raise ValueError(f"A mask must have the depth's shape {depth.values.shape}, got {place.shape}.")
        patch = Patch(place.astype(bool), (0, 0))
    elif labels is None:
        raise ValueError(f"Place {place} is a label's number: pass labels as well.")
    elif labels.shape != depth.values.shape:
        raise ValueError(f"Labels must have the depth's shape {depth.values.shape}, got {labels.shape}.")
    else:
        patch = Patch(labels == place, (0, 0))
    name = f"label {place}" if isinstance(place, int) else "a mask"
    if not patch.area:
        raise ValueError(f"There are no pixels in {name}: take one that is in the picture.")
    value = mask_readout(patch, depth)["median"]
    if np.isnan(value):
        raise ValueError(f"There is no depth in {name}: take another one.")
    return value


def _need_inverse(depth: DepthMap) -> None:
    if depth.kind != "inverse":
        raise ValueError(f"Only inverse depth can be calibrated, got a map of kind {depth.kind!r}.")
