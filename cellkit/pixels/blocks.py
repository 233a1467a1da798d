"""Which blocks of an image to read for many small windows, and where a window's samples lie in them.

A window is the part of an image that one cube needs, along (z, y, x), counted in pooled voxels: where the
image's voxels are finer than the cube's step, so many are first averaged as one step covers whole.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from cellkit.tables import ZYX

MOST_VOXELS = 48_000_000
FEW_VOXELS = 4_000_000


class Readable(Protocol):
    """What blocks are read from: an `images.Image`, or anything that reads like one."""

    @property
    def voxel_um(self) -> ZYX:
        """Voxel size along z, y and x, in µm."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """What each channel is: "signal", "background" or "none"."""
        ...

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Smallest part (z, y, x) that the file gives at once: what a block costs to read."""
        ...

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Length of the axes (t, c, z, y, x)."""
        ...

    def read(self, role: str, *, frame: int, box: tuple[slice, slice, slice]) -> np.ndarray:
        """Return one block of one channel, shape (z, y, x)."""
        ...


class Samples(NamedTuple):
    """How the samples of a window lie on one axis of an image.

    Attributes
    ----------
    number : int
        Samples of a window.
    pool : int
        Voxels that are averaged first.
    step : float
        Distance of two samples, in pooled voxels: less than 2, or less than 1 where nothing is pooled.
    length, taps : int
        Pooled voxels of the image, and those of them that a window needs.
    """

    number: int
    pool: int
    step: float
    length: int
    taps: int

    @classmethod
    def on(cls, length: int, *, number: int, step: float) -> "Samples":
        """Lay out `number` samples `step` voxels apart on an axis of `length` voxels."""
        pool = min(max(1, int(step)), length)
        pooled = -(-length // pool)
        needed = int(np.ceil((number - 1) * step / pool + 2 * max(1.0, step / pool)))
        return cls(number, pool, step / pool, pooled, min(pooled, needed))

    def positions(self, centres: np.ndarray) -> np.ndarray:
        """Return where samples around `centres` (n,), in voxels, lie: pooled voxels, shape (n, number)."""
        offsets = (np.arange(self.number) - (self.number - 1) / 2) * self.step
        return ((centres + 0.5) / self.pool - 0.5)[:, None] + offsets

    def starts(self, centres: np.ndarray) -> np.ndarray:
        """Return the first pooled voxel of each window, shape (n,)."""
        first = np.floor(self.positions(centres)[:, 0] - max(1.0, self.step)).astype(np.int64) + 1
        return np.clip(first, 0, self.length - self.taps)

    def weights(self, centres: np.ndarray) -> np.ndarray:
        """Return the weight of each pooled voxel in each sample, float32 of shape (n, number, taps).

        Linear interpolation, widened to the step where that is longer than a voxel; beyond the border the
        edge is repeated.
        """
        positions = np.clip(self.positions(centres), 0, self.length - 1)
        taps = self.starts(centres)[:, None, None] + np.arange(self.taps)
        weights = np.maximum(0, 1 - np.abs(positions[:, :, None] - taps) / max(1.0, self.step))
        return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


class WholeVoxels(NamedTuple):
    """How the samples of a window of whole voxels lie on one axis, as cellfinder 1.10 cuts its cubes.

    Around the voxel nearest to a place so many whole voxels are cut as come nearest to the cube's side; then
    they are interpolated. Neighbouring places may share a window.

    Attributes
    ----------
    number : int
        Samples of a window.
    voxels : int
        Voxels that are cut.
    length : int
        Voxels of the image.
    is_depth : bool
        Along z half of an odd number is rounded down; along y and x half a voxel goes to the even one.
    """

    number: int
    voxels: int
    length: int
    is_depth: bool

    @property
    def pool(self) -> int:
        """Voxels that are averaged first: none."""
        return 1

    @property
    def taps(self) -> int:
        """Voxels of the image that a window needs."""
        return min(self.length, self.voxels)

    def _first(self, centres: np.ndarray) -> np.ndarray:
        half = self.voxels // 2 if self.is_depth else self.voxels / 2
        return np.rint(np.rint(centres) - half).astype(np.int64)

    def starts(self, centres: np.ndarray) -> np.ndarray:
        """Return the first voxel of each window that is read, shape (n,)."""
        return np.clip(self._first(centres), 0, self.length - self.taps)

    def weights(self, centres: np.ndarray) -> np.ndarray:
        """Return the weight of each voxel in each sample, float32 of shape (n, number, taps).

        Beyond the border the edge is repeated.
        """
        at = (np.arange(self.number) + 0.5) * self.voxels / self.number - 0.5
        at = np.clip(at, 0, self.voxels - 1)[:, None]
        linear = np.maximum(0, 1 - np.abs(at - np.arange(self.voxels))).astype(np.float32)
        inside = np.clip(self._first(centres)[:, None] + np.arange(self.voxels), 0, self.length - 1)
        read = inside - self.starts(centres)[:, None]
        return linear @ (read[:, :, None] == np.arange(self.taps)).astype(np.float32)


class Windows(NamedTuple):
    """Windows of one size (z, y, x) in pooled voxels, and the chunks in which their image is read."""

    starts: np.ndarray
    taps: np.ndarray
    pools: np.ndarray
    chunk: tuple[int, int, int]

    def span(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the end corner of the block that holds the windows of these rows."""
        return self.starts[rows].min(axis=0), self.starts[rows].max(axis=0) + self.taps

    def cost(self, rows: np.ndarray) -> np.ndarray:
        """Return the voxels that are read for the block of these rows, by whole chunks, and those kept."""
        low, high = (corner * self.pools for corner in self.span(rows))
        chunks = -(-high // self.chunk) - low // self.chunk
        return np.array([np.prod(chunks * self.chunk), np.prod(high - low)])

    def _costs(self, halves: list[np.ndarray]) -> tuple[int, int]:
        read, kept = np.sum([self.cost(half) for half in halves], axis=0)
        return int(read), int(kept)

    def groups(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Part rows into groups, one block each: none too big for memory, none mostly for nothing."""
        read, kept = self.cost(rows)
        if len(rows) == 1 or max(read, kept) <= FEW_VOXELS:
            yield rows
            return
        gaps, middles = [], []
        for axis in range(3):
            order = rows[np.argsort(self.starts[rows, axis], kind="stable")]
            widest_gap = int(np.argmax(np.diff(self.starts[order, axis]))) + 1
            gaps.append(np.split(order, [widest_gap]))
            middles.append(np.array_split(order, 2))
        halves = min(gaps, key=self._costs)
        if self._costs(halves)[0] > read / 2:
            if kept <= MOST_VOXELS:
                yield rows
                return
            halves = min(middles, key=self._costs)
        for half in halves:
            yield from self.groups(half)


def read_block(
    image: Readable, role: str, frame: int, *, corners: tuple[np.ndarray, np.ndarray], pools: np.ndarray
) -> np.ndarray:
    """Read the block between two corners, in pooled voxels (z, y, x), averaged by `pools`."""
    low, high = corners[0] * pools, np.minimum(corners[1] * pools, image.shape[2:])
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    block = image.read(role, frame=frame, box=(z, y, x))
    for axis, pool in enumerate(int(pool) for pool in pools):
        if pool > 1:
            short = [(0, -n % pool if k == axis else 0) for k, n in enumerate(block.shape)]
            parts = np.moveaxis(np.pad(block, short, mode="edge"), axis, 0)
            mean = sum(parts[k::pool].astype(np.float32) for k in range(pool)) / np.float32(pool)
            block = np.moveaxis(np.asarray(mean), 0, axis)
    return np.ascontiguousarray(block)
