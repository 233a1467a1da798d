import numpy as np
import pytest
import simulated as sim
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from cellkit.estimates import (
    Design,
    audit_design,
    basis,
    calibration_error,
    confusion,
    hidden_share,
    horvitz_thompson,
    mcnemar,
    metric_differences,
    n_more,
    pooled_total,
    ratio,
    reliability,
    spread,
    stratified_share,
    stratified_total,
    weighted_metrics,
    wilson,
)

TWO_STRATA = Design(np.array([0] * 4 + [1] * 5), np.array([100.0, 900.0]))
ONE_OF_EACH = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0], dtype=bool)


def test_wilson_agrees_with_scipy_and_needs_no_error_to_have_a_width():
    for k, n in [(0, 5), (3, 10), (95, 100), (400, 400)]:
        peer = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((k / n, peer.low, peer.high), abs=1e-9)
    assert wilson(100, 100).low == pytest.approx(0.963, abs=5e-4)


def test_without_a_place_nothing_can_be_said():
    value, low, high = wilson(0, 0)
    assert np.isnan(value)
    assert (low, high) == (0, 1)


def test_a_stratified_share_by_hand():
    # shares 3/4 and 1/5 of 100 and 900 candidates; variances W^2 (1 - f) p (1 - p) / (n - 1)
    value = 0.1 * 0.75 + 0.9 * 0.2
    one, two = 0.01 * 0.96 * 0.1875 / 3, 0.81 * (1 - 5 / 900) * 0.16 / 4
    found = spread(ONE_OF_EACH, TWO_STRATA)
    assert found.mean == pytest.approx(value)
    assert found.variance == pytest.approx(one + two)
    # of each variance, the relative variance is 2 / (n - 1), or (kurtosis - 1 + 2 / (n - 1)) / n if larger
    first = max(2 / 3, (7 / 3 - 1 + 2 / 3) / 4)
    second = max(2 / 4, (13 / 4 - 1 + 2 / 4) / 5)
    assert found.degrees == pytest.approx(2 * (one + two) ** 2 / (one**2 * first + two**2 * second))
    share = stratified_share(ONE_OF_EACH, TWO_STRATA)
    effective = value * (1 - value) / (one + two)
    t = 2.842  # Student's t at 3.77 degrees of freedom
    assert share == pytest.approx(wilson(value * effective, effective, t=t), abs=1e-3)
    assert stratified_total(ONE_OF_EACH, TWO_STRATA) == pytest.approx([1000 * x for x in share])


def test_a_frame_that_was_labelled_whole_has_no_interval():
    design = audit_design(np.repeat(["a", "b"], [3, 2]), np.ones(5))
    assert stratified_share([True, True, False, False, True], design) == pytest.approx((0.6, 0.6, 0.6))


def test_what_may_hide_follows_the_rule_of_three():
    none_in_the_second = np.array([1, 1, 0, 0] + [0] * 5, dtype=bool)
    assert hidden_share(none_in_the_second, TWO_STRATA) == pytest.approx(0.9 * 3 / 5)
    assert hidden_share(ONE_OF_EACH, TWO_STRATA) == 0, "control: both strata hold one"


def test_an_audit_without_a_cell_still_has_an_upper_end():
    share = stratified_share(np.zeros(9, bool), TWO_STRATA)
    assert (share.value, share.low) == (0, 0)
    assert share.high == pytest.approx(0.1 * 0.75 + 0.9 * 0.6)


def test_horvitz_thompson_by_hand():
    total = horvitz_thompson(np.array([1, 0, 1]), np.array([10.0, 10.0, 2.0]))
    half = 1.95996 * np.sqrt(0.9 * 100 + 0.5 * 4)
    assert total == pytest.approx((12, 12 - half, 12 + half), abs=1e-3)


def test_labels_that_were_not_drawn_do_not_measure():
    message = (
        r"^Every label that measures needs the probability of having been drawn \(weight = 1 / probability, "
        r"at least 1\); 2 of 3 have none\. Measure on an audit: review\.draw_audit\(study\)\.$"
    )
    weight = np.array([10.0, np.nan, 0.0])
    y = np.array([True, False, True])
    for measure in [
        lambda: horvitz_thompson(y, weight),
        lambda: audit_design(np.zeros(3), weight),
        lambda: reliability(y, y, weight),
        lambda: calibration_error(y, y, weight),
        lambda: confusion(y, y, weight),
    ]:
        with pytest.raises(ValueError, match=message):
            measure()


