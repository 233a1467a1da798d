"""Labels that are probably wrong, by out-of-fold probabilities; splits that leak, by random labels."""

from typing import NamedTuple

import numpy as np

FOLDS = 5
DRAWS = 200
LIMITS = {"group": 0.55, "animal": 0.65}


class Suspects(NamedTuple):
    """Labels that are probably wrong: their rows, the most doubtful first, and every label's margin.

    `margin`, shape (n,), is the probability of the label's class minus that of the other: -1 to 1.
    """

    rows: np.ndarray
    margin: np.ndarray


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, strength: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Return the probability of the positive class by a logistic regression that has not seen the group.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        The network's embedding, say.
    labels : ndarray of bool, shape (n,)
        True for the positive class.
    groups : ndarray, shape (n,)
        Animals or overlap groups: no group is on both sides of a fold.
    strength : float
        Inverse of the penalty.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If there are fewer than two groups, or a class has fewer than two labels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels, groups = np.asarray(labels, bool), np.asarray(groups)
    several, fewest = len(np.unique(groups)), int(min(labels.sum(), (~labels).sum()))
    if several < 2 or fewest < 2:
        raise ValueError(
            "Out-of-fold probabilities need 2 groups and 2 labels of each class; "
            f"got {several} groups and {fewest} labels of the rarer class. Label more."
        )
    p = np.full(len(labels), float(labels.mean()))
    cut = StratifiedGroupKFold(min(FOLDS, several, fewest), shuffle=True, random_state=seed)
    for taught, judged in cut.split(features, labels, groups):
        if len(np.unique(labels[taught])) == 2:
            fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
            p[judged] = fitted.fit(features[taught], labels[taught]).predict_proba(features[judged])[:, 1]
    return p


def suspect_labels(labels: np.ndarray, p: np.ndarray) -> Suspects:
    """Return which labels are probably wrong, by confident learning.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,)
        True for the positive class.
    p : ndarray, shape (n,)
        Probability of the positive class by a network that has not seen the label, nor its group.

    Returns
    -------
    Suspects
        As many as the counts of confidently different places say; a person decides again, blind.

    Notes
    -----
    A place counts for a class if its probability reaches the mean that labels of this class have, and for the
    more probable one if it reaches both. Counts are rescaled to the labels of each class.

    References
    ----------
    Northcutt et al. 2021, J Artif Intell Res 70:1373, arXiv 1911.00068.
    """
    labels, p = np.asarray(labels, bool), np.asarray(p, dtype="float64")
    both = np.stack([1 - p, p])
    own = both[labels.astype(int), np.arange(len(p))]
    margin = 2 * own - 1
    wanted = 0.0
    if labels.any() and not labels.all():
        reached = both >= np.array([[1 - p[~labels].mean()], [p[labels].mean()]])
        counts_for = np.argmax(np.where(reached, both, -1.0), axis=0)
        sure = reached.any(axis=0)
        for here, there in ((False, 1), (True, 0)):
            of_class = labels == here
            confident = of_class & sure
            if confident.any():
                wanted += of_class.sum() * float((counts_for[confident] == there).mean())
    return Suspects(np.argsort(margin, kind="stable")[: round(wanted)], margin)


class Canary(NamedTuple):
    """How well random labels were learnt across a split: 0.5 is as it should be."""

    accuracy: float
    limit: float

    @property
    def passes(self) -> bool:
        """False if the split leaks."""
        return self.accuracy <= self.limit


def canary(
    features: np.ndarray,
    unit: np.ndarray,
    train: np.ndarray,
    judged: np.ndarray,
    *,
    by: str = "group",
    seed: int = 0,
) -> Canary:
    """Give random labels to whole units and see whether a nearest neighbour learns them across a split.

    If it does, a unit, or something that gives it away, lies on both sides: figures of that split are too
    good. Labels must be random unit by unit: drawn for each cube alone they detect nothing.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        Cubes, or what a network makes of them.
    unit : ndarray, shape (n,)
        Overlap group or animal of each.
    train, judged : ndarray of bool, shape (n,)
        The sides of the split.
    by : {"group", "animal"}
        What the units are; decides the limit: 0.55, or 0.65 for animals, of which there are few.

    Raises
    ------
    ValueError
        If a side is empty, `by` is neither, or there are fewer than 3 units.

    References
    ----------
    Yagis et al. 2021, Sci Rep 11:22544.
    """
    from sklearn.neighbors import NearestNeighbors

    train, judged = np.asarray(train, bool), np.asarray(judged, bool)
    names, unit = np.unique(np.asarray(unit), return_inverse=True)
    if by not in LIMITS:
        raise ValueError(f"Random labels are given by one of {', '.join(LIMITS)}; got {by!r}. Choose one.")
    if not train.any() or not judged.any() or len(names) < 3:
        raise ValueError(
            "Random labels need both sides of a split and 3 units; got "
            f"{train.sum()} that train, {judged.sum()} judged, {len(names)} units. Label more."
        )
    flat = np.asarray(features, dtype="float64").reshape(len(train), -1)
    near = NearestNeighbors(n_neighbors=1).fit(flat[train]).kneighbors(flat[judged], return_distance=False)
    taught_by = unit[train][near[:, 0]]
    rng, right = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        label = rng.permutation(np.arange(len(names)) % 2)
        truth, said = label[unit[judged]], label[taught_by]
        if 0 < truth.sum() < len(truth):
            right.append(((said == truth)[truth == 1].mean() + (said == truth)[truth == 0].mean()) / 2)
    return Canary(float(np.mean(right)) if right else 0.5, LIMITS[by])
