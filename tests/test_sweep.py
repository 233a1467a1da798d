import re
import signal
import weakref
from _thread import interrupt_main
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import zarr
from painted import SOMA, VOXEL, found, paint, scattered

from cellkit.detect import DetectSettings, find_candidates
from cellkit.finding.blobs import find_blobs
from cellkit.images import open_image


@pytest.fixture(scope="module")
def volume():
    painted = paint((40, 130, 150), scattered((40, 130, 150), 60, apart_um=24))
    for z, y, x in np.random.default_rng(1).integers(0, (38, 122, 142), (60, 3)):
        painted[z : z + 2, y : y + 8, x : x + 8] = 4000
    return painted


BLOCKS = [(10, 40, 50), (30, 20, 33), (1, 1, 1), (1000, 1000, 1000)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "binned", "one plane"])
def test_the_table_does_not_depend_on_the_blocks(volume, kind, block):
    voxel_um, shown = VOXEL, volume[:18, :60, :71]
    if kind == "uint8":
        shown = (shown // 4).clip(0, 120).astype(np.uint8)
    elif kind == "float32":
        shown = (np.sqrt(shown) * 0.37).astype(np.float32)
    elif kind == "binned":
        voxel_um, shown = (2.0, 1.5, 1.6), volume[:37, :101, :90]
    elif kind == "one plane":
        shown = volume[20:21]
    whole = found(shown, voxel_um=voxel_um, min_score=0)
    assert len(whole) > 10, "control: there is something to compare"
    again = found(shown, voxel_um=voxel_um, min_score=0, block=block, workers=3)
    pd.testing.assert_frame_equal(again, whole, check_exact=True)


@pytest.mark.parametrize("chunk", [(1, 130, 150), (7, 64, 64), (64, 64, 64)], ids=str)
@pytest.mark.parametrize("voxel_um", [VOXEL, (1.6, 2.0, 2.0)], ids=["5 µm", "binned"])
def test_chunks_of_a_file_are_read_whole_and_once_for_each_block(volume, tmp_path, chunk, voxel_um):
    store = zarr.create_array(tmp_path / "a.zarr", data=volume, chunks=chunk)
    image, boxes = open_image(store, voxel_um=voxel_um), []

    class Counted:
        def __getattr__(self, name):
            return getattr(image, name)

        def read(self, role, *, frame, box):
            boxes.append(box[0])
            return image.read(role, frame=frame, box=box)

    settings = DetectSettings(block=(1000, 1000, 1000), workers=1)
    table = find_candidates(Counted(), diameter_um=SOMA, settings=settings)
    pd.testing.assert_frame_equal(
        table.drop(columns="image"),
        found(volume, voxel_um=voxel_um).drop(columns="image"),
        check_exact=True,
    )
    assert [side.start for side in boxes[1:]] == [side.stop for side in boxes[:-1]]
    assert all(side.start % chunk[0] == 0 for side in boxes)


class Watched:
    """An image that counts its blocks, and may be interrupted at one of them."""

    def __init__(self, volume, *, fails_at=None):
        self.image = open_image(volume, voxel_um=VOXEL, name="brain")
        self.name, self.shape, self.voxel_um = "brain", self.image.shape, VOXEL
        self.chunk = (1000, 1, 1)  # a block is read at once
        self.reads, self.fails_at = [], fails_at

    def read(self, role="signal", *, frame=0, box=None):
        if box[0].stop - box[0].start > 1:
            self.reads.append(box)
        if self.fails_at is not None and len(self.reads) >= self.fails_at:
            raise KeyboardInterrupt
        return self.image.read(role, frame=frame, box=box)


SMALL = DetectSettings(block=(10, 40, 50), workers=1)


@pytest.fixture
def stopped(volume, tmp_path):
    """A folder in which a sweep was interrupted at its fifth block."""
    with pytest.raises(KeyboardInterrupt):
        find_candidates(Watched(volume, fails_at=5), diameter_um=SOMA, settings=SMALL, resume_folder=tmp_path)
    assert len(list(tmp_path.glob("part-*.npz"))) == 4
    return tmp_path


def test_a_stopped_sweep_goes_on_where_it_was(volume, stopped):
    whole = Watched(volume)
    expected = find_candidates(whole, diameter_um=SOMA, settings=SMALL)
    again = Watched(volume)
    table = find_candidates(again, diameter_um=SOMA, settings=SMALL, resume_folder=stopped)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert len(again.reads) == len(whole.reads) - 4
    third = Watched(volume)
    find_candidates(third, diameter_um=SOMA, settings=SMALL, resume_folder=stopped)
    assert third.reads == [], "control: all blocks are kept"


@pytest.fixture
def interruptible():
    """Ctrl-C works as at a terminal, though a shell that starts tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_person_may_interrupt_at_any_time(volume, tmp_path):
    image = Watched(volume)
    calm, pressed = image.read, []

    def read(*args, **kwargs):
        if len(image.reads) >= 4 and not pressed:
            pressed.append(True)
            interrupt_main()
        return calm(*args, **kwargs)

    image.read = read
    with pytest.raises(KeyboardInterrupt):
        find_candidates(image, diameter_um=SOMA, settings=SMALL, resume_folder=tmp_path)
    kept = len(list(tmp_path.glob("part-*.npz")))
    assert 4 <= kept < 20
    again = Watched(volume)
    find_candidates(again, diameter_um=SOMA, settings=SMALL, resume_folder=tmp_path)
    assert len(again.reads) + kept == 45


@pytest.mark.parametrize("change", ["diameter", "block", "image", "torn file"])
def test_a_sweep_that_changed_starts_anew(volume, stopped, change):
    settings, diameter_um, shown = SMALL, SOMA, volume
    if change == "diameter":
        diameter_um = SOMA + 1
    elif change == "block":
        settings = DetectSettings(block=(10, 50, 50), workers=1)
    elif change == "image":
        shown = volume[::-1]
    else:
        for part in stopped.glob("part-*.npz"):
            part.write_bytes(part.read_bytes()[:50])
    expected = find_candidates(Watched(shown), diameter_um=diameter_um, settings=settings)
    table = find_candidates(Watched(shown), diameter_um=diameter_um, settings=settings, resume_folder=stopped)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_a_bar_shows_blocks_time_and_candidates(volume, capsys):
    image = open_image(volume, voxel_um=VOXEL, name="brain")
    find_candidates(image, diameter_um=SOMA, settings=SMALL, progress=True)
    shown = capsys.readouterr().err
    assert "brain" in shown
    assert re.search(r"/45 .*block/s, about \d+ candidates", shown)
    find_candidates(image, diameter_um=SOMA, settings=SMALL)
    assert capsys.readouterr().err == "", "control: silent unless asked"


def test_pages_of_a_mapped_file_are_given_back(volume, tmp_path):
    np.save(tmp_path / "long.npy", np.tile(volume, (20, 1, 1)))
    image = open_image(tmp_path / "long.npy", voxel_um=VOXEL)

    def mapped_mb():
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["RssFile"].split()[0]) / 1024

    before = mapped_mb()
    for z in range(0, 800, 40):
        image.read("signal", box=(slice(z, z + 40), slice(0, 130), slice(0, 150)))
    assert mapped_mb() - before < 8
    kept = np.load(tmp_path / "long.npy", mmap_mode="r")
    assert kept.sum() > 0
    assert mapped_mb() - before > 20, "control: pages that are read count"


def test_the_threads_of_opencv_stay_as_they_were(volume):
    before = cv2.getNumThreads()
    found(volume[:10], workers=2)
    assert cv2.getNumThreads() == before


def test_the_blobs_of_finished_blocks_are_not_held_in_memory(volume, monkeypatch):
    made, held = [], []

    def watched(*args):
        part = find_blobs(*args)
        made.append(weakref.ref(part.centre))
        held.append(sum(one() is not None for one in made))
        return part

    monkeypatch.setattr("cellkit.finding.sweep.find_blobs", watched)
    find_candidates(open_image(volume, voxel_um=VOXEL), diameter_um=SOMA, settings=SMALL)
    assert len(held) == 45
    assert max(held) <= 2, "the one just made and the one before"


def test_without_a_folder_nothing_stays_on_the_disk(volume, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    image = Watched(volume)
    calm, seen = image.read, []

    def read(*args, **kwargs):
        seen.extend(tmp_path.glob("cellkit-*/part-*.npz"))
        return calm(*args, **kwargs)

    image.read = read
    find_candidates(image, diameter_um=SOMA, settings=SMALL)
    assert seen, "control: blocks wait there"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        find_candidates(Watched(volume, fails_at=5), diameter_um=SOMA, settings=SMALL)
    assert list(tmp_path.iterdir()) == []
