"""Choosing places that differ from one another and from those that have labels: arrays in, rows out."""

import numpy as np


def varied_rows(
    features: np.ndarray,
    k: int,
    rng: np.random.Generator,
    *,
    known: np.ndarray | None = None,
    interest: np.ndarray | None = None,
) -> np.ndarray:
    """Choose `k` rows as the seeds of k-means++ are: each the likelier, the farther from those chosen so far.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        What makes rows differ: an embedding, scaled alike along its axes.
    k : int
        Rows wanted; all if there are no more.
    known : ndarray, shape (m, d), optional
        Features of what has been labelled already: it counts as chosen.
    interest : ndarray, shape (n,), optional
        Not below 0: how much each row is worth, uncertainty for instance; multiplies its chance.

    Returns
    -------
    ndarray of int, shape (min(k, n),)
        In the order in which they were chosen, none twice.

    References
    ----------
    Arthur and Vassilvitskii 2007, SODA 1027; Ash et al. 2020, arXiv 1906.03671 (BADGE).
    """
    features = np.asarray(features, dtype="float64")
    worth = np.ones(len(features)) if interest is None else np.asarray(interest, dtype="float64").copy()
    near = _nearest(features, known)
    chosen: list[int] = []
    while len(chosen) < min(k, len(features)):
        chance = worth * np.where(np.isinf(near), 1.0, near)
        chance[chosen] = 0
        if chance.sum() <= 0:
            chance = np.ones(len(features))
            chance[chosen] = 0
        chosen.append(int(rng.choice(len(features), p=chance / chance.sum())))
        near = np.minimum(near, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, dtype=np.int64)


def farthest_rows(features: np.ndarray, k: int, *, known: np.ndarray | None = None) -> np.ndarray:
    """Choose `k` rows, each the farthest from those chosen so far: every row ends near a chosen one.

    Parameters, and what is returned, as in `varied_rows`. Outliers come first: where there are many, draw
    with `varied_rows`.

    References
    ----------
    Gonzalez 1985, Theor Comput Sci 38:293; Sener and Savarese 2018, arXiv 1708.00489 (core-sets).
    """
    features = np.asarray(features, dtype="float64")
    near = _nearest(features, known)
    if np.isinf(near).all():
        near = ((features - features.mean(axis=0)) ** 2).sum(axis=1)
    chosen: list[int] = []
    for _ in range(min(k, len(features))):
        near[chosen] = -1
        chosen.append(int(np.argmax(near)))
        near = np.minimum(near, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, dtype=np.int64)


def _nearest(features: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Return each row's squared distance from the nearest known one; endless without any."""
    if known is None or len(known) == 0:
        return np.full(len(features), np.inf)
    from scipy.spatial import KDTree

    return np.asarray(KDTree(np.asarray(known, dtype="float64")).query(features)[0]) ** 2
