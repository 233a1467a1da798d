import threading
from dataclasses import replace
from re import escape

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cellkit.augment import AugmentSettings
from cellkit.networks import (
    FitSettings,
    TrainingSet,
    calibrate,
    choose_threshold,
    fit,
    fit_head,
    split_groups,
)
from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.engines import compile_engine
from cellkit.networks.fit import HISTORY
from cellkit.networks.heads import refit_head
from cellkit.networks.stream import batches, draw_order
from cellkit.teaching.learning import kept_epoch

SHAPE = (4, 8, 8)
SMALL = ClassifierSettings(stem=8, widths=(16,), embedding=8)
QUICK = FitSettings(
    epochs=6, batch=16, learning_rate=5e-3, augment=replace(AugmentSettings.none(), flip=0.5, noise=0.2)
)


def toy(n: int, seed: int, *, positive: float = 0.4) -> TrainingSet:
    """Return cubes of noise, some with a bright blob in the middle."""
    rng = np.random.default_rng(seed)
    targets = (np.arange(n) < positive * n).astype(np.int8)
    cubes = rng.normal(size=(n, *SHAPE, 3)).astype(np.float16)
    cubes[targets == 1, 1:3, 3:5, 3:5, 0] += 3
    cubes[..., 2] = 1
    return TrainingSet(cubes, targets, np.ones(n, np.float32), np.arange(n))


def build():
    return build_classifier((*SHAPE, 3), SMALL)


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("earlier", [pd.DataFrame(), None])
def test_a_network_that_goes_on_drops_nothing_and_stays_as_it_was_built(earlier):
    one, other = build(), build_classifier((*SHAPE, 3), replace(SMALL, seed=1))
    other.set_weights(one.get_weights())
    (rate,) = (layer.rate for layer in one.layers if isinstance(layer, keras.layers.Dropout))
    for model in (one, other):
        fit(model, toy(80, 0), toy(40, 1), settings=replace(QUICK, epochs=2), earlier=earlier)
        assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [rate]
    assert same(one.get_weights(), other.get_weights()) is (earlier is not None), "they drop other values"


def test_a_network_learns_a_toy_and_its_history_says_so():
    model, judged = build(), toy(80, 1)
    seen: list[dict] = []
    history = fit(model, toy(160, 0), judged, settings=replace(QUICK, epochs=8), on_epoch=seen.append)
    assert list(history) == list(HISTORY)
    assert history["epoch"].tolist() == [row["epoch"] for row in seen] == list(range(1, len(history) + 1))
    assert history["val_f1"].max() > 0.95
    assert history["val_loss"].iloc[-1] < 0.5 * np.log(2)
    assert history["learning_rate"].iloc[0] > history["learning_rate"].iloc[-1]
    called = compile_engine(model)(judged.cubes).logits > 0
    assert np.mean(called == judged.targets) > 0.95
    assert not model.compiled


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    def taught(seed):
        model = build()
        history = fit(model, toy(48, 0), toy(32, 1), settings=replace(QUICK, epochs=2, seed=seed))
        return history.drop(columns="seconds"), model.get_weights()

    (history, weights), (again, weights_again), (_, others) = taught(0), taught(0), taught(1)
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert same(weights, weights_again)
    assert not same(weights, others), "control: another seed"


def test_the_weights_of_the_best_epoch_are_kept_and_training_ends_when_it_gets_no_better():
    model, kept = build(), {}
    wrong = toy(32, 1)
    wrong = wrong._replace(targets=1 - wrong.targets)
    history = fit(
        model, toy(64, 0), wrong, settings=replace(QUICK, epochs=9, patience=2),
        on_epoch=lambda row: kept.setdefault(row["epoch"], model.get_weights()),
    )  # fmt: skip
    best = int(history.loc[history["kept"] > 0, "epoch"].iloc[-1])
    assert len(history) == best + 2 < 9
    assert same(model.get_weights(), kept[best])
    assert not same(model.get_weights(), kept[len(history)]), "control: the last epoch has other weights"


