import numpy as np
import pandas as pd
import pytest
from made_up import SHAPE, VOXEL_UM, make_study

from cellkit.folder.disk import read_json, write_json
from cellkit.measuring.boxes import ENDS, box_queue, draw_boxes, finish_box, mark_cells, read_boxes, unmark
from cellkit.measuring.misses import answer_boxes_from_truth, box_marks, mark_agreements, missed_cells
from cellkit.measuring.quality import agreements


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


def with_truth(study, *, found=0.8, n=300, seed=0):
    """Give every image known cells, of which this share lies at a candidate, one cell at each."""
    rng = np.random.default_rng(seed)
    (study.folder / "truth").mkdir()
    for name in study.names:
        hits = study.candidates(name)[["z", "y", "x"]].sample(round(found * n), random_state=seed)
        others = pd.DataFrame(rng.random((n - len(hits), 3)) * (np.array(SHAPE) - 1), columns=["z", "y", "x"])
        pd.concat([hits, others]).to_csv(study.folder / "truth" / f"{name}.csv", index=False)
    return study


def true_misses(study):
    """Count the known cells of a study, and those without a candidate."""
    from cellkit.match import match_points
    from cellkit.tables import positions_um

    cells = hits = 0
    for name in study.names:
        truth = study.truth(name)
        there = positions_um(study.candidates(name), VOXEL_UM), positions_um(truth, VOXEL_UM)
        cells, hits = cells + len(truth), hits + len(match_points(*there, within_um=7.5).found)
    return cells, cells - hits


def lines(study):
    return sum(len(path.read_text().splitlines()) for path in (study.folder / "boxes").glob("*.jsonl"))


def test_boxes_are_drawn_once_and_lie_in_their_image(study):
    boxes = draw_boxes(study, 30)
    assert draw_boxes(study, 99, seed=5).equals(boxes)
    assert boxes["times"].sum() == 30
    ends = boxes[ENDS].to_numpy().reshape(-1, 3, 2)
    assert (ends[:, :, 0] >= 0).all() and (ends[:, :, 1] <= SHAPE).all()
    sides = (ends[:, :, 1] - ends[:, :, 0]) * VOXEL_UM
    assert (np.abs(sides - 75) <= 30).all(), "five diameters of 15 µm, in whole voxels"
    assert boxes["chance"].between(0, 1).all()
    assert not draw_boxes(study, 30, name="others", seed=1).equals(boxes)


def test_boxes_with_more_cells_are_drawn_more_often_and_chances_add_up_to_one(study):
    table = study.candidates("animal-1")
    full = table["z"] < 8
    study.save_candidates("animal-1", table.assign(p=np.where(full, 0.99, 0.01)), made_by={})
    boxes = draw_boxes(study, 4000, animals=["animal-1"], side_um=160)
    assert boxes["chance"].sum() == pytest.approx(1, abs=0.01), "all boxes of the grid were drawn"
    assert boxes.loc[boxes["z0"] == 0, "chance"].mean() > 2 * boxes.loc[boxes["z0"] > 0, "chance"].mean()
    assert boxes["times"].to_numpy() == pytest.approx(4000 * boxes["chance"].to_numpy(), abs=60)


def test_a_box_without_cells_is_told_from_one_that_nobody_looked_at(study):
    draw_boxes(study, 20)
    first, second = box_queue(study)["box"].iloc[:2]
    finish_box(study, first)
    boxes = read_boxes(study)[0].set_index("box")
    assert boxes.loc[first, "done"] and boxes.loc[first, "who"] == "me"
    assert not boxes.loc[second, "done"]
    assert len(box_queue(study)) == len(boxes) - 1
    assert lines(study) == 1


def test_marks_and_done_are_taken_back_by_further_lines(study):
    boxes = draw_boxes(study, 20)
    box = boxes.iloc[0]
    corner = box[["z0", "y0", "x0"]].to_numpy(float)
    mark_cells(study, box["box"], [corner, corner + 2], "ann")
    finish_box(study, box["box"], "ann")
    unmark(study, box["box"], "ann")
    assert not read_boxes(study)[0]["done"].any()
    assert len(box_marks(study)) == 2
    unmark(study, box["box"], "ann")
    assert box_marks(study).empty
    assert lines(study) == 6
    assert study.labels().empty, "marks are no labels: they never train"


