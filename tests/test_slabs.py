"""Slow pictures: read slab by slab, seen while they grow, a newer wish ending an older one."""

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from listening import Listener
from made_up import make_study

from cellkit.study import create_study
from cellkit.widgets import SliceBrowser, slabs
from cellkit.widgets.packed import EMPTY_CODE, pack_table, pack_words
from cellkit.widgets.pictures import View, encode, plane
from cellkit.widgets.slabs import Coarse, SlabReader, Wish

SHAPE = (30, 64, 48)
SIDES = {
    1: ((0, 30), (20, 21), (0, 48)),
    2: ((3, 30), (0, 64), (10, 11)),
    0: ((5, 25), (0, 64), (0, 48)),
}


@pytest.fixture
def study(tmp_path):
    """One image whose file decodes every plane whole."""
    volume = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", volume, compression="zlib", rowsperstrip=64)
    image = {"name": "m", "path": "m.tif", "animal": "a", "voxel_um": (5, 2, 2), "axes": "zyx"}
    return create_study(tmp_path, images=[image | {"channels": ["signal"]}], diameter_um=12)


class Watched:
    """An image that counts what is read of it, and waits where it is told to."""

    def __init__(self, image):
        self._image, self.reads, self.gate = image, [], None
        self.name, self.shape, self.chunk, self.dtype = image.name, image.shape, image.chunk, image.dtype
        self.roles, self.voxel_um = image.roles, image.voxel_um

    def read(self, role, *, frame=0, box=None):
        self.reads.append(tuple((side.start, side.stop) for side in box))
        if self.gate is not None:
            self.gate.wait(10)
        return self._image.read(role, frame=frame, box=box)


@pytest.fixture
def watched(study):
    return Watched(study.image("m"))


def reader():
    heard = []
    return SlabReader(lambda message, buffers: heard.append((message, buffers))), heard


def wish(study, image, along, *, pane="1", key="k", box=None, step=(1, 1), near=0):
    view = View(along, box or SIDES[along], step)
    return Wish(pane, key, image, study.intensities("m"), view, near)


def whole(heard, pane="1"):
    """The last picture of a pane."""
    message, buffers = [pair for pair in heard if pair[0].get("pane") == pane][-1]
    assert not message["partial"]
    return np.frombuffer(buffers[0], "<u2").reshape(message["rows"], message["columns"])


@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize("step", [(1, 1), (2, 4)])
def test_a_picture_that_was_read_in_slabs_is_the_same_as_read_at_once(study, monkeypatch, along, step):
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 64 * 48 * 4)
    slow, heard = reader()
    asked = wish(study, study.image("m"), along, step=step, near=17)
    assert len(asked.unread) > 4, "control: it is read in parts"
    slow.ask(asked)
    slow.wait()
    at_once = plane(study.image("m"), "signal", study.intensities("m")["signal"], view=asked.view)
    np.testing.assert_array_equal(whole(heard), at_once)


def test_the_planes_nearest_to_where_one_looks_are_read_first_and_the_rest_is_black(study, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 64 * 48)
    asked = wish(study, study.image("m"), 1, near=12)
    assert {asked.unread[0], asked.unread[1]} == {(11, 12), (12, 13)}
    assert asked.unread[-1] == (29, 30)
    assert (asked.picture()[0] == 0).all(), "black, whatever the image holds"
    asked.take("signal", (12, 13), np.full((1, 1, 48), 900, np.uint16))
    asked.unread.remove((12, 13))
    (seen,) = asked.picture()
    assert (seen[12] > 0).all()
    assert (np.delete(seen, 12, axis=0) == 0).all()


def test_a_picture_is_seen_while_it_grows(study, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 64 * 48 * 4)
    monkeypatch.setattr(slabs, "PAUSE_S", 0.0)
    slow, heard = reader()
    slow.ask(wish(study, study.image("m"), 1))
    slow.wait()
    partial = [message["partial"] for message, _ in heard]
    assert partial == [True] * (len(partial) - 1) + [False]
    assert len(partial) > 4
    rows = [np.any(np.frombuffer(b[0], "<u2").reshape(30, 48) > 0, axis=1).sum() for _, b in heard]
    assert (np.diff(rows) > 0).all(), "more and more of it"


def test_what_was_decoded_for_one_side_plane_is_shown_at_once_of_the_next(study, watched):
    slow, heard = reader()
    slow.ask(wish(study, watched, 1))
    slow.wait()
    n = len(watched.reads)
    heard.clear()
    slow.ask(wish(study, watched, 2, key="other"))
    slow.wait()
    assert len(watched.reads) == n, "the volume fits as it is: nothing is read again"
    view = View(2, SIDES[2])
    at_once = plane(study.image("m"), "signal", study.intensities("m")["signal"], view=view)
    np.testing.assert_array_equal(whole(heard), at_once)


