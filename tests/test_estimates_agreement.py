import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from cellkit.estimates import agreement, audit_design, wilson


def answers(both, first, second, neither):
    """Two answers about places: positive by both, by the first alone, by the second alone, by neither."""
    counts = [both, first, second, neither]
    return np.repeat([1, 1, 0, 0], counts).astype(bool), np.repeat([1, 0, 1, 0], counts).astype(bool)


def test_kappa_by_hand_and_as_in_scikit_learn():
    first, second = answers(40, 9, 6, 45)
    found = agreement(first, second)
    assert found.alike == pytest.approx(wilson(85, 100), abs=7e-3)
    chance = 0.49 * 0.46 + 0.51 * 0.54
    assert found.kappa.value == pytest.approx((0.85 - chance) / (1 - chance))
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second))
    assert found.positive.value == pytest.approx(80 / 95)
    assert found.positive.value == pytest.approx(f1_score(first, second)), "the ceiling of a network's F1"
    assert found.negative.value == pytest.approx(90 / 105)
    assert found.prevalence == pytest.approx(0.475)
    assert found.n == 100


def test_the_variance_of_kappa_is_that_of_fleiss_cohen_and_everitt():
    first, second = answers(80, 30, 10, 280)
    table = np.array([[80, 30], [10, 280]]) / 400
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    agree, chance = np.trace(table), rows @ columns
    kappa = (agree - chance) / (1 - chance)
    total = sum(table[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in range(2))
    total += (1 - kappa) ** 2 * sum(
        table[i, j] * (columns[i] + rows[j]) ** 2 for i in range(2) for j in range(2) if i != j
    )
    total -= (kappa - chance * (1 - kappa)) ** 2
    error = np.sqrt(total / 400) / (1 - chance)
    assert agreement(first, second).kappa.half_width == pytest.approx(1.97 * error, rel=0.02)


@pytest.mark.parametrize(
    "prevalence, kappa, positive", [(0.5, 0.846, 0.92), (0.1, 0.665, 0.71), (0.02, 0.302, 0.34)]
)
def test_the_same_two_people_have_a_lower_kappa_where_cells_are_rare(prevalence, kappa, positive):
    right, n = 0.96, 1_000_000
    both = prevalence * right**2 + (1 - prevalence) * (1 - right) ** 2
    one = right * (1 - right)
    first, second = answers(*np.rint(np.array([both, one, one, 1 - both - 2 * one]) * n).astype(int))
    found = agreement(first, second)
    assert found.alike.value == pytest.approx(0.923, abs=5e-4), "agreement stays the same"
    assert found.kappa.value == pytest.approx(kappa, abs=2e-3)
    assert found.positive.value == pytest.approx(positive, abs=5e-3)


def test_the_interval_of_kappa_covers():
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        y = rng.random(200) < 0.3
        first, second = (y ^ (rng.random(200) < 0.06) for _ in range(2))
        kappa = agreement(first, second).kappa
        positive = 0.3 * 0.94 + 0.7 * 0.06
        chance = positive**2 + (1 - positive) ** 2
        true = (0.94**2 + 0.06**2 - chance) / (1 - chance)
        covered.append(kappa.low <= true <= kappa.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_perfect_agreement_of_few_places_is_not_certain():
    first, second = answers(20, 0, 0, 20)
    kappa = agreement(first, second).kappa
    assert (kappa.value, kappa.high) == (1, 1)
    assert 0.75 < kappa.low < 0.9
    assert agreement(*answers(200, 0, 0, 200)).kappa.low > 0.97, "control: many places"


def test_weights_of_a_stratified_repeat_count():
    first, second = answers(30, 10, 10, 50)
    stratum = np.where(first | second, 0, 1)
    design = audit_design(stratum, np.where(stratum, 100.0, 2.0))
    found = agreement(first, second, design)
    weight = np.where(stratum, 100.0, 2.0)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second, sample_weight=weight))
    assert found.alike.value > agreement(first, second).alike.value


def test_where_all_answers_are_one_class_kappa_is_unknown():
    assert np.isnan(agreement(*answers(0, 0, 0, 30)).kappa.value)
    message = r"^Agreement needs places with two answers; got 1\. Let 50 or more come back unseen\.$"
    with pytest.raises(ValueError, match=message):
        agreement(np.ones(1, bool), np.ones(1, bool))
