"""cellfinder's cubes and training folders, as pools and back."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.formats.cellfinder_cubes import cut_as_measured, stack_cubes
from cellkit.formats.cellfinder_training import read_training, write_training
from cellkit.images import open_image
from cellkit.pixels.intensities import measure_intensities
from cellkit.teaching.pools import read_cellfinder

VOXEL_UM = (5.0, 1.0, 1.0)
POINTS = pd.DataFrame(
    {"z": [15, 16, 20, 12], "y": [30, 40, 55, 60], "x": [31, 45, 50, 33], "type": [2, 2, 1, 1], "frame": 0}
)
GEOMETRY = CubeGeometry((6, 12, 12))


def volume(shape=(36, 90, 90), *, seed=0, dtype=np.uint16):
    rng = np.random.default_rng(seed)
    noise = rng.normal(200, 20, shape)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    for point in POINTS[POINTS["type"] == 2].itertuples():
        far = (5 * (z - point.z)) ** 2 + (y - point.y) ** 2 + (x - point.x) ** 2
        noise += 300 * np.exp(-far / 128)
    return noise.astype(dtype)


@pytest.fixture(scope="module")
def image():
    channels = np.stack([volume(), volume(seed=1)])
    return open_image(channels, axes="czyx", roles=("signal", "background"), voxel_um=VOXEL_UM, name="m1")


@pytest.fixture
def training(image, tmp_path):
    return write_training(image, POINTS, tmp_path / "m1")


def as_one(image, points):
    cubes = np.empty((len(points), 20, 50, 50, 2), np.float32)
    for rows, cut in cut_as_measured(image, points):
        cubes[rows] = cut
    return cubes


def refused(kind, said, path, **options):
    with pytest.raises(kind, match=f"^{re.escape(said)}$"):
        read_training(path, **options)


def rewritten(training, **changes):
    said = yaml.safe_load(training.read_text())
    said["data"][0] |= changes
    training.write_text(yaml.safe_dump(said))
    return training


# --- cubes ------------------------------------------------------------------------------------------


def test_a_cube_at_the_networks_own_voxel_size_is_the_image_itself(image):
    cubes = as_one(image, POINTS)
    first = POINTS.iloc[0]
    z, y, x = first["z"] - 10, first["y"] - 25, first["x"] - 25
    for channel, role in enumerate(("signal", "background")):
        block = image.read(role)[z : z + 20, y : y + 50, x : x + 50]
        assert np.array_equal(cubes[0, ..., channel], block)


def test_beyond_the_border_the_edge_is_repeated(image):
    corner = pd.DataFrame({"z": [0.0], "y": [0.0], "x": [89.0], "frame": 0})
    (cube,) = as_one(image, corner)[..., 0]
    signal = image.read("signal")
    assert np.array_equal(cube[:11, :26, 0], np.broadcast_to(signal[0, 0, 64], (11, 26)))
    assert cube[10, 25, 25] == signal[0, 0, 89], "control: the place itself"


def test_coarser_voxels_are_interpolated_to_the_same_sides():
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32), (40, 60, 60)) * 2
    image = open_image(np.ascontiguousarray(ramp), voxel_um=(5, 2, 2), name="ramp")
    place = pd.DataFrame({"z": [20], "y": [30], "x": [30], "frame": 0})
    (cube,) = as_one(image, place)[..., 0]
    steps = np.diff(cube[0, 0])
    assert np.allclose(steps[1:-1], 1.0), "2 a voxel of 2 µm is 1 a sample of 1 µm"
    assert cube[0, 0, 0] == 36 and cube[0, 0, -1] == 84, "the edge of the window is repeated for half a voxel"


# --- training folders: ours, read back -----------------------------------------------------------------


def test_what_is_written_is_read_back(training, image):
    labels = read_training(training)
    assert labels[["z", "y", "x", "type"]].values.tolist() == [
        [15, 30, 31, 2],
        [16, 40, 45, 2],
        [12, 60, 33, 1],
        [20, 55, 50, 1],
    ]
    stack = stack_cubes(labels)
    assert stack.shape == (4, 2, 20, 50, 50)
    cubes = as_one(image, POINTS)
    assert np.array_equal(stack.channels["background"][0], cubes[0, ..., 1])
    said = yaml.safe_load(training.read_text())["data"]
    assert [(entry["type"], entry["signal_channel"], entry["bg_channel"]) for entry in said] == [
        ("cell", 0, 1),
        ("no_cell", 0, 1),
    ]
    assert said[0]["signal_mean"] == pytest.approx(image.read("signal").mean())
    assert said[0]["bg_std"] == pytest.approx(image.read("background").std())


def test_without_a_background_the_signal_stands_for_it(tmp_path):
    image = open_image(volume(), voxel_um=VOXEL_UM, name="m1")
    training = write_training(image, POINTS, tmp_path / "m1")
    assert yaml.safe_load(training.read_text())["data"][0]["bg_channel"] == 0
    assert stack_cubes(read_training(training)).roles == ("signal",)


def test_places_in_one_voxel_are_written_once(image, tmp_path):
    twice = pd.concat([POINTS, POINTS.iloc[:1].assign(z=15.2)], ignore_index=True)
    assert len(read_training(write_training(image, twice, tmp_path / "m1"))) == 4


def test_a_folder_that_holds_anything_is_left_alone(training, image):
    before = training.read_bytes()
    said = f"A training folder is never written over another; {training.parent} is not empty. Choose another."
    with pytest.raises(FileExistsError, match=f"^{re.escape(said)}$"):
        write_training(image, POINTS, training.parent)
    assert training.read_bytes() == before


def test_no_label_is_no_training_folder(image, tmp_path):
    said = "Training needs points of type 2 (cell) and 1 (no cell); got none. Label some."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        write_training(image, POINTS[:0], tmp_path / "m1")
    assert not (tmp_path / "m1").exists()


def test_a_folder_that_was_moved_is_found_again(training, tmp_path):
    moved = training.parent.rename(tmp_path / "elsewhere")
    labels = read_training(moved)
    assert len(labels) == 4 and set(labels["source"]) == {str(moved)}


# --- training folders: pools ----------------------------------------------------------------------------


def test_a_pool_teaches_cubes_like_those_of_the_image(training, image):
    pool = read_cellfinder(training, diameter_um=16)
    assert repr(pool) == "Pool('m1', task 'cell': 2 positive and 2 negative labels of 1 images)"
    taught = pool.training_set(GEOMETRY)
    assert taught.cubes.shape == (4, 6, 12, 12, 3) and taught.cubes.dtype == np.float32
    assert taught.targets.tolist() == [1, 1, 0, 0] and set(taught.groups) == {"m1"}
    places = read_training(training).assign(frame=0)
    intensities = {role: measure_intensities(image, role) for role in image.roles}
    own = cut_cubes(image, places, intensities=intensities, diameter_um=16, geometry=GEOMETRY)
    for pooled, ours in zip(taught.cubes, own, strict=True):
        assert np.corrcoef(pooled[..., 0].ravel(), ours[..., 0].ravel())[0, 1] > 0.98
    assert 0.6 < np.median(np.abs(taught.cubes[..., 0])) / np.median(np.abs(own[..., 0])) < 1.6


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "uint8"])
def test_cubes_of_any_kind_of_number_are_read(training, dtype):
    labels = read_training(training)
    before = stack_cubes(labels).channels["signal"][0]
    values = before + (40_000 if dtype in {"uint16", "int16"} else 0)
    stored = values.astype(np.uint16).view(np.int16) if dtype == "int16" else values.astype(dtype)
    tifffile.imwrite(labels["signal"][0], stored)
    assert np.array_equal(stack_cubes(labels).channels["signal"][0], values.astype(dtype).astype(values.dtype)
                          if dtype != "int16" else values)  # fmt: skip


def test_two_brains_and_one_channel_are_stacks_of_their_own(image, tmp_path):
    for name in ("m1", "m2"):
        write_training(image, POINTS, tmp_path / name)
    entries = [
        entry for name in ("m1", "m2") for entry in yaml.safe_load(
            (tmp_path / name / "training.yaml").read_text())["data"]
    ]  # fmt: skip
    for entry in entries[2:]:
        entry["bg_channel"] = -1
    (tmp_path / "training.yaml").write_text(yaml.safe_dump({"data": entries}))
    pool = read_cellfinder(tmp_path, diameter_um=16, name="both")
    assert [(stack.name, stack.cubes.roles) for stack in pool.stacks] == [
        ("m1", ("signal", "background")),
        ("m2", ("signal",)),
    ]
    assert pool.training_set(GEOMETRY).cubes[..., 2].mean(axis=(1, 2, 3)).tolist() == [1] * 4 + [0] * 4


def test_cell_def_chooses_cubes(training):
    chosen = training.parent / "chosen.csv"
    chosen.write_text(",x,y,z,type\n0,31,30,15,2\n")
    labels = read_training(rewritten(training, cell_def="chosen.csv"))
    assert labels[labels["type"] == 2][["z", "y", "x"]].values.tolist() == [[15, 30, 31]]


# --- bad input -------------------------------------------------------------------------------------------


def test_a_path_outside_the_folder_is_refused(training, image, tmp_path):
    write_training(image, POINTS, tmp_path / "secret")
    for outside in ("../secret/cells", str(tmp_path / "secret" / "cells")):
        rewritten(training, cube_dir=outside)
        said = (
            f"{training} may name folders inside {training.parent} only; {outside} lies outside. It was not "
            "read: copy the cubes beside the file, or say where they may lie with root=..."
        )
        refused(ValueError, said, training)
    assert len(read_training(training, root=tmp_path)) == 4, "control: the person says where they may lie"
    (training.parent / "link").symlink_to(tmp_path / "secret" / "cells")
    rewritten(training, cube_dir="link")
    refused(ValueError, said.replace(outside, "link"), training)


def test_a_cube_that_is_a_link_out_of_the_folder_is_refused(training, image, tmp_path):
    write_training(image, POINTS, tmp_path / "secret")
    cube = training.parent / "cells" / "pCellz15y30x31Ch0.tif"
    cube.unlink()
    cube.symlink_to(tmp_path / "secret" / "cells" / cube.name)
    said = (
        f"{training} may name folders inside {training.parent} only; {cube} lies outside. It was not "
        "read: copy the cubes beside the file, or say where they may lie with root=..."
    )
    refused(ValueError, said, training)


def test_a_bomb_is_refused(tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text("a: &a [x, x]\ndata: [*a, *a]\n")
    said = (
        f"A YAML file may have no aliases and at most 20 levels; {path} uses aliases. "
        "It was not read: write it again without."
    )
    refused(ValueError, said, path)


def test_what_is_missing_is_named(training):
    path = rewritten(training, cube_dir="no")
    said = f"{path} names no, which is not there, nor beside the file. Copy the cubes too."
    refused(FileNotFoundError, said, path)
    rewritten(training, cube_dir="cells")
    cube = training.parent / "cells" / "pCellz15y30x31Ch1.tif"
    cube.unlink()
    said = f"{path}: every cube needs all its channels; {cube} is missing. Copy it too."
    refused(FileNotFoundError, said, path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "neuron"}, "'neuron', 0 and 1"),
        ({"signal_channel": 12}, "'cell', 12 and 1"),
        ({"bg_channel": True}, "'cell', 0 and True"),
    ],
)
def test_an_entry_that_cannot_be_says_so(training, changes, said):
    path = rewritten(training, **changes)
    rule = "an entry's type is cell or no_cell, its channels 0 to 9, without background -1; entry 0 has"
    refused(ValueError, f"{path}: {rule} {said}. Mend it.", path)


def test_another_yaml_an_incomplete_entry_and_a_name_without_a_place_say_so(training):
    cube = training.parent / "cells" / "pCellz15y30x31Ch0.tif"
    cube.rename(cube.with_name("oneCh0.tif"))
    rule = "the name of a cube must hold its place, as in pCellz10y308x132Ch0.tif; got oneCh0.tif"
    refused(ValueError, f"{training}: {rule}. Rename it.", training)
    training.write_text("data:\n- cube_dir: cells\n  type: cell\n")
    rule = "every entry needs cube_dir, type, signal_channel, bg_channel; entry 0 lacks"
    refused(ValueError, f"{training}: {rule} signal_channel, bg_channel. Add it.", training)
    training.write_text("cells: 3")
    rule = "must be cellfinder's training file, a list named data; it is not"
    refused(ValueError, f"{training} {rule}. Is it the right file?", training)


def test_a_cube_of_another_shape_or_no_tiff_is_named(training):
    labels = read_training(training)
    file = labels["signal"][0]
    tifffile.imwrite(file, np.zeros((20, 50, 40), np.uint16))
    said = f"A cube of cellfinder has (20, 50, 50) voxels (z, y, x); {file} has (20, 50, 40), uint16. "
    with pytest.raises(ValueError, match=f"^{re.escape(said)}Leave it out\\.$"):
        stack_cubes(labels).channels["signal"][0]
    with open(file, "w") as text:
        text.write("no picture")
    with pytest.raises(
        ValueError, match=rf"^{re.escape(file)} must be a TIFF; it is not: .*\. Copy it again\.$"
    ):
        read_cellfinder(training, diameter_um=16).training_set(GEOMETRY)
