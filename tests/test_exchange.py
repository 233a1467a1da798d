"""A study and others: pools taken in, labels passed to cellfinder and taken from it, the commands."""

import re

import numpy as np
import pandas as pd
import pytest
from test_cli import run

from cellkit.formats.cellfinder_points import points_of_labels, write_points
from cellkit.formats.cellfinder_training import read_training
from cellkit.networks import NetworkCard
from cellkit.sharing.exchange import export_training, import_labels, import_pool, pack, pools_of
from cellkit.study import create_study
from cellkit.teaching.labelled import gather

SHAPE = (30, 90, 160)


def make(folder, *, seed, names=("m1", "m2"), n=12, **settings):
    """Make a study of two images with labels in the first; cells are bright."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    images = []
    for name in names:
        pixels = rng.normal(200, 20, SHAPE)
        np.save(folder / f"{name}.npy", pixels.astype(np.uint16))
        image = {"name": name, "path": f"{name}.npy", "animal": name, "channels": ("signal",)}
        images.append(image | {"voxel_um": (5, 2, 2), "axes": "zyx", "role": "train"})
    images[-1]["role"] = "judge"
    study = create_study(folder, images=images, diameter_um=16, **settings)
    at = rng.integers((2, 10, 10), (28, 80, 150), (n, 3)) * (5.0, 2.0, 2.0)
    rows = pd.DataFrame(at, columns=["z_um", "y_um", "x_um"])
    study.ledger("me").add(
        rows.assign(image=names[0], origin="random", answer=["cell", "artefact"] * (n // 2))
    )
    return study


@pytest.fixture
def study(tmp_path):
    return make(tmp_path / "here", seed=0)


@pytest.fixture
def other(tmp_path):
    return make(tmp_path / "there", seed=1, names=("a1", "a2"))


def refused(kind, said, call):
    with pytest.raises(kind, match=f"^{re.escape(said)}$"):
        call()


# --- pools ---------------------------------------------------------------------------------------------


def test_a_bundle_of_another_laboratory_trains_beside_the_studys_labels(study, other, tmp_path):
    bundle = pack(other, tmp_path / "there.zip", licence="CC0")
    import_pool(study, bundle)
    bundle.unlink()
    (pool,) = pools_of(study)
    assert (pool.name, len(pool), pool.about["licence"]) == ("there", 12, "CC0")
    labelled = gather(study, NetworkCard("x"), pools=pools_of(study))
    assert len(labelled.teaching.targets) == len(labelled.on("train").targets) + 12


def test_a_training_folder_is_kept_as_a_bundle(study, other, tmp_path):
    (training,) = export_training(other, tmp_path / "export")
    import_pool(study, training, name="old")
    for file in training.parent.rglob("*.tif"):
        file.unlink()
    (pool,) = pools_of(study)
    assert pool.stacks[0].cubes.shape == (12, 1, 20, 50, 50) and pool.stacks[0].diameter_um == 16
    assert pool.training_set(NetworkCard("x").cube).cubes.shape == (12, 12, 24, 24, 3)


def test_a_pool_of_the_studys_own_image_another_task_or_the_same_name_is_refused(study, other, tmp_path):
    own, bundle = pack(study, tmp_path / "own.zip"), pack(other, tmp_path / "there.zip")
    said = (
        "A pool may have no image of the study that it trains beside: it could teach what an audit measures; "
        f"{own} has m1, m2. Copy its label files into the study instead."
    )
    refused(ValueError, said, lambda: import_pool(study, own))
    import_pool(study, bundle)
    there = study.folder / "pools" / "there.zip"
    said = f"A bundle is never overwritten; {there} is there. Choose another name."
    refused(FileExistsError, said, lambda: import_pool(study, bundle))
    spots = make(tmp_path / "spots", seed=2, task="expression", classes=("cell", "artefact"))
    said = (
        f"A pool must be for the study's task, expression; {bundle} is for cell. "
        "Import it into a study of that task."
    )
    refused(ValueError, said, lambda: import_pool(spots, bundle))


# --- cellfinder -----------------------------------------------------------------------------------------


def test_labels_go_to_a_training_folder_and_back_into_a_ledger(study, tmp_path):
    (training,) = export_training(study, tmp_path / "export")
    assert training == tmp_path / "export" / "m1" / "training.yaml"
    before = study.training_labels()
    for path in study.folder.glob("labels/*.jsonl"):
        path.unlink()
    study = create_study(study.folder, images=images_of(study), diameter_um=16)
    assert study.labels().empty, "control"
    assert import_labels(study, training.parent, "m1") == 12
    assert import_labels(study, training, "m1") == 0, "the same labels are not added twice"
    place = ["z_um", "y_um", "x_um", "answer"]
    after = study.training_labels()
    assert sorted(after[place].values.tolist()) == sorted(before[place].values.tolist())
    assert set(after["origin"]) == {"imported"} and set(after["who"]) == {"cellfinder"}


def images_of(study):
    return [
        {"name": e.name, "path": e.path, "animal": e.animal, "channels": e.channels, "voxel_um": e.voxel_um}
        | {"axes": e.axes, "role": e.role}
        for e in study.settings.images
    ]


def test_cubes_of_another_brain_are_refused(study, other, tmp_path):
    (training,) = export_training(other, tmp_path / "export")
    before = len(study.events())
    with pytest.raises(
        ValueError,
        match=rf"^Labels go to the image that they are of; the cubes of {training} correlate by "
        r"-?0\.\d\d with 'm1' at their places, where 0\.7 is the least\. "
        r"Name another image, or import them as a pool\.$",
    ):
        import_labels(study, training, "m1")
    assert len(study.events()) == before


def test_points_become_labels_of_an_image_that_trains_only(study, tmp_path):
    points = points_of_labels(study.labels(), voxel_um=(5, 2, 2), classes=("cell", "artefact"))
    path = write_points(points.assign(z=points["z"] + 1), tmp_path / "cells.xml")
    assert import_labels(study, path, "m1", who="old") == 12
    assert (study.events()["who"] == "old").sum() == 12
    said = (
        "An image that judges takes labels of its audit only; 'm2' was to get one of origin 'imported'. "
        "Label in a training image."
    )
    refused(ValueError, said, lambda: import_labels(study, path, "m2"))
    far = write_points(points.assign(x=500), tmp_path / "far.xml")
    with pytest.raises(
        ValueError, match=r"^.*far\.xml: positions must lie inside the image of \(30, 90, 160\) "
    ):
        import_labels(study, far, "m1")


def test_labels_near_an_audit_stay_at_home(study, tmp_path):
    first = study.labels().iloc[0]
    places = pd.DataFrame({"image": ["m1"], "frame": 0, "z": first["z_um"] / 5, "y": first["y_um"] / 2})
    study.save_audit("audit", places.assign(x=first["x_um"] / 2, weight=1.0), {"seed": 0})
    (training,) = export_training(study, tmp_path / "export")
    kept = read_training(training)[["z", "y", "x"]].to_numpy() * (5.0, 2.0, 2.0)
    apart = np.abs(kept - first[["z_um", "y_um", "x_um"]].to_numpy(float)) >= (100, 50, 50)
    assert 0 < len(kept) < 12 and apart.any(axis=1).all()


# --- commands --------------------------------------------------------------------------------------------


def test_the_commands_pack_import_and_export(capsys, study, other, tmp_path):
    bundle = tmp_path / "there.zip"
    assert run(capsys, "pack", str(other.folder), "--out", str(bundle), "--licence", "CC0") == (
        0,
        f"{bundle}\n",
        "",
    )
    code, out, _ = run(capsys, "import", str(study.folder), str(bundle), "--name", "theirs")
    assert (code, out) == (
        0,
        "Pool('there', task 'cell': 6 positive and 6 negative labels of 1 images)\n",
    )
    assert (study.folder / "pools" / "theirs.zip").exists()
    code, out, _ = run(capsys, "export", str(study.folder), "--out", str(tmp_path / "export"))
    training = tmp_path / "export" / "m1" / "training.yaml"
    assert (code, out) == (0, f"{training}\n")
    code, out, _ = run(capsys, "import", str(study.folder), str(training), "--image", "m1", "--who", "old")
    assert (code, out) == (0, "12 labels of m1 added as those of old\n")


def test_points_without_an_image_say_so(capsys, study, tmp_path):
    path = tmp_path / "cells.xml"
    assert run(capsys, "import", str(study.folder), str(path)) == (
        2,
        "",
        f"cellkit: Points need the image that they are of; got {path} alone. Name it with --image.\n",
    )
