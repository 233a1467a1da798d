"""How good is a network, is it better than another, and how many cells are there: all on one audit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd

from cellkit.assessment import JUDGES, Assessment, assess_places, design_of, own_strata
from cellkit.audits import call_places, measured, newest_network, read_audit
from cellkit.estimates import (
    METRICS,
    Design,
    Interval,
    McNemar,
    hidden_share,
    mcnemar,
    metric_differences,
    n_more,
    pooled_total,
    stratified_total,
)
from cellkit.strata import LEAST, steps_of
from cellkit.study import Study

__all__ = ["Assessment", "Comparison", "assess", "compare", "counts"]
DIRECT = 100
FEWEST = 6  # places on which one alone is right; with fewer McNemar's exact test never reaches 5 %
POWER = 1 + 0.8416 / 1.96  # so much wider than its half-width is a difference that is seen 8 times in 10


def assess(study: Study, network: str | None = None, *, audit: str = "audit") -> Assessment:
    """Measure a network on an audit; the study's calls stay as they are.

    Parameters
    ----------
    study : Study
        With an answered audit.
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.
    audit : str
        Name of the audit.

    Raises
    ------
    ValueError
        If there is no audit, its candidates were detected anew, or too few of its places are answered.
    """
    network = network or newest_network(study)
    places, record = read_audit(study, audit)
    places = call_places(study, places, network)
    found = assess_places(places, network=network, audit=audit, classes=study.settings.classes)
    older = [card["name"] for card in study.cards() if card["made_at"] < record["at"]]
    if network in older and "train" in set(places["role"]):
        late = (
            f"{network} was made before the audit was drawn and may have trained on its places: over animals "
            "that train its numbers are optimistic."
        )
        return replace(found, notes=(*found.notes, late))
    return found


@dataclass(frozen=True)
class Comparison:
    """Networks side by side on the same places.

    Attributes
    ----------
    assessments : tuple of Assessment
        In the order given.
    differences : DataFrame
        `network, metric, value, low, high`: every later network minus the first, paired.
    mcnemar : McNemar
        The last network against the first.
    verdict : str
        The last network against the first, in one sentence.
    """

    assessments: tuple[Assessment, ...]
    differences: pd.DataFrame
    mcnemar: McNemar
    verdict: str

    @property
    def table(self) -> pd.DataFrame:
        """Metrics (rows) of every network and the differences, as text with intervals."""
        columns = {
            each.network: [_said(each.interval(metric)) for metric in METRICS] for each in self.assessments
        }
        first = self.assessments[0].network
        for network, part in self.differences.groupby("network", sort=False):
            rows = part.set_index("metric").loc[list(METRICS), ["value", "low", "high"]]
            columns[f"{network} − {first}"] = [
                _said(Interval(*row), sign="+") for row in rows.itertuples(index=False)
            ]
        return pd.DataFrame(columns, index=pd.Index(METRICS, name="metric"))

    def _repr_html_(self) -> str:
        return f"{self.table.to_html()}<p>{escape(self.verdict)}</p>"


def _said(interval: Interval, *, sign: str = "") -> str:
    if np.isnan(interval.value):
        return "cannot be said"
    return f"{interval.value:{sign}.3f} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def compare(study: Study, networks: Sequence[str], *, audit: str = "audit") -> Comparison:
    """Measure networks on the same audit, and how far the later ones differ from the first.

    Parameters
    ----------
    study : Study
        With an answered audit.
    networks : sequence of str
        Names, the oldest first.
    audit : str
        Name of the audit.

    Raises
    ------
    ValueError
        As `assess`; or if there are not two different networks.
    """
    networks = list(dict.fromkeys(networks))
    if len(networks) < 2:
        raise ValueError(
            f"A comparison needs two different networks; got {', '.join(networks) or 'none'}. "
            "For one alone there is assess(study, network)."
        )
    found = tuple(assess(study, network, audit=audit) for network in networks)
    first = found[0].places
    design = design_of(first)
    truth, animals = first["cell"].to_numpy(), first["animal"].to_numpy()
    calls = {each.network: each.places["called"].to_numpy() for each in found}
    differences = [
        {"network": name, "metric": metric, **interval._asdict()}
        for name in networks[1:]
        for metric, interval in metric_differences(
            truth, calls[networks[0]], calls[name], design, animals=animals
        ).items()
    ]
    table = pd.DataFrame(differences)
    last = table[(table["network"] == networks[-1]) & (table["metric"] == "F1")].iloc[0]
    test = mcnemar(calls[networks[0]] == truth, calls[networks[-1]] == truth, design)
    f1 = Interval(last["value"], last["low"], last["high"])
    return Comparison(found, table, test, _verdict(f1, found, test))


def _verdict(f1: Interval, found: tuple[Assessment, ...], test: McNemar) -> str:
    """Say in one sentence what the difference in F1 of the last network from the first means."""
    old, new, n = found[0].network, found[-1].network, len(found[0].places)
    where = "on animals that never trained" if found[0].over == JUDGES else "on animals that may have trained"
    if test.only_first + test.only_second == 0:
        return f"{new} and {old} call all {n} places alike, {where}."
    alone = f"alone right at {test.only_second} and {test.only_first} of {n} places"
    exact = f"{alone}, {'exact McNemar' if test.exact else 'weighted paired'} P = {test.probability:.2g}"
    if (f1.low > 0 or f1.high < 0) and test.only_first + test.only_second >= FEWEST:
        word, ends = ("better", (f1.low, f1.high)) if f1.low > 0 else ("worse", (-f1.high, -f1.low))
        return f"{new} is {word} than {old} by {ends[0]:.3f} to {ends[1]:.3f} F1 {where} ({exact})."
    differs = f"F1 differs by {f1.low:+.3f} to {f1.high:+.3f} ({exact})"
    more = n_more(n, f1.half_width, abs(f1.value) / POWER) if f1.value else 20 * n
    would = f"about {more:,} more answers would" if more < 20 * n else "many times the answers would"
    return f"{new} and {old} cannot be told apart {where}: {differs}; {would if more else 'some more would'}."


def counts(study: Study, network: str | None = None, *, audit: str = "audit") -> pd.DataFrame:
    """Count the cells of every animal, corrected for the network's errors by the audit.

    Parameters
    ----------
    study : Study
        With an answered audit.
    network : str, optional
        Whose calls are counted; the newest if left out.
    audit : str
        Name of the audit.

    Returns
    -------
    DataFrame
        One row an animal and one for all: `candidates`, `naive` (called cells), `corrected, low, high`,
        `hidden` (so many more may hide where the audit saw none), `more` (further answers for an interval of
        10 % to either side) and `note`. Cells that the detector missed are in none of the numbers.

    Raises
    ------
    ValueError
        As `assess`.
    """
    network = network or newest_network(study)
    places, record = read_audit(study, audit)
    places = call_places(study, places, network).assign(cell=places["answer"] == study.settings.classes[0])
    calls = call_places(study, study.candidates(), network)
    calls = calls.assign(animal=[study.entry(image).animal for image in calls["image"]])
    whole = set(calls["image"]) == set(record["frame"])
    rows = []
    for animal, part in calls.groupby("animal"):
        own = places[places["animal"] == animal] if _is_direct(places, str(animal)) else None
        rows.append({"animal": animal, **_count(part, own, places)})
    return pd.DataFrame([*rows, {"animal": "all", **_count(calls, places if whole else None, places)}])


def _is_direct(places: pd.DataFrame, animal: str) -> bool:
    """Say whether an animal has answers enough to be counted without the others."""
    enough = measured(places)[places["animal"] == animal].sum() >= DIRECT
    return bool(enough) and own_strata(places, animal, least=LEAST)


def _count(calls: pd.DataFrame, own: pd.DataFrame | None, places: pd.DataFrame) -> dict[str, object]:
    """Return one row of `counts`: from the places drawn from just these candidates, if any, else from all."""
    part = places if own is None else own
    design, answered = design_of(part), part[measured(part)]
    cell = answered["cell"].to_numpy()
    if own is not None:
        total, note = stratified_total(cell, design), f"from {len(cell)} answers there"
    else:
        edges = steps_of(answered["p"].to_numpy(), len(cell), least=LEAST)
        sizes = np.bincount(np.digitize(calls["p"], edges), minlength=len(edges) + 1)
        kind = np.digitize(answered["p"], edges)
        total = pooled_total(cell, kind, sizes, design)
        design = Design(kind, np.maximum(sizes, np.bincount(kind, minlength=len(sizes))))
        note = "assumes equal error rates in all animals"
    total = Interval(*(float(round(end)) for end in total))
    more = n_more(len(cell), total.half_width, 0.1 * total.value) if total.value else None
    return {
        "candidates": len(calls),
        "naive": int(calls["called"].sum()),
        "corrected": int(total.value),
        "low": int(total.low),
        "high": int(total.high),
        "hidden": round(hidden_share(cell, design) * len(calls)),
        "more": more,
        "note": f"{note}; without cells that the detector missed",
    }
