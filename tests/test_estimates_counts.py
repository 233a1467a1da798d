import numpy as np
import pytest
import simulated as sim
from estimates import count_trials, said

from cellkit.estimates import (
    Design,
    Rates,
    adjusted_share,
    answers_needed,
    audit_design,
    changed_prevalence,
    check_probabilities,
    check_rates,
    powered_share,
    spread,
    stratified_share,
)

TWO_STRATA = Design(np.array([0] * 4 + [1] * 5), np.array([100.0, 900.0]))
ONE_OF_EACH = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0], dtype=bool)


@pytest.mark.parametrize("world", [sim.WORLDS[0], sim.WORLDS[8]], ids=lambda world: world.name)
def test_corrected_counts_are_without_bias_cover_and_are_worth_seven_random_labels(world):
    trials, _ = count_trials(world, repeats=60, seed=1)
    found = said(trials)
    ours = found["stratified"]
    assert abs(ours["bias"]) < 0.02 + 3 * ours["rmse"] / np.sqrt(60)
    assert ours["cover"] >= 0.88
    assert (found["random"]["rmse"] / ours["rmse"]) ** 2 > 5
    assert found["powered"]["rmse"] < 1.05 * ours["rmse"]
    assert found["powered"]["cover"] >= 0.88


def test_a_useless_network_gets_no_influence():
    y, half = ONE_OF_EACH, np.array([0.5, 0.5])
    plain = stratified_share(y, TWO_STRATA)
    assert powered_share(y, np.where(y, 0.1, 0.9), TWO_STRATA, half) == plain, "wrong everywhere"
    assert powered_share(y, np.full(9, 0.5), TWO_STRATA, half) == plain, "says the same of all"
    assert powered_share(y, np.where(y, 0.6, 0.3), TWO_STRATA, half) != plain, "control"


def test_a_network_that_knows_everything_leaves_no_error_but_its_own_mean():
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.3
    drawn = rng.choice(5000, 200, replace=False)
    design = Design(np.zeros(200, dtype=int), np.array([5000.0]))
    q = np.clip(truth + rng.normal(0, 0.05, 5000), 0, 1)
    found = powered_share(truth[drawn], q[drawn], design, np.array([q.mean()]))
    assert found.value == pytest.approx(truth.mean(), abs=0.01)
    assert found.half_width < 0.2 * stratified_share(truth[drawn], design).half_width


def test_power_tuning_by_hand():
    y, q = np.array([1, 1, 0, 0], bool), np.array([0.8, 0.6, 0.4, 0.2])
    design = Design(np.zeros(4, dtype=int), np.array([1e9]))
    trust = np.cov(y, q)[0, 1] / np.var(q, ddof=1)
    found = powered_share(y, q, design, np.array([0.45]))
    assert trust > 1, "clipped"
    assert found.value == pytest.approx(0.5 + 0.45 - 0.5)
    q = np.array([0.9, 0.3, 0.7, 0.1])
    trust = np.cov(y, q)[0, 1] / np.var(q, ddof=1)
    assert 0 < trust < 1
    found = powered_share(y, q, design, np.array([0.45]))
    assert found.value == pytest.approx(0.5 + trust * (0.45 - q.mean()))


def test_an_adjusted_share_by_hand():
    # 30 % called, 90 % of cells and 10 % of artefacts: (0.3 - 0.1) / (0.9 - 0.1) = 0.25
    found = adjusted_share(300, 1000, Rates(90, 100, 20, 200))
    variance = (0.3 * 0.7 / 1000 + 0.25**2 * 0.09 / 100 + 0.75**2 * 0.09 / 200) / 0.8**2
    half = 1.96 * np.sqrt(variance)
    assert found == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-4)
    assert adjusted_share(50, 1000, Rates(90, 100, 20, 200)).value == 0, "a share ends at 0"


def test_error_rates_that_say_nothing_are_refused():
    message = (
        r"^An adjusted count needs a network that calls cells at least 50 points more often than artefacts; "
        r"this one calls 60 % and 30 %\. Use the stratified count of an audit\.$"
    )
    with pytest.raises(ValueError, match=message):
        adjusted_share(300, 1000, Rates(60, 100, 30, 100))
    message = r"^Error rates need labels of both classes; got 0 cells and 5 artefacts\. Label some .*\.$"
    with pytest.raises(ValueError, match=message):
        adjusted_share(300, 1000, Rates(0, 0, 1, 5))


