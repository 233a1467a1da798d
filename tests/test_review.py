import re

import numpy as np
import pytest
from made_up import answer, make_study, second_network, truth_at

from cellkit.folder.disk import read_json, write_json
from cellkit.labels.sampling import QUEUE_COLUMNS, draw
from cellkit.measuring.audits import call_places, measured, newest_network, read_audit
from cellkit.reassess import counts
from cellkit.review import (
    audit_queue,
    barred,
    category_table,
    draw_audit,
    errors,
    extend_audit,
    plan_audit,
)


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


def test_an_audit_is_drawn_once_and_never_again(study):
    first = draw_audit(study, 120)
    assert draw_audit(study, 300, seed=7).equals(first)
    assert len(draw_audit(study, 200, name="second")) == 200
    record = study.audit("audit")[1]
    assert record["seed"] == study.settings.seed
    assert sum(stratum["candidates"] for stratum in record["strata"].values()) == len(study.candidates())
    assert sum(stratum["places"] for stratum in record["strata"].values()) == 120


def test_an_audit_can_be_extended_and_keeps_its_places_and_answers(study):
    first = draw_audit(study, 120)
    answer(study, audit_queue(study))
    both = extend_audit(study, 80, animals=["animal-3"])
    assert len(both) == 200
    assert both["phase"].value_counts().to_dict() == {1: 120, 2: 80}
    same = [name for name in first if name != "weight"]
    assert both.head(120)[same].equals(first[same])
    assert set(both.loc[both["phase"] == 2, "role"]) == {"judge"}
    assert both["weight"].sum() == pytest.approx(len(study.candidates()))
    assert draw_audit(study, 120).equals(both)
    queue = audit_queue(study)
    assert len(queue) == 80
    answer(study, queue)
    third = extend_audit(study, 40)
    assert set(third.loc[third["phase"] == 3, "role"]) == {"train", "judge"}
    record = study.audit("audit")[1]
    assert record["phases"] == 3
    assert sum(stratum["places"] for stratum in record["strata"].values()) == 240


def test_an_audit_is_extended_from_its_own_strata_whatever_networks_say_now(study):
    draw_audit(study, 120)
    for name in study.names:
        table = study.candidates(name)
        study.save_candidates(name, table.assign(p=1 - table["p"]), made_by={"network": "net-b"})
    both = extend_audit(study, 100)
    size = both.groupby("stratum")["weight"].sum()
    assert size.to_dict() == pytest.approx(
        {name: stratum["candidates"] for name, stratum in study.audit("audit")[1]["strata"].items()}
    )
    ends = both["stratum"].str.extract(r"p (\S+) to (\S+)$").astype(float)
    assert both["p"].between(ends[0], ends[1]).all()


def test_an_extension_narrows_the_interval_and_holds_the_truth(tmp_path):
    study = make_study(tmp_path / "study", n=1500)
    draw_audit(study, 150)
    answer(study, audit_queue(study))
    before = counts(study, "net-a").set_index("animal").loc["all"]
    extend_audit(study, 600)
    answer(study, audit_queue(study))
    after = counts(study, "net-a").set_index("animal").loc["all"]
    assert after["high"] - after["low"] < 0.75 * (before["high"] - before["low"])
    assert after["low"] <= study.candidates()["cell"].sum() <= after["high"]


def test_a_draw_of_an_audit_that_was_changed_is_refused(study):
    draw_audit(study, 60)
    folder = study.folder / "audits"
    extend_audit(study, 20)
    extend_audit(study, 20)
    second = folder / "audit" / "2.json"
    kept = second.read_bytes()
    second.write_bytes(kept.replace(b'"phase": 2', b'"phase": 3'))
    with pytest.raises(ValueError, match=r"^A frozen file must be as it was written; .*2\.json was .*$"):
        read_audit(study)
    second.unlink()
    message = (
        rf"^The draws of an audit follow one another; {folder}/audit/3\.json does not follow "
        rf"{folder}/audit\.json\. Put back a copy of the original\.$"
    )
    with pytest.raises(ValueError, match=message):
        read_audit(study)
    second.write_bytes(kept)
    assert len(read_audit(study)[0]) == 100, "control"


