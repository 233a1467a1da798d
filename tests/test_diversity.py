import numpy as np
import pytest
import sampling
from scipy.spatial import KDTree

from cellkit.labels.diversity import farthest_rows, varied_rows

#  three heaps, of 90, 9 and 1 points
HEAPS = np.concatenate([np.zeros((90, 2)), np.full((9, 2), 10.0), [[-10.0, 10.0]]])
HEAPS = HEAPS + np.random.default_rng(0).normal(0, 0.1, HEAPS.shape)


def heap(rows):
    return set(np.digitize(rows, [90, 99]).tolist())


def test_varied_rows_come_from_every_heap_and_random_ones_from_the_largest():
    rng = np.random.default_rng(1)
    assert all(heap(varied_rows(HEAPS, 3, rng)) == {0, 1, 2} for _ in range(20))
    assert heap(farthest_rows(HEAPS, 3)) == {0, 1, 2}
    random = [heap(rng.choice(100, 3, replace=False)) for _ in range(20)]
    assert {0, 1, 2} not in random, "control"


def test_what_is_labelled_already_is_not_chosen_again_in_another_guise():
    rng = np.random.default_rng(2)
    known = HEAPS[[95, 99]] + 0.05
    assert all(heap(varied_rows(HEAPS, 1, rng, known=known)) == {0} for _ in range(20))
    assert heap(farthest_rows(HEAPS, 1, known=known)) == {0}
    without = [heap(farthest_rows(HEAPS, 1))]
    assert without == [{2}], "control: the outlier first"


def test_interest_decides_among_equally_far_rows():
    rng, interest = np.random.default_rng(3), np.zeros(100)
    interest[:5] = 1
    assert set(varied_rows(HEAPS, 5, rng, interest=interest)) == set(range(5))
    assert len(set(varied_rows(HEAPS, 7, rng, interest=interest))) == 7, "then any other"


def test_no_row_is_chosen_twice_and_no_more_than_there_are():
    rng = np.random.default_rng(4)
    twins = np.zeros((6, 2))
    assert sorted(varied_rows(twins, 6, rng)) == list(range(6))
    assert sorted(varied_rows(HEAPS[:4], 9, rng)) == [0, 1, 2, 3]
    assert sorted(farthest_rows(twins, 9)) == list(range(6))
    assert len(varied_rows(HEAPS, 0, rng)) == 0


def test_farthest_rows_leave_nothing_far_from_a_chosen_one():
    points = np.random.default_rng(5).random((400, 2))
    chosen = farthest_rows(points, 40)
    gap = KDTree(points[chosen]).query(points)[0].max()
    random = KDTree(points[np.random.default_rng(6).choice(400, 40, replace=False)]).query(points)[0].max()
    assert gap < 0.16 < 0.2 < random


def test_the_same_seed_chooses_the_same():
    one, other = (varied_rows(HEAPS, 10, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, varied_rows(HEAPS, 10, np.random.default_rng(8))), "control"


@pytest.mark.parametrize("choose", [varied_rows, lambda x, k, _: farthest_rows(x, k)])
def test_the_features_stay_as_they_were(choose):
    before = HEAPS.copy()
    choose(HEAPS, 5, np.random.default_rng(9))
    assert np.array_equal(HEAPS, before)


def test_mixed_batches_reach_with_half_the_labels_what_random_ones_do():
    data = sampling.made_up(np.random.default_rng(0), n=4000)
    curves = {
        way: np.mean([sampling.curve(data, way, seed, budget=300) for seed in range(4)], axis=0)
        for way in ("random", "mixed")
    }
    assert len(curves["random"]) == 14, "40, 60, ... 300 labels"
    assert curves["mixed"][7] > curves["random"][-1] - 0.01, "180 mixed labels against 300 random ones"
    assert curves["mixed"].mean() > curves["random"].mean() + 0.01