def as_if(monkeypatch, losses):
    """Let the validation losses be these, label by label."""
    from cellkit.networks import fit as engine

    coming, real = iter(losses), engine.__globals__["_evaluate"]

    def evaluate(trainer, labelled, settings, prefix):
        row, each = real(trainer, labelled, settings, prefix)
        if prefix:
            each = next(coming)
            row["val_loss"] = float(each.sum())
        return row, each

    monkeypatch.setitem(engine.__globals__, "_evaluate", evaluate)


def kept_of(losses, monkeypatch, *, smooth=1) -> int:
    """Return the epoch that is kept with these validation losses."""
    model, weights = build(), {}
    as_if(monkeypatch, losses)
    n = len(losses)
    history = fit(
        model, toy(32, 0), toy(32, 1), settings=replace(QUICK, epochs=n, patience=n, smooth=smooth),
        on_epoch=lambda row: weights.setdefault(row["epoch"], model.get_weights()),
    )  # fmt: skip
    kept = next(epoch for epoch, each in weights.items() if same(each, model.get_weights()))
    assert kept_epoch(history) == kept
    return kept


def test_one_lucky_epoch_is_not_kept_for_its_luck(monkeypatch):
    values = [0.7, 0.1, 0.69, 0.6, 0.5, 0.4, 0.35, 0.3, 0.3, 0.3]
    alike = [np.full(32, value / 32) for value in values]
    assert kept_of(alike, monkeypatch, smooth=3) == 10
    monkeypatch.undo()
    assert kept_of(alike, monkeypatch) == 2, "control: without the mean over three epochs"


def test_the_last_epoch_that_cannot_be_told_from_the_best_is_kept(monkeypatch):
    rng = np.random.default_rng(0)
    best = rng.uniform(0, 0.02, 32)
    noise = rng.normal(0, 0.01, 32)
    noise -= noise.mean()
    error = noise.std(ddof=1) / np.sqrt(32)
    for above, kept in ((0.9, 3), (1.1, 1)):
        assert kept_of([best, best + 1, best + noise + above * error], monkeypatch) == kept
        monkeypatch.undo()


def test_what_a_network_knew_is_left_only_for_what_judges_better_by_more_than_chance(monkeypatch):
    rng = np.random.default_rng(0)
    start, noise = rng.uniform(0.5, 0.6, 32), rng.normal(0, 0.01, 32)
    noise -= noise.mean()
    error = noise.std(ddof=1) / np.sqrt(32)
    better, no_better = start + noise - 1.1 * error, start + noise - 0.9 * error
    as_if(monkeypatch, [start, no_better, better, better - 0.5 * noise, no_better, better + noise])
    model, weights = build(), {}
    history = fit(
        model, toy(32, 0), toy(32, 1), settings=replace(QUICK, epochs=5, patience=5, smooth=1),
        earlier=pd.DataFrame(), on_epoch=lambda row: weights.setdefault(row["epoch"], model.get_weights()),
    )  # fmt: skip
    assert history["kept"].tolist() == [0, 1, 0, 0, 0]
    assert kept_epoch(history) == 2 and same(model.get_weights(), weights[2])


def test_the_loss_in_the_history_is_the_evaluated_one_and_weighs_the_classes_by_the_balance():
    model, judged = build(), toy(40, 1, positive=0.1)
    model.layers[-1].set_weights([model.layers[-1].get_weights()[0], np.ones(1)])
    history = fit(model, toy(32, 0), judged, settings=replace(QUICK, epochs=1, learning_rate=1e-5))
    logits = compile_engine(model)(judged.cubes).logits
    true = judged.targets == 1
    losses = np.log1p(np.exp(np.where(true, -logits, logits)))
    balanced = (losses[true].mean() + losses[~true].mean()) / 2
    assert history["val_loss"].iloc[0] == pytest.approx(balanced, rel=1e-3)
    assert balanced != pytest.approx(losses.mean(), rel=1e-2), "control: the plain mean is another"


