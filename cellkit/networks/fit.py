"""The one training engine: labelled cubes in, a taught network and its history out."""

import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit

from cellkit import __version__
from cellkit.folder.disk import fingerprint
from cellkit.networks.checkpoint import State, load_state, save_state
from cellkit.networks.course import FitSettings, rate_at
from cellkit.networks.pool import CubePool
from cellkit.networks.stream import TrainingSet, batches, check_set, draw_sample
from cellkit.teaching.learning import judge_epoch, kept_epoch

__all__ = ["FitSettings", "TrainingSet", "Watch", "fit"]
METRICS = ("loss", "accuracy", "f1", "precision", "recall")
JUDGED = (*(f"val_{name}" for name in METRICS), "val_smooth", "kept")
HISTORY = ("epoch", *METRICS, *JUDGED, "learning_rate", "seconds")
WATCHED = 256


class Watch(TypedDict, total=False):
    """Who looks on: `on_epoch` is called with every row of the history, `stop` ends the training once set."""

    on_epoch: Callable[[dict[str, float]], Any] | None
    stop: threading.Event | None


class _Course(NamedTuple):
    """What stays the same through a training; if it `goes_on` from one before, that had `first` epochs."""

    trainer: Any
    training: TrainingSet
    watched: TrainingSet
    validation: TrainingSet
    settings: FitSettings
    first: int
    goes_on: bool

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.training.targets) // self.settings.batch)


def fit(
    model: Any,
    training: TrainingSet,
    validation: TrainingSet,
    *,
    settings: FitSettings = FitSettings(),
    earlier: pd.DataFrame | None = None,
    checkpoint: Path | None = None,
    **watch: Unpack[Watch],
) -> pd.DataFrame:
    """Teach a network in place; it ends with the weights of the epoch that its history marks as kept.

    Parameters
    ----------
    model : keras.Model
        Cubes to one logit; stays uncompiled.
    training, validation : TrainingSet
        From different animals or blocks: `split_groups`.
    earlier : DataFrame, optional
        The history of a training that this one continues: its rows come first, and the weights that the
        network has now stay in the race for the best epoch; so they do, as epoch 0, with a history without a
        row. They are left only for an epoch that judges better by more than chance: what a network knew
        before holds in more animals than the few that are labelled. And it drops no values in training: what
        is left would be scaled up, and what answers is another network. The learning rate is that of
        `settings`.
    checkpoint : Path, optional
        A folder in which every epoch is kept. Killed at any moment and called again with the same, training
        goes on from there and ends with the same weights and history, bit for bit but for `seconds`. After
        a change of settings, labels or network it starts anew, with a warning; what was there is kept aside.
    on_epoch : callable, optional
        Called with the row of the history after every epoch; first with those that are there already.
    stop : threading.Event, optional
        Once set, training ends within a batch, with the best weights so far.

    Returns
    -------
    DataFrame
        One row an epoch: epoch; loss, accuracy, f1, precision and recall on (at most 256) training cubes as
        they are, evaluated after the epoch, and the same with `val_` on the validation cubes; val_smooth, the
        mean of val_loss over the last `smooth` epochs; kept, 1 if that is not above the least by more than
        the standard error of the difference, label by label, or, with `earlier`, if it is below the one kept
        so far by more than that: the last such epoch gives the weights; learning_rate; seconds. Losses are
        weighted to the classes' shares in `balance`.

    Raises
    ------
    ValueError
        If a set lacks a class, or its cubes do not fit the network.
    RuntimeError
        If the loss is no longer finite; the network then has the best weights so far.
    """
    rows = [] if earlier is None else earlier.to_dict("records")
    hashes = {
        "the training labels": check_set(training, model.input_shape[1:], "training"),
        "the validation labels": check_set(validation, model.input_shape[1:], "validation"),
    }
    made_from = _made_from(model, settings, rows) | hashes
    watched = draw_sample(training, WATCHED, settings.seed)
    goes_on = earlier is not None
    trainer = _trainer(model, settings, drops=not goes_on)
    course = _Course(trainer, training, watched, validation, settings, len(rows), goes_on)
    state = checkpoint and load_state(checkpoint, made_from)
    state = _put_back(trainer, state) if state else _begin(course, model, rows)
    on_epoch = watch.get("on_epoch") or (lambda row: None)
    try:
        for row in state.rows:
            on_epoch(row)
        while _goes_on(state, course) and (judged := _epoch(course, state, watch.get("stop"))):
            state = judged
            on_epoch(state.rows[-1])
            state = _after(state, model, trainer)
            if checkpoint is not None:
                save_state(checkpoint, state, made_from)
    except _NotFiniteError as error:
        raise RuntimeError(
            f"Training needs finite losses; epoch {len(state.rows) + 1} gave {error}. The weights of epoch "
            f"{state.best_epoch} were put back: lower the learning rate (now {settings.learning_rate:g})."
        ) from None
    finally:
        model.set_weights(state.best)
    return pd.DataFrame(state.rows, columns=list(HISTORY)).astype({"epoch": "int64"})


