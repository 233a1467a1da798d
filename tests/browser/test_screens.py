"""The screens in a real browser, as a person uses them."""

import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest
import tifffile
from made_up import make_study

from cellkit import review
from cellkit.study import create_study, open_study

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

OPEN = "from cellkit.study import open_study\nstudy = open_study('{name}')"
CELLS = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
RUN_WITHOUT_WAITING = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"
NOTE_STEPS = """root => {
  window.noted = { steps: [], shown: [] };
  const note = () => { noted.steps.push(root.dataset.step); noted.shown.push(root.dataset.shown); };
  new MutationObserver(note).observe(root, { attributeFilter: ['data-step', 'data-shown'] });
}"""
NOTE_OPEN = """root => {
  window.noted = [Number(root.dataset.open)];
  const note = () => window.noted.push(Number(root.dataset.open));
  new MutationObserver(note).observe(root, { attributeFilter: ["data-open"] });
}"""
DARK = "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"


@pytest.fixture
def study(lab, request):
    """A study beside the notebook, of the name of the test."""
    return make_study(lab.home / request.node.name, n=200)


def screen(page, name):
    found = page.locator(f".ck-{name}").first
    expect(found).to_have_attribute("data-ready", "1", timeout=30_000)
    found.scroll_into_view_if_needed()
    return found


def drag(page, box, start, end):
    """Drag over a box, from and to shares of its width and height."""
    (x0, y0), (x1, y1) = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
    ]
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    page.mouse.move(x1, y1)
    page.mouse.up()


def test_labels_by_key_and_by_rectangle_survive_undo_redo_and_a_restart(run, study):
    cells = (
        OPEN.format(name=study.folder.name),
        "from cellkit.annotate import draw_batch\nqueue = draw_batch(study, '1', n=40)",
        "from cellkit.widgets import Gallery\nGallery(study, queue, who='ann')",
    )
    page = run("gallery.ipynb", *cells)
    gallery = screen(page, "gallery")
    tile = gallery.locator(".ck-tile")
    tile.first.click()
    page.keyboard.type("ccxxcucx")
    expect(gallery).to_have_attribute("data-rev", "8")
    expect(gallery).to_have_attribute("data-cursor", "8")
    page.keyboard.type("qd jk")
    assert page.evaluate(CELLS) == 3, "Jupyter's own keys do nothing here"
    first, last = tile.nth(8).bounding_box(), tile.nth(15).bounding_box()
    page.mouse.move(first["x"] - 2, first["y"] + 4)
    page.mouse.down()
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.move(last["x"] + 20, last["y"] + 20)
    page.mouse.up()
    chosen = int(gallery.get_attribute("data-chosen"))
    assert chosen >= 4
    gallery.get_by_role("button", name="all artefact").click()
    expect(gallery).to_have_attribute("data-rev", "9")
    expect(gallery.locator(".ck-pace")).to_have_text(re.compile(r"^\d+ a minute, \d+ min left$"))
    row = int(gallery.locator('.ck-tile[data-answer="artefact"]').last.get_attribute("data-index"))
    tile.nth(row).dblclick()
    expect(tile.nth(row)).to_have_attribute("data-answer", "cell")
    expect(gallery).to_have_attribute("data-rev", "10")
    page.keyboard.type("zzz")
    page.keyboard.press("Control+Shift+Z")
    expect(gallery).to_have_attribute("data-rev", "14")
    expect(gallery).to_have_attribute("data-saved", "saved")
    answers = [each.get_attribute("data-answer") for each in tile.all()]
    assert answers[:8] == ["cell", "cell", "artefact", "artefact", "cell", "unsure", "cell", "artefact"]
    assert (answers.count(""), len(open_study(study.folder).labels())) == (32, 8)
    page.keyboard.press("Control+a")
    page.keyboard.press("x")
    expect(gallery).to_have_attribute("data-rev", "15")
    page.evaluate(RESTART)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    again = screen(page, "gallery")
    expect(again).to_have_attribute("data-rev", "0")
    expect(again.locator('.ck-tile[data-answer="artefact"]')).to_have_count(40)
    assert (open_study(study.folder).labels()["answer"] == "artefact").sum() == 40


