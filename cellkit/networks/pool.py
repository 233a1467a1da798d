"""Cubes of many files seen as one array that is read part by part."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class CubePool:
    """Cubes (n, z, y, x, channel) from several arrays, mapped files above all; read when rows are asked for.

    Parameters
    ----------
    parts : sequence of ndarray, shape (m, z, y, x, channel)
        Where the cubes are.
    part_of, row_of : ndarray of int, shape (n,)
        The part, and the row in it, of each cube.
    """

    def __init__(self, parts: Sequence[np.ndarray], part_of: np.ndarray, row_of: np.ndarray) -> None:
        self._parts, self._part_of, self._row_of = list(parts), np.asarray(part_of), np.asarray(row_of)
        self.shape = (len(self._part_of), *self._parts[0].shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in self._parts))

    def __len__(self) -> int:
        return len(self._part_of)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Read the cubes of a slice, a mask or row numbers."""
        part_of, row_of = np.atleast_1d(self._part_of[rows]), np.atleast_1d(self._row_of[rows])
        cubes = np.empty((len(part_of), *self.shape[1:]), self.dtype)
        for part in np.unique(part_of):
            here = part_of == part
            cubes[here] = self._parts[part][row_of[here]]
        return cubes

    def take(self, rows: np.ndarray) -> "CubePool":
        """Return a pool of some of the cubes, without reading one."""
        return CubePool(self._parts, self._part_of[rows], self._row_of[rows])

    @staticmethod
    def joined(pools: Sequence["CubePool | np.ndarray"]) -> "CubePool":
        """Return one pool of the cubes of several, in their order, without reading one."""
        seen = [pool if isinstance(pool, CubePool) else as_pool(pool) for pool in pools]
        first = np.cumsum([0, *(len(pool._parts) for pool in seen)])
        parts = [part for pool in seen for part in pool._parts]
        part_of = np.concatenate([pool._part_of + n for pool, n in zip(seen, first, strict=False)])
        return CubePool(parts, part_of, np.concatenate([pool._row_of for pool in seen]))


def as_pool(cubes: np.ndarray) -> CubePool:
    """Return a pool over one array."""
    return CubePool([cubes], np.zeros(len(cubes), np.int64), np.arange(len(cubes)))