class _NotFiniteError(ArithmeticError):
    """The loss is NaN or infinite."""


def _made_from(model: Any, settings: FitSettings, rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return all that decides how a training ends, but for the labels."""
    import keras

    backend = keras.backend.backend()
    return asdict(settings) | {
        "the network it starts from": fingerprint([fingerprint(w) for w in model.get_weights()]),
        "the training it continues": fingerprint([[row["epoch"], row["val_loss"]] for row in rows]),
        "keras": keras.__version__,
        backend: version(backend),
        "cellkit": __version__,
    }


def _trainer(model: Any, settings: FitSettings, *, drops: bool) -> Any:
    """Return a compiled model that shares the weights of `model`, which stays uncompiled."""
    import keras

    if drops:
        trainer = keras.Model(model.inputs, model.outputs)
    else:
        trainer = keras.models.clone_model(model, clone_function=_undropped)
    optimiser = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    optimiser.build(trainer.trainable_variables)
    trainer.compile(
        optimizer=optimiser,
        loss=_loss,
        jit_compile=False,  # XLA's 3D convolutions are ten times slower on CPUs than oneDNN's
    )
    return trainer


def _undropped(layer: Any) -> Any:
    """Return the layer itself, or one that drops nothing in place of one that drops values."""
    from keras import layers

    return layers.Dropout(0.0) if isinstance(layer, layers.Dropout) else layer


def _loss(targets: Any, logits: Any) -> Any:
    """Return the cross-entropy of each cube, shape (n,); `targets` (n, 2) are its class and its margin."""
    from keras import ops

    total = logits[:, 0] + targets[:, 1]
    return ops.softplus(total) - targets[:, 0] * total


def _begin(course: _Course, model: Any, rows: list[dict[str, float]]) -> State:
    """Return the state before the first epoch: what was taught before counts as its best."""
    if not course.goes_on:
        return State(rows, 0, [], [], model.get_weights(), [], [])
    _, losses = _evaluate(course.trainer, course.validation, course.settings, "val_")
    best = kept_epoch(pd.DataFrame(rows)) if rows else 0
    return State(rows, best, [], [], model.get_weights(), [], [losses])


def _put_back(trainer: Any, state: State) -> State:
    for variables, values in (
        (_variables(trainer), state.variables),
        (trainer.optimizer.variables, state.optimiser),
    ):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return state


def _variables(trainer: Any) -> list[Any]:
    """Return the variables of all layers: weights, and the seeds of layers that draw."""
    return [variable for layer in trainer.layers for variable in layer.variables]


def _values(variables: list[Any]) -> list[np.ndarray]:
    from keras import ops

    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def _after(state: State, model: Any, trainer: Any) -> State:
    """Return the state after the epoch of the last row, with its weights if they are to be kept."""
    variables, optimiser = _values(_variables(trainer)), _values(trainer.optimizer.variables)
    state = state._replace(variables=variables, optimiser=optimiser)
    if not state.rows[-1]["kept"]:
        return state
    return state._replace(best=model.get_weights(), best_epoch=int(state.rows[-1]["epoch"]))


def _goes_on(state: State, course: _Course) -> bool:
    taught = len(state.rows) - course.first
    since = len(state.rows) - max(state.best_epoch, course.first)
    return taught < course.settings.epochs and since < course.settings.patience


def _epoch(course: _Course, state: State, stop: threading.Event | None) -> State | None:
    """Teach one epoch and return the state with its row and how it judges; None if it was stopped."""
    began, epoch = perf_counter(), len(state.rows) + 1
    steps_done = (epoch - 1 - course.first) * course.steps
    trainer, settings = course.trainer, course.settings
    for step, (cubes, targets, weights) in enumerate(batches(course.training, settings, epoch)):
        if stop is not None and stop.is_set():
            return None
        rate = rate_at(steps_done + step, settings.epochs * course.steps, settings)
        trainer.optimizer.learning_rate = rate
        loss = float(np.asarray(trainer.train_on_batch(cubes, targets, sample_weight=weights)))
        if not np.isfinite(loss):
            raise _NotFiniteError(loss)
    row, _ = _evaluate(trainer, course.watched, settings, "")
    judged, losses = _evaluate(trainer, course.validation, settings, "val_")
    recent = [*state.recent, losses][-settings.smooth :]
    smooth = np.mean(recent, axis=0)
    kept, least = judge_epoch(smooth, *state.least, goes_on=course.goes_on)
    judged |= {"val_smooth": float(smooth.sum()), "kept": float(kept)}
    row = {"epoch": epoch} | row | judged | {"learning_rate": rate, "seconds": perf_counter() - began}
    return state._replace(rows=[*state.rows, row], recent=recent, least=[least])


def _evaluate(
    trainer: Any, labelled: TrainingSet, settings: FitSettings, prefix: str
) -> tuple[dict[str, float], np.ndarray]:
    """Return loss, accuracy, F1, precision and recall at p = 0.5 of cubes as they are, and each label's loss.

    The labels' losses add up to the loss.
    """
    logits = _logits(trainer, labelled.cubes, settings.batch).astype(np.float64) + labelled.known
    true, weights = np.asarray(labelled.targets) == 1, np.asarray(labelled.weights, dtype=np.float64)
    shares = weights / np.sum(weights)
    if settings.balance is not None:
        shares = weights * np.where(
            true, settings.balance / weights[true].sum(), (1 - settings.balance) / weights[~true].sum()
        )
    losses = -shares * log_expit(np.where(true, logits, -logits))
    loss = float(np.sum(losses))
    if not np.isfinite(loss):
        raise _NotFiniteError(loss)
    called = expit(logits) >= 0.5
    hits, found, there = (float(np.sum(weights[mask])) for mask in (called & true, called, true))
    accuracy = float(np.average(called == true, weights=weights))
    precision = hits / found if found else float("nan")
    values = (loss, accuracy, 2 * hits / (found + there), precision, hits / there)
    return {f"{prefix}{name}": value for name, value in zip(METRICS, values, strict=True)}, losses


def _logits(trainer: Any, cubes: np.ndarray | CubePool, size: int) -> np.ndarray:
    """Return the logits of cubes (n,), in batches of one size, for which the network is compiled once."""
    found = []
    for start in range(0, len(cubes), size):
        rows = np.minimum(np.arange(start, start + size), len(cubes) - 1)
        found.append(trainer.predict_on_batch(np.asarray(cubes[rows], dtype=np.float32))[:, 0])
    return np.concatenate(found)[: len(cubes)]
