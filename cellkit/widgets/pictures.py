"""Pixels for the screens: crops around candidates and parts of planes, as 16-bit buffers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cellkit.cubes import ROLES, CubeGeometry, Intensities, cut_cubes
from cellkit.images import Image
from cellkit.study import Study
from cellkit.tables import ZYX

SPAN = 5.0  # as in common.js: 0 is one display range below black, 65535 is four above black
CROP = CubeGeometry(shape=(24, 48, 48), extent=(3.0, 3.0, 3.0))
CUTS = {  # of a crop: its middle voxels (z, y, x), and the axis that is looked along
    "plane": (((2, 48, 48), 0),),
    "projection": (((12, 48, 48), 0),),
    "sides": (((24, 2, 48), 1), ((24, 48, 2), 2)),
}


def encode(values: np.ndarray, intensities: Intensities) -> np.ndarray:
    """Return values as little-endian uint16 for the screen, the same for all pixels of one channel.

    Its limits `low` and `high` are one display range; one below it and three above it are kept, so that a
    person can change the contrast without asking for pixels again.
    """
    steps = 65535 / SPAN / max(intensities.high - intensities.low, np.finfo("float32").tiny)
    words = np.subtract(values, np.float32(intensities.low), dtype="float32") * np.float32(steps)
    words += np.float32(65535 / SPAN)
    return np.rint(np.clip(words, 0, 65535, out=words), out=words).astype("<u2")


def crops(study: Study, rows: pd.DataFrame, part: str = "plane") -> list[bytes]:
    """Return one buffer for each row of a queue: a part of a crop of `CROP` around the candidate.

    For the signal, then for the background if there is one, as uint16: of "plane" the two middle planes' mean
    (y, x), of "projection" the maximum of the middle half (y, x), of "sides" (z, x) and (z, y) through the
    middle. Only the voxels that are shown are computed.
    """
    out: list[list[bytes]] = [[] for _ in range(len(rows))]
    names = rows["image"].to_numpy(dtype=object)
    places = pd.DataFrame({axis: rows[axis].to_numpy() for axis in ("frame", "z", "y", "x")})
    for name in dict.fromkeys(names):
        here = np.flatnonzero(names == name)
        image, intensities = study.image(str(name)), study.intensities(str(name))
        diameter_um = study.settings.diameter_um
        cut = [
            _views(image, places.iloc[here], intensities, diameter_um, shape=shape, along=along)
            for shape, along in CUTS[part]
        ]
        for role in (role for role in ROLES if role in image.roles):
            for views in cut:
                for row, view in zip(here, views[role], strict=True):
                    out[row].append(view.tobytes())
    return [b"".join(parts) for parts in out]


def _views(
    image: Image,
    places: pd.DataFrame,
    intensities: Mapping[str, Intensities],
    diameter_um: float,
    *,
    shape: tuple[int, int, int],
    along: int,
) -> dict[str, np.ndarray]:
    """Return of each channel one view of the middle of every crop, uint16 (n, rows, columns)."""
    z, y, x = (side * n / whole for side, n, whole in zip(CROP.extent, shape, CROP.shape, strict=True))
    geometry = CubeGeometry(shape=shape, extent=(z, y, x))
    cubes = cut_cubes(
        image, places, intensities=intensities, diameter_um=diameter_um, geometry=geometry, as_measured=True
    )
    outside = _outside(image, places, geometry.step_um(diameter_um), shape)
    seen = {}
    for role in (role for role in ROLES if role in image.roles):
        known = intensities[role]
        measured = np.where(outside, 2 * known.low - known.high, cubes[..., ROLES.index(role)])
        thick = shape[along] > 2
        seen[role] = encode(measured.max(along + 1) if thick else measured.mean(along + 1), known)
    return seen


def _outside(image: Image, places: pd.DataFrame, step_um: ZYX, shape: tuple[int, int, int]) -> np.ndarray:
    """Say which voxels of crops lie beyond the image, where a cube repeats its border; shape (n, z, y, x)."""
    beyond = []
    for axis, middle in enumerate(places[["z", "y", "x"]].to_numpy("float64").T):
        n, length = shape[axis], image.shape[2 + axis]
        offsets = (np.arange(n) - (n - 1) / 2) * step_um[axis] / image.voxel_um[axis]
        at = middle[:, None] + offsets
        beyond.append((at < -0.5) | (at > length - 0.5) if length > 1 else np.zeros(at.shape, dtype=bool))
    z, y, x = beyond
    return z[:, :, None, None] | y[:, None, :, None] | x[:, None, None, :]


def plane(
    image: Image,
    role: str,
    intensities: Intensities,
    *,
    view: "View",
) -> np.ndarray:
    """Return part of an image seen along an axis, uint16 (rows, columns).

    Rows and columns are (y, x) along z, (z, x) along y, and (y, z) along x: the maximum of the planes of the
    view's box, in means of its steps.
    """
    box = slice(*view.box[0]), slice(*view.box[1]), slice(*view.box[2])
    seen = image.read(role, frame=view.frame, box=box).max(axis=view.along)
    return encode(stepped(seen.T if view.along == 2 else seen, view.step), intensities)


def stepped(seen: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """Return the means of steps of so many pixels down and across; what is left over is dropped."""
    (rows, columns), (down, across) = seen.shape, step
    if step == (1, 1):
        return seen
    down, across = min(down, rows), min(across, columns)
    import cv2

    whole = seen[: rows // down * down, : columns // across * across].astype("float32")
    return cv2.resize(whole, (columns // across, rows // down), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class View:
    """What a picture of an image shows.

    Attributes
    ----------
    along : int
        The axis that is looked along: 0 z, 1 y, 2 x.
    box : tuple of 3 (first, stop)
        Range of voxels along z, y and x.
    step : tuple of 2 int
        Voxels in one pixel, down and across.
    frame : int
        Frame of a time lapse.
    """

    along: int
    box: tuple[tuple[int, int], ...]
    step: tuple[int, int] = (1, 1)
    frame: int = 0
