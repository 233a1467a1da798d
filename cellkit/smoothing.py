"""Averages over neighbouring voxels that come out the same, bit for bit, wherever the array was cut.

Each result is made by the same elementwise operations in the same order, whatever its place in the array; a
filter that adds up along a row, or treats its end apart, would round differently from block to block.
"""

from collections.abc import Iterable
from math import floor, sqrt

import numpy as np

Count = tuple[int, int, int]
Step = tuple[int, float]

HALF = 0.25
CHUNK = 1 << 17


def pool(values: np.ndarray, binning: Count) -> np.ndarray:
    """Average each box of `binning` voxels to one voxel in float32; shape (z, y, x), whole boxes."""
    shape = [n // b for n, b in zip(values.shape, binning, strict=True)]
    pooled = np.empty(shape, np.float32)
    for z in range(shape[0]):
        planes = values[z * binning[0] : (z + 1) * binning[0]].astype(np.float32)
        for axis, n in enumerate(binning):
            planes = _sum_of([_every(planes, axis, i, n) for i in range(n)])
        pooled[z] = planes[0]
    count = int(np.prod(binning))
    return pooled if count == 1 else np.multiply(pooled, np.float32(1 / count), out=pooled)


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


def smooth(values: np.ndarray, variances: tuple[float, float, float]) -> np.ndarray:
    """Smooth along z, y and x with about a Gaussian of these variances, in voxels².

    Nearer to the border than the steps reach the result is finite but meaningless: give a margin.
    """
    strides = (values.shape[1] * values.shape[2], values.shape[2], 1)
    z, y, x = (
        [(distance * stride, weight) for distance, weight in smoothing_steps(variance)]
        for variance, stride in zip(variances, strides, strict=True)
    )
    return _average(_average(values.ravel(), y + x), z).reshape(values.shape)


def _average(flat: np.ndarray, steps: list[Step]) -> np.ndarray:
    """Apply the steps, their distances counted along the flat array, in pieces that fit into the cache."""
    far = reach(steps)
    if far == 0:
        return flat
    averaged = np.zeros_like(flat)
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
    return averaged


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
