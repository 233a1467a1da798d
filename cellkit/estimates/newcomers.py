"""Whether an animal that never trained looks like those that did, before its results are trusted."""

from typing import NamedTuple

import numpy as np
import pandas as pd

SMALL_AUDIT, MIDDLE_AUDIT, FULL_AUDIT = 100, 200, 400
MOST = 2000
CLEAR_PSI = 0.25
ENOUGH_TO_JUDGE = 3
CLEAR_AUC, FACTOR = 0.65, 1.5
CLEAR_AUC_OF_FEW, FACTOR_OF_FEW = 0.75, 2.0
BLOCKS = 8


class Newcomer(NamedTuple):
    """How an animal compares with those that trained.

    Attributes
    ----------
    table : DataFrame
        One row a measure: `measure, distance` of the new animal from the others, `usual` (the largest
        distance of an animal that trained from the others), `unlike`.
    places : int
        Size of the audit that is recommended.
    sentence : str
        What to do.
    """

    table: pd.DataFrame
    places: int
    sentence: str

    @property
    def unlike(self) -> bool:
        """True if the animal stands out in a measure."""
        return bool(self.table["unlike"].any())


def shift_index(reference: np.ndarray, new: np.ndarray, *, bins: int = 10) -> float:
    """Return the population stability index of two samples, shapes (n,) and (m,): 0 if they are alike.

    Bins hold equal parts of `reference`; half a value is added to each, for empty ones. Of samples from one
    population it is about (bins - 1) (1 / n + 1 / m); above 0.25 is commonly called a clear change.
    """
    reference, new = np.asarray(reference, dtype="float64"), np.asarray(new, dtype="float64")
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = []
    for each in (reference, new):
        counted = np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) + 0.5
        shares.append(counted / counted.sum())
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def told_apart(reference: np.ndarray, new: np.ndarray, *, seed: int = 0) -> float:
    """Return how well a classifier tells two samples apart: its AUC on held-out parts, 0.5 if not at all.

    Parameters
    ----------
    reference, new : ndarray, shapes (n, d) and (m, d)
        Embeddings, in order of place: contiguous blocks are held out, so that neighbours do not give one
        another away. At most 2000 of each are used.

    References
    ----------
    Lopez-Paz and Oquab 2017, arXiv 1610.06545 (classifier two-sample tests).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng, parts, blocks = np.random.default_rng(seed), [], []
    for each in (np.asarray(reference, dtype="float64"), np.asarray(new, dtype="float64")):
        kept = np.sort(rng.choice(len(each), min(MOST, len(each)), replace=False))
        parts.append(each[kept])
        blocks.append(np.arange(len(kept)) * BLOCKS // max(len(kept), 1) % 4)
    x, fold = np.concatenate(parts), np.concatenate(blocks)
    side = np.repeat([0, 1], [len(part) for part in parts])
    said = np.empty(len(x))
    for f in range(4):
        fitted = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
        )
        said[fold == f] = fitted.fit(x[fold != f], side[fold != f]).decision_function(x[fold == f])
    return float(roc_auc_score(side, said))


def compare_animal(
    new: dict[str, np.ndarray], trained: list[dict[str, np.ndarray]], *, seed: int = 0
) -> Newcomer:
    """Compare an animal with those that trained, in every measure that is given.

    What is unusual is decided by the animals that trained: the new one stands out where it is clearly farther
    from them than any of them is from the others. With one such animal, by halves of it in order of place;
    with fewer than three, nobody knows how much animals differ, and only a large distance counts.

    Parameters
    ----------
    new : dict of str to ndarray
        A measure's name and its values in the new animal's candidates, in order of place: shape (n,) for
        scores, probabilities or intensities (compared by `shift_index`), (n, d) for embeddings (by
        `told_apart`).
    trained : list of dict
        The same for every animal that trained.

    Raises
    ------
    ValueError
        If there is no animal that trained, a measure is missing, or an animal has fewer than 40 candidates.
    """
    _check(new, trained)
    rows = []
    for name, values in new.items():
        groups = [each[name] for each in trained]
        if len(groups) == 1:
            groups = np.array_split(groups[0], 2)
        distance = _distance(np.concatenate(groups), values, seed)
        usual = max(
            _distance(np.concatenate(groups[:i] + groups[i + 1 :]), groups[i], seed)
            for i in range(len(groups))
        )
        rows.append((name, distance, usual, _unlike(distance, usual, values.ndim, len(trained))))
    table = pd.DataFrame(rows, columns=["measure", "distance", "usual", "unlike"])
    flat = np.array([values.ndim == 1 for values in new.values()])
    return Newcomer(table, *_advice(table, flat, len(trained)))


def _check(new: dict[str, np.ndarray], trained: list[dict[str, np.ndarray]]) -> None:
    if not trained:
        raise ValueError("A new animal is compared with animals that trained; got none. Train on one first.")
    for each in [new, *trained]:
        if missing := [name for name in new if name not in each]:
            raise ValueError(f"Every animal needs the same measures; one has no {missing[0]!r}. Add it.")
        for name in new:
            if len(each[name]) < 40:
                raise ValueError(
                    f"A comparison needs 40 candidates of every animal; got {len(each[name])} of {name!r}. "
                    "Label all of so small an animal."
                )


def _distance(reference: np.ndarray, new: np.ndarray, seed: int) -> float:
    return shift_index(reference, new) if new.ndim == 1 else told_apart(reference, new, seed=seed)


def _unlike(distance: float, usual: float, axes: int, animals: int) -> bool:
    several = animals >= ENOUGH_TO_JUDGE
    factor = FACTOR if several else FACTOR_OF_FEW
    if axes == 1:
        return distance > max(CLEAR_PSI, factor * usual)
    clear = CLEAR_AUC if several else CLEAR_AUC_OF_FEW
    return distance > min(0.95, max(clear, 0.5 + factor * (usual - 0.5)))


def _advice(table: pd.DataFrame, flat: np.ndarray, animals: int) -> tuple[int, str]:
    among = "halves of the animal" if animals == 1 else f"the {animals} animals"
    odd = table[table["unlike"]]
    if len(odd):
        said = ", ".join(
            f"{row.measure} {row.distance:.2f} (usual {row.usual:.2f})" for row in odd.itertuples()
        )
        return FULL_AUDIT, (
            f"This animal is unlike {among} that trained: {said}. "
            f"Audit {FULL_AUDIT} places of it before its count is believed."
        )
    clear = np.where(flat, CLEAR_PSI, CLEAR_AUC_OF_FEW)
    differ = table[(table["usual"] > clear).to_numpy()]
    if len(differ):
        said = ", ".join(f"{name} {usual:.2f}" for name, usual in differ[["measure", "usual"]].to_numpy())
        return MIDDLE_AUDIT, (
            f"This animal differs from {among} that trained no more than they do from one another, but that "
            f"is much ({said}): error rates may differ too. Audit {MIDDLE_AUDIT} places of it."
        )
    return SMALL_AUDIT, (
        f"This animal differs from {among} that trained no more than is usual. "
        f"An audit of {SMALL_AUDIT} places would confirm its count."
    )
