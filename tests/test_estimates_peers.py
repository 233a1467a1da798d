"""Figures that statsmodels, scipy and scikit-learn have too are the same there."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from sklearn.calibration import calibration_curve
from statsmodels.api import WLS
from statsmodels.stats.contingency_tables import mcnemar as peer_mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from cellkit.estimates import (
    Design,
    agreement,
    audit_design,
    calibration_error,
    fit_curve,
    mcnemar,
    reliability,
    spread,
    wilson,
)
from cellkit.estimates.draws import t_quantile
from cellkit.estimates.metrics import metric_parts, ratio


@pytest.mark.parametrize("k, n", [(0, 12), (1, 40), (31, 40), (399, 400), (400, 400)])
def test_wilsons_interval_is_that_of_statsmodels(k, n):
    assert wilson(k, n)[1:] == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize("b, c", [(0, 6), (3, 10), (12, 12), (40, 71)])
def test_mcnemars_exact_test_is_that_of_statsmodels(b, c):
    first = np.repeat([1, 1, 0, 0], [200, b, c, 30]).astype(bool)
    second = np.repeat([1, 0, 1, 0], [200, b, c, 30]).astype(bool)
    peer = peer_mcnemar([[200, b], [c, 30]], exact=True)
    assert mcnemar(first, second) == (b, c, pytest.approx(peer.pvalue), True)


@pytest.mark.parametrize("counts", [(40, 9, 6, 45), (80, 30, 10, 280), (5, 20, 20, 155)])
def test_kappa_and_its_standard_error_are_those_of_statsmodels(counts):
    n = sum(counts)
    first, second = np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)
    peer = cohens_kappa(np.array(counts).reshape(2, 2))
    kappa = agreement(first, second).kappa
    assert kappa.value == pytest.approx(peer.kappa)
    # ours divides by n - 1, and its degrees of freedom come from the fourth moment
    error = float(peer.std_kappa) * np.sqrt(n / (n - 1))
    assert 1.96 * error < kappa.half_width < 2.15 * error
    assert kappa.half_width / error == pytest.approx(t_quantile(_degrees(first, second)), rel=1e-6)


def _degrees(first, second):
    """Return the degrees of freedom that `spread` gives the linearised kappa."""
    a, b, alike = first.mean(), second.mean(), (first == second).astype(float)
    chance = a * b + (1 - a) * (1 - b)
    pull = alike * (1 - chance) - (1 - alike.mean()) * (first * (2 * b - 1) + second * (2 * a - 1))
    return spread(
        pull, Design(np.zeros(len(first), int), np.array([float(len(first))])), finite=False
    ).degrees


def test_a_mean_and_its_error_are_those_of_statsmodels():
    values = np.random.default_rng(0).gamma(2, size=90)
    peer = DescrStatsW(values)
    found = spread(values, Design(np.zeros(90, dtype=int), np.array([1e12])))
    assert found.mean == pytest.approx(peer.mean)
    assert np.sqrt(found.variance) == pytest.approx(peer.std_mean)


def test_recall_over_animals_has_the_error_of_a_cluster_robust_regression():
    rng = np.random.default_rng(1)
    animal = np.repeat(np.arange(6), 50)
    truth = rng.random(300) < 0.4
    called = truth & (rng.random(300) < np.array([0.95, 0.9, 0.7, 0.85, 0.6, 0.8])[animal])
    stratum = 2 * animal + rng.integers(0, 2, 300)
    design = audit_design(stratum, np.where(stratum % 2, 20.0, 3.0))
    found = ratio(*metric_parts(truth, called)["recall"], design, animals=animal)
    peer = WLS(called[truth].astype(float), np.ones(truth.sum()), weights=design.weights[truth]).fit(
        cov_type="cluster", cov_kwds={"groups": animal[truth]}
    )
    value, error = float(peer.params[0]), float(peer.bse[0])
    assert found.value == pytest.approx(value)
    effective = value * (1 - value) / error**2
    assert found == pytest.approx(wilson(value * effective, effective, t=t_quantile(5)))


def test_bins_of_like_p_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    p = rng.permutation(np.linspace(0.01, 0.99, 500))
    y = rng.random(500) < p**2
    share, mean = calibration_curve(y, p, n_bins=10, strategy="quantile")
    found = reliability(y, p, np.ones(500))
    assert found.share == pytest.approx(share)
    assert found.p == pytest.approx(mean)
    error = calibration_error(y, p, np.ones(500))
    assert error.value == pytest.approx(np.abs(share - mean).mean()), "bins of fifty each"
    assert not error.passes


def test_a_learning_curve_is_that_of_scipy():
    labels = np.array([50.0, 100, 200, 400, 800, 1600])
    errors = 0.12 + 2.5 * labels**-0.7 + np.array([4, -3, 2, -2, 1, -1]) * 1e-3
    peer, _ = curve_fit(
        lambda n, a, b, c: a + b * n**-c, labels, errors, p0=(0.1, 1, 0.5), bounds=([0, 0, 0.1], [1, 99, 2])
    )
    a, b, power = fit_curve(labels, errors[None])[0]
    assert power == pytest.approx(peer[2], rel=0.05), "ours looks at 40 powers"
    at = np.array([75.0, 300, 3000])
    assert a + b * at**-power == pytest.approx(peer[0] + peer[1] * at ** -peer[2], abs=2e-3)
