"""Crops around points: scaled to the cell's diameter, in units of the image's noise.

Brightness in a cube is what lies above the local background, the first quartile of that cube and channel,
divided by the spread of the noise, measured once per image and channel: a dim cell stays dim, on whatever
ground it lies.

A cube has axes (z, y, x, channel); its channels are signal, background and whether there is a background.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from cellkit.pixels.blocks import Readable, Samples, WholeVoxels, Windows, read_block
from cellkit.pixels.intensities import Intensities, normalise
from cellkit.tables import PLACE_COLUMNS, ZYX, check_inside, check_table

ROLES = ("signal", "background")
BACKGROUND = 0.25  # quantile of a cube that is its local background
BATCH = 256
UNITS = ("diameters", "µm")


@dataclass(frozen=True)
class CubeGeometry:
    """What part of an image a cube shows, and on how many voxels.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels of the cube along z, y, x.
    extent : tuple of 3 float
        Length of the cube's sides along z, y, x, in `unit`.
    unit : str
        "diameters" of a cell; or "µm" for cubes of one size whatever the cell, cut as cellfinder does.
    """

    shape: tuple[int, int, int] = (12, 24, 24)
    extent: ZYX = (3.0, 3.0, 3.0)
    unit: str = "diameters"

    def __post_init__(self) -> None:
        """Keep tuples (JSON gives lists) and refuse what is no cube."""
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "extent", tuple(float(side) for side in self.extent))
        sides = np.asarray(self.extent)
        if len(self.shape) != 3 or min(self.shape) < 1 or sides.shape != (3,) or not (sides > 0).all():
            raise ValueError(
                "A cube needs a shape of three whole numbers of at least 1 and an extent of three lengths "
                f"above zero (z, y, x); got shape {self.shape} and extent {self.extent}. "
                "Mend the network's card."
            )
        if self.unit not in UNITS:
            raise ValueError(
                f"A cube's unit must be {' or '.join(UNITS)}; got {self.unit!r}. Mend the network's card."
            )

    def sides_um(self, diameter_um: float) -> ZYX:
        """Return the length of the cube's sides along z, y, x, in µm."""
        unit_um = diameter_um if self.unit == "diameters" else 1.0
        z, y, x = (side * unit_um for side in self.extent)
        return z, y, x

    def step_um(self, diameter_um: float) -> ZYX:
        """Return the distance of two neighbouring voxels of the cube along z, y, x, in µm."""
        z, y, x = (side / n for side, n in zip(self.sides_um(diameter_um), self.shape, strict=True))
        return z, y, x

    def samples(self, image: Readable, diameter_um: float) -> Sequence[Samples | WholeVoxels]:
        """Lay out the samples of a cube along z, y, x of an image."""
        lengths, voxel_um = image.shape[2:], image.voxel_um
        if self.unit == "µm":
            voxels = [round(side / um) for side, um in zip(self.extent, voxel_um, strict=True)]
            each = zip(self.shape, voxels, lengths, (True, False, False), strict=True)
            return [WholeVoxels(number, max(1, cut), n, depth) for number, cut, n, depth in each]
        steps = np.divide(self.step_um(diameter_um), voxel_um)
        return [
            Samples.on(length, number=number, step=float(step))
            for length, number, step in zip(lengths, self.shape, steps, strict=True)
        ]


def cut_cubes(
    image: Readable,
    places: pd.DataFrame,
    *,
    intensities: Mapping[str, Intensities],
    diameter_um: float,
    geometry: CubeGeometry,
    as_measured: bool = False,
) -> np.ndarray:
    """Cut one cube around each place, in the order of the places.

    A cube is centred on its place to a fraction of a voxel: linear interpolation, and where voxels are finer
    than the cube's step the mean over a step. Beyond the border the image's edge is repeated; a 2D slice is
    a volume of one plane, which is repeated along z.

    Parameters
    ----------
    image : Image
        Is read block by block, never whole.
    places : DataFrame
        Columns `frame, z, y, x`, in voxels.
    intensities : dict of str to Intensities
        By role; their spread is the unit of every cube of the image, their centre changes nothing.
    diameter_um : float
        Diameter of a cell, in µm.
    as_measured : bool
        Leave brightness in the image's own units, as a person sees it; networks see it normalised.

    Returns
    -------
    ndarray of float32, shape (n, z, y, x, 3)
        Channels signal, background (0 where there is none) and whether there is a background (1 or 0).
        Signal and background are ``arcsinh((value - first quartile of the cube) / spread)``, each for itself.

    Raises
    ------
    ValueError
        If a place is outside the image, the image has no signal, or its intensities are not given.
    """
    cubes = np.empty((len(places), *geometry.shape, 3), dtype=np.float32)
    for rows, cut in cut_batches(
        image,
        places,
        intensities=intensities,
        diameter_um=diameter_um,
        geometry=geometry,
        as_measured=as_measured,
    ):
        cubes[rows] = cut
    return cubes


