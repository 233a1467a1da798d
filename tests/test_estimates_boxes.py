import numpy as np
import pytest
from estimates import box_trials, said

from cellkit.estimates import (
    Interval,
    add_intervals,
    box_chances,
    detector_recall,
    draw_boxes,
    missed_total,
    ratio_total,
)


def test_boxes_with_more_candidates_are_drawn_more_often():
    assert box_chances(np.array([0, 2, 4])) == pytest.approx(np.array([1, 3, 5]) / 9)
    assert box_chances(np.zeros(4)) == pytest.approx(np.full(4, 0.25))
    drawn, chance = draw_boxes(np.array([0, 2, 4]), 9000, np.random.default_rng(0))
    assert np.bincount(drawn) == pytest.approx([1000, 3000, 5000], rel=0.1)
    assert chance == pytest.approx(box_chances(np.array([0, 2, 4]))[drawn])


def test_totals_by_hand():
    chance = np.array([0.1, 0.2, 0.1, 0.4])
    missed = np.array([1, 0, 0, 2])
    found = missed_total(missed, chance)
    assert found.value == pytest.approx((10 + 0 + 0 + 5) / 4)
    error = np.std([10, 0, 0, 5], ddof=1) / 2
    times = np.exp(3.1824 * error / 3.75)  # Student's t at 3 degrees of freedom
    assert found == pytest.approx((3.75, 3.75 / times, 3.75 * times), rel=1e-4)
    cells, hits = np.array([2, 4, 1, 10]), np.array([1, 4, 1, 8])
    recall = detector_recall(hits, cells, chance)
    assert recall.value == pytest.approx((10 + 20 + 10 + 20) / (20 + 20 + 10 + 25))
    assert 0 < recall.low < recall.value < recall.high < 1
    total = ratio_total(cells, np.array([2, 5, 1, 9]), chance, 100)
    each = (20 + 20 + 10 + 25) / (20 + 25 + 10 + 22.5)
    off = (cells - each * np.array([2, 5, 1, 9])) / chance / np.mean([20, 25, 10, 22.5])
    half = 3.1824 * 100 * np.std(off, ddof=1) / 2
    assert total == pytest.approx((100 * each, 100 * each - half, 100 * each + half), rel=1e-4)


def test_boxes_in_which_nothing_was_missed_do_not_prove_that_nothing_is():
    found = missed_total(np.zeros(40), np.full(40, 0.001))
    assert found == (0, 0, pytest.approx(75)), "3 in 40, of a thousand boxes"
    assert detector_recall(np.full(40, 2), np.full(40, 2), np.full(40, 0.001)).low == pytest.approx(
        0.954, abs=2e-3
    )


def test_the_sum_of_independent_estimates_adds_squares():
    total = add_intervals(Interval(100, 70, 120), Interval(10, 6, 25))
    assert total == pytest.approx((110, 110 - np.hypot(30, 4), 110 + np.hypot(20, 15)))


def test_forty_boxes_cover_the_cells_that_the_detector_missed():
    found = said(box_trials(repeats=300))
    for name in ("missed", "recall", "ratio total", "count with misses"):
        assert abs(found[name]["bias"]) < 0.01 + 3 * found[name]["rmse"] / np.sqrt(300), name
        assert 0.92 <= found[name]["cover"] <= 0.985, name
    assert found["count without"]["cover"] < 0.1, "control: misses left out"


def test_boxes_that_cannot_measure_are_refused():
    message = r"^Missed cells need at least 2 draws from a grid of boxes; got 1 draws of 3 boxes\. Draw 40\.$"
    with pytest.raises(ValueError, match=message):
        draw_boxes(np.ones(3), 1, np.random.default_rng(0))
    message = (
        r"^Boxes measure if each was drawn with a known probability, and 2 at least were; "
        r"1 of 2 have none\. Draw them with draw_boxes\.$"
    )
    with pytest.raises(ValueError, match=message):
        missed_total(np.ones(2), np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match=r"^Recall needs marked cells; the 2 boxes hold none\. .*\.$"):
        detector_recall(np.zeros(2), np.zeros(2), np.full(2, 0.1))
    with pytest.raises(
        ValueError, match=r"^A ratio needs something detected; the 2 boxes hold nothing\. .*\.$"
    ):
        ratio_total(np.ones(2), np.zeros(2), np.full(2, 0.1), 5)
