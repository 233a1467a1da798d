import json
import re

import numpy as np
import pandas as pd
import pytest
from made_up import answer, make_study, second_network

from cellkit import reassess
from cellkit.estimates import METRICS
from cellkit.labels.sampling import add_micrometres
from cellkit.measuring import advice, audits
from cellkit.measuring.assessment import assess_places, design_of, own_strata
from cellkit.reassess import assess, breakdown, compare, counts, fixed_and_broken
from cellkit.review import audit_queue, draw_audit


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with an audit of 400 places that is answered."""
    study = make_study(tmp_path_factory.mktemp("audited") / "study", n=2000)
    draw_audit(study, 400)
    answer(study, audit_queue(study))
    return study


def true_metrics(study, images):
    table = study.candidates()
    table = table[table["image"].isin(images)]
    hits = (table["cell"] & table["called"]).sum()
    precision, recall = hits / table["called"].sum(), hits / table["cell"].sum()
    return {"precision": precision, "recall": recall, "F1": 2 / (1 / precision + 1 / recall)}


def test_the_headline_is_over_animals_that_judge_and_holds_the_truth(study):
    found = assess(study, "net-a")
    assert found.over == "animals that judge"
    assert set(found.places["animal"]) == {"animal-3"}
    assert found.metrics["over"].unique().tolist() == ["animals that judge", "all animals"]
    for name, true in true_metrics(study, ["animal-3"]).items():
        assert found.interval(name).low <= true <= found.interval(name).high, name
    over_all = found.metrics[found.metrics["over"] == "all animals"].set_index("metric")
    for name, true in true_metrics(study, study.names).items():
        assert over_all.loc[name, "low"] <= true <= over_all.loc[name, "high"], name


def test_the_confusion_counts_answers_and_weighted_the_candidates(study):
    found = assess(study, "net-a")
    assert found.confusion.to_numpy().sum() == len(found.places) == 280
    assert found.weighted.to_numpy().sum() == pytest.approx(2000)
    called = found.weighted["called cell"]
    assert found.interval("precision").value == pytest.approx(called["cell"] / called.sum())
    n = found.metrics.set_index(["over", "metric"]).loc["animals that judge", "n"]
    assert n["accuracy"] == 280
    assert n["recall"] == found.confusion.loc["cell"].sum()


def test_notes_say_what_the_numbers_do_not(study):
    notes = assess(study, "net-a").notes
    assert notes == (
        "Recall is among the candidates: cells that the detector missed are not in it.",
        "The intervals hold for this animal; other animals differ more.",
    )


def test_open_unsure_and_changed_answers_are_told(tmp_path):
    study = make_study(tmp_path / "study", animals=(("animal-1", "train"),))
    draw_audit(study, 150)
    queue = audit_queue(study)
    answer(study, queue.head(140))
    study.ledger("me").add(queue.iloc[[0, 1]].assign(answer="unsure"))
    study.ledger("me").add(queue.iloc[[5]].assign(answer="unsure", origin="category"))
    found = assess(study, "net-a")
    assert found.over == "all animals"
    assert found.notes[1:] == (
        "No animal is kept for judging: networks may have trained on these, so the numbers are optimistic.",
        "The intervals hold for this animal; other animals differ more.",
        "138 answers measure; with fewer than 200 the intervals are rough.",
        "10 of the audit's 150 places wait for an answer.",
        "2 answers are unsure; they count as not given.",
        "1 answers were changed later; the first, blind ones measure.",
    )
    assert found.places["weight"].sum() == pytest.approx(600), "the answered stand for the others"


def test_an_audit_without_answers_measures_nothing(tmp_path):
    study = make_study(tmp_path / "study")
    message = r"^Every stratum of an audit needs 2 answers; .* has 0 for .*review\.audit_queue\(study\)\.$"
    draw_audit(study, 100)
    with pytest.raises(ValueError, match=message):
        assess(study)


def test_an_assessment_is_plain_json_and_a_page(study):
    found = assess(study, "net-a")
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert record["name"] == "net-a"
    assert record["f1"]["value"] == pytest.approx(found.interval("F1").value)
    assert "<table" in found._repr_html_()


def test_a_better_network_is_said_to_be_better_and_by_how_much(study, monkeypatch):
    other = second_network(monkeypatch, study, better=2.0)
    found = compare(study, ["net-a", other])
    assert found.table.columns.tolist() == ["net-a", "net-b", "net-b − net-a"]
    assert found.table.index.tolist() == list(METRICS)
    f1 = found.differences.set_index("metric").loc["F1"]
    assert f1["low"] > 0
    by = f"{f1['low']:.3f} to {f1['high']:.3f} F1 on animals that never trained (alone right at "
    assert found.verdict.startswith(f"net-b is better than net-a by {by}")
    assert found.mcnemar.only_second > found.mcnemar.only_first
    swapped = compare(study, [other, "net-a"])
    assert swapped.verdict.startswith(f"net-a is worse than net-b by {f1['low']:.3f} to {f1['high']:.3f} F1 ")


def test_an_animal_that_loses_by_a_network_that_gains_over_all_is_named(tmp_path, monkeypatch):
    study = make_study(tmp_path / "study", n=2000)
    draw_audit(study, 500)
    answer(study, audit_queue(study))
    other = second_network(monkeypatch, study, better=2.0)
    assert "Yet with" not in compare(study, ["net-a", other]).verdict, "control"
    called = audits.embedding_store.call_places

    def worse_in_one(study, network, places):
        p = called(study, network, places)
        return np.where(places["image"] == "animal-1", 1 - p, p)

    monkeypatch.setattr(audits.embedding_store, "call_places", worse_in_one)
    found = compare(study, ["net-a", other])
    assert found.verdict.startswith("net-b is better than net-a by ")
    assert re.search(
        r"\)\. Yet with net-b animal-1 loses 0\.\d{3} F1 \(0\.\d{3} to 0\.\d{3}\)\.$", found.verdict
    )
    f1 = found.per_animal[found.per_animal["metric"] == "F1"].set_index("animal")
    assert set(f1.index) == {"animal-1", "animal-2", "animal-3"}
    over_all = found.differences.set_index("metric").loc["F1", "value"]
    assert f1.loc["animal-3", "value"] == pytest.approx(over_all), "the animal that judges"
    assert f1.loc["animal-1", "high"] < 0 < f1.loc["animal-2", "value"]


def test_candidates_of_each_category_are_counted_with_their_interval(study):
    found = assess(study, "net-a").categories.set_index("category")
    table = study.candidates("animal-3")
    true = {
        "correct cell": (table["cell"] & table["called"]).sum(),
        "correct artefact": (~table["cell"] & ~table["called"]).sum(),
        "missed cell": (table["cell"] & ~table["called"]).sum(),
        "false cell": (~table["cell"] & table["called"]).sum(),
    }
    assert list(found.index) == list(true)
    for name, n in true.items():
        assert found.loc[name, "low"] <= n <= found.loc[name, "high"], name
    assert found["candidates"].sum() == pytest.approx(2000, abs=2)
    assert found.loc["missed cell", "answers"] == assess(study, "net-a").confusion.iloc[0, 1]


def test_an_audit_by_which_many_networks_were_chosen_says_so(study, monkeypatch):
    def made(n):
        names = ["net-a", *(f"net-{k}" for k in range(n))]
        cards = [
            {"name": name, "sha256": None, "made_at": "2999", "trained_on": {"ids": []}} for name in names[:n]
        ]
        monkeypatch.setattr(type(study), "cards", lambda study: cards)
        return assess(study, "net-a").notes

    assert not any("were made since" in note for note in made(10)), "control"
    assert made(11)[-1] == (
        "11 networks were made since the audit was drawn: who chooses among many by one audit flatters the "
        "best. Extend it: review.extend_audit(study, 100)."
    )


def test_networks_that_differ_by_chance_cannot_be_told_apart(study, monkeypatch):
    other = second_network(monkeypatch, study, better=0.05)
    found = compare(study, ["net-a", other])
    assert found.verdict.startswith(
        "net-b and net-a cannot be told apart on animals that never trained: F1 differs"
    )
    assert found.verdict.endswith(" more answers would.")
    assert found.mcnemar.only_second < 6, "control: an interval above 0 that rests on too few places"
    same = second_network(monkeypatch, study, better=0.0, name="net-c")
    expected = "net-c and net-a call all 280 places alike, on animals that never trained."
    assert compare(study, ["net-a", same]).verdict == expected


def test_a_paired_difference_is_known_better_than_either_number(study, monkeypatch):
    other = second_network(monkeypatch, study, better=0.5)
    found = compare(study, ["net-a", other])
    difference = found.differences.set_index("metric").loc["F1"]
    alone = found.assessments[0].interval("F1").half_width
    assert (difference["high"] - difference["low"]) / 2 < 0.7 * alone


def test_what_a_network_fixed_and_broke_is_a_queue(study, monkeypatch):
    other = second_network(monkeypatch, study, better=1.0)
    found = compare(study, ["net-a", other])
    table = fixed_and_broken(study, "net-a", other)
    counted = table["category"].value_counts()
    assert counted["fixed"] == found.mcnemar.only_second
    assert counted.get("broken", 0) == found.mcnemar.only_first
    assert set(table["network"]) == {"net-b"} and table["weight"].isna().all()
    fixed = table[table["category"] == "fixed"]
    assert (fixed["called"] == (fixed["answer"] == "cell")).all()
    assert (table["p"] - table["before"]).abs().is_monotonic_decreasing
    swapped = fixed_and_broken(study, other, "net-a")["category"].value_counts()
    assert swapped["broken"] == counted["fixed"], "control"


def test_metrics_are_told_by_parts_where_answers_suffice(study):
    table = breakdown(study, "net-a", by="brightness").set_index(["part", "metric"])
    assert set(table.index.get_level_values("part")) == {"dim third", "middle third", "bright third"}
    assert np.isnan(table.loc[("dim third", "precision"), "value"]), "too few are called there"
    candidates = study.candidates()
    accuracy = table.xs("accuracy", level="metric")
    bright = candidates.groupby("image")["score"].rank(pct=True) > 2 / 3
    true = (candidates["called"] == candidates["cell"])[bright].mean()
    assert accuracy.loc["bright third", "low"] <= true <= accuracy.loc["bright third", "high"]
    whole = breakdown(study, "net-a", by=lambda places: ["all"] * len(places)).set_index("metric")
    found = assess(study, "net-a").metrics
    over_all = found[found["over"] == "all animals"].set_index("metric")
    assert whole["value"].to_dict() == pytest.approx(over_all["value"].to_dict())


def taught(study, monkeypatch, network, ids):
    """Say on a card that these answers taught this network."""
    card = {"name": network, "sha256": None, "made_at": "2020", "trained_on": {"ids": ids}}
    monkeypatch.setattr(type(study), "cards", lambda study: [card])


def test_places_that_taught_a_network_do_not_measure_it(tmp_path, monkeypatch):
    study = make_study(tmp_path / "study", n=1000)
    known = study.candidates("animal-1").sample(300, random_state=0)
    ids = study.ledger("me").add(add_micrometres(study, known).assign(answer="cell", origin="random"))
    draw_audit(study, 300, name="late")
    answer(study, audit_queue(study, "late"))
    assert assess(study, "net-a", audit="late").notes[-1].startswith("The intervals"), (
        "control: taught nothing"
    )
    counted = counts(study, "net-a", audit="late")
    before = breakdown(study, "net-a", audit="late").set_index(["part", "metric"])
    taught(study, monkeypatch, "net-a", ids)
    found = assess(study, "net-a", audit="late")
    places = study.audit("late")[0]
    both = places[["image", "z", "y", "x"]].merge(known[["image", "z", "y", "x"]])
    n = int(found.notes[-1].split()[0])
    assert found.notes[-1] == f"{n} places taught the network, or overlap one that did; they do not measure."
    assert len(both) <= n < 150
    after = breakdown(study, "net-a", audit="late").set_index(["part", "metric"])
    lost = before["n"] - after["n"]
    assert lost.loc[("animal-1", "accuracy")] == n
    assert (lost.loc["animal-3"] == 0).all()
    again = counts(study, "net-a", audit="late")
    assert again["corrected"].equals(counted["corrected"]), "answers count cells whoever learnt from them"


def test_a_network_that_was_taught_the_whole_audit_is_not_measured_on_it(tmp_path, monkeypatch):
    study = make_study(tmp_path / "study", animals=(("animal-1", "train"),))
    draw_audit(study, 100)
    answer(study, audit_queue(study))
    taught(study, monkeypatch, "net-a", study.events()["id"].tolist())
    message = (
        r"^An audit measures networks that never saw its places; all of 'audit' taught net-a\. "
        r"Draw an audit of another name, and retrain\.$"
    )
    with pytest.raises(ValueError, match=message):
        assess(study, "net-a")
    assert len(counts(study, "net-a")) == 2, "control"


def test_a_comparison_leaves_out_what_taught_either_network(tmp_path, monkeypatch):
    study = make_study(tmp_path / "study", animals=(("animal-1", "train"),), n=1500)
    draw_audit(study, 200)
    answer(study, audit_queue(study))
    other = second_network(monkeypatch, study)
    assert len(compare(study, ["net-a", other]).assessments[0].places) == 200, "control"
    taught(study, monkeypatch, other, study.events()["id"].tolist()[:50])
    found = compare(study, ["net-a", other])
    first, last = (each.places for each in found.assessments)
    assert len(first) == len(last) <= 150


def test_places_that_two_people_answered_differently_are_told(study, tmp_path):
    study = make_study(tmp_path / "study")
    draw_audit(study, 100)
    queue = audit_queue(study)
    answer(study, queue)
    assert not any("two people" in note for note in assess(study).notes), "control"
    answer(study, queue.head(20), who="you", wrong=1.0)
    said = "20 places were answered differently by two people; the newest answer measures."
    assert said in assess(study).notes


def test_advice_is_a_verb_of_the_room():
    assert reassess.advise is advice.advise and reassess.check_animal is advice.check_animal
    assert {"advise", "check_animal"} <= set(reassess.__all__)


def test_a_comparison_needs_two_networks(study):
    message = (
        r"^A comparison needs two different networks; got net-a\. "
        r"For one alone there is assess\(study, network\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        compare(study, ["net-a", "net-a"])


def test_counts_are_corrected_where_the_naive_ones_are_off(tmp_path):
    study = make_study(tmp_path / "study", n=3000, share=0.05, seed=3)
    draw_audit(study, 500)
    answer(study, audit_queue(study))
    table = counts(study, "net-a").set_index("animal")
    true = study.candidates().groupby("image")["cell"].sum()
    true["all"] = true.sum()
    assert (table["low"] <= true).all()
    assert (true <= table["high"]).all()
    assert table.index.tolist() == ["animal-1", "animal-2", "animal-3", "all"]
    assert table["naive"]["all"] == study.candidates()["called"].sum()
    for name in table.index:
        assert table["low"][name] <= table["corrected"][name] <= table["high"][name]
    assert table["note"].tolist() == [
        "assumes equal error rates in all animals; without cells that the detector missed",
        "assumes equal error rates in all animals; without cells that the detector missed",
        "from 350 answers there; without cells that the detector missed",
        "from 500 answers there; without cells that the detector missed",
    ]


def test_counts_of_animals_without_an_audit_take_the_rates_of_the_others(tmp_path):
    study = make_study(tmp_path / "study", n=1000)
    draw_audit(study, 200, train_share=0.0)
    answer(study, audit_queue(study))
    table = counts(study, "net-a").set_index("animal")
    assumed = table["note"].str.startswith("assumes equal error rates in all animals")
    assert assumed.to_dict() == {"animal-1": True, "animal-2": True, "animal-3": False, "all": True}
    assert table["corrected"]["all"] == pytest.approx(750, abs=120)


def places_of(**columns):
    n = max(map(len, columns.values()))
    base = {"answer": "cell", "now": "cell", "p": 0.9, "called": True, "weight": 10.0, "stratum": "s"}
    base |= {"animal": "a", "role": "judge"}
    return pd.DataFrame({name: columns.get(name, [value] * n) for name, value in base.items()})


def test_animals_that_share_strata_have_no_metrics_of_their_own():
    shared = places_of(animal=["a", "a", "b", "b"])
    assert not own_strata(shared, "a")
    apart = shared.assign(stratum=["s", "s", "t", "t"])
    assert own_strata(apart, "a")
    assert not own_strata(apart, "a", least=3)
    found = assess_places(apart, network="n", audit="audit", classes=("cell", "artefact"))
    assert set(found.per_animal["animal"]) == {"a", "b"}
    found = assess_places(shared, network="n", audit="audit", classes=("cell", "artefact"))
    assert found.per_animal.empty


def test_nothing_called_is_no_precision_and_no_crash():
    places = places_of(called=[False] * 6, p=[0.1] * 6)
    found = assess_places(places, network="n", audit="audit", classes=("cell", "artefact"))
    assert np.isnan(found.interval("precision").value)
    assert found.as_dict()["metrics"][0]["value"] is None
    assert design_of(places).weights.tolist() == [10.0] * 6