def test_planes_are_scrolled_candidates_labelled_and_a_rectangle_sampled(run, study):
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import SliceBrowser\nSliceBrowser(study, 'animal-1', who='ann')"
    )  # fmt: skip
    page = run("slices.ipynb", *cells)
    browser = screen(page, "slices")
    stage = browser.locator(".ck-stage")
    box = stage.bounding_box()
    expect(browser).to_have_attribute("data-shown", "12")
    page.mouse.move(box["x"] + 30, box["y"] + 60)
    page.mouse.wheel(0, 1)
    expect(browser).to_have_attribute("data-z", "12")
    browser.focus()
    page.mouse.wheel(0, 1)
    page.mouse.wheel(0, 1)
    expect(browser).to_have_attribute("data-shown", "14")
    page.keyboard.press("ArrowDown")
    expect(browser).to_have_attribute("data-shown", "13")
    page.keyboard.press("o")
    page.keyboard.press("m")
    page.keyboard.press("r")
    expect(browser).to_have_attribute("data-tool", "rectangle")
    box = stage.bounding_box()
    drag(page, box, (0.3, 0.2), (0.7, 0.8))
    gallery = screen(page, "gallery")
    n = gallery.locator(".ck-tile").count()
    gallery.get_by_role("button", name="all artefact").click()
    expect(browser).to_have_attribute("data-labelled", str(n))
    labels = open_study(study.folder).labels()
    assert set(labels["origin"]) == {"rectangle"}
    assert len(labels) == n
    browser.focus()
    page.keyboard.press("a")
    stage.click(position={"x": 200, "y": 100})
    expect(browser).to_have_attribute("data-labelled", str(n + 1))
    page.keyboard.press("z")
    expect(browser).to_have_attribute("data-labelled", str(n))
    gallery.focus()
    page.keyboard.type("ad")
    assert page.evaluate(CELLS) == 2
    gallery.evaluate("node => node.removeAttribute('data-lm-suppress-shortcuts')")
    page.keyboard.press("a")
    page.wait_for_function(f"() => ({CELLS})() === 3")  # control: without its shield Jupyter takes the keys


TRAIN = """from cellkit.widgets import CategorySampler, TrainingMonitor
def train(on_epoch, stop):
    epoch = 0
    while not stop.wait(0.05):
        epoch += 1
        on_epoch({'epoch': epoch, 'loss': 1 / epoch, 'val_loss': 1.1 / epoch, 'f1': 0.5, 'val_f1': 0.4})
monitor = TrainingMonitor(train)
monitor"""


def test_a_box_opens_a_batch_while_a_training_goes_on_until_it_is_stopped(lab, run, page):
    mean = "<img src=x onerror=alert(1)>"
    study = make_study(lab.home / "categories", n=100, classes=(mean, "artefact"))
    run(
        "categories.ipynb",
        OPEN.format(name=study.folder.name),
        TRAIN,
        "CategorySampler(study, who='ann', n=8)",
    )
    monitor, table = screen(page, "monitor"), screen(page, "categories")
    expect(table.locator(".ck-box").first).to_contain_text(f"correct {mean}")
    assert page.locator(".ck img").count() == 0, "names are text, whatever they hold"
    table.focus()
    page.keyboard.press("4")
    gallery = screen(page, "gallery")
    expect(gallery.locator(".ck-tile")).to_have_count(8)
    gallery.locator(".ck-tile").first.click()
    page.keyboard.press("x")
    expect(table.locator('[data-category="correct artefact"]')).to_contain_text("1 labelled")
    expect(monitor).to_have_attribute("data-state", "running")
    page.evaluate(DARK)
    monitor.get_by_role("button", name="stop").click()
    expect(monitor).to_have_attribute("data-state", "done")
    assert page.evaluate("() => document.body.dataset.jpThemeLight") == "false"


