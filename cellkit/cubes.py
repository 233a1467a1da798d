"""Crops around points: scaled to the cell's diameter, normalised per data set, augmented.

A cube has axes (z, y, x, channel); its channels are signal, background and whether there is a background.
"""

from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from cellkit.tables import ZYX

ROLES = ("signal", "background")


@dataclass(frozen=True)
class Intensities:
    """How bright one channel of one image is: measured once, never per cube.

    Attributes
    ----------
    centre : float
        Level of the tissue without cells.
    spread : float
        Robust standard deviation around the centre, above zero.
    low, high : float
        Limits between which the channel is shown on a screen.
    """

    centre: float
    spread: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what cannot normalise an image."""
        values = (self.centre, self.spread, self.low, self.high)
        if not np.isfinite(values).all() or self.spread <= 0 or self.low > self.high:
            raise ValueError(
                "Intensities need finite numbers, a spread above zero and low <= high; got "
                f"centre {self.centre:g}, spread {self.spread:g}, low {self.low:g}, high {self.high:g}. "
                "Measure them again with `measure_intensities`."
            )

    def as_dict(self) -> dict[str, float]:
        """Return the four numbers, for JSON; `Intensities(**them)` is the way back."""
        return asdict(self)


@dataclass(frozen=True)
class CubeGeometry:
    """What part of an image a cube shows, and on how many voxels.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels of the cube along z, y, x.
    extent : tuple of 3 float
        Length of the cube's sides along z, y, x, in cell diameters.
    """

    shape: tuple[int, int, int] = (12, 24, 24)
    extent: ZYX = (3.0, 3.0, 3.0)

    def __post_init__(self) -> None:
        """Keep tuples (JSON gives lists) and refuse what is no cube."""
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "extent", tuple(float(side) for side in self.extent))
        sides = np.asarray(self.extent)
        if len(self.shape) != 3 or min(self.shape) < 1 or sides.shape != (3,) or not (sides > 0).all():
            raise ValueError(
                "A cube needs a shape of three whole numbers of at least 1 and an extent of three lengths "
                f"above zero (z, y, x); got shape {self.shape} and extent {self.extent}. Mend the network's card."
            )

    def step_um(self, diameter_um: float) -> ZYX:
        """Return the distance of two neighbouring voxels of the cube along z, y, x, in µm."""
        z, y, x = (side * diameter_um / n for side, n in zip(self.extent, self.shape, strict=True))
        return z, y, x


class Readable(Protocol):
    """What a cube is cut from: an `images.Image`, or anything that reads blocks like one."""

    voxel_um: ZYX
    roles: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of the axes (t, c, z, y, x)."""
        ...

    def read(self, role: str, *, frame: int, box: tuple[slice, slice, slice]) -> np.ndarray:
        """Return one block of one channel, shape (z, y, x)."""
        ...


def normalise(values: np.ndarray, intensities: Intensities) -> np.ndarray:
    """Return ``arcsinh((values - centre) / spread)`` as float32, of any shape.

    Linear near the background, logarithmic far above it; the same for ``values * 3 + 100``.
    """
    scaled = np.asarray(np.subtract(values, np.float32(intensities.centre), dtype=np.float32))
    scaled /= np.float32(intensities.spread)
    return np.arcsinh(scaled, out=scaled)
