"""Detection: how well it ranks on annotated volumes; its speed, start and memory against cellfinder.

    python benchmarks/detection.py --real DIR [--peer PYTHON] [--repeats 5] [--only quality,speed]

`--real` is the folder that holds `cfos/` and `two_channel_brain/`, `--peer` the Python of an environment
with cellfinder 1.10.1; without it only cellkit is timed. `--only` names quality, slices, speed, greys,
start and memory. Slices are synthetic, of three densities, with seeds on which nothing was chosen. Speed is
measured on `two_channel_brain` repeated to 150 planes, in a process that has run before; the start in fresh
processes on its 30 planes; memory is the peak of a fresh process above what it holds after importing cellkit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cellkit.detect import find_candidates
from cellkit.images import open_image
from cellkit.match import match_points, score_points
from cellkit.synthetic import make_slices
from cellkit.synthetic.slices import THIN, SliceSettings
from cellkit.tables import positions_um

CFOS, CFOS_UM, CFOS_DIAMETER_UM, WITHIN_UM = ("969", "1147", "753"), (6.0, 1.62, 1.62), 10.0, 10.0
BRAIN_UM, BRAIN_DIAMETER_UM = (5.0, 2.0, 2.0), 16.0
PER_CELL = (1, 2, 3, 4, 5, 8)

PEER = """
import json, sys, time
from cellfinder.core.main import main
import numpy, tifffile

if __name__ == "__main__":
    path, times, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    volume = numpy.concatenate([tifffile.imread(path)] * times)
    for _ in range(repeats):
        start = time.perf_counter()
        found = main(
            signal_array=volume, background_array=None, voxel_sizes=(5, 2, 2), skip_classification=True,
            torch_device="cpu", n_free_cpus=0, detection_batch_size=1, start_plane=0, end_plane=-1,
            soma_diameter=16, ball_xy_size=6, ball_z_size=15, ball_overlap_fraction=0.6, log_sigma_size=0.2,
            n_sds_above_mean_thresh=10, tiled_thresh_tile_size=None, soma_spread_factor=1.4,
            max_cluster_size=100000,
        )
        print(json.dumps([len(found), time.perf_counter() - start]), flush=True)
"""

MEMORY = """
import sys
from cellkit.detect import find_candidates
from cellkit.images import open_image

def peak_mb():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

before = peak_mb()
found = find_candidates(open_image(sys.argv[1], voxel_um=(5, 2, 2)), diameter_um=16)
print(len(found), peak_mb() - before)
"""


def quality(folder: Path) -> None:
    """Print the share of annotated cells among the strongest candidates, so many a cell."""
    print(f"cfos, diameter {CFOS_DIAMETER_UM:g} µm, one-to-one within {WITHIN_UM:g} µm; recall at k per cell")
    print("volume  cells  candidates  " + "  ".join(f"{k:>3}/c" for k in PER_CELL))
    for name in CFOS:
        image = open_image(folder / "cfos" / f"{name}_img.tif", voxel_um=CFOS_UM)
        cells = positions_um(pd.read_csv(folder / "cfos" / f"{name}_centres.csv"), CFOS_UM)
        found = find_candidates(image, diameter_um=CFOS_DIAMETER_UM)
        places = positions_um(found, CFOS_UM)
        recalls = [
            score_points(places[: k * len(cells)], cells, within_um=WITHIN_UM).recall for k in PER_CELL
        ]
        print(f"{name:>6} {len(cells):>6} {len(found):>11}  " + "  ".join(f"{r:.3f}" for r in recalls))


def slices(number: int = 8, seed: int = 20261121) -> None:
    """Print the same for slices of one plane, pooled over several of each density."""
    print(f"slices, {number} of each density, one-to-one within half a diameter; recall at k per cell")
    print("nuclei  cells  candidates  " + "  ".join(f"{k:>3}/c" for k in PER_CELL))
    for nuclei in (60, 140, 300):
        ground = replace(THIN, somas=replace(THIN.somas, n=nuclei))
        cells = candidates = 0
        hits = dict.fromkeys(PER_CELL, 0)
        for made in make_slices(number, SliceSettings(ground=ground), seed=seed):
            image = open_image(made.marker, voxel_um=ground.voxel_um)
            found = find_candidates(image, diameter_um=ground.diameter_um)
            true = positions_um(made.truth[made.truth["class"].isin(["on", "off"])], ground.voxel_um)
            cells, candidates = cells + len(true), candidates + len(found)
            for k in PER_CELL:
                places = positions_um(found.head(k * len(true)), ground.voxel_um)
                hits[k] += len(match_points(places, true, within_um=ground.diameter_um / 2).true)
        print(
            f"{nuclei:>6} {cells:>6} {candidates:>11}  "
            + "  ".join(f"{h / cells:.3f}" for h in hits.values())
        )


def seconds_of(python: Path, *arguments: object) -> list[tuple[int, float]]:
    """Run cellfinder in its own environment; return how many it found and the seconds, for every repeat."""
    with tempfile.TemporaryDirectory() as work:
        script = Path(work) / "peer.py"
        script.write_text(PEER)
        command = [python, script, *map(str, arguments)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=work)
    return [tuple(json.loads(line)) for line in run.stdout.splitlines() if line.startswith("[")]


def speed(path: Path, peer: Path | None, repeats: int) -> None:
    """Print warm rates on 150 planes: half of our runs before the peer's, half after."""
    volume = np.concatenate([tifffile.imread(path)] * 5)
    image = open_image(volume, voxel_um=BRAIN_UM, name="brain")

    def ours() -> float:
        start = time.perf_counter()
        find_candidates(image, diameter_um=BRAIN_DIAMETER_UM)
        return volume.size / 1e6 / (time.perf_counter() - start)

    ours()
    rates = [ours() for _ in range(repeats)]
    theirs = [volume.size / 1e6 / s for _, s in seconds_of(peer, path, 5, repeats + 1)[1:]] if peer else []
    rates += [ours() for _ in range(repeats)]
    cores = len(os.sched_getaffinity(0))
    print(f"speed, {volume.shape}, {cores} cores: cellkit {statistics.median(rates):.0f} Mvoxel/s")
    if peer:
        ratio = statistics.median(rates) / statistics.median(theirs)
        print(f"cellfinder {statistics.median(theirs):.1f}; cellkit is {ratio:.1f} times as fast")


