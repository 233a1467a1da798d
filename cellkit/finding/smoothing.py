"""Averages over neighbouring voxels that come out the same, bit for bit, wherever the array was cut.

Each result is made by the same elementwise operations in the same order, whatever its place in the array; a
filter that adds up along a row, or treats its end apart, would round differently from block to block.
"""

from collections.abc import Iterable
from math import floor, sqrt

import numpy as np

Count = tuple[int, ...]
Sides = tuple[float, ...]
Box = tuple[slice, ...]
Step = tuple[int, float]

HALF = 0.25
CHUNK = 1 << 17


class Room:
    """Arrays that one thread uses again for every block, so that memory neither grows nor falls to pieces."""

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return the float32 array of this name in this shape; it holds whatever it held before."""
        size = int(np.prod(shape))
        if name not in self._held or self._held[name].size < size:
            self._held[name] = np.zeros(size, np.float32)
        return self._held[name][:size].reshape(shape)


def pool(values: np.ndarray, binning: Count, pooled: np.ndarray) -> None:
    """Average each box of `binning` voxels to one voxel of `pooled`; shape (z, y, x), whole boxes."""
    share = np.float32(1 / np.prod(binning))
    for z in range(len(pooled)):
        planes = values[z * binning[0] : (z + 1) * binning[0]].astype(np.float32)
        for axis, n in enumerate(binning):
            planes = _sum_of([_every(planes, axis, i, n) for i in range(n)])
        np.multiply(planes[0], share, out=pooled[z])


def mirror(values: np.ndarray, inside: Box) -> None:
    """Fill what lies outside of `inside` with the mirror image of what lies within, over and over."""
    for axis, side in enumerate(inside):
        length, line = side.stop - side.start, np.moveaxis(values, axis, 0)
        for place in [*range(side.start), *range(side.stop, values.shape[axis])]:
            turn = (place - side.start) % (2 * length)
            line[place] = line[side.start + min(turn, 2 * length - 1 - turn)]


def smoothing_steps(variance: float) -> list[Step]:
    """Return averages over three points (distance, weight of each side) whose variances add up to `variance`.

    Averages with weight 1/4 at distance d have the variance d²/2; the last step takes what is left.
    """
    steps = []
    while variance >= 0.5:
        distance = max(1, floor(sqrt(variance)))
        steps.append((distance, HALF))
        variance -= distance**2 / 2
    return [*steps, (1, variance / 2)] if variance > 1e-9 else steps


def reach(steps: Iterable[Step]) -> int:
    """Return how many voxels the steps reach to each side."""
    return sum(distance for distance, _ in steps)


def smooth(values: np.ndarray, variances: Sides, room: Room, name: str) -> np.ndarray:
    """Smooth along z, y and x with about a Gaussian of these variances, in voxels², into the room's `name`.

    Nearer to the border than the steps reach the result is finite but meaningless: give a margin. The room's
    `spare` is overwritten.
    """
    strides = (values.shape[1] * values.shape[2], values.shape[2], 1)
    z, y, x = (
        [(distance * stride, weight) for distance, weight in smoothing_steps(variance)]
        for variance, stride in zip(variances, strides, strict=True)
    )
    out = room.take(name, values.shape)
    if not z:
        _average(values.ravel(), y + x, out.ravel())
    else:
        spare = room.take("spare", values.shape).ravel()
        _average(values.ravel(), y + x, spare)
        _average(spare, z, out.ravel())
    return out


def _average(flat: np.ndarray, steps: list[Step], averaged: np.ndarray) -> None:
    """Apply the steps, their distances counted along the flat array, in pieces that fit into the cache."""
    far = reach(steps)
    averaged[:far] = averaged[-far:] = 0
    length = max(CHUNK, 2 * far)
    for first in range(0, flat.size - 2 * far, length):
        part, scale = flat[first : first + length + 2 * far], np.float32(1)
        for distance, weight in steps:
            if weight == HALF:
                part = part[distance:] + part[:-distance]
                part = part[distance:] + part[:-distance]
                scale *= np.float32(0.25)
            else:
                sides = part[2 * distance :] + part[: -2 * distance]
                sides *= np.float32(weight)
                part = part[distance:-distance] * np.float32(1 - 2 * weight)
                part += sides
        np.multiply(part, scale, out=averaged[first + far : first + far + part.size])


def cell_means(values: np.ndarray, cell: Count) -> np.ndarray:
    """Average over boxes of `cell` voxels, at the far ends over what there is of them."""
    weights = np.ones((1, 1, 1), np.float32)
    for axis, n in enumerate(cell):
        size = values.shape[axis]
        boxes = -(-size // n)
        values = np.pad(values, [(0, boxes * n - size if a == axis else 0) for a in range(3)])
        values = _sum_of([_every(values, axis, i, n) for i in range(n)])
        here = np.minimum(n, size - n * np.arange(boxes)).astype(np.float32)
        weights = weights * here.reshape([-1 if a == axis else 1 for a in range(3)])
    return values / weights


def _every(values: np.ndarray, axis: int, first: int, step: int) -> np.ndarray:
    return values[(slice(None),) * axis + (slice(first, None, step),)]


def _sum_of(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total
