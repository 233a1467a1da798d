"""Screens: how fast they answer in a real Chromium against a real JupyterLab.

    python benchmarks/screens.py [--chromium PROGRAM] [--only keys,scroll,gallery,drag,state,actions]

The browser is driven by its bare DevTools protocol (`chromium.py`), which takes little of the cores.
`keys`: 120 candidates labelled one a key, 6 a second; from the key press until the next crop is painted, and
until the label is on disk and the screen says so. `scroll`: one plane a turn of the wheel through 1024 x 1024
x 200 uint16 (an uncompressed TIFF), 60 turns a second, planes painted a second. `gallery`: 5,000
crops, from running the cell until all crops in view are painted. `drag`: a selection grows over 500 crops,
which roll on; the frames drawn meanwhile, five times. `state`: the notebook file after the slice browser and
a gallery were used. `actions`: rectangles of the sample study, labelled whole and the exceptions flipped as
the truth says; one action is a rectangle, a class for all of it, or a flip.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from chromium import open_chromium

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / "browser"), str(HERE.parent / "tests")]
from lab import FLAGS, open_book, serve  # noqa: E402

from cellkit import annotate  # noqa: E402
from cellkit.detect import detect  # noqa: E402
from cellkit.study import create_study  # noqa: E402
from cellkit.synthetic import create_sample_study  # noqa: E402

TIMES = {"drag": 5}  # in a fresh browser each, because one slow frame of 200 decides
PARTS = ("keys", "scroll", "gallery", "drag", "state", "actions")
OPEN = "from cellkit.study import open_study\nstudy = open_study('{0}')"
GALLERY = (
    "import pandas as pd\nfrom cellkit import annotate\nfrom cellkit.widgets import Gallery\n"
    "queue = annotate.sample(study, {n}, by='random')\nGallery(study, queue, who='me')"
)
WATCH = """(name) => {
    const root = document.querySelector(name);
    window.painted = [];
    window.saved = [];
    window.pressed = [];
    root.addEventListener('keydown', (event) => {
        const start = event.timeStamp;
        window.pressed.push(start);
        requestAnimationFrame(() => {
            const channel = new MessageChannel();
            channel.port1.onmessage = () => window.painted.push(performance.now() - start);
            channel.port2.postMessage('after this frame');
        });
    }, true);
    new MutationObserver(() => {
        const n = Number(root.dataset.rev);
        const { saved, pressed } = window;
        while (saved.length < n) saved.push(performance.now() - pressed[saved.length]);
    }).observe(root, { attributes: true, attributeFilter: ['data-rev'] });
}"""
FRAMES = """() => {
    window.frames_ms = [];
    window.counting = true;
    let last = performance.now();
    const tick = (now) => {
        window.frames_ms.push(now - last);
        last = now;
        if (window.counting) requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
}"""
PLANES = """(name) => {
    const root = document.querySelector(name);
    window.planes = [];
    new MutationObserver(() => {
        const z = root.dataset.shown;
        const { planes } = window;
        if (planes.at(-1)?.[1] !== z) planes.push([performance.now(), z]);
    }).observe(root, { attributes: true, attributeFilter: ['data-shown'] });
}"""
TURN = """([by, times]) => new Promise((done) => {
    const pane = document.querySelector('.ck-pane');
    const timer = setInterval(() => {
        pane.dispatchEvent(new WheelEvent('wheel', { deltaY: by, bubbles: true, cancelable: true }));
        times -= 1;
        if (times === 0) { clearInterval(timer); done(); }
    }, 1000 / 60);
})"""
PAINTED = """() => {
    const tiles = [...document.querySelectorAll('.ck-tile')];
    const box = document.querySelector('.ck-grid')?.getBoundingClientRect();
    const seen = tiles.filter((tile) => tile.getBoundingClientRect().top < box.bottom);
    return seen.length > 0 && seen.every((tile) => !tile.bare);
}"""
FOCUS = """(name) => {
    const root = document.querySelector(name);
    root.scrollIntoView();
    root.focus({ preventScroll: true });
}"""
RUN = "() => { window.started = performance.now(); window.jupyterapp.commands.execute('notebook:run-cell'); }"


def spread(values: list[float]) -> str:
    """Return median and 95th percentile."""
    return f"median {np.median(values):.0f}, 95th percentile {np.percentile(values, 95):.0f}"


def when(page, holds: str) -> None:
    """Wait until something holds on a page."""
    page.wait_for_function(holds, timeout=60_000)


def screen(page, name: str) -> str:
    """Wait until a screen is drawn, let it have the keys, and return how it is found."""
    page.wait_for_function(f"() => document.querySelector('.ck-{name}')?.dataset.ready === '1'")
    page.evaluate(FOCUS, f".ck-{name}")
    return f".ck-{name}"


def keys(lab, page, study) -> None:
    """Label by keys, and time what a person sees."""
    open_book(lab, page, "keys.ipynb", OPEN.format(study.folder.name), GALLERY.format(n=200))
    gallery = screen(page, "gallery")
    when(page, PAINTED)
    page.evaluate(WATCH, gallery)
    rng = np.random.default_rng(0)
    for key in rng.choice(list("cx"), 120):
        page.press(key)
        page.wait_for_timeout(150)
    when(page, "() => window.saved.length >= 120")
    print(f"key to next crop painted, ms: {spread(page.evaluate('() => window.painted'))} (asked 50)")
    print(f"key to label on disk and shown so, ms: {spread(page.evaluate('() => window.saved'))}")
    assert len(study.labels()) >= 120


def scroll(lab, page, folder: Path) -> None:
    """Turn the wheel through a large volume."""
    study = volume(folder / "large")
    cell = "from cellkit.widgets import SliceBrowser\nSliceBrowser(study, 'large')"
    open_book(lab, page, "scroll.ipynb", OPEN.format(study.folder.name), cell)
    browser = screen(page, "slices")
    page.wait_for_function("() => document.querySelector('.ck-slices').dataset.settled === '1'")
    page.press("Home")
    for by in (1, -1, 1):  # the first is the warm-up
        page.evaluate(PLANES, browser)
        page.evaluate(TURN, [by, 199])
        page.wait_for_timeout(500)
        times, planes = zip(*page.evaluate("() => window.planes"), strict=True)
        gaps = np.diff(times)
        print(f"planes of 1024 x 1024 uint16: {len(set(planes))} of 200 painted, ", end="")
        print(
            f"{1000 * len(gaps) / gaps.sum():.0f} a second (asked 20), ms between two: {spread(list(gaps))}"
        )


def volume(folder: Path):
    """Make a study of one large volume with the candidates of noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tile = rng.gamma(4, 100, (8, 1024, 1024)).astype(np.uint16)
    with tifffile.TiffWriter(folder / "large.tif") as file:
        for z in range(200):
            file.write(np.roll(tile[z % 8], 37 * z, axis=1), contiguous=True)
    image = {"name": "large", "path": "large.tif", "animal": "a", "axes": "zyx"}
    images = [image | {"voxel_um": (5.0, 2.0, 2.0), "channels": ["signal"]}]
    study = create_study(folder, images=images, diameter_um=15)
    places = rng.random((20_000, 3)) * [199, 1023, 1023]
    table = pd.DataFrame(places, columns=["z", "y", "x"]).assign(image="large", frame=0, score=1.0)
    study.save_candidates("large", table.assign(diameter_um=15.0), made_by={})
    return study


def gallery(lab, page, study) -> None:
    """Open 5,000 crops."""
    table = study.candidates()
    shown = pd.concat([table[table["image"] == "animal-1"]] * 5).head(5000)
    shown.to_parquet(lab.home / "rows.parquet")
    cells = [
        OPEN.format(study.folder.name),
        "import pandas as pd\nfrom cellkit.widgets import Gallery",
        "from cellkit.labels.points import queue_of\n"
        "queue = queue_of(study, pd.read_parquet('rows.parquet'), batch='many')\n"
        "study.intensities('animal-1')",
    ]
    open_book(lab, page, "many.ipynb", *cells)
    taken = []
    for _ in range(3):
        page.evaluate(
            "async () => { await window.jupyterapp.commands.execute('notebook:insert-cell-below'); }"
        )
        page.press("Enter")
        page.write("Gallery(study, queue, who='me')")
        page.evaluate(RUN)
        when(page, PAINTED)
        taken.append(page.evaluate("() => performance.now() - window.started"))
        page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:delete-cell'); }")
    print(f"5,000 crops, run to usable, ms: {', '.join(f'{ms:.0f}' for ms in taken)} (asked 1500)")


def drag(lab, page, study) -> None:
    """Let a selection grow over 500 crops."""
    open_book(lab, page, "drag.ipynb", OPEN.format(study.folder.name), GALLERY.format(n=800))
    surface = screen(page, "gallery")
    for _ in range(4):
        page.press("-")
    when(page, PAINTED)
    box = page.box(f"{surface} .ck-grid")
    page.mouse("mouseMoved", box["x"] + 3, box["y"] + 3)
    page.mouse("mousePressed", box["x"] + 3, box["y"] + 3, held=True)
    page.mouse("mouseMoved", box["x"] + 60, box["y"] + 60, held=True)
    page.evaluate(FRAMES)
    for step in range(40):
        page.mouse(
            "mouseMoved", box["x"] + 60 + step * (box["width"] - 90) / 40, box["y"] + 60 + step * 3, held=True
        )
    end = box["x"] + box["width"] - 20, box["y"] + box["height"] - 4
    page.mouse("mouseMoved", *end, held=True)
    chosen = 0
    for _ in range(200):
        page.wait_for_timeout(50)
        chosen = page.evaluate("() => Number(document.querySelector('.ck-gallery').dataset.chosen)")
        if chosen >= 500:
            break
    frames = page.evaluate("() => { window.counting = false; return window.frames_ms; }")
    page.mouse("mouseReleased", *end)
    speeds = 1000 / np.percentile(frames, [50, 95, 100])
    print(f"a selection over {chosen} crops, frames a second: median {speeds[0]:.0f}, ", end="")
    print(
        f"slowest twentieth {speeds[1]:.0f}, in the slowest tenth of a second {slowest_tenth(frames):.0f}, ",
        end="",
    )
    print(f"slowest frame {speeds[2]:.0f} (asked 30)")


def slowest_tenth(frames: list[float]) -> float:
    """Return the frames a second in the slowest tenth of a second, from the length of each frame in ms."""
    ends = np.cumsum(frames)
    starts = ends - frames
    stops = np.searchsorted(ends, starts + 100)
    whole = stops < len(ends)
    n = stops[whole] - np.flatnonzero(whole) + 1
    return float(np.min(1000 * n / (ends[stops[whole]] - starts[whole])))


def state(lab, page, study) -> None:
    """Save a notebook whose screens were used."""
    cells = (
        OPEN.format(study.folder.name),
        GALLERY.format(n=300),
        "from cellkit.widgets import SliceBrowser\nSliceBrowser(study, 'animal-1', who='me')",
    )
    open_book(lab, page, "state.ipynb", *cells)
    screen(page, "slices")
    for key in ("ArrowUp", "t", "s", "ArrowDown"):
        page.press(key)
    when(page, PAINTED)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save'); }")
    file = lab.home / "state.ipynb"
    kept = json.loads(file.read_text())["metadata"].get("widgets", {})
    print(f"notebook with a browser and a gallery: {file.stat().st_size / 1000:.0f} kB (asked 50), ", end="")
    print(f"of it widget state {len(json.dumps(kept)) / 1000:.0f} kB")


def actions(folder: Path) -> None:
    """Count the actions of rectangle and flip on the sample study."""
    study = create_sample_study(folder / "counted")
    detect(study)
    rng = np.random.default_rng(0)
    done = labels = 0
    for k in range(20):
        y, x = rng.integers(0, 124, 2)
        image = f"animal-{1 + k % 2}"
        queue = annotate.draw_rectangle(
            study, f"r {k}", image, box=((0, 41), (int(y), int(y) + 100), (int(x), int(x) + 100)), n=40
        )
        told = annotate.answer_from_truth(study, queue)["answer"]
        done += 2 + told.value_counts().iloc[1:].sum()
        labels += len(told)
    print(f"rectangle and flip: {done} actions for {labels} labels, {done / labels:.2f} a label (asked 0.3)")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chromium", default=os.environ.get("CELLKIT_CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--only", default=",".join(PARTS))
    asked = parser.parse_args()
    wanted = asked.only.split(",")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        if "actions" in wanted:
            actions(folder)
        if set(wanted) - {"actions"}:
            in_browser(folder, asked.chromium, wanted)


def in_browser(folder: Path, chromium: str, wanted: list[str]) -> None:
    """Run the parts that need a browser, each in one of its own."""
    study = create_sample_study(folder / "sample")
    detect(study)
    parts = {"keys": keys, "scroll": scroll, "gallery": gallery, "drag": drag, "state": state}
    with serve(folder) as lab:
        for name in (name for part in parts if part in wanted for name in [part] * TIMES.get(part, 1)):
            with open_chromium(chromium, FLAGS) as page:
                parts[name](lab, page, folder if name == "scroll" else study)


if __name__ == "__main__":
    main()
