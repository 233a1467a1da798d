"""Pixels for the screens: crops around candidates and parts of planes, as 16-bit buffers."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cellkit.cubes import ROLES, CubeGeometry, Intensities, cut_cubes
from cellkit.images import Image
from cellkit.study import Study

SPAN = 5.0  # as in common.js: 0 is one display range below black, 65535 is four above black
CROP = CubeGeometry(shape=(24, 48, 48), extent=(3.0, 3.0, 3.0))
THICK = 0.5  # of the crop's depth: what a maximum projection looks through


def encode(values: np.ndarray, intensities: Intensities) -> np.ndarray:
    """Return values as little-endian uint16 for the screen, the same for all pixels of one channel.

    Its limits `low` and `high` are one display range; one below it and three above it are kept, so that a
    person can change the contrast without asking for pixels again.
    """
    steps = 65535 / SPAN / max(intensities.high - intensities.low, np.finfo("float32").tiny)
    words = np.subtract(values, np.float32(intensities.low), dtype="float32") * np.float32(steps)
    words += np.float32(65535 / SPAN)
    return np.rint(np.clip(words, 0, 65535, out=words), out=words).astype("<u2")


def crops(study: Study, rows: pd.DataFrame) -> list[bytes]:
    """Return one buffer for each row of a queue: planes through the candidate, three cell diameters wide.

    For the signal, then for the background if there is one: the plane (y, x), the maximum projection (y, x),
    the plane (z, x) and the plane (z, y), of `CROP.shape` voxels, uint16.
    """
    out: list[bytes] = [b""] * len(rows)
    for name, places in rows.reset_index(drop=True).groupby("image"):
        image, intensities = study.image(str(name)), study.intensities(str(name))
        cubes = cut_cubes(
            image, places, intensities=intensities, diameter_um=study.settings.diameter_um, geometry=CROP,
            as_measured=True,
        )  # fmt: skip
        step = np.divide(CROP.step_um(study.settings.diameter_um), image.voxel_um)
        roles = [role for role in ROLES if role in image.roles]
        for row, centre, cube in zip(places.index, places[["z", "y", "x"]].to_numpy(), cubes, strict=True):
            outside = _outside(centre, step, image.shape[2:])
            shown = (_views(cube[..., ROLES.index(role)], intensities[role], outside) for role in roles)
            out[row] = b"".join(shown)
    return out


def _outside(centre: np.ndarray, step: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Say which voxels of a crop lie beyond the image, where a cube repeats its border; shape (z, y, x)."""
    beyond = []
    for middle, by, length, n in zip(centre, step, shape, CROP.shape, strict=True):
        at = middle + (np.arange(n) - (n - 1) / 2) * by
        beyond.append((at < -0.5) | (at > length - 0.5) if length > 1 else np.zeros(n, dtype=bool))
    z, y, x = beyond
    return z[:, None, None] | y[:, None] | x


def _views(cube: np.ndarray, intensities: Intensities, outside: np.ndarray) -> bytes:
    dark = 2 * intensities.low - intensities.high
    measured = np.where(outside, dark, cube)
    z, y, x = (n // 2 for n in cube.shape)
    thick = slice(int(z - THICK * z), int(np.ceil(z + THICK * z)))
    centre = [measured[z - 1 : z + 1].mean(0), measured[thick].max(0)]
    sides = [measured[:, y - 1 : y + 1].mean(1), measured[:, :, x - 1 : x + 1].mean(2)]
    return b"".join(encode(view, intensities).tobytes() for view in centre + sides)


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
    seen = seen.T if view.along == 2 else seen
    (rows, columns), (down, across) = seen.shape, view.step
    if view.step != (1, 1):
        down, across = min(down, rows), min(across, columns)
        import cv2

        whole = seen[: rows // down * down, : columns // across * across].astype("float32")
        seen = cv2.resize(whole, (columns // across, rows // down), interpolation=cv2.INTER_AREA)
    return encode(seen, intensities)


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
