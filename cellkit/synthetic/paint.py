"""Brushes: soft shapes painted into small boxes of a volume, and smooth random fields.

Arrays see only ``+ - * /`` and ``sqrt``, which every processor rounds alike: one seed, one volume.
"""

from typing import NamedTuple

import numpy as np

from cellkit.synthetic.settings import Shape
from cellkit.tables import ZYX

Rng = np.random.Generator
Box = tuple[slice, slice, slice]
Grid = tuple[np.ndarray, np.ndarray, np.ndarray]


class Canvas(NamedTuple):
    """Two channels under the brush and the share of tissue in every voxel; float32, shape (z, y, x)."""

    signal: np.ndarray
    background: np.ndarray
    tissue: np.ndarray
    voxel_um: ZYX

    @property
    def extent_um(self) -> np.ndarray:
        """Length of the sides along z, y, x, in µm."""
        return np.asarray(self.signal.shape) * np.asarray(self.voxel_um)


class Place(NamedTuple):
    """Where something was painted: position (z, y, x) and diameter in µm, contrast, and what it is."""

    at_um: np.ndarray
    diameter_um: float
    brightness: float
    kind: str


def box_around(canvas: Canvas, centre_um: np.ndarray, reach_um: float) -> tuple[Box, Grid] | None:
    """Return the box around a place and the distances from it (open grid, µm); None if outside."""
    slices, grid = [], []
    for axis, (n, step) in enumerate(zip(canvas.signal.shape, canvas.voxel_um, strict=True)):
        first = max(0, int(np.ceil((centre_um[axis] - reach_um) / step)))
        last = min(n, int(np.floor((centre_um[axis] + reach_um) / step)) + 1)
        if last <= first:
            return None
        slices.append(slice(first, last))
        along = (np.arange(first, last) * step - centre_um[axis]).astype(np.float32)
        grid.append(along.reshape([-1 if a == axis else 1 for a in range(3)]))
    return (slices[0], slices[1], slices[2]), (grid[0], grid[1], grid[2])


def soft_step(values: np.ndarray) -> np.ndarray:
    """Rise from 0 to 1 between -0.5 and 0.5, with level ends."""
    rise = np.clip(values + np.float32(0.5), np.float32(0), np.float32(1))
    return rise * rise * (3 - 2 * rise)


def add(canvas: Canvas, box: Box, shape: np.ndarray, *, signal: float, background: float) -> None:
    """Add a painted shape to both channels, each with its own brightness."""
    canvas.signal[box] += np.float32(signal) * shape
    canvas.background[box] += np.float32(background) * shape


def ball(canvas: Canvas, grid: Grid, radius_um: float) -> np.ndarray:
    """Return a ball whose edge is one voxel wide."""
    z, y, x = grid
    distance = np.sqrt(z * z + y * y + x * x)
    return soft_step((np.float32(radius_um) - distance) / edge_um(canvas, grid))


def edge_um(canvas: Canvas, grid: Grid) -> np.ndarray:
    """Return the length of a voxel in the direction of each voxel of the grid, in µm."""
    z, y, x = grid
    steps = [g * np.float32(step) for g, step in zip(grid, canvas.voxel_um, strict=True)]
    along = steps[0] * steps[0] + steps[1] * steps[1] + steps[2] * steps[2]
    smallest = np.float32(min(canvas.voxel_um) ** 2)
    return np.sqrt((along + smallest) / (z * z + y * y + x * x + 1))


def stroke(grid: Grid, direction: np.ndarray, length_um: float, radius_um: float) -> np.ndarray:
    """Return a straight process from the grid's origin that tapers to its end."""
    z, y, x = grid
    dz, dy, dx = direction.astype(np.float32)
    along = np.clip(z * dz + y * dy + x * dx, np.float32(0), np.float32(length_um))
    off = np.sqrt((z - along * dz) ** 2 + (y - along * dy) ** 2 + (x - along * dx) ** 2)
    radius = np.float32(radius_um) * (1 - np.float32(0.7 / length_um) * along)
    return soft_step((radius - off) / np.float32(2 * radius_um))


def smooth_field(rng: Rng, shape: Shape, knots: Shape) -> np.ndarray:
    """Return smooth noise of mean 0 and unit variance at its knots, shape (z, y, x), float32."""
    values = rng.standard_normal([k + 1 for k in knots]).astype(np.float32)
    for axis, (n, k) in enumerate(zip(shape, knots, strict=True)):
        at = (np.arange(n) + 0.5) * k / n
        left = at.astype(np.int64)
        weight = soft_step((at - left - 0.5).astype(np.float32))
        weight = weight.reshape([-1 if a == axis else 1 for a in range(3)])
        values = values.take(left, axis) * (1 - weight) + values.take(left + 1, axis) * weight
    return values


def knots_every(canvas: Canvas, every_um: tuple[float, float, float]) -> Shape:
    """Return how many knots a smooth field needs to have one every so many µm along z, y, x."""
    z, y, x = (max(1, int(side / every)) for side, every in zip(canvas.extent_um, every_um, strict=True))
    return z, y, x


def random_direction(rng: Rng) -> np.ndarray:
    """Return a unit vector, evenly spread over the sphere."""
    vector = rng.standard_normal(3)
    return vector / np.sqrt((vector * vector).sum() + 1e-12)


def draw(rng: Rng, limits: tuple[float, float]) -> float:
    """Return a log-uniform number between two limits above zero; 0 where the lower limit is 0 or less."""
    low, high = limits
    return float(low * (high / low) ** rng.uniform()) if low > 0 else float(rng.uniform(0, high))
