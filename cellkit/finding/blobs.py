"""Bright blobs of about one cell's diameter: where they are, how far each stands out, how wide it is.

A blob is a maximum, in its plane, of the difference of two smoothings (the *height*). It is a peak if it is a
maximum along z too; else it is a shoulder: a further cell in a row along z that the microscope drew into one
streak shows no maximum of its own. All that decides about a blob lies within the margin around a block, so
that a volume cut into blocks gives the same blobs, bit for bit.
"""

from math import sqrt
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import label

from cellkit.finding.grids import COLUMN, PLATEAU, PROFILE, Grid
from cellkit.finding.plateaus import Pieces, find_pieces
from cellkit.finding.smoothing import Box, Count, Room, cell_means, smooth

BEND, LEAST_WIDTH = 0.5, 0.2  # in cell diameters; as those of the grid, a third more or less matters little
SHOULDER = 0.5  # a shoulder has this share of the height of what stands within its column
PLATEAU_VOXELS = 4
BOX_VOXELS = 1 << 19  # looked at in one go


class Blobs(NamedTuple):
    """Blobs, one row each, and the noise of the cells that they lie in.

    `centre` (n, 3) in voxels of the image; `height` (n,) above the surroundings in grey values; `roundness`
    (n,) from 0, a line or an edge, to 1; `shoulder` (n,) bool; `diameter_um` (n,); `noise` (z, y, x), the
    mean size of the height in each noise cell, in grey values; `span` (2,), least and greatest grey value;
    `piece` (n,), number of the piece of a plateau that the blob lies on, 0 for none; `level, sums, rim` as of
    `plateaus.Pieces`.
    """

    centre: np.ndarray
    height: np.ndarray
    roundness: np.ndarray
    shoulder: np.ndarray
    diameter_um: np.ndarray
    noise: np.ndarray
    span: np.ndarray
    piece: np.ndarray
    level: np.ndarray
    sums: np.ndarray
    rim: np.ndarray

    @property
    def pieces(self) -> Pieces:
        """The pieces of plateaus in the block."""
        return Pieces(self.level, self.sums, self.rim)


def find_blobs(values: np.ndarray, grid: Grid, start: Count, room: Room) -> Blobs:
    """Find the blobs of one block.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Working voxels of the block and the margin around it, mirrored where that reaches over the image's
        border.
    grid : Grid
        From `working_grid`.
    start : tuple of 3 int
        The block's first working voxel in the image, without the margin; a multiple of `grid.noise_cell`.
    room : Room
        Where the thread keeps its arrays.

    Returns
    -------
    Blobs
        In the order of their places; those that hardly stand out from the noise around are left out.
    """
    inner = smooth(values, grid.centre, room, "inner")
    height = smooth(inner, grid.surround, room, "height")
    np.subtract(inner, height, out=height)
    core = _core(values.shape, grid, start)
    slabs = _slabs(core, grid.noise_cell[0])
    noise = np.concatenate([cell_means(np.abs(height[slab]), grid.noise_cell) for slab in slabs])
    span = np.array([values[core].min(), values[core].max()])
    _lower_outside(height, grid, start)
    place, shoulder = _peaks(height, core, noise, grid, room)
    peak = height[tuple(place.T)]
    kept = peak > 1e-5 * np.abs(inner[tuple(place.T)])
    place, shoulder, peak = place[kept], shoulder[kept], peak[kept]
    level, equal = _brightest(values, place)
    flat = equal >= PLATEAU_VOXELS
    shift = _to_tops(height, place)
    shift[flat] = _to_plateaus(values, place[flat], shift[flat], level[flat], grid)
    roundness, diameter_um = _shapes(inner, place + np.rint(shift).astype(np.int64), grid)
    centre = ((place + start - grid.margin) + shift + 0.5) * grid.binning - 0.5
    centre = np.clip(centre, 0, np.subtract(grid.image_shape, 1))
    pieces, numbers = find_pieces(values, core, start, grid.shape)
    on = np.zeros(len(place), np.int32)
    on[level == pieces.level] = numbers.at(place[level == pieces.level])
    return Blobs(centre, peak, roundness, shoulder, diameter_um.astype(np.float32), noise, span, on, *pieces)


