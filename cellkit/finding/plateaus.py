"""Saturated plateaus: neighbouring voxels at the brightest value of an image, however wide.

A block sees pieces of them. Pieces of neighbouring blocks that share voxels at the border are joined, so that
a plateau is the same however the image is cut, and may be wider than any block.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cellkit.finding.smoothing import Box, Count

LEAST_VOXELS = 4
AROUND = sorted(
    ((0, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)), key=lambda step: step[1] ** 2 + step[2] ** 2
)
FEW, TOUCH = 1000, 1.8  # of few voxels those that touch are found faster by their distance


class Pieces(NamedTuple):
    """What a block sees of plateaus at its brightest value; all in working voxels.

    `level` (1,), that value; `sums` (k, 4), for each piece the number of its voxels in the block and the sums
    of their z, y and x in the image; `rim` (m, 2), the voxels of pieces beside a border to another block, on
    both sides of it: flat index in the image and number of the piece, from 1.
    """

    level: np.ndarray
    sums: np.ndarray
    rim: np.ndarray


class Numbers(NamedTuple):
    """Which voxels of a block lie on pieces: their flat indices, rising, and the pieces' numbers, from 1."""

    flat: np.ndarray
    number: np.ndarray
    shape: Count

    def at(self, place: np.ndarray) -> np.ndarray:
        """Return the number of the piece at or next to each place (n, 3) in its plane, 0 for none."""
        found = np.zeros(len(place), np.int32)
        for step in AROUND:
            flat = np.ravel_multi_index(tuple((place + step).T), self.shape)
            row = np.minimum(np.searchsorted(self.flat, flat), len(self.flat) - 1)
            found = np.where((found == 0) & (self.flat[row] == flat), self.number[row], found)
        return found


class Plateaus(NamedTuple):
    """The plateaus of an image: `centre` (n, 3) and `voxels` (n,), in working voxels."""

    centre: np.ndarray
    voxels: np.ndarray


def find_pieces(values: np.ndarray, core: Box, start: Count, shape: Count) -> tuple[Pieces, Numbers]:
    """Find the pieces of plateaus in a block and one voxel around it.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        The block and a margin of at least one voxel on the sides where the image goes on.
    core : tuple of 3 slice
        Where the block lies in `values`.
    start : tuple of 3 int
        Where it lies in the image.
    shape : tuple of 3 int
        The image's.

    Returns
    -------
    pieces : Pieces
    numbers : Numbers
        In `values`.
    """
    ends = [first + side.stop - side.start for first, side in zip(start, core, strict=True)]
    before, after = np.greater(start, 0), np.less(ends, shape)
    box = tuple(
        slice(side.start - int(b), side.stop + int(a)) for side, b, a in zip(core, before, after, strict=True)
    )
    level = values[box].max(keepdims=True).ravel()
    place, which = _regions(values[box] == level)
    held = np.ravel_multi_index(tuple((place + [side.start for side in box]).T), values.shape)
    place += np.subtract(start, before)
    inside = ((place >= start) & (place < ends)).all(axis=1)
    weights = [np.ones(len(place)), *place.T]
    sums = np.column_stack([np.bincount(which[inside], w[inside], which.max() + 1)[1:] for w in weights])
    beside = (before & (place <= start) | after & (place >= np.subtract(ends, 1))).any(axis=1)
    flat = np.ravel_multi_index(tuple(place[beside].T), shape)
    rim = np.column_stack([flat, which[beside]]).astype(np.int64)
    return Pieces(level, sums, rim), Numbers(held, which, values.shape)


def _regions(bright: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bright voxels (n, 3) and for each the number, from 1, of the region of touching ones."""
    place = np.column_stack(np.unravel_index(np.flatnonzero(bright), bright.shape))
    if len(place) > FEW:
        return place, label(bright, np.ones((3, 3, 3)))[0][bright]
    return place, 1 + _connected(KDTree(place).query_pairs(TOUCH, output_type="ndarray"), len(place))


def _connected(pairs: np.ndarray, number: int) -> np.ndarray:
    """Return for each of so many things the number of the group that the pairs (n, 2) put it in, from 0."""
    graph = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(number, number))
    return connected_components(graph, directed=False)[1]


def join(blocks: Iterable[tuple[Count, Pieces]]) -> tuple[Plateaus, dict[Count, np.ndarray]]:
    """Join the pieces of neighbouring blocks to plateaus.

    Parameters
    ----------
    blocks : iterable of (start, Pieces)
        Of the blocks at whose level the image is saturated, first those that come first along z.

    Returns
    -------
    plateaus : Plateaus
    numbers : dict of tuple to ndarray
        For each block the plateau of piece 0 (none, -1), 1, 2, ...; -1 for those of fewer than four voxels.
    """
    counted, edges, sums = {}, [np.zeros((0, 2), np.int64)], [np.zeros((0, 4))]
    before: list[np.ndarray] = []
    total = 0
    for _, row in groupby(blocks, key=lambda block: block[0][0]):
        here = []
        for start, pieces in row:
            counted[start] = (total, len(pieces.sums))
            here.append(np.add(pieces.rim, (0, total - 1)))
            sums.append(pieces.sums)
            total += len(pieces.sums)
        rim = np.concatenate([*before, *here])
        rim = rim[np.argsort(rim[:, 0], kind="stable")]
        same = np.flatnonzero(np.diff(rim[:, 0]) == 0)
        edges.append(np.unique(np.column_stack([rim[same, 1], rim[same + 1, 1]]), axis=0))
        before = here
    which = _connected(np.concatenate(edges), total)
    joined = np.zeros((which.max(initial=-1) + 1, 4))
    np.add.at(joined, which, np.concatenate(sums))
    wide = joined[:, 0] >= LEAST_VOXELS
    named = np.where(wide, np.cumsum(wide) - 1, -1)[which]
    numbers = {start: np.append(-1, named[first : first + n]) for start, (first, n) in counted.items()}
    voxels = joined[wide, 0]
    return Plateaus(joined[wide, 1:] / voxels[:, None], voxels), numbers