def test_a_balanced_stream_shows_each_class_by_its_share_and_each_label_about_as_often():
    targets = (np.arange(100) < 10).astype(int)
    shown = toy(100, 0)._replace(targets=targets)
    order = draw_order(shown, FitSettings(balance=0.5), np.random.default_rng(0))
    assert targets[order].sum() == 50 and len(order) == 100
    assert set(np.bincount(order, minlength=100)[:10]) == {5}
    assert set(np.bincount(order, minlength=100)[10:]) <= {0, 1}
    plain = draw_order(shown, FitSettings(balance=None), np.random.default_rng(0))
    assert sorted(plain) == list(range(100)), "control: without balance each label once"


def test_labels_of_weight_zero_teach_nothing():
    def taught(spoilt: float):
        model, training = build(), toy(48, 0)
        weights = np.repeat([1.0, 0.0], 24)[np.argsort(np.arange(48) % 2, kind="stable").argsort()]
        targets = np.where(weights == 0, spoilt, training.targets)
        fit(
            model, training._replace(weights=weights, targets=targets), toy(16, 1),
            settings=replace(QUICK, epochs=1, balance=None),
        )  # fmt: skip
        return compile_engine(model)(training.cubes).logits

    assert taught(0.0) == pytest.approx(taught(1.0), abs=1e-6)


def shares_of(training, settings) -> np.ndarray:
    """Return how much of a batch's loss each label makes up; its number is its first voxel."""
    shares = np.zeros(24)
    for cubes, _, weights in batches(training, settings, 1):
        np.add.at(shares, np.rint(cubes[:, 0, 0, 0, 0]).astype(int), weights / len(weights))
    return shares


