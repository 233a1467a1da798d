"""cellfinder's networks: built here, loaded from its files, run on a study's candidates."""

import json
import re
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from made_up import answer, make_study

from cellkit.detect import classify
from cellkit.images import open_image
from cellkit.networks import cellfinder as importer
from cellkit.networks import import_cellfinder, load_network
from cellkit.networks.backend import load_keras
from cellkit.networks.predict import predict
from cellkit.networks.resnets import BLOCKS, CONVOLUTIONS, build_resnet, plan_of
from cellkit.reassess import compare
from cellkit.review import audit_queue, draw_audit
from cellkit.study import create_study
from cellkit.teaching.labelled import gather

PARAMETERS = {18: 33_152_674, 50: 46_103_550}


@pytest.fixture(scope="module")
def resnet():
    model = build_resnet(18)
    rng = np.random.default_rng(0)
    weights = [w * (1 + 0.1 * rng.normal(size=w.shape)) for w in model.get_weights()]
    model.set_weights([w if w.any() else 0.05 * rng.normal(size=w.shape) for w in weights])
    return model


@pytest.fixture(scope="module")
def files(resnet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cellfinder")
    resnet.save(folder / "net.keras")
    resnet.save_weights(folder / "net.weights.h5")
    return folder


@pytest.fixture(scope="module")
def networks(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    import_cellfinder(files / "net.keras", folder, name="old")
    return folder


def cubes(n=3):
    return np.random.default_rng(1).normal(0, 1, (n, 20, 50, 50, 2)).astype(np.float32)


def refused(kind, said, path, folder, **options):
    with pytest.raises(kind, match=f"^{re.escape(said)}$"):
        import_cellfinder(path, folder, **options)
    assert not any(folder.glob("*/card.json"))


def changed(path, new, change):
    """Write a `.keras` file whose configuration was changed."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(new, "w") as out:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                said = json.loads(content)
                content = json.dumps(change(said) or said).encode()
            out.writestr(name, content)
    return new


# --- the architecture --------------------------------------------------------------------------------


def test_a_network_has_the_published_number_of_parameters(resnet):
    assert resnet.count_params() == PARAMETERS[18]
    assert build_resnet(50).count_params() == PARAMETERS[50]


def test_the_number_of_convolutions_tells_the_depth():
    for depth, blocks in BLOCKS.items():
        inside = 3 if depth >= 50 else 2
        assert CONVOLUTIONS[1 + inside * sum(blocks) + len(blocks)] == depth


def test_a_plan_says_what_is_computed_and_not_what_it_is_called(resnet):
    load_keras()
    said = json.loads(resnet.to_json())
    plan = plan_of(said)
    assert len(plan) == 88 and plan == plan_of(json.loads(build_resnet(18).to_json()))
    convolution = next(layer for layer in said["config"]["layers"] if layer["class_name"] == "Conv3D")
    convolution["config"]["strides"] = [1, 1, 1]
    assert plan != plan_of(said), "control: another stride"


# --- taking over ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["net.keras", "net.weights.h5"])
def test_p_is_the_softmax(files, resnet, tmp_path, file):
    network = import_cellfinder(files / file, tmp_path, name="old")
    logits = network.scores(cubes()).logits
    p = resnet.predict_on_batch(cubes())[:, 1]
    assert np.abs(1 / (1 + np.exp(-logits)) - p).max() < 1e-5
    assert 0 < p.min() < p.max() < 1, "control: not saturated"


def test_its_card_says_what_it_sees(networks):
    card = load_network("old", networks).card
    assert (card.cube.shape, card.cube.extent, card.cube.unit) == ((20, 50, 50), (100.0, 50.0, 50.0), "µm")
    assert card.channels == ("signal", "background") and card.threshold == 0.5
    assert card.trained_on["file"] == "net.keras"


def test_in_a_study_it_calls_border_candidates_too_and_cannot_be_retrained(networks, tmp_path):
    pixels = np.random.default_rng(0).normal(2, 1, (2, 24, 60, 60)).astype(np.float32)
    np.save(tmp_path / "m1.npy", pixels)
    image = {"name": "m1", "path": "m1.npy", "animal": "m1", "voxel_um": (5, 2, 2), "axes": "czyx"}
    study = create_study(tmp_path, images=[image | {"channels": ("signal", "background")}], diameter_um=16)
    places = pd.DataFrame({"z": [12.0, 0.0], "y": [30.0, 59.0], "x": [30.2, 0.0]})
    table = places.assign(image="m1", frame=0, score=1.0, diameter_um=16.0)
    study.save_candidates("m1", table, made_by={"diameter_um": 16.0})
    (tmp_path / "networks").symlink_to(networks)
    called = classify(study, "old", progress=False)
    assert called["p"].between(0, 1).all() and called["network"].eq("old").all()
    said = (
        "Retraining needs a network that sees cubes as cellkit cuts them; old comes from another program. "
        "Start from a supplied one, and compare the two on one audit."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        gather(study, load_network("old", networks).card)


def test_without_a_background_a_network_of_two_channels_says_what_to_do(networks, files, tmp_path):
    image = open_image(np.zeros((20, 50, 50), np.uint16) + 3, voxel_um=(5, 2, 2), name="m1")
    place = pd.DataFrame({"z": [10], "y": [20], "x": [20], "frame": 0})
    said = (
        "old sees signal and background; the image has no background. Take a network that does without, "
        'or import it with background="signal".'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        predict(load_network("old", networks), image, place, intensities={}, diameter_um=16)
    twice = import_cellfinder(files / "net.keras", tmp_path, name="twice", background="signal")
    assert predict(twice, image, place, intensities={}, diameter_um=16).shape == (1,)


def test_it_is_compared_with_another_network_on_one_audit(files, tmp_path):
    study = make_study(tmp_path / "study", n=150)
    draw_audit(study, n=60)
    answer(study, audit_queue(study))
    import_cellfinder(files / "net.weights.h5", study.folder / "networks", name="old", background="signal")
    compared = compare(study, ["net-a", "old"])
    assert [each.network for each in compared.assessments] == ["net-a", "old"]
    assert " than net-a by " in compared.verdict or "cannot be told apart" in compared.verdict
    places = compared.assessments[1].places
    assert places["network"].eq("old").all() and places["p"].between(0, 1).all()


# --- bad input -----------------------------------------------------------------------------------------


def test_a_layer_that_runs_code_is_refused(files, tmp_path):
    def add_lambda(said):
        said["config"]["layers"][1] |= {"class_name": "Lambda", "module": "keras.layers"}

    path = changed(files / "net.keras", tmp_path / "bad.keras", add_lambda)
    said = (
        f"A network may be made of plain Keras layers only; {path} has keras.layers.Lambda. "
        "It was not loaded, and none of its code was run."
    )
    refused(ValueError, said, path, tmp_path / "networks")


def test_another_architecture_is_refused(files, tmp_path):
    def move(said):
        said["config"]["layers"][3]["config"]["strides"] = [1, 1, 1]

    path = changed(files / "net.keras", tmp_path / "other.keras", move)
    said = (
        f"A network of cellfinder must be the one that cellfinder 1.10 builds; the layers of {path} are "
        "others. Load it where it was made, and save its weights only if they are such a network's."
    )
    refused(ValueError, said, path, tmp_path / "networks")


def test_weights_that_point_elsewhere_are_refused(tmp_path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    said = f"{path} must hold the weights of a network; it does not: //layers is a link, or lies too deep. "
    refused(ValueError, said + "Copy it again.", path, tmp_path / "networks")


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.zeros((3, 3, 3, 1, 8))
    said = (
        "A network of cellfinder has 21, 37, 53, 104, 149 convolutions, the first of 7 x 7 x 3 on one or two "
        f"channels; {path} has 1. Is it one of cellfinder's?"
    )
    refused(ValueError, said, path, tmp_path / "networks")


def test_a_file_that_unpacks_too_large_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "MOST_BYTES", 1_000_000)
    for name, what in [
        ("net.keras", "be a network saved by Keras; it is not"),
        ("net.weights.h5", "hold the weights of a network; it does not"),
    ]:
        path = files / name
        with pytest.raises(
            ValueError, match=rf"^{path} must {what}: it unpacks to [\d,]+ bytes\. Copy it again\.$"
        ):
            import_cellfinder(path, tmp_path / "networks")


def test_what_is_no_network_says_so(tmp_path):
    path = tmp_path / "net.keras"
    refused(
        FileNotFoundError,
        f"A network's file must be there; {path} is not. Is the path right?",
        path,
        tmp_path / "networks",
    )
    path.write_text("no zip")
    said = f"{path} must be a network saved by Keras; it is not: File is not a zip file. Copy it again."
    refused(ValueError, said, path, tmp_path / "networks")
    refused(
        ValueError,
        "A network of cellfinder ends in .keras or .h5; got 'net.pt'. Rename it.",
        path.rename(tmp_path / "net.pt"),
        tmp_path / "networks",
    )
    said = "`background` must be background or signal; got 'none'. Choose one."
    refused(ValueError, said, path, tmp_path / "networks", background="none")
