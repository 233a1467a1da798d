"""What the detector knows of a place beside its cube: how far it stands out, how many strong ones are around.

Where cells crowd, a faint blob is likely to be one; where next to nothing stands out, a brighter one is not.
A network sees three diameters; these numbers tell it of the neighbourhood, and how the place compares with
the noise of the whole image.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.tables import ZYX

STRONG = 4.0  # in the score's standard deviations
REACH = 8.0  # diameters to each side
ITSELF = 0.25  # a strong candidate nearer than so many diameters is the place itself
USUAL = 0.01  # strong candidates in a cubic diameter that count as neither many nor few
TYPICAL, LEAST = 10.0, 0.5  # a score that counts as neither high nor low, and the lowest that is told apart
AT_ONCE = 128  # the pairs of so many places with their neighbours lie in memory


def with_context(
    places: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    voxel_um: ZYX,
    shape: tuple[int, int, int],
    diameter_um: float,
    roles: Sequence[str],
) -> pd.DataFrame:
    """Return places with the columns `crowding` and `prominence`, what the functions of these names say.

    With a background among the `roles` of the channels the prominence is 0: there a network can tell what
    stands out in both, and knows better than the detector, which looks at the signal alone.
    """
    where = {"voxel_um": voxel_um, "diameter_um": diameter_um}
    alone = np.zeros(len(places)) if "background" in roles else prominence(places, candidates, **where)
    return places.assign(crowding=crowding(places, candidates, shape=shape, **where), prominence=alone)


def prominence(
    places: pd.DataFrame, candidates: pd.DataFrame, *, voxel_um: ZYX, diameter_um: float
) -> np.ndarray:
    """Return the log of the detector's score at each place over 10, float32 (n,).

    The score is that of the nearest candidate within a quarter of a diameter, at least 0.5; 0 where there is
    none, or if the candidates have no scores. The parameters are those of `crowding`.
    """
    found = np.zeros(len(places), np.float32)
    if "score" not in candidates:
        return found
    unit = np.asarray(voxel_um) / diameter_um
    for frame, rows in places.groupby("frame").indices.items():
        here = candidates[candidates["frame"] == frame]
        tree = KDTree(_in_diameters(here, unit).reshape(-1, 3))
        far, nearest = tree.query(_in_diameters(places.iloc[rows], unit), distance_upper_bound=ITSELF)
        there = np.isfinite(far)
        score = here["score"].to_numpy()[nearest[there]]
        found[rows[there]] = np.log(np.maximum(score, LEAST) / TYPICAL)
    return found


def crowding(
    places: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    voxel_um: ZYX,
    shape: tuple[int, int, int],
    diameter_um: float,
) -> np.ndarray:
    """Return the log of the density of strong candidates around each place, over a usual one.

    Counted are the candidates with a score of at least 4, other than the place itself, in a box that reaches
    eight diameters to each side; beyond the border of the image nothing is expected and nothing counted. The
    density is drawn to the usual one as if 100 cubic diameters more had been looked at, with one candidate in
    them. A slice is taken to be one diameter thick.

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
        here = strong[strong["frame"] == frame]
        number = _others(KDTree(_in_diameters(here, unit).reshape(-1, 3)), at)
        seen = np.minimum(at + REACH, sides) - np.maximum(at - REACH, 0)
        volume = np.where(np.asarray(shape) > 1, seen, 1.0).prod(axis=1)
        around[rows] = np.log((number + 1) / (volume + 1 / USUAL) / USUAL)
    return around


def _in_diameters(places: pd.DataFrame, unit: np.ndarray) -> np.ndarray:
    return (places[["z", "y", "x"]].to_numpy(np.float64) + 0.5) * unit


def _others(tree: KDTree, at: np.ndarray) -> np.ndarray:
    """Return how many other points of the tree lie in the box around each place (n, 3).

    Places are gone through along x, so that those of one batch are neighbours.
    """
    number = np.zeros(len(at))
    for some in np.array_split(np.argsort(at[:, 2], kind="stable"), len(at) // AT_ONCE + 1):
        pairs = KDTree(at[some]).sparse_distance_matrix(tree, REACH, p=np.inf, output_type="ndarray")
        number[some] = np.bincount(pairs["i"][pairs["v"] > ITSELF], minlength=len(some))
    return number
