"""The screens without a browser: messages in, messages out, and the labels on disk."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from listening import Listener
from made_up import answer, make_study

from cellkit import annotate, review
from cellkit.cubes import cut_cubes
from cellkit.labels import similar
from cellkit.labels.choosing import at_threshold
from cellkit.measuring.skips import read_skipped
from cellkit.reassess import assess
from cellkit.study import create_study, open_study
from cellkit.widgets import (
    AuditLabeller,
    BoxLabeller,
    CalibrationPlot,
    CategorySampler,
    ConfusionMatrix,
    EmbeddingMap,
    ErrorGallery,
    Gallery,
    RegionSampler,
    SliceBrowser,
    ThresholdExplorer,
    TrainingMonitor,
)
from cellkit.widgets.packed import EMPTY_CODE
from cellkit.widgets.pictures import CROP, SPAN, crops, encode
from cellkit.widgets.screen import LabelScreen, Screen, answer_styles


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", n=200)


@pytest.fixture
def queue(study):
    return annotate.draw_batch(study, "first", 30)


@pytest.fixture
def gallery(study, queue):
    return Listener(Gallery(study, queue, who="ann"))


@pytest.fixture
def browser(study):
    listener = Listener(SliceBrowser(study, "animal-1", who="ann").pane)
    listener.say("ready")
    return listener


def test_a_gallery_opens_with_its_rows_its_keys_and_the_next_open_row(gallery, queue):
    opened = gallery.say("ready")
    assert (opened["op"], opened["title"], opened["cursor"]) == ("open", "Batch first", 0)
    assert len(rows_of(gallery)) == len(told_by(gallery)) == 30
    assert rows_of(gallery)["p"][3] == pytest.approx(queue["p"][3])
    assert dict(opened["keymap"])["x"] == "artefact"
    assert opened["styles"] == answer_styles(("cell", "artefact"))


def rows_of(gallery):
    """The rows that a gallery opened with, as the front end unpacks them."""
    opened, buffers = next(pair for pair in gallery.heard if pair[0]["op"] == "open")
    found = {}
    for column, buffer in zip(opened["columns"], buffers[:-1], strict=True):
        words = column.get("words")
        values = np.frombuffer(buffer, "<f4" if words is None else "<u4")
        found[column["name"]] = (
            values if words is None else [None if code == EMPTY_CODE else words[code] for code in values]
        )
    return pd.DataFrame(found)


def told_by(gallery):
    """The answers that a gallery opened with."""
    opened, buffers = next(pair for pair in gallery.heard if pair[0]["op"] == "open")
    return [opened["answers"][code] for code in buffers[-1]]


def answers(gallery):
    return list(gallery.screen.review.answers)


def test_an_answer_is_on_disk_before_the_gallery_says_so(gallery, study):
    reply = gallery.say("label", rows=[0], answer="cell")
    assert (reply["op"], reply["cursor"], reply["rows"], reply["told"]) == ("answers", 1, [0], ["cell"])
    assert len(open_study(study.folder).labels()) == 1
    reply = gallery.say("label", rows=[1, 2, 5], answer="artefact")
    assert reply["cursor"] == 6
    assert (reply["rows"], reply["told"]) == ([1, 2, 5], ["artefact"] * 3), "only what changed is sent"
    assert answers(gallery)[:6] == ["cell", "artefact", "artefact", "", "", "artefact"]
    labels = study.labels()
    assert (labels[["who", "batch"]] == ["ann", "first"]).all(axis=None)


def test_label_all_then_flip_is_one_answer_a_row_and_few_actions(gallery, study):
    gallery.say("label", rows=list(range(30)), answer="artefact")
    for row in (3, 7, 20):
        gallery.say("label", rows=[row], answer="cell")
    labels = study.labels()
    assert labels["answer"].value_counts().to_dict() == {"artefact": 27, "cell": 3}
    assert 4 / len(labels) < 0.3


def test_the_same_queue_in_another_cell_goes_on_where_it_was(gallery, study, queue):
    gallery.say("label", rows=[0, 1, 2], answer="unsure")
    again = Listener(Gallery(open_study(study.folder), queue, who="ann"))
    assert again.say("ready")["cursor"] == 3
    assert told_by(again)[:4] == ["unsure"] * 3 + [""]


def test_undo_and_redo_go_through_all_steps_and_never_into_another_batch(gallery, study):
    other = study.candidates("animal-2").query("not called").tail(2).assign(origin="random", batch="other")
    annotate.answer(study, other, "cell", "ann")
    gallery.say("ready")
    start = told_by(gallery)
    steps = [([0], "cell"), ([1, 2, 3], "artefact"), ([1], "cell"), ([0], "")]

    def after(op, **message):
        gallery.say(op, **message)
        return answers(gallery)

    done = [after("label", rows=rows, answer=answer) for rows, answer in steps]
    assert [after("undo") for _ in range(4)] == [*done[2::-1], start]
    assert gallery.say("undo")["said"] == "Nothing to undo in this batch"
    assert [after("redo") for _ in range(4)] == done
    assert gallery.say("redo")["said"] == "Nothing to redo in this batch"
    assert annotate.answers_of(study, other) == ["cell", "cell"], "control: the other batch stands"


def test_the_queue_of_an_audit_is_blind(study):
    queue = study.candidates("animal-3").head(4).assign(origin="audit", weight=2.0, batch="audit")
    blind = Listener(Gallery(study, queue))
    assert "net-a" not in str(blind.say("ready"))
    assert {*rows_of(blind)} <= {"image", "z_um", "y_um", "x_um"}
    seen = Listener(Gallery(study, annotate.sample(study, 4)))
    assert "net-a" in str(seen.say("ready"))
    assert "p" in rows_of(seen), "control: other queues show the call"


def test_what_cannot_be_saved_is_shown_as_not_saved_and_the_answers_stay_as_on_disk(gallery, study):
    gallery.say("label", rows=[0], answer="cell")
    kept = study.labels()
    study.ledger("ann").path.unlink()
    study.ledger("ann").path.mkdir()
    reply = gallery.say("label", rows=[1], answer="cell")
    assert (reply["op"], reply["saved"]) == ("error", False)
    assert (reply["rows"], reply["told"]) == ([1], [""]), "the screen is told what is on disk"
    assert "must be writable" in reply["text"]
    assert len(kept) == 1, "control"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"op": "label", "rows": [99], "answer": "cell"}, "This queue has rows 0 to 29; got 99. "),
        ({"op": "label", "rows": [0], "answer": "dog"}, "An answer must be one of cell, artefact, unsure; "),
        ({"op": "dance"}, "'dance'"),
        ({}, "'op'"),
    ],
)
def test_a_wrong_message_is_an_error_on_the_screen_and_changes_nothing(gallery, study, message, text):
    reply = gallery.say(**{"op": None} | message) if "op" in message else None
    if reply is None:
        gallery.screen._handle_custom_msg(message, [])
        reply = gallery.heard[-1][0]
    assert reply["op"] == "error"
    assert reply["text"].startswith(text)
    assert study.events().empty


def test_a_letter_that_a_person_chose_answers_from_then_on_for_that_person_alone(gallery, study, queue):
    keys = dict(gallery.say("remap", key="k", answer="cell")["keymap"])
    assert (keys["k"], keys["1"], "c" in keys) == ("cell", "cell", False)
    again = Listener(Gallery(open_study(study.folder), queue, who="ann")).say("ready")["keymap"]
    assert dict(again) == keys
    assert dict(Listener(Gallery(study, queue, who="bob")).say("ready")["keymap"])["c"] == "cell", "control"
    reply = gallery.say("remap", key="x", answer="cell")
    assert reply["text"] == "A key gives one answer; 'x' gives artefact already. Press another."
    assert reply["saved"], "no answer was lost"
    assert gallery.say("remap", key="z", answer="cell")["text"].startswith("A key that answers is a letter ")


def test_a_queue_goes_on_after_the_last_answer_not_at_the_first_gap(gallery, study, queue):
    gallery.say("label", rows=[4], answer="cell")
    again = Listener(Gallery(open_study(study.folder), queue, who="ann"))
    assert again.say("ready")["cursor"] == 5
    assert told_by(again).index("") == 0, "control: an earlier one is open"


def test_crops_come_in_parts_that_are_asked_for(gallery):
    d, h, w = CROP.shape
    for part, voxels in (("plane", h * w), ("projection", h * w), ("sides", d * w + d * h)):
        gallery.say("crops", rows=[4, 2], part=part)
        message, buffers = gallery.heard[-1]
        assert (message["rows"], message["part"]) == ([4, 2], part)
        assert [len(buffer) for buffer in buffers] == [2 * voxels] * 2
    gallery.say("crops", rows=list(range(30)) * 2, part="plane")
    assert len(gallery.heard[-1][1]) == 32, "an answer does not wait for more"


@pytest.fixture
def two_channels(tmp_path):
    """One cell in the middle of the signal, one bright border in the background."""
    signal, background = np.full((2, 20, 40, 40), 100, np.uint16)
    signal[9:12, 18:22, 18:22] = 1000
    background[:, :3] = 1000
    noise = np.random.default_rng(0).integers(0, 10, signal.shape).astype(np.uint16)
    paths = [tmp_path / "signal.npy", tmp_path / "background.npy"]
    for path, channel in zip(paths, (signal, background), strict=True):
        np.save(path, channel + noise)
    image = {"name": "m1", "path": paths, "animal": "m", "voxel_um": (5, 2, 2), "axes": "zyx"}
    return create_study(
        tmp_path / "s", images=[image | {"channels": ("signal", "background")}], diameter_um=12
    )


def views(study, rows, channel):
    """Plane, projection, (z, x) and (z, y) of each row, as the front end takes them from the buffers."""
    d, h, w = CROP.shape
    parts = {"plane": [(h, w)], "projection": [(h, w)], "sides": [(d, w), (d, h)]}
    found = [[] for _ in range(len(rows))]
    for part, shapes in parts.items():
        for row, buffer in enumerate(crops(study, rows, part)):
            words = np.frombuffer(buffer, "<u2").reshape(2, -1)[channel]
            cuts = np.split(words, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
            found[row] += [cut.reshape(shape) for cut, shape in zip(cuts, shapes, strict=True)]
    return found


def test_a_crop_has_the_cell_in_its_middle_in_all_planes_and_is_dark_beyond_the_image(two_channels):
    middle = {"image": "m1", "frame": 0, "z": 10.0, "y": 19.5, "x": 19.5}
    rows = pd.DataFrame([middle, middle | {"y": 0.0}])
    signal, background = views(two_channels, rows, 0), views(two_channels, rows, 1)
    for view in signal[0]:
        bright = np.argwhere(view > view.min() / 2 + view.max() / 2).mean(axis=0)
        np.testing.assert_allclose(bright, np.array(view.shape) / 2 - 0.5, atol=0.6)
    plane, projection, *_ = signal[0]
    assert (projection >= plane).mean() > 0.99
    edge = background[1][0]
    assert (edge[: CROP.shape[1] // 2 - 2] == 0).all(), "beyond the image"
    assert edge[CROP.shape[1] // 2 + 2].min() > 20000, "control: the border of the image is bright"


def test_parts_of_a_crop_are_the_middle_of_the_whole_cube(two_channels):
    rows = pd.DataFrame([{"image": "m1", "frame": 0, "z": 8.3, "y": 12.7, "x": 25.1}])
    known = two_channels.intensities("m1")
    (cube,) = cut_cubes(
        two_channels.image("m1"), rows, intensities=known, diameter_um=12, geometry=CROP, as_measured=True
    )[..., 0]
    z, y, x = (n // 2 for n in CROP.shape)
    whole = [
        cube[z - 1 : z + 1].mean(0),
        cube[z // 2 : z + z // 2].max(0),
        cube[:, y - 1 : y + 1].mean(1),
        cube[:, :, x - 1 : x + 1].mean(2),
    ]
    for view, expected in zip(views(two_channels, rows, 0)[0], whole, strict=True):
        np.testing.assert_allclose(view, encode(expected, known["signal"]).astype(float), atol=2)


def test_pixels_are_sent_on_one_scale_for_a_whole_channel(two_channels):
    intensities = two_channels.intensities("m1")["signal"]
    values = np.array([intensities.low, intensities.high])
    np.testing.assert_allclose(encode(values, intensities) / 65535 * SPAN - 1, [0, 1], atol=1e-4)


def test_the_browser_reads_the_part_of_the_plane_that_is_shown(two_channels):
    two_channels.save_candidates("m1", make_empty(two_channels), made_by={})
    pane = Listener(SliceBrowser(two_channels, "m1").pane)
    intensities = two_channels.intensities("m1")
    view = {"along": 0, "box": [[10, 11], [4, 24], [6, 36]], "step": [1, 1], "frame": 0}
    said = pane.say("view", key="k", roles=["signal", "background"], **view)
    (message, buffers) = pane.heard[-1]
    assert (said["rows"], said["columns"], message["key"]) == (20, 30, "k")
    for role, buffer in zip(("signal", "background"), buffers, strict=True):
        plane = two_channels.image("m1").read(role)[10, 4:24, 6:36]
        np.testing.assert_array_equal(
            np.frombuffer(buffer, "<u2").reshape(20, 30), encode(plane, intensities[role])
        )
    thicker = view | {"box": [[8, 13], [4, 24], [6, 36]], "step": [2, 2]}
    pane.say("view", key="k", roles=["signal"], **thicker)
    message, buffers = pane.heard[-1]
    thick = two_channels.image("m1").read("signal")[8:13, 4:24, 6:36].max(0)
    halved = encode(thick.reshape(10, 2, 15, 2).mean(axis=(1, 3)), intensities["signal"])
    got = np.frombuffer(buffers[0], "<u2").reshape(10, 15)
    np.testing.assert_allclose(got, halved, atol=1)


def test_planes_that_will_be_wanted_next_come_in_one_message(two_channels):
    two_channels.save_candidates("m1", make_empty(two_channels), made_by={})
    pane = Listener(SliceBrowser(two_channels, "m1").pane)
    view = {"along": 0, "step": [1, 1], "frame": 0, "roles": ["signal", "background"], "image": "m1"}
    views = [view | {"key": f"{z}", "box": [[z, z + 1], [4, 24], [6, 36]]} for z in (10, 11)]
    said = pane.say("views", views=[*views, views[0] | {"key": "another", "image": "m2"}])
    together = pane.heard[-1][1]
    shape = {"rows": 20, "columns": 30, "channels": 2}
    assert said == {"op": "views", "views": [{"key": "10"} | shape, {"key": "11"} | shape]}
    alone = []
    for each in views:
        pane.say("view", **each)
        alone += pane.heard[-1][1]
    assert together == alone and len(set(alone)) == 4


@pytest.mark.parametrize(
    ("along", "box"), [(1, [[0, 20], [19, 20], [3, 40]]), (2, [[2, 20], [5, 35], [20, 21]])]
)
def test_the_other_planes_are_the_image_seen_along_y_and_along_x(two_channels, along, box):
    pane = Listener(SliceBrowser(two_channels, "m1").pane)
    said = pane.say("view", key="k", roles=["signal"], along=along, box=box, step=[1, 1], frame=0)
    block = two_channels.image("m1").read("signal")[tuple(slice(*side) for side in box)]
    seen = block[:, 0] if along == 1 else block[:, :, 0].T
    got = np.frombuffer(pane.heard[-1][1][0], "<u2").reshape(said["rows"], said["columns"])
    np.testing.assert_array_equal(got, encode(seen, two_channels.intensities("m1")["signal"]))


def make_empty(study):
    columns = {"image": [], "frame": [], "z": [], "y": [], "x": [], "score": [], "diameter_um": []}
    return pd.DataFrame(columns).astype({"image": "str", "frame": "int64"})


def points(browser):
    message, (numbers, codes) = next(pair for pair in browser.heard if pair[0]["op"] == "points")
    return np.frombuffer(numbers, "<f4").reshape(message["n"], 4), np.frombuffer(codes, "u1").reshape(-1, 2)


def test_all_points_are_sent_once_and_afterwards_only_what_changes(browser, study):
    numbers, codes = points(browser)
    table = study.candidates("animal-1")
    np.testing.assert_allclose(numbers[:, 3], table["p"], rtol=1e-5)
    np.testing.assert_array_equal(codes[:, 0], table["called"])
    changed = browser.say("label", index=7, answer="artefact")
    assert (changed["op"], changed["rows"], changed["codes"], changed["n"]) == ("changed", [7], [2], 0)
    assert sum(len(buffer) for buffer in browser.heard[-1][1]) == 0, "no point is sent again"
    label = study.labels().iloc[0]
    assert (label["origin"], label["batch"], label["who"]) == ("category", "browse animal-1", "ann")
    assert (browser.say("undo")["rows"], browser.heard[-1][0]["codes"]) == ([7], [0])
    assert browser.say("undo")["said"] == "Nothing to undo here"
    assert browser.say("redo")["codes"] == [2]
    assert browser.say("label", index=7, answer="")["codes"] == [0]
    assert study.labels().empty


def test_a_missed_cell_added_by_a_click_is_a_new_point_and_gone_when_it_is_taken_back(browser, study):
    added = browser.say("missed", z=3, y=40.25, x=50.5)
    numbers, codes = browser.heard[-1][1]
    assert (added["rows"], added["n"]) == ([], 1)
    np.testing.assert_allclose(np.frombuffer(numbers, "<f4")[:3], [3, 40.25, 50.5], rtol=1e-6)
    assert list(codes) == [2, 1]
    assert study.labels()["origin"].tolist() == ["missed"]
    gone = browser.say("undo")
    assert (gone["rows"], gone["codes"], gone["n"]) == ([200], [4], 0)
    back = browser.say("redo")
    assert (back["rows"], back["codes"], back["n"]) == ([200], [1], 0)


def test_labels_of_another_sitting_arrive_with_the_next_refresh(browser, study):
    row = study.candidates("animal-1").iloc[[3]].assign(origin="category", batch="b")
    annotate.answer(open_study(study.folder), row, "cell", "bob")
    browser.heard.clear()
    browser.screen.refresh()
    assert (browser.heard[-1][0]["rows"], browser.heard[-1][0]["codes"]) == ([3], [1])


def test_what_else_changed_is_looked_up_when_the_person_pauses(browser, study):
    row = study.candidates("animal-1").iloc[[3]].assign(origin="category", batch="b")
    annotate.answer(open_study(study.folder), row, "artefact", "bob")
    changed = browser.say("label", index=7, answer="cell")
    assert (changed["rows"], changed["codes"], changed["revision"]) == ([7], [1], 1)
    settled = browser.say("settled")
    assert (settled["rows"], settled["codes"], settled["said"]) == ([3], [2], ""), (
        "and 7 stays as it was said"
    )
    assert browser.say("settled")["rows"] == [], "control"


def test_candidates_chosen_in_the_picture_are_opened_in_the_gallery_below(study):
    browser = SliceBrowser(study, "animal-1", who="ann")
    pane = Listener(browser.pane)
    pane.say("gallery", rows=[5, 2, 9])
    queue = browser.children[1].queue
    table = study.candidates("animal-1").iloc[[5, 2, 9]]
    np.testing.assert_array_equal(queue[["z", "y", "x"]], table[["z", "y", "x"]])
    assert set(queue["batch"]) == {"browse animal-1"}
    gallery = Listener(browser.children[1])
    gallery.say("label", rows=[0], answer="cell")
    gallery.say("settled")
    assert pane.heard[-1][0]["rows"] == [5]


def test_an_image_that_judges_can_be_looked_at_but_not_labelled(study):
    pane = Listener(SliceBrowser(study, "animal-3").pane)
    pane.say("ready")
    assert pane.heard[0][0]["judges"]
    for message in ({"op": "label", "index": 0, "answer": "cell"}, {"op": "missed", "z": 1, "y": 2, "x": 3}):
        reply = pane.say(**message)
        assert (reply["op"], reply["saved"]) == ("error", False)
        assert reply["text"].startswith("An image that judges takes labels of its audit only; ")
    assert study.events().empty


def test_a_candidate_near_an_audited_place_is_not_labelled_by_a_click(browser, study):
    study.save_audit("audit", study.candidates("animal-1").head(1).assign(weight=1.0), {"seed": 0})
    reply = browser.say("label", index=0, answer="cell")
    assert reply["text"].startswith("Labels outside the audit keep away from it; ")
    assert study.events().empty


def test_a_rectangle_opens_a_sample_below_and_its_answers_are_drawn_in_the_picture(study):
    browser = SliceBrowser(study, "animal-1", who="ann")
    pane = Listener(browser.pane)
    pane.say("ready")
    pane.say("region", box=[[-1, 24], [0, 80], [0, 119]])
    gallery = Listener(browser.children[1])
    queue = gallery.screen.queue
    assert len(queue) == 40
    assert queue["y"].max() <= 80
    assert set(queue["origin"]) == {"rectangle"}
    pane.heard.clear()
    gallery.say("label", rows=[0, 1], answer="cell")
    assert not pane.heard, "the picture waits until the person pauses"
    gallery.say("settled")
    assert pane.heard[-1][0]["codes"] == [1, 1]
    reply = pane.say("region", box=[[0, 1], [5, 5], [5, 5]])
    assert (reply["text"][:42], reply["saved"]) == ("A region needs candidates without a label ", True)


def test_an_outline_opens_a_sample_of_what_lies_inside_it(study):
    browser = SliceBrowser(study, "animal-1", who="ann")
    triangle = [[0, 0], [119, 0], [0, 119]]
    Listener(browser.pane).say("region", box=[[-1, 24], [0, 119], [0, 119]], outline=triangle)
    queue = browser.children[1].queue
    assert len(queue) == 40
    assert (queue["y"] + queue["x"] <= 119).all()
    table = study.candidates("animal-1")
    assert (table["y"] + table["x"] > 119).any(), "control: others lie outside"


@pytest.fixture
def audited(study):
    review.draw_audit(study, 40)
    return study


def test_an_audit_is_labelled_blind_in_random_order_and_what_is_passed_over_is_recorded(audited):
    labeller = Listener(AuditLabeller(audited, who="ann"))
    opened = labeller.say("ready")
    assert (opened["title"], opened["ordered"], opened["noted"]) == ("Audit", True, "")
    assert {*rows_of(labeller)} == {"image", "z_um", "y_um", "x_um"}
    drawn = audited.audit("audit")[0]
    assert not drawn["z"].equals(labeller.screen.queue["z"])
    assert sorted(drawn["z"]) == sorted(labeller.screen.queue["z"])
    assert labeller.say("label", rows=[0], answer="cell")["noted"] == "", "control: none was passed over"
    reply = labeller.say("label", rows=[4, 5], answer="artefact")
    assert reply["noted"] == "3 passed over, recorded"
    skipped = read_skipped(audited)
    np.testing.assert_array_equal(skipped["x"], labeller.screen.queue["x"][1:4])
    assert set(skipped["who"]) == {"ann"}
    assert labeller.say("label", rows=[2], answer="cell")["noted"] == "2 passed over, recorded"
    assert len(read_skipped(audited)) == 3, "one line a place"
    again = Listener(AuditLabeller(open_study(audited.folder), who="ann"))
    assert again.say("ready")["noted"] == "2 passed over, recorded"
    assert told_by(again)[:6] == ["cell", "", "cell", "", "artefact", "artefact"]


def test_errors_are_shown_the_surest_first_and_mended_in_place_by_a_new_line(study):
    rows = study.candidates("animal-1")
    rows = rows.assign(origin="category", batch="b").iloc[:60]
    annotate.answer(study, rows, np.where(rows["cell"], "artefact", "cell").tolist(), "ann")
    errors = Listener(ErrorGallery(study, "net-a", who="ann"))
    opened = errors.say("ready")
    assert (opened["title"], opened["group"]) == ("Errors of net-a", "category")
    sure = review.errors(study, "net-a")["sure"].to_numpy()
    assert (np.diff(sure) <= 0).all()
    rows, was = rows_of(errors), told_by(errors)[0]
    assert rows["note"][0] == f"{round(100 * sure[0])} % sure of its mistake"
    assert set(rows["category"]) == {"missed cell", "false cell"}
    other = "cell" if was == "artefact" else "artefact"
    before = len(study.events())
    assert errors.say("label", rows=[0], answer=other)["noted"] == "1 mended"
    assert len(study.events()) == before + 1, "the first answer stays"
    assert errors.say("undo")["noted"] == ""


def test_cells_of_a_box_are_marked_by_clicks_taken_back_and_the_box_is_done(study):
    review.draw_boxes(study, 6)
    labeller = Listener(BoxLabeller(study, who="ann"))
    labeller.say("ready")
    opened = labeller.heard[0][0]
    (z, _), (y, _), (x, _) = opened["box"]
    assert (opened["keymap"], opened["judges"], labeller.heard[1][0]["n"]) == ([], False, 0), "blind"
    n = labeller.screen.total
    assert opened["progress"] == f"box 1 of {n}, 0 of {n} done"
    assert labeller.say("missed", z=z, y=y + 0.3, x=x + 0.2)["n"] == 1
    assert labeller.say("missed", z=z, y=y + 3, x=x + 3)["n"] == 1
    assert labeller.say("undo")["codes"] == [4]
    marks = review.box_marks(study)
    np.testing.assert_allclose(marks[["z", "y", "x"]], [[z, y + 0.3, x + 0.2]])
    labeller.say("missed", z=z, y=-5, x=x)
    reply = labeller.heard[-1][0]
    assert (reply["text"][:28], reply["saved"]) == ("A cell belongs to the box th", False)
    labeller.say("done")
    assert labeller.heard[0][0]["progress"] == f"box 2 of {n}, 1 of {n} done"
    assert BoxLabeller(open_study(study.folder), who="ann").box["box"] == labeller.screen.box["box"]
    assert study.events().empty, "marks never train"


def test_when_all_boxes_are_done_the_screen_says_so(study):
    boxes = review.draw_boxes(study, 2)
    for box in boxes["box"]:
        review.finish_box(study, int(box))
    with pytest.raises(
        ValueError,
        match=rf"^Cells are marked in boxes that are not done; all {len(boxes)} of 'boxes' are\. "
        r"Draw others with review\.draw_boxes\(study, name=\.\.\.\)\.$",
    ):
        BoxLabeller(study)
    second = Listener(BoxLabeller(study, who="bob", again=True))
    second.say("ready")
    assert second.heard[0][0]["progress"] == f"box 1 of {len(boxes)}, 0 of {len(boxes)} done"
    second.say("done")
    assert len(BoxLabeller(study, who="bob", again=True).queue) == len(boxes) - 1


def test_a_box_of_the_category_table_opens_its_unfinished_batch(study):
    (study.folder / "truth").mkdir()
    for name in study.names:
        study.candidates(name).query("cell")[["z", "y", "x"]].to_csv(study.folder / "truth" / f"{name}.csv")
    sampler = CategorySampler(study, who="ann", n=20)
    table = Listener(sampler.table)
    counts = table.say("ready")
    assert counts["labels"] == dict.fromkeys(
        ["correct cell", "correct artefact", "missed cell", "false cell"], 0
    )
    assert sum(counts["called"]) == 400
    table.say("open", category="false cell")
    first = sampler.children[1].queue
    assert first["called"].all()
    table.say("open", category="false cell")
    pd.testing.assert_frame_equal(sampler.children[1].queue, first, check_dtype=False)
    gallery = Listener(sampler.children[1])
    table.heard.clear()
    gallery.say("label", rows=list(range(20)), answer="artefact")
    gallery.say("settled")
    assert table.heard[-1][0]["labels"]["false cell"] == 20
    table.say("open", category="false cell")
    assert sampler.children[1].queue["batch"][0] == "false cell 2"


def training(epochs, on_epoch, stop, wait=0.0):
    done = 0
    while done < epochs and not stop.wait(wait):
        done += 1
        on_epoch({"epoch": done, "loss": 1 / done, "val_loss": 1 / done, "f1": 0.5, "val_f1": 0.5})
    return done


def test_a_training_runs_in_the_background_and_its_history_is_kept():
    monitor = TrainingMonitor(training, 3)
    assert monitor.result() == 3
    assert monitor.history["epoch"].tolist() == [1, 2, 3]
    monitor.stop()
    assert monitor.state == "done", "a wish to stop that comes after the end changes nothing"
    shown = Listener(monitor).say("ready")
    assert (shown["state"], len(shown["rows"])) == ("done", 3)


def test_stop_ends_a_training_and_keeps_what_it_returns():
    monitor = TrainingMonitor(training, 10**6, wait=0.01)
    listener = Listener(monitor)
    listener.say("stop")
    assert monitor.result() < 10**6
    assert monitor.state == "done"


def test_interrupting_the_wait_for_a_result_stops_the_training(monkeypatch):
    monitor = TrainingMonitor(training, 10**6, wait=0.01)
    join, calls = threading.Thread.join, []

    def interrupted(thread, timeout=None):
        calls.append(thread)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    assert monitor.result() < 10**6


def awaited(coroutine):
    """Run it in a thread of its own: after tests in a browser this one has a loop that runs."""
    with ThreadPoolExecutor(1) as own:
        return own.submit(asyncio.run, coroutine).result()


def test_awaiting_a_training_leaves_the_event_loop_free_until_it_returns():
    async def notebook(monitor):
        waits = asyncio.ensure_future(asyncio.wait_for(monitor, 20))
        await asyncio.sleep(0.05)
        assert monitor.state == "running", "control: it is not over before it is stopped"
        monitor._handle_custom_msg({"op": "stop"}, [])
        return await waits

    assert 0 < awaited(notebook(TrainingMonitor(training, 10**6, wait=0.01))) < 10**6


def test_cancelling_what_awaits_a_training_stops_it_and_keeps_what_it_returns():
    async def notebook(monitor):
        waits = asyncio.ensure_future(monitor._ended())
        await asyncio.sleep(0.05)
        waits.cancel()
        return await waits

    assert awaited(notebook(TrainingMonitor(training, 10**6, wait=0.01))) < 10**6


def test_the_histories_of_former_networks_are_drawn_behind_the_curves(study):
    table = pd.DataFrame(
        {"epoch": [1, 2], "loss": [1.0, 0.5], "val_loss": [1.0, np.nan], "val_f1": [0.1, 0.2]}
    )
    for name in ("net-1", "net-2"):
        folder = study.network_folder(name)
        folder.mkdir(parents=True)
        table.to_csv(folder / "history.csv", index=False)
        (folder / "card.json").write_text(json.dumps(card(name)))

    def train(study, *, name, on_epoch, stop):
        return name

    monitor = TrainingMonitor(train, study, name="net-2")
    assert monitor.result() == "net-2"
    assert list(monitor.former) == ["net-1"], "the network that is trained is not one of the former"
    drawn = Listener(monitor).say("ready")["former"]
    assert [row["val_loss"] for row in drawn[0]["rows"]] == [1.0, None]


def card(name):
    return {"name": name, "made_at": f"2026-01-0{name[-1]}T00:00:00+00:00", "sha256": name}


def test_the_browser_hears_at_most_twice_a_second_of_a_training():
    heard = []

    class Counted(TrainingMonitor):
        def send(self, message, buffers=None):
            heard.append(message)

    Counted(training, 200, wait=0.001).result()
    assert len(heard) <= 4, "the start, the wait, half a second, the end"
    assert len(heard[-1]["rows"]) == 200, "control: the last message holds all"


def test_a_training_that_fails_says_why_on_the_screen_and_to_who_waits():
    def fails(on_epoch, stop):
        raise ValueError("Labels need two classes; all 3 are cell. Label some artefacts.")

    monitor = TrainingMonitor(fails)
    with pytest.raises(
        ValueError, match=r"^Labels need two classes; all 3 are cell\. Label some artefacts\.$"
    ):
        monitor.result()
    shown = Listener(monitor).say("ready")
    assert (shown["state"], shown["error"][:6]) == ("failed", "Labels")


SCREENS = [
    each for kind in (Screen, LabelScreen) for each in kind.__subclasses__() if each is not LabelScreen
]


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.__name__)
def test_a_screen_is_deaf_to_jupyters_keys_and_asks_for_its_data(screen):
    assert 'data-lm-suppress-shortcuts": "true"' in screen._esm
    assert 'model.send({ op: "ready" })' in screen._esm
    assert screen._esm.count("export default") == 1
    assert "import " not in screen._esm


def test_a_screen_is_a_widget_in_a_notebook_and_keeps_no_pixels_in_it(gallery):
    gallery.say("crops", rows=[0, 1], part="plane")
    state = gallery.screen.get_state()
    assert sum(len(str(value)) for name, value in state.items() if not name.startswith("_")) < 1000
    assert "application/vnd.jupyter.widget-view+json" in gallery.screen._repr_mimebundle_()[0]


@pytest.fixture
def embedded(study, monkeypatch):
    """The study with a network whose embedding of a candidate is its position."""

    looked = []
    monkeypatch.setattr(similar, "find_network", lambda study, name: None)
    monkeypatch.setattr(similar, "look_once", lambda study, image, network: looked.append(image))
    monkeypatch.setattr(
        similar, "embeddings_at", lambda study, network, places: places[["z", "y", "x"]].to_numpy("float32")
    )
    return SimpleNamespace(study=study, looked=looked)


ALIKE = (
    r"^What others are to resemble is a candidate of a training image; 1 of 1 are none, perhaps because they "
    r"were detected again\. Choose another\.$"
)


def test_similar_ones_are_the_nearest_in_the_embedding_that_have_no_label(embedded):
    table = embedded.study.candidates("animal-1")
    queue = annotate.similar(embedded.study, table.iloc[[0]], n=6)
    frame = pd.concat([table, embedded.study.candidates("animal-2")])
    spread = frame[["z", "y", "x"]].std(ddof=0)
    far = (((frame[["z", "y", "x"]] - table[["z", "y", "x"]].iloc[0]) / spread) ** 2).sum(axis=1)
    near = frame.iloc[np.argsort(far.to_numpy())[:6]]
    np.testing.assert_allclose(queue["x"], near["x"])
    assert queue["x"][0] == table["x"][0], "control: without a label it is its own nearest"
    annotate.answer(embedded.study, queue.head(1), "cell")
    assert annotate.similar(embedded.study, table.iloc[[0]], n=5)["x"].tolist() == queue["x"][1:].tolist()
    assert set(embedded.looked) == {"animal-1", "animal-2"}, "what is not kept yet is looked at once"
    with pytest.raises(
        ValueError, match=r"^What others are to resemble is a candidate of a training image; 1 of 1 "
    ):
        annotate.similar(embedded.study, table.iloc[[0]].assign(z=0.123))


def test_a_gallery_opens_a_batch_of_what_looks_like_one_of_its_candidates(embedded):
    sampler = CategorySampler(embedded.study, who="ann", n=10)
    table = Listener(sampler.table)
    assert table.say("ready")["ways"] == ["mixed", "uncertain", "diverse", "random"]
    table.say("open", category="random")
    first = Listener(sampler.gallery)
    assert first.say("ready")["similar"]
    assert set(first.screen.queue["origin"]) == {"random"}
    first.say("similar", row=3)
    assert sampler.gallery is not first.screen
    assert set(sampler.gallery.queue["origin"]) == {"similar"}
    assert sampler.gallery.batch == "similar 1"
    assert not Listener(Gallery(embedded.study, first.screen.queue)).say("ready")["similar"], "control"


def test_regions_are_drawn_one_after_the_other_and_opened_again(study):
    sampler = RegionSampler(study, "animal-1", who="ann")
    pane = Listener(sampler.pane)
    assert pane.say("ready")["op"] == "points"
    assert pane.heard[0][0]["tool"] == "rectangle"
    pane.say("region", box=[[-1, 24], [0, 50], [0, 119]])
    n = len(sampler.gallery.queue)
    assert [label for label, _ in sampler.regions.options] == [
        "a region drawn before",
        f"animal-1 1: {n} open",
    ]
    gallery = Listener(sampler.gallery)
    gallery.say("label", rows=list(range(n)), answer="artefact")
    gallery.say("settled")
    assert sampler.regions.options[1][0] == "animal-1 1: done"
    assert f"<b>0 cell, {n} artefact, 0 unsure</b>" in sampler.meter.value
    pane.say("region", box=[[-1, 24], [60, 119], [0, 119]])
    sampler.regions.value = "animal-1 1"
    assert sampler.gallery.batch == "animal-1 1"


@pytest.fixture
def assessed(study):
    queue = review.draw_audit(study, 120).pipe(lambda _: review.audit_queue(study))
    answer(study, queue, wrong=0.1)
    return assess(study, "net-a")


def test_a_click_on_a_cell_of_the_matrix_opens_exactly_its_places(study, assessed):
    matrix = ConfusionMatrix(study, assessed, who="ann")
    counts = assessed.confusion.to_numpy()
    for row, person in enumerate(assessed.classes):
        for column, called in enumerate((True, False)):
            matrix._clicked(SimpleNamespace(inaxes=True, xdata=column + 0.1, ydata=row - 0.2))
            queue = matrix.gallery.queue
            places = assessed.places
            here = places[(places["cell"] == (person == "cell")) & (places["called"] == called)]
            assert len(queue) == counts[row, column] == len(here)
            assert sorted(queue["x"]) == sorted(here["x"])


def test_a_click_on_a_point_of_the_calibration_opens_the_places_of_its_bin(study, assessed):
    plot = CalibrationPlot(study, assessed, bins=5, who="ann")
    seen = []
    for number, (p, share) in enumerate(zip(plot.points.p, plot.points.share, strict=True)):
        plot.open_bin(number)
        by_button = plot.gallery
        plot._clicked(SimpleNamespace(inaxes=True, xdata=p + 0.01, ydata=share - 0.01))
        queue = plot.gallery.queue
        assert plot.gallery is not by_button
        pd.testing.assert_frame_equal(queue, by_button.queue)
        places = assessed.places.merge(queue[["image", "z", "y", "x"]])
        assert np.average(places["p"], weights=places["weight"]) == pytest.approx(p)
        assert np.average(places["cell"], weights=places["weight"]) == pytest.approx(share)
        seen += queue["x"].tolist()
    assert sorted(seen) == sorted(assessed.places["x"])
    last = plot.gallery
    plot._clicked(SimpleNamespace(inaxes=True, xdata=0.5, ydata=5.0))
    plot._clicked(SimpleNamespace(inaxes=None, xdata=None, ydata=None))
    assert plot.gallery is last, "a click beside the points opens nothing"
    with pytest.raises(
        ValueError, match=r"^A bin must be one of the plot's, 0 to 4; got 5\. Choose one of them\.$"
    ):
        plot.open_bin(5)


def test_crops_know_the_region_that_a_person_named(study, queue):
    plain = Listener(Gallery(study, queue))
    plain.say("ready")
    assert "region" not in rows_of(plain), "control: nothing was named"
    review.name_parts(study, lambda rows: np.where(rows["x"] < 60, "left", "<i>right</i>"))
    named = Listener(Gallery(study, queue))
    named.say("ready")
    assert list(rows_of(named)["region"]) == ["left" if x < 60 else "<i>right</i>" for x in queue["x"]]


def test_the_threshold_in_use_gives_the_headline_and_a_higher_one_calls_fewer(study, assessed):
    calls = study.candidates()
    explorer = ThresholdExplorer(assessed, calls)
    used = explorer.move(float(assessed.places.loc[assessed.places["called"], "p"].min()))
    for metric in ("precision", "recall", "F1"):
        row = used.set_index("metric").loc[metric]
        assert tuple(row) == pytest.approx(tuple(assessed.interval(metric)), abs=1e-9)
    explorer.slider.value = 0.9
    assert f"<b>{(calls['p'] >= 0.9).sum():,}</b> candidates called" in explorer.text.value
    assert explorer.point.get_xdata()[0] == at_threshold(assessed, 0.9)["value"][1]


def test_a_lasso_opens_the_candidates_inside_it(embedded):
    table = EmbeddingMap(embedded.study, who="ann")
    middle = table.places["across"].median()
    left = [(-99, -99), (-99, 99), (middle, 99), (middle, -99)]
    table.open_inside(left)
    inside = table.places[table.places["across"] < middle]
    assert f"{len(inside)} inside" in table.note.value
    assert set(table.gallery.queue["x"]) == set(inside["x"].head(200))
    gallery = table.gallery
    table.open_inside([(98, 98), (99, 99), (98, 99)])
    assert table.gallery is gallery, "an empty lasso opens nothing"