def cut_batches(
    image: Readable,
    places: pd.DataFrame,
    *,
    intensities: Mapping[str, Intensities],
    diameter_um: float,
    geometry: CubeGeometry,
    as_measured: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``(rows, cubes)``, at most 256 at a time, in the order that reads the image least.

    As `cut_cubes`, but memory stays bounded however many places there are. `rows` are positions in `places`;
    each comes once.
    """
    frames, centres = _checked_places(image, places)
    roles = _checked_roles(image, intensities)
    if not (np.isfinite(diameter_um) and diameter_um > 0):
        raise ValueError(f"A cell's diameter must be above 0 µm; got {diameter_um:g}. Give it in µm.")
    axes = geometry.samples(image, diameter_um)
    windows = Windows(
        starts=np.stack([axis.starts(centres[:, k]) for k, axis in enumerate(axes)], axis=1),
        taps=np.array([axis.taps for axis in axes]),
        pools=np.array([axis.pool for axis in axes]),
        chunk=image.chunk,
    )
    for frame in np.unique(frames):
        for group in windows.groups(np.flatnonzero(frames == frame)):
            corners = windows.span(group)
            blocks = {
                role: read_block(image, role, int(frame), corners=corners, pools=windows.pools)
                for role in roles
            }
            for rows in np.split(group, range(BATCH, len(group), BATCH)):
                weights = [axis.weights(centres[rows, k]) for k, axis in enumerate(axes)]
                views = {
                    role: sliding_window_view(block, tuple(windows.taps))[
                        tuple((windows.starts[rows] - corners[0]).T)
                    ]
                    for role, block in blocks.items()
                }
                yield rows, _filled(views, weights, intensities, as_measured=as_measured)


def _filled(
    views: dict[str, np.ndarray],
    weights: list[np.ndarray],
    intensities: Mapping[str, Intensities],
    *,
    as_measured: bool,
) -> np.ndarray:
    """Return the cubes of windows (n, taps...) of each role; without a background its channels are 0."""
    samples = [axis.shape[1] for axis in weights]
    cubes = np.zeros((len(weights[0]), *samples, 3), dtype=np.float32)
    for role, view in views.items():
        above = _resampled(view, weights, intensities[role].centre)
        shown = above + intensities[role].centre if as_measured else _contrast(above, intensities[role])
        cubes[..., ROLES.index(role)] = shown
    cubes[..., 2] = "background" in views
    return cubes


def _checked_places(image: Readable, places: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    columns = {name: kind for name, kind in PLACE_COLUMNS.items() if name != "image"}
    checked = check_inside(check_table(places, columns, what="places"), image.shape[2:], what="places")
    frames = checked["frame"].to_numpy()
    if len(frames) and (frames.min() < 0 or frames.max() >= image.shape[0]):
        raise ValueError(
            f"A place's frame must be one of the image's {image.shape[0]}, counted from 0; got frames "
            f"{frames.min()} to {frames.max()}. Are the places of another image?"
        )
    return frames, checked[["z", "y", "x"]].to_numpy()


def _checked_roles(image: Readable, intensities: Mapping[str, Intensities]) -> list[str]:
    roles = [role for role in ROLES if role in image.roles]
    missing = [role for role in roles if role not in intensities]
    if missing:
        raise ValueError(
            f"Cubes need the intensities of every channel that they show; the image has {', '.join(roles)}, "
            f"intensities came for {', '.join(intensities) or 'none'}. "
            f"Measure them: `measure_intensities(image, {missing[0]!r})`."
        )
    return roles


def _resampled(window: np.ndarray, weights: list[np.ndarray], centre: float) -> np.ndarray:
    """Interpolate windows (n, taps...) along z, x and y; returns what lies above the image's centre.

    The centre goes first: on a high background float32 would lose the small differences in the products.
    """
    by_z, by_y, by_x = weights
    n, planes, rows, columns = window.shape
    above = np.subtract(window, np.float32(centre), dtype=np.float32)
    above = above.reshape(n, planes * rows, columns) @ by_x.transpose(0, 2, 1)
    above = by_y[:, None] @ above.reshape(n, planes, rows, -1)
    return (by_z @ above.reshape(n, planes, -1)).reshape(n, -1, *above.shape[2:])


def _contrast(values: np.ndarray, intensities: Intensities) -> np.ndarray:
    """Normalise what lies above the local background of each cube, shape (n, z, y, x)."""
    flat = values.reshape(len(values), -1)
    level = int(BACKGROUND * flat.shape[1])
    flat = flat - np.partition(flat, level, axis=1)[:, level, None]
    above = replace(intensities, centre=0.0, low=0.0, high=0.0)
    return normalise(flat, above).reshape(values.shape)
