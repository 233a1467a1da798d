"""How many strong candidates lie around a place: what is to be expected there before one looks.

Where cells crowd, a faint blob is likely to be one; where next to nothing stands out, a brighter one is not.
A network sees three diameters; this number tells it of the neighbourhood.
"""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.tables import ZYX

STRONG = 4.0  # in the score's standard deviations
REACH = 8.0  # diameters to each side
ITSELF = 0.25  # a strong candidate nearer than so many diameters is the place itself
USUAL = 0.01  # strong candidates in a cubic diameter that count as neither many nor few


def crowding(
    places: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    voxel_um: ZYX,
    shape: tuple[int, int, int],
    diameter_um: float,
) -> np.ndarray:
    """Return the logarithm of the density of strong candidates around each place, over a usual one.

    Counted are the candidates with a score of at least 4, other than the place itself, in a box that reaches
    eight diameters to each side; beyond the border of the image nothing is expected and nothing counted. The
    density is drawn to the usual one as if 100 cubic diameters more had been looked at. A slice is taken to
    be one diameter thick.

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
        0 where the density is the usual one, one strong candidate in 100 cubic diameters; 1 where it is e
        times as high. All 0 if the candidates have no scores.
    """
    around = np.zeros(len(places), np.float32)
    if "score" not in candidates:
        return around
    unit = np.asarray(voxel_um) / diameter_um
    sides = np.where(np.asarray(shape) > 1, np.multiply(shape, unit), 1.0)
    strong = candidates[candidates["score"] >= STRONG]
    for frame, rows in places.groupby("frame").indices.items():
        at = _in_diameters(places.iloc[rows], unit)
        tree = KDTree(_in_diameters(strong[strong["frame"] == frame], unit).reshape(-1, 3))
        number = _within(tree, at, REACH) - _within(tree, at, ITSELF)
        seen = np.minimum(at + REACH, sides) - np.maximum(at - REACH, 0)
        volume = np.where(np.asarray(shape) > 1, seen, 1.0).prod(axis=1)
        around[rows] = np.log((number + 1) / (volume + 1 / USUAL) / USUAL)
    return around


def _in_diameters(places: pd.DataFrame, unit: np.ndarray) -> np.ndarray:
    return (places[["z", "y", "x"]].to_numpy(np.float64) + 0.5) * unit


def _within(tree: KDTree, at: np.ndarray, reach: float) -> np.ndarray:
    """Return how many points of the tree lie in a box around each place (n, 3)."""
    if tree.n == 0:
        return np.zeros(len(at))
    return np.asarray(tree.query_ball_point(at, reach, p=np.inf, return_length=True), np.float64)
