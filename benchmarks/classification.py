"""Classification end to end (load, cut, normalise, predict) against cellfinder's ResNet50.

    python benchmarks/classification.py --real DIR [--peer PYTHON] [--candidates 800] [--repeats 3]
    python benchmarks/classification.py --heads [--labels 2000] [--called 50000]

`--real` is the folder that holds `two_channel_brain/`, `--peer` the Python of an environment with cellfinder
1.10.1; without it only cellkit is timed. Both get the same candidates and load their network from disk in
every repeat, as a new run does. cellfinder's network has the size of its supplied one and untrained weights,
which take as long.

`--heads` times a new last layer instead: 50,000 candidates of a made-up study (places in two synthetic
brains, half of them in cells) are called by the supplied network, which keeps their embeddings; then 2,000
labels teach a head, and it calls all of them. Keras is loaded and the labels are new: their cubes are not
cut yet, as between two batches.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cellkit.cubes import Intensities
from cellkit.detect import classify, find_candidates
from cellkit.images import Image, open_image
from cellkit.networks import load_network, predict
from cellkit.pixels.intensities import measure_intensities
from cellkit.retrain import retrain_head
from cellkit.study import Study, create_study
from cellkit.synthetic import make_volume
from cellkit.synthetic.sample import ANIMALS
from cellkit.synthetic.sample import DIAMETER_UM as SAMPLE_UM
from cellkit.tables import positions_um

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


def crowded_study(folder: Path, number: int) -> Study:
    """Make a study of two synthetic brains with so many places as candidates, every second in a cell."""
    images, tables, rng = [], {}, np.random.default_rng(0)
    for n, settings in enumerate(list(ANIMALS.values())[:2]):
        volume, name = make_volume(settings, 500 + n), f"brain{n}"
        paths = [folder / f"{name}-{role}.npy" for role in ("signal", "background")]
        for path in paths:
            np.save(path, getattr(volume, path.stem.split("-")[1]))
        images.append(
            {"name": name, "animal": name, "path": [str(path) for path in paths], "role": "train",
             "voxel_um": settings.voxel_um, "channels": ["signal", "background"]}
        )  # fmt: skip
        many, top = number // 2, np.array(volume.signal.shape) - 1
        cells = volume.truth.sample(many // 2, replace=True, random_state=n)[["z", "y", "x"]].to_numpy()
        places = np.concatenate(
            [cells + rng.normal(0, 0.3, cells.shape), rng.random((many - many // 2, 3)) * top]
        )
        table = pd.DataFrame(rng.permutation(places).clip(0, top), columns=["z", "y", "x"])
        tables[name] = table.assign(image=name, frame=0, score=1.0, diameter_um=SAMPLE_UM)
    study = create_study(folder / "study", images=images, diameter_um=SAMPLE_UM)
    for name, table in tables.items():
        study.save_candidates(name, table, made_by={"diameter_um": SAMPLE_UM})
    return study


def heads(labels: int, called: int) -> None:
    """Print the seconds of a new head and of its calls, once embeddings are kept."""
    with tempfile.TemporaryDirectory() as folder:
        study = crowded_study(Path(folder), called)
        start = time.perf_counter()
        calls = classify(study, "cells-1", progress=False)
        first = time.perf_counter() - start
        kept = sum(file.stat().st_size for file in (study.folder / "embeddings").rglob("*.float32"))
        print(f"{len(calls)} candidates looked at in {first:.1f} s; {kept / 2**20:.0f} MB of embeddings kept")
        some = calls.sample(labels, random_state=0)
        um = [positions_um(some.loc[[row]], study.voxel_um[image])[0] for row, image in some["image"].items()]
        told = some.assign(**dict(zip(["z_um", "y_um", "x_um"], np.transpose(um), strict=True)))
        answers = np.where(some["p"] > some["p"].median(), "cell", "artefact")
        study.ledger("benchmark").add(told.assign(answer=answers, origin="random", batch="1"))
        start = time.perf_counter()
        retrain_head(study, name="head-1", base="cells-1")
        between = time.perf_counter()
        classify(study, "head-1", progress=False)
        end = time.perf_counter()
    print(
        f"{labels} labels to a head in {between - start:.1f} s, its calls on {len(calls)} in "
        f"{end - between:.1f} s: {end - start:.1f} s (asked: 10)"
    )


def main() -> None:
    """Time both and print medians and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path)
    parser.add_argument("--heads", action="store_true")
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--called", type=int, default=50_000)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--candidates", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.heads:
        heads(options.labels, options.called)
        return
    if options.real is None:
        parser.error("say --real DIR or --heads")
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
