"""How good a newly taught network is on labels held out, what its card says, and from which p on it calls."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit, logit

from cellkit.estimates import calibration_error, reliability, wilson
from cellkit.folder.disk import fingerprint
from cellkit.networks.calibration import Aim, calibrate, choose_threshold, say_aim
from cellkit.networks.card import NetworkCard
from cellkit.networks.store import Network, load_network, save_network, write_card
from cellkit.study import Study
from cellkit.teaching.embedding_store import call_places
from cellkit.teaching.labelled import ENOUGH_ANIMALS, Labelled

FOR_THRESHOLD = 3000
FOLDS = 5


def appraise(
    card: NetworkCard, labelled: Labelled, logits: np.ndarray, *, shown: float | None
) -> tuple[NetworkCard, pd.DataFrame]:
    """Return the card with calibration and metrics, and what the network says of the labels held out.

    Parameters
    ----------
    card : NetworkCard
    labelled : Labelled
        Whose side "validation" the network has not learnt from.
    logits : ndarray, shape (n,)
        What it says of that side.
    shown : float or None
        Share of the positive class in what it was shown; if None, that of the weights that taught it. With
        few labels held out, their own share is put back by Bayes' rule; with more, the map is fitted to them.

    Returns
    -------
    card : NetworkCard
    held_out : DataFrame
        A row a label: `label` (its id), `group` (animal or block), `target` and `p`.
    """
    own, taught = labelled.on("train").targets, labelled.teaching
    learnt = np.average(taught.targets, weights=taught.weights) if shown is None else shown
    keep = (1.0, float(_log_odds(own.mean()) - _log_odds(learnt)))
    places = labelled.places[labelled.places["side"] == "validation"]
    by_animal = labelled.places["animal"].nunique() >= ENOUGH_ANIMALS
    groups = places["animal" if by_animal else "block"].to_numpy()
    targets = labelled.on("validation").targets
    slope, offset = calibrate(logits, targets, keep=keep)
    p = expit(slope * logits + offset)
    judged = _cross_calibrated(logits, targets, groups, keep)
    held_out = pd.DataFrame({"label": places["id"].to_numpy(), "group": groups, "target": targets, "p": p})
    metrics = {"held-out labels": _calls(p, targets) | {"calibration": _calibration(judged, targets)}}
    return replace(card, slope=slope, offset=offset, metrics=metrics), held_out


def _log_odds(share: float) -> float:
    return float(logit(np.clip(share, 1e-3, 1 - 1e-3)))


def _cross_calibrated(
    logits: np.ndarray, targets: np.ndarray, groups: np.ndarray, keep: tuple[float, float]
) -> np.ndarray:
    """Return probabilities by maps that were fitted to other groups: how the map does on news."""
    fold = pd.factorize(groups)[0] % FOLDS
    p = np.empty(len(logits))
    for k in np.unique(fold):
        slope, offset = calibrate(logits[fold != k], targets[fold != k], keep=keep)
        p[fold == k] = expit(slope * logits[fold == k] + offset)
    return p


def _calls(p: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Say how the held-out labels, which were not drawn at random, are called at p = 0.5."""
    called, true = p >= 0.5, targets == 1
    hits = int((called & true).sum())
    precision, recall = wilson(hits, max(int(called.sum()), 1)), wilson(hits, max(int(true.sum()), 1))
    loss = -float(np.mean(log_expit(np.where(true, 1, -1) * logit(np.clip(p, 1e-6, 1 - 1e-6)))))
    f1 = {"value": 2 * hits / max(int(called.sum() + true.sum()), 1)}
    return {
        "precision": precision._asdict(), "recall": recall._asdict(), "f1": f1, "loss": {"value": loss},
    }  # fmt: skip


