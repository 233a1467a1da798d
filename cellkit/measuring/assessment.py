"""How good one network is on one audit: metrics with intervals, confusion, and what a reader must know."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from cellkit.estimates import (
    ENOUGH_ANIMALS,
    CalibrationError,
    Design,
    Interval,
    audit_design,
    average_precision,
    brier_score,
    calibration_error,
    confusion,
    stratified_total,
    weighted_metrics,
)
from cellkit.measuring.audits import measured
from cellkit.tables import UNSURE

FEW = 200
LEAKED = "leaked"
JUDGES, ALL = "animals that judge", "all animals"


@dataclass(frozen=True)
class Assessment:
    """How good one network is on one audit.

    Attributes
    ----------
    network, audit : str
        Their names.
    classes : tuple of 2 str
        The positive class first.
    over : str
        Which animals the headline holds for: those that judge, where there are some.
    metrics : DataFrame
        `metric, over, value, low, high, n`, the headline first; `n` answers are in the denominator.
    per_animal : DataFrame
        `animal, role, metric, value, low, high, n` of the animals with strata of their own.
    places : DataFrame
        The answered places of the headline: `cell` (the answer is the positive class), `p`, `called`,
        `weight` (candidates that the place stands for), `stratum`, `animal`, `role`, and where they are.
    everywhere : DataFrame
        The same of all animals.
    calibration : CalibrationError
        Of the headline.
    notes : tuple of str
        What a reader must know.
    """

    network: str
    audit: str
    classes: tuple[str, str]
    over: str
    metrics: pd.DataFrame
    per_animal: pd.DataFrame
    places: pd.DataFrame
    everywhere: pd.DataFrame
    calibration: CalibrationError
    notes: tuple[str, ...]

    @property
    def confusion(self) -> pd.DataFrame:
        """Answers of the headline, by the person's answer (rows) and the network's call (columns)."""
        return self._confusion(None).astype(int)

    @property
    def weighted(self) -> pd.DataFrame:
        """Like `confusion`, in candidates that the answers stand for."""
        return self._confusion(self.places["weight"].to_numpy())

    @property
    def categories(self) -> pd.DataFrame:
        """Candidates of the headline in each category: `category, answers, candidates, low, high`."""
        positive, negative = self.classes
        cell, called = (self.places[name].to_numpy(bool) for name in ("cell", "called"))
        design = answered_design(self.places)
        members = {
            f"correct {positive}": cell & called,
            f"correct {negative}": ~cell & ~called,
            f"missed {positive}": cell & ~called,
            f"false {positive}": ~cell & called,
        }
        rows = [
            (name, int(of.sum()), *map(round, stratified_total(of, design))) for name, of in members.items()
        ]
        return pd.DataFrame(rows, columns=["category", "answers", "candidates", "low", "high"])

    def _confusion(self, weight: np.ndarray | None) -> pd.DataFrame:
        counted = confusion(self.places["cell"].to_numpy(), self.places["called"].to_numpy(), weight)
        calls = pd.Index([f"called {name}" for name in self.classes], name="network")
        return pd.DataFrame(counted, index=pd.Index(self.classes, name="person"), columns=calls)

    def interval(self, metric: str) -> Interval:
        """Return a metric of the headline: one of `estimates.METRICS`, "average precision" or "Brier"."""
        row = self.metrics[(self.metrics["metric"] == metric) & (self.metrics["over"] == self.over)].iloc[0]
        return Interval(float(row["value"]), float(row["low"]), float(row["high"]))

    def as_dict(self) -> dict[str, Any]:
        """Return names, metrics and notes as plain values for JSON; NaN becomes None."""
        rows = self.metrics.astype(object).where(self.metrics.notna(), None).to_dict("records")
        f1 = next(row for row in rows if row["metric"] == "F1" and row["over"] == self.over)
        return {
            "name": self.network,
            "audit": self.audit,
            "over": self.over,
            "f1": {end: f1[end] for end in Interval._fields},
            "metrics": rows,
            "confusion": self.confusion.to_numpy().tolist(),
            "calibration_error": {"value": self.calibration.value, "chance": self.calibration.chance},
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        table = self.metrics.to_html(index=False, float_format="{:.3f}".format)
        return f"<p><b>{escape(self.network)}</b> on {escape(self.audit)}</p>{table}<ul>{notes}</ul>"


def assess_places(places: pd.DataFrame, *, network: str, audit: str, classes: tuple[str, str]) -> Assessment:
    """Measure the calls of a network on the places of an audit.

    Parameters
    ----------
    places : DataFrame
        All places of the audit: `answer`, `now`, `p`, `called`, `weight`, `stratum`, `animal`, `role`.
    network, audit : str
        Their names.
    classes : tuple of 2 str
        The positive class first.

    Raises
    ------
    ValueError
        If a stratum has too few answers, or a place no weight.
    """
    places = places.assign(cell=places["answer"] == classes[0])
    if _all_leaked(places):
        raise ValueError(
            f"An audit measures networks that never saw its places; all of {audit!r} taught {network}. "
            "Draw an audit of another name, and retrain."
        )
    scopes = _scopes(places)
    over, headline = next(iter(scopes.items()))
    metrics = pd.concat([measure(part).assign(over=name) for name, part in scopes.items()], ignore_index=True)
    answered, everywhere = _weighted(headline), _weighted(places)
    truth, p, weight = (answered[name].to_numpy() for name in ("cell", "p", "weight"))
    return Assessment(
        network=network,
        audit=audit,
        classes=classes,
        over=over,
        metrics=metrics[["metric", "over", "value", "low", "high", "n"]],
        per_animal=_per_animal(places),
        places=answered,
        everywhere=everywhere,
        calibration=calibration_error(truth, p, weight),
        notes=(*_unsaid(answered, classes[0]), *_notes(places, answered)),
    )


def _weighted(places: pd.DataFrame) -> pd.DataFrame:
    """Return the places that measure, each with the number of candidates that it stands for."""
    design, answered = measuring(places)
    return answered.assign(weight=design.weights).reset_index(drop=True)


def answered_design(places: pd.DataFrame) -> Design:
    """Return the design of the `places` of an assessment, or of the strata of some of its animals."""
    codes = pd.factorize(places["stratum"])[0]
    return Design(codes, np.bincount(codes, weights=places["weight"]))


def _scopes(places: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the parts of the audit that are measured, the headline first."""
    judges = places[places["role"] == "judge"]
    if _all_leaked(judges):
        judges = judges.iloc[:0]
    if len(judges) in {0, len(places)}:
        return {JUDGES if len(judges) else ALL: places}
    return {JUDGES: judges, ALL: places}


