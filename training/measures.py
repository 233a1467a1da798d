"""How good a network is on volumes that it has not seen, beside a threshold on the detector's score."""

import numpy as np
import pandas as pd

REPEATS = 1000


def best_f1(values: np.ndarray, targets: np.ndarray, there: int) -> float:
    """Return the F1 of the best threshold on `values`, chosen with the truth in hand."""
    hits = np.cumsum(targets[np.argsort(-values, kind="stable")])
    return float(np.max(2 * hits / (np.arange(1, len(hits) + 1) + there)))


def by_volume(called: np.ndarray, targets: np.ndarray, groups: np.ndarray, scores: np.ndarray, there: dict):
    """Return one row a volume: hits, called, there, and the F1 of its best threshold on `scores`.

    Parameters
    ----------
    called, targets, groups, scores : ndarray, shape (n,)
        What was called a cell, what is one, the volume of each candidate and the detector's score.
    there : dict of str to int
        Cells of a volume, those included that the detector missed; the matched ones if it is not named.
    """
    rows = []
    for volume in np.unique(groups):
        here = groups == volume
        cells = there.get(str(volume), int(targets[here].sum()))
        bright = best_f1(scores[here], targets[here], cells) if cells else 0.0
        hits = int((called[here] & (targets[here] == 1)).sum())
        rows.append((volume, hits, int(called[here].sum()), cells, bright))
    return pd.DataFrame(rows, columns=["volume", "hits", "called", "there", "bright"])


def with_intervals(counts: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and that of brightness with 95 % intervals: whole volumes drawn anew."""
    values = counts[["hits", "called", "there", "bright"]].to_numpy(dtype=float)
    rng = np.random.default_rng(0)
    drawn = np.stack([values[rng.integers(0, len(values), len(values))] for _ in range(REPEATS)])
    names = ("precision", "recall", "f1", "f1 of brightness, best threshold of each volume")
    limits = np.quantile(_rates(drawn), (0.025, 0.975), axis=0).T
    return {
        name: {"value": float(value), "low": float(low), "high": float(high)}
        for name, value, (low, high) in zip(names, _rates(values[None])[0], limits, strict=True)
    }


def within_volume(counts: pd.Series) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 of one volume with intervals, its cells taken as independent."""
    from cellkit.estimates import wilson

    precision = wilson(counts["hits"], max(counts["called"], 1))
    recall = wilson(counts["hits"], max(counts["there"], 1))
    both = 2 * counts["hits"] / max(counts["called"] + counts["there"], 1)
    agreed = wilson(round(2 * counts["hits"]), max(round(counts["called"] + counts["there"]), 1))
    f1 = {"value": both, "low": agreed.low, "high": agreed.high}
    bright = {"value": counts["bright"]}
    return {
        "precision": precision._asdict(),
        "recall": recall._asdict(),
        "f1": f1,
        "f1 of brightness, best threshold": bright,
    }


def _rates(counts: np.ndarray) -> np.ndarray:
    hits, called, there, _ = np.moveaxis(counts.sum(axis=1), -1, 0)
    bright = (counts[..., 3] * counts[..., 2]).sum(axis=1) / there
    return np.stack([hits / called, hits / there, 2 * hits / (called + there), bright], axis=1)
