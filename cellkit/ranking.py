"""Which blobs of a whole image are worth a look: how far each stands out, and which of near ones stays."""

import numpy as np
from scipy.ndimage import map_coordinates, median_filter
from scipy.spatial import KDTree

from cellkit.blobs import Blobs, Grid

STANDARD_DEVIATION = 1.25
SHOULDER_WEIGHT = 0.6
LINE_WEIGHT, ROUND = 0.5, 0.8
APART_Z = 0.8


def scores(blobs: Blobs, grid: Grid) -> np.ndarray:
    """Return heights in standard deviations of the noise, half that around the blob and half the image's."""
    noise = median_filter(blobs.noise.astype(np.float64), size=3, mode="nearest")
    varied = noise[noise > 0]
    typical = np.median(varied) if len(varied) else float(blobs.noise.max())
    cell = (blobs.centre + 0.5) / np.multiply(grid.binning, grid.noise_cell) - 0.5
    near = np.maximum(map_coordinates(noise, cell.T, order=1, mode="nearest"), typical / 4)
    lines = LINE_WEIGHT + (1 - LINE_WEIGHT) * np.minimum(blobs.roundness.astype(np.float64) / ROUND, 1)
    spread = STANDARD_DEVIATION * np.sqrt(near * typical)
    return blobs.height / spread * lines * np.where(blobs.shoulder, SHOULDER_WEIGHT, 1)


def strongest(
    centre: np.ndarray, score: np.ndarray, grid: Grid, *, min_score: float, min_distance: float
) -> np.ndarray:
    """Return the rows to keep, strongest first: none too near to a stronger one that is kept."""
    rows = np.flatnonzero(score >= min_score)
    z, y, x = centre[rows].T
    rows = rows[np.lexsort((x, y, z, -score[rows]))]
    flatter = min_distance / max(APART_Z, min_distance)
    voxel_um = np.divide(grid.voxel_um, grid.binning) * [flatter, 1, 1]
    pairs = KDTree(centre[rows] * voxel_um).query_pairs(
        min_distance * grid.diameter_um, output_type="ndarray"
    )
    stronger, weaker = pairs.min(axis=1), pairs.max(axis=1)
    kept, dropped = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    while len(weaker):
        kept[:] = ~dropped
        kept[weaker] = False
        dropped[weaker[kept[stronger]]] = True
        open_pairs = ~(dropped[stronger] | dropped[weaker] | kept[stronger])
        stronger, weaker = stronger[open_pairs], weaker[open_pairs]
    return rows[~dropped]
