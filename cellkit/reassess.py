"""How good is a network, is it better than another, and how many cells are there: all on one audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from cellkit.estimates import METRICS, Interval, McNemar, mcnemar, metric_differences, n_more
from cellkit.labels.sampling import QUEUE_COLUMNS
from cellkit.measuring.advice import advise, check_animal
from cellkit.measuring.assessment import JUDGES, Assessment, answered_design, measure
from cellkit.measuring.audits import call_places, measured, newest_network, read_audit
from cellkit.measuring.counting import counts
from cellkit.measuring.guard import leaked
from cellkit.measuring.paired import animal_differences, assess_one, measured_alike
from cellkit.measuring.parts import By, part_of
from cellkit.study import Study

__all__ = [
    "Assessment",
    "Comparison",
    "advise",
    "assess",
    "breakdown",
    "check_animal",
    "compare",
    "counts",
    "fixed_and_broken",
]
FEWEST_IN_PART = 10
FEWEST = 6  # places on which one alone is right; with fewer McNemar's exact test never reaches 5 %
LOSS = 0.02  # of F1: an animal that loses more is named, however much is gained over all
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
        If there is no audit, it cannot measure, too few of its places are answered, or all taught the
        network.
    """
    network = network or newest_network(study)
    return assess_one(study, network, audit, learners=[network])


def breakdown(
    study: Study, network: str | None = None, *, by: By = "animal", audit: str = "audit"
) -> pd.DataFrame:
    """Measure a network on parts of an audit: where does it fail.

    Parameters
    ----------
    study : Study
        With an answered audit.
    network : str, optional
        The newest if left out.
    by : str or callable
        "animal", "region", "depth", "brightness", another column of the candidates, or a function of them;
        see `parts.part_of`.
    audit : str
        Name of the audit.

    Returns
    -------
    DataFrame
        `part, metric, value, low, high, n`, where `n` answers are in the denominator; the value is empty with
        fewer than 10.

    Raises
    ------
    ValueError
        As `assess`, or as `parts.part_of`.
    """
    network = network or newest_network(study)
    places = call_places(study, read_audit(study, audit)[0], network)
    places = places.assign(
        cell=places["answer"] == study.settings.classes[0], leaked=leaked(study, places, network)
    )
    part = part_of(study, places, by)
    found = pd.concat(
        [measure(places, part == name).assign(part=name) for name in sorted(set(part[measured(places)]))],
        ignore_index=True,
    )
    enough = found["n"] >= FEWEST_IN_PART
    told = {"value": found["value"].where(enough), "low": found["low"].where(enough, 0.0)}
    found = found.assign(**told, high=found["high"].where(enough, 1.0))
    return found[["part", "metric", "value", "low", "high", "n"]]


def fixed_and_broken(study: Study, first: str, second: str, *, audit: str = "audit") -> pd.DataFrame:
    """Return the places of an audit that one of two networks alone calls right, as a queue for a gallery.

    Parameters
    ----------
    study : Study
        With an answered audit.
    first, second : str
        Names of networks, the older first.
    audit : str
        Name of the audit.

    Returns
    -------
    DataFrame
        A queue with the calls of the second network, `category` "fixed" or "broken", the `answer`, and
        `before`, the first network's p; the largest change first. Answers given to it are not blind: they
        mend training.

    Raises
    ------
    ValueError
        As `compare`.
    """
    return changes(compare(study, [first, second], audit=audit))


def changes(compared: "Comparison") -> pd.DataFrame:
    """Return what the last of the compared networks fixed and broke, as `fixed_and_broken` does."""
    old, new = compared.assessments[0].places, compared.assessments[-1].places
    right = [(each["called"] == each["cell"]).to_numpy() for each in (old, new)]
    change = np.where(right[1], "fixed", "broken")
    table = new.assign(category=change, before=old["p"].to_numpy(), origin="category", batch="changes")
    table = table.assign(weight=np.nan, far=np.abs(table["p"] - table["before"]))
    table = table[right[0] != right[1]].sort_values("far", ascending=False, kind="stable")
    return table[[*QUEUE_COLUMNS, "answer", "before"]].reset_index(drop=True)


@dataclass(frozen=True)
class Comparison:
    """Networks side by side on the same places.

    Attributes
    ----------
    assessments : tuple of Assessment
        In the order given.
    differences : DataFrame
        `network, metric, value, low, high`: every later network minus the first, paired.
    per_animal : DataFrame
        `animal, metric, value, low, high`: the last network minus the first in every animal with strata of
        its own, those that train among them.
    mcnemar : McNemar
        The last network against the first.
    verdict : str
        The last network against the first, in one sentence; in a second one, animals that lose by it.
    """

    assessments: tuple[Assessment, ...]
    differences: pd.DataFrame
    per_animal: pd.DataFrame
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
    found = measured_alike(study, networks, audit=audit)
    first = found[0].places
    design = answered_design(first)
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
    per_animal = animal_differences(found[0], found[-1])
    verdict = f"{_verdict(f1, found, test)}{_losers(f1, per_animal, networks[-1])}"
    return Comparison(found, table, per_animal, test, verdict)


def _losers(f1: Interval, per_animal: pd.DataFrame, network: str) -> str:
    """Name the animals that lose by a network which gains over all, "" without any."""
    f1_of = per_animal[(per_animal["metric"] == "F1") & (per_animal["value"] < -LOSS)]
    if f1_of.empty or not f1.value > 0:
        return ""
    said = [
        f"{row.animal} loses {-row.value:.3f} F1 ({-row.high:.3f} to {-row.low:.3f})"
        for row in f1_of.itertuples()
    ]
    return f" Yet with {network} {' and '.join(said)}."


def _verdict(f1: Interval, found: tuple[Assessment, ...], test: McNemar) -> str:
    """Say in one sentence what the difference in F1 of the last network from the first means."""
    old, new, n = found[0].network, found[-1].network, len(found[0].places)
    where = "on animals that never trained" if found[0].over == JUDGES else "on animals that may have trained"
    if test.only_first + test.only_second == 0:
        return f"{new} and {old} call all {n} places alike, {where}."
    if np.isnan(f1.value):
        none = f"none of {n} audited places is a {found[0].classes[0]}"
        return f"{new} and {old} cannot be compared by F1 {where}: {none}."
    alone = f"alone right at {test.only_second} and {test.only_first} of {n} places"
    exact = f"{alone}, {'exact McNemar' if test.exact else 'weighted paired'} P = {test.probability:.2g}"
    if (f1.low > 0 or f1.high < 0) and test.only_first + test.only_second >= FEWEST:
        word, ends = ("better", (f1.low, f1.high)) if f1.low > 0 else ("worse", (-f1.high, -f1.low))
        return f"{new} is {word} than {old} by {ends[0]:.3f} to {ends[1]:.3f} F1 {where} ({exact})."
    differs = f"F1 differs by {f1.low:+.3f} to {f1.high:+.3f} ({exact})"
    more = n_more(n, f1.half_width, abs(f1.value) / POWER) if f1.value else 20 * n
    would = f"about {more:,} more answers would" if more < 20 * n else "many times the answers would"
    return f"{new} and {old} cannot be told apart {where}: {differs}; {would if more else 'some more would'}."
