"""Where a number cannot be said, every verb says so and why, and prints none."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from made_up import answer, make_study, second_network

from cellkit.estimates import METRICS, Design, Interval, advise, metric_differences, weighted_metrics
from cellkit.measuring.counting import counts_by_person
from cellkit.reassess import advise as advise_on
from cellkit.reassess import assess, breakdown, check_animal, compare, counts, fixed_and_broken
from cellkit.report import write_report
from cellkit.review import audit_queue, draw_audit, missed_cells

VERBS = {
    "assess": assess,
    "breakdown": breakdown,
    "compare": lambda study: compare(study, ["net-a", "cells-1"]),
    "fixed_and_broken": lambda study: fixed_and_broken(study, "net-a", "cells-1"),
    "counts": counts,
    "counts_by_person": counts_by_person,
    "advise": advise_on,
    "write_report": write_report,
    "audit_queue": audit_queue,
}
MEASURE = [name for name in VERBS if name not in {"audit_queue", "counts_by_person"}]


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


def refusal(verb, study, kind=ValueError):
    with pytest.raises(kind) as refused:
        VERBS[verb](study)
    assert not (study.folder / "rounds").exists(), "nothing was written"
    return str(refused.value)


@pytest.mark.parametrize("verb", VERBS)
def test_without_an_audit_nothing_is_measured(study, verb):
    assert refusal(verb, study) == (
        "Measuring needs an audit; this study has none of the name 'audit'. "
        "Draw it with review.draw_audit(study), then answer it."
    )


@pytest.mark.parametrize("verb", MEASURE)
def test_a_stratum_without_answers_says_nothing_of_its_candidates(study, verb):
    draw_audit(study, 150)
    queue = audit_queue(study)
    last = study.audit()[0]["stratum"].max()
    places = study.audit()[0].query("stratum == @last")
    there = pd.MultiIndex.from_frame(queue[["image", "z", "y", "x"]])
    of_last = there.isin(pd.MultiIndex.from_frame(places[["image", "z", "y", "x"]]))
    answer(study, queue[~of_last])
    size = round(places["weight"].sum())
    assert refusal(verb, study) == (
        f"Every stratum of an audit needs 2 answers; {last!r} has 0 for {size} candidates. "
        "Answer more of the audit: review.audit_queue(study)."
    )
    answer(study, queue[of_last])
    assert len(counts(study)) == 4, "control"


@pytest.mark.parametrize("verb", VERBS)
def test_an_audit_of_an_image_that_was_replaced_says_nothing(study, verb):
    draw_audit(study, 100)
    answer(study, audit_queue(study))
    path = study.folder / "animal-3.npy"
    np.save(path, np.load(path) + 1)
    assert refusal(verb, study) == (
        "Answers measure the images that they were given on; 'animal-3' was replaced since 'audit' was "
        "drawn, so they are about other pixels. Put the old image back, or draw under another name."
    )


def without_cells(tmp_path, monkeypatch):
    study = make_study(tmp_path / "study", share=0.0, seed=2)
    intensities = type(study).intensities
    second_network(monkeypatch, study, better=0.5)
    monkeypatch.setattr(type(study), "intensities", intensities)
    draw_audit(study, 300)
    answer(study, audit_queue(study))
    return study


def test_without_any_cell_recall_and_f1_are_not_said_and_why(tmp_path, monkeypatch):
    study = without_cells(tmp_path, monkeypatch)
    found = assess(study, "net-a")
    n = len(found.places)
    for metric in ("recall", "F1", "average precision"):
        assert np.isnan(found.interval(metric).value), metric
    assert found.interval("specificity").value > 0.5, "control: what can be said is said"
    assert (
        found.notes[0] == f"None of the {n} answers is cell: recall, F1 and average precision cannot be said."
    )
    compared = compare(study, ["net-a", "net-b"])
    assert compared.verdict == (
        "net-b and net-a cannot be compared by F1 on animals that never trained: "
        f"none of {n} audited places is a cell."
    )
    assert compared.table.loc["F1"].tolist() == ["cannot be said"] * 3
    table = counts(study, "net-a").set_index("animal")
    high = table.loc["all", "high"]
    assert high > 0 and table.loc["all", "corrected"] == 0
    assert table.loc["all", "note"].startswith(
        f"from 300 answers there, none of them positive: up to {high:,} may hide; without cells"
    )
    advice = advise_on(study)
    assert not advice.stop
    assert advice.sentence == (
        "Go on labelling to train and more places of the audit: the audit holds no cell, so up to "
        f"{high:,} may hide. (A forecast needs 4 networks taught different numbers of labels; got 0.)"
    )


def test_the_report_of_an_audit_without_a_cell_says_so_and_prints_no_nan(tmp_path, monkeypatch):
    study = without_cells(tmp_path, monkeypatch)
    page = write_report(study, ["net-a"])
    text = re.sub(r"base64,[^\"]*", "", page.read_text())
    assert "net-a has no F1 over animals that judge: no audited place is a cell." in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_without_any_artefact_specificity_is_not_said():
    truth, called = np.ones(20, bool), np.arange(20) < 15
    design = Design(np.zeros(20, int), np.array([200.0]))
    assert np.isnan(weighted_metrics(truth, called, design)["specificity"].value)
    assert weighted_metrics(truth, called, design)["F1"].value > 0.8, "control"
    nothing = weighted_metrics(~truth, called, design)
    assert {name for name in METRICS if np.isnan(nothing[name].value)} == {"recall", "F1"}
    assert np.isnan(metric_differences(~truth, called, ~called, design)["F1"].value)
    assert metric_differences(~truth, called, called, design)["accuracy"].value == 0, "control"


def test_a_count_of_nothing_is_no_reason_to_stop():
    nothing = Interval(0.0, 0.0, 120.0)
    found = advise([0.999] * 3, None, nothing, answers=300)
    assert found.sentence == (
        "Label no more to train, but more places of the audit: the last two networks agree with kappa 0.999; "
        "the audit holds no cell, so up to 120 may hide."
    )
    assert advise([0.999] * 3, None, Interval(900.0, 880.0, 920.0), answers=300).stop, "control"


def test_one_animal_speaks_for_itself_alone(tmp_path):
    study = make_study(tmp_path / "study", animals=(("animal-1", "train"),))
    draw_audit(study, 250)
    answer(study, audit_queue(study))
    assert assess(study).notes == (
        "Recall is among the candidates: cells that the detector missed are not in it.",
        "No animal is kept for judging: networks may have trained on these, so the numbers are optimistic.",
        "The intervals hold for this animal; other animals differ more.",
    )
    table = counts(study)
    assert table["adjusted"].isna().all(), "there are no other animals whose error rates could be taken"
    with pytest.raises(ValueError, match=r"^") as refused:
        check_animal(study, "animal-1")
    assert str(refused.value) == (
        "A new animal is compared with those that trained; no animal of this study trained net-a. "
        "Retrain, or audit the new one."
    )


def test_two_people_who_contradict_each_other_are_told_and_counted_apart(study):
    draw_audit(study, 300)
    queue = audit_queue(study)
    answer(study, queue, who="ann")
    assert counts_by_person(study)["who"].tolist() == ["ann"], "control"
    answer(study, queue, who="bob", wrong=0.2)
    flipped = int((np.random.default_rng(1).random(300) < 0.2).sum())
    judged = assess(study)
    differ = int(judged.places["differ"].sum())
    whole = f"{flipped} places were answered differently by two people; the newest answer measures."
    assert whole in judged.notes and 0 < differ < flipped
    table = counts_by_person(study).set_index("who")
    assert table["answers"].tolist() == [300, 300]
    true = study.candidates()["cell"].sum()
    assert table.loc["ann", "corrected"] == pytest.approx(true, rel=0.15)
    assert table.loc["ann", "high"] < table.loc["bob", "corrected"]
    assert table.loc["bob", "corrected"] == counts(study)["corrected"].iloc[-1], "the newest"
    answer(study, queue.head(3), who="eve")
    why = counts_by_person(study).set_index("who").loc["eve"]
    assert np.isnan(why["corrected"]) and why["answers"] == 3
    assert re.fullmatch(
        r"Every stratum of an audit needs 2 answers; '.*' has [01] for \d+ candidates\. "
        r"Answer more of the audit: review\.audit_queue\(study\)\.",
        why["why_not"],
    )


def test_answers_of_somebody_who_gave_none_count_nothing(study):
    draw_audit(study, 100)
    answer(study, audit_queue(study), who="ann")
    message = r"^An audit is read by the answers of somebody who gave some; got 'zoe', of ann\. Choose one\.$"
    with pytest.raises(ValueError, match=message):
        counts(study, who="zoe")


def test_places_without_a_weight_are_no_audit(study):
    places = study.candidates().head(5)
    with pytest.raises(ValueError, match=r"^") as refused:
        study.save_audit("audit", places, {"seed": 0})
    assert str(refused.value).startswith(
        "audit must have the columns image, frame, z, y, x, weight; weight is missing. Found: "
    )
    for weight, said in ((0.0, "0"), (-2.0, "-2")):
        message = (
            rf"^Every place of an audit needs a positive weight; row 1 has {said}\. "
            r"Give 1 / the probability with which it was drawn\.$"
        )
        with pytest.raises(ValueError, match=message):
            study.save_audit("audit", places.assign(weight=[1.0, weight, 1, 1, 1]), {"seed": 0})
    assert study.audits() == []


def test_a_network_whose_weights_are_missing_measures_nothing(study):
    from cellkit.networks.store import SUPPLIED

    draw_audit(study, 100)
    answer(study, audit_queue(study))
    folder = study.network_folder("net-x")
    shutil.copytree(SUPPLIED / "cells-1", folder)
    card = folder / "card.json"
    card.write_text(card.read_text().replace('"cells-1"', '"net-x"', 1))
    (folder / "network.keras").unlink()
    message = (
        r"^A network is a folder with network\.keras and card\.json; "
        rf"{re.escape(str(folder))}/network\.keras is missing\. Copy the whole folder\.$"
    )
    for measure in (assess, counts):
        with pytest.raises(FileNotFoundError, match=message):
            measure(study, "net-x")
    with pytest.raises(FileNotFoundError, match=message):
        compare(study, ["net-a", "net-x"])
    message = (
        r"^A network must be one of the known ones or a folder with network\.keras and card\.json; "
        r"there is no net-y\. Known: net-x, cells-1\.$"
    )
    with pytest.raises(FileNotFoundError, match=message):
        assess(study, "net-y")


def test_boxes_that_nobody_has_marked_say_nothing_of_the_detector(study):
    message = (
        r"^Missed cells are counted in boxes; this study has none of the name 'boxes'\. "
        r"Draw them with review\.draw_boxes\(study\), then mark their cells\.$"
    )
    with pytest.raises(ValueError, match=message):
        missed_cells(study)
