import numpy as np
import pytest

from cellkit.estimates import (
    Curve,
    Design,
    Forecast,
    Interval,
    advise,
    f1_bound,
    f1_errors,
    fit_curve,
    forecast_error,
    metric_differences,
)

LABELS = np.array([50, 100, 150, 200, 250])


def networks(rng, *, left=0.05, noise=0.005, n=400):
    """Calls of five networks whose errors fall as left + 1.5 * labels ** -0.6, mostly on the same places."""
    truth, hard = rng.random(n) < 0.4, rng.random(n)
    calls = []
    for labels in LABELS:
        share = left + 1.5 * labels**-0.6 + rng.normal(0, noise)
        calls.append(truth ^ (np.where(rng.random(n) < 0.8, hard, rng.random(n)) < share))
    return truth, np.array(calls), Design(np.zeros(n, dtype=int), np.array([1e6]))


def test_a_learning_curve_is_found_again():
    a, b, power = fit_curve(LABELS, (0.05 + 2 * LABELS**-0.8)[None])[0]
    assert (a, b, power) == pytest.approx((0.05, 2, 0.8), rel=0.06)
    a, b, power = fit_curve(LABELS, np.full((1, 5), 0.2))[0]
    assert a + b * 1000**-power == pytest.approx(0.2), "a flat curve"
    rising = fit_curve(LABELS, np.linspace(0.1, 0.3, 5)[None])[0]
    assert rising[1] == pytest.approx(0), "errors that rise forecast no change"
    assert (fit_curve(LABELS, (LABELS**-1.0 - 0.001)[None])[0] >= 0).all(), "no error is below 0"


def test_a_forecast_covers_what_further_labels_bring():
    rng, covered, widths = np.random.default_rng(0), [], []
    for seed in range(60):
        truth, calls, design = networks(rng)
        errors, again = f1_errors(truth, calls, design, seed=seed)
        found = forecast_error(LABELS, errors, again, ahead=50, seed=seed)
        now, then = (0.05 + 1.5 * n**-0.6 for n in (250, 300))
        true = [1 - 0.8 * (1 - e) / (0.8 * (1 - e) + e) for e in (now, then)]
        covered.append(found.change.low <= true[1] - true[0] <= found.change.high)
        widths.append(found.change.half_width)
    assert np.mean(covered) >= 0.88
    assert np.mean(widths) < 0.01, "control: within a point"


def test_errors_drawn_again_are_paired():
    truth, calls, design = networks(np.random.default_rng(1))
    errors, again = f1_errors(truth, calls, design)
    difference = metric_differences(truth, calls[0], calls[-1], design)["F1"]
    assert errors[0] - errors[-1] == pytest.approx(difference.value)
    low, high = np.quantile(again[:, 0] - again[:, -1], [0.025, 0.975])
    assert (high - low) / 2 == pytest.approx(difference.half_width, rel=0.15)


def test_three_rounds_forecast_nothing():
    message = r"^A forecast needs 4 rounds with different numbers of labels; got 3\. Label on\.$"
    with pytest.raises(ValueError, match=message):
        forecast_error(np.array([50, 100, 150, 150]), np.full(4, 0.2), np.full((9, 4), 0.2))


def test_the_bound_on_f1_by_agreement():
    assert f1_bound(0.99) == pytest.approx(0.0404, abs=1e-4)
    assert f1_bound(1) == 0
    assert f1_bound(0) == np.inf


def forecast(gain):
    return Forecast(Curve(0.1, 1.0, 0.5), 50, Interval(-gain, -gain - 0.003, -gain + 0.003))


def test_one_advice_with_its_numbers():
    narrow, wide = Interval(1000, 930, 1080), Interval(1000, 800, 1250)
    found = advise([0.97, 0.99, 0.992, 0.995], forecast(0.002), narrow, answers=400)
    assert found.stop
    assert found.sentence == (
        "Stop labelling: the last two networks agree with kappa 0.995; 50 more labels are expected to bring "
        "0.2 points of F1 (-0.1 to 0.5); the count is known to ±8%."
    )
    assert found.numbers["gain_high"] == pytest.approx(0.005)
    found = advise([0.995] * 3, None, wide, answers=400)
    assert not found.stop, "a count that is asked for must be narrow"
    assert found.sentence.startswith("Label no more to train, but about 1,625 more places of the audit: ")
    found = advise([0.97, 0.98], forecast(0.03), wide, answers=400)
    assert found.sentence.startswith("Go on labelling to train and about 1,625 more places of the audit: ")
    assert advise([0.995, 0.995], None, narrow, answers=400).stop is False, "two rounds are too few"
    assert advise([0.9, 0.9, 0.9], forecast(0.001), None).stop is True, "a flat curve is enough"
    assert advise([], None, None).sentence == "Go on labelling to train: no sign is known yet."
