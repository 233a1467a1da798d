"""Training from scratch against cellfinder's ResNet50 on the same places: time to its F1, speed, memory.

    python benchmarks/train.py [--peer PYTHON] [--cubes 1000] [--epochs 100] [--minutes M] [--target F1]
                               [--memory 5000] [--keep DIR]

Candidates come from synthetic two-channel brains, half of them cells; the labels of one brain in five are
held out. Both programs get the same places of the same volumes, each with cubes of its own geometry.
cellfinder's are 20 x 50 x 50 at 5 x 1 x 1 um, as TIFFs with a `training.yaml`; version 1.10.1 in the
environment of `--peer` trains as it does by default (ResNet50, 100 epochs, batch 16, learning rate 1e-4,
augmentation). It does not stop by itself: what counts is the largest F1 on the held-out cubes after any
of its epochs, and the seconds until then. All of it takes hours on two cores: `--minutes` ends it with the
epoch in which so many are over, `--epochs` after so many epochs, `--target` takes its F1 as given. cellkit
starts from random weights too, and its time runs until its first epoch with that F1. Loading and cutting are
in neither time, evaluation only in cellkit's.

Two ratios are printed and named. Measured: its seconds until its best epoch so far, over ours until the same
F1. Reckoned, if it was cut short: what all 100 epochs would take at the median of those that were run, over
the same seconds of ours; its F1 after 100 epochs, which may be higher, is not known then.

With `--keep` cellfinder's cubes, its model after every epoch and what it told lie in that folder, and the
next run goes on with the epoch after the last. Seconds are those of the epochs, without the starts.

`--memory N` trains two epochs on N cubes on disk, in a process of its own, and prints its peak memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.detect import find_candidates
from cellkit.images import Image, open_image
from cellkit.match import match_points
from cellkit.networks import FitSettings, NetworkCard, TrainingSet, fit
from cellkit.networks.architectures import build_classifier
from cellkit.networks.backend import load_keras
from cellkit.networks.pool import as_pool
from cellkit.pixels.intensities import measure_intensities
from cellkit.synthetic import make_volume
from cellkit.synthetic.sample import ANIMALS

VOXEL_UM = (5.0, 2.0, 2.0)
DIAMETER_UM = 15.0
BRAINS = 5
PEER_CUBE = CubeGeometry((20, 50, 50), (100 / DIAMETER_UM, 50 / DIAMETER_UM, 50 / DIAMETER_UM))
DEFAULT_EPOCHS = 100  # of cellfinder's training
TEACH = FitSettings(epochs=40, patience=40, learning_rate=2e-3)

PEER = """
import json, sys, time
from pathlib import Path

