"""The README's pictures of the screens: a real Chromium on a real JupyterLab, at 1366 x 768.

    python benchmarks/pictures.py [--out docs/screens] [--dark] [--only slices,gallery] [--study FOLDER]

Every screen is opened on the sample study and used as a person would; then its picture is taken, in the
light theme, or in the dark one as `<name>-dark.png`. `--study` keeps the study with its calls and labels in a
folder and takes it from there the next time. The study, the labels and what is clicked are always the same.
"""

import argparse
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / "browser")]
from lab import FLAGS, open_book, serve  # noqa: E402

from cellkit import annotate, review  # noqa: E402
from cellkit.detect import classify, detect  # noqa: E402
from cellkit.study import Study, open_study  # noqa: E402
from cellkit.synthetic import create_sample_study  # noqa: E402

DARK = "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
WIDE = 820  # pixels of a picture that is as wide as a screen
OPEN = (
    "from cellkit.study import open_study\nfrom cellkit import annotate, review, widgets\n"
    "study = open_study('sample')"
)
LOW = ".ck-grid { min-height: 190px !important } .ck-stage { height: 300px !important }"
GREYS = 64
KEPT = ("0072b2", "d55e00", "f0e442", "56b4e9", "e8762d", "009e73", "e69f00", "cc79a7")  # however small
ASSESS = "from cellkit.reassess import assess\nfound = assess(study, 'cells-1')"
TRAIN = (
    "from dataclasses import replace\nfrom cellkit.retrain import FINE_TUNING, retrain\n"
    "few = replace(FINE_TUNING, epochs=12, patience=12)\n"
    "widgets.TrainingMonitor(retrain, study, name='net-1', settings=few)"
)


def prepare(study: Study) -> None:
    """Give the sample study calls, an audit, boxes and labels, as the notebooks do."""
    detect(study)
    classify(study, "cells-1")
    review.draw_audit(study, 160)
    annotate.answer_from_truth(study, review.audit_queue(study).iloc[:110])
    boxes = review.draw_boxes(study, 8)
    review.mark_cells(study, int(boxes["box"].iloc[0]), inside(study, boxes.iloc[0])[:2], "me")
    annotate.answer_from_truth(study, annotate.draw_batch(study, "first", 150))
    wrong = annotate.draw_batch(study, "second", 60, by="category")
    annotate.answer_from_truth(study, wrong.iloc[:45])
    batch = annotate.draw_batch(study, "1", 60)
    annotate.answer_from_truth(study, batch.iloc[:13], "me")
    annotate.answer(study, batch.iloc[[5]], "unsure", "me")
    annotate.draw_rectangle(study, "rectangle 1", "animal-2", box=((0, 41), (40, 150), (40, 150)), n=40)


def inside(study: Study, box) -> list[tuple[float, float, float]]:
    """Return the true cells whose centres lie in a box."""
    truth = study.truth(str(box["image"]))
    ends = (("z0", "z1"), ("y0", "y1"), ("x0", "x1"))
    for axis, (first, stop) in zip("zyx", ends, strict=True):
        truth = truth[(truth[axis] >= box[first] - 0.5) & (truth[axis] < box[stop] - 0.5)]
    cells = truth[truth["kind"] == "cell"] if "kind" in truth else truth
    return [tuple(place) for place in cells[["z", "y", "x"]].to_numpy()]


def painted(page, node) -> None:
    """Wait until every crop in view of a gallery is painted."""
    page.wait_for_function(
        "(node) => [...node.querySelectorAll('.ck-tile')].every((t) => !t.bare)",
        arg=node.element_handle(),
        timeout=60_000,
    )


def press(*keys: str) -> Callable:
    """Return what presses these keys on a screen, one after the other."""

    def act(page, node) -> None:
        node.focus()
        for key in keys:
            page.keyboard.press(key)

    return act