@pytest.mark.parametrize("wait", ["await monitor", "monitor.result()"])
def test_stop_reaches_a_training_while_a_cell_waits_for_it(run, page, wait):
    run(f"wait-{len(wait)}.ipynb", TRAIN, f"print('network', {wait})", after=RUN_WITHOUT_WAITING)
    monitor = screen(page, "monitor")
    busy = page.locator(".jp-InputPrompt", has_text="[*]")
    expect(busy).to_have_count(1)
    expect(monitor).not_to_have_attribute("data-epochs", "0")
    monitor.focus()
    page.keyboard.press("s")
    expect(monitor).to_have_attribute("data-state", "done")
    expect(page.locator(".jp-OutputArea-output", has_text="network None")).to_have_count(1)
    expect(busy).to_have_count(0)


def test_the_crosshair_links_three_planes_and_the_wheel_moves_along_the_axis_looked_along(run, study):
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import SliceBrowser\nSliceBrowser(study, 'animal-1', who='ann')"
    )  # fmt: skip
    page = run("planes.ipynb", *cells)
    browser = screen(page, "slices")
    browser.focus()
    page.keyboard.press("t")
    expect(browser).to_have_attribute("data-layout", "three")
    expect(browser).to_have_attribute("data-at", "12 60 60")
    expect(browser).to_have_attribute("data-settled", "1")
    along_y = browser.locator('.ck-pane[data-along="1"]')
    box = along_y.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.4 * box["height"])
    z, y, x = map(int, browser.get_attribute("data-at").split())
    assert y == 60
    assert x < 60
    assert z < 12
    page.mouse.wheel(0, 1)
    expect(browser).to_have_attribute("data-at", f"{z} 61 {x}")
    page.mouse.move(box["x"] + 20, box["y"] - 40)
    page.mouse.wheel(0, 1)
    expect(browser).to_have_attribute("data-at", f"{z + 1} 61 {x}")
    page.keyboard.press("n")
    expect(browser).not_to_have_attribute("data-selected", "")
    row = int(browser.get_attribute("data-selected"))
    found = study.candidates("animal-1").iloc[row][["z", "y", "x"]]
    assert browser.get_attribute("data-at") == " ".join(str(int(v + 0.5)) for v in found)
    page.keyboard.press("t")
    expect(browser).to_have_attribute("data-layout", "one")


