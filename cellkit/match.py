"""Found against true points, and labels against candidates: one-to-one, in micrometres."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

from cellkit.tables import UNSURE, ZYX, positions_um


class Matches(NamedTuple):
    """Which found point is which true point: two index arrays of equal length."""

    found: np.ndarray
    true: np.ndarray


class Score(NamedTuple):
    """How well found points fit the true ones."""

    hits: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the found points that are true ones; NaN if nothing was found."""
        return self.hits / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true points that were found; NaN if there is none."""
        return self.hits / self.true if self.true else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN if there is neither a found nor a true point."""
        return 2 * self.hits / (self.found + self.true) if self.found + self.true else float("nan")


def match_points(found_um: np.ndarray, true_um: np.ndarray, *, within_um: float) -> Matches:
    """Match points one-to-one: as many pairs as possible, and among those the least total distance.

    Parameters
    ----------
    found_um, true_um : ndarray, shape (n, 3) and (m, 3)
        Positions in µm.
    within_um : float
        Largest distance of a pair, in µm.

    Returns
    -------
    Matches
        Sorted by the index of the found point.
    """
    if len(found_um) == 0 or len(true_um) == 0:
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64))
    near = KDTree(found_um).sparse_distance_matrix(KDTree(true_um), within_um, output_type="coo_matrix")
    rivals = np.bincount(near.row, minlength=len(found_um))[near.row]
    lone = (rivals == 1) & (np.bincount(near.col, minlength=len(true_um))[near.col] == 1)
    found, true = _assign(near.row[~lone], near.col[~lone], near.data[~lone])
    found, true = np.concatenate([near.row[lone], found]), np.concatenate([near.col[lone], true])
    order = np.argsort(found)
    return Matches(found[order].astype(np.int64), true[order].astype(np.int64))


def _assign(row: np.ndarray, column: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose among these pairs: as many as can be, and the nearest of those.

    Each column also has a partner of its own that stands for "none" and costs more than all distances: so
    there is always a full matching, and memory grows with the pairs, not with rows times columns.
    """
    if len(row) == 0:
        return row, column
    rows, r = np.unique(row, return_inverse=True)
    columns, c = np.unique(column, return_inverse=True)
    none = len(rows) + np.arange(len(columns))
    dear = 2 + distance.max() * min(len(rows), len(columns))
    cost = np.concatenate([distance + 1, np.full(len(columns), dear)])  # + 1: a cost of 0 is no pair to scipy
    at = np.concatenate([c, np.arange(len(columns))]), np.concatenate([r, none])
    j, i = min_weight_full_bipartite_matching(csr_array((cost, at), shape=(len(columns), none[-1] + 1)))
    return rows[i[i < len(rows)]], columns[j[i < len(rows)]]


def score_points(found_um: np.ndarray, true_um: np.ndarray, *, within_um: float) -> Score:
    """Count hits, found and true points; shapes (n, 3) and (m, 3) in µm, matched one-to-one."""
    hits = len(match_points(found_um, true_um, within_um=within_um).found)
    return Score(hits, len(found_um), len(true_um))


def group_points(points_um: np.ndarray, *, within_um: float, n_founders: int = 0) -> np.ndarray:
    """Return for every point the index of the point that founds its group, shape (n,).

    The first `n_founders` points found groups, and so does each later point that is farther than `within_um`
    from all founders before it; every point belongs to the nearest founder. Equal points share one founder.

    Parameters
    ----------
    points_um : ndarray, shape (n, 3)
        Positions in µm, in order.
    within_um : float
        Largest distance of a point from its founder, in µm.
    n_founders : int
        So many points at the start are founders, however near to each other.
    """
    if len(points_um) == 0:
        return np.empty(0, np.int64)
    first = np.sort(np.unique(points_um, axis=0, return_index=True)[1])
    distinct, fixed = points_um[first], int((first < n_founders).sum())
    tree = KDTree(distinct)
    gap = np.asarray(tree.query(distinct, k=[2])[0])[:, 0]
    covered = np.zeros(len(distinct), dtype=bool)
    for i in np.flatnonzero(gap <= within_um):
        if not covered[i]:
            near = np.asarray(tree.query_ball_point(distinct[i], within_um))
            covered[near[near > max(i, fixed - 1)]] = True
    founders = first[~covered]
    return founders[np.asarray(KDTree(points_um[founders]).query(points_um)[1])]


def attach_labels(
    candidates: pd.DataFrame, labels: pd.DataFrame, *, voxel_um: dict[str, ZYX], within_um: float
) -> pd.DataFrame:
    """Return the candidates with the `answer`, `origin`, `weight` and `label` of the label that lies there.

    Labels hold places, not row numbers: each label goes to one candidate of its image and frame, one-to-one
    and within `within_um`. `label` is the label's id; all four are empty ("" and NaN) without one.

    Parameters
    ----------
    candidates : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    labels : DataFrame
        Current labels, one a place: `id, image, frame, z_um, y_um, x_um, answer, origin, weight`.
    voxel_um : dict of str to ZYX
        Voxel size of every image, in µm.
    within_um : float
        Largest distance between a label and its candidate, in µm.
    """
    attached = candidates.reset_index(drop=True).assign(answer="", origin="", weight=np.nan, label="")
    places = {key: part.index.to_numpy() for key, part in attached.groupby(["image", "frame"], sort=False)}
    for key, part in labels.groupby(["image", "frame"], sort=False):
        if key not in places:
            continue
        rows = places[key]
        found = positions_um(attached.loc[rows], voxel_um[str(key[0])])
        match = match_points(found, part[["z_um", "y_um", "x_um"]].to_numpy(), within_um=within_um)
        for column, name in [("answer",) * 2, ("origin",) * 2, ("weight",) * 2, ("label", "id")]:
            attached.loc[rows[match.found], column] = part[name].to_numpy()[match.true]
    return attached


def categories(called: np.ndarray, answer: np.ndarray, classes: tuple[str, str]) -> np.ndarray:
    """Say where network and person stand: "correct cell", "correct artefact", "missed cell", "false cell".

    Parameters
    ----------
    called : ndarray of bool, shape (n,)
        The network's call: True is the first of `classes`.
    answer : ndarray of str, shape (n,)
        The person's answer; "" and "unsure" give the category "".
    classes : tuple of 2 str
        The positive and the negative class.
    """
    positive, negative = classes
    called, answer = np.asarray(called, dtype=bool), np.asarray(answer, dtype=object)
    unknown = [a for a in pd.unique(answer) if a not in {"", UNSURE, *classes}]
    if unknown:
        raise ValueError(
            f"An answer must be {positive}, {negative} or {UNSURE}; got {unknown[0]!r}. Mend it."
        )
    named = np.full(len(answer), "", dtype=object)
    named[called & (answer == positive)] = f"correct {positive}"
    named[~called & (answer == negative)] = f"correct {negative}"
    named[~called & (answer == positive)] = f"missed {positive}"
    named[called & (answer == negative)] = f"false {positive}"
    return named