def test_a_mark_in_the_middle_of_a_box_is_not_the_box_that_is_done(study):
    box = draw_boxes(study, 20).iloc[0]
    finish_box(study, box["box"])
    middle = box[ENDS].to_numpy(float).reshape(3, 2).mean(axis=1) - 0.5
    mark_cells(study, box["box"], [middle])
    assert read_boxes(study)[0]["done"].sum() == 1
    assert len(box_marks(study)) == 1


def test_a_cell_outside_its_box_is_refused(study):
    box = draw_boxes(study, 20).iloc[0]
    last = box[["z1", "y1", "x1"]].to_numpy(float) - 0.5
    mark_cells(study, box["box"], [last - 0.01])
    message = r"^A cell belongs to the box that holds its centre; \(.*\) lies outside box 1\. Leave it out\.$"
    with pytest.raises(ValueError, match=message):
        mark_cells(study, box["box"], [last])
    with pytest.raises(ValueError, match=r"^A box has a number from 1 to \d+; got 999\. Choose one\.$"):
        finish_box(study, 999)
    assert lines(study) == 1


def test_misses_and_recall_hold_the_truth(study):
    with_truth(study)
    draw_boxes(study, 150, side_um=240)
    assert answer_boxes_from_truth(study) == len(read_boxes(study)[0])
    cells, missed = true_misses(study)
    found = missed_cells(study)
    assert found.missed.low <= missed <= found.missed.high
    assert found.recall.low <= 1 - missed / cells <= found.recall.high
    assert found.recall.high - found.recall.low < 0.15
    assert found.sentence.startswith(f"The detector finds {100 * found.recall.value:.1f} % (")
    assert found.sentence == found.sentence.replace("wait", "").replace("rough", "")
    own = found.of("animal-1")
    assert own is not None and own.value < found.missed.value
    assert sum(found.of(name).value for name in study.names) == pytest.approx(found.missed.value)
    assert answer_boxes_from_truth(study) == 0, "what is done stays done"


def test_boxes_stay_good_when_cells_are_detected_anew(study):
    with_truth(study, found=1.0)
    draw_boxes(study, 60, side_um=240)
    answer_boxes_from_truth(study)
    before = missed_cells(study)
    assert before.recall.value == 1 and before.missed.value == 0 < before.missed.high
    for name in study.names:
        study.save_candidates(name, study.candidates(name).iloc[::2], made_by={})
    assert missed_cells(study).recall.value == pytest.approx(0.5, abs=0.15)


def test_a_box_that_two_people_marked_counts_with_the_marks_of_whoever_was_done_first(study):
    with_truth(study)
    draw_boxes(study, 40, side_um=240)
    answer_boxes_from_truth(study)
    once = missed_cells(study)
    box = read_boxes(study)[0].iloc[0]
    mark_cells(study, box["box"], [box[["z0", "y0", "x0"]].to_numpy(float)], "other")
    finish_box(study, box["box"], "other")
    assert missed_cells(study).boxes.equals(once.boxes)


def test_what_cannot_be_said_of_boxes_is_refused(study):
    message = r"^Missed cells are counted in boxes; this study has none of the name 'boxes'\. Draw them .*\.$"
    with pytest.raises(ValueError, match=message):
        missed_cells(study)
    draw_boxes(study, 20)
    message = r"^Missed cells are counted over boxes that are done; 0 of \d+ are\. Mark .*\(study\)\.$"
    with pytest.raises(ValueError, match=message):
        missed_cells(study)
    for box in box_queue(study)["box"]:
        finish_box(study, box)
    with pytest.raises(
        ValueError, match=r"^Recall needs marked cells; the 20 boxes hold none\. Draw more .*$"
    ):
        missed_cells(study)
    with pytest.raises(
        ValueError, match=r"^A box must be wider than a cell, 15 µm; got 3 µm\. Five .* size\.$"
    ):
        draw_boxes(study, name="small", side_um=3)
    message = (
        r"^Boxes are drawn in animals of the study, animal-1, animal-2, animal-3; got 'x'\. Choose .*\.$"
    )
    with pytest.raises(ValueError, match=message):
        draw_boxes(study, name="x", animals=["x"])
    with pytest.raises(
        ValueError, match=r"^The truth answers where it is known; for 'animal-\d' there .*\.$"
    ):
        draw_boxes(study, 5, name="more")
        answer_boxes_from_truth(study, "more")


