"""How many cells there are: corrected for the network's errors by an audit, and for missed cells by boxes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cellkit.estimates import (
    Design,
    Interval,
    add_intervals,
    answers_needed,
    hidden_share,
    n_more,
    pooled_total,
    powered_share,
    stratified_total,
)
from cellkit.folder.holdings import audit_frame_file
from cellkit.measuring.assessment import design_of, own_strata
from cellkit.measuring.audits import answered_by, call_places, measured, newest_network, read_audit
from cellkit.measuring.boxes import read_boxes
from cellkit.measuring.drawing import kept_strata
from cellkit.measuring.misses import Misses, missed_cells
from cellkit.measuring.parts import By, part_of
from cellkit.measuring.rivals import other_counts
from cellkit.measuring.strata import LEAST, steps_of
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS

DIRECT = 100
WISH = 0.1
WITHOUT = "without cells that the detector missed"


@dataclass(frozen=True)
class Basis:
    """What all counts of a study rest on.

    `places`: of the audit, called by the network, with `cell` and `part`. `calls`: all candidates, with
    `animal`, `part` and the audit's `stratum`. `trained`: share of cells among the network's labels, NaN if
    unknown. `misses`: what the boxes say, None without; then `why_not`.
    """

    places: pd.DataFrame
    calls: pd.DataFrame
    trained: float
    misses: Misses | None
    why_not: str


def counts(
    study: Study,
    network: str | None = None,
    *,
    audit: str = "audit",
    boxes: str = "boxes",
    by: By | None = None,
    who: str | None = None,
) -> pd.DataFrame:
    """Count the cells of every animal, corrected by the audit and, where boxes are done, for missed cells.

    Parameters
    ----------
    study : Study
        With an answered audit.
    network : str, optional
        Whose calls are counted; the newest if left out.
    audit, boxes : str
        Names of the audit and of the draw of boxes.
    by : str or callable, optional
        Count parts of every animal: "region", "depth", "brightness", another column of the candidates, or a
        function of them; see `parts.part_of`.
    who : str, optional
        By whose answers; see `audits.read_audit`.

    Returns
    -------
    DataFrame
        One row an animal (and part) and one for all:

        - `candidates`, and `naive`, those that are called;
        - `corrected, low, high`: with the network's errors taken out, and its 95 % interval;
        - `missed` by the detector, and `total, total_low, total_high` with them; empty without boxes;
        - `hidden`: so many more may hide where the audit saw none;
        - `more`: further answers until the corrected count is known to 10 % to either side;
        - `adjusted` (by the error rates in the other animals) and `em` (by the prevalence that makes `p`
          agree with itself): for comparison, with a `warning` where the audit contradicts them;
        - `note`: what the row rests on.

    Raises
    ------
    ValueError
        If there is no audit, it cannot measure, or too few of its places are answered.
    """
    network = network or newest_network(study)
    basis, whole = _basis(study, network, audit, boxes, by=by, who=who)
    keys = ["animal"] if by is None else ["animal", "part"]
    rows = [
        dict(zip(keys, key, strict=True)) | _count(basis, part, str(key[0]))
        for key, part in basis.calls.groupby(keys)
    ]
    every = dict.fromkeys(keys, "all") | _count(basis, basis.calls, None if whole else "")
    return pd.DataFrame([*rows, every]).rename(columns={"part": "part" if callable(by) else str(by)})


def counts_by_person(study: Study, network: str | None = None, *, audit: str = "audit") -> pd.DataFrame:
    """Count the cells of all animals by the answers of each person who answered the audit.

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
        One row a person: `who`, how many `answers`, `corrected, low, high`, and `why_not` where a person has
        answered too few places.

    Raises
    ------
    ValueError
        If there is no audit, or it cannot measure.
    """
    read_audit(study, audit)
    rows: list[dict[str, Any]] = []
    for who in answered_by(study, audit):
        row = {"who": who, "answers": int(measured(read_audit(study, audit, who=who)[0]).sum())}
        try:
            found = counts(study, network, audit=audit, who=who).iloc[-1][["corrected", "low", "high"]]
            rows.append(row | found.to_dict() | {"why_not": ""})
        except ValueError as error:
            rows.append(row | dict.fromkeys(("corrected", "low", "high"), np.nan) | {"why_not": str(error)})
    return pd.DataFrame(rows, columns=["who", "answers", "corrected", "low", "high", "why_not"])


def _basis(
    study: Study, network: str, audit: str, boxes: str, *, by: By | None, who: str | None
) -> tuple[Basis, bool]:
    """Return what the counts rest on, and whether the audit was drawn from all images."""
    places, record = read_audit(study, audit, who=who)
    places = call_places(study, places, network).assign(cell=places["answer"] == study.settings.classes[0])
    calls = call_places(study, study.candidates(), network)
    calls = calls.assign(animal=[study.entry(image).animal for image in calls["image"]], stratum="")
    if by is not None and audit_frame_file(study.folder, audit).exists():
        strata = kept_strata(study, audit, record)[[*PLACE_COLUMNS, "stratum"]]
        calls = calls.drop(columns="stratum").merge(strata, on=list(PLACE_COLUMNS), how="left")
    parts = ["all"] * len(places), ["all"] * len(calls)
    if by is not None:
        parts = part_of(study, places, by), part_of(study, calls, by)
    misses, why_not = _misses(study, boxes)
    whole = set(calls["image"]) == set(record["frame"])
    trained = _trained_share(study, network)
    return Basis(places.assign(part=parts[0]), calls.assign(part=parts[1]), trained, misses, why_not), whole


def _misses(study: Study, name: str) -> tuple[Misses | None, str]:
    """Return what the boxes say, or None and why they say nothing yet."""
    if not (study.folder / "boxes" / f"{name}.json").exists():
        return None, WITHOUT
    done = read_boxes(study, name)[0].query("done")
    if done["times"].sum() < 2:
        return None, f"{WITHOUT}: no box is done"
    try:
        return missed_cells(study, name), ""
    except ValueError as error:
        return None, f"{WITHOUT}: {str(error).split(';')[1].split('.')[0].strip()}"


def _trained_share(study: Study, network: str) -> float:
    """Return the share of cells among the labels that trained a network of the study; NaN for others."""
    card = next((card for card in study.cards() if card["name"] == network), {})
    counts = pd.DataFrame(card.get("trained_on", {}).get("counts", []))
    if counts.empty:
        return float("nan")
    of_class = counts.groupby("answer")["labels"].sum()
    return float(of_class.get(study.settings.classes[0], 0) / of_class.sum())


def _count(basis: Basis, part: pd.DataFrame, animal: str | None) -> dict[str, Any]:
    """Return one row; `animal` is None for all images of the audit, "" for all where it holds only some."""
    name = str(part["part"].iloc[0])
    here = np.ones(len(basis.places), bool)
    if animal is not None:
        here = (basis.places["animal"] == animal).to_numpy() & (basis.places["part"] == name).to_numpy()
    corrected, more, hidden, note = _corrected(basis, part, here, animal)
    if corrected.value == 0:
        note += f", none of them positive: up to {round(corrected.high):,} may hide"
    total, missed, with_misses = _with_misses(basis, corrected, animal, len(part))
    own = _own(basis, here, animal) if animal else None
    compared, warning = other_counts(basis.places, part, own, basis.trained)
    return {
        "candidates": len(part),
        "naive": int(part["called"].sum()),
        **dict(zip(("corrected", "low", "high"), map(round, corrected), strict=True)),
        "missed": missed,
        **dict(zip(("total", "total_low", "total_high"), total, strict=True)),
        "hidden": round(hidden),
        "more": more,
        **compared,
        "note": f"{note}; {with_misses}",
        "warning": warning,
    }


def _corrected(
    basis: Basis, part: pd.DataFrame, here: np.ndarray, animal: str | None
) -> tuple[Interval, int | None, float, str]:
    """Return the corrected count, the answers still wanted, what may hide, and what it all rests on."""
    places, told = basis.places, measured(basis.places)
    n, size = int((here & told).sum()), len(part)
    if animal is None or (animal and _own(basis, here, animal) is not None):
        design, cell = design_of(places[here]), places.loc[here & told, "cell"].to_numpy()
        total = stratified_total(cell, design)
        share = total.value / design.sizes.sum()
        more = answers_needed(cell, design, WISH * share) if share else None
        return total, more, hidden_share(cell, design) * size, f"from {n} answers there"
    if animal and n >= DIRECT and (basis.calls["stratum"] != "").all() and part["stratum"].notna().all():
        total = _powered(basis, part, here)
        more = n_more(n, total.half_width, WISH * total.value) if total.value else None
        return total, more, _hidden(places[here & told], part), f"from {n} answers there, led by p"
    answered = places[told]
    cell = answered["cell"].to_numpy()
    edges = steps_of(answered["p"].to_numpy(), len(cell), least=LEAST)
    sizes = np.bincount(np.digitize(part["p"], edges), minlength=len(edges) + 1)
    kind = np.digitize(answered["p"], edges)
    total = pooled_total(cell, kind, sizes, design_of(places))
    hidden = hidden_share(cell, Design(kind, np.maximum(sizes, np.bincount(kind, minlength=len(sizes)))))
    more = n_more(len(cell), total.half_width, WISH * total.value) if total.value else None
    return total, more, hidden * size, "assumes equal error rates in all animals"


def _own(basis: Basis, here: np.ndarray, animal: str) -> pd.DataFrame | None:
    """Return these places if 100 are answered and they are all of an animal with strata of its own."""
    places = basis.places
    whole = here.any() and (places["animal"][~here] != animal).all()
    enough = (here & measured(places)).sum() >= DIRECT
    return places[here] if whole and enough and own_strata(places, animal, least=LEAST) else None


def _powered(basis: Basis, part: pd.DataFrame, here: np.ndarray) -> Interval:
    """Return the cells of a part of the frame from the answers in it, led by `p` where it can be believed."""
    places, told = basis.places, measured(basis.places)
    inside = basis.calls.index.isin(part.index)
    led = basis.calls["p"].where(inside, 0.0).groupby(basis.calls["stratum"]).mean()
    led = led.reindex(np.unique(places["stratum"])).to_numpy()
    y, q = (places["cell"] & here)[told].to_numpy(), (places["p"] * here)[told].to_numpy()
    design = design_of(places)
    found = powered_share(y, q, design, led).times(float(design.sizes.sum()))
    return Interval(found.value, found.low, min(found.high, float(len(part))))


def _hidden(answered: pd.DataFrame, part: pd.DataFrame) -> float:
    """Return how many cells of a part may hide in strata where none of its answers is one: rule of three."""
    sizes = part.groupby("stratum").size()
    by_stratum = answered.groupby("stratum")["cell"]
    n = by_stratum.size().reindex(sizes.index, fill_value=0)
    unseen = by_stratum.sum().reindex(sizes.index, fill_value=0) == 0
    bound = np.minimum(3 / n.clip(lower=1), 1 - n / sizes).where(n > 0, 1.0)
    return float((sizes * bound)[unseen].sum())


def _with_misses(
    basis: Basis, corrected: Interval, animal: str | None, size: int
) -> tuple[tuple[float, float, float], float, str]:
    """Return the count with missed cells and its interval, the missed cells, and what they rest on."""
    nothing = (np.nan, np.nan, np.nan)
    if basis.misses is None:
        return nothing, np.nan, basis.why_not
    misses, parts = basis.misses, basis.calls["part"].nunique()
    all_images = set(misses.images) == set(basis.calls["image"])
    own = (misses.missed if all_images else None) if not animal else misses.of(animal)
    if own is not None and (parts == 1 or not animal):
        total, said = add_intervals(corrected, own), "with the cells missed in boxes there"
        return tuple(round(end) for end in total), round(own.value), said
    recall = misses.recall
    if not recall.low > 0:
        return nothing, np.nan, f"{WITHOUT}: the boxes leave the detector's recall open"
    value = corrected.value / recall.value
    by_audit = Interval(value, corrected.low / recall.value, corrected.high / recall.value)
    by_boxes = Interval(0.0, corrected.value / recall.high - value, corrected.value / recall.low - value)
    total = add_intervals(by_audit, by_boxes)
    said = "with the detector's recall in all boxes"
    return tuple(round(end) for end in total), round(value - corrected.value), said
