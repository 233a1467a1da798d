"""Cubes and training folders go to cellfinder 1.10.1 and come back."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellkit.formats.cellfinder_cubes import cut_as_measured
from cellkit.formats.cellfinder_training import write_training
from cellkit.images import open_image

pytestmark = pytest.mark.peer

CUT = """
import numpy as np
from cellfinder.core.classify.cube_generator import CuboidArrayDataset
from brainglobe_utils.cells.cells import Cell
signal, background = np.load(arguments[0])
points = [Cell((x, y, z), 1) for z, y, x in json.loads(arguments[1])]
dataset = CuboidArrayDataset(signal_array=signal, background_array=background, points=points,
    data_voxel_sizes=json.loads(arguments[2]), network_voxel_sizes=(5, 1, 1),
    network_cuboid_voxels=(20, 50, 50), axis_order=("z", "y", "x"), output_axis_order=("z", "y", "x", "c"))
dataset.start_dataset_thread(0)
try:
    np.save(arguments[3], dataset[list(range(len(points)))].numpy())
finally:
    dataset.stop_dataset_thread()
print(1)
"""


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("volume") / "volume.npy"
    np.save(path, rng.integers(0, 60_000, (2, 40, 80, 90), dtype=np.uint16))
    return path


@pytest.mark.parametrize("voxel_um", [(5.0, 1.0, 1.0), (5.0, 2.0, 2.0), (6.7, 1.9, 2.3)])
def test_cubes_are_those_of_cellfinder(cellfinder, volume, tmp_path, voxel_um):
    places = pd.DataFrame(
        {"z": [20, 19, 21, 15], "y": [40, 41, 39, 30], "x": [40, 41, 42, 60], "frame": 0}, dtype=float
    )
    theirs = tmp_path / "theirs.npy"
    cellfinder(CUT, volume, places[["z", "y", "x"]].to_numpy().tolist(), list(voxel_um), theirs)
    image = open_image(
        np.load(volume), axes="czyx", voxel_um=voxel_um, roles=("signal", "background"), name="m1"
    )
    ours = np.concatenate([cubes[np.argsort(rows)] for rows, cubes in cut_as_measured(image, places)])
    assert np.abs(ours - np.load(theirs)).max() < 0.2, "of 60,000: float32 in another order"
    assert np.ptp(ours) > 30_000, "control"


@pytest.mark.parametrize("roles", [("signal", "background"), ("signal",)])
def test_cellfinder_trains_on_what_we_write(cellfinder, volume, tmp_path, roles):
    pixels = np.load(volume)[: len(roles)]
    image = open_image(pixels, axes="czyx", voxel_um=(5, 1, 1), roles=roles, name="m1")
    rng = np.random.default_rng(1)
    points = pd.DataFrame(rng.integers((10, 25, 25), (30, 55, 65), (12, 3)), columns=list("zyx"))
    training = write_training(image, points.assign(type=[2, 1] * 6), tmp_path / "m1")
    weights = tmp_path / "none.h5"
    weights.touch()
    command = Path(cellfinder("print(json.dumps(sys.executable))")).parent / "cellfinder_train"
    options = (
        "--network-depth 18 --epochs 1 --batch-size 4 --test-fraction 0.25 --n-free-cpus 1 "
        "--max-workers 1 --save-progress --no-save-checkpoints --save-weights"
    )
    done = subprocess.run(
        [command, "-y", training, "-o", tmp_path / "out", "--model-weights", weights, *options.split()],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    history = pd.read_csv(tmp_path / "out" / "training.csv")
    assert len(history) == 1 and np.isfinite(history["loss"]).all()