def _all_leaked(places: pd.DataFrame) -> bool:
    told = places[measured(places)]
    return LEAKED in told and len(told) > 0 and bool(told[LEAKED].all())


def design_of(places: pd.DataFrame) -> Design:
    """Return the design of the answered ones among these places of an audit: whole strata."""
    return audit_design(places["stratum"].to_numpy(), places["weight"].to_numpy(), measured(places))


def measuring(places: pd.DataFrame, within: np.ndarray | None = None) -> tuple[Design, pd.DataFrame]:
    """Return the answered places that measure and their design.

    Left out are places that taught the network (`leaked`) and those that are not `within`, shape (n,): the
    others go on standing for as many candidates as before.
    """
    design, told = design_of(places), measured(places)
    keep = np.ones(len(places), bool) if within is None else within.copy()
    if LEAKED in places:
        keep &= ~places[LEAKED].to_numpy(bool)
    kept = keep[told]
    strata, codes = np.unique(design.stratum[kept], return_inverse=True)
    share = np.bincount(design.stratum[kept], minlength=len(design.sizes)) / design.drawn
    return Design(codes, (design.sizes * share)[strata]), places[told & keep]


def measure(places: pd.DataFrame, within: np.ndarray | None = None) -> pd.DataFrame:
    """Return `metric, value, low, high, n` over these places; `n` counts the answers in the denominator.

    With `within`, shape (n,), over those of them only.
    """
    design, answered = measuring(places, within)
    truth, called = answered["cell"].to_numpy(), answered["called"].to_numpy()
    found = weighted_metrics(truth, called, design, animals=answered["animal"].to_numpy())
    behind = [called, truth, truth | called, np.ones(len(truth)), ~truth]
    counted = [int(n.sum()) for n in behind]
    p, animals = answered["p"].to_numpy(), answered["animal"].to_numpy()
    found |= {
        "average precision": average_precision(truth, p, design, animals=animals),
        "Brier": brier_score(truth, p, design, animals=animals),
    }
    rows = zip(found.items(), [*counted, counted[1], len(truth)], strict=True)
    return pd.DataFrame([{"metric": name, **each._asdict(), "n": n} for (name, each), n in rows])


