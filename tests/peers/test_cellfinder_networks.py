"""cellfinder's networks, built and trained by cellfinder 1.10.1, say the same here."""

import json

import numpy as np
import pandas as pd
import pytest

from cellkit.detect import classify
from cellkit.networks import import_cellfinder, load_network
from cellkit.networks.predict import predict
from cellkit.networks.resnets import CONVOLUTIONS, build_resnet, plan_of
from cellkit.study import create_study

pytestmark = pytest.mark.peer

TRAIN = """
import numpy as np
from cellfinder.core.classify.resnet import build_model
import keras, h5py
from keras.src.legacy.saving import legacy_h5_format
folder, depth, steps = arguments[0], arguments[1], int(arguments[2])
keras.utils.set_random_seed(0)
model = build_model(network_depth=f"{depth}-layer", learning_rate=1e-4)
rng = np.random.default_rng(0)
cubes = rng.normal(200, 40, (4, 50, 50, 20, 2)).astype("float32")
cubes[:2, 20:30, 20:30, 8:12, 0] += 300
for layer in model.layers:
    if hasattr(layer, "momentum"):
        layer.momentum = 0.1
for _ in range(steps):
    model.train_on_batch(cubes, np.eye(2)[[1, 1, 0, 0]])
unlike = rng.normal(200, 40, (6, 50, 50, 20, 2)).astype("float32")
unlike[::2, 22:29, 22:29, 9:12, 0] += 150
last, before = model.layers[-1], keras.Model(model.inputs, model.layers[-2].output)
kernel = last.get_weights()[0]
odds = before.predict(unlike, verbose=0) @ (kernel[:, 1] - kernel[:, 0])
last.set_weights([kernel / odds.std(), np.array([0, -np.median(odds) / odds.std()])])
model.save(f"{folder}/net.keras")
model.save_weights(f"{folder}/net.weights.h5")
with h5py.File(f"{folder}/old.h5", "w") as file:
    legacy_h5_format.save_weights_to_hdf5_group(file, model)
np.savez(f"{folder}/said.npz", cubes=unlike, p=model.predict(unlike, verbose=0))
print(1)
"""
CLASSIFY = """
import numpy as np
from cellfinder.core.main import main
from brainglobe_utils.cells.cells import Cell
volume, network, places = np.load(arguments[0]), arguments[1], json.loads(arguments[2])
out = main(signal_array=volume[0], background_array=volume[1], voxel_sizes=(5, 1, 1), skip_detection=True,
    detected_cells=[Cell((x, y, z), 1) for z, y, x in places], detect_finished_callback=lambda points: None,
    trained_model=network, model_weights=network, network_depth="18", network_voxel_sizes=(5, 1, 1),
    cube_width=50, cube_height=50, cube_depth=20, classification_batch_size=4, n_free_cpus=0)
print(json.dumps([[c.z, c.y, c.x, c.type] for c in out]))
"""


@pytest.fixture(scope="module")
def trained(cellfinder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    cellfinder(TRAIN, folder, 18, 3)
    return folder


PLAN = """
from cellfinder.core.classify.resnet import build_model
print(build_model(network_depth=f"{arguments[0]}-layer", learning_rate=1e-4).to_json())
"""


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_the_deeper_networks_are_built_alike(cellfinder, depth):
    ours = plan_of(json.loads(build_resnet(depth).to_json()))
    assert ours == plan_of(cellfinder(PLAN, depth))
    assert sum(layer[0] == "Conv3D" for layer in ours) in CONVOLUTIONS


def said_here(network, cubes):
    """Return `p` of cubes that lie as cellfinder has them: (n, y, x, z, channel)."""
    logits = network.scores(np.transpose(cubes, (0, 3, 1, 2, 4))).logits
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@pytest.mark.parametrize("file", ["net.keras", "net.weights.h5", "old.h5"])
def test_a_trained_network_gives_cellfinders_own_probabilities(trained, tmp_path, file):
    network = import_cellfinder(trained / file, tmp_path, name="old")
    with np.load(trained / "said.npz") as said:
        cubes, theirs = said["cubes"], said["p"]
    ours = said_here(network, cubes)
    assert np.abs(ours - theirs[:, 1]).max() < 1e-4
    assert np.ptp(theirs[:, 1]) > 0.2, "control: it does not say the same of all"


def test_a_network_of_50_layers_too(cellfinder, tmp_path):
    cellfinder(TRAIN, tmp_path, 50, 1)
    network = import_cellfinder(tmp_path / "net.keras", tmp_path / "networks", name="old")
    with np.load(tmp_path / "said.npz") as said:
        cubes, theirs = said["cubes"], said["p"]
    assert np.abs(said_here(network, cubes) - theirs[:, 1]).max() < 1e-4
    assert np.ptp(theirs[:, 1]) > 0.2, "control"


def test_in_a_study_it_calls_candidates_as_cellfinder_does(cellfinder, trained, tmp_path):
    rng = np.random.default_rng(3)
    volume = rng.normal(200, 40, (2, 40, 100, 100))
    places = rng.integers((12, 30, 30), (28, 70, 70), (16, 3))
    for z, y, x in places[:8]:
        volume[0, z - 2 : z + 2, y - 4 : y + 4, x - 4 : x + 4] += 200
    np.save(tmp_path / "m1.npy", volume.astype(np.uint16))
    theirs = cellfinder(CLASSIFY, tmp_path / "m1.npy", trained / "net.keras", places.tolist())
    image = {"name": "m1", "path": "m1.npy", "animal": "m1", "voxel_um": (5, 1, 1), "axes": "czyx"}
    study = create_study(tmp_path, images=[image | {"channels": ("signal", "background")}], diameter_um=16)
    table = pd.DataFrame(places, columns=list("zyx")).assign(image="m1", frame=0, score=1.0, diameter_um=16.0)
    study.save_candidates("m1", table, made_by={"diameter_um": 16.0})
    import_cellfinder(trained / "net.keras", study.folder / "networks", name="old")
    called = classify(study, "old", progress=False)
    theirs = pd.DataFrame(theirs, columns=["z", "y", "x", "type"]).drop_duplicates()
    both = called.merge(theirs, on=["z", "y", "x"])
    assert len(both) == 16 and (both["called"] == (both["type"] == 2)).all()
    assert 0 < called["called"].sum() < 16, "control: both calls"
    network = load_network("old", study.folder / "networks", task="cell")
    again = predict(network, study.image("m1"), table, intensities={}, diameter_um=16)
    assert np.array_equal(again, called["p"])