def test_filters_hide_points_and_a_label_sends_only_what_changed(run, study):
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import SliceBrowser\nSliceBrowser(study, 'animal-1', who='ann')"
    )  # fmt: skip
    page = run("filters.ipynb", *cells)
    browser = screen(page, "slices")
    expect(browser).to_have_attribute("data-visible", "200")
    browser.focus()
    page.keyboard.type("nx")
    expect(browser).to_have_attribute("data-rev", "1")
    expect(browser).to_have_attribute("data-sent", "0")
    expect(browser).to_have_attribute("data-labelled", "1")
    browser.locator(".ck-select").select_option("unlabelled")
    expect(browser).to_have_attribute("data-visible", "199")
    table = study.candidates("animal-1")
    browser.locator('input[aria-label="least p"]').fill("0.5")
    sure = table["p"].astype("float32") >= 0.5
    row = int(browser.get_attribute("data-selected"))
    expect(browser).to_have_attribute("data-visible", str(int(sure.drop(row).sum())))
    browser.focus()
    page.keyboard.press("g")
    gallery = screen(page, "gallery")
    expect(gallery.locator(".ck-tile").first).to_be_visible()
    gallery.locator(".ck-tile").first.click()
    page.keyboard.press("c")
    expect(browser).to_have_attribute("data-labelled", "2")
    expect(browser).to_have_attribute("data-sent", "0")
    expect(gallery).to_have_attribute("data-rev", "1")
    browser.locator(".ck-select").select_option("all")
    browser.locator('input[aria-label="least p"]').fill("0")
    expect(browser).to_have_attribute("data-visible", "200")
    browser.evaluate("node => node.scrollIntoView()")
    box = browser.locator(".ck-pane").bounding_box()
    scale = min(box["width"], box["height"]) / 1200  # the whole plane of 120 x 120 voxels of 10 µm
    y, x = ((table.iloc[row][["y", "x"]].astype(float) + 0.5) * 10 - 600) * scale
    page.mouse.dblclick(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
    expect(browser).to_have_attribute("data-selected", str(row))
    expect(page.locator(".ck-gallery").first).to_have_attribute("data-rev", "0")


def test_an_outline_of_clicked_corners_opens_a_sample_of_what_lies_inside(run, study):
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import SliceBrowser\nSliceBrowser(study, 'animal-1', who='ann', tool='outline')"
    )  # fmt: skip
    page = run("outline.ipynb", *cells)
    browser = screen(page, "slices")
    expect(browser).to_have_attribute("data-tool", "outline")
    browser.focus()
    page.keyboard.type("mmmm")
    expect(browser).to_have_attribute("data-depth", "9")
    stage = browser.locator(".ck-stage")
    box = stage.bounding_box()
    for x, y in ((0.3, 0.1), (0.7, 0.1), (0.5, 0.9)):
        stage.click(position={"x": x * box["width"], "y": y * box["height"]})
    page.keyboard.press("Enter")
    gallery = screen(page, "gallery")
    assert 0 < gallery.locator(".ck-tile").count() <= 40
    record = next((study.folder / "batches").glob("*.json")).read_text()
    assert len(json.loads(record)["how"]["outline"]) == 3


def test_a_long_queue_is_drawn_in_part_sorted_grouped_looked_at_closely_and_answered_by_other_keys(
    run, study
):
    cells = (
        OPEN.format(name=study.folder.name),
        "from cellkit.annotate import sample\nqueue = sample(study, 300, by='random')",
        "from cellkit.widgets import Gallery\nGallery(study, queue, who='ann')",
    )
    page = run("long.ipynb", *cells)
    gallery = screen(page, "gallery")
    tile = gallery.locator(".ck-tile")
    expect(tile.first).to_have_attribute("data-index", "0")
    assert tile.count() < 200, "tiles far out of view are not drawn"
    gallery.focus()
    page.keyboard.press("End")
    expect(gallery).to_have_attribute("data-cursor", "299")
    expect(gallery.locator('.ck-tile[data-index="299"]')).to_be_visible()
    gallery.locator('[aria-label="order"]').select_option("p, highest first")
    page.keyboard.press("Home")
    first = int(gallery.get_attribute("data-cursor"))
    gallery.locator('[aria-label="groups"]').select_option("called")
    expect(gallery.locator(".ck-heading").first).to_contain_text("called cell")
    page.keyboard.press("e")
    expect(gallery.locator(".ck-grid")).to_be_hidden()
    page.keyboard.press("c")
    expect(gallery).to_have_attribute("data-rev", "1")
    assert gallery.get_attribute("data-cursor") != str(first)
    page.keyboard.press("Escape")
    expect(gallery.locator(f'.ck-tile[data-index="{first}"]')).to_have_attribute("data-answer", "cell")
    page.keyboard.press("?")
    gallery.locator('[data-remap="artefact"]').click()
    page.keyboard.press("k")
    expect(gallery.locator('[data-remap="artefact"] kbd')).to_have_text("k")
    page.keyboard.press("Escape")
    gallery.focus()
    page.keyboard.press("k")
    expect(gallery).to_have_attribute("data-rev", "2")
    assert open_study(study.folder).labels()["answer"].tolist() == ["cell", "artefact"]