def settled(page, node) -> None:
    """Wait until the planes of a slice browser are there."""
    page.wait_for_function(
        "(node) => node.dataset.settled === '1'", arg=node.element_handle(), timeout=60_000
    )


def browse(page, node) -> None:
    """Look at a cell that the network is sure of in three planes, near."""
    settled(page, node)
    node.locator('[aria-label="least p"]').fill("0.99")
    press("t", "n", "+", "+", "+")(page, node)
    node.locator('[aria-label="least p"]').fill("0")
    node.focus()
    settled(page, node)


def mark(page, node) -> None:
    """Look at a box through all its planes, so that its marks are seen."""
    settled(page, node)
    press("m", "m", "m", "m")(page, node)
    settled(page, node)


def select_some(page, node) -> None:
    """Group by call, and let a rectangle lie over some crops."""
    node.locator('[aria-label="groups"]').select_option("called")
    painted(page, node)


def sample(page, node) -> None:
    """Show the picture and the sample below it on one page, both low."""
    page.set_viewport_size({"width": 1366, "height": 930})
    page.add_style_tag(content=LOW)
    painted(page, node)
    press("x", "c", "x")(page, node.locator(".ck-gallery"))
    settled(page, node.locator(".ck-slices"))


def train(page, node) -> None:
    """Wait until a training is over."""
    page.wait_for_function(
        "(node) => node.dataset.state === 'done'", arg=node.element_handle(), timeout=900_000
    )


def lasso(page, node) -> None:
    """Draw around some candidates of the map, and hold the pointer down."""
    node.scroll_into_view_if_needed()
    box = node.locator("canvas").first.bounding_box()
    corners = [(0.15, 0.3), (0.35, 0.25), (0.4, 0.6), (0.2, 0.7), (0.15, 0.32)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)


def nothing(page, node) -> None:
    """Take it as it is."""


class Shot(NamedTuple):
    """A picture: the cell that shows the screen, what is photographed, and what is done before."""

    cell: str
    part: str = ".ck"
    act: Callable[[Any, Any], None] = nothing


OUTPUT = ".jp-OutputArea-output"
SHOTS = {
    "slices": Shot("widgets.SliceBrowser(study, 'animal-1')", ".ck-slices", browse),
    "queue": Shot(
        "widgets.SliceBrowser(study, queue=annotate.read_batch(study, '1'))", ".ck-slices", settled
    ),
    "gallery": Shot("widgets.Gallery(study, annotate.read_batch(study, '1'))", ".ck-gallery", select_some),
    "categories": Shot("widgets.CategorySampler(study)", ".ck-categories"),
    "audit": Shot("widgets.AuditLabeller(study)", ".ck-gallery", painted),
    "boxes": Shot("widgets.BoxLabeller(study)", ".ck-slices", mark),
    "errors": Shot("widgets.ErrorGallery(study, 'cells-1')", ".ck-gallery", painted),
    "matrix": Shot(f"{ASSESS}\nwidgets.ConfusionMatrix(study, found)", OUTPUT),
    "threshold": Shot(f"{ASSESS}\nwidgets.ThresholdExplorer(found, study.candidates())", OUTPUT),
    "map": Shot("widgets.EmbeddingMap(study, 'cells-1')", OUTPUT, lasso),
    "regions": Shot(
        "sampler = widgets.RegionSampler(study, 'animal-2')\n"
        "sampler.label(annotate.read_batch(study, 'rectangle 1'))\nsampler",
        OUTPUT,
        sample,
    ),
    "training": Shot(TRAIN, ".ck-monitor", train),
}


def take(page, cell, shot: Shot) -> bytes:
    """Return the picture of one screen as PNG."""
    node = cell.locator(shot.part).first
    node.wait_for(timeout=120_000)
    if shot.part.startswith(".ck"):
        page.wait_for_function(
            "(node) => node.dataset.ready === '1'", arg=node.element_handle(), timeout=120_000
        )
    else:
        page.wait_for_timeout(3000)  # ipympl says of no figure that it is drawn
    node.scroll_into_view_if_needed()
    shot.act(page, node)
    page.wait_for_timeout(500)
    node.evaluate("(node) => node.scrollIntoView({ block: 'start' })")
    page.wait_for_timeout(300)
    return page.screenshot(animations="disabled", clip=seen(page, node))


