"""Learn: labels -> a new network, by its last layer in seconds or by all its layers in minutes."""

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cellkit.audits import SUPPLIED
from cellkit.augment import AugmentSettings
from cellkit.estimates import wilson
from cellkit.labelled import ENOUGH_ANIMALS, Labelled, gather
from cellkit.networks.calibration import calibrate, choose_threshold
from cellkit.networks.card import NetworkCard
from cellkit.networks.engines import compile_engine
from cellkit.networks.fit import FitSettings, fit
from cellkit.networks.heads import fit_head, replace_head
from cellkit.networks.predict import predict
from cellkit.networks.store import HISTORY, Network, load_network, save_network
from cellkit.study import Study, fingerprint

FOR_THRESHOLD = 3000
ONE_MICROSCOPE = AugmentSettings(
    contrast=0.2, offset=0.1, gamma=0.0, darkening=0.1, blur=0.1, noise=0.1, background_dropout=0.0
)
FINE_TUNING = FitSettings(epochs=40, patience=12, augment=ONE_MICROSCOPE)


def retrain_head(study: Study, *, name: str | None = None, base: str = SUPPLIED) -> Network:
    """Teach the last layer of a network all labels that may train: seconds, between two batches.

    Parameters
    ----------
    study : Study
        With labels of both classes.
    name : str, optional
        Of the new network; one of that name that is there is opened, not made again. Without a name, the
        newest is opened if the labels are still the same, else the next of "head-1", "head-2", ... is made.
    base : str
        Name or folder of the network whose other layers are kept.

    Raises
    ------
    ValueError
        As `gather`.
    """
    name = name or _next_name(study, "head", base)
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    parent = load_network(base, study.folder / "networks", task=study.settings.task)
    labelled = gather(study, parent.card)
    embeddings = parent.scores(labelled.cubes).embeddings
    places, seed = labelled.places, study.settings.seed
    blocks = places["block"].to_numpy()
    taught = (places["side"] == "train").to_numpy()
    judge = fit_head(embeddings[taught], labelled.targets[taught], None, blocks[taught], seed=seed)
    head = fit_head(embeddings, labelled.targets, None, blocks, seed=seed)
    held_out = (places["side"] == "validation").to_numpy()
    logits = embeddings[held_out] @ judge.kernel + judge.bias
    slope, offset = calibrate(logits, labelled.targets[held_out])
    card = _card(study, parent, labelled, name, slope, offset)
    card = replace(card, settings={"kind": "head", "strength": head.strength})
    card = replace(card, metrics=_metrics(expit(slope * logits + offset), labelled.targets[held_out]))
    return _save(study, replace_head(parent.model, head), card)


def retrain(
    study: Study,
    *,
    name: str | None = None,
    base: str = SUPPLIED,
    settings: FitSettings | None = None,
    on_epoch: Callable[[dict[str, Any]], Any] | None = None,
    stop: threading.Event | None = None,
) -> Network:
    """Teach all layers of a network all labels that may train: minutes; interrupted, it keeps the best epoch.

    Parameters
    ----------
    study : Study
        With labels of both classes.
    name : str, optional
        Of the new network; one of that name that is there is opened, not trained again. Without a name, the
        newest is opened if the labels are still the same, else the next of "net-1", "net-2", ... is made.
    base : str
        Name or folder of the network to start from. The supplied one has seen none of the labels, so that the
        held-out ones are news to it; a network of the study may have learnt from them.
    settings : FitSettings, optional
        Epochs, learning rate, augmentation; if left out, at most 40 epochs, varied as one microscope varies.
    on_epoch : callable, optional
        Called with each row of the history.
    stop : threading.Event, optional
        Set it to end within a batch.

    Raises
    ------
    ValueError
        As `gather`.
    RuntimeError
        If the loss is no longer finite, or training was stopped before one epoch was over.
    """
    name = name or _next_name(study, "net", base)
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    settings = settings or replace(FINE_TUNING, seed=study.settings.seed)
    parent = load_network(base, study.folder / "networks", task=study.settings.task)
    labelled = gather(study, parent.card)
    model, held_out = parent.model, labelled.on("validation")
    history = _teach(model, labelled, settings, on_epoch, stop)
    logits = compile_engine(model)(held_out.cubes).logits
    share = float(labelled.on("train").targets.mean())
    keep = (1.0, float(logit(share) - logit(settings.balance)) if settings.balance else 0.0)
    slope, offset = calibrate(logits, held_out.targets, keep=keep)
    card = _card(study, parent, labelled, name, slope, offset)
    card = replace(
        card,
        settings={"kind": "all layers"} | asdict(settings),
        metrics=_metrics(expit(slope * logits + offset), held_out.targets),
    )
    return _save(study, model, card, history=history)


