import numpy as np
import pandas as pd
import pytest
from made_up import make_study

from cellkit import annotate
from cellkit.annotate import Review
from cellkit.labels.sampling import category_names, error_chance
from cellkit.study import Study, open_study

CELL, ARTEFACT, MISSED, FALSE = category_names(("cell", "artefact"))


@pytest.fixture
def study(tmp_path) -> Study:
    """Two animals that train and one that judges; the truth of each lies in the study."""
    study = make_study(tmp_path / "study")
    (study.folder / "truth").mkdir()
    for name in study.names:
        table = study.candidates(name)
        table[table["cell"]][["z", "y", "x"]].to_csv(study.folder / "truth" / f"{name}.csv", index=False)
    return study


def audited(study: Study, n: int = 3) -> pd.DataFrame:
    """Freeze an audit of some places of a training image, for it to bar what lies near."""
    places = study.candidates("animal-1").head(n).assign(weight=1.0)
    study.save_audit("audit", places, {"seed": 0})
    return places


def keys(table: pd.DataFrame) -> set[tuple]:
    return set(map(tuple, table[["image", "z", "y", "x"]].to_numpy()))


WAYS = ["mixed", "category", "uncertain", "diverse", "random"]


@pytest.mark.parametrize("by", WAYS)
def test_a_queue_holds_what_was_asked_each_once_and_the_same_for_the_same_seed(study, by):
    queue = annotate.sample(study, 50, by=by, seed=3)
    assert len(queue) == len(keys(queue)) == 50
    assert keys(queue) <= keys(study.candidates())
    pd.testing.assert_frame_equal(queue, annotate.sample(study, 50, by=by, seed=3))
    assert keys(queue) != keys(annotate.sample(study, 50, by=by, seed=4)) or by == "uncertain"


@pytest.mark.parametrize("by", WAYS)
def test_images_that_judge_audited_places_and_labelled_ones_are_never_drawn(study, by):
    places = audited(study)
    annotate.answer_from_truth(study, annotate.sample(study, 100))
    labelled = keys(study.labelled_candidates().query("answer != ''"))
    assert len(labelled) == 100, "control: they are labelled"
    everything = annotate.sample(study, 5000, by=by)
    assert set(everything["image"]) == {"animal-1", "animal-2"}
    assert not keys(everything) & (labelled | keys(places))
    free = 2 * 600 - 100 - len(everything)
    assert free >= len(places), "control: only what is barred is left out"
    assert annotate.barred(study, study.candidates("animal-1")).sum() >= free


def test_a_candidate_whose_cube_overlaps_an_audited_one_is_barred_and_one_farther_away_is_not(study):
    place = audited(study, 1).iloc[0]
    steps = np.array([4.4, 4.6])
    near_and_far = pd.DataFrame([place[["image", "frame", "z", "y", "x"]]] * 2).assign(x=place["x"] + steps)
    assert annotate.barred(study, near_and_far).tolist() == [True, False]  # cubes are 45 µm wide, voxels 10
    assert not annotate.barred(study, near_and_far.assign(image="animal-2")).any(), "control: another image"


def test_an_answer_given_in_an_audit_bars_its_place_too(study):
    row = annotate.sample(study, 1).assign(origin="audit")
    assert not annotate.barred(study, row).any(), "control: before it is answered"
    annotate.answer(study, row, "cell")
    assert annotate.barred(study, row).all()


def test_random_rows_carry_one_over_the_probability_of_their_draw_and_chosen_ones_carry_none(study):
    queue = annotate.sample(study, 100, by="mixed")
    random = queue["origin"] == "random"
    assert random.sum() == 10
    assert (queue.loc[random, "weight"] == 1200 / 10).all()
    assert queue.loc[~random, "weight"].isna().all()
    assert queue["origin"].value_counts().to_dict() == {"uncertain": 70, "random": 10, "category": 20}
    inside = annotate.rectangle(study, "animal-1", ((0, 23), (0, 60), (0, 119)), 30)
    boxed = study.candidates("animal-1").query("y <= 60")
    assert (inside["weight"] == len(boxed) / 30).all()


