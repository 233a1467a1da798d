"""Learn: labels -> a new network, by its last layer in seconds or by all its layers in minutes."""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cellkit.audits import SUPPLIED
from cellkit.augment import AugmentSettings
from cellkit.estimates import wilson
from cellkit.labelled import ENOUGH_ANIMALS, Labelled, gather
from cellkit.networks.calibration import calibrate, choose_threshold
from cellkit.networks.card import NetworkCard
from cellkit.networks.checkpoint import discard
from cellkit.networks.engines import compile_engine
from cellkit.networks.fit import FitSettings, Watch, fit
from cellkit.networks.heads import fit_head, replace_head
from cellkit.networks.predict import predict
from cellkit.networks.store import HISTORY, Network, load_network, save_network
from cellkit.study import Study, fingerprint

FOR_THRESHOLD = 3000
ONE_MICROSCOPE = AugmentSettings(
    contrast=0.2, offset=0.1, gamma=0.0, darkening=0.1, blur=0.1, noise=0.1, background_dropout=0.0
)
FINE_TUNING = FitSettings(epochs=40, patience=12, augment=ONE_MICROSCOPE)


def retrain_head(study: Study, *, name: str | None = None, base: str | Path = SUPPLIED) -> Network:
    """Teach the last layer of a network all labels that may train: seconds, between two batches.

    Parameters
    ----------
    study : Study
        With labels of both classes.
    name : str, optional
        Of the new network; one of that name that is there is opened, not made again. Without a name, the
        newest is opened if the labels are still the same, else the next of "head-1", "head-2", ... is made.
    base : str or Path
        Name or folder of the network whose other layers are kept.

    Raises
    ------
    ValueError
        As `gather`.
    """
    name = name or _next_name(study, "head", str(base))
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
    base: str | Path = SUPPLIED,
    settings: FitSettings | None = None,
    **watch: Unpack[Watch],
) -> Network:
    """Teach all layers of a network all labels that may train: minutes; interrupted, it keeps the best epoch.

    Killed at any moment, even by the machine, and called again, it goes on from the last epoch and ends with
    the very network that it would have made: checkpoints lie in the network's folder until it is saved.

    Parameters
    ----------
    study : Study
        With labels of both classes.
    name : str, optional
        Of the new network; one of that name that is there is opened, not trained again. Without a name, the
        newest is opened if the labels are still the same, else the next of "net-1", "net-2", ... is made.
    base : str or Path
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
    name = name or _next_name(study, "net", str(base))
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    settings = settings or replace(FINE_TUNING, seed=study.settings.seed)
    parent = load_network(base, study.folder / "networks", task=study.settings.task)
    return _train(study, name, parent, settings, **watch)


def continue_training(
    study: Study,
    of: str,
    *,
    epochs: int = 10,
    learning_rate: float | None = None,
    name: str | None = None,
    **watch: Unpack[Watch],
) -> Network:
    """Teach a finished network of the study more epochs, on all labels that may train by now.

    The result is a network of its own; its history holds both trainings. The weights to start from stay in
    the race: if no epoch is better on the held-out labels, they are kept.

    Parameters
    ----------
    of : str
        One of the study's networks of which all layers were trained.
    epochs : int
        More epochs, at most.
    learning_rate : float, optional
        Reached anew after a warm-up; that of the first training if left out.
    name : str, optional
        Of the new network, as in `retrain`, `on_epoch` and `stop` too.

    Raises
    ------
    FileNotFoundError
        If there is no such network, or only its head was retrained.
    ValueError, RuntimeError
        As `retrain`.
    """
    name = name or _next_name(study, "net", of)
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    earlier = history(study, of)
    parent = load_network(of, study.folder / "networks", task=study.settings.task)
    first = settings_of(parent.card)
    settings = replace(first, epochs=epochs, learning_rate=learning_rate or first.learning_rate)
    return _train(study, name, parent, settings, earlier=earlier, **watch)


def settings_of(card: NetworkCard) -> FitSettings:
    """Return how all layers of a network were trained, from its card."""
    said = {field.name: card.settings[field.name] for field in fields(FitSettings)}
    return FitSettings(**said | {"augment": AugmentSettings(**said["augment"])})


def _train(
    study: Study, name: str, parent: Network, settings: FitSettings,
    *, earlier: pd.DataFrame | None = None, **watch: Unpack[Watch],
) -> Network:  # fmt: skip
    """Gather the labels, teach, calibrate and save; checkpoints lie in the network's folder meanwhile."""
    checkpoint = study.network_folder(name) / "checkpoint"
    labelled = gather(study, parent.card)
    model, held_out = parent.model, labelled.on("validation")
    sides = labelled.on("train"), held_out
    rows: list[dict[str, Any]] = []
    on_epoch = watch.get("on_epoch") or (lambda row: None)
    watch["on_epoch"] = lambda row: (rows.append(row), on_epoch(row))
    try:
        taught = fit(model, *sides, settings=settings, earlier=earlier, checkpoint=checkpoint, **watch)
    except KeyboardInterrupt:
        taught = pd.DataFrame(rows)
    if len(taught) == (0 if earlier is None else len(earlier)):
        raise RuntimeError(
            "A network is kept from the first epoch on; training was stopped before one was over. "
            "Start it again."
        )
    logits = compile_engine(model)(held_out.cubes).logits
    share = float(labelled.on("train").targets.mean())
    keep = (1.0, float(logit(share) - logit(settings.balance)) if settings.balance else 0.0)
    slope, offset = calibrate(logits, held_out.targets, keep=keep)
    card = replace(
        _card(study, parent, labelled, name, slope, offset),
        settings={"kind": "all layers"} | asdict(settings),
        metrics=_metrics(expit(slope * logits + offset), held_out.targets),
    )
    network = _save(study, model, card, history=taught)
    discard(checkpoint)
    return network


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
