import numpy as np
import pytest
from made_up import answer, make_study, second_network, truth_at

from cellkit.audits import call_places, measured, newest_network, read_audit
from cellkit.review import audit_queue, barred, category_table, draw_audit, errors
from cellkit.sampling import QUEUE_COLUMNS, draw


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
