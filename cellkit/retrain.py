"""Learn: labels -> a new network, by its last layer in seconds or by all its layers in minutes."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from cellkit.augment import AugmentSettings
from cellkit.measuring.audits import SUPPLIED
from cellkit.networks.card import NetworkCard
from cellkit.networks.checkpoint import discard
from cellkit.networks.fit import FitSettings, Watch, fit
from cellkit.networks.store import HISTORY, Network, load_network
from cellkit.study import Study, fingerprint
from cellkit.teaching.appraisal import set_threshold
from cellkit.teaching.finishing import save_head, save_layers
from cellkit.teaching.heads import with_taught_head
from cellkit.teaching.held_out import compare_held_out
from cellkit.teaching.labelled import Labelled, Source, WeightOf, gather
from cellkit.teaching.learning import kept_epoch

__all__ = [
    "FINE_TUNING",
    "ONE_MICROSCOPE",
    "compare_held_out",
    "continue_training",
    "history",
    "retrain",
    "retrain_head",
    "set_threshold",
    "settings_of",
]
CHECKPOINT = "checkpoint"
ONE_MICROSCOPE = AugmentSettings(
    contrast=0.2, offset=0.1, gamma=0.0, darkening=0.1, blur=0.1, noise=0.1, background_dropout=0.0
)
FINE_TUNING = FitSettings(epochs=20, patience=8, learning_rate=3e-4, augment=ONE_MICROSCOPE)


def retrain_head(
    study: Study,
    *,
    name: str | None = None,
    base: str | Path = SUPPLIED,
    pools: Sequence[Source] = (),
    weight_of: WeightOf | None = None,
) -> Network:
    """Teach the last layer of a network all labels that may train: seconds, between two batches.

    With labels in two animals or more it learns what holds in the animals left out; where nothing does, it
    says what the network said before, at another slope and offset, and its card has the strength 0.

    Parameters
    ----------
    study : Study
        With labels of both classes.
    name : str, optional
        Of the new network; one of that name that is there is opened, not made again. Without a name, the
        newest is opened if the labels are still the same, else the next of "head-1", "head-2", ... is made.
    base : str or Path
        Name or folder of the network whose other layers are kept.
    pools : sequence of Study, path of a study, Pool, or TrainingSet
        What teaches beside the study's own labels.
    weight_of : callable, optional
        From a table of labels to how much each counts, as of `gather`. With it and without a name, a new
        network is made.

    Raises
    ------
    ValueError
        As `gather`.
    """
    name = name or _next_name(study, "head", base, is_new=bool(pools) or weight_of is not None)
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    parent = load_network(base, study.folder / "networks", task=study.settings.task)
    labelled = gather(study, parent.card, pools, weight_of=weight_of)
    return save_head(study, parent, labelled, name)


def retrain(
    study: Study,
    *,
    name: str | None = None,
    base: str | Path = SUPPLIED,
    settings: FitSettings | None = None,
    pools: Sequence[Source] = (),
    weight_of: WeightOf | None = None,
    **watch: Unpack[Watch],
) -> Network:
    """Teach all layers of a network all labels that may train: minutes; interrupted, it keeps the best epoch.

    The last layer is taught alone first, without the labels held out; if no epoch of all layers is better
    than that on these, by more than chance, the network is what `retrain_head` makes of all labels.

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
        Epochs, learning rate, augmentation; if left out, at most 20 epochs, varied as one microscope varies.
    pools : sequence of Study, path of a study, Pool, or TrainingSet
        What teaches beside the study's own labels: other images of other animals, for the same task.
        `settings.sources` says how often each is shown. With pools and without a name, a new one is made.
    weight_of : callable, optional
        From a table of labels to how much each counts, as of `gather`:
        `lambda labels: np.where(labels["who"] == "Ana", 3, 1)`. It weighs labels of one class, and leaves the
        share of the classes as `settings.balance` says. With it and without a name, a new one is made.
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

    References
    ----------
    Kumar et al. 2022, arXiv 2202.10054: the last layer first keeps what carries over to other images.
    """
    name = name or _next_name(study, "net", base, is_new=bool(pools) or weight_of is not None)
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    settings = settings or replace(FINE_TUNING, seed=study.settings.seed)
    parent = load_network(base, study.folder / "networks", task=study.settings.task)
    labelled = gather(study, parent.card, pools, weight_of=weight_of)
    return _train_from_head(study, parent, labelled, name, settings, **watch)


def continue_training(
    study: Study,
    of: str,
    *,
    epochs: int = 10,
    learning_rate: float | None = None,
    name: str | None = None,
    weight_of: WeightOf | None = None,
    **watch: Unpack[Watch],
) -> Network:
    """Teach a finished network of the study more epochs, on all labels that may train by now.

    The result is a network of its own; its history holds both trainings. The weights to start from stay in
    the race: if no epoch is better on the held-out labels, by more than chance, they are kept. Of a network
    that stayed a head, which knows the held-out labels, the training begins again at its base, if that is
    still there and no pools taught it.

    Parameters
    ----------
    of : str
        One of the study's networks of which all layers were trained.
    epochs : int
        More epochs, at most.
    learning_rate : float, optional
        Reached anew after a warm-up; that of the first training if left out.
    name : str, optional
        Of the new network, as in `retrain`; so are `weight_of`, `on_epoch` and `stop`.

    Raises
    ------
    FileNotFoundError
        If there is no such network, or only its head was retrained.
    ValueError, RuntimeError
        As `retrain`.
    """
    name = name or _next_name(study, "net", of, is_new=weight_of is not None)
    if name in study.networks():
        return load_network(name, study.folder / "networks")
    earlier = history(study, of)
    parent = load_network(of, study.folder / "networks", task=study.settings.task)
    first = settings_of(parent.card)
    settings = replace(first, epochs=epochs, learning_rate=learning_rate or first.learning_rate)
    if kept_epoch(earlier) == 0 and (base := _base_of(study, parent)):
        labelled = gather(study, base.card, weight_of=weight_of)
        return _train_from_head(study, base, labelled, name, settings, earlier=earlier, **watch)
    labelled = gather(study, parent.card, weight_of=weight_of)
    checkpoint = study.network_folder(name) / CHECKPOINT
    taught = _teach(parent.model, labelled, settings, checkpoint, earlier=earlier, **watch)
    network = save_layers(study, parent, labelled, name, settings, taught)
    discard(checkpoint)
    return network


def _base_of(study: Study, network: Network) -> Network | None:
    """Return the very network that another was taught from by the study's own labels; None without it."""
    said = network.card.trained_on
    with suppress(FileNotFoundError):
        base = load_network(said["base"], study.folder / "networks")
        if base.card.lineage == network.card.parents and not said.get("pools"):
            return base
    return None