def _core(shape: Count, grid: Grid, start: Count) -> Box:
    axes = zip(shape, grid.margin, grid.shape, start, strict=True)
    return tuple(slice(m, m + min(n - 2 * m, size - first)) for n, m, size, first in axes)


def _slabs(core: Box, planes: int) -> list[Box]:
    """Cut a block along z into what is worked on at a time, so that little memory is needed beside it."""
    z, y, x = core
    return [(slice(first, min(first + planes, z.stop)), y, x) for first in range(z.start, z.stop, planes)]


def _lower_outside(height: np.ndarray, grid: Grid, start: Count) -> None:
    """Let no mirrored voxel outside the image compete with those inside."""
    for axis, (margin, first, size) in enumerate(zip(grid.margin, start, grid.shape, strict=True)):
        before, after = max(0, margin - first), margin + size - first
        height[(slice(None),) * axis + (slice(0, before),)] = -np.inf
        height[(slice(None),) * axis + (slice(after, None),)] = -np.inf


def _peaks(
    height: np.ndarray, core: Box, noise: np.ndarray, grid: Grid, room: Room
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (n, 3) that stand out from the noise and top their plane, and which are shoulders."""
    top = room.take("spare", height.shape)
    rows = (-1, height.shape[2])
    cv2.dilate(height.reshape(rows), np.ones((3, 3), np.uint8), dst=top.reshape(rows))
    places = []
    for slab, cells in zip(_slabs(core, grid.noise_cell[0]), noise, strict=True):
        place = np.argwhere(height[slab] == top[slab])
        _, y, x = (place // grid.noise_cell).T
        stands_out = height[slab][tuple(place.T)] > grid.scales.stands_out * cells[y, x]
        places.append(place[stands_out] + [side.start for side in slab])
    place = np.concatenate(places)
    peak, above = _Around(height, place)(0, 0, 0), _Around(top, place)
    shoulder, tail = np.zeros(len(place), bool), np.zeros(len(place), bool)
    if grid.within(COLUMN)[0] > 0:
        shoulder = (above(-1, 0, 0) >= peak) | (above(1, 0, 0) > peak)
        for z in range(1, grid.within(COLUMN)[0] + 1):
            tail |= peak < np.float32(SHOULDER) * np.maximum(above(-z, 0, 0), above(z, 0, 0))
    kept = ~(shoulder & tail)
    return place[kept], shoulder[kept]


class _Around:
    """Read an array at places that are all moved by one offset."""

    def __init__(self, values: np.ndarray, place: np.ndarray):
        self.flat = values.ravel()
        self.strides = np.array([values.shape[1] * values.shape[2], values.shape[2], 1])
        self.index = place @ self.strides

    def __call__(self, *offset: int) -> np.ndarray:
        return self.flat[self.index + int(self.strides @ offset)]


def _to_tops(height: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the way to the top of the parabola through a place and its neighbours on each axis, (n, 3)."""
    near, shift = _Around(height, place), np.zeros(place.shape)
    peak = near(0, 0, 0).astype(np.float64)
    for axis in range(3):
        if height.shape[axis] == 1:
            continue
        before, after = (near(*np.eye(3, dtype=int)[axis] * side).astype(np.float64) for side in (-1, 1))
        before, after = np.where(np.isinf(before), after, before), np.where(np.isinf(after), before, after)
        bend = 2 * peak - before - after
        tops = (bend > 1e-6 * peak) & (before <= peak) & (after <= peak)
        shift[:, axis] = np.where(tops, (after - before) / (2 * np.where(tops, bend, 1)), 0)
    return shift


def _brightest(values: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the greatest value of the 3 x 3 around each place in its plane, and how many have it."""
    near = _Around(values, place)
    around = np.stack([near(0, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    level = around.max(axis=0)
    return level, (around == level).sum(axis=0)


def _to_plateaus(
    values: np.ndarray, place: np.ndarray, shift: np.ndarray, level: np.ndarray, grid: Grid
) -> np.ndarray:
    """Return `shift`, or the way to the middle of the plateau of `level` that a place lies on.

    Most plateaus end within half the window; only the others are looked at in all of it, to the same result.
    """
    window, shift, left = np.asarray(grid.within(PLATEAU)), shift.copy(), np.arange(len(place))
    for reach in ((window + 1) // 2, window):
        offset = np.argwhere(np.ones(2 * reach + 1)) - reach
        border = ((np.abs(offset) == reach) & (reach < window)).any(axis=1)
        at_once, cut_off = max(1, BOX_VOXELS // len(offset)), [np.zeros(0, bool)]
        for first in range(0, len(left), at_once):
            some = left[first : first + at_once]
            plateau = _plateaus(values, place[some], level[some], offset)
            voxels = plateau.sum(axis=1)[:, None]
            middle = (plateau.astype(np.float32) @ offset.astype(np.float32)).astype(np.float64) / voxels
            shift[some] = np.where(voxels >= PLATEAU_VOXELS, middle, shift[some])
            cut_off.append(np.asarray(plateau[:, border].any(axis=1)))
        left = left[np.concatenate(cut_off)]
    return shift


def _plateaus(values: np.ndarray, place: np.ndarray, level: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Tell which voxels at these offsets, a box, belong to the plateau nearest to each place: (n, voxels)."""
    sides = tuple(2 * offset.max(axis=0) + 1)
    boxes = sliding_window_view(values, sides)[tuple((place + offset.min(axis=0)).T)]
    apart = np.zeros((len(place), sides[0] + 1, *sides[1:]), bool)  # a dark plane parts each from the next
    apart[:, :-1] = boxes == level[:, None, None, None]
    regions, _ = label(apart.reshape(-1, *sides[1:]), np.ones((3, 3, 3)))
    regions = regions.reshape(apart.shape)[:, :-1].reshape(len(place), -1)
    far = (offset**2).sum(axis=1)
    nearest = np.where(regions > 0, far, far.max() + 1).argmin(axis=1)
    return regions == regions[np.arange(len(place)), nearest][:, None]


def _shapes(inner: np.ndarray, place: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return roundness, the least bend of any direction over the mean one, and the width at half height."""
    near = _Around(inner, place)
    top = near(0, 0, 0)
    bends = [top - (near(*a) + near(*b)) / 2 for a, b in _opposites(BEND, grid)]
    mean = sum(bends) / np.float32(len(bends))
    roundness = np.clip(np.minimum.reduce(bends) / np.where(mean > 0, mean, np.inf), 0, 1)
    steps = np.arange(1, max(grid.within(PROFILE)[1:]) + 2) * min(grid.voxel_um[1:])
    rings = [_opposites(step / grid.diameter_um, grid) for step in steps]
    means = [sum(near(*a) + near(*b) for a, b in ring) / np.float32(2 * len(ring)) for ring in rings]
    radii = [
        np.linalg.norm(np.multiply([a for a, _ in ring], grid.voxel_um), axis=1).mean() for ring in rings
    ]
    return roundness, _widths(np.stack([top, *means]), np.array([0.0, *radii]), grid)


def _widths(profile: np.ndarray, radius_um: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the diameters of balls whose smoothed profiles (radii, n) have these widths at half height."""
    half = (profile[0] + profile.min(axis=0)) / 2
    outer = np.argmax(profile < half, axis=0)
    inner, n = np.maximum(outer - 1, 0), np.arange(profile.shape[1])
    high, low = profile[inner, n].astype(np.float64), profile[outer, n]
    share = np.where(high > low, (high - half) / np.where(high > low, high - low, 1), 0)
    width = 2 * (radius_um[inner] + share * (radius_um[outer] - radius_um[inner])) / grid.diameter_um
    *_, smoothed, shrunk = grid.scales
    return grid.diameter_um * np.sqrt(np.maximum(width**2 - smoothed, LEAST_WIDTH**2) / shrunk)


def _opposites(diameters: float, grid: Grid) -> list[tuple[Count, Count]]:
    """Return pairs of opposite offsets at a distance in the plane, in up to four directions."""
    far = diameters * grid.diameter_um / np.asarray(grid.voxel_um[1:])
    steps = [(1.0, 0.0), (0.0, 1.0), (sqrt(0.5), sqrt(0.5)), (sqrt(0.5), -sqrt(0.5))]
    pairs = [tuple(int(v) for v in np.rint(far * step)) for step in steps]
    return [((0, y, x), (0, -y, -x)) for y, x in pairs]