def test_a_large_volume_is_kept_coarsely_and_the_picture_becomes_sharp_later(study, watched, monkeypatch):
    monkeypatch.setattr(slabs, "COARSE_BYTES", 2 * 30 * 32 * 24)
    slow, heard = reader()
    slow.ask(wish(study, watched, 1))
    slow.wait()
    heard.clear()
    slow.ask(wish(study, watched, 2, key="other"))
    slow.wait()
    (preview, (words, *_)), (sharp, _) = heard
    assert (preview["partial"], preview["step"], preview["key"]) == (True, [2, 1], "other")
    assert preview["box"] == [[3, 30], [0, 64], [10, 12]]
    volume = study.image("m").read("signal")
    coarse = volume[3:, :, 10:12].reshape(27, 32, 2, 2).mean(axis=(2, 3)).T
    got = np.frombuffer(words, "<u2").reshape(preview["rows"], preview["columns"])
    np.testing.assert_allclose(got, encode(coarse, study.intensities("m")["signal"]), atol=1)
    assert (sharp["partial"], sharp["rows"]) == (False, 64)


def test_what_is_kept_never_outgrows_its_memory(study):
    known = study.intensities("m")["signal"]
    for nbytes in (10**9, 2 * 30 * 64 * 48 - 1, 5000, 61):
        assert Coarse(study.image("m"), known, nbytes=nbytes).words.nbytes <= nbytes
    huge = replace(study.image("m"), name="n")
    assert Coarse(huge, known, nbytes=10**9).step == 1, "control"


def test_a_moving_crosshair_ends_what_is_no_longer_wanted(study, watched, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 64 * 48)
    watched.gate = threading.Event()
    slow, heard = reader()
    for y in range(20):
        slow.ask(wish(study, watched, 1, key=f"y {y}", box=((0, 30), (y, y + 1), (0, 48))))
    watched.gate.set()
    slow.wait()
    finished = [message["key"] for message, _ in heard if not message["partial"]]
    assert finished[-1] == "y 19"
    assert len(finished) <= 2, "those between were never read to their end"
    assert len(watched.reads) <= 30 + 2


def test_two_side_planes_share_the_planes_that_are_decoded(study, watched, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_VOXELS", 64 * 48)
    watched.gate = threading.Event()
    slow, heard = reader()
    slow.ask(wish(study, watched, 1, pane="1"))
    slow.ask(wish(study, watched, 2, pane="2", box=((0, 30), (0, 64), (10, 11))))
    watched.gate.set()
    slow.wait()
    assert len(watched.reads) <= 30 + 1
    for pane, along, box in (("1", 1, SIDES[1]), ("2", 2, ((0, 30), (0, 64), (10, 11)))):
        at_once = plane(study.image("m"), "signal", study.intensities("m")["signal"], view=View(along, box))
        np.testing.assert_array_equal(whole(heard, pane), at_once)


def test_a_slow_picture_that_cannot_be_read_is_an_error_on_the_screen_and_the_next_is_tried(study, watched):
    slow, heard = reader()
    broken, watched.read = watched.read, lambda *_, **__: 1 / 0
    slow.ask(wish(study, watched, 1))
    slow.wait()
    assert heard == [({"op": "error", "text": "division by zero", "saved": True, "key": "k"}, [])]
    watched.read = broken
    slow.ask(wish(study, watched, 1))
    slow.wait()
    assert not heard[-1][0]["partial"]


def test_labels_and_planes_are_answered_while_a_slow_picture_is_read(tmp_path):
    study = make_study(tmp_path / "s", n=50)
    pane = Listener(SliceBrowser(study, "animal-1", who="ann").pane)
    pane.say("ready")
    pane.screen.image = image = Watched(study.image("animal-1"))
    image.gate = threading.Event()
    view = {"along": 1, "box": [[0, 24], [60, 61], [0, 120]], "step": [1, 1], "frame": 0}
    pane.say("view", key="slow", pane="1", near=12, slow=True, roles=["signal"], **view)
    assert not pane.heard, "it waits for the gate"
    assert pane.say("label", index=3, answer="cell")["op"] == "changed"
    image.gate.set()
    pane.screen.slabs.wait()
    assert pane.heard[-1][0]["key"] == "slow"


def test_a_picture_of_an_image_that_is_no_longer_shown_is_not_read(study):
    study.save_candidates("m", make_none(), made_by={})
    pane = Listener(SliceBrowser(study, "m").pane)
    view = {"along": 0, "box": [[0, 1], [0, 9], [0, 9]], "step": [1, 1], "frame": 0, "roles": ["signal"]}
    assert pane.say("view", key="k", image="another", **view) is None
    assert pane.say("view", key="k", image="m", **view)["op"] == "view", "control"


def make_none():
    columns = {"image": [], "frame": [], "z": [], "y": [], "x": [], "score": [], "diameter_um": []}
    return pd.DataFrame(columns).astype({"image": "str", "frame": "int64"})


def test_a_table_is_packed_in_columns_and_lacking_values_stay_lacking():
    table = pd.DataFrame(
        {"p": [0.25, np.nan], "n": [1, 2], "called": [True, False], "word": ["<b>", None], "same": ["a", "a"]}
    )
    columns, buffers = pack_table(table)
    assert columns[0] == {"name": "p"}
    np.testing.assert_array_equal(np.frombuffer(buffers[0], "<f4"), np.float32([0.25, np.nan]))
    np.testing.assert_array_equal(np.frombuffer(buffers[1], "<f4"), [1, 2])
    assert (columns[3]["words"], np.frombuffer(buffers[3], "<u4").tolist()) == (["<b>"], [0, EMPTY_CODE])
    assert (columns[4]["words"], np.frombuffer(buffers[4], "<u4").tolist()) == (["a"], [0, 0])
    assert pack_words(["cell", "", "cell"], ["", "cell"]) == bytes([1, 0, 1])