def test_boxes_that_were_changed_or_lie_in_an_image_that_was_replaced_are_refused(study):
    draw_boxes(study, 20)
    path = study.folder / "animal-2.npy"
    pixels = np.load(path)
    np.save(path, pixels + 1)
    message = (
        r"^Answers measure the images that they were given on; 'animal-2' was replaced since the boxes "
        r"'boxes' were drawn, so they are about other pixels\. Put the old image back, or draw under another "
        r"name\.$"
    )
    with pytest.raises(ValueError, match=message):
        read_boxes(study)
    np.save(path, pixels)
    file = study.folder / "boxes" / "boxes.json"
    frozen = read_json(file, what="boxes")
    frozen["record"]["seed"] = 9
    write_json(file, frozen)
    with pytest.raises(ValueError, match=r"^A frozen file must be as it was written; .* changed since: .*$"):
        read_boxes(study)


def test_two_people_who_mark_the_same_boxes_are_compared(study):
    boxes = draw_boxes(with_truth(study), 40, side_um=120)
    answer_boxes_from_truth(study, who="ann")
    assert mark_agreements(study).empty and agreements(study).boxes.empty, "control: one person alone"
    assert box_queue(study).empty
    assert len(box_queue(study, who="bob")) == len(boxes)
    of_ann, dropped = box_marks(study), 0
    for number, box in box_queue(study, who="bob").iloc[:20].iterrows():
        centres = of_ann.loc[of_ann["box"] == box["box"], ["z", "y", "x"]].to_numpy()
        kept = centres[: len(centres) - (number % 2)] if len(centres) else centres
        dropped += len(centres) - len(kept)
        mark_cells(study, box["box"], kept, "bob")
        finish_box(study, box["box"], "bob")
    assert dropped > 3
    found = mark_agreements(study).iloc[0]
    assert (found["first"], found["second"], found["boxes"]) == ("ann", "bob", 20)
    assert found["cells"] - found["others"] == dropped and found["both"] == found["others"]
    assert found["positive_low"] < found["positive"] < found["positive_high"] <= 1
    common = boxes[boxes["box"].isin(set(boxes["box"]) - set(box_queue(study, who="bob")["box"]))]
    share = (common["times"] / common["chance"]).to_numpy()
    of_bob = box_marks(study).query("who == 'bob'")
    one, two = (each.groupby("box").size().reindex(common["box"], fill_value=0) for each in (of_ann, of_bob))
    assert found["positive"] == pytest.approx(2 * (share @ two) / (share @ one + share @ two)), "by hand"
    said = agreements(study)
    assert said.boxes["draw"].tolist() == ["boxes"]
    assert said.sentence == (
        "Nothing was answered twice yet: what people agree on with themselves is not known. In 20 boxes that "
        f"ann and bob both marked their cells agree with an F1 of {found['positive']:.2f} "
        f"({found['positive_low']:.2f} to {found['positive_high']:.2f})."
    )
    assert "<table" in said._repr_html_()


def test_marks_of_two_people_far_apart_are_not_the_same_cell(study):
    draw_boxes(study, 30, side_um=120)
    for who, shift in (("ann", 0.0), ("bob", 1.0)):
        for _, box in box_queue(study, who=who).iloc[:6].iterrows():
            middle = box[ENDS].to_numpy("float64").reshape(3, 2).mean(axis=1) - 0.5
            mark_cells(study, box["box"], [middle + np.array([0, 0, shift])], who)
            finish_box(study, box["box"], who)
    assert mark_agreements(study)["positive"].tolist() == [0], "10 µm apart, and a cell's radius is 7.5"


def test_boxes_of_two_people_without_any_cell_say_nothing_of_their_agreement(study):
    draw_boxes(study, 20)
    for who in ("ann", "bob"):
        for number in box_queue(study, who=who)["box"]:
            finish_box(study, number, who)
    found = agreements(study)
    assert np.isnan(found.boxes["positive"].iloc[0]) and found.boxes["boxes"].iloc[0] > 10
    assert "F1" not in found.sentence
