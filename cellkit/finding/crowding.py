"""How many strong candidates lie around a place: what is to be expected there before one looks.

Where cells crowd, a faint blob is likely to be one; where next to nothing stands out, a brighter one is not.
And where what stands out does so by far, in an image with little noise, so must a cell. A network sees three
diameters; this number tells it of the neighbourhood.
"""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.tables import ZYX

STRONG = 4.0  # in the score's standard deviations
REACH = 8.0  # diameters to each side
ITSELF = 0.25  # a strong candidate nearer than so many diameters is the place itself
USUAL = 0.01  # strong candidates in a cubic diameter that count as neither many nor few
TYPICAL = 10.0  # their scores' root mean square that counts as neither high nor low
LEVEL = 0.5  # power of that root mean square by which the density is divided
AT_ONCE = 128  # the pairs of so many places with their neighbours lie in memory


def crowding(
    places: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    voxel_um: ZYX,
    shape: tuple[int, int, int],
    diameter_um: float,
) -> np.ndarray:
    """Return the log of the density of strong candidates around each place, over a usual one, for how strong.

    Counted are the candidates with a score of at least 4, other than the place itself, in a box that reaches
    eight diameters to each side; beyond the border of the image nothing is expected and nothing counted. The
    density is drawn to the usual one as if 100 cubic diameters more had been looked at, with one candidate of
    score 10 in them, and divided by the square root of the root mean square of the scores over 10. A slice is
    taken to be one diameter thick.

    Parameters
    ----------
    places : DataFrame
        Columns `frame, z, y, x`, in voxels.
    candidates : DataFrame
        All candidates of the image, columns `frame, z, y, x, score`.
    voxel_um : tuple of 3 float
        Voxel size along z, y, x.
    shape : tuple of 3 int
        Voxels of the image along z, y, x.
    diameter_um : float
        Diameter of a cell.

    Returns
    -------
    ndarray of float32, shape (n,)
        0 where the density is the usual one, one strong candidate in 100 cubic diameters, and its scores are
        10; 1 where it is e times as high, -0.5 where the scores are. All 0 if the candidates have no scores.
    """
    around = np.zeros(len(places), np.float32)
    if "score" not in candidates:
        return around
    unit = np.asarray(voxel_um) / diameter_um
    sides = np.where(np.asarray(shape) > 1, np.multiply(shape, unit), 1.0)
    strong = candidates[candidates["score"] >= STRONG]
    for frame, rows in places.groupby("frame").indices.items():
        at = _in_diameters(places.iloc[rows], unit)
        here = strong[strong["frame"] == frame]
        tree, squares = KDTree(_in_diameters(here, unit).reshape(-1, 3)), here["score"].to_numpy() ** 2
        number, power = _others(tree, squares, at)
        seen = np.minimum(at + REACH, sides) - np.maximum(at - REACH, 0)
        volume = np.where(np.asarray(shape) > 1, seen, 1.0).prod(axis=1)
        mean_square = (power + TYPICAL**2) / (number + 1) / TYPICAL**2
        around[rows] = np.log((number + 1) / (volume + 1 / USUAL) / USUAL) - LEVEL / 2 * np.log(mean_square)
    return around


def _in_diameters(places: pd.DataFrame, unit: np.ndarray) -> np.ndarray:
    return (places[["z", "y", "x"]].to_numpy(np.float64) + 0.5) * unit


def _others(tree: KDTree, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return how many other points of the tree lie in the box around each place (n, 3), and their total.

    Places are gone through along x, so that those of one batch are neighbours.
    """
    sums = np.zeros((2, len(at)))
    for some in np.array_split(np.argsort(at[:, 2], kind="stable"), len(at) // AT_ONCE + 1):
        pairs = KDTree(at[some]).sparse_distance_matrix(tree, REACH, p=np.inf, output_type="ndarray")
        pairs = pairs[pairs["v"] > ITSELF]
        for row, weights in zip(sums, (None, values[pairs["j"]]), strict=True):
            row[some] = np.bincount(pairs["i"], weights, minlength=len(some))
    return sums
