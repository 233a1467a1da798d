"""No label is lost: killed kernels, two screens on one study, a folder that is gone."""

import os
import signal

import pytest
from made_up import make_study

from cellkit.study import open_study

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
CELLS = (
    "import os\nfrom cellkit.study import open_study\nstudy = open_study('{0}')\n"
    "_ = open('pid', 'w').write(str(os.getpid()))",
    "from cellkit.annotate import draw_batch\nqueue = draw_batch(study, '{1}', n=80)",
    "from cellkit.widgets import Gallery\nGallery(study, queue, who='{2}')",
)


@pytest.fixture
def study(lab, request):
    return make_study(lab.home / request.node.name, n=200)


def gallery_of(page):
    found = page.locator(".ck-gallery").first
    expect(found).to_have_attribute("data-ready", "1", timeout=60_000)
    found.scroll_into_view_if_needed()
    found.focus()
    return found


def cells(study, batch="1", who="ann"):
    return [cell.format(study.folder.name, batch, who) for cell in CELLS]


def test_a_rectangle_and_thirty_by_keys_survive_undo_redo_and_a_killed_kernel(lab, run, study):
    page = run("kill.ipynb", *cells(study))
    gallery = gallery_of(page)
    tile = gallery.locator(".ck-tile")
    first, last = tile.nth(0).bounding_box(), tile.nth(20).bounding_box()
    page.mouse.move(first["x"] - 3, first["y"] - 3)
    page.mouse.down()
    page.mouse.move(last["x"] + 50, last["y"] + 20, steps=4)
    page.mouse.move(first["x"] + 5 * first["width"], last["y"] + 20)
    page.mouse.up()
    n = int(gallery.get_attribute("data-chosen"))
    assert n >= 12
    gallery.get_by_role("button", name="all artefact").click()
    expect(gallery).to_have_attribute("data-rev", "1")
    page.keyboard.type("cxcxx" * 6)
    expect(gallery).to_have_attribute("data-rev", "31", timeout=60_000)
    page.keyboard.type("zzzzz")
    page.keyboard.press("Shift+Z")
    page.keyboard.press("Shift+Z")
    expect(gallery).to_have_attribute("data-rev", "38", timeout=30_000)
    expect(gallery).to_have_attribute("data-saved", "saved")
    pid = int((lab.home / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    labels = open_study(study.folder).labels()
    assert len(labels) == n + 30 - 5 + 2, "five steps back, two forward"
    page.goto("about:blank")
    again = gallery_of(run("kill.ipynb"))
    assert int((lab.home / "pid").read_text()) != pid, "control: it is another kernel"
    expect(again).to_have_attribute("data-open", str(80 - len(labels)))


def test_two_people_at_two_screens_of_one_study_both_keep_their_answers(browser, lab, run, study):
    ann = gallery_of(run("ann.ipynb", *cells(study, "1", "ann")))
    other = browser.new_context(viewport={"width": 1366, "height": 768})
    from lab import open_book

    page = other.new_page()
    bob = gallery_of(open_book(lab, page, "bob.ipynb", *cells(study, "2", "bob")))
    page.keyboard.type("ccc")
    ann.page.keyboard.type("xx")
    expect(bob).to_have_attribute("data-rev", "3")
    expect(ann).to_have_attribute("data-rev", "2")
    other.close()
    labels = open_study(study.folder).labels()
    assert labels.groupby("who")["answer"].agg(list).to_dict() == {
        "ann": ["artefact"] * 2,
        "bob": ["cell"] * 3,
    }


def test_what_cannot_be_saved_is_said_and_labelling_waits_until_the_reason_is_read(run, study):
    page = run("gone.ipynb", *cells(study))
    gallery = gallery_of(page)
    page.keyboard.press("c")
    expect(gallery).to_have_attribute("data-rev", "1")
    labels = study.folder / "labels"
    (file,) = labels.glob("*.jsonl")
    kept = file.read_bytes()
    file.unlink()
    file.mkdir()  # nothing can be written to it any more
    page.keyboard.press("x")
    expect(gallery).to_have_attribute("data-saved", "failed")
    expect(gallery.get_by_role("alert")).to_contain_text("Not saved: ")
    expect(gallery.locator('.ck-tile[data-index="1"]')).to_have_attribute("data-answer", "")
    page.keyboard.press("x")
    expect(gallery.locator(".ck-spoken")).to_have_text("Not saved: close the message to go on")
    file.rmdir()
    file.write_bytes(kept)
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    expect(gallery).to_have_attribute("data-saved", "saved")
    assert open_study(study.folder).labels()["answer"].tolist() == ["cell", "artefact"]
