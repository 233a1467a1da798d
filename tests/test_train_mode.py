"""No score that a network has only in training mode is ever told: T9 of the promises about honest numbers.

T10, nothing lost when all is killed: `test_killed_at_any_moment_at_most_the_answer_in_flight_is_lost` in
`test_ledger.py`, `test_a_training_killed_at_random_moments_ends_as_if_it_never_was` in `test_checkpoint.py`;
the same seed, the same weights: `test_fit.py`. T11, no estimator without weights: `test_estimates.py`.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
from test_fit import QUICK, SHAPE, toy

from cellkit.networks import fit
from cellkit.networks.engines import compile_engine


def forgetful():
    """Return a network that is another one in training: batch statistics, and most of it dropped."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((*SHAPE, 3))
    x = keras.layers.Dense(32, activation="relu")(keras.layers.Flatten()(inputs))
    x = keras.layers.BatchNormalization(momentum=0.999)(x)
    x = keras.layers.Dropout(0.8, seed=0)(x)
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(8, name="embedding")(x)))


def loss_of(logits, targets):
    """Return the loss with equal shares of both classes."""
    losses = np.logaddexp(0, np.where(targets == 1, -1, 1) * np.asarray(logits)[:, 0].astype("float64"))
    return (losses[targets == 1].mean() + losses[targets == 0].mean()) / 2


def test_a_history_holds_the_evaluated_losses_and_no_others():
    model, taught, judged = forgetful(), toy(160, 0), toy(80, 1)
    evaluated, in_training = [], []

    def look(_):
        evaluated.append((_evaluated(model, taught), _evaluated(model, judged)))
        in_training.append(loss_of(model(judged.cubes.astype("float32"), training=True), judged.targets))

    history = fit(model, taught, judged, settings=replace(QUICK, epochs=3, patience=9), on_epoch=look)
    assert history[["loss", "val_loss"]].to_numpy() == pytest.approx(np.array(evaluated), rel=1e-3)
    assert np.abs(history["val_loss"] - in_training).min() > 0.05, "control: in training it is another"


def _evaluated(model, labelled):
    return loss_of(model(labelled.cubes.astype("float32"), training=False), labelled.targets)


def test_what_a_card_and_an_audit_rest_on_is_evaluated_too():
    model, judged = forgetful(), toy(60, 2)
    fit(model, toy(100, 0), toy(40, 1), settings=replace(QUICK, epochs=1))
    logits = compile_engine(model)(judged.cubes.astype("float32")).logits
    evaluated = np.asarray(model(judged.cubes.astype("float32"), training=False))[:, 0]
    assert logits == pytest.approx(evaluated, abs=2e-3)
    in_training = np.asarray(model(judged.cubes.astype("float32"), training=True))[:, 0]
    assert np.abs(in_training - evaluated).mean() > 0.05, "control"
