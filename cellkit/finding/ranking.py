"""Which blobs of a whole image are worth a look: how far each stands out, and which of near ones stays."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import map_coordinates, median_filter, minimum_filter
from scipy.spatial import KDTree

from cellkit.finding.blobs import Blobs
from cellkit.finding.grids import Grid
from cellkit.finding.plateaus import Plateaus

STANDARD_DEVIATION = 1.25
SHOULDER_WEIGHT = 0.6
LINE_WEIGHT, ROUND = 0.5, 0.8
APART_Z = 0.8
EMPTY = 0.1  # of the noise that half of all lasting noise exceeds; less is empty space


class Noise(NamedTuple):
    """The noise around each noise cell of an image, and what is usual in it, in grey values."""

    around: np.ndarray
    usual: float


def image_noise(cells: np.ndarray) -> Noise:
    """Return the noise of an image from that of its cells (z, y, x), in medians: blobs hardly raise it.

    Usual is what is so in tissue. Around a specimen lies empty space, maybe in most of the image; there the
    noise is less than a tenth of what it is in tissue, where it is strong in neighbouring cells too.
    """
    around = median_filter(cells, size=3, mode="nearest")
    varied = around[around > 0].astype(np.float64)
    if not len(varied):
        return Noise(around, float(cells.max()))
    lasting = np.sort(minimum_filter(cells, size=3, mode="nearest"), axis=None).astype(np.float64)
    summed = np.cumsum(lasting)
    tissue = lasting[np.searchsorted(summed, summed[-1] / 2)]
    return Noise(around, float(np.median(varied[varied >= EMPTY * tissue])))


def scores(blobs: Blobs, noise: Noise, grid: Grid) -> np.ndarray:
    """Return heights in standard deviations of the noise, half that around the blob and half the image's."""
    cell = (blobs.centre + 0.5) / np.multiply(grid.binning, grid.noise_cell) - 0.5
    near = map_coordinates(noise.around, cell.T, np.float64, order=1, mode="nearest")
    spread = STANDARD_DEVIATION * np.sqrt(np.maximum(near, noise.usual / 4) * noise.usual)
    lines = LINE_WEIGHT + (1 - LINE_WEIGHT) * np.minimum(blobs.roundness.astype(np.float64) / ROUND, 1)
    return blobs.height / spread * lines * np.where(blobs.shoulder, SHOULDER_WEIGHT, 1)


def strongest(
    parts: Iterable[Blobs], noise: Noise, grid: Grid, *, plateaus: Plateaus, least: float, apart: float
) -> pd.DataFrame:
    """Return the blobs worth a look, strongest first.

    Parameters
    ----------
    parts : iterable of Blobs
        Of all blocks of an image, in any order; `piece` is the plateau that a blob lies on, -1 for none.
    noise : Noise
        Of the image.
    grid : Grid
        Of the image.
    plateaus : Plateaus
        Of the image; each is at most one candidate, in its middle.
    least : float
        Weaker blobs are dropped.
    apart : float
        Of two blobs in a plane nearer than so many diameters the stronger one stays.

    Returns
    -------
    DataFrame
        `z, y, x` in voxels, `score`, `diameter_um`.
    """
    rows = []
    for part in parts:
        score = scores(part, noise, grid)
        kept = score >= least
        columns = (part.centre[kept], score[kept], part.diameter_um[kept], part.piece[kept])
        rows.append(np.column_stack(columns))
    table = np.concatenate(rows)
    rows.clear()
    table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0], -table[:, 3]))]
    flatter = apart / max(APART_Z, apart)
    voxel_um = np.divide(grid.voxel_um, grid.binning) * [flatter, 1, 1]
    table = table[spread_out(table[:, :3] * voxel_um, apart * grid.diameter_um)]
    if (table[:, 5] >= 0).any():
        table = _one_each(table, plateaus, grid)
        table = table[spread_out(table[:, :3] * voxel_um, apart * grid.diameter_um)]
    return pd.DataFrame(table[:, :5], columns=["z", "y", "x", "score", "diameter_um"])


def _one_each(table: np.ndarray, plateaus: Plateaus, grid: Grid) -> np.ndarray:
    """Keep of the rows on one plateau the first, in the plateau's middle and at least as wide as it is."""
    kept, on = table[:, 5] < 0, np.flatnonzero(table[:, 5] >= 0)
    which, first = np.unique(table[on, 5].astype(np.int64), return_index=True)
    rows = on[first]
    kept[rows] = True
    table[rows, :3] = (plateaus.centre[which] + 0.5) * grid.binning - 0.5
    table[rows, :3] = np.clip(table[rows, :3], 0, np.subtract(grid.image_shape, 1))
    if grid.shape[0] > 1:
        wide = np.cbrt(plateaus.voxels[which] * np.prod(grid.voxel_um) * 6 / np.pi)
    else:
        wide = np.sqrt(plateaus.voxels[which] * np.prod(grid.voxel_um[1:]) * 4 / np.pi)
    table[rows, 4] = np.maximum(table[rows, 4], wide)
    return table[kept]


def spread_out(places: np.ndarray, apart: float) -> np.ndarray:
    """Say which places (n, 3) stay, the first before the later ones: none too near to one that stays."""
    pairs = KDTree(places).query_pairs(apart, output_type="ndarray")
    first, later = pairs.min(axis=1), pairs.max(axis=1)
    dropped = np.zeros(len(places), bool)
    while len(later):
        stays = ~dropped
        stays[later] = False
        dropped[later[stays[first]]] = True
        is_open = ~(dropped[first] | dropped[later])
        first, later = first[is_open], later[is_open]
    return ~dropped
