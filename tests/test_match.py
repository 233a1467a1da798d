import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from cellkit.match import Score, attach_labels, categories, group_points, match_points, score_points

points = st.integers(0, 9).flatmap(lambda n: arrays(float, (n, 3), elements=st.integers(0, 6).map(float)))


def distances(found, true):
    return np.linalg.norm(found[:, None] - true[None], axis=2)


@given(points, points, st.floats(0.5, 5))
def test_the_most_pairs_and_of_those_the_nearest(found, true, within_um):
    match = match_points(found, true, within_um=within_um)
    assert len(set(match.found)) == len(set(match.true)) == len(match.found)
    assert (np.diff(match.found) > 0).all()
    far = distances(found, true)
    paired = far[match.found, match.true]
    assert (paired <= within_um).all()
    dear = np.where(far <= within_um, far, 1000.0)
    best = dear[linear_sum_assignment(dear)] if far.size else np.empty(0)
    assert len(paired) == (best < 1000).sum()
    assert paired.sum() == pytest.approx(best[best < 1000].sum())


@given(points, points, st.floats(0.5, 5))
def test_it_does_not_matter_which_points_are_called_true(found, true, within_um):
    one, other = (match_points(*both, within_um=within_um) for both in [(found, true), (true, found)])
    assert len(one.found) == len(other.found)
    far = distances(found, true)
    assert far[one.found, one.true].sum() == pytest.approx(far[other.true, other.found].sum())


def test_a_greedy_choice_of_the_nearest_would_lose_a_pair():
    found, true = np.array([[0, 0, 0], [0, 0, 3.0]]), np.array([[0, 0, 2.0], [0, 0, 6.0]])
    match = match_points(found, true, within_um=3.0)
    assert match.found.tolist() == match.true.tolist() == [0, 1]


def test_a_whole_number_of_micrometres_is_a_length_too():
    found, true = np.array([[0, 0, 0.0]]), np.array([[0, 0, 9.76], [0, 0, 9.66]])
    assert match_points(found, true, within_um=10).true.tolist() == [1]


def test_points_at_the_same_place_match_once_each():
    same = np.zeros((3, 3))
    assert len(match_points(same, same[:2], within_um=1).found) == 2


def test_nothing_matches_nothing():
    none, one = np.empty((0, 3)), np.zeros((1, 3))
    for found, true in [(none, one), (one, none), (none, none)]:
        assert len(match_points(found, true, within_um=1).found) == 0
    assert len(match_points(one, one + 5, within_um=1).found) == 0


def test_tissue_so_dense_that_all_hangs_together_is_matched_in_little_memory():
    """A table of 30,000 by 10,000 distances would fill 2.4 GB; only some 70,000 pairs are near."""
    rng = np.random.default_rng(0)
    true = rng.random((10_000, 3)) * 270
    found = np.concatenate([true + rng.normal(0, 1, true.shape), rng.random((20_000, 3)) * 270])
    order = rng.permutation(len(found))
    match = match_points(found[order], true, within_um=10)
    assert len(match.true) == 10_000
    assert (order[match.found] == match.true).mean() > 0.9


def test_a_score_counts_hits_once():
    found, true = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 50.0]]), np.array([[0, 0, 0.4], [0, 9, 9]])
    score = score_points(found, true, within_um=2)
    assert score == Score(hits=1, found=3, true=2)
    assert (score.precision, score.recall, score.f1) == (1 / 3, 1 / 2, 2 / 5)
    assert all(np.isnan([Score(0, 0, 0).precision, Score(0, 0, 0).recall, Score(0, 0, 0).f1]))


@given(points, st.floats(0.5, 4))
def test_founders_are_apart_and_all_others_near_one(places, within_um):
    founder = group_points(places, within_um=within_um)
    assert len(founder) == len(places)
    far = distances(places, places)
    assert (far[np.arange(len(places)), founder] <= within_um).all()
    kept = np.unique(founder)
    apart = far[np.ix_(kept, kept)] + np.where(np.eye(len(kept)), np.inf, 0)
    assert (apart > within_um).all()
    assert (founder[kept] == kept).all()


def label(image, x, answer, frame=0, **columns):
    place = {"id": f"{image}-{x}", "image": image, "frame": frame, "z_um": 0.0, "y_um": 0.0, "x_um": x}
    return place | {"answer": answer, "origin": "random", "weight": 2.0} | columns


def test_labels_lie_in_micrometres_and_candidates_in_voxels():
    candidates = pd.DataFrame({"image": list("aab"), "frame": 0, "z": 0.0, "y": 0.0, "x": [0.0, 5.0, 5.0]})
    labels = pd.DataFrame([label("a", 11.0, "cell"), label("b", 5.5, "artefact"), label("c", 0.0, "cell")])
    voxel_um = {"a": (1, 1, 2.0), "b": (1, 1, 1.0)}
    attached = attach_labels(candidates, labels, voxel_um=voxel_um, within_um=2)
    assert attached["answer"].tolist() == ["", "cell", "artefact"]
    assert attached["label"].tolist() == ["", "a-11.0", "b-5.5"]
    assert attached["weight"].fillna(0).tolist() == [0, 2, 2]
    assert "answer" not in candidates, "control: the table given stays as it was"
    other_frame = attach_labels(candidates.assign(frame=1), labels, voxel_um=voxel_um, within_um=2)
    assert set(other_frame["answer"]) == {""}


def test_one_label_goes_to_one_candidate():
    candidates = pd.DataFrame({"image": "a", "frame": 0, "z": 0.0, "y": 0.0, "x": [0.0, 1.0]})
    labels = pd.DataFrame([label("a", 0.9, "cell")])
    attached = attach_labels(candidates, labels, voxel_um={"a": (1, 1, 1)}, within_um=3)
    assert attached["answer"].tolist() == ["", "cell"]


def test_the_four_categories():
    answers = ["cell", "artefact", "cell", "artefact", "unsure", ""]
    found = categories([True, False, False, True, True, False], answers, ("cell", "artefact"))
    assert found.tolist() == ["correct cell", "correct artefact", "missed cell", "false cell", "", ""]
    on = categories([True, False], ["off", "on"], ("on", "off"))
    assert on.tolist() == ["false on", "missed on"]
    message = r"^An answer must be cell, artefact or unsure; got 'zelle'\. Mend it\.$"
    with pytest.raises(ValueError, match=message):
        categories([True], ["zelle"], ("cell", "artefact"))