def test_a_changed_prevalence_is_found_again_where_nothing_else_has_changed():
    rng = np.random.default_rng(1)
    y, p, q = sim.populate(sim.World(0.05), rng)
    share, corrected = changed_prevalence(p)
    assert share == pytest.approx(y.mean(), rel=0.05)
    assert corrected.mean() == pytest.approx(share, rel=1e-6), "p now agrees with itself"
    assert p.mean() > 1.5 * y.mean(), "control: trained on as many cells as artefacts"
    assert np.array_equal(q, corrected)
    with pytest.raises(
        ValueError, match=r"^`trained` is the share of cells among the labels, between 0 and 1; got 1\. .*\.$"
    ):
        changed_prevalence(p, trained=1)


def test_a_perfectly_split_prevalence_by_hand():
    # two kinds of candidates, p = 0.8 and 0.2 after balanced training; 30 and 70 of them
    share, q = changed_prevalence(np.repeat([0.8, 0.2], [30, 70]))
    # likelihood 30 log(4 s + 1 - s) + 70 log(s / 4 + 1 - s): its top lies at (0.3 - 0.2) / (0.8 - 0.2)
    assert share == pytest.approx(1 / 6, abs=1e-6)
    assert q[0] == pytest.approx(4 / 6 / (4 / 6 + 5 / 6))


@pytest.mark.parametrize("world", sim.WORLDS[3:6], ids=lambda world: world.name)
def test_probabilities_are_doubted_where_more_than_the_prevalence_differs(world):
    rng, doubted, off = np.random.default_rng(2), [], []
    for seed in range(40):
        y, _, q = sim.populate(world, rng, n=20_000)
        rows, design, _ = sim.audit(q, 400, rng)
        check = check_probabilities(y[rows], q[rows], design, seed=seed)
        doubted.append(not check.holds)
        off.append(check.difference.value)
    assert np.mean(doubted) > 0.9 if world.name != "10% plain" else np.mean(doubted) < 0.2
    expected = {"10% plain": 0, "10% shift": 0.038, "10% over-confident": 0.014}[world.name]
    assert np.mean(off) == pytest.approx(expected, abs=0.005)


def test_error_rates_are_doubted_where_everything_looks_more_like_a_cell():
    def doubts(world):
        rng, doubted = np.random.default_rng(3), []
        for _ in range(40):
            y, p, q = sim.populate(world, rng, n=20_000)
            rows, design, _ = sim.audit(q, 400, rng)
            check = check_rates(y[rows], p[rows] > 0.5, design, sim.error_rates(rng))
            doubted.append(not check.holds)
        return np.mean(doubted)

    assert doubts(sim.World(0.1, shift=1.5)) > 0.75
    assert doubts(sim.World(0.1)) < 0.15, "control: nothing but the prevalence differs"


def test_the_answers_needed_bring_the_interval_to_the_wished_width():
    y = np.arange(200) < 60
    design = audit_design(np.zeros(200), np.full(200, 1e6))
    half = stratified_share(y, design).half_width
    assert answers_needed(y, design, half / 2) == pytest.approx(600, rel=0.03)
    assert answers_needed(y, design, 2 * half) == 0
    small = audit_design(np.zeros(200), np.full(200, 2.0))
    assert answers_needed(y, small, half / 10) <= 200, "no more than are left"
    later = Design(np.zeros(200, dtype=int), np.array([400.0]))
    more = answers_needed(y, later, spread(y, later).reach / 2)
    assert more < 130, "in a small frame few are needed: 200 more would leave no error"
    with pytest.raises(
        ValueError, match=r"^The wished half-width must be above 0; got 0\. Say how wide .*\.$"
    ):
        answers_needed(y, design, 0)


def test_answers_needed_where_no_cell_was_seen_follow_the_rule_of_three():
    y, design = np.zeros(300, bool), audit_design(np.zeros(300), np.full(300, 1000.0))
    assert answers_needed(y, design, 0.001) == 2700, "3 / 3000 is 0.001"
