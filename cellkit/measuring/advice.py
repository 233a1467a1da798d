"""What to do next, in one sentence with its numbers: label on or stop; believe a new animal or audit it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cellkit.estimates import (
    Advice,
    Forecast,
    Interval,
    Newcomer,
    agreement,
    compare_animal,
    f1_errors,
    forecast_error,
)
from cellkit.estimates import advise as advise_from
from cellkit.measuring.assessment import answered_design
from cellkit.measuring.audits import call_places, find_network, measured, newest_network, read_audit
from cellkit.measuring.counting import counts
from cellkit.measuring.paired import measured_alike
from cellkit.study import Study
from cellkit.teaching import embedding_store

UNLABELLED, ROUNDS = 2000, 4
LOOKED_AT, READ = 1000, 200


def advise(study: Study, *, audit: str = "audit", half_width: float = 0.1, boxes: str = "boxes") -> Advice:
    """Say whether to go on labelling: by how much networks still change, learn, and the count still doubts.

    Parameters
    ----------
    study : Study
        With an answered audit.
    audit, boxes : str
        Names of the audit and of the draw of boxes.
    half_width : float
        Wished for the count, as a share of it.

    Returns
    -------
    Advice
        `stop`, `sentence`, and the `numbers` behind it.

    Raises
    ------
    ValueError
        If there is no audit, it cannot measure, or too few of its places are answered.
    """
    cards = study.cards()
    names = [card["name"] for card in cards]
    newest = newest_network(study)
    every = counts(study, newest, audit=audit, boxes=boxes).iloc[-1]
    ends = ("total", "total_low", "total_high") if pd.notna(every["total"]) else ("corrected", "low", "high")
    count = Interval(*(float(every[end]) for end in ends))
    taught = [int(card.get("trained_on", {}).get("n", 0)) for card in cards]
    forecast, lacking = _forecast(study, names, taught, audit)
    answers = int(measured(read_audit(study, audit)[0]).sum())
    found = advise_from(kappas_of(study, names), forecast, count, answers=answers, within=half_width)
    said = f"{found.sentence} ({lacking}.)" if lacking else found.sentence
    return found._replace(sentence=said, numbers=found.numbers | {"labels": float(max(taught, default=0))})


def _forecast(
    study: Study, names: Sequence[str], taught: Sequence[int], audit: str
) -> tuple[Forecast | None, str]:
    """Return what further labels are expected to bring, or None and why that cannot be said."""
    newest_of = dict(zip(taught, names, strict=True))
    rounds = sorted(n for n in newest_of if n > 0)
    if len(rounds) < ROUNDS:
        return (
            None,
            f"A forecast needs {ROUNDS} networks taught different numbers of labels; got {len(rounds)}",
        )
    found = measured_alike(study, [newest_of[n] for n in rounds], audit=audit)
    first = found[0].places
    if not first["cell"].any():
        return None, f"A forecast needs a {study.settings.classes[0]} among the audited places; there is none"
    design = answered_design(first)
    calls = np.stack([each.places["called"].to_numpy() for each in found])
    errors, again = f1_errors(
        first["cell"].to_numpy(), calls, design, animals=first["animal"].to_numpy(), seed=study.settings.seed
    )
    return forecast_error(np.array(rounds), errors, again, seed=study.settings.seed), ""


def kappas_of(study: Study, names: Sequence[str]) -> list[float]:
    """Return how far each of the last networks agrees with the one before on candidates without a label.

    Parameters
    ----------
    study : Study
    names : sequence of str
        Networks, the oldest first; the last four are compared.
    """
    names = list(names)[-ROUNDS:]
    table = study.labelled_candidates()
    free = table[table["answer"] == ""]
    if len(names) < 2 or free.empty:
        return []
    some = free.sample(min(UNLABELLED, len(free)), random_state=study.settings.seed)
    calls = [call_places(study, some, name)["called"].to_numpy() for name in names]
    found = [agreement(a, b).kappa.value for a, b in pairwise(calls)]
    return [kappa for kappa in found if np.isfinite(kappa)]


def check_animal(study: Study, image: str, network: str | None = None) -> Newcomer:
    """Compare an image of an animal that never trained with the animals that did, before it is believed.

    Compared are the detector's scores, the network's `p` and embedding, and the brightness of candidates.

    Parameters
    ----------
    study : Study
        With candidates in all these images.
    image : str
        The new one.
    network : str, optional
        Of the study; the newest if left out.

    Returns
    -------
    Newcomer
        `sentence`, the `places` that an audit of the animal should have, and the `table` of measures.

    Raises
    ------
    ValueError
        If the network is not of the study, the animal trained it, or an animal has fewer than 40 candidates.
    """
    name = network or newest_network(study)
    card = next((card for card in study.cards() if card["name"] == name), {})
    animals = {row["animal"] for row in card.get("trained_on", {}).get("counts", [])}
    if not animals:
        raise ValueError(
            f"A new animal is compared with those that trained; no animal of this study trained {name}. "
            "Retrain, or audit the new one."
        )
    if study.entry(image).animal in animals:
        raise ValueError(
            f"A new animal never trained; {image!r} is of {study.entry(image).animal}, which trained {name}. "
            "Name an image of another."
        )
    trained = [
        _joined(
            [_measures(study, each.name, name) for each in study.settings.images if each.animal == animal]
        )
        for animal in sorted(animals & {entry.animal for entry in study.settings.images})
    ]
    return compare_animal(_measures(study, image, name), trained, seed=study.settings.seed)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measures(study: Study, image: str, network: str) -> dict[str, np.ndarray]:
    """Return what is compared of one image, over candidates in order of place."""
    table = study.candidates(image)
    some = table.sample(min(LOOKED_AT, len(table)), random_state=study.settings.seed)
    some = some.sort_values(["frame", "z", "y", "x"]).reset_index(drop=True)
    intensities, few = study.intensities(image), some.iloc[:: -(-len(some) // READ)]
    found = find_network(study, network)
    return {
        "score": some["score"].to_numpy(),
        "p": embedding_store.call_places(study, found, some),
        "brightness": _brightness(study.image(image), few, intensities["signal"]),
        "embedding": embedding_store.embeddings_at(study, found, some),
    }


def _brightness(image: Any, places: pd.DataFrame, signal: Any) -> np.ndarray:
    """Return the signal at each place above the image's background, in units of its noise, shape (n,)."""
    values = np.empty(len(places))
    for n, row in enumerate(places[["frame", "z", "y", "x"]].round().astype(int).itertuples(index=False)):
        box = tuple(slice(at, at + 1) for at in row[1:])
        values[n] = image.read("signal", frame=row[0], box=box).item()
    return (values - signal.centre) / signal.spread