def test_uncertain_ones_lie_nearest_to_the_threshold(study):
    frame = study.candidates().query("image != 'animal-3'")
    nearest = frame.assign(far=(frame["p"] - 0.5).abs()).nsmallest(40, "far")
    assert len(keys(annotate.sample(study, 40, by="uncertain")) & keys(nearest)) >= 36


def test_before_any_label_the_four_categories_are_confident_and_uncertain_calls_evenly(study):
    queue = annotate.sample(study, 80, by="category")
    assert queue["called"].sum() == 40
    sure = (queue["p"] - 0.5).abs() > 0.45
    assert 30 <= sure.sum() <= 50
    assert 15 <= (sure & queue["called"]).sum() <= 25


def test_once_labels_exist_a_batch_goes_to_the_emptiest_category(study):
    for number in range(4):
        annotate.answer_from_truth(study, annotate.draw_batch(study, str(number), 60, by="category"))
    counts = study.labelled_candidates()["category"].value_counts()
    at_random = 240 * study.candidates().eval("cell & ~called").mean()
    assert counts[MISSED] > 2 * at_random, "missed cells are rare; steering finds more of them"


def test_a_quota_is_followed_whatever_the_others_lack(study):
    called = study.candidates().query("called")
    only = annotate.sample(study, 30, by="category", quotas={FALSE: 1000})
    assert only["called"].all()
    assert only["p"].mean() < called["p"].quantile(0.25), "calls that may be false are unsure ones"
    sure = annotate.sample(study, 30, by="category", quotas={CELL: 1000})
    assert sure["p"].min() > called["p"].quantile(0.25), "control"


def test_the_chance_of_an_error_follows_the_labelled_neighbours():
    table = pd.DataFrame({"image": ["i"] * 4, "p": 0.9, "called": True, "score": [1.0, 2, 3, 4]})
    unknown = table.assign(z=0.0, y=0.0, x=0.0, category="", origin="")
    assert error_chance(unknown) == pytest.approx([0.1] * 4), "control: without labels, by p alone"
    told = unknown.assign(category=[FALSE, FALSE, FALSE, ""], origin="random")
    assert error_chance(told)[3] > 0.4
    audit = told.assign(origin="audit")
    assert error_chance(audit)[3] == pytest.approx(0.1), "an audit never steers"


def test_a_batch_is_drawn_once_and_comes_back_under_its_name_on_another_day(study):
    first = annotate.draw_batch(study, "1", 40)
    annotate.answer_from_truth(study, first.head(15))
    again = annotate.draw_batch(open_study(study.folder), "1", 40)
    pd.testing.assert_frame_equal(first, again, check_dtype=False)
    assert annotate.open_review(study, again).counts[""] == 25
    second = annotate.draw_batch(study, "2", 40)
    assert not keys(second) & keys(first.head(15))
    assert annotate.batch_names(study) == ["1", "2"]


def test_a_batch_of_one_name_is_not_drawn_twice_in_different_ways(study):
    annotate.draw_batch(study, "1", 40)
    with pytest.raises(
        ValueError,
        match=r"^A batch keeps what it was drawn with; '1' has n 40, by mixed, quotas None\. "
        r"Give another batch another name\.$",
    ):
        annotate.draw_batch(study, "1", 41)


def labelled_long_ago(study, n=250):
    """Answer a first batch of `n`, so that its earliest answers may come back."""
    first = annotate.draw_batch(study, "first", n=n, by="random")
    for part in np.array_split(np.arange(n), 5):
        annotate.answer_from_truth(study, first.iloc[part])
    return first


def test_some_of_a_batch_comes_back_unseen(study):
    first = labelled_long_ago(study)
    assert not (first["origin"] == "repeat").any(), "control: there was nothing to repeat"
    second = annotate.draw_batch(study, "second", n=100, by="random")
    again = second["origin"] == "repeat"
    assert len(second) == 100 and again.sum() == 5
    assert keys(second[again]) <= keys(first.iloc[:50]), "200 answers lie between"
    assert not keys(second[~again]) & keys(first)
    assert annotate.answers_of(study, second) == [""] * 100, "the first answer is not shown"
    assert annotate.draw_batch(study, "second", n=100, by="random").equals(second)
    assert not (annotate.draw_batch(study, "none", n=50, repeats=0.0)["origin"] == "repeat").any()
    many = annotate.draw_batch(study, "many", n=40, repeats=0.5)
    by_class = study.labelled_candidates().merge(
        many.loc[many["origin"] == "repeat", ["image", "z", "y", "x"]]
    )
    assert by_class["answer"].value_counts().min() >= 9, "evenly over both classes"


