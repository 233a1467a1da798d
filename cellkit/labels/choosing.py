"""Which places stand behind a figure: a cell of the confusion matrix, a bin, a threshold, a part of a map."""

import numpy as np
import pandas as pd

from cellkit.estimates import reliability_bins, weighted_metrics
from cellkit.labels.points import queue_of
from cellkit.labels.sampling import category_names
from cellkit.measuring.assessment import Assessment, design_of
from cellkit.study import Study


def places_of_cell(study: Study, assessment: Assessment, *, person: str, called: bool) -> pd.DataFrame:
    """Return the audited places of one cell of the confusion matrix as a queue, the surest call first.

    Parameters
    ----------
    study : Study
    assessment : Assessment
        From `reassess.assess`.
    person : str
        What the person answered, one of the classes.
    called : bool
        Whether the network called them positive.

    Raises
    ------
    ValueError
        If `person` is no class.
    """
    positive, negative = assessment.classes
    if person not in assessment.classes:
        raise ValueError(f"A person answers {positive} or {negative}; got {person!r}. Choose one of them.")
    places = assessment.places
    here = (places["cell"] == (person == positive)) & (places["called"] == called)
    chosen = places[here].sort_values("p", ascending=not called, kind="stable")
    right, right_not, missed, wrong = category_names(assessment.classes)
    name = (right if called else missed) if person == positive else (wrong if called else right_not)
    return queue_of(study, chosen.assign(network=assessment.network), batch=name).assign(category=name)


def places_of_bin(study: Study, assessment: Assessment, number: int, *, bins: int) -> pd.DataFrame:
    """Return the audited places of one bin of a calibration plot as a queue, the highest `p` first.

    Parameters
    ----------
    study : Study
    assessment : Assessment
        From `reassess.assess`.
    number : int
        Of the bin, counted from the lowest `p`.
    bins : int
        As the plot has.

    Raises
    ------
    ValueError
        If there is no such bin.
    """
    places = assessment.places
    of = reliability_bins(places["p"].to_numpy(), bins=bins)
    if number not in of:
        raise ValueError(
            f"A bin must be one of the plot's, 0 to {of.max(initial=0)}; got {number}. Choose one of them."
        )
    chosen = places[of == number].sort_values("p", ascending=False, kind="stable")
    name = f"p {chosen['p'].min():.2f} to {chosen['p'].max():.2f}"
    return queue_of(study, chosen.assign(network=assessment.network), batch=name)


def at_threshold(assessment: Assessment, threshold: float) -> pd.DataFrame:
    """Return precision, recall and F1 of a network that called from another probability on.

    Parameters
    ----------
    assessment : Assessment
        From `reassess.assess`.
    threshold : float
        From 0 to 1.

    Returns
    -------
    DataFrame
        `metric, value, low, high`, and a row "called": how many candidates the audit stands for would be
        called, without an interval.
    """
    places = assessment.places
    truth, called = places["cell"].to_numpy(), places["p"].to_numpy() >= threshold
    found = weighted_metrics(truth, called, design_of(places), animals=places["animal"].to_numpy())
    rows = [{"metric": name, **found[name]._asdict()} for name in ("precision", "recall", "F1")]
    count = float(places["weight"].to_numpy()[called].sum())
    return pd.DataFrame([*rows, {"metric": "called", "value": count, "low": np.nan, "high": np.nan}])


def inside_outline(places: pd.DataFrame, outline: np.ndarray, *, x: str, y: str) -> pd.DataFrame:
    """Return the rows whose point (x, y) lies inside a polygon, shape (corners, 2)."""
    if len(outline) < 3:
        return places.iloc[:0]
    from skimage.measure import points_in_poly

    return places[points_in_poly(places[[x, y]].to_numpy("float64"), np.asarray(outline, "float64"))]
