"""Classification end to end (load, cut, normalise, predict) against cellfinder's ResNet50.

    python benchmarks/classification.py --real DIR [--peer PYTHON] [--candidates 800] [--repeats 3]

`--real` is the folder that holds `two_channel_brain/`, `--peer` the Python of an environment with cellfinder
1.10.1; without it only cellkit is timed. Both get the same candidates and load their network from disk in
every repeat, as a new run does. cellfinder's network has the size of its supplied one and untrained weights,
which take as long.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd

from cellkit.cubes import Intensities
from cellkit.detect import find_candidates
from cellkit.images import Image, open_image
from cellkit.networks import load_network, predict
from cellkit.pixels.intensities import measure_intensities

VOXEL_UM = (5.0, 2.0, 2.0)
DIAMETER_UM = 16.0
MARGIN = (11, 14, 14)
CROWD = 20_000

PEER = """
import json, sys, time
from cellfinder.core.main import main
from cellfinder.core.classify.resnet import build_model
from brainglobe_utils.cells.cells import Cell
import tifffile

if __name__ == "__main__":
    order = json.load(open(sys.argv[1]))
    model = order["folder"] + "/resnet50.keras"
    build_model(network_depth="50-layer", learning_rate=1e-4).save(model)
    signal, background = (tifffile.imread(path) for path in order["images"])
    for _ in range(order["repeats"]):
        cells = [Cell((x, y, z), 1) for z, y, x in order["places"]]
        start = time.perf_counter()
        called = main(
            signal_array=signal, background_array=background, voxel_sizes=(5, 2, 2), skip_detection=True,
            detected_cells=cells, detect_finished_callback=lambda points: None, trained_model=model,
            model_weights=model, network_depth="50", network_voxel_sizes=(5, 1, 1), cube_width=50,
            cube_height=50, cube_depth=20, classification_batch_size=64, n_free_cpus=0,
        )
        print(json.dumps([len(called), time.perf_counter() - start]), flush=True)
"""


def brain(folder: Path) -> tuple[Image, dict[str, Intensities]]:
    """Open the two channels and measure their intensities, as a study does once."""
    image = open_image(
        [folder / "signal.tif", folder / "background.tif"], voxel_um=VOXEL_UM, roles=("signal", "background")
    )
    return image, {role: measure_intensities(image, role) for role in image.roles}


def well_inside(image: Image, number: int) -> pd.DataFrame:
    """Return the strongest candidates far enough from the border for cellfinder, which drops the others."""
    found = find_candidates(image, diameter_um=DIAMETER_UM)
    inside = pd.Series(True, index=found.index)
    for axis, length, margin in zip("zyx", image.shape[2:], MARGIN, strict=True):
        inside &= found[axis].between(margin, length - 1 - margin)
    return found[inside].head(number)


def ours(folder: Path, places: pd.DataFrame) -> float:
    """Return the seconds from opening the images to the probability of every place."""
    start = time.perf_counter()
    image, intensities = brain(folder)
    p = predict(load_network("cells-1"), image, places, intensities=intensities, diameter_um=DIAMETER_UM)
    assert len(p) == len(places)
    return time.perf_counter() - start


def theirs(python: Path, folder: Path, places: pd.DataFrame, repeats: int) -> list[float]:
    """Return the cubes a second of every repeat in the other environment, its start left out."""
    with tempfile.TemporaryDirectory() as work:
        order = {
            "folder": work,
            "images": [str(folder / "signal.tif"), str(folder / "background.tif")],
            "places": places[["z", "y", "x"]].round().astype(int).to_numpy().tolist(),
            "repeats": repeats,
        }
        (Path(work) / "order.json").write_text(json.dumps(order))
        (Path(work) / "peer.py").write_text(PEER)
        run = subprocess.run(
            [python, Path(work) / "peer.py", Path(work) / "order.json"],
            capture_output=True, text=True, check=True, cwd=work,
        )  # fmt: skip
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    return [called / seconds for called, seconds in lines]


def main() -> None:
    """Time both and print medians and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--candidates", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = options.real / "two_channel_brain"
    image, _ = brain(folder)
    places = well_inside(image, options.candidates)
    ours(folder, places.head(1))  # the imports
    crowd = pd.concat([places] * (CROWD // len(places)), ignore_index=True)
    rate = {}
    for name, some in (("cellkit", places), ("cellkit, many", crowd)):
        seconds = [ours(folder, some) for _ in range(options.repeats)]
        rate[name] = len(some) / statistics.median(seconds)
        print(
            f"{name}: {len(some)} candidates, median {statistics.median(seconds):.2f} s, "
            f"{rate[name]:.0f} cubes/s"
        )
    if options.peer:
        rates = theirs(options.peer, folder, places, options.repeats)
        print(f"cellfinder: {len(places)} candidates, {statistics.median(rates):.1f} cubes/s")
        for name, value in rate.items():
            print(f"{name}: {value / statistics.median(rates):.1f} times cellfinder")


if __name__ == "__main__":
    main()