def test_an_answer_to_a_repeat_fills_it_and_clearing_it_leaves_the_first(study):
    labelled_long_ago(study)
    second = annotate.draw_batch(study, "second", n=100, by="random")
    again = second[second["origin"] == "repeat"]
    before = annotate.answers_of(study, again.assign(origin="random"))
    assert set(before) <= {"cell", "artefact"}
    annotate.answer(study, again, "unsure")
    assert annotate.answers_of(study, again) == ["unsure"] * 5
    assert annotate.answers_of(study, second).count("unsure") == 5
    annotate.clear(study, again)
    assert annotate.answers_of(study, again) == [""] * 5
    assert annotate.answers_of(study, again.assign(origin="random")) == before
    annotate.undo(study)
    assert annotate.answers_of(study, again) == ["unsure"] * 5


def test_an_impossible_share_of_repeats_is_refused(study):
    message = r"^`repeats` must be from 0 to 0\.5; got 2\. Leave it out for 0\.05\.$"
    with pytest.raises(ValueError, match=message):
        annotate.draw_batch(study, "1", repeats=2)


def test_answers_are_in_the_ledger_with_all_that_is_known_of_the_draw(study):
    queue = annotate.draw_batch(study, "first", 4, by="random")
    ids = annotate.answer(study, queue, ["cell", "artefact", "unsure", "cell"], "ann")
    labels = study.labels().set_index("id").loc[ids]
    assert labels["answer"].tolist() == ["cell", "artefact", "unsure", "cell"]
    assert (labels[["who", "origin", "batch", "network"]] == ["ann", "random", "first", "net-a"]).all(
        axis=None
    )
    np.testing.assert_allclose(labels["p"], queue["p"])
    np.testing.assert_allclose(labels["weight"], 1200 / 4)


def test_undo_and_redo_stay_in_their_batch_and_reach_over_a_restart(study):
    everywhere = ((0, 23), (0, 119), (0, 119))
    batches = [("a", "animal-1"), ("b", "animal-2")]
    first, second = (annotate.draw_rectangle(study, *batch, box=everywhere, n=5) for batch in batches)
    annotate.answer(study, first, "cell")
    annotate.answer(study, first.head(2), "artefact")
    annotate.answer(study, second, "artefact")
    study = open_study(study.folder)
    assert len(annotate.undo(study, batch="a")) == 2
    assert annotate.answers_of(study, first) == ["cell"] * 5
    assert annotate.answers_of(study, second) == ["artefact"] * 5, "control: the other batch stands"
    assert len(annotate.undo(study, batch="a")) == 5
    assert annotate.answers_of(study, first) == [""] * 5
    assert [len(annotate.redo(study, batch="a")) for _ in range(3)] == [5, 2, 0]
    assert annotate.answers_of(study, first) == ["artefact"] * 2 + ["cell"] * 3


def test_a_cleared_place_is_open_again_whatever_was_answered_there_and_undo_brings_it_back(study):
    queue = annotate.draw_batch(study, "a", 3)
    annotate.answer(study, queue, "cell")
    annotate.answer(study, queue.head(1), "artefact")
    annotate.clear(study, queue.head(1))
    assert annotate.answers_of(study, queue) == ["", "cell", "cell"]
    annotate.undo(study, batch="a")
    assert annotate.answers_of(study, queue) == ["artefact", "cell", "cell"]


def test_labels_outside_the_audit_are_refused_in_an_image_that_judges(study):
    row = study.candidates("animal-3").head(1).assign(origin="random")
    with pytest.raises(
        ValueError,
        match=r"^An image that judges takes labels of its audit only; 'animal-3' was to get one of origin "
        r"'random'\. Label in a training image\.$",
    ):
        annotate.answer(study, row, "cell")
    assert study.events().empty
    annotate.answer(study, row.assign(origin="audit"), "cell")
    assert len(study.events()) == 1, "control: an answer of the audit"


