"""Networks measured on an audit: on the places that taught none of those that are compared."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cellkit.estimates import METRICS, metric_differences
from cellkit.measuring.assessment import Assessment, answered_design, assess_places, own_strata
from cellkit.measuring.audits import call_places, read_audit
from cellkit.measuring.guard import leaked, taught_by
from cellkit.study import Study

MANY_NETWORKS = 10


def assess_one(study: Study, network: str, audit: str, *, learners: Sequence[str]) -> Assessment:
    """Measure a network on the places of an audit that taught none of the `learners`.

    Parameters
    ----------
    study : Study
    network, audit : str
        Their names.
    learners : sequence of str
        Networks whose teaching makes a place unfit.

    Raises
    ------
    ValueError
        If there is no audit, it cannot measure, too few of its places are answered, or all taught a learner.
    """
    places, record = read_audit(study, audit)
    places = call_places(study, places, network)
    taught = np.any([leaked(study, places, name) for name in learners], axis=0)
    found = assess_places(
        places.assign(leaked=taught), network=network, audit=audit, classes=study.settings.classes
    )
    return replace(found, notes=(*found.notes, *_more_notes(study, network, places, record["at"])))


def _more_notes(study: Study, network: str, places: pd.DataFrame, drawn_at: str) -> list[str]:
    made_at = {card["name"]: card["made_at"] for card in study.cards()}
    said = []
    if taught_by(study, network) is None and made_at[network] < drawn_at and "train" in set(places["role"]):
        said.append(
            f"{network} was made before the audit was drawn and may have trained on its places: over animals "
            "that train its numbers are optimistic."
        )
    later = sum(at > drawn_at for at in made_at.values())
    if later > MANY_NETWORKS:
        said.append(
            f"{later} networks were made since the audit was drawn: who chooses among many by one audit "
            "flatters the best. Extend it: review.extend_audit(study, 100)."
        )
    return said


def measured_alike(study: Study, networks: Sequence[str], *, audit: str = "audit") -> tuple[Assessment, ...]:
    """Measure networks on the same places of an audit: those that taught none of them.

    Errors as of `assess_one`.
    """
    return tuple(assess_one(study, network, audit, learners=networks) for network in networks)


def animal_differences(first: Assessment, last: Assessment) -> pd.DataFrame:
    """Return by how much the last network differs from the first in every animal with strata of its own.

    Parameters
    ----------
    first, last : Assessment
        From one call of `measured_alike`.

    Returns
    -------
    DataFrame
        `animal, metric, value, low, high`, the metrics of `estimates.METRICS`.
    """
    columns = ["animal", "metric", "value", "low", "high"]
    rows = []
    for animal, part in first.everywhere.groupby("animal"):
        if own_strata(first.everywhere, str(animal)):
            truth, called = part["cell"].to_numpy(), part["called"].to_numpy()
            later = last.everywhere.loc[part.index, "called"].to_numpy()
            found = metric_differences(truth, called, later, answered_design(part))
            rows += [{"animal": animal, "metric": name, **found[name]._asdict()} for name in METRICS]
    return pd.DataFrame(rows, columns=columns)