def test_an_extension_that_cannot_be_is_refused(study):
    with pytest.raises(
        ValueError, match=r"^An audit must be drawn before it is read; got 'audit', of none\. .*$"
    ):
        extend_audit(study, 10)
    draw_audit(study, 60)
    message = (
        r"^An audit is extended by places that are not in it yet; got n = 0 of \d+ left\. "
        r"Ask for fewer, or answer the ones there are\.$"
    )
    with pytest.raises(ValueError, match=message):
        extend_audit(study, 0)
    message = (
        r"^An audit is extended in its own animals, animal-1, animal-2, animal-3; got 'animal-9'\. "
        r"Choose among them\.$"
    )
    with pytest.raises(ValueError, match=message):
        extend_audit(study, 10, animals=["animal-9"])
    (study.folder / "audits" / "audit" / "frame.parquet").unlink()
    message = (
        r"^An audit is extended from the candidates it was drawn from; frame\.parquet of 'audit' is not "
        r"there\. Put back a copy, or draw another audit: review\.draw_audit\(study, name=\.\.\.\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        extend_audit(study, 10)


def test_how_large_an_audit_must_be_is_said_before_it_is_drawn(tmp_path):
    study = make_study(tmp_path / "study", n=3000)
    plan, wide = plan_audit(study, 0.1), plan_audit(study, 0.2)
    assert wide.n < plan.n < 1000
    assert plan.half_width <= 0.11
    assert plan.sentence.startswith("For ± 10% on about ")
    assert plan.sentence.split(" cells (")[0].endswith(f"{study.candidates()['p'].sum():,.0f}")
    assert study.audits() == []
    draw_audit(study, plan.n)
    answer(study, audit_queue(study))
    found = counts(study, "net-a").set_index("animal").loc["all"]
    assert (found["high"] - found["low"]) / 2 / found["corrected"] == pytest.approx(0.1, abs=0.04)
    assert repr(plan) == plan.sentence
    small = plan_audit(make_study(tmp_path / "small", n=100), 0.05)
    assert re.fullmatch(
        r"For ± 5% on the cells of the animals that judge the audit needs about \d+ answers; if p .* add\. "
        r"For all animals it cannot be had: more places in animals that train would keep too many .*\.",
        small.sentence,
    ), "only a third may be barred in animals that train"
    assert small.half_width <= 0.055
    with pytest.raises(ValueError, match=r"^A half-width lies between 0 and 1; got 10\. 0\.1 is .* side\.$"):
        plan_audit(study, 10)


def test_what_so_many_answers_will_tell_is_said_before_they_are_given(tmp_path):
    study = make_study(tmp_path / "study", animals=(("animal-1", "judge"),), n=4000, seed=1)
    plan = plan_audit(study, n=400)
    table = study.candidates()
    assert plan.sentence == (
        f"400 answers on about {table['p'].sum():,.0f} cells ({table['called'].sum():,} called) tell the "
        f"count to ± {plan.half_width:.0%}; if p is far off, to 1.5 times as much, and extend_audit can add "
        "more."
    )
    both = make_study(tmp_path / "both", animals=(("animal-1", "train"), ("animal-2", "judge")), n=2000)
    assert re.search(
        r" tell the count to ± \d+%, that of the animals that judge to ± \d+%; if p",
        plan_audit(both, n=400).sentence,
    )
    assert plan_audit(study, n=1600).half_width < 0.6 * plan.half_width
    draw_audit(study, 400)
    answer(study, audit_queue(study))
    found = counts(study).iloc[-1]
    reached = (found["high"] - found["low"]) / 2 / found["corrected"]
    assert reached == pytest.approx(plan.half_width, rel=0.35)
    assert plan_audit(study, plan.half_width).n == pytest.approx(400, rel=0.1), "the inverse"
    message = r"^An audit needs at least 40 places; got n = 20\. Ask for 300 or more\.$"
    with pytest.raises(ValueError, match=message):
        plan_audit(study, n=20)


def test_an_audit_of_an_image_that_was_replaced_measures_nothing(study):
    draw_audit(study, 60)
    answer(study, audit_queue(study))
    path = study.folder / "animal-2.npy"
    pixels = np.load(path)
    np.save(path, pixels + 1)
    message = (
        r"^Answers measure the images that they were given on; 'animal-2' was replaced since 'audit' was "
        r"drawn, so they are about other pixels\. Put the old image back, or draw under another name\.$"
    )
    for measure in (read_audit, audit_queue, counts):
        with pytest.raises(ValueError, match=message):
            measure(study)
    with pytest.raises(ValueError, match=message):
        extend_audit(study, 10)
    np.save(path, pixels)
    assert len(read_audit(study)[0]) == 60, "control: the old image is back"


def test_a_rewritten_audit_is_refused_by_its_hash(study):
    draw_audit(study, 60)
    file = study.folder / "audits" / "audit.json"
    frozen = read_json(file, what="audit")
    frozen["record"]["seed"] += 1
    write_json(file, frozen)
    with pytest.raises(ValueError, match=r"^A frozen file must be as it was written; .* changed since: .*$"):
        read_audit(study)


def test_places_are_spread_over_the_regions_that_candidates_have(tmp_path):
    study = make_study(tmp_path / "study", animals=(("animal-1", "judge"),), n=2000)
    table = study.candidates()
    north = table["y"] > 90
    table["region"] = np.where(north, "north", "south")
    study.save_candidates("animal-1", table, made_by={"network": "net-a"})
    places = draw_audit(study, 400, random_share=0.0)
    counted = places.groupby("region")["weight"].sum()
    assert counted["north"] == pytest.approx(north.sum(), rel=0.12)
    assert extend_audit(study, 50)["region"].isin(["north", "south"]).all()


def test_the_same_study_draws_the_same_audit_and_another_seed_another(tmp_path):
    one, same, other = (make_study(tmp_path / name) for name in ("one", "same", "other"))
    places = draw_audit(one, 100)
    assert places.equals(draw_audit(same, 100))
    assert not places.equals(draw_audit(other, 100, seed=1))


def test_every_place_has_the_weight_of_its_stratum(study):
    places = draw_audit(study, 150)
    assert places["weight"].min() >= 1
    assert places["weight"].sum() == pytest.approx(len(study.candidates()))


def test_an_audit_needs_candidates_that_were_called(study):
    uncalled = study.candidates("animal-2").drop(columns=["p", "called", "network"])
    study.save_candidates("animal-2", uncalled, made_by={})
    message = (
        r"^An audit is drawn from called candidates; not all of this study's are called\. "
        r"Run detect\.detect\(study\), then detect\.classify\(study\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        draw_audit(study)
    for name in study.names:
        study.save_candidates(name, uncalled.iloc[:0], made_by={})
    with pytest.raises(
        ValueError, match=r"^An audit is drawn from called candidates; this study has none\. .*$"
    ):
        draw_audit(study)
    assert study.audits() == []


def test_the_queue_holds_what_waits_in_an_order_that_tells_nothing(study):
    places = draw_audit(study, 120)
    queue = audit_queue(study)
    assert list(queue.columns) == QUEUE_COLUMNS
    assert len(queue) == 120
    assert set(queue["origin"]) == {"audit"}
    assert abs(np.corrcoef(np.arange(120), queue["p"])[0, 1]) < 0.3
    assert not queue["image"].is_monotonic_increasing
    assert queue["weight"].sum() == pytest.approx(places["weight"].sum())
    answer(study, queue.head(50))
    assert audit_queue(study).equals(queue.iloc[50:].reset_index(drop=True))
    study.ledger("me").undo()
    assert audit_queue(study).equals(queue), "an answer that is undone is open again"


def test_blind_answers_measure_and_later_corrections_do_not(study):
    draw_audit(study, 60)
    queue = audit_queue(study)
    answer(study, queue)
    again = queue.head(1).assign(origin="category", weight=np.nan)
    places, _ = read_audit(study)
    before = places["answer"].tolist()
    cell = truth_at(study, again)[0]
    study.ledger("me").add(again.assign(answer="artefact" if cell else "cell"))
    places, _ = read_audit(study)
    assert places["answer"].tolist() == before
    assert (places["now"] != places["answer"]).sum() == 1
    study.ledger("me").add(queue.head(1).assign(answer="unsure"))
    assert measured(read_audit(study)[0]).sum() == 59, "an answer given in the audit replaces the first"


def test_a_label_from_before_the_audit_does_not_answer_it(study):
    known = study.candidates().query("image == 'animal-1'")
    known = known.assign(z_um=known["z"] * 20, y_um=known["y"] * 10, x_um=known["x"] * 10)
    study.ledger("me").add(known.assign(answer="cell", origin="random"))
    draw_audit(study, 100)
    assert len(audit_queue(study)) == 100


def test_an_audit_of_candidates_that_were_detected_anew_is_refused(study):
    draw_audit(study, 60)
    answer(study, audit_queue(study))
    candidates = study.candidates("animal-3")
    study.save_candidates("animal-3", candidates.assign(p=0.5), made_by={})
    read_audit(study)  # control: other calls of the same places
    study.save_candidates("animal-3", candidates.iloc[1:], made_by={})
    message = (
        r"^An audit measures the candidates that it was drawn from; 'animal-3' was detected anew since "
        r"'audit' was drawn\. Draw an audit of another name: review\.draw_audit\(study, name=\.\.\.\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        read_audit(study)
    message = (
        r"^Measuring needs an audit; this study has none of the name 'other'\. Draw it with .* answer it\.$"
    )
    with pytest.raises(ValueError, match=message):
        read_audit(study, "other")


def test_no_queue_for_training_touches_the_audit(study):
    candidates = study.candidates()
    assert not barred(study, candidates).any()
    places = draw_audit(study, 200)
    keys = ["image", "z", "y", "x"]
    is_audit = candidates.merge(places[keys].assign(audited=True), how="left")["audited"].eq(True)
    shut = barred(study, candidates)
    assert is_audit.sum() == 200
    assert shut[is_audit].all()
    assert (shut & ~is_audit).any(), "neighbours whose cubes overlap"
    queue = draw(study, 400, by="random")
    assert queue.merge(places[keys]).empty
    train = candidates["image"] != "animal-3"
    assert shut[train].mean() < 0.45


def test_the_table_of_calls_and_answers_counts_every_label(study):
    draw_audit(study, 100)
    answer(study, audit_queue(study))
    table = category_table(study)
    assert table.columns.tolist() == ["cell", "artefact", "unsure", "no label"]
    assert table.index.tolist() == ["called cell", "called artefact"]
    both = study.labelled_candidates()
    assert table.loc["called cell", "cell"] == (both["category"] == "correct cell").sum() > 0
    assert table.loc["called cell", "artefact"] == (both["category"] == "false cell").sum()
    assert table.iloc[:, :2].to_numpy().sum() == 100
    train = both[(both["image"] != "animal-3") & ~barred(study, both)]
    assert table["no label"].sum() == len(train)


def test_errors_come_with_the_surest_first(study):
    draw_audit(study, 200)
    answer(study, audit_queue(study))
    wrong = errors(study, "net-a")
    assert set(wrong["category"]) == {"false cell", "missed cell"}
    assert wrong["sure"].is_monotonic_decreasing
    assert (wrong["sure"] >= 0.5).all()
    assert ((wrong["category"] == "false cell") == (wrong["called"] & (wrong["answer"] == "artefact"))).all()
    assert wrong["weight"].isna().all(), "an answer to an error is no answer to the audit"


def test_any_network_can_call_and_the_calls_of_the_study_stay(study, monkeypatch):
    before = study.candidates()
    other = second_network(monkeypatch, study, better=0.0)
    some = before.sample(40, random_state=0)
    called = call_places(study, some, other)
    assert called.index.equals(some.index)
    assert np.allclose(called["p"], some["p"])
    assert set(called["network"]) == {"net-b"}
    assert study.candidates().equals(before)


def test_calls_that_were_made_are_taken_over_and_the_rest_is_predicted(study, monkeypatch):
    second_network(monkeypatch, study, better=0.0, name="net-a")
    table = study.candidates("animal-1")
    study.save_candidates("animal-1", table.assign(p=0.75, called=True), made_by={})
    half = study.candidates("animal-2").assign(network="net-b")
    study.save_candidates("animal-2", half, made_by={})
    called = call_places(study, study.candidates(), "net-a")
    assert (called.loc[called["image"] == "animal-1", "p"] == 0.75).all()
    assert np.allclose(called.loc[called["image"] == "animal-2", "p"], half["p"])


def test_calls_of_a_network_that_was_made_anew_under_its_name_are_made_anew(study, monkeypatch):
    second_network(monkeypatch, study, better=0.0, name="net-a")
    table = study.candidates("animal-1").assign(p=0.75)
    study.save_candidates("animal-1", table, made_by={"network": "net-a", "network_sha256": "old"})
    assert (call_places(study, table, "net-a")["p"] == 0.75).all(), "control"
    monkeypatch.setattr(type(study), "cards", lambda study: [{"name": "net-a", "sha256": "new"}])
    assert not (call_places(study, table, "net-a")["p"] == 0.75).any()


def test_the_newest_network_is_the_one_that_called_where_the_study_has_none(study):
    assert newest_network(study) == "net-a"