def test_a_missed_cell_is_kept_at_its_place_and_one_outside_the_image_is_refused(study):
    annotate.missed(study, "animal-1", (3, 7.5, 9), "ann")
    label = study.labels().iloc[0]
    assert (label["origin"], label["answer"]) == ("missed", "cell")
    assert label[["z_um", "y_um", "x_um"]].tolist() == [60, 75, 90]
    with pytest.raises(ValueError, match=r"^a missed cell: positions must lie inside the image of .*$"):
        annotate.missed(study, "animal-1", (30, 7, 9))


def test_of_two_candidates_on_one_cell_the_truth_takes_one(study):
    table = study.candidates("animal-1").head(3).copy()
    table[["z", "y", "x"]] = [[5, 20, 20], [5, 20, 20.6], [5, 60, 60]]
    study.save_candidates("animal-1", table, made_by={})
    truth = pd.DataFrame({"z": [5.0], "y": [20.0], "x": [20.5]})
    queue = annotate.rectangle(study, "animal-1", ((0, 23), (0, 119), (0, 119)))
    told = annotate.answer_from_truth(study, queue, truth=truth).sort_values("x")
    assert told["answer"].tolist() == ["artefact", "cell", "artefact"]


def test_the_truth_leaves_alone_what_a_person_has_answered(study):
    queue = annotate.sample(study, 20)
    annotate.answer(study, queue.head(5), "unsure", "ann")
    assert len(annotate.answer_from_truth(study, queue)) == 15
    assert len(annotate.answer_from_truth(study, queue)) == 0
    assert len(annotate.answer_from_truth(study, queue.iloc[:0])) == 0, "nothing is open, nothing is asked"
    assert annotate.answers_of(study, queue)[:5] == ["unsure"] * 5
    table = study.labelled_candidates()
    assert table.loc[table["answer"] == "cell", "cell"].all()
    assert (table["answer"] == "cell").sum() >= 2, "control"


def test_without_a_known_truth_nobody_answers(study):
    (study.folder / "truth" / "animal-1.csv").unlink()
    queue = annotate.rectangle(study, "animal-1", ((0, 23), (0, 119), (0, 119)))
    with pytest.raises(
        ValueError,
        match=r"^The truth answers where it is known; for 'animal-1' there is none\. "
        r"Answer yourself, or pass `truth`, a table of its cells with z, y, x in voxels\.$",
    ):
        annotate.answer_from_truth(study, queue)