def settings_of(card: NetworkCard) -> FitSettings:
    """Return how all layers of a network were trained, from its card."""
    said = {field.name: card.settings[field.name] for field in fields(FitSettings)}
    return FitSettings(**said | {"augment": AugmentSettings(**said["augment"])})


def _train_from_head(
    study: Study, parent: Network, labelled: Labelled, name: str, settings: FitSettings, **watch: Any
) -> Network:
    """Teach the head the labels that are not held out, then all layers; if none is better, a head all labels.

    `watch` is what `_teach` takes.
    """
    checkpoint = study.network_folder(name) / CHECKPOINT
    start, on_top = with_taught_head(study, parent, labelled, shown=settings.balance)
    taught = _teach(start.model, on_top, settings, checkpoint, **watch)
    if kept_epoch(taught) == 0:
        network = save_head(study, parent, labelled, name, settings, taught)
    else:
        network = save_layers(study, start, on_top, name, settings, taught)
    discard(checkpoint)
    return network


def _teach(
    model: Any, labelled: Labelled, settings: FitSettings, checkpoint: Path,
    *, earlier: pd.DataFrame | None = None, **watch: Unpack[Watch],
) -> pd.DataFrame:  # fmt: skip
    """Teach all layers in place and return the history; the kernel's interrupt keeps the best epoch."""
    was = pd.DataFrame() if earlier is None else earlier
    rows: list[dict[str, Any]] = []
    on_epoch = watch.get("on_epoch") or (lambda row: None)
    watch["on_epoch"] = lambda row: (rows.append(row), on_epoch(row))
    try:
        taught = fit(
            model, labelled.teaching, labelled.on("validation"),
            settings=settings, earlier=was, checkpoint=checkpoint, **watch,
        )  # fmt: skip
    except KeyboardInterrupt:
        taught = pd.DataFrame(rows)
    if len(taught) == len(was):
        raise RuntimeError(
            "A network is kept from the first epoch on; training was stopped before one was over. "
            "Start it again."
        )
    return taught


def _next_name(study: Study, kind: str, base: str | Path, *, is_new: bool = False) -> str:
    """Return the name of the newest network if it was made of these labels alone, else the next free one."""
    made = [card for card in study.cards() if card["name"].startswith(f"{kind}-")]
    now = {"labels": fingerprint(study.training_labels()), "base": str(base)}
    was = made[-1]["trained_on"] if made else {}
    is_new = is_new or bool(was.get("pools")) or was.get("weights", [1, 1]) != [1, 1]
    if made and not is_new and {key: was.get(key) for key in now} == now:
        return made[-1]["name"]
    taken = {card["name"] for card in study.cards()}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{kind}-{n}") not in taken)


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
