"""Cubes that come with their labels and without their image: read as an image with one label a frame."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from cellkit.cubes import ROLES, CubeGeometry, cut_batches
from cellkit.folder.disk import fingerprint
from cellkit.pixels.blocks import Readable, Windows, read_block
from cellkit.pixels.intensities import Intensities, measure_intensities
from cellkit.tables import ZYX


class Cubes(Protocol):
    """Cubes of one channel, one after the other; in memory, or each read when it is asked for."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, number: int) -> np.ndarray:
        """Return one, shape (z, y, x)."""
        ...


@dataclass(frozen=True)
class CubeStack:
    """Cubes of one image as something that cubes are cut from: each is a frame of its own.

    Attributes
    ----------
    channels : dict of str to Cubes
        For "signal" and, if there is one, "background" the cubes (n, z, y, x).
    sides : tuple of 3 int
        Voxels of a cube along z, y, x.
    voxel_um : tuple of 3 float
        Voxel size of the cubes along z, y and x, in µm.
    """

    channels: Mapping[str, Cubes]
    sides: tuple[int, int, int]
    voxel_um: ZYX

    @property
    def roles(self) -> tuple[str, ...]:
        """What each channel is."""
        return tuple(self.channels)

    @property
    def chunk(self) -> tuple[int, int, int]:
        """A cube is read whole."""
        return self.sides

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Length of the axes (t, c, z, y, x); t counts cubes."""
        return len(self.channels["signal"]), len(self.channels), *self.sides

    def read(self, role: str, *, frame: int, box: tuple[slice, slice, slice]) -> np.ndarray:
        """Return one block of one channel of one cube, shape (z, y, x)."""
        return np.asarray(self.channels[role][frame])[box]


def cut_stack(
    image: Readable, places: pd.DataFrame, *, geometry: CubeGeometry, diameter_um: float
) -> tuple[CubeStack, np.ndarray]:
    """Cut the part of an image around each place, as it is, so that any cube can be cut from it later.

    Where the image's voxels are finer than the steps of the geometry's cubes, whole numbers of them are
    averaged first, as `cubes.cut_cubes` does.

    Parameters
    ----------
    image : Image
    places : DataFrame
        Columns `frame, z, y, x`, in voxels.
    geometry : CubeGeometry
        Of the largest cubes that are to be cut, in diameters.
    diameter_um : float
        Diameter of a cell, in µm.

    Returns
    -------
    tuple of CubeStack and ndarray, shape (n, 3)
        The parts, and where in each its place lies: voxels along z, y, x.
    """
    axes = geometry.samples(image, diameter_um)
    at = places[["z", "y", "x"]].to_numpy("float64")
    windows = Windows(
        starts=np.stack([axis.starts(at[:, k]) for k, axis in enumerate(axes)], axis=1),
        taps=np.array([axis.taps for axis in axes]),
        pools=np.array([axis.pool for axis in axes]),
        chunk=image.chunk,
    )
    roles = [role for role in ROLES if role in image.roles]
    parts = {role: np.empty(0) for role in roles}
    for frame, rows in places.reset_index(drop=True).groupby("frame").indices.items():
        for group in windows.groups(rows):
            corners = windows.span(group)
            first = tuple((windows.starts[group] - corners[0]).T)
            for role in roles:
                block = read_block(image, role, int(str(frame)), corners=corners, pools=windows.pools)
                if len(parts[role]) == 0:
                    parts[role] = np.empty((len(at), *windows.taps), block.dtype)
                parts[role][group] = sliding_window_view(block, tuple(windows.taps))[first]
    z, y, x = (float(um) for um in np.multiply(image.voxel_um, windows.pools))
    sides = (int(windows.taps[0]), int(windows.taps[1]), int(windows.taps[2]))
    centres = (at + 0.5) / windows.pools - 0.5 - windows.starts
    return CubeStack(parts, sides, (z, y, x)), centres


@dataclass(frozen=True)
class LabelledStack:
    """Labels of one image with their cubes.

    Attributes
    ----------
    name : str
        Of the image.
    cubes : CubeStack
    centres : ndarray, shape (n, 3)
        Where the place lies in each cube: voxels along z, y, x.
    targets : ndarray, shape (n,)
        1 for the positive class, 0 for the other.
    diameter_um : float
        Diameter of a cell, in µm.
    intensities : dict of str to Intensities, optional
        For each channel, of the image; measured from the cubes where nobody knows the image.
    animal : str
        Of which they are; its name where it is not given.
    """

    name: str
    cubes: CubeStack
    centres: np.ndarray
    targets: np.ndarray
    diameter_um: float
    intensities: Mapping[str, Intensities] | None = None
    animal: str = ""

    def measured(self) -> dict[str, Intensities]:
        """Return the intensities of each channel, measured from the cubes if they are not known."""
        known = self.intensities or {role: measure_intensities(self.cubes, role) for role in self.cubes.roles}
        return dict(known)

    def batches(self, geometry: CubeGeometry) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ``(rows, cubes)`` as a network of this geometry sees them, in the order of the labels.

        Where a network's cube reaches farther than the cubes do, their edge is repeated.
        """
        places = pd.DataFrame(self.centres, columns=["z", "y", "x"])
        return cut_batches(
            self.cubes,
            places.assign(frame=np.arange(len(places))),
            intensities=self.measured(),
            diameter_um=self.diameter_um,
            geometry=geometry,
        )

    def cut(self, geometry: CubeGeometry) -> np.ndarray:
        """Return what `batches` yields as one array, float32 (n, z, y, x, 3)."""
        cubes = np.empty((len(self.targets), *geometry.shape, len(ROLES) + 1), np.float32)
        for rows, cut in self.batches(geometry):
            cubes[rows] = cut
        return cubes

    def hash(self) -> str:
        """Return what changes when the labels, or one of 16 evenly spread cubes, change."""
        some = np.unique(np.linspace(0, len(self.targets) - 1, 16).astype(int)) if len(self.targets) else []
        cubes = [[fingerprint(np.asarray(each[n])) for n in some] for each in self.cubes.channels.values()]
        labels = [fingerprint(np.asarray(self.centres)), fingerprint(np.asarray(self.targets))]
        known = {role: measured.as_dict() for role, measured in (self.intensities or {}).items()}
        return fingerprint([cubes, labels, known, self.diameter_um, self.cubes.voxel_um])