if __name__ == "__main__":
    order = json.load(open(sys.argv[1]))
    import cellfinder
    import keras, numpy as np, resource, tifffile, yaml
    from cellfinder.core.classify.resnet import build_model
    from cellfinder.core.train.train_yaml import run
    folder = Path(order["folder"])
    pairs = [np.stack([tifffile.imread(file) for file in pair], -1) for pair in order["held_out"]]
    held_out = np.stack(pairs).transpose(0, 2, 3, 1, 4).astype("float32")
    true = np.array(order["true"], bool)
    began, spent = time.perf_counter(), [0.0]
    going, told_file = folder / "going.keras", folder / "told.jsonl"
    lines = told_file.read_text().splitlines() if told_file.exists() else []
    for line in lines:
        print(line, flush=True)
    done, before = (len(lines), json.loads(lines[-1])["seconds"]) if lines else (0, 0.0)

    class Judge(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            at = time.perf_counter()
            called = self.model.predict(held_out, batch_size=32, verbose=0).argmax(axis=1) == 1
            hits = int((called & true).sum())
            f1 = 2 * hits / max(int(called.sum() + true.sum()), 1)
            told = {"epoch": done + epoch + 1, "f1": f1, "seconds": before + at - began - spent[0]}
            told |= {name: float(value) for name, value in (logs or {}).items()}
            self.model.save(folder / "new.keras")
            (folder / "new.keras").replace(going)
            with told_file.open("a") as file:
                file.write(json.dumps(told) + "\\n")
            print()
            print(json.dumps(told), flush=True)
            spent[0] += time.perf_counter() - at
            self.model.stop_training = told["seconds"] > order["seconds"]

    real = keras.Model.fit
    def fit(self, *arguments, callbacks=(), **settings):
        global began
        began = time.perf_counter()
        return real(self, *arguments, callbacks=[*(callbacks or ()), Judge()], **settings)
    keras.Model.fit = fit
    weights = str(folder / "any.keras")
    build_model(network_depth="18-layer", learning_rate=1e-4).save(weights)
    keras.utils.set_random_seed(order["seed"] + done)
    if order["epochs"] > done:
        run(folder / "out", [str(folder / "training.yaml")], model_weights=weights,
            network_depth=order["depth"], trained_model=str(going) if done else None,
            continue_training=done > 0, epochs=order["epochs"] - done, n_free_cpus=0,
            no_save_checkpoints=True, test_fraction=0.1)
    print(json.dumps({"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}), flush=True)
"""


def make_brains(folder: Path, cubes: int) -> list[tuple[Image, pd.DataFrame]]:
    """Return images and, of each, as many cells as artefacts among its candidates, `cubes` in all."""
    brains = []
    for n in range(BRAINS):
        volume = make_volume(list(ANIMALS.values())[n % len(ANIMALS)], 100 + n)
        for role in ("signal", "background"):
            np.save(folder / f"{role}{n}.npy", getattr(volume, role))
        image = open_image(
            [folder / f"signal{n}.npy", folder / f"background{n}.npy"], voxel_um=VOXEL_UM,
            roles=("signal", "background"), name=f"brain{n}",
        )  # fmt: skip
        found = find_candidates(image, diameter_um=DIAMETER_UM).reset_index(drop=True)
        um, true = (table[["z", "y", "x"]].to_numpy() * VOXEL_UM for table in (found, volume.truth))
        hit = np.zeros(len(found), bool)
        hit[match_points(um, true, within_um=DIAMETER_UM / 2).found] = True
        rng, half = np.random.default_rng(n), cubes // BRAINS // 2
        rows = [rng.permutation(np.flatnonzero(hit == value))[:half] for value in (True, False)]
        kept = found.assign(cell=hit).iloc[np.concatenate(rows)].reset_index(drop=True)
        brains.append((image, kept))
    return brains


def cut(
    image: Image, places: pd.DataFrame, geometry: CubeGeometry, *, as_measured: bool = False
) -> np.ndarray:
    """Cut the cubes of one brain."""
    levels = {role: measure_intensities(image, role) for role in ("signal", "background")}
    return cut_cubes(
        image, places, intensities=levels, diameter_um=DIAMETER_UM, geometry=geometry, as_measured=as_measured
    )


def ours(brains: list[tuple[Image, pd.DataFrame]], target: float | None) -> list[dict]:
    """Train from scratch and return the history, with the seconds until the end of each epoch."""
    card = NetworkCard("benchmark")
    parts = [cut(image, places, card.cube).astype(np.float16) for image, places in brains]
    targets = [places["cell"].to_numpy(np.float32) for _, places in brains]
    sets = [
        TrainingSet(np.concatenate(parts[some]), np.concatenate(targets[some]), *2 * [np.ones(n, np.float32)])
        for some in (slice(0, -1), slice(-1, None))
        for n in [sum(map(len, targets[some]))]
    ]
    model, rows = build_classifier(card.shape), []

    class _ReachedError(Exception):
        pass

    def note(row: dict) -> None:
        rows.append(row | {"reached": sum(each["seconds"] for each in rows) + row["seconds"]})
        print(
            f"  cellkit epoch {row['epoch']}: F1 {row['val_f1']:.3f}, {rows[-1]['reached']:.1f} s", flush=True
        )
        if target is not None and row["val_f1"] >= target:
            raise _ReachedError

    with suppress(_ReachedError):
        fit(model, *sets, settings=TEACH, on_epoch=note)
    return rows


def theirs(brains: list[tuple[Image, pd.DataFrame]], folder: Path, options: argparse.Namespace) -> list[dict]:
    """Write cellfinder's cubes, train its ResNet in its own environment, and return what it told."""
    files: dict[str, list] = {"held_out": [], "true": []}
    for n, (image, places) in enumerate(brains):
        cubes = cut(image, places, PEER_CUBE, as_measured=True)
        for row, (cube, cell) in enumerate(zip(cubes, places["cell"], strict=True)):
            judged = n == len(brains) - 1
            home = folder / ("judge" if judged else "cells" if cell else "non_cells")
            home.mkdir(exist_ok=True)
            names = [home / f"pCellz{n}y{row}x{int(cell)}Ch{c}.tif" for c in (0, 1)]
            for c, name in enumerate(names):
                tifffile.imwrite(name, cube[..., c].astype(np.float32))
            if judged:
                files["held_out"].append([str(name) for name in names])
                files["true"].append(bool(cell))
    entry = "- bg_channel: 1\n  cell_def: ''\n  cube_dir: {}\n  signal_channel: 0\n  type: {}\n"
    kinds = ((folder / "cells", "cell"), (folder / "non_cells", "no_cell"))
    (folder / "training.yaml").write_text("data:\n" + "".join(entry.format(*kind) for kind in kinds))
    order = {"folder": str(folder), "epochs": options.epochs, "depth": options.depth, **files}
    order["seed"] = 1000 * options.seed
    order["seconds"] = 60 * options.minutes
    (folder / "order.json").write_text(json.dumps(order))
    (folder / "peer.py").write_text(PEER)
    told = []
    command = [options.peer, str(folder / "peer.py"), str(folder / "order.json")]
    with (folder / "errors").open("w") as errors:
        pipes = {"stdout": subprocess.PIPE, "stderr": errors, "text": True}
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""}, **pipes) as process:
            for line in process.stdout or ():
                if line.startswith("{"):
                    told.append(json.loads(line))
                    print(f"  cellfinder {told[-1]}", flush=True)
    if process.returncode:
        raise SystemExit(
            f"The peer ended with {process.returncode}: {(folder / 'errors').read_text()[-800:]}"
        )
    return told


def measure_memory(cubes: int) -> None:
    """Train one epoch on cubes on disk and print peak memory and speed."""
    card = NetworkCard("memory")
    with tempfile.TemporaryDirectory() as folder:
        path, rng = Path(folder) / "cubes.npy", np.random.default_rng(0)
        kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(cubes, *card.shape))
        for start in range(0, cubes, 100):
            part = kept[start : start + 100]
            part[:] = rng.normal(size=part.shape)
            part[..., 2] = 1
        del kept
        targets = (np.arange(cubes) % 2).astype(np.float32)
        pool = as_pool(np.load(path, mmap_mode="r"))
        every = TrainingSet(pool, targets, np.ones(cubes, np.float32), np.arange(cubes))
        rows = np.arange(cubes)
        history = fit(
            build_classifier(card.shape), every.take(rows[cubes // 5 :]), every.take(rows[: cubes // 5]),
            settings=FitSettings(epochs=2),
        )  # fmt: skip
        per_s = cubes * 0.8 / history["seconds"].iloc[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory: {cubes} cubes, peak {peak:.2f} GB (at most 2), {per_s:.0f} cubes/s with evaluation")


def say(told: list[dict], rows: list[dict], target: float | None, taught: int) -> None:
    """Print times, speeds and ratios, and which are measured."""
    epochs, last = [row for row in told if "f1" in row], rows[-1]
    best = max(epochs, key=lambda row: row["f1"], default=None)
    reached = bool(target) and last["val_f1"] >= target
    each = np.median(np.diff([0.0, *(row["seconds"] for row in epochs)])) if epochs else np.nan
    if best:
        print(
            f"cellfinder, measured: best F1 {best['f1']:.3f} in epoch {best['epoch']} of {len(epochs)} after "
            f"{best['seconds']:.0f} s; {each:.1f} s an epoch, {taught * 0.9 / each:.1f} cubes/s, "
            f"peak {told[-1].get('peak_gb', np.nan):.2f} GB"
        )
    said = "reached" if reached else "not reached" if target else "no target"
    print(
        f"cellkit, measured: F1 {last['val_f1']:.3f} in epoch {last['epoch']} after {last['reached']:.1f} s, "
        f"{taught * len(rows) / last['reached']:.0f} cubes/s with evaluation; {said}"
    )
    if best and reached:
        times, all_of_it = best["seconds"] / last["reached"], DEFAULT_EPOCHS * each
        print(f"ratio, measured: {times:.1f} to the best F1 of cellfinder's first {len(epochs)} epochs")
        if len(epochs) < DEFAULT_EPOCHS:
            print(
                f"ratio, reckoned: {all_of_it / last['reached']:.1f} (asked: 20), if {DEFAULT_EPOCHS} epochs,"
                f" {all_of_it / 60:.0f} min at that speed, gave cellfinder no higher F1"
            )


def main() -> None:
    """Run both, print the times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer")
    parser.add_argument("--cubes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=1e6, help="of cellfinder's training")
    parser.add_argument("--depth", default="50", help="of cellfinder's ResNet")
    parser.add_argument("--seed", type=int, default=0, help="of cellfinder's weights")
    parser.add_argument("--target", type=float)
    parser.add_argument("--memory", type=int, default=5000)
    parser.add_argument("--only-memory", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder from which cellfinder's training goes on")
    options = parser.parse_args()
    load_keras()
    if options.only_memory:
        measure_memory(options.memory)
        return
    again = [sys.executable, __file__, "--only-memory", "--memory", str(options.memory)]
    subprocess.run(again, check=True)
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        brains = make_brains(Path(name), options.cubes)
        print(f"{sum(len(places) for _, places in brains)} cubes made in {time.perf_counter() - began:.0f} s")
        home = options.keep or Path(name)
        home.mkdir(parents=True, exist_ok=True)
        told = theirs(brains, home, options) if options.peer else []
        epochs = [row for row in told if "f1" in row]
        best = max(epochs, key=lambda row: row["f1"], default=None)
        target = options.target or (best["f1"] if best else None) or None  # 0 is no F1 to reach
        rows = ours(brains, target)
    say(told, rows, target, options.cubes * (BRAINS - 1) // BRAINS)


if __name__ == "__main__":
    main()