def test_every_cell_of_a_box_is_marked_and_the_next_box_comes(run, study):
    review.draw_boxes(study, 5)
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import BoxLabeller\nBoxLabeller(study, who='ann')"
    )  # fmt: skip
    page = run("boxes.ipynb", *cells)
    labeller = screen(page, "slices")
    expect(labeller).to_have_attribute("data-settled", "1")
    expect(labeller).to_contain_text("box 1 of")
    assert labeller.locator(".ck-legend input").count() == 0, "neither candidates nor calls are shown"
    labeller.locator(".ck-pane").click()
    expect(labeller).to_have_attribute("data-labelled", "1")
    page.keyboard.press("d")
    expect(labeller).to_contain_text("box 2 of")
    expect(labeller).to_have_attribute("data-labelled", "0")
    assert len(review.box_marks(study)) == 1
    boxes, _ = review.read_boxes(study)
    assert boxes["done"].sum() == 1


def test_an_audit_is_labelled_blind_and_says_what_was_passed_over(run, study):
    review.draw_audit(study, 60)
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import AuditLabeller\nAuditLabeller(study, who='ann')"
    )  # fmt: skip
    page = run("audit.ipynb", *cells)
    labeller = screen(page, "gallery")
    assert "p 0." not in labeller.inner_text()
    assert labeller.locator(".ck-select").count() == 0, "sorting by p would tell the network's opinion"
    labeller.locator(".ck-tile").nth(2).click()
    page.keyboard.press("c")
    expect(labeller.locator(".ck-noted")).to_have_text("2 passed over, recorded")


def test_a_browser_leads_through_a_queue_and_the_gallery_below_goes_on_from_there(run, study):
    cells = (
        OPEN.format(name=study.folder.name),
        "from cellkit.annotate import draw_batch\nqueue = draw_batch(study, '1', n=12)",
        "from cellkit.widgets import Gallery, SliceBrowser\nSliceBrowser(study, queue=queue, who='ann')",
        "Gallery(study, queue, who='ann')",
    )
    page = run("queue.ipynb", *cells)
    browser = screen(page, "slices")
    expect(browser).to_contain_text("1 of 12, 12 open")
    browser.focus()
    page.keyboard.type("cx")
    expect(browser).to_have_attribute("data-rev", "2")
    expect(browser).to_have_attribute("data-open", "10")
    row = int(browser.get_attribute("data-row"))
    assert row >= 2
    page.keyboard.press("n")
    expect(browser).not_to_have_attribute("data-row", str(row))
    page.keyboard.press("Shift+P")
    expect(browser).to_have_attribute("data-row", str(row))
    first = browser.locator(".ck-head strong").inner_text()
    browser.evaluate(NOTE_OPEN)
    page.keyboard.type("cc")  # faster than Python replies
    for left in range(8, 0, -1):  # through both images
        expect(browser).to_have_attribute("data-open", str(left))
        expect(browser).not_to_have_attribute("data-selected", "")
        page.keyboard.press("c")
    expect(browser).to_have_attribute("data-open", "0")
    expect(browser).to_have_attribute("data-saved", "saved")
    opened = page.evaluate("noted")
    assert opened == sorted(opened, reverse=True), "no answered row opens again"
    assert browser.locator(".ck-head strong").inner_text() != first, "each place in its image"
    assert len(open_study(study.folder).labels()) == 12
    page.keyboard.press("z")
    expect(browser).to_have_attribute("data-open", "1")
    gallery = page.locator(".ck-gallery").first
    expect(gallery).to_have_attribute("data-ready", "1")
    page.evaluate(RESTART)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    again = screen(page, "slices")
    expect(again).to_contain_text("12, 1 open")
    expect(page.locator(".ck-gallery").first).to_have_attribute("data-open", "1", timeout=30_000)
    told = open_study(study.folder).labels()
    assert set(told["batch"]) == {"1"}
    assert told["answer"].value_counts().to_dict() == {"cell": 10, "artefact": 1}


