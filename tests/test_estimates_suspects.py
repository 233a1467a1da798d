import numpy as np
import pytest
import simulated as sim
from estimates import canary_trials, suspect_trials

from cellkit.estimates import canary, out_of_fold, suspect_labels


def test_suspects_by_hand():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    p = np.array([0.9, 0.8, 0.9, 0.1, 0.2, 0.1, 0.2, 0.95])
    # cells count from 0.675 on, artefacts up to 0.3625: rows 3 and 7 are surely of the other class
    found = suspect_labels(labels, p)
    assert found.rows.tolist() == [7, 3]
    assert found.margin[[0, 3, 7]] == pytest.approx([0.8, -0.8, -0.9])
    assert len(suspect_labels(labels, np.where(labels, 0.9, 0.1)).rows) == 0, "control: none is wrong"


def test_wrong_labels_are_found_and_few_right_ones_are_flagged():
    precision, recall = suspect_trials(repeats=5, auc=0.99)
    assert precision >= 0.72
    assert recall >= 0.8
    precision, recall = suspect_trials(repeats=5, auc=0.96)
    assert precision >= 0.42
    assert recall >= 0.7
    assert suspect_trials(repeats=3, auc=0.99, wrong=0.002)[0] < 0.5, "control: hardly any to find"


def test_a_label_does_not_teach_its_own_probability():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 40)), rng.random(300) < 0.5
    p = out_of_fold(features, labels, np.arange(300))
    assert abs(np.mean((p > 0.5) == labels) - 0.5) < 0.1
    twins = np.repeat(features, 2, axis=0)
    alone = out_of_fold(twins, np.repeat(labels, 2), np.arange(600), strength=100)
    assert np.mean((alone > 0.5) == np.repeat(labels, 2)) > 0.55, "control: a twin in another group leaks"


def test_out_of_fold_needs_two_groups_and_both_classes():
    message = (
        r"^Out-of-fold probabilities need 2 groups and 2 labels of each class; "
        r"got 1 groups and 3 labels of the rarer class\. Label more\.$"
    )
    with pytest.raises(ValueError, match=message):
        out_of_fold(np.zeros((6, 2)), np.arange(6) < 3, np.zeros(6))


@pytest.mark.parametrize(
    "by, split, leaks",
    [
        ("group", "group", False),
        ("group", "cube", True),
        ("animal", "animal", False),
        ("animal", "group", True),
    ],
)
def test_random_labels_are_learnt_across_a_split_that_leaks_and_across_no_other(by, split, leaks):
    learnt = canary_trials(by, split, repeats=3).mean()
    assert learnt > 0.9 if leaks else learnt <= {"group": 0.55, "animal": 0.65}[by]


def test_a_canary_says_whether_the_split_passes():
    rng = np.random.default_rng(1)
    cubes = sim.overlapping_cubes(rng)
    for split, passes in [("group", True), ("cube", False)]:
        judged = sim.held_out(cubes.units[split], rng)
        assert canary(cubes.features, cubes.units["group"], ~judged, judged).passes is passes


def test_a_canary_without_a_split_is_refused():
    message = (
        r"^Random labels need both sides of a split and 3 units; got 4 that train, 0 judged, 4 units\. "
        r"Label more\.$"
    )
    with pytest.raises(ValueError, match=message):
        canary(np.zeros((4, 2)), np.arange(4), np.ones(4, bool), np.zeros(4, bool))
    with pytest.raises(
        ValueError, match=r"^Random labels are given by one of group, animal; got 'cube'\. Choose one\.$"
    ):
        canary(np.zeros((4, 2)), np.arange(4), np.ones(4, bool), np.ones(4, bool), by="cube")
