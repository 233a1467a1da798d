"""The one training engine: labelled cubes in, a taught network and its history out."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit

from cellkit.augment import AugmentSettings, augment_cubes

METRICS = ("loss", "accuracy", "f1", "precision", "recall")
HISTORY = ("epoch", *METRICS, *(f"val_{name}" for name in METRICS), "learning_rate", "seconds")
WATCHED = 512
PART = 128


@dataclass(frozen=True)
class FitSettings:
    """How a network is taught.

    Attributes
    ----------
    epochs : int
        At most so many; one shows as many cubes as there are labels.
    batch : int
        Cubes in one step.
    learning_rate : float
        Reached after the warm-up; falls to 0 along a cosine.
    warm_up : float
        Share of all steps in which the learning rate rises.
    weight_decay : float
        Of AdamW.
    patience : int
        Epochs without a better validation loss after which training stops.
    balance : float or None
        Share of the positive class in what the network is shown; None shows every label once an epoch.
    augment : AugmentSettings
        How the cubes are varied.
    seed : int
        Of the order and the variation.
    """

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 1e-3
    warm_up: float = 0.1
    weight_decay: float = 1e-4
    patience: int = 6
    balance: float | None = 0.5
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that train nothing."""
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0 or not 0 <= self.warm_up < 1:
            raise ValueError(
                "Training needs at least 1 epoch, a batch of at least 1, a learning rate above 0 and a "
                f"warm-up from 0 to below 1; got {self.epochs}, {self.batch}, {self.learning_rate:g} and "
                f"{self.warm_up:g}. Change the settings."
            )
        if self.balance is not None and not 0 < self.balance < 1:
            raise ValueError(
                f"`balance` must lie between 0 and 1; got {self.balance:g}. "
                "None shows each label once an epoch."
            )


class TrainingSet(NamedTuple):
    """Labelled cubes.

    `cubes` (n, z, y, x, channel), float16 or float32, in memory or mapped; `targets` (n,) 1 for the positive
    class and 0 for the other; `weights` (n,) how much each counts; `groups` (n,) animal or block of each.
    """

    cubes: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray


class _Best(NamedTuple):
    loss: float
    epoch: int
    weights: list[np.ndarray]


