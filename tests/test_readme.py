"""What the README shows works as it stands there."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from cellkit.cli import main
from cellkit.detect import detect
from cellkit.formats.cellfinder_training import write_training
from cellkit.images import open_image
from cellkit.networks.resnets import build_resnet
from cellkit.study import create_study


def blocks(repository, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (repository / "README.md").read_text(), re.M | re.S)


@pytest.fixture
def brain(tmp_path, monkeypatch):
    """A folder with the images that the README speaks of: 12 round cells in noise."""
    rng = np.random.default_rng(0)
    volume = rng.normal(200, 10, (30, 120, 120))
    z, y, x = np.ogrid[:30, :120, :120]
    for centre in rng.uniform((4, 12, 12), (26, 108, 108), (12, 3)):
        far = sum((step * (a - c)) ** 2 for a, c, step in zip((z, y, x), centre, (5, 2, 2), strict=True))
        volume += 150 * np.exp(-far / (2 * 5.0**2))
    signal = volume.astype(np.uint16)
    ground = rng.normal(150, 10, signal.shape).astype(np.uint16)
    for name, pixels in [("m1_signal", signal), ("m1_background", ground), ("brain", signal)]:
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    tifffile.imwrite(tmp_path / "autofluorescence.tif", ground)
    group = zarr.create_group(tmp_path / "m2.ome.zarr", zarr_format=2)
    group.create_array("0", data=signal, chunks=(8, 64, 64))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [5.0, 2.0, 2.0]}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_makes_a_study(brain, repository):
    names = {}
    exec(blocks(repository, "python")[0], names)
    assert names["study"].names == ["m1", "m2"]
    assert names["study"].image("m2").voxel_um == (5.0, 2.0, 2.0)


def test_points_go_to_cellfinder_and_back(brain, repository):
    names = {}
    exec(blocks(repository, "python")[0], names)
    detect(names["study"], progress=False)
    exec(blocks(repository, "python")[1], names)
    assert len(names["read_points"]("m1_cells.yml")) == len(names["study"].candidates("m1"))


def test_a_training_folder_of_cellfinder_is_a_pool(brain, repository):
    points = pd.DataFrame({"z": 15, "y": [50, 60], "x": 60, "type": [1, 2]})
    write_training(open_image("m1_signal.tif", voxel_um=(5, 2, 2)), points, "old-training")
    names = {}
    exec(blocks(repository, "python")[2], names)
    assert len(names["pool"]) == 2


def test_a_network_of_cellfinder_becomes_one_of_the_studys(brain, repository):
    names = {}
    exec(blocks(repository, "python")[0], names)
    build_resnet(18).save("old-network.keras")
    exec(blocks(repository, "python")[3], names)
    assert names["study"].networks() == ["old"]


def test_the_commands_pass_labels_on(brain, repository, capsys):
    names = {}
    exec(blocks(repository, "python")[0], names)
    study = names["study"]
    rows = pd.DataFrame({"z_um": 75.0, "y_um": [60.0, 120.0], "x_um": 90.0, "answer": ["cell", "artefact"]})
    study.ledger("me").add(rows.assign(image="m1", origin="random"))
    tifffile.imwrite("b.tif", tifffile.imread("brain.tif")[::-1])
    other = {"name": "b", "path": "b.tif", "animal": "b", "channels": ["signal"], "voxel_um": [5, 2, 2]}
    create_study("their-brains", diameter_um=16, images=[other])
    for line in blocks(repository, "sh")[2].splitlines():
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert (brain / "their-brains" / "pools" / "my-brains.zip").exists()


def test_the_commands_detect_and_classify(brain, repository, capsys):
    lines = blocks(repository, "sh")[3].replace("\\\n", " ").splitlines()
    for line in lines[:2]:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    candidates = pd.read_csv(brain / "candidates.csv")
    assert list(candidates) == ["z", "y", "x", "score", "diameter_um"]
    assert candidates["score"].is_monotonic_decreasing and len(candidates) >= 12
    calls = pd.read_csv(brain / "calls.csv")
    assert list(calls) == [*candidates, "p", "called"]
    assert len(calls) == len(candidates) and calls["p"].between(0, 1).all()


def test_the_first_command_is_the_tour_and_the_second_the_tests(repository):
    first, second = blocks(repository, "sh")[:2]
    assert first.rstrip().endswith("cellkit tour")
    assert second.rstrip().endswith("pytest -q -n 3")
    for block in (first, second):
        assert 'pip install --quiet -e ".[test]"' in block


def test_every_screen_has_a_small_picture_in_the_readme(repository):
    from cellkit import widgets

    readme = (repository / "README.md").read_text()
    pictures = re.findall(r"!\[[^]]+\]\((docs/screens/[a-z]+\.png)\)", readme)
    assert len(set(pictures)) == len(widgets.__all__)
    for name in widgets.__all__:
        assert f"`{name}`" in readme
    for picture in pictures:
        assert (repository / picture).stat().st_size < 150_000, picture