def own_strata(places: pd.DataFrame, animal: str, *, least: int = 2) -> bool:
    """Say whether no other animal shares the strata of this one, and each has at least `least` answers."""
    here = places["animal"] == animal
    answers = pd.Series(measured(places), places.index)[here].groupby(places["stratum"][here]).sum()
    return (
        len(answers) > 0 and not answers.index.isin(places["stratum"][~here]).any() and answers.min() >= least
    )


def _per_animal(places: pd.DataFrame) -> pd.DataFrame:
    columns = ["animal", "role", "metric", "value", "low", "high", "n"]
    parts = [
        measure(part).assign(animal=animal, role=" and ".join(sorted(set(part["role"]))))
        for animal, part in places.groupby("animal")
        if own_strata(places, str(animal))
    ]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _unsaid(answered: pd.DataFrame, positive: str) -> list[str]:
    """Say which metrics cannot be said, and why."""
    cell, called = answered["cell"], answered["called"]
    said = {
        f"None of the {len(answered)} answers is {positive}: recall, F1 and average precision cannot be "
        "said.": not cell.any(),
        f"All {len(answered)} answers are {positive}: specificity cannot be said.": bool(cell.all()),
        f"The network calls none of the {len(answered)} places {positive}: precision cannot be said.": (
            not called.any()
        ),
    }
    return [note for note, holds in said.items() if holds]


def _notes(places: pd.DataFrame, answered: pd.DataFrame) -> tuple[str, ...]:
    waiting, unsure = (int((places["answer"] == answer).sum()) for answer in ("", UNSURE))
    changed = int(((places["answer"] != "") & (places["now"] != places["answer"])).sum())
    differ = int(places["differ"].sum()) if "differ" in places else 0
    taught = int(places[LEAKED].sum()) if LEAKED in places else 0
    animals = answered["animal"].nunique()
    these = "this animal" if animals == 1 else f"these {animals} animals"
    said = {
        "Recall is among the candidates: cells that the detector missed are not in it.": True,
        "No animal is kept for judging: networks may have trained on these, so the numbers are optimistic.": (
            "judge" not in set(answered["role"])
        ),
        f"The intervals hold for {these}; other animals differ more.": animals < ENOUGH_ANIMALS,
        f"{len(answered)} answers measure; with fewer than {FEW} the intervals are rough.": len(answered)
        < FEW,
        f"{waiting} of the audit's {len(places)} places wait for an answer.": waiting > 0,
        f"{unsure} answers are unsure; they count as not given.": unsure > 0,
        f"{changed} answers were changed later; the first, blind ones measure.": changed > 0,
        f"{differ} places were answered differently by two people; the newest answer measures.": differ > 0,
        f"{taught} places taught the network, or overlap one that did; they do not measure.": taught > 0,
    }
    return tuple(note for note, holds in said.items() if holds)