def test_a_label_of_weight_three_counts_as_three_labels():
    training = toy(24, 0, positive=0.5)
    training.cubes[:, 0, 0, 0, 0] = np.arange(24)
    weights = np.where(np.arange(24) % 3 == 0, 3.0, 1.0).astype(np.float32)
    thrice = training.take(np.repeat(np.arange(24), weights.astype(int)))
    heavy = training._replace(weights=weights)
    plain = replace(QUICK, batch=64, balance=None, augment=AugmentSettings.none())
    assert shares_of(heavy, plain) == pytest.approx(shares_of(thrice, plain), rel=1e-5)
    assert shares_of(training, plain) == pytest.approx(np.full(24, 1 / 24), rel=1e-5), "control"
    balanced = shares_of(heavy, replace(plain, balance=0.5))
    of_class = np.array([weights[training.targets == target].sum() for target in training.targets])
    assert balanced == pytest.approx(weights / of_class / 2, rel=1e-5)
    model = build()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=kernel.shape), bias])
    losses = [
        fit(model, training, judged, settings=replace(plain, epochs=1, learning_rate=1e-9))["val_loss"][0]
        for judged in (heavy, thrice, training)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert abs(losses[0] - losses[2]) > 1e-3 * losses[0], "control"


def test_weights_of_one_class_do_not_shift_the_share_of_the_classes_that_was_asked():
    training = toy(40, 0, positive=0.5)
    weights = np.where(training.targets == 1, 9.0, 1.0)
    for sources, settings in ((None, QUICK), (np.arange(40) % 2, replace(QUICK, sources="equal"))):
        weighed = training._replace(weights=weights, sources=sources)
        shown = [(t[:, 0], w) for _, t, w in batches(weighed, replace(settings, batch=40), 1)]
        targets, each = (np.concatenate(column) for column in zip(*shown, strict=True))
        assert each[targets == 1].sum() == pytest.approx(each[targets == 0].sum())
    free = replace(QUICK, batch=40, balance=None)
    ((_, targets, each),) = batches(training._replace(weights=weights), free, 1)
    assert each[targets[:, 0] == 1].sum() == pytest.approx(9 * each[targets[:, 0] == 0].sum()), "control"


def test_training_stops_within_a_batch_when_asked_and_keeps_what_it_had():
    stop, model = threading.Event(), build()
    first: list = []

    def after_one(row):
        first.extend(model.get_weights())
        stop.set()

    history = fit(model, toy(48, 0), toy(16, 1), settings=QUICK, on_epoch=after_one, stop=stop)
    assert len(history) == 1
    assert same(model.get_weights(), first)
    untouched = build()
    assert fit(untouched, toy(48, 0), toy(16, 1), settings=QUICK, stop=stop).empty
    assert same(untouched.get_weights(), build().get_weights())


def test_an_interrupt_leaves_the_best_weights():
    model, best = build(), []

    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        best.extend(model.get_weights())

    with pytest.raises(KeyboardInterrupt):
        fit(model, toy(48, 0), toy(16, 1), settings=QUICK, on_epoch=interrupt)
    assert same(model.get_weights(), best)


def test_a_loss_that_is_no_number_stops_training_puts_the_weights_back_and_says_why():
    model = build()
    before = model.get_weights()
    message = (
        "Training needs finite losses; epoch 1 gave nan. The weights of epoch 0 were put back: "
        "lower the learning rate (now 1e+30)."
    )
    with pytest.raises(RuntimeError, match=f"^{escape(message)}$"):
        fit(model, toy(48, 0), toy(16, 1), settings=replace(QUICK, learning_rate=1e30))
    assert same(model.get_weights(), before)


def test_cubes_that_are_no_numbers_are_refused():
    training = toy(200, 0)
    training.cubes[150, 0, 0, 0, 0] = np.nan
    message = "The training cubes must be finite; one of the labels 128 to 255 is not. Mend its image."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        fit(build(), training, toy(16, 1), settings=QUICK)


def test_one_class_only_is_refused():
    message = (
        "The training set must have both classes; got 0 positive and 20 negative labels. "
        "Label some of the other class, in other places too."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        fit(build(), toy(20, 0, positive=0.0), toy(16, 1), settings=QUICK)
    message = message.replace("training", "validation").replace("0 positive and 20", "16 positive and 0")
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        fit(build(), toy(20, 0), toy(16, 1, positive=1.0), settings=QUICK)


def test_cubes_of_another_geometry_are_refused():
    message = (
        "The training set must have a target, a weight and a group for every cube of (4, 8, 8, 3) voxels; "
        "got cubes of shape (20, 4, 8, 7, 3) and 20 targets. Cut them with the network's geometry."
    )
    training = toy(20, 0)
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        fit(build(), training._replace(cubes=training.cubes[..., :-1, :]), toy(16, 1), settings=QUICK)


def test_settings_that_train_nothing_are_refused():
    message = (
        "Training needs at least 1 epoch, a batch of at least 1, a learning rate above 0 and a warm-up "
        "from 0 to below 1; got 0, 32, 0.001 and 0.1. Change the settings."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        FitSettings(epochs=0)
    message = "`balance` must lie between 0 and 1; got 1. None shows each label once an epoch."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        FitSettings(balance=1.0)


# --- heads ------------------------------------------------------------------------------------------


def embeddings_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(n, 16)) * np.arange(1, 17)
    return embeddings, (embeddings[:, 3] / 4 + rng.normal(size=n) * 0.5 > 0).astype(int)


def test_a_head_finds_what_separates_the_classes():
    head = fit_head(*embeddings_of(400, 0), seed=0)
    embeddings, targets = embeddings_of(400, 1)
    accuracy = np.mean((embeddings @ head.kernel + head.bias > 0) == targets)
    assert accuracy > 0.83
    assert np.argmax(np.abs(head.kernel * np.arange(1, 17))) == 3


def test_few_and_noisy_labels_get_a_stronger_penalty_when_whole_groups_are_held_out():
    rng = np.random.default_rng(0)
    group_of = np.repeat(np.arange(8), 20)
    embeddings = rng.normal(size=(8, 16))[group_of] + 0.1 * rng.normal(size=(160, 16))
    targets = (rng.permutation(8) < 4).astype(int)[group_of]
    grouped = fit_head(embeddings, targets, groups=group_of, seed=0)
    alone = fit_head(embeddings, targets, seed=0)
    assert grouped.strength < alone.strength, "labels of a group are copies: only held-out groups tell"


def test_what_holds_in_one_animal_and_not_in_the_other_is_not_learnt():
    rng = np.random.default_rng(0)
    animal, targets = np.repeat([0, 1], 100), np.tile([0, 1], 100)
    embeddings = rng.normal(size=(200, 4))
    embeddings[:, 0] += 3 * np.where(animal == 0, 1, -1) * (2 * targets - 1)
    before = 2.0 * (2 * targets - 1) + rng.normal(size=200) * 2
    head = fit_head(embeddings, targets, groups=animal, before=before, seed=0)
    assert head.strength == 0 and not head.kernel.any()
    assert head.kept > 0.3, "what the network said stays"
    embeddings[animal == 1, 0] *= -1
    taught = fit_head(embeddings, targets, groups=animal, before=before, seed=0)
    assert taught.strength > 0 and abs(taught.kernel[0]) > 0.3, "control: it holds in both"


def test_a_head_counts_a_label_of_weight_three_as_three_labels(monkeypatch):
    monkeypatch.setattr("cellkit.networks.heads.STRENGTHS", (1.0,))
    embeddings, targets = embeddings_of(60, 0)
    weights = np.where(np.arange(60) % 4 == 0, 3, 1)
    times = np.repeat(np.arange(60), weights)
    heavy = fit_head(embeddings, targets, weights, np.arange(60), seed=0)
    thrice = fit_head(embeddings[times], targets[times], None, times, seed=0)
    plain = fit_head(embeddings, targets, None, np.arange(60), seed=0)
    np.testing.assert_allclose(heavy.kernel, thrice.kernel, atol=2e-3)
    assert np.abs(heavy.kernel - plain.kernel).max() > 0.01, "control"


def test_a_head_of_a_known_strength_is_fitted_as_if_that_had_been_found():
    embeddings, targets = embeddings_of(200, 0)
    before = 2.0 * targets + np.random.default_rng(1).normal(size=200)
    found = fit_head(embeddings, targets, before=before, seed=0)
    again = refit_head(found, embeddings, targets, before=before)
    np.testing.assert_array_equal(again.kernel, found.kernel)
    assert (again.bias, again.strength, again.kept) == (found.bias, found.strength, found.kept)
    fewer = refit_head(found, embeddings[:50], targets[:50], before=before[:50])
    assert fewer.strength == found.strength and np.abs(fewer.kernel - found.kernel).max() > 1e-3, "control"


def test_a_head_of_one_class_is_refused():
    message = "A head needs labels of both classes; got 5 of one. Label some of the other."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        fit_head(np.ones((5, 2)), np.ones(5))


# --- calibration ------------------------------------------------------------------------------------


def scored(n: int, seed: int, *, distance: float = 3.5) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are right (slope 1, offset 0), and the answers."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < 0.5).astype(int)
    return distance * (rng.normal(size=n) + distance * (targets - 0.5)), targets


def test_calibration_undoes_logits_that_are_too_sure_and_shifted():
    logits, targets = scored(20_000, 0)
    slope, offset = calibrate(2 * logits + 1, targets)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert offset == pytest.approx(-0.5, abs=0.1)


def test_weights_bring_back_the_prevalence_that_was_drawn_away():
    logits, targets = scored(20_000, 0)
    rare = np.where(targets == 1, 0.05, 1.0)
    slope, offset = calibrate(logits, targets, rare)
    assert offset == pytest.approx(np.log(0.05), abs=0.15)
    assert calibrate(logits, targets)[1] == pytest.approx(0, abs=0.1), "control: without weights"
    assert calibrate(logits, targets, 7 * rare) == pytest.approx((slope, offset), abs=1e-3)


@pytest.mark.parametrize(("n", "of_class"), [(199, 100), (1000, 19)])
def test_few_labels_keep_the_calibration_that_is_there(n, of_class):
    logits, _ = scored(n, 0)
    targets = (np.arange(n) < of_class).astype(int)
    assert calibrate(logits, targets) == (1.0, 0.0)
    assert calibrate(logits, targets, keep=(0.7, -1.0)) == (0.7, -1.0)
    enough = (np.arange(1000) < 20).astype(int)
    assert calibrate(scored(1000, 0)[0], enough) != (1.0, 0.0), "control: enough labels"


def test_labels_that_are_told_apart_without_fault_do_not_drive_the_slope_to_infinity():
    targets = np.repeat([0, 1], 200)
    slope, offset = calibrate(np.where(targets == 1, 4.0, -4.0), targets)
    assert 0.5 < slope < 3
    assert abs(offset) < 0.5


def test_the_threshold_is_the_one_of_the_best_f1_or_of_the_right_count():
    p = np.array([0.9, 0.8, 0.6, 0.4, 0.3, 0.1])
    targets = np.array([1, 1, 0, 1, 0, 0])
    assert choose_threshold(p, targets) == pytest.approx(0.35)
    assert choose_threshold(p, targets, aim="count") == pytest.approx(0.5)
    assert choose_threshold(p, targets, np.array([1, 1, 9, 1, 1, 1])) == pytest.approx(0.7)


def test_a_threshold_reaches_the_precision_or_the_recall_that_is_asked():
    rng = np.random.default_rng(0)
    targets = (rng.random(5000) < 0.3).astype(int)
    p = expit(3 * (targets - 0.5) + 1.5 * rng.normal(size=5000) + np.log(0.3 / 0.7))
    for name, goal in (("precision", 0.9), ("precision", 0.7), ("recall", 0.95), ("recall", 0.5)):
        called = p >= choose_threshold(p, targets, aim=(name, goal))
        reached = {"precision": targets[called].mean(), "recall": called[targets == 1].mean()}
        assert goal <= reached[name] < goal + 0.002, "and no more is given away of the other"
    message = (
        "The threshold for a precision of 0.9 must exist; no threshold gives more than 0.500. "
        "Ask for less, or label more and retrain."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        choose_threshold(np.array([0.9, 0.8, 0.7]), np.array([0, 1, 0]), aim=("precision", 0.9))


def test_a_threshold_may_be_foretold_by_the_probabilities_themselves():
    p = np.random.default_rng(1).beta(0.5, 1.5, 20_000)
    at = choose_threshold(p, p, aim="count")
    assert np.sum(p >= at) == pytest.approx(p.sum(), abs=1)
    at = choose_threshold(p, p, aim=("precision", 0.8))
    assert p[p >= at].mean() == pytest.approx(0.8, abs=0.001)


def test_a_threshold_does_not_part_candidates_of_equal_probability():
    p, targets = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0, 0])
    assert choose_threshold(p, targets) == pytest.approx(0.7)


def test_a_threshold_without_positives_or_by_something_else_is_refused():
    message = "A threshold needs labels of the positive class; got none among 3. Label some."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        choose_threshold(np.ones(3), np.zeros(3))
    message = (
        'The aim of a threshold must be "f1", "count", ("precision", share) or ("recall", share) with a '
        "share below 1; got 'luck'. Choose one of them."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        choose_threshold(np.ones(3), np.ones(3), aim="luck")
    message = message.replace("'luck'", "('precision', 90)")
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        choose_threshold(np.ones(3), np.ones(3), aim=("precision", 90))


# --- splits -----------------------------------------------------------------------------------------

CUBE_UM = (45.0, 45.0, 45.0)


def places_in(*animals: str, n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, (300, 1000, 1000), size=(n, 3))
    table = pd.DataFrame(at, columns=["z_um", "y_um", "x_um"])
    animal = rng.choice(animals, n)
    return table.assign(animal=animal, image=animal)


def overlapping(places: pd.DataFrame, side: np.ndarray) -> int:
    """Count the pairs of cubes of one image that overlap and lie on the two sides."""
    at = places[["z_um", "y_um", "x_um"]].to_numpy()
    one, other = at[side == "train"], at[side == "validation"]
    image, image_other = (places["image"].to_numpy()[side == name] for name in ("train", "validation"))
    near = (np.abs(one[:, None] - other[None]) < CUBE_UM).all(axis=2)
    return int((near & (image[:, None] == image_other[None])).sum())


def test_several_animals_are_split_whole():
    places = places_in("a", "b", "c", "d", "e")
    targets = np.arange(200) % 2
    side = split_groups(places, targets, cube_um=CUBE_UM)
    assert set(side) == {"train", "validation"}
    assert pd.Series(side).groupby(places["animal"]).nunique().max() == 1
    assert np.mean(side == "validation") == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("animals", [("a",), ("a", "b")])
def test_within_an_animal_no_cube_of_one_side_overlaps_one_of_the_other(animals):
    places, targets = places_in(*animals, n=400), np.arange(400) % 2
    side = split_groups(places, targets, cube_um=CUBE_UM, by="space")
    assert overlapping(places, side) == 0
    assert overlapping(places, np.where(side == "gap", "train", side)) > 0, "control: the gap is needed"
    assert np.mean(side == "validation") == pytest.approx(0.2, abs=0.07)
    assert np.mean(side == "gap") < 0.2
    for of_class in (0, 1):
        assert {"train", "validation"} <= set(side[targets == of_class])


def test_a_split_is_the_same_for_the_same_seed():
    places, targets = places_in("a"), np.arange(200) % 2
    one, again, other = (split_groups(places, targets, cube_um=CUBE_UM, seed=s) for s in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any(), "control: another seed"


def test_labels_of_one_block_cannot_be_split():
    places = places_in("a")
    places[["z_um", "y_um", "x_um"]] *= 0.1
    message = (
        "Training and validation need labels from two blocks of space at least; got 200 in one. "
        "Label some farther away."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        split_groups(places, np.arange(200) % 2, cube_um=CUBE_UM)
    with pytest.raises(
        ValueError, match=r"^Training and validation need labels from two animals at least; .+$"
    ):
        split_groups(places, np.arange(200) % 2, cube_um=CUBE_UM, by="animal")


def nearest_neighbour_accuracy(at: np.ndarray, targets: np.ndarray, side: np.ndarray) -> float:
    taught, judged = side == "train", side == "validation"
    nearest = np.argmin(np.abs(at[judged][:, None] - at[taught][None]).max(axis=2), axis=1)
    right = targets[taught][nearest] == targets[judged]
    return float(np.mean([right[targets[judged] == value].mean() for value in (0, 1)]))


def test_canary_random_labels_of_overlapping_cubes_are_not_learnt_across_the_split():
    honest, leaky = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        spots = rng.uniform(0, (300, 1000, 1000), size=(150, 3))
        at = np.repeat(spots, 3, axis=0) + rng.normal(size=(450, 3)) * 3
        targets = np.repeat(rng.integers(0, 2, 150), 3)
        places = pd.DataFrame(at, columns=["z_um", "y_um", "x_um"]).assign(animal="a", image="a")
        side = split_groups(places, targets, cube_um=CUBE_UM, seed=seed)
        honest.append(nearest_neighbour_accuracy(at, targets, side))
        by_cube = np.where(rng.random(450) < 0.2, "validation", "train")
        leaky.append(nearest_neighbour_accuracy(at, targets, by_cube))
    assert np.mean(honest) < 0.55
    assert np.mean(leaky) > 0.9, "control: split by cube, copies of a cube lie on both sides"


def test_a_probability_is_the_sigmoid_of_the_calibrated_logit():
    logits, targets = scored(2000, 3)
    slope, offset = calibrate(3 * logits, targets)
    q = expit(slope * 3 * logits + offset)
    bins = np.digitize(q, [0.1, 0.3, 0.5, 0.7, 0.9])
    off = [abs(q[bins == b].mean() - targets[bins == b].mean()) for b in np.unique(bins)]
    assert max(off) < 0.12