def _teach(
    model: Any,
    labelled: Labelled,
    settings: FitSettings,
    on_epoch: Callable | None,
    stop: threading.Event | None,
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        if on_epoch is not None:
            on_epoch(row)

    sides = labelled.on("train"), labelled.on("validation")
    try:
        history = fit(model, *sides, settings=settings, on_epoch=note, stop=stop)
    except KeyboardInterrupt:
        history = pd.DataFrame(rows)
    if history.empty:
        raise RuntimeError(
            "A network is kept from the first epoch on; training was stopped before one was over. "
            "Start it again."
        )
    return history


def _next_name(study: Study, kind: str, base: str) -> str:
    """Return the name of the newest network if it was made of these labels, else the next free one."""
    made = [card for card in study.cards() if card["name"].startswith(f"{kind}-")]
    now = {"labels": fingerprint(study.training_labels()), "base": base}
    if made and {key: made[-1]["trained_on"].get(key) for key in now} == now:
        return made[-1]["name"]
    taken = {card["name"] for card in study.cards()}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{kind}-{n}") not in taken)


def _card(
    study: Study, parent: Network, labelled: Labelled, name: str, slope: float, offset: float
) -> NetworkCard:
    counts = labelled.places.groupby(["animal", "side", "answer"]).size()
    trained_on = {
        "labels": fingerprint(study.training_labels()),
        "n": len(study.training_labels()),
        "base": parent.card.name,
        "counts": [
            {"animal": animal, "side": side, "answer": answer, "labels": int(n)}
            for (animal, side, answer), n in counts.items()
        ],
        "held out": "animals" if labelled.places["animal"].nunique() >= ENOUGH_ANIMALS else "blocks of space",
    }
    return replace(
        parent.card, name=name, classes=study.settings.classes, slope=slope, offset=offset,
        trained_on=trained_on, parents=parent.card.lineage,
    )  # fmt: skip


def _metrics(p: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Say how the held-out labels, which were not drawn at random, are called at p = 0.5."""
    called, true = p >= 0.5, targets == 1
    hits = int((called & true).sum())
    precision, recall = wilson(hits, max(int(called.sum()), 1)), wilson(hits, max(int(true.sum()), 1))
    f1 = {"value": 2 * hits / max(int(called.sum() + true.sum()), 1)}
    return {"held-out labels": {"precision": precision._asdict(), "recall": recall._asdict(), "f1": f1}}


def _save(study: Study, model: Any, card: NetworkCard, *, history: pd.DataFrame | None = None) -> Network:
    """Save the network with the threshold of the largest F1 that its probabilities foretell."""
    draft = Network(card, Path())
    draft.model = model
    p = _some_probabilities(study, draft)
    if len(p):
        card = replace(card, threshold=choose_threshold(p, p))
    return save_network(model, card, study.folder / "networks", history=history)


def _some_probabilities(study: Study, network: Network) -> np.ndarray:
    candidates = study.candidates()
    some = candidates.sample(min(FOR_THRESHOLD, len(candidates)), random_state=study.settings.seed)
    return np.concatenate(
        [np.empty(0)]
        + [
            predict(
                network, study.image(str(name)), part,
                intensities=study.intensities(str(name)), diameter_um=study.settings.diameter_um,
            )
            for name, part in some.groupby("image")
        ]
    )  # fmt: skip


def history(study: Study, name: str) -> pd.DataFrame:
    """Return the history of one of the study's networks: a row an epoch.

    Raises
    ------
    FileNotFoundError
        If there is no such network, or only its head was retrained.
    """
    path = study.network_folder(name) / HISTORY
    if not path.exists():
        raise FileNotFoundError(
            f"A history is kept for networks of which all layers were trained; {name!r} has none. "
            f"This study has the networks {', '.join(study.networks()) or 'none'}."
        )
    return pd.read_csv(path)
