"""Counts to hold against the corrected one: by error rates found elsewhere, and by a changed prevalence."""

from typing import Any

import numpy as np
import pandas as pd

from cellkit.estimates import (
    Rates,
    adjusted_share,
    changed_prevalence,
    check_probabilities,
    check_rates,
)
from cellkit.measuring.assessment import design_of
from cellkit.measuring.audits import measured
from cellkit.tables import PLACE_COLUMNS

UNCHECKED = "adjusted and em are unchecked: too few answers here"


def other_counts(
    places: pd.DataFrame, part: pd.DataFrame, own: pd.DataFrame | None, trained: float
) -> tuple[dict[str, float], str]:
    """Return the counts that are there for comparison, and where the audit contradicts them.

    Parameters
    ----------
    places : DataFrame
        Of the audit, called by the network: `answer, cell, p, called, weight, stratum, animal`.
    part : DataFrame
        The candidates to count: `p, called, animal` and where they are.
    own : DataFrame, optional
        The places drawn from just these candidates, if enough to check with.
    trained : float
        Share of cells among the labels that the network was taught; NaN if unknown.

    Returns
    -------
    tuple of dict and str
        `adjusted` (by the error rates in the other animals) and `em` (by the prevalence at which `p` agrees
        with itself), NaN where they cannot be said; and a warning, "" without one.
    """
    adjusted, doubts = _adjusted(places, part, own)
    em, more_doubts = _by_prevalence(part, own, trained)
    unchecked = UNCHECKED if own is None and np.isfinite([adjusted, em]).any() else ""
    return {"adjusted": adjusted, "em": em}, "; ".join([*doubts, *more_doubts]) or unchecked


def _adjusted(places: pd.DataFrame, part: pd.DataFrame, own: pd.DataFrame | None) -> tuple[float, list[str]]:
    """Return the count by the error rates in the other animals, and what speaks against it."""
    others = places if part["animal"].nunique() == 1 else places.iloc[:0]
    others = others[(others["animal"] != part["animal"].iloc[0]).to_numpy()]
    answered = others[measured(others)]
    if answered.empty:
        return np.nan, []
    try:
        rates = _rates(answered, design_of(others).weights)
        share = adjusted_share(int(part["called"].sum()), len(part), rates).value
        if own is None:
            return round(share * len(part)), []
        told = own[measured(own)]
        check = check_rates(told["cell"].to_numpy(), told["called"].to_numpy(), design_of(own), rates)
    except ValueError as error:
        return np.nan, [f"adjusted: {str(error).split(';')[0]}"]
    return round(share * len(part)), _doubt("adjusted: errors are not as frequent here", check)


def _by_prevalence(part: pd.DataFrame, own: pd.DataFrame | None, trained: float) -> tuple[float, list[str]]:
    """Return the count at which `p` agrees with itself, and what speaks against it."""
    if not 0 < trained < 1:
        return np.nan, []
    share, q = changed_prevalence(part["p"].to_numpy(), trained)
    if own is None:
        return round(share * len(part)), []
    told = own[measured(own)]
    of_place = pd.Series(q, pd.MultiIndex.from_frame(part[list(PLACE_COLUMNS)]))
    at = of_place.reindex(pd.MultiIndex.from_frame(told[list(PLACE_COLUMNS)])).to_numpy()
    check = check_probabilities(told["cell"].to_numpy(), at, design_of(own))
    return round(share * len(part)), _doubt("em: p is not right here", check)


def _doubt(what: str, check: Any) -> list[str]:
    return [] if check.holds else [f"{what} (chance {check.probability:.2g})"]


def _rates(places: pd.DataFrame, weight: np.ndarray) -> Rates:
    """Return the error rates over these answers, each with as many answers as the weighted ones are worth."""
    numbers = []
    for of_class in (places["cell"].to_numpy(), ~places["cell"].to_numpy()):
        w = weight * of_class
        n = float(w.sum() ** 2 / (w**2).sum()) if of_class.any() else 0.0
        numbers += [n * float(w @ places["called"]) / float(w.sum()) if n else 0.0, n]
    return Rates(*numbers)
