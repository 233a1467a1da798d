"""What cannot be saved: a full disk, a read-only one, a folder that is gone; on real file systems."""

import re
import resource
import shutil
import subprocess

import pytest
from listening import Listener
from made_up import make_study

from cellkit import annotate
from cellkit.study import open_study
from cellkit.widgets import Gallery, SliceBrowser

DO = "Free space or ask for the right to write, then do the last step again: it was not saved."


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", n=200)


@pytest.fixture
def disk(study):
    """The study's labels on a file system of their own, of 64 kB."""
    folder = study.folder / "labels"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system may be mounted here: this takes root on Linux")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def screen_of(kind, study):
    queue = annotate.draw_batch(study, "first", 30)
    if kind == "gallery":
        screen = Listener(Gallery(study, queue, who="ann"))
        screen.answer = lambda row, answer: screen.say("label", rows=[row], answer=answer)
    else:
        screen = Listener(SliceBrowser(study, queue=queue, who="ann").pane)
        screen.answer = lambda row, answer: screen.say("label", index=0, row=row, answer=answer)
    screen.say("ready")
    return screen


def fill(folder):
    filler = folder / "filler"
    with (
        filler.open("wb", buffering=0) as file,
        pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$"),
    ):
        while True:
            file.write(b"0" * 512)
    return filler


def answered(study):
    return open_study(study.folder).labels()["answer"].tolist()


def not_saved(reply, folder, reason):
    assert (reply["op"], reply["saved"]) == ("error", False)
    said = f"The folder of labels must be writable; {folder} is not: {reason}. {DO}"
    assert re.fullmatch(re.escape(said), reply["text"]), reply["text"]


KINDS = pytest.mark.parametrize("kind", ["gallery", "browser"])


@KINDS
def test_on_a_full_disk_an_answer_is_said_not_to_be_saved_and_with_room_it_goes_on(study, disk, kind):
    screen = screen_of(kind, study)
    filler = fill(disk)
    row = 0
    while screen.answer(row, "cell")["op"] != "error":  # what is left of the ledger's last block
        row += 1
    assert row < 25
    for _ in range(3):
        not_saved(screen.answer(row, "artefact"), disk, "No space left on device")
    assert list(screen.screen.review.answers[: row + 1]) == ["cell"] * row + [""]
    assert answered(study) == ["cell"] * row, "nothing torn is left behind"
    filler.unlink()
    assert screen.answer(row, "artefact")["op"] != "error"
    assert answered(study) == ["cell"] * row + ["artefact"]
    assert len(open_study(study.folder).events()) == row + 1, "no answer stands twice"


@KINDS
def test_on_a_read_only_disk_an_answer_is_said_not_to_be_saved(study, disk, kind):
    screen = screen_of(kind, study)
    screen.answer(0, "cell")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    not_saved(screen.answer(1, "cell"), disk, "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    screen.answer(1, "cell")
    assert answered(study) == ["cell", "cell"]


@KINDS
def test_when_the_folder_is_gone_an_answer_is_said_not_to_be_saved_and_once_it_is_back_it_goes_on(
    study, kind, tmp_path
):
    screen = screen_of(kind, study)
    screen.answer(0, "cell")
    folder, away = study.folder / "labels", tmp_path / "elsewhere"
    shutil.move(folder, away)
    not_saved(screen.answer(1, "cell"), folder, "No such file or directory")
    assert not folder.exists(), "no second ledger begins beside the one that is away"
    shutil.move(away, folder)
    screen.answer(1, "artefact")
    assert answered(study) == ["cell", "artefact"]


def test_a_line_that_does_not_fit_whole_is_taken_back_and_the_ledger_stays_readable(study):
    screen = screen_of("gallery", study)
    screen.answer(0, "cell")
    (ledger,) = (study.folder / "labels").glob("*.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.stat().st_size + 100, hard))
    try:
        not_saved(screen.answer(1, "cell"), ledger.parent, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.read_bytes().count(b"\n") == 1
    screen.answer(1, "artefact")
    assert answered(study) == ["cell", "artefact"]