def greys(path: Path, repeats: int) -> None:
    """Print how much longer the same 30 planes take with fewer grey values."""
    planes = tifffile.imread(path)
    low, high = np.percentile(planes, [1, 99.8])
    share = np.clip((planes - low) / (high - low), 0, 1)
    shown = {"16 bits": planes}
    for levels in (256, 16, 2):
        shown[f"{levels} values"] = np.round(share * (levels - 1)).astype(np.uint8)
    images = {name: open_image(each, voxel_um=BRAIN_UM, name="brain") for name, each in shown.items()}
    seconds: dict[str, list[float]] = {name: [] for name in images}
    for _ in range(repeats + 1):  # the first run is left out
        for name, image in images.items():
            begin = time.perf_counter()
            find_candidates(image, diameter_um=BRAIN_DIAMETER_UM)
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    said = [f"{name} {median / medians['16 bits']:.2f}" for name, median in medians.items()]
    print(f"grey values, 30 planes, 16 bits {medians['16 bits']:.2f} s; times as long: {', '.join(said)}")


def start(path: Path, peer: Path | None, repeats: int) -> None:
    """Print the seconds of whole processes, from the command to the file."""
    with tempfile.TemporaryDirectory() as work:
        detect = [
            sys.executable,
            "-m",
            "cellkit",
            "detect",
            path,
            "--voxel-um",
            "5",
            "2",
            "2",
            "--diameter-um",
            "16",
        ]
        times = [timed([*detect, "--out", Path(work) / "found.csv"]) for _ in range(repeats)]
        print(f"fresh process, 30 planes: cellkit {statistics.median(times):.2f} s")
        if peer:
            script = Path(work) / "peer.py"
            script.write_text(PEER)
            theirs = [timed([peer, script, path, "1", "1"]) for _ in range(repeats)]
            share = statistics.median(times) / statistics.median(theirs)
            print(f"cellfinder {statistics.median(theirs):.2f} s; cellkit takes {share:.3f} of it")


def timed(command: list[object]) -> float:
    """Run a command to its end; return the seconds."""
    begin = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return time.perf_counter() - begin


def memory(path: Path) -> None:
    """Print peaks for 150 and 1,500 planes that are read lazily, from `.npy` and from compressed TIFF."""
    planes = tifffile.imread(path)
    with tempfile.TemporaryDirectory() as work:
        for times in (5, 50):
            tiled = Path(work) / "tiled.npy"
            shape = (times * len(planes), *planes.shape[1:])
            mapped = np.lib.format.open_memmap(tiled, "w+", planes.dtype, shape)
            for i in range(times):
                mapped[i * len(planes) : (i + 1) * len(planes)] = planes
            mapped.flush()
            stack = Path(work) / "tiled.tif"
            tifffile.imwrite(stack, mapped, compression="zlib", photometric="minisblack")
            for file in (tiled, stack):
                run = subprocess.run(
                    [sys.executable, "-c", MEMORY, file], check=True, capture_output=True, text=True
                )
                found, peak = run.stdout.split()
                print(
                    f"memory, {shape[0]} planes, {file.suffix}: peak {float(peak):.0f} MB, {found} candidates"
                )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="quality,slices,speed,greys,start,memory")
    options = parser.parse_args()
    brain = options.real / "two_channel_brain" / "signal.tif"
    parts = {
        "quality": lambda: quality(options.real),
        "slices": slices,
        "speed": lambda: speed(brain, options.peer, options.repeats),
        "greys": lambda: greys(brain, options.repeats),
        "start": lambda: start(brain, options.peer, options.repeats),
        "memory": lambda: memory(brain),
    }
    for name in options.only.split(","):
        parts[name]()


if __name__ == "__main__":
    main()