def test_a_stratum_without_answers_is_named():
    stratum, weight = np.repeat(["a · 1", "b · 1"], 3), np.full(6, 10.0)
    answered = np.array([1, 1, 1, 1, 0, 0], bool)
    message = (
        r"^Every stratum of an audit needs 2 answers; 'b · 1' has 1 for 30 candidates\. "
        r"Answer more of the audit: review\.audit_queue\(study\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        audit_design(stratum, weight, answered)
    answered[4] = True
    assert audit_design(stratum, weight, answered).weights.tolist() == [10, 10, 10, 15, 15]
    with pytest.raises(ValueError, match=r"^An audit must hold a place; it is empty\. Draw one: .*\.$"):
        audit_design([], [])


def test_metrics_of_equal_weights_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.random(500) < 0.3
    called = np.where(rng.random(500) < 0.9, truth, ~truth)
    found = weighted_metrics(truth, called, audit_design(np.zeros(500), np.full(500, 7.0)))
    for name, peer in [
        ("precision", precision_score),
        ("recall", recall_score),
        ("F1", f1_score),
        ("accuracy", accuracy_score),
    ]:
        assert found[name].value == pytest.approx(peer(truth, called)), name
        assert found[name].low < found[name].value < found[name].high
    assert found["specificity"].value == pytest.approx(recall_score(~truth, ~called))


def test_metrics_of_unequal_weights_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    truth, called = rng.random((2, 60)) < 0.5
    stratum = np.arange(60) % 2
    weight = np.where(stratum, 50.0, 2.0)
    found = weighted_metrics(truth, called, audit_design(stratum, weight))
    assert found["precision"].value == pytest.approx(precision_score(truth, called, sample_weight=weight))
    assert found["F1"].value == pytest.approx(f1_score(truth, called, sample_weight=weight))


def test_accuracy_of_a_simple_draw_has_nearly_wilsons_interval():
    truth = np.arange(200) < 100
    called = truth ^ (np.arange(200) % 20 == 0)
    found = weighted_metrics(truth, called, audit_design(np.zeros(200), np.full(200, 1e6)))["accuracy"]
    assert found == pytest.approx(wilson(190, 200), abs=4e-3)


def test_a_metric_without_an_error_seen_is_not_certain():
    truth = np.arange(40) < 20
    found = weighted_metrics(truth, truth, audit_design(np.zeros(40), np.full(40, 10.0)))
    assert found["recall"].value == 1
    assert found["recall"].low == pytest.approx(wilson(20, 20).low)


def test_precision_of_a_network_that_calls_nothing_is_unknown():
    truth = np.arange(10) < 5
    found = weighted_metrics(truth, np.zeros(10, bool), audit_design(np.zeros(10), np.full(10, 10.0)))
    assert np.isnan(found["precision"].value)
    assert (found["precision"].low, found["precision"].high) == (0, 1)
    assert found["recall"].value == 0


def test_three_animals_speak_for_others_and_two_do_not():
    rng = np.random.default_rng(2)
    animal = np.repeat(np.arange(5), 60)
    share = np.array([0.95, 0.9, 0.6, 0.85, 0.7])[animal]
    truth = np.ones(300, bool)
    called = rng.random(300) < share
    design = audit_design(animal, np.full(300, 10.0))
    parts = (truth & called).astype(float), truth.astype(float)
    among_these = ratio(*parts, design)
    others = ratio(*parts, design, animals=animal.astype(str))
    assert others.half_width > 3 * among_these.half_width
    assert basis(animal) == "differences between 5 animals: holds for others like them"
    two = animal < 2
    design = audit_design(animal[two], np.full(two.sum(), 10.0))
    parts = parts[0][two], parts[1][two]
    assert ratio(*parts, design, animals=animal[two].astype(str)) == ratio(*parts, design)
    assert basis(animal[two]) == "the draw: holds for these 2 animals"
    assert basis(animal[:60]) == "the draw: holds for this animal"


def rate_of_an_animal(rng, n):
    return rng.random(n) < rng.normal(0.8, 0.08)


def test_intervals_over_three_animals_cover_what_other_animals_have():
    rng, covered, naive = np.random.default_rng(8), [], []
    animal = np.repeat(["a", "b", "c"], 80)
    design = audit_design(animal, np.full(240, 10.0))
    for _ in range(400):
        hits = np.concatenate([rate_of_an_animal(rng, 80) for _ in range(3)]).astype("float64")
        found = ratio(hits, np.ones(240), design, animals=animal)
        covered.append(found.low <= 0.8 <= found.high)
        these = ratio(hits, np.ones(240), design)
        naive.append(these.low <= 0.8 <= these.high)
    assert 0.92 <= np.mean(covered) <= 0.985
    assert np.mean(naive) < 0.8, "control: the draw alone knows nothing of other animals"


def test_a_paired_difference_by_hand_is_the_difference_of_the_metrics():
    rng = np.random.default_rng(3)
    truth = rng.random(400) < 0.4
    first, second = truth ^ (rng.random(400) < 0.2), truth ^ (rng.random(400) < 0.1)
    design = audit_design(np.zeros(400), np.full(400, 1e6))
    found = metric_differences(truth, first, second, design)
    one, two = weighted_metrics(truth, first, design), weighted_metrics(truth, second, design)
    for name, interval in found.items():
        assert interval.value == pytest.approx(two[name].value - one[name].value), name
    b, c = mcnemar(first == truth, second == truth)[:2]
    half = 1.985 * np.sqrt(b + c - (b - c) ** 2 / 400) / 400  # Student's t at 95 degrees of freedom
    assert found["accuracy"] == pytest.approx(
        ((c - b) / 400, (c - b) / 400 - half, (c - b) / 400 + half), abs=5e-4
    )


def test_mcnemar_is_the_binomial_test_of_the_places_on_which_one_is_right():
    first = np.array([1] * 10 + [0] * 3 + [1] * 7 + [0], bool)
    second = np.array([0] * 10 + [1] * 3 + [1] * 7 + [0], bool)
    assert mcnemar(first, second)[:3] == (10, 3, pytest.approx(2 * sum([1, 13, 78, 286]) / 2**13))
    assert mcnemar(first, first).probability == 1


def test_two_equally_good_networks_are_told_apart_one_time_in_twenty():
    rng, test, unweighted, f1 = np.random.default_rng(9), [], [], []
    for _ in range(250):
        y, first, second, design = sim.equal_networks(0.3, 300, rng)
        test.append(mcnemar(first == y, second == y, design).probability < 0.05)
        unweighted.append(mcnemar(first == y, second == y).probability < 0.05)
        difference = metric_differences(y, first, second, design)["F1"]
        f1.append(difference.low > 0 or difference.high < 0)
    assert 0.01 <= np.mean(test) <= 0.09
    assert 0.01 <= np.mean(f1) <= 0.09
    assert np.mean(unweighted) > 0.2, "control: the exact test is misled by a draw that one network decided"


def test_a_draw_that_was_alike_for_all_is_tested_exactly():
    first, second = np.arange(40) < 20, np.arange(40) < 28
    design = audit_design(np.zeros(40), np.full(40, 10.0))
    assert mcnemar(first, second, design) == (0, 8, pytest.approx(2 / 2**8), True)
    unequal = audit_design(np.arange(40) % 2, np.where(np.arange(40) % 2, 10.0, 20.0))
    assert not mcnemar(first, second, unequal).exact


def test_confusion_by_hand():
    truth = np.array([True, True, False, False, False])
    called = np.array([True, False, True, False, False])
    assert confusion(truth, called).tolist() == [[1, 1], [1, 2]]
    assert confusion(truth, called, np.arange(1, 6)).tolist() == [[1, 2], [3, 9]]


def test_half_the_width_needs_four_times_the_labels():
    assert n_more(300, 0.10, 0.05) == 900
    assert n_more(300, 0.04, 0.05) == 0
    with pytest.raises(
        ValueError, match=r"^The wished half-width must be above 0; got 0\. Say how wide .*\.$"
    ):
        n_more(300, 0.1, 0)


def test_an_animal_outside_the_audit_takes_the_shares_of_its_kinds():
    kind = TWO_STRATA.stratum
    total = pooled_total(ONE_OF_EACH, kind, np.array([40, 10]), TWO_STRATA)
    assert total.value == pytest.approx(40 * 0.75 + 10 * 0.2)
    assert 0 < total.low < total.value < total.high <= 50
    message = r"^An audit must hold places of every kind; kind 2 has none\. Merge kinds\.$"
    with pytest.raises(ValueError, match=message):
        pooled_total(ONE_OF_EACH, kind, np.array([40, 10, 1]), TWO_STRATA)


def test_the_pooled_total_of_the_whole_frame_is_the_stratified_total():
    pooled = pooled_total(ONE_OF_EACH, TWO_STRATA.stratum, TWO_STRATA.sizes, TWO_STRATA)
    assert pooled == pytest.approx(stratified_total(ONE_OF_EACH, TWO_STRATA))


def test_a_calibrated_network_passes_and_an_overconfident_one_does_not():
    rng = np.random.default_rng(4)
    evidence = rng.normal(0, 2, 1000)
    y, weight = rng.random(1000) < expit(evidence), np.full(1000, 5.0)
    assert calibration_error(y, expit(evidence), weight).passes
    assert not calibration_error(y, expit(3 * evidence), weight).passes
    bins = reliability(y, expit(evidence), weight)
    assert len(bins.p) == 10
    assert bins.weight.sum() == pytest.approx(5000)
    assert ((bins.low <= bins.p) & (bins.p <= bins.high)).mean() >= 0.8


@pytest.mark.parametrize("world", [sim.WORLDS[0], *sim.WORLDS[3:6]], ids=lambda world: world.name)
def test_intervals_cover_the_truth_in_a_simulated_world(world):
    rng = np.random.default_rng(5)
    covered = {"share": [], "F1": [], "recall": []}
    bias = []
    for _ in range(120):
        y, p, q = sim.populate(world, rng, n=20_000)
        called = p > 0.5
        index, design, _ = sim.audit(q, 400, rng)
        share = stratified_share(y[index], design)
        found = weighted_metrics(y[index], called[index], design)
        bias.append(share.value / y.mean() - 1)
        covered["share"].append(share.low <= y.mean() <= share.high)
        for name, true in [("F1", f1_score(y, called)), ("recall", recall_score(y, called))]:
            covered[name].append(found[name].low <= true <= found[name].high)
    assert abs(np.mean(bias)) < 3 * np.std(bias) / np.sqrt(120) + 0.005
    assert {name: np.mean(each) for name, each in covered.items() if np.mean(each) < 0.89} == {}


def test_control_the_naive_count_is_far_off_where_the_corrected_one_is_not():
    rng = np.random.default_rng(6)
    y, p, q = sim.populate(sim.World(0.02), rng, n=20_000)
    index, design, _ = sim.audit(q, 400, rng)
    assert (p > 0.5).sum() > 2 * y.sum()
    corrected = stratified_total(y[index], design)
    assert corrected.low <= y.sum() <= corrected.high < (p > 0.5).sum()


def test_one_cell_among_many_answers_says_little_about_the_variance():
    y = np.arange(200) == 0
    design = audit_design(np.zeros(200), np.full(200, 100.0))
    found = spread(y, design)
    assert found.degrees == pytest.approx(2, abs=0.1), "and not 199"
    many = spread(np.arange(200) < 100, design)
    assert many.degrees == pytest.approx(199), "control: half of them cells"


def test_a_pooled_total_covers_the_cells_of_an_animal_that_was_hardly_audited():
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(300):
        y = rng.random(20_000) < 0.1
        score = sim.scores(y, rng)
        kind = np.digitize(score, [-1.0, 0.5])
        here = np.arange(20_000) < 1000
        drawn = np.concatenate([rng.choice(np.flatnonzero(kind == h), 150, replace=False) for h in range(3)])
        design = audit_design(kind[drawn], (np.bincount(kind) / 150)[kind[drawn]])
        found = pooled_total(y[drawn], kind[drawn], np.bincount(kind[here], minlength=3), design)
        covered.append(found.low <= y[here].sum() <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98
