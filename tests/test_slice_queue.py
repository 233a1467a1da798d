"""A slice browser that leads through a queue: the same answers as in a gallery, each place in its image."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile
from listening import Listener
from made_up import make_study

from cellkit import annotate, review
from cellkit.measuring.skips import read_skipped
from cellkit.study import create_study, open_study
from cellkit.widgets import Gallery, SliceBrowser


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", n=200)


@pytest.fixture
def queue(study):
    """Places of two images, in turns."""
    drawn = annotate.draw_batch(study, "a", 12)
    assert set(drawn["image"]) == {"animal-1", "animal-2"}, "control"
    return drawn


def browser_of(study, queue, who="ann"):
    listener = Listener(SliceBrowser(study, queue=queue, who=who).pane)
    listener.say("ready")
    return listener


def last(listener, op):
    return [message for message, _ in listener.heard if message["op"] == op][-1]


def zyx(listener):
    """Where the points are that were sent last."""
    numbers = [buffers[0] for message, buffers in listener.heard if message["op"] == "points"][-1]
    return np.frombuffer(numbers, "<f4").reshape(-1, 4)[:, :3]


def test_it_opens_at_the_next_open_place_in_the_image_where_that_lies(study, queue):
    browser = browser_of(study, queue)
    told = last(browser, "points")["queue"]
    assert (last(browser, "open")["name"], told["at"], told["told"]) == (queue["image"][0], 0, [0] * 12)
    here = (queue["image"] == queue["image"][0]).to_numpy()
    points = np.array(told["points"])
    assert (points[~here] == -1).all()
    np.testing.assert_allclose(zyx(browser)[points[here]], queue.loc[here, ["z", "y", "x"]], rtol=1e-5)


def test_an_answer_is_the_queues_and_a_gallery_finds_it(study, queue):
    browser = browser_of(study, queue)
    point = last(browser, "points")["queue"]["points"][0]
    changed = browser.say("label", index=point, row=0, answer="artefact")
    assert (changed["rows"], changed["queue"]["told"][:2]) == ([point], [2, 0])
    label = study.labels().iloc[0]
    assert tuple(label[["batch", "origin", "who"]]) == ("a", queue["origin"][0], "ann")
    assert (label["p"], label["network"]) == (pytest.approx(queue["p"][0]), "net-a")
    assert annotate.open_review(study, queue).answers[:2] == ("artefact", "")
    gallery = Listener(Gallery(study, queue, who="ann"))
    gallery.say("label", rows=[1, 2], answer="cell")
    browser.heard.clear()
    browser.screen.refresh()
    assert last(browser, "changed")["queue"]["told"][:4] == [2, 1, 1, 0]
    again = browser_of(open_study(study.folder), queue)
    assert last(again, "points")["queue"]["at"] == 3, "it goes on where one stopped"


def test_going_to_a_place_of_another_image_opens_that_image(study, queue):
    browser = browser_of(study, queue)
    first = queue["image"][0]
    other = int(np.flatnonzero(queue["image"] != first)[0])
    browser.say("go", row=other)
    assert last(browser, "open")["name"] == queue["image"][other]
    told = last(browser, "points")["queue"]
    assert told["at"] == other
    np.testing.assert_allclose(
        zyx(browser)[told["points"][other]], queue.loc[other, ["z", "y", "x"]].astype(float), rtol=1e-5
    )
    same = int(np.flatnonzero(queue["image"] != first)[1])
    assert browser.say("go", row=same) == {"op": "go", "row": same}, "control: no image is opened"


def test_undo_goes_back_to_the_row_it_was_about_also_in_another_image(study, queue):
    browser = browser_of(study, queue)
    first = queue["image"][0]
    other = int(np.flatnonzero(queue["image"] != first)[0])
    browser.say("label", index=0, row=0, answer="cell")
    browser.say("go", row=other)
    browser.say("label", index=0, row=other, answer="artefact")
    browser.say("go", row=0)
    browser.say("undo")
    assert last(browser, "open")["name"] == queue["image"][other]
    assert last(browser, "points")["queue"]["at"] == other
    assert study.labels()["answer"].tolist() == ["cell"]
    browser.say("redo")
    assert sorted(study.labels()["answer"]) == ["artefact", "cell"]


def test_a_row_that_is_cleared_is_open_again(study, queue):
    browser = browser_of(study, queue)
    browser.say("label", index=0, row=0, answer="cell")
    assert browser.say("label", index=0, row=0, answer="")["queue"]["told"][0] == 0
    assert study.labels().empty


def test_what_is_no_row_of_the_queue_can_be_labelled_beside_it(study, queue):
    browser = browser_of(study, queue)
    rows = last(browser, "points")["queue"]["points"]
    free = next(index for index in range(200) if index not in rows)
    browser.say("label", index=free, answer="cell")
    browser.say("missed", z=3, y=40.25, x=50.5)
    assert sorted(study.labels()["origin"]) == ["category", "missed"]
    assert browser.screen.review.counts[""] == 12
    browser.say("undo")
    browser.say("undo")
    assert study.labels().empty, "undo stays in the batch, and takes both back"


def test_an_audit_is_shown_blind_and_what_is_passed_over_is_recorded(study):
    review.draw_audit(study, 40)
    queue = review.audit_queue(study)
    browser = browser_of(study, queue)
    assert not last(browser, "open")["judges"], "its places are answered in images that judge, too"
    message, (numbers, codes) = next(pair for pair in browser.heard if pair[0]["op"] == "points")
    assert message["n"] == (queue["image"] == queue["image"][0]).sum(), "no other candidate is shown"
    assert np.isnan(np.frombuffer(numbers, "<f4").reshape(-1, 4)[:, 3]).all()
    assert set(np.frombuffer(codes, "u1")[::2]) == {2}, "nor what the network calls them"
    browser.say("label", index=0, row=2, answer="cell")
    np.testing.assert_array_equal(read_skipped(study)["x"], queue["x"][:2])
    label = study.labels().iloc[0]
    assert (label["origin"], label["weight"]) == ("audit", pytest.approx(queue["weight"][2]))


def test_a_blind_repeat_does_not_show_its_first_answer(study):
    rows = study.candidates("animal-1").head(3)
    annotate.answer(study, rows.assign(origin="random", batch="old"), "cell", "ann")
    repeat = annotate.sample(study, 2, by="random").assign(batch="new")
    place = rows.iloc[0][["image", "frame", "z", "y", "x"]]
    again = pd.concat([repeat, repeat.head(1).assign(**place, origin="repeat")])
    browser = browser_of(study, again)
    browser.say("go", row=2)
    told = browser.screen.beside(whole=True)["queue"]
    assert told["told"][2] == 0
    assert browser.screen.points["answer"].iloc[told["points"][2]] == ""
    assert (browser.screen.points["answer"] == "cell").sum() == 2, "control: the others show theirs"


def test_a_place_that_is_no_candidate_any_more_is_shown_all_the_same(study, queue):
    moved = queue.assign(x=queue["x"] + 0.5).query("x < 118").reset_index(drop=True)
    browser = browser_of(study, moved)
    told = last(browser, "points")
    assert told["n"] > 200
    assert told["queue"]["points"][0] >= 200
    assert browser.say("label", index=told["queue"]["points"][0], row=0, answer="cell")["op"] == "changed"
    assert annotate.answers_of(study, moved)[0] == "cell"


EMPTY = (
    r"^A browser leads through the places of a queue; this one is empty\. Draw another, or give an image: "
    r"`SliceBrowser\(study, image\)`\.$"
)
STRANGE = (
    r"^A queue's places lie in images of its study, animal-1, animal-2, animal-3; got '<b>m9</b>'\. "
    r"Open the study that the queue was drawn from\.$"
)
ONE = (
    r"^A browser shows an image or leads through a queue; got (neither|both)\. Give one of them: "
    r"`SliceBrowser\(study, image\)` or `SliceBrowser\(study, queue=queue\)`\.$"
)
LACKING = (
    r"^a queue must have the columns image, frame, z, y, x, origin; origin is missing\. "
    r"Found: image, frame, z, y, x\.$"
)


def test_what_is_no_queue_of_the_study_is_refused_with_the_reason(study, queue):
    with pytest.raises(ValueError, match=EMPTY):
        SliceBrowser(study, queue=queue.head(0))
    for screen in (lambda rows: Gallery(study, rows), lambda rows: SliceBrowser(study, queue=rows)):
        with pytest.raises(ValueError, match=STRANGE):
            screen(queue.assign(image="<b>m9</b>"))
        with pytest.raises(ValueError, match=LACKING):
            screen(queue[["image", "frame", "z", "y", "x"]])
    with pytest.raises(ValueError, match=ONE):
        SliceBrowser(study)
    with pytest.raises(ValueError, match=ONE):
        SliceBrowser(study, "animal-1", queue=queue)


def test_an_image_that_goes_while_its_screen_is_open_is_said_on_the_screen_and_answers_are_saved(tmp_path):
    volume = np.random.default_rng(0).integers(0, 1000, (9, 40, 40)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "<b>m.tif", volume, compression="zlib")
    image = {"name": "m", "path": "<b>m.tif", "animal": "a", "voxel_um": (5, 2, 2), "axes": "zyx"}
    study = create_study(tmp_path, images=[image | {"channels": ["signal"]}], diameter_um=12)
    place = {"image": ["m"], "frame": [0], "z": [4.0], "y": [20.0], "x": [20.0], "origin": ["random"]}
    gallery = Listener(Gallery(study, pd.DataFrame(place), who="ann"))
    gallery.say("ready")
    assert gallery.say("crops", rows=[0], part="plane")["op"] == "crops", "control"
    (tmp_path / "<b>m.tif").unlink()
    reply = gallery.say("crops", rows=[0], part="sides")
    assert (reply["op"], reply["saved"], reply["asked"]) == ("error", True, "crops")
    assert re.fullmatch(
        r"An image's voxels must be readable; m cannot be read at .*: FileNotFoundError .*No such file or "
        r"directory: .*<b>m\.tif'\. The file may be damaged: copy it again\.",
        reply["text"],
    ), reply["text"]
    assert gallery.say("label", rows=[0], answer="cell")["op"] == "answers"
    assert study.labels()["answer"].tolist() == ["cell"]


def test_a_queue_without_places_opens_an_empty_gallery(study, queue):
    gallery = Listener(Gallery(study, queue.head(0)))
    assert gallery.say("ready")["n"] == 0
