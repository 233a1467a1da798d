import numpy as np
import pandas as pd
import pytest
from made_up import SHAPE, answer, make_study, truth_at

from cellkit.measuring.boxes import draw_boxes
from cellkit.measuring.counting import counts
from cellkit.measuring.misses import answer_boxes_from_truth
from cellkit.review import audit_queue, draw_audit, name_parts


def audited(folder, n=500, **settings):
    study = make_study(folder, **settings)
    draw_audit(study, n)
    answer(study, audit_queue(study))
    return study


def halves(table):
    return np.where(table["x"] > (SHAPE[2] - 1) / 2, "east", "west")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 9,000 candidates with an answered audit of 900 places, and regions."""
    study = make_study(tmp_path_factory.mktemp("counted") / "study", n=3000)
    name_parts(study, halves)
    draw_audit(study, 900)
    answer(study, audit_queue(study))
    return study


def test_counts_by_region_hold_the_truth_and_add_up_to_the_animals(study):
    table = counts(study, "net-a", by="region").set_index(["animal", "region"])
    assert list(table.index.names) == ["animal", "region"]
    candidates = study.candidates()
    true = candidates.groupby(["image", "region"])["cell"].sum()
    covered = [table.loc[key, "low"] <= n <= table.loc[key, "high"] for key, n in true.items()]
    assert len(covered) == 6
    assert sum(covered) >= 5, "95 % each"
    judged = table.loc["animal-3"]
    assert judged["note"].str.startswith("from ").all() and judged["note"].str.contains("led by p").all()
    whole = counts(study, "net-a").set_index("animal").loc["animal-3"]
    assert judged["corrected"].sum() == pytest.approx(whole["corrected"], rel=0.05)
    assert table.loc[("all", "all"), "candidates"] == len(candidates)


def test_what_may_hide_in_a_part_is_told_by_its_own_answers(study):
    table = counts(study, "net-a", by="region").set_index(["animal", "region"])
    assert table.loc["animal-3", "note"].str.contains("led by p").all()
    places = study.audit()[0].query("animal == 'animal-3'")
    cells = pd.Series(truth_at(study, places), places.index)
    strata = pd.read_parquet(study.folder / "audits" / "audit" / "frame.parquet").query("image == 'animal-3'")
    strata = strata.assign(part=halves(strata))
    for part, here in places.groupby(halves(places)):
        sizes = strata[strata["part"] == part].groupby("stratum").size()
        expected = 0.0
        for stratum, size in sizes.items():
            of = here["stratum"] == stratum
            if not cells[here.index][of].any():
                expected += size * (min(3 / of.sum(), 1 - of.sum() / size) if of.any() else 1)
        assert table.loc[("animal-3", part), "hidden"] == pytest.approx(expected, abs=0.6), part
        assert expected > 5, "control: strata of small p hold no cell"


def test_a_part_is_as_well_known_from_its_own_answers_as_it_covers(tmp_path):
    covered = []
    for seed in range(12):
        study = make_study(tmp_path / str(seed), animals=(("a", "judge"),), n=1500, seed=seed)
        draw_audit(study, 400, seed=seed)
        answer(study, audit_queue(study))
        table = counts(study, "net-a", by=halves).set_index("part").loc[["east", "west"]]
        true = study.candidates().assign(part=halves).groupby("part")["cell"].sum()
        covered += ((table["low"] <= true) & (true <= table["high"])).tolist()
        assert table["note"].str.contains("led by p").all()
    assert np.mean(covered) >= 0.85


def test_counts_are_told_by_depth_and_brightness_too(study):
    depth = counts(study, "net-a", by="depth")
    assert set(depth["depth"]) == {"top third", "middle third", "bottom third", "all"}
    brightness = counts(study, "net-a", by="brightness").set_index(["animal", "brightness"])
    bright, dim = (brightness.loc[("animal-3", f"{name} third"), "corrected"] for name in ("bright", "dim"))
    assert bright > 5 * dim, "here brightness is the evidence"


def test_what_is_no_part_is_refused(study, tmp_path):
    message = (
        r"^Numbers are told by animal, depth, brightness, region, a column of the candidates or a function; "
        r"got 'colour'\. Give candidates such a column with review\.name_parts\(study, \.\.\.\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        counts(study, "net-a", by="colour")
    message = r"^A function of parts must return one name for each place; got \(2,\) for \d+\. Mend it\.$"
    with pytest.raises(ValueError, match=message):
        counts(study, "net-a", by=lambda table: ["a", "b"])


def add_missed(study, *, share, seed=0):
    """Give every image a truth: its candidates that are cells, and others that the detector missed."""
    rng = np.random.default_rng(seed)
    (study.folder / "truth").mkdir()
    every = 0
    for name in study.names:
        table = study.candidates(name)
        cells = table.loc[table["cell"], ["z", "y", "x"]]
        n = round(len(cells) * share / (1 - share))
        others = pd.DataFrame(rng.random((n, 3)) * (np.array(SHAPE) - 1), columns=["z", "y", "x"])
        both = pd.concat([cells, others])
        both.to_csv(study.folder / "truth" / f"{name}.csv", index=False)
        every += len(both)
    return every


def test_cells_that_the_detector_missed_are_folded_in_with_their_doubt(tmp_path):
    study = audited(tmp_path / "study", n=600, seed=4)
    every = add_missed(study, share=0.3)
    before = counts(study, "net-a").set_index("animal").loc["all"]
    assert np.isnan(before["total"]) and before["high"] < every
    assert before["note"].endswith("; without cells that the detector missed")
    draw_boxes(study, 80, side_um=240)
    assert counts(study, "net-a")["note"].str.endswith("missed: no box is done").all()
    answer_boxes_from_truth(study)
    table = counts(study, "net-a").set_index("animal")
    whole = table.loc["all"]
    assert whole["total_low"] <= every <= whole["total_high"]
    assert whole["total"] == pytest.approx(whole["corrected"] + whole["missed"], abs=1.5)
    assert whole["total_high"] - whole["total_low"] > whole["high"] - whole["low"]
    assert (table["corrected"] == counts(study, "net-a").set_index("animal")["corrected"]).all()
    assert table.loc["animal-1", "note"].endswith(("boxes there", "in all boxes"))


def test_boxes_without_any_cell_leave_the_total_open_and_say_so(tmp_path):
    study = audited(tmp_path / "study", n=200)
    (study.folder / "truth").mkdir()
    for name in study.names:
        pd.DataFrame(columns=["z", "y", "x"]).to_csv(study.folder / "truth" / f"{name}.csv", index=False)
    draw_boxes(study, 10)
    answer_boxes_from_truth(study)
    table = counts(study, "net-a")
    assert table["total"].isna().all()
    assert table["note"].str.endswith("detector missed: the 10 boxes hold none").all()


def test_the_count_for_comparison_is_near_where_errors_are_alike_and_doubted_where_not(tmp_path):
    alike = audited(tmp_path / "alike", n=900, seed=2)
    row = counts(alike, "net-a").set_index("animal").loc["animal-3"]
    true = alike.candidates("animal-3")["cell"].sum()
    assert row["adjusted"] == pytest.approx(true, rel=0.25)
    assert row["warning"] == ""
    shifted = make_study(tmp_path / "shifted", n=1500, share=0.1)
    table = shifted.candidates("animal-3")
    p = 1 / (1 + np.exp(-(table["score"] + 5)))
    shifted.save_candidates("animal-3", table.assign(p=p, called=p >= 0.5), made_by={"network": "net-a"})
    draw_audit(shifted, 700)
    answer(shifted, audit_queue(shifted))
    row = counts(shifted, "net-a").set_index("animal").loc["animal-3"]
    true = shifted.candidates("animal-3")["cell"].sum()
    assert row["adjusted"] > 1.5 * true, "control: it is off"
    assert row["warning"].startswith("adjusted: errors are not as frequent here (chance ")
    assert row["low"] <= true <= row["high"]


def test_the_count_by_prevalence_needs_to_know_what_the_network_was_taught(tmp_path, monkeypatch):
    study = audited(tmp_path / "study", n=900, seed=2)
    assert counts(study, "net-a")["em"].isna().all()
    taught = [{"answer": "cell", "labels": 27}, {"answer": "artefact", "labels": 73}]
    card = {"name": "net-a", "sha256": None, "trained_on": {"counts": taught}}
    monkeypatch.setattr(type(study), "cards", lambda study: [card])
    table = counts(study, "net-a").set_index("animal")
    true = study.candidates()["cell"].sum()
    assert table.loc["all", "em"] == pytest.approx(true, rel=0.15)
    assert "em: p is not right here" not in " ".join(table["warning"])
    taught[0]["labels"] = 5000
    off = counts(study, "net-a").set_index("animal").loc["animal-3"]
    assert "em: p is not right here (chance " in off["warning"]


def test_one_animal_alone_has_no_others_to_compare_with(tmp_path):
    study = audited(tmp_path / "study", n=200, animals=(("a", "train"),))
    table = counts(study, "net-a")
    assert table["adjusted"].isna().all()
    assert table["animal"].tolist() == ["a", "all"]


def test_without_any_cell_in_the_audit_the_count_says_what_may_hide(tmp_path):
    study = audited(tmp_path / "study", n=300, share=0.0)
    table = counts(study, "net-a").set_index("animal")
    assert (table["corrected"] == 0).all()
    assert table.loc["all", "more"] is None or np.isnan(table.loc["all", "more"])
    assert table.loc["all", "hidden"] > 0 and table.loc["all", "high"] > 0
