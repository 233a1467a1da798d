"""How far two answers about the same places agree: two people, one person twice, two networks."""

from typing import NamedTuple

import numpy as np

from cellkit.estimates.draws import Design, Interval, spread, wilson
from cellkit.estimates.metrics import ratio


class Agreement(NamedTuple):
    """Agreement of two answers about the same places.

    Attributes
    ----------
    n : int
        Places with two answers.
    prevalence : float
        Mean share of positive answers; kappa falls with it, so it belongs beside it.
    alike : Interval
        Share of equal answers.
    kappa : Interval
        Cohen's: 1 is perfect, 0 is what chance gives.
    positive, negative : Interval
        Agreement on positives and on negatives alone. `positive` is the F1 of one person judged by the other:
        no network can be expected to do better, so it is the ceiling beside a network's F1.
    """

    n: int
    prevalence: float
    alike: Interval
    kappa: Interval
    positive: Interval
    negative: Interval


def agreement(first: np.ndarray, second: np.ndarray, design: Design | None = None) -> Agreement:
    """Return how far two answers about the same places agree, with intervals.

    Parameters
    ----------
    first, second : ndarray of bool, shape (n,)
        True for the positive class; places with an unsure answer left out.
    design : Design, optional
        How the places were drawn, if their chances differed.

    Raises
    ------
    ValueError
        If there are fewer than two places.

    Notes
    -----
    The variance of kappa is by linearisation; for places that were drawn alike it is that of Fleiss, Cohen
    and Everitt. Without a disagreement the lower end comes from Wilson's interval of the agreement.

    References
    ----------
    Cohen 1960, Educ Psychol Meas 20:37; Fleiss, Cohen and Everitt 1969, Psychol Bull 72:323.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if len(first) < 2:
        raise ValueError(
            f"Agreement needs places with two answers; got {len(first)}. Let 50 or more come back unseen."
        )
    if design is None:
        design = Design(np.zeros(len(first), dtype=np.int64), np.array([float(len(first))]))
    one = np.ones(len(first))
    share = design.weights / design.weights.sum()
    positives = first.astype("float64") + second
    return Agreement(
        len(first),
        float(share @ positives) / 2,
        ratio((first == second).astype("float64"), one, design),
        _kappa(first, second, design),
        ratio(2.0 * (first & second), positives, design),
        ratio(2.0 * (~first & ~second), 2 - positives, design),
    )


def _kappa(first: np.ndarray, second: np.ndarray, design: Design) -> Interval:
    share = design.weights / design.weights.sum()
    alike = (first == second).astype("float64")
    a, b, agree = (float(share @ each) for each in (first, second, alike))
    chance = a * b + (1 - a) * (1 - b)
    if chance > 1 - 1e-12:
        return Interval(np.nan, -1.0, 1.0)
    value = (agree - chance) / (1 - chance)
    if alike.all():
        n = 1 / float(share @ share)
        return Interval(1.0, (wilson(n, n).low - chance) / (1 - chance), 1.0)
    by_chance = first * (2 * b - 1) + second * (2 * a - 1)
    pull = (alike * (1 - chance) - (1 - agree) * by_chance) / (1 - chance) ** 2
    reach = spread(pull, design, finite=False).reach
    return Interval(value, max(-1.0, value - reach), min(1.0, value + reach))
