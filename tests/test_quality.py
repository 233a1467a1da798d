import re

import numpy as np
import pandas as pd
import pytest
from made_up import SHAPE, make_study, truth_at

from cellkit import annotate
from cellkit.labels.sampling import add_micrometres
from cellkit.measuring import quality
from cellkit.measuring.quality import agreements, check_split, overlap_groups, suspects
from cellkit.review import audit_queue, draw_audit


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


def queue_of(study, n, name="animal-1"):
    return add_micrometres(study, study.candidates(name).head(n)).assign(origin="random", batch="1")


def test_answers_given_twice_say_what_can_be_expected_of_a_network(study):
    queue = queue_of(study, 100)
    cell = np.arange(100) < 50
    annotate.answer(study, queue, np.where(cell, "cell", "artefact").tolist(), "ann")
    assert agreements(study).ceiling is None
    assert agreements(study).sentence.startswith("Nothing was answered twice yet")
    again = np.where(np.arange(100) < 5, ~cell, cell)
    repeat = queue.assign(origin="repeat", batch="2")
    annotate.answer(study, repeat, np.where(again, "cell", "artefact").tolist(), "ann")
    found = agreements(study)
    row = found.table.iloc[0]
    assert (row["first"], row["second"], row["n"]) == ("ann", "ann", 100)
    assert found.ceiling.alike.value == 0.95
    assert found.ceiling.kappa.value == pytest.approx(0.9)
    assert found.ceiling.positive.value == pytest.approx(2 * 45 / 95)
    assert "Of 100 places that came back unseen, 95 % got the same answer; kappa 0.90 (" in found.sentence
    assert "So the F1 of a network can be 0.95 (" in found.sentence


def test_a_correction_after_the_repeat_and_an_unsure_answer_are_no_pair(study):
    queue = queue_of(study, 60)
    annotate.answer(study, queue, "cell", "ann")
    annotate.answer(study, queue.assign(origin="repeat", batch="2"), "cell", "ann")
    assert agreements(study).table["n"].tolist() == [60], "control"
    annotate.answer(study, queue.head(10), "artefact", "ann")
    annotate.answer(study, queue.iloc[50:].assign(origin="repeat", batch="2"), "unsure", "ann")
    assert agreements(study).table["n"].tolist() == [40]


def test_two_people_are_compared_at_the_same_places(study):
    draw_audit(study, 100)
    queue = audit_queue(study)
    cell = truth_at(study, queue)
    annotate.answer(study, queue, np.where(cell, "cell", "artefact").tolist(), "ann")
    flipped = np.where(np.arange(100) < 10, ~cell, cell)
    annotate.answer(study, queue, np.where(flipped, "cell", "artefact").tolist(), "bob")
    found = agreements(study)
    assert found.table[["first", "second", "n"]].to_numpy().tolist() == [["ann", "bob", 100]]
    assert found.table["alike"].iloc[0] == pytest.approx(0.9)
    assert found.ceiling is None, "nobody saw a place twice"