def test_side_planes_of_a_large_compressed_file_come_later_and_nothing_waits_for_them(lab, run):
    folder = lab.home / "large"
    folder.mkdir()
    tile = np.random.default_rng(0).integers(0, 1000, (512, 640)).astype(np.uint16)
    with tifffile.TiffWriter(folder / "large.tif") as file:
        for z in range(240):
            file.write(np.roll(tile, 5 * z, axis=1), compression="zlib", rowsperstrip=512)
    image = {"name": "large", "path": "large.tif", "animal": "a", "axes": "zyx", "voxel_um": (5.0, 2.0, 2.0)}
    study = create_study(folder, images=[image | {"channels": ["signal"]}], diameter_um=15)
    places = {"z": [120.0], "y": [256.0], "x": [256.0]}
    found = pd.DataFrame(places).assign(image="large", frame=0, score=1.0, diameter_um=15.0)
    study.save_candidates("large", found, made_by={})
    cells = OPEN.format(name="large"), (
        "study.intensities('large')\nfrom cellkit.widgets import SliceBrowser\n"
        "SliceBrowser(study, 'large', who='ann')"
    )  # fmt: skip
    page = run("large.ipynb", *cells)
    browser = screen(page, "slices")
    expect(browser).to_have_attribute("data-settled", "1")
    browser.focus()
    page.keyboard.type("t")
    reading = browser.locator(".ck-pane-name", has_text="reading")
    expect(reading.first).to_be_visible()
    page.keyboard.type("nc")
    expect(browser).to_have_attribute("data-rev", "1")
    assert reading.count() or browser.get_attribute("data-settled") == "1"
    page.keyboard.press("ArrowUp")
    expect(browser).to_have_attribute("data-shown", "121")
    expect(browser).to_have_attribute("data-settled", "1", timeout=60_000)
    expect(reading).to_have_count(0)
    stage = browser.locator('.ck-pane[data-along="0"]').bounding_box()
    for step in range(12):
        page.mouse.click(stage["x"] + 30 + 8 * step, stage["y"] + 40 + 5 * step)
    expect(browser).to_have_attribute("data-settled", "1", timeout=30_000)
    page.keyboard.press("t")
    expect(browser).to_have_attribute("data-settled", "1")
    browser.evaluate(NOTE_STEPS)
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    expect(browser).to_have_attribute("data-shown", "151")
    expect(browser).to_have_attribute("data-settled", "1")
    assert browser.get_attribute("data-step") == "1", "where it ends it is sharp"
    steps, shown = (page.evaluate(f"() => noted.{what}") for what in ("steps", "shown"))
    assert "2" in steps, "while planes pass a rough picture is enough"
    assert len(shown) > 5 and shown == sorted(shown, key=int), (
        "planes are seen on the way, none after a later one"
    )


def test_a_full_disk_stops_labelling_with_the_reason_until_there_is_room(lab, run, study):
    labels = study.folder / "labels"
    labels.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", labels], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system may be mounted here: this takes root on Linux")
    cells = OPEN.format(name=study.folder.name), (
        "from cellkit.widgets import SliceBrowser\nfrom cellkit.annotate import draw_batch\n"
        "SliceBrowser(study, queue=draw_batch(study, '1', n=30), who='ann')"
    )  # fmt: skip
    try:
        page = run("full.ipynb", *cells)
        browser = screen(page, "slices")
        expect(browser).not_to_have_attribute("data-selected", "")
        browser.focus()
        filler = labels / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match=r"^\[Errno 28\] "):
            while True:
                file.write(b"0" * 512)
        page.keyboard.press("c")
        expect(browser).to_have_attribute("data-saved", "failed")
        expect(browser.get_by_role("alert")).to_contain_text("No space left on device")
        expect(browser).to_have_attribute("data-row", "0")
        page.keyboard.press("c")
        expect(browser.locator(".ck-spoken")).to_have_text("Not saved: close the message to go on")
        filler.unlink()
        page.keyboard.press("Escape")
        expect(browser.get_by_role("alert")).to_be_hidden()
        page.keyboard.press("c")
        expect(browser).to_have_attribute("data-rev", "1")
        assert open_study(study.folder).events()["answer"].tolist() == ["cell"]
    finally:
        subprocess.run(["umount", "-l", labels], check=True)