def test_a_queue_of_places_that_are_no_longer_candidates_is_not_answered_by_the_truth(study):
    queue = annotate.sample(study, 3).assign(x=1.25)
    with pytest.raises(
        ValueError,
        match=r"^The truth answers about candidates of the study; 3 rows of this queue are none of them, "
        r"perhaps because they were detected again\. Draw a new queue\.$",
    ):
        annotate.answer_from_truth(study, queue)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"by": "best"},
            r"^A queue is drawn by one of mixed, category, uncertain, diverse, random; got 'best'\. "
            r"Choose one of them\.$",
        ),
        ({"n": 0}, r"^A queue needs at least one candidate; got n = 0\. Ask for 40\.$"),
        (
            {"quotas": {"cells": 3}},
            r"^Quotas name the categories correct cell, correct artefact, missed cell, false cell; "
            r"got 'cells'\. Rename it\.$",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(study, asked, message):
    with pytest.raises(ValueError, match=message):
        annotate.sample(study, **({"n": 4} | asked))


def test_a_study_without_candidates_or_without_calls_says_what_to_run(study):
    table = study.candidates("animal-1").drop(columns=["p", "called", "network"])
    for name in study.names:
        study.save_candidates(name, table.assign(image=name), made_by={})
    with pytest.raises(
        ValueError,
        match=r"^Drawing by 'mixed' needs candidates called by a network; 1200 have no p\. "
        r'Run `detect\.classify\(study\)` first, or draw by "random"\.$',
    ):
        annotate.sample(study, 4)
    assert len(annotate.sample(study, 4, by="random")) == 4, "control: random needs no calls"
    assert len(annotate.sample(study, 4, by="diverse")) == 4
    for name in study.names:
        study.save_candidates(name, table.head(0), made_by={})
    with pytest.raises(
        ValueError,
        match=r"^A queue is drawn from candidates; this study has none\. "
        r"Run `detect\.detect\(study\)` first\.$",
    ):
        annotate.sample(study, 4)


def test_the_balance_counts_what_may_train_and_names_the_emptiest(study):
    assert annotate.meter(study).advice == "No label trains yet. Start with a mixed batch of 40."
    table = study.candidates("animal-1")
    boxes = {"called & cell": 30, "~called & ~cell": 30, "called & ~cell": 12, "~called & cell": 3}
    for box, n in boxes.items():
        annotate.answer_from_truth(study, table.query(box).head(n).assign(origin="category"))
    other = study.candidates("animal-2").query("called & cell").head(40).assign(origin="random")
    annotate.answer_from_truth(study, other)
    annotate.answer_from_truth(study, study.candidates("animal-3").head(9).assign(origin="audit"))
    balance = annotate.meter(study)
    assert balance.of("category").to_dict() == {CELL: 70, ARTEFACT: 30, MISSED: 3, FALSE: 12}
    assert balance.of("class").to_dict() == {"cell": 73, "artefact": 42, "unsure": 0}
    assert balance.of("animal").to_dict() == {"animal-1": 75, "animal-2": 40}
    assert balance.of("origin")["audit"] == 9
    assert balance.advice == "missed cell is the emptiest box, with 3 labels. Open a batch of it."
    assert "<b>70</b>" in balance._repr_html_()


def test_a_key_answers_where_the_review_stands_and_moves_to_the_next_open_row():
    review = Review(("", "", "", ""), ("cell", "artefact"))
    review = annotate.press(review, "c")
    assert (review.answers, review.cursor) == (("cell", "", "", ""), 1)
    review = annotate.press(review, "x", rows=[1, 3])
    assert (review.answers, review.cursor) == (("cell", "artefact", "", "artefact"), 2)
    review = annotate.press(review, "u")
    assert review.counts == {"cell": 1, "artefact": 2, "unsure": 1, "": 0}
    assert annotate.press(review, "0", rows=[1]).cursor == 1, "a cleared row is the next open one"
    with pytest.raises(ValueError, match=r"^A key that answers is one of c, x, u, 1, 2, 3, 0; got 'q'\. .*$"):
        annotate.press(review, "q")
    with pytest.raises(ValueError, match=r"^This queue has rows 0 to 3; got 4\. Choose another\.$"):
        annotate.label(review, [4], "cell")


def test_every_pair_of_classes_has_keys_of_its_own():
    assert annotate.keymap(("on", "off"))["o"] == "on"
    assert annotate.keymap(("unclear", "clear"))["p"] == "unclear", "u is for unsure"
    assert annotate.keymap(("on", "off"))["x"] == "off"


def test_no_candidate_is_drawn_into_two_batches(tmp_path):
    study = make_study(tmp_path / "s", n=100)
    first = annotate.draw_batch(study, "1", 60)
    second = annotate.draw_batch(study, "2", 60, by="random")
    region = annotate.draw_rectangle(study, "3", "animal-1", box=((0, 23), (0, 119), (0, 119)), n=100)
    places = pd.concat([first, second, region])[["image", "z", "y", "x"]]
    assert not places.duplicated().any()
    assert len(region) == 100 - (pd.concat([first, second])["image"] == "animal-1").sum()
    (study.folder / "batches" / "1.json").unlink()
    again = annotate.draw_rectangle(study, "4", "animal-1", box=((0, 23), (0, 119), (0, 119)), n=100)
    assert len(again) == (first["image"] == "animal-1").sum(), "control: the batch is what held them"


def test_a_region_is_drawn_inside_its_outline(tmp_path):
    study = make_study(tmp_path / "s", n=300)
    region = annotate.outlined("animal-1", [(10, 10), (10, 90), (90, 10)], z=(2, 20))
    assert region.box == ((2, 20), (10, 90), (10, 90))
    queue = annotate.draw_region(study, "corner", region, n=20)
    assert (queue["y"] + queue["x"] <= 100).all()
    assert queue["z"].between(2, 20).all()
    pd.testing.assert_frame_equal(
        annotate.draw_region(study, "corner", region, n=20), queue, check_dtype=False
    )
    with pytest.raises(
        ValueError, match=r"^An outline needs three corners \(y, x\) or more; got 2\. Draw a larger one\.$"
    ):
        annotate.outlined("animal-1", [(10, 10), (10, 90)], z=(2, 20))