def embedded(study, monkeypatch, *, animals=3, flipped=0, overlapping=False, seed=0):
    """Give labels of a study an embedding in which cells and artefacts differ; some labels are flipped."""
    rng = np.random.default_rng(seed)
    n = 300
    cell = rng.random(n) < 0.5
    wrong = np.zeros(n, bool)
    wrong[rng.choice(n, flipped, replace=False)] = True
    places = pd.DataFrame(rng.random((n, 3)) * (np.array(SHAPE) - 1), columns=["z", "y", "x"])
    places = places.assign(image=[f"animal-{1 + k % animals}" for k in range(n)], frame=0)
    places = add_micrometres(study, places)
    places = places.assign(animal=places["image"], block=np.arange(n) // 10, id=[str(k) for k in range(n)])
    places["origin"] = "random"
    places["answer"] = np.where(cell ^ wrong, "cell", "artefact")
    places["side"] = np.where(places["animal"] == "animal-1", "validation", "train")
    embeddings = rng.normal(size=(n, 8)) + 2.5 * np.where(cell, 1, -1)[:, None] * (np.arange(8) < 2)
    if overlapping:
        half = n // 2
        places.loc[half:, ["z", "y", "x", "z_um", "y_um", "x_um", "image"]] = places.loc[
            : half - 1, ["z", "y", "x", "z_um", "y_um", "x_um", "image"]
        ].to_numpy()
        places["side"] = np.where(np.arange(n) < half, "train", "validation")
        embeddings[half:] = embeddings[:half] + 0.01 * rng.normal(size=(n - half, 8))
    monkeypatch.setattr(quality, "_embedded", lambda study, network: (places, embeddings))
    return places, wrong


def test_flipped_labels_are_found_and_nothing_is_changed(study, monkeypatch):
    places, wrong = embedded(study, monkeypatch, flipped=15)
    queue = suspects(study)
    found = queue.merge(places.assign(wrong=wrong)[["image", "z", "wrong"]])["wrong"]
    assert found.sum() >= 12 and found.mean() >= 0.6
    assert queue["margin"].is_monotonic_increasing and queue["margin"].iloc[0] < 0
    assert set(queue["batch"]) == {"suspects net-a"} and queue["weight"].isna().all()
    assert queue["p"].isna().all() and set(queue["origin"]) == {"suspect"}, "blind"
    assert study.events().empty
    embedded(study, monkeypatch, flipped=0)
    assert len(suspects(study)) < len(queue) / 2, "control: nothing is flipped"


def test_a_suspect_comes_back_unseen_and_is_decided_once(study, monkeypatch):
    places, _ = embedded(study, monkeypatch, animals=2, flipped=15)
    annotate.answer(study, places, places["answer"].tolist(), "ann")
    queue = suspects(study, "cells-1")
    assert set(annotate.answers_of(study, queue)) == {""}, "the first answers are not shown"
    assert set(annotate.answers_of(study, queue.assign(origin="category"))) == {"cell", "artefact"}, "control"
    other = np.where(queue["answer"] == "cell", "artefact", "cell").tolist()
    annotate.answer(study, queue.head(4), other[:4], "ann")
    assert annotate.answers_of(study, queue)[:5] == [*other[:4], ""], "this gallery goes on where it was"
    labels = study.labels()
    assert (labels["origin"] == "suspect").sum() == 4 and len(labels) == len(places), "no label is lost"
    decided = places.index.isin(places.reset_index().merge(queue.head(4)[["image", "z"]])["index"])
    shown = places.assign(origin=np.where(decided, "suspect", "random"))
    embeddings = quality._embedded(study, None)[1]
    monkeypatch.setattr(quality, "_embedded", lambda study, network: (shown, embeddings))
    assert len(suspects(study, "cells-1")) == len(queue) - 4
    assert agreements(study).ceiling is None, "what was picked for its doubt says nothing of the ceiling"
    annotate.undo(study, "ann", batch="suspects cells-1")
    assert annotate.answers_of(study, queue)[0] == ""


def test_a_split_by_animal_learns_nothing_from_random_labels_and_a_leaky_one_is_caught(study, monkeypatch):
    embedded(study, monkeypatch)
    found = check_split(study)
    assert found.passes and set(found.found) == {"group", "animal"}
    assert re.fullmatch(
        r"Random labels are told right with 0\.\d\d by overlapping cubes \(at most 0\.55\) and 0\.\d\d by "
        r"animals \(at most 0\.65\): the split does not leak\.",
        found.sentence,
    )
    embedded(study, monkeypatch, overlapping=True)
    leaky = check_split(study)
    assert not leaky.passes and leaky.found["group"].accuracy > 0.9
    assert leaky.sentence.endswith("the split leaks, and held-out figures are too good.")


def test_cubes_that_overlap_are_one_group(study):
    places = pd.DataFrame({"image": "animal-1", "frame": 0, "z": 5.0, "y": 50.0, "x": [0.0, 4.0, 8.0, 60.0]})
    groups = overlap_groups(study, add_micrometres(study, places))
    assert groups[0] == groups[1] == groups[2] != groups[3], "a chain of cubes 45 µm wide, and one far away"
    elsewhere = places.assign(
        image=["animal-1", "animal-2", "animal-1", "animal-2"], x=[0.0, 0.0, 60.0, 60.0]
    )
    assert len(set(overlap_groups(study, add_micrometres(study, elsewhere)))) == 4


def test_labels_and_split_of_a_real_study_are_checked_by_a_real_network(study):
    queue = pd.concat([queue_of(study, 80), queue_of(study, 80, "animal-2")])
    cell = truth_at(study, queue)
    annotate.answer(study, queue.reset_index(drop=True), np.where(cell, "cell", "artefact").tolist())
    table = suspects(study, "cells-1")
    assert {"answer", "margin", "p"} <= set(table.columns)
    found = check_split(study, "cells-1")
    assert 0 <= found.found["group"].accuracy <= 1
