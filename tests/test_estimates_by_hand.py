"""Small cases worked out by hand, of estimators whose other tests are simulations or other programs."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from scipy.stats import t as student

from cellkit.estimates import (
    Design,
    Rates,
    average_precision,
    brier_score,
    calibration_error,
    check_probabilities,
    check_rates,
    detector_recall,
    f1_errors,
    mcnemar,
    powered_share,
    spread,
    told_apart,
    wilson,
)
from cellkit.measuring.strata import expected_half_width

TWO = Design(np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([100.0, 300.0]))


def one_stratum(n, candidates=1e9):
    return Design(np.zeros(n, dtype=int), np.array([candidates]))


def degrees(values):
    """Return the degrees of freedom of one stratum, from its fourth moment."""
    n, off = len(values), values - values.mean()
    peaked = (off**4).mean() / (off**2).mean() ** 2
    return 2 / max(2 / (n - 1), (peaked - 1 + 2 / (n - 1)) / n)


def test_the_weighted_paired_test():
    first = np.array([1, 1, 0, 0, 1, 0, 1, 1], bool)
    second = np.array([1, 1, 1, 1, 0, 1, 1, 1], bool)
    # second minus first: 0 0 1 1 of 100 candidates, -1 1 0 0 of 300
    mean = 0.25 * 0.5 + 0.75 * 0.0
    one, two = 0.25**2 * 0.25 / 3, 0.75**2 * 0.5 / 3
    doubt = max(2 / 3, (1 - 1 + 2 / 3) / 4), max(2 / 3, (2 - 1 + 2 / 3) / 4)
    free = 2 * (one + two) ** 2 / (one**2 * doubt[0] + two**2 * doubt[1])
    expected = 2 * student.sf(mean / np.sqrt(one + two), free)
    assert mcnemar(first, second, TWO) == (1, 3, pytest.approx(expected), False)


def test_the_recall_of_the_detector_with_its_interval():
    hits, cells, chance = np.array([3, 4, 2, 5]), np.array([4, 4, 3, 5]), np.array([0.1, 0.2, 0.1, 0.2])
    top, bottom = 30 + 20 + 20 + 25, 40 + 20 + 30 + 25
    value = top / bottom
    off = (hits - value * cells) / chance / (bottom / 4)
    variance = (off**2).sum() / 4 / 3
    n = value * (1 - value) / variance
    expected = wilson(value * n, n, t=student.ppf(0.975, degrees(off)))
    assert detector_recall(hits, cells, chance) == pytest.approx(expected)


def test_a_prediction_powered_share_of_two_strata():
    y, q = np.array([1, 0, 1, 0, 0, 0, 1, 0], bool), np.array([0.9, 0.2, 0.7, 0.4, 0.1, 0.3, 0.8, 0.2])
    share, left = np.array([0.25, 0.75]), np.array([0.96, 1 - 4 / 300])
    part = share**2 * left / 4 / 3
    of = [slice(0, 4), slice(4, 8)]
    cov = sum(part[h] * ((y[s] - y[s].mean()) * (q[s] - q[s].mean())).sum() for h, s in enumerate(of))
    trust = min(1, cov / sum(part[h] * ((q[s] - q[s].mean()) ** 2).sum() for h, s in enumerate(of)))
    led = np.array([0.5, 0.3])
    expected = sum(share[h] * (y[s].mean() + trust * (led[h] - q[s].mean())) for h, s in enumerate(of))
    assert powered_share(y, q, TWO, led).value == pytest.approx(expected)


def test_average_precision_and_brier():
    y, p = np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.6, 0.5])
    assert average_precision(y, p, one_stratum(4)).value == pytest.approx((1 + 2 / 3) / 2)
    off = np.array([0.01, 0.01, 0.36, 0.25])
    value, variance = off.mean(), off.var(ddof=1) / 4
    n = value * (1 - value) / variance
    expected = wilson(value * n, n, t=student.ppf(0.975, degrees(off)))
    assert brier_score(y, p, one_stratum(4)) == pytest.approx(expected)


def test_a_calibration_error_and_what_chance_makes_of_it():
    y, p = np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.6, 0.8])
    found = calibration_error(y, p, np.ones(4), bins=2)
    assert found.value == pytest.approx((abs(0.5 - 0.2) + abs(1 - 0.7)) / 2)
    errors, chances = [], []
    for answers in product((0, 1), repeat=4):
        told = np.array(answers)
        errors.append((abs((told - p)[:2].sum()) + abs((told - p)[2:].sum())) / 4)
        chances.append(np.prod(np.where(told, p, 1 - p)))
    below = sum(chance for error, chance in zip(errors, chances, strict=True) if error <= found.chance + 1e-9)
    assert below >= 0.93, "nineteen times in twenty, up to the error of a thousand draws"
    assert min(abs(error - found.chance) for error in errors) < 1e-9, "one of the sixteen that there are"


def test_probabilities_are_doubted_by_their_exact_chance():
    y, q = np.array([1, 1], bool), np.array([0.2, 0.4])
    # cells seen less expected, squared: 0.36 of none, 0.16 of one, 1.96 of two
    found = check_probabilities(y, q, one_stratum(2))
    assert found.probability == pytest.approx(0.2 * 0.4, abs=0.02)
    assert check_probabilities(~y, q, one_stratum(2)).probability == pytest.approx(0.08 + 0.48, abs=0.04)
    one = np.array([True, False])
    assert check_probabilities(one, q, one_stratum(2)).probability == 1, "nothing disagrees less"
    assert check_probabilities(~one, q, one_stratum(2)).probability == 1, "nor does the other one"


def test_error_rates_are_doubted_by_chi_square():
    y = np.repeat([True, False], [10, 20])
    called = np.concatenate([np.arange(10) < 6, np.arange(20) < 4])
    rates = Rates(90, 100, 20, 200)
    off = 0.0
    for here, n, rate, behind in ((0.6, 10, 0.9, 100), (0.2, 20, 0.1, 200)):
        seen, expected = 30 * here * (1 - here) / (n * 29), rate * (1 - rate)
        off += (here - rate) ** 2 / (max(seen, expected / n) + expected / behind)
    found = check_rates(y, called, one_stratum(30), rates)
    assert found.probability == pytest.approx(chi2.sf(off, 2))
    contrast = (called - 0.1) / 0.8 - y
    assert found.difference.value == pytest.approx(contrast.mean())
    assert found.difference.half_width == pytest.approx(spread(contrast, one_stratum(30)).reach)


def test_the_error_of_two_rounds():
    truth = np.array([1, 1, 1, 0, 0], bool)
    calls = np.array([[1, 0, 0, 1, 0], [1, 1, 0, 0, 0]], bool)
    errors, again = f1_errors(truth, calls, one_stratum(5))
    assert errors == pytest.approx([1 - 2 / 5, 1 - 4 / 5])
    assert again.shape == (1000, 2) and np.nanmean(again[:, 0] - again[:, 1]) > 0.2


def test_samples_on_two_sides_of_a_line_are_told_apart_without_fault():
    x = np.linspace(1, 2, 80)[:, None]
    assert told_apart(-x, x) == 1.0


def test_the_half_width_that_an_audit_will_have():
    strata = pd.DataFrame({"group": "a", "stratum": "s", "in_group": 40, "p": np.repeat([0.2, 0.4], 200)})
    mean = 0.3
    variance = 400**2 * (1 - 40 / 400) * mean * (1 - mean) / 40
    assert expected_half_width(strata) == pytest.approx(1.959964 * np.sqrt(variance) / (400 * mean))