def _calibration(p: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Return the reliability curve, and the expected calibration error beside what chance alone gives."""
    weight = np.ones(len(p))
    error = calibration_error(targets == 1, p, weight)
    curve = {name: column.tolist() for name, column in reliability(targets, p, weight)._asdict().items()}
    return {"labels": len(p), "error": error.value, "by chance up to": error.chance, "curve": curve}


def describe(study: Study, parent: Network, labelled: Labelled, name: str) -> NetworkCard:
    """Return the card of a network to come: what it is taught, and whose child it is."""
    counts = labelled.places.groupby(["animal", "side", "answer"]).size()
    by_animal = labelled.places["animal"].nunique() >= ENOUGH_ANIMALS
    trained_on = {
        "labels": fingerprint(study.training_labels()),
        "n": len(study.training_labels()),
        "ids": labelled.places["id"].tolist(),
        "base": parent.card.name,
        "counts": [
            {"animal": animal, "side": side, "answer": answer, "labels": int(n)}
            for (animal, side, answer), n in counts.items()
        ],
        "held out": "animals" if by_animal else "blocks of space",
        "contradicted": int(labelled.places["contradicted"].sum()),
        "weights": [float(labelled.weights.min()), float(labelled.weights.max())],
        "pools": [
            {"source": source, "labels": len(pool.targets), "positive": int(np.sum(pool.targets))}
            for source, pool in zip(labelled.sources, labelled.pools, strict=True)
        ],
    }
    return replace(
        parent.card, name=name, classes=study.settings.classes, trained_on=trained_on, history=(),
        parents=parent.card.lineage,
    )  # fmt: skip


def save_taught(
    study: Study, model: Any, card: NetworkCard, *, aim: Aim = "f1", **tables: pd.DataFrame
) -> Network:
    """Save a network with the threshold that serves the aim, as its probabilities in the study foretell.

    The parameters are those of `save_network` and `set_threshold`.
    """
    draft = Network(card, Path())
    draft.model = model
    p = _some_probabilities(study, draft)
    if len(p):
        card = replace(card, threshold=choose_threshold(p, p, aim=aim))
    return save_network(model, card, study.folder / "networks", **tables)


def set_threshold(study: Study, name: str, aim: Aim | float) -> Network:
    """Let one of the study's networks call from another probability on; nothing is trained.

    The candidates that it has called are called anew. The threshold before stays in the history of its card.

    Parameters
    ----------
    name : str
        One of the study's networks.
    aim : str, tuple or float
        "f1", the largest F1; "count", as many called as there are cells; ("precision", 0.9) or
        ("recall", 0.9), at least that, and as much as can be had of the other; as the network's
        probabilities of 3,000 of the study's candidates foretell them. Or the threshold itself.

    Raises
    ------
    FileNotFoundError
        If there is no such network.
    ValueError
        If the aim is none of these or cannot be reached.
    """
    if name not in study.networks():
        raise FileNotFoundError(
            f"A threshold is set for one of the study's own networks; got {name!r}. "
            f"It has {', '.join(study.networks()) or 'none'}."
        )
    network = load_network(name, study.folder / "networks")
    threshold = float(aim) if isinstance(aim, int | float) else _threshold_for(study, network, aim)
    until = datetime.now(UTC).isoformat(timespec="seconds")
    was = {"threshold": network.card.threshold, "until": until, "then": f"{threshold:.4g}, {say_aim(aim)}"}
    card = replace(network.card, threshold=threshold, history=(*network.card.history, was))
    write_card(card, network.folder)
    for image in study.names:
        made_by = study.made_by(image)
        if made_by.get("network") == name and "p" in (table := study.candidates(image)):
            called = (table["p"] >= threshold).to_numpy()
            study.save_candidates(image, table.assign(called=called), made_by=made_by)
    return load_network(name, study.folder / "networks")


def _threshold_for(study: Study, network: Network, aim: Aim) -> float:
    p = _some_probabilities(study, network)
    if len(p) == 0:
        raise ValueError("A threshold is chosen from the study's candidates; it has none. Detect first.")
    return choose_threshold(p, p, aim=aim)


def _some_probabilities(study: Study, network: Network) -> np.ndarray:
    candidates = study.candidates()
    some = candidates.sample(min(FOR_THRESHOLD, len(candidates)), random_state=study.settings.seed)
    return call_places(study, network, some)
