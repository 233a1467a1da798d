"""The working grid of an image: how finely a volume or a slice is looked at, how far the filters reach."""

from dataclasses import dataclass, replace
from math import floor
from typing import NamedTuple

from cellkit.finding.smoothing import Count, Sides, reach, smoothing_steps
from cellkit.tables import ZYX


class Scales(NamedTuple):
    """How finely to look: working voxels in a diameter, sigmas of the two smoothings in diameters.

    Blobs that do not surpass `stands_out` times the noise around are left out. The squared width of a
    smoothed cell, in diameters, is `smoothed + shrunk * diameter²`.
    """

    voxels: float
    centre: float
    surround: float
    stands_out: float
    smoothed: float
    shrunk: float


# Chosen on annotated volumes, where each may change by a third at little loss. Slices are sharper, and cells
# fill more of the ground on which the noise is measured.
VOLUME, SLICE = Scales(4, 0.25, 0.45, 1.0, 0.46, 0.41), Scales(6, 0.2, 0.4, 0.25, 0.30, 0.58)
COLUMN, PLATEAU, PROFILE = 1.5, 1.2, 0.8  # in cell diameters, how far blobs look around for each
NOISE_CELL = 1.5


@dataclass(frozen=True)
class Grid:
    """The working grid of one image, along z, y, x; lengths but `image_shape` are working voxels.

    A working voxel of `voxel_um` is the mean of `binning` voxels; `centre` and `surround` are the variances
    of the two smoothings; a `noise_cell` shares one estimate of the noise; blocks need a `margin` around.
    """

    image_shape: Count
    shape: Count
    binning: Count
    voxel_um: Sides
    diameter_um: float
    centre: Sides
    surround: Sides
    noise_cell: Count
    margin: Count

    @property
    def scales(self) -> Scales:
        """How finely to look, in a volume or in one plane."""
        return scales_of(self.shape)

    def within(self, diameters: float) -> Count:
        """Return how many whole voxels lie within so many diameters: none along an axis of one voxel."""
        counts = (floor(diameters * self.diameter_um / v + 1e-9) for v in self.voxel_um)
        return tuple(c if n > 1 else 0 for c, n in zip(counts, self.shape, strict=True))


def scales_of(shape: Count) -> Scales:
    """Return how finely to look in an image of this shape (z, y, x)."""
    return SLICE if shape[0] == 1 else VOLUME


def working_grid(image_shape: Count, voxel_um: ZYX, diameter_um: float) -> Grid:
    """Choose the working grid for cells of `diameter_um` in an image of so many voxels (z, y, x)."""
    scales = scales_of(image_shape)
    binning = tuple(
        max(1, floor(diameter_um / v / scales.voxels)) if n > 1 else 1
        for v, n in zip(voxel_um, image_shape, strict=True)
    )
    shape = tuple(-(-n // b) for n, b in zip(image_shape, binning, strict=True))
    voxel = tuple(b * v for b, v in zip(binning, voxel_um, strict=True))

    def variance(share: float) -> Sides:
        return tuple(share * (diameter_um / v) ** 2 * (n > 1) for v, n in zip(voxel, shape, strict=True))

    centre, surround = variance(scales.centre**2), variance(scales.surround**2 - scales.centre**2)
    cell = tuple(max(1, round(NOISE_CELL * diameter_um / v)) for v in voxel)
    grid = Grid(image_shape, shape, binning, voxel, diameter_um, centre, surround, cell, (0, 0, 0))
    return replace(grid, margin=_margin(grid))


def _margin(grid: Grid) -> Count:
    """Return how far the filters reach and, behind them, a column, a plateau and a profile."""
    inner, outer = ([reach(smoothing_steps(v)) for v in axes] for axes in (grid.centre, grid.surround))
    column, plateau, profile = (grid.within(share) for share in (COLUMN, PLATEAU, PROFILE))
    z = inner[0] + max(outer[0] + max(1, column[0]), plateau[0])
    y, x = (inner[a] + max(outer[a] + 2, plateau[a] + profile[a] + 2) for a in (1, 2))
    return (z if grid.shape[0] > 1 else 0), y, x