def seen(page, node) -> dict[str, float]:
    """Return the part of a screen that lies in the notebook's panel."""
    box, panel = node.bounding_box(), page.locator(".jp-WindowedPanel-outer").bounding_box()
    top = max(box["y"], panel["y"]) + (0 if node.evaluate("(node) => node.matches('.ck')") else 2)
    bottom = min(box["y"] + box["height"], panel["y"] + panel["height"])
    return {"x": box["x"], "y": top, "width": box["width"], "height": bottom - top}


def save(picture: bytes, path: Path) -> None:
    """Write a picture in the size of the README; of its greys every fourth, of its colours the main ones."""
    from PIL import Image, ImageChops

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    page = Image.new("RGB", image.size, image.getpixel((image.width - 3, image.height - 3)))
    _, _, right, bottom = ImageChops.difference(image, page).getbbox()
    image = image.crop((0, 0, min(right + 8, image.width), min(bottom + 8, image.height)))
    if image.width > WIDE:
        image = image.resize((WIDE, round(image.height * WIDE / image.width)), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(-1, 3)
    coloured = np.ptp(pixels.astype(int), axis=1) > 6
    words = np.rint(pixels.mean(axis=1) / 255 * (GREYS - 1)).astype(np.uint8)
    palette = [value for grey in range(GREYS) for value in [round(255 * grey / (GREYS - 1))] * 3]
    if coloured.any():
        strip = Image.fromarray(np.ascontiguousarray(pixels[coloured][None]))
        main = strip.quantize(256 - GREYS - len(KEPT), method=Image.Quantize.MEDIANCUT).getpalette()
        main = [
            *main[: 3 * (256 - GREYS - len(KEPT))],
            *(int(c[i : i + 2], 16) for c in KEPT for i in (0, 2, 4)),
        ]
        known = Image.new("P", (1, 1))
        known.putpalette(main)
        words[coloured] = np.asarray(strip.quantize(palette=known, dither=Image.Dither.NONE))[0] + GREYS
        palette += main
    drawn = Image.fromarray(words.reshape(image.height, image.width), mode="P")
    drawn.putpalette(palette)
    drawn.save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} kB", flush=True)


def photograph(home: Path, out: Path, names: list[str], *, chromium: str, dark: bool) -> None:
    """Open one notebook with all screens and take their pictures."""
    from playwright.sync_api import sync_playwright

    cells = [OPEN, *(SHOTS[name].cell for name in names)]
    with serve(home) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(120_000)
        open_book(lab, page, "pictures.ipynb", *cells)
        if dark:
            page.evaluate(DARK)
            page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
        for number, name in enumerate(names, start=1):
            picture = take(page, page.locator(".jp-Notebook .jp-Cell").nth(number), SHOTS[name])
            page.mouse.up()
            page.set_viewport_size({"width": 1366, "height": 768})
            save(picture, out / f"{name}{'-dark' if dark else ''}.png")
        browser.close()


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "screens")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--only", default=",".join(SHOTS))
    parser.add_argument("--study", type=Path)
    parser.add_argument("--chromium", default=os.environ.get("CELLKIT_CHROMIUM", "/usr/bin/chromium"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        study = Path(home) / "sample"
        if asked.study and asked.study.exists():
            shutil.copytree(asked.study, study)
            open_study(study)
        else:
            prepare(create_sample_study(study))
            if asked.study:
                shutil.copytree(study, asked.study)
        photograph(Path(home), asked.out, asked.only.split(","), chromium=asked.chromium, dark=asked.dark)


if __name__ == "__main__":
    main()