def fit(
    model: Any,
    training: TrainingSet,
    validation: TrainingSet,
    *,
    settings: FitSettings = FitSettings(),
    on_epoch: Callable[[dict[str, float]], Any] | None = None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Teach a network in place; it ends with the weights of the epoch of the least validation loss.

    Parameters
    ----------
    model : keras.Model
        Cubes to one logit; stays uncompiled.
    training, validation : TrainingSet
        From different animals or blocks: `split_groups`.
    on_epoch : callable, optional
        Called with the row of the history after every epoch.
    stop : threading.Event, optional
        Once set, training ends within a batch, with the best weights so far.

    Returns
    -------
    DataFrame
        One row an epoch: epoch; loss, accuracy, f1, precision and recall on (at most 512) training cubes as
        they are, evaluated after the epoch, and the same with `val_` on the validation cubes; learning_rate;
        seconds. Losses are weighted to the classes' shares in `balance`.

    Raises
    ------
    ValueError
        If a set lacks a class, or its cubes do not fit the network.
    RuntimeError
        If the loss is no longer finite; the network then has the best weights so far.
    """
    _check(model, training, "training")
    _check(model, validation, "validation")
    trainer = _trainer(model, len(training.targets), settings)
    watched = _sample(training, settings.seed)
    best = _Best(np.inf, 0, model.get_weights())
    rows: list[dict[str, float]] = []
    try:
        for epoch in range(1, settings.epochs + 1):
            began = perf_counter()
            if not _teach(trainer, training, settings, epoch, stop):
                break
            row = {"epoch": epoch} | _evaluate(trainer, watched, settings, "")
            row |= _evaluate(trainer, validation, settings, "val_")
            rows.append(row | {"learning_rate": _rate(trainer), "seconds": perf_counter() - began})
            if on_epoch is not None:
                on_epoch(rows[-1])
            if row["val_loss"] < best.loss:
                best = _Best(row["val_loss"], epoch, model.get_weights())
            elif epoch - best.epoch >= settings.patience:
                break
    except _NotFiniteError as error:
        raise RuntimeError(
            f"Training needs finite losses; epoch {len(rows) + 1} gave {error}. The weights of epoch "
            f"{best.epoch} were put back: lower the learning rate (now {settings.learning_rate:g})."
        ) from None
    finally:
        model.set_weights(best.weights)
    return pd.DataFrame(rows, columns=list(HISTORY)).astype({"epoch": "int64"})


class _NotFiniteError(ArithmeticError):
    """The loss is NaN or infinite."""


def _check(model: Any, labelled: TrainingSet, what: str) -> None:
    lengths = {len(column) for column in labelled}
    positives = int(np.sum(np.asarray(labelled.targets) == 1))
    negatives = len(labelled.targets) - positives
    if len(lengths) > 1 or labelled.cubes.shape[1:] != model.input_shape[1:]:
        raise ValueError(
            f"The {what} set must have a target, a weight and a group for every cube of "
            f"{model.input_shape[1:]} voxels; got cubes of shape {labelled.cubes.shape} and "
            f"{len(labelled.targets)} targets. Cut them with the network's geometry."
        )
    for start in range(0, len(labelled.cubes), PART):
        if not np.isfinite(labelled.cubes[start : start + PART]).all():
            raise ValueError(
                f"The {what} cubes must be finite; one of the labels {start} to {start + PART - 1} is not. "
                "Mend its image."
            )
    if min(positives, negatives) == 0:
        raise ValueError(
            f"The {what} set must have both classes; got {positives} positive and {negatives} negative "
            "labels. Label some of the other class, in other places too."
        )


def _trainer(model: Any, n: int, settings: FitSettings) -> Any:
    """Return a compiled model that shares the weights of `model`, which stays uncompiled."""
    import keras

    steps = settings.epochs * -(-n // settings.batch)
    warm_up = round(settings.warm_up * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else settings.learning_rate,
        steps - warm_up,
        warmup_target=settings.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
    trainer = keras.Model(model.inputs, model.outputs)
    trainer.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,  # XLA's 3D convolutions are ten times slower on CPUs than oneDNN's
    )
    return trainer


def _rate(trainer: Any) -> float:
    return float(np.asarray(trainer.optimizer.learning_rate))


def _teach(
    trainer: Any, training: TrainingSet, settings: FitSettings, epoch: int, stop: threading.Event | None
) -> bool:
    """Show one epoch; return whether it was shown to its end."""
    trainer.reset_metrics()
    for cubes, targets, weights in _batches(training, settings, epoch):
        if stop is not None and stop.is_set():
            return False
        loss = float(np.asarray(trainer.train_on_batch(cubes, targets, sample_weight=weights)))
        if not np.isfinite(loss):
            raise _NotFiniteError(loss)
    return True


def _batches(
    training: TrainingSet, settings: FitSettings, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield varied batches, each drawn from its own seed and made while the one before is learnt."""
    order = _order(training.targets, settings, np.random.default_rng((settings.seed, epoch)))
    scale = 1 / np.mean(training.weights)

    def batch(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = order[start : start + settings.batch]
        rng = np.random.default_rng((settings.seed, epoch, start))
        cubes = augment_cubes(np.asarray(training.cubes[rows], dtype=np.float32), rng, settings.augment)
        targets = np.asarray(training.targets[rows], dtype=np.float32)[:, None]
        return cubes, targets, np.asarray(training.weights[rows] * scale, dtype=np.float32)

    starts = range(0, len(order), settings.batch)
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batch, 0)
        for start in starts:
            ready = coming.result()
            if start != starts[-1]:
                coming = maker.submit(batch, start + settings.batch)
            yield ready


def _order(targets: np.ndarray, settings: FitSettings, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of one epoch: every label once, or each class as often as its share says."""
    n = len(targets)
    if settings.balance is None:
        return rng.permutation(n)
    positives = min(max(round(settings.balance * n), 1), n - 1)
    drawn = []
    for value, wanted in ((1, positives), (0, n - positives)):
        rows = np.flatnonzero(np.asarray(targets) == value)
        rounds = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
        drawn.append(np.concatenate(rounds)[:wanted])
    return rng.permutation(np.concatenate(drawn))


def _sample(training: TrainingSet, seed: int) -> TrainingSet:
    """Return at most 512 labels of a set, as many of each class as there are up to half."""
    targets, rng = np.asarray(training.targets), np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(targets == value))[: WATCHED // 2] for value in (0, 1)]
    kept = np.sort(np.concatenate(rows))
    return TrainingSet(*(column[kept] for column in training))


def _evaluate(trainer: Any, labelled: TrainingSet, settings: FitSettings, prefix: str) -> dict[str, float]:
    """Return loss, accuracy, F1, precision and recall at p = 0.5 of cubes as they are."""
    logits = np.concatenate(
        [
            trainer.predict_on_batch(np.asarray(labelled.cubes[start : start + PART], dtype=np.float32))
            for start in range(0, len(labelled.cubes), PART)
        ]
    )[:, 0].astype(np.float64)
    true, weights = np.asarray(labelled.targets) == 1, np.asarray(labelled.weights, dtype=np.float64)
    shares = weights / np.sum(weights)
    if settings.balance is not None:
        shares = weights * np.where(
            true, settings.balance / weights[true].sum(), (1 - settings.balance) / weights[~true].sum()
        )
    loss = -float(np.sum(shares * log_expit(np.where(true, logits, -logits))))
    if not np.isfinite(loss):
        raise _NotFiniteError(loss)
    called = expit(logits) >= 0.5
    hits, found, there = (float(np.sum(weights[mask])) for mask in (called & true, called, true))
    accuracy = float(np.average(called == true, weights=weights))
    precision = hits / found if found else float("nan")
    values = (loss, accuracy, 2 * hits / (found + there), precision, hits / there)
    return {f"{prefix}{name}": value for name, value in zip(METRICS, values, strict=True)}
