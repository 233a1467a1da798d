"""Two networks on the same held-out labels: which to prefer, and whether the quick one is enough."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import log_expit, logit

from cellkit.networks.store import HELD_OUT
from cellkit.study import Study

DRAWS = 2000
ENOUGH_GROUPS = 5


class Compared(NamedTuple):
    """Two networks on the labels that both were held out from.

    `table` has a row a network: `network, labels, f1, low, high, precision, recall, loss`. `difference` is
    the F1 of the second less that of the first, `low` and `high` its 95 % interval, `said` what that means.
    """

    table: pd.DataFrame
    difference: float
    low: float
    high: float
    said: str


def compare_held_out(study: Study, first: str, second: str, *, seed: int = 0) -> Compared:
    """Compare two of the study's networks, a head and all layers for instance, label by label.

    Held-out labels were not drawn at random, so they only say which of two to prefer; how good it is, an
    audit says. Intervals are over animals or blocks of space, or over labels if there are fewer than five.

    Parameters
    ----------
    first, second : str
        Names of networks that were made by `retrain_head` or `retrain`.

    Raises
    ------
    FileNotFoundError
        If one has no held-out labels on disk.
    ValueError
        If no label was held out from both.
    """
    one, other = (_read(study, name) for name in (first, second))
    both = one.merge(other, on=["label", "target"], suffixes=("", "_other"))
    if both.empty:
        raise ValueError(
            "Two networks are compared on labels that both were held out from; "
            f"{first} and {second} share none. Train both on the labels of today."
        )
    true = both["target"].to_numpy() == 1
    p = both[["p", "p_other"]].to_numpy().T
    tallies = np.stack([(p >= 0.5) & true, p >= 0.5, np.broadcast_to(true, p.shape)], axis=-1).astype(float)
    groups = both["group"].to_numpy() if both["group"].nunique() >= ENOUGH_GROUPS else np.arange(len(both))
    number = pd.factorize(groups)[0]
    sums = np.zeros((number.max() + 1, 2, 3))
    np.add.at(sums, number, tallies.transpose(1, 0, 2))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), DRAWS)
    f1, shaken = _f1(sums.sum(axis=0)), _f1(np.tensordot(drawn, sums, axes=1))
    low, high = np.quantile(shaken, [0.025, 0.975], axis=0)
    hits, called, there = sums.sum(axis=0).T
    margin = np.where(true, 1, -1) * logit(np.clip(p, 1e-6, 1 - 1e-6))
    table = pd.DataFrame(
        {
            "network": [first, second], "labels": len(both), "f1": f1, "low": low, "high": high,
            "precision": hits / np.maximum(called, 1), "recall": hits / np.maximum(there, 1),
            "loss": -log_expit(margin).mean(axis=1),
        }
    )  # fmt: skip
    apart = np.quantile(shaken[:, 1] - shaken[:, 0], [0.025, 0.975])
    found = float(f1[1] - f1[0]), float(apart[0]), float(apart[1])
    return Compared(table, *found, _said(first, second, len(both), *found))


def _read(study: Study, name: str) -> pd.DataFrame:
    path = study.network_folder(name) / HELD_OUT
    if not path.exists():
        raise FileNotFoundError(
            f"Held-out labels are kept with networks that this study made; {name!r} has none. "
            f"This study has the networks {', '.join(study.networks()) or 'none'}."
        )
    return pd.read_csv(path, dtype={"label": str})


def _f1(tallies: np.ndarray) -> np.ndarray:
    """Return F1 of hits, called and true ones, the last axis; 0 where there is nothing."""
    return 2 * tallies[..., 0] / np.maximum(tallies[..., 1] + tallies[..., 2], 1e-9)


def _said(first: str, second: str, n: int, difference: float, low: float, high: float) -> str:
    numbers = f"F1 differs by {difference:+.3f} ({low:+.3f} to {high:+.3f}) on {n} held-out labels"
    if low > 0:
        return f"{second} is better than {first}: {numbers}."
    if high < 0:
        return f"{first} is better than {second}: {numbers}."
    return (
        f"{first} and {second} cannot be told apart: {numbers}. The one that is quicker to train is enough."
    )
