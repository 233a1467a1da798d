"""Cubes that come with their labels and without their image: read as an image with one label a frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.intensities import Intensities, measure_intensities
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


@dataclass(frozen=True)
class LabelledStack:
    """Labels of one image with their cubes.

    Attributes
    ----------
    name : str
        Whose labels: animal and image.
    cubes : CubeStack
    centres : ndarray, shape (n, 3)
        Where the place lies in each cube: voxels along z, y, x.
    targets : ndarray, shape (n,)
        1 for the positive class, 0 for the other.
    diameter_um : float
        Diameter of a cell, in µm.
    intensities : dict of str to Intensities, optional
        For each channel, of the image; measured from the cubes where nobody knows the image.
    """

    name: str
    cubes: CubeStack
    centres: np.ndarray
    targets: np.ndarray
    diameter_um: float
    intensities: Mapping[str, Intensities] | None = None

    def cut(self, geometry: CubeGeometry) -> np.ndarray:
        """Return the cubes as a network of this geometry sees them, float32 (n, z, y, x, 3).

        Where a network's cube reaches farther than the cubes do, their edge is repeated.
        """
        intensities = self.intensities or {
            role: measure_intensities(self.cubes, role) for role in self.cubes.roles
        }
        places = pd.DataFrame(self.centres, columns=["z", "y", "x"])
        return cut_cubes(
            self.cubes,
            places.assign(frame=np.arange(len(places))),
            intensities=intensities,
            diameter_um=self.diameter_um,
            geometry=geometry,
        )
