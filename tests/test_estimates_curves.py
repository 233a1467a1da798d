import numpy as np
import pytest
from estimates import calibration_trials
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss

from cellkit.estimates import audit_design, average_precision, brier_score, drawn_again, metric_differences


def sample(rng, n=300, cells=0.3):
    y = rng.random(n) < cells
    return y, expit(2 * (np.where(y, 1.0, -1.0) + rng.normal(size=n)))


def test_average_precision_and_brier_agree_with_scikit_learn():
    y, p = sample(np.random.default_rng(0))
    p = np.round(p, 1)
    stratum = np.arange(300) % 2
    weight = np.where(stratum, 30.0, 3.0)
    design = audit_design(stratum, weight)
    found = average_precision(y, p, design)
    assert found.value == pytest.approx(average_precision_score(y, p, sample_weight=weight)), "with ties"
    assert found.low < found.value < found.high
    found = brier_score(y, p, design)
    assert found.value == pytest.approx(brier_score_loss(y, p, sample_weight=weight))
    assert 0 <= found.low < found.value < found.high <= 1


def test_average_precision_without_a_cell_is_unknown():
    found = average_precision(np.zeros(9, bool), np.ones(9), audit_design(np.zeros(9), np.full(9, 2.0)))
    assert np.isnan(found.value)
    assert (found.low, found.high) == (0, 1)


def test_the_interval_of_average_precision_covers():
    rng = np.random.default_rng(1)
    y, p = sample(rng, n=100_000)
    true, brier = average_precision_score(y, p), brier_score_loss(y, p)
    covered = []
    for seed in range(60):
        rows = rng.choice(len(y), 300, replace=False)
        design = audit_design(np.zeros(300), np.full(300, 333.0))
        found = average_precision(y[rows], p[rows], design, seed=seed)
        other = brier_score(y[rows], p[rows], design)
        covered.append((found.low <= true <= found.high, other.low <= brier <= other.high))
    assert (np.mean(covered, axis=0) >= 0.9).all()


def test_drawing_again_agrees_with_linearisation():
    rng = np.random.default_rng(2)
    y, p = sample(rng, n=500)
    first, second = p > 0.5, (p + rng.normal(0, 0.2, 500)) > 0.5
    design = audit_design(np.zeros(500), np.full(500, 1e4))

    def f1(call, weight):
        return 2 * (weight @ (y & call)) / (weight @ (y.astype(float) + call))

    again = drawn_again(lambda weight: f1(second, weight) - f1(first, weight), design)
    assert again == pytest.approx(metric_differences(y, first, second, design)["F1"], abs=0.006)


def test_whole_animals_are_drawn_again_where_there_are_three():
    rng = np.random.default_rng(3)
    animal = np.repeat(["a", "b", "c"], 100)
    hit = rng.random(300) < np.repeat([0.9, 0.8, 0.6], 100)
    design = audit_design(animal, np.full(300, 10.0))

    def share(weight):
        return weight @ hit / weight.sum(axis=1)

    these = drawn_again(share, design)
    others = drawn_again(share, design, animals=animal)
    assert others.half_width > 3 * these.half_width
    assert drawn_again(share, design, animals=np.repeat(["a", "b"], 150)) == these, "two are too few"
    assert drawn_again(share, design, seed=0) == these, "same seed, same interval"


def test_a_refit_on_500_labels_brings_the_calibration_error_below_its_own_null():
    found = calibration_trials(500, repeats=20)
    assert found["passes after"] >= 0.75
    assert found["passes before"] <= 0.1, "control: logits twice too large are caught"
