"""Bundles: packed, read back to the letter, and refused when anything in them was changed."""

import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from made_up import make_study

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.images import open_image
from cellkit.networks import NetworkCard
from cellkit.pixels.intensities import Intensities, measure_intensities
from cellkit.pixels.stacks import CubeStack, LabelledStack, cut_stack
from cellkit.sharing import bundles
from cellkit.sharing.bundles import _hash_of, read_bundle, write_bundle
from cellkit.sharing.exchange import REACH, pack
from cellkit.teaching.labelled import gather
from cellkit.teaching.pools import Pool

SIDES = (4, 6, 6)


def pool(n=3, *, name="lab", roles=("signal", "background")):
    rng = np.random.default_rng(0)
    cubes = {role: rng.integers(0, 900, (n, *SIDES), dtype=np.uint16) for role in roles}
    stack = LabelledStack(
        "m1",
        CubeStack(cubes, SIDES, (5.0, 2.0, 2.0)),
        rng.uniform(0, 3, (n, 3)),
        np.arange(n) % 2,
        16.0,
        {role: Intensities(200.0, 20.0, 100.0, 900.0) for role in roles},
        "mouse 1",
    )
    return Pool(name, "cell", (stack,), {"abc": "m1"}, {"licence": "CC-BY-4.0"})


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(pool(), tmp_path / "lab.zip")


def rewritten(path, change, *, forge=False):
    """Change the parts of a bundle, a dict of name to bytes; a forger reckons the hashes anew."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    if forge:
        said = json.loads(parts["bundle.json"])
        said["sha256"] = _hash_of(said)
        parts["bundle.json"] = json.dumps(said).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def restated(path, **changes):
    def change(parts):
        said = json.loads(parts["bundle.json"])
        parts["bundle.json"] = json.dumps(said | changes).encode()

    return rewritten(path, change, forge=True)


def refused(path, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        read_bundle(path)


# --- round trips ---------------------------------------------------------------------------------------


def test_what_is_packed_is_read_back(bundle):
    made, read = pool(), read_bundle(bundle)
    assert (read.name, read.task, read.images) == ("lab", "cell", {"abc": "m1"})
    assert read.about == {"description": "", "licence": "CC-BY-4.0", "contact": ""}
    ours, theirs = made.stacks[0], read.stacks[0]
    assert (theirs.name, theirs.animal, theirs.diameter_um) == ("m1", "mouse 1", 16.0)
    assert theirs.intensities == ours.intensities and theirs.cubes.voxel_um == (5.0, 2.0, 2.0)
    for role in ("signal", "background"):
        assert theirs.cubes.channels[role].dtype == np.uint16
        assert np.array_equal(theirs.cubes.channels[role], ours.cubes.channels[role])
    assert np.array_equal(theirs.centres, ours.centres) and np.array_equal(theirs.targets, ours.targets)


def test_the_same_pool_gives_the_same_bytes(bundle, tmp_path):
    assert write_bundle(pool(), tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_a_bundle_is_never_overwritten_and_needs_labels(bundle):
    before = bundle.read_bytes()
    said = f"A bundle is never overwritten; {bundle} is there. Choose another name."
    with pytest.raises(FileExistsError, match=f"^{re.escape(said)}$"):
        write_bundle(pool(), bundle)
    assert bundle.read_bytes() == before
    said = "A bundle needs labels and a name that ends in .zip; got 0 labels for 'none.zip'. Mend that."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        write_bundle(Pool("lab", "cell", ()), bundle.with_name("none.zip"))


def test_more_cubes_than_fit_into_memory_are_no_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "MOST_GIB", 0)
    said = (
        "A bundle may hold 0 GiB of cubes; lab has 0.0. Pass on fewer labels, or teach from the training "
        "folder itself: retrain(study, pools=[read_cellfinder(...)])."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        write_bundle(pool(), tmp_path / "lab.zip")
    assert not any(tmp_path.iterdir())


# --- a study packed ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "home"
    study = make_study(folder, n=80)
    for name in ("animal-1", "animal-2"):
        rows = study.candidates(name).head(30)
        um = rows[["z", "y", "x"]].to_numpy() * study.voxel_um[name]
        rows = rows.assign(**dict(zip(["z_um", "y_um", "x_um"], um.T, strict=True)), origin="random")
        study.ledger("Åsa").add(rows.assign(answer=np.where(rows["cell"], "cell", "artefact"), weight=np.nan))
    return study


@pytest.mark.parametrize("geometry", [CubeGeometry((4, 8, 8)), CubeGeometry((3, 5, 5), (4.0, 4.0, 4.0))])
def test_the_cubes_of_a_packed_study_are_those_that_it_teaches(study, tmp_path, geometry):
    packed = read_bundle(pack(study, tmp_path / "home.zip", licence="CC0"))
    taught = gather(study, NetworkCard("x", cube=geometry))
    order = np.argsort(taught.places["image"], kind="stable")
    there = packed.training_set(geometry)
    assert np.array_equal(there.targets, taught.targets[order])
    own = np.asarray(taught.cubes[order], dtype=np.float32)
    assert np.abs(there.cubes - own).max() < 5e-3, "kept cubes are float16"
    assert set(there.groups) == {"animal-1", "animal-2"} and own.std() > 0.2, "control"


def test_fine_voxels_are_averaged_and_give_the_same_cubes():
    pixels = np.random.default_rng(0).poisson(50, (40, 150, 150)).astype(np.uint16)
    image = open_image(pixels, voxel_um=(1, 0.5, 0.5), name="fine")
    places = pd.DataFrame(np.random.default_rng(1).uniform(0, (39, 149, 149), (12, 3)), columns=list("zyx"))
    cut = {"geometry": CubeGeometry(), "diameter_um": 16.0}
    stack, centres = cut_stack(image, places.assign(frame=0), **cut | {"geometry": REACH})
    assert stack.voxel_um == (4.0, 2.0, 2.0) and stack.sides == (10, 33, 33)
    intensities = {"signal": measure_intensities(image, "signal")}
    there = LabelledStack("fine", stack, centres, np.ones(12), 16.0, intensities).cut(CubeGeometry())
    own = cut_cubes(image, places.assign(frame=0), intensities=intensities, **cut)
    assert np.abs(there - own).max() < 1e-4 and own.std() > 0.04, "control"


def test_cubes_of_a_pool_are_cut_once_to_the_disk(tmp_path, monkeypatch):
    geometry = CubeGeometry((3, 4, 4), (1.0, 1.0, 1.0))
    kept = pool(30).training_set(geometry, tmp_path)
    assert isinstance(kept.cubes, np.memmap) and kept.cubes.dtype == np.float16
    assert np.abs(kept.cubes - pool(30).training_set(geometry).cubes).max() < 5e-3, "control: in memory"
    monkeypatch.setattr(LabelledStack, "batches", lambda *_: pytest.fail("they were cut again"))
    assert np.array_equal(pool(30).training_set(geometry, tmp_path).cubes, kept.cubes)
    monkeypatch.undo()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert len(pool(30).training_set(geometry, tmp_path).cubes) == 30, "a torn file is cut anew"
    other = CubeGeometry((3, 4, 4), (1.2, 1.0, 1.0))
    pool(30).training_set(other, tmp_path)
    pool(31).training_set(geometry, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3, "other cubes and other labels lie in files of their own"


def test_nobodys_name_and_no_path_is_in_a_bundle(study, tmp_path):
    path = pack(study, tmp_path / "home.zip")
    with zipfile.ZipFile(path) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert b"animal-1" in everything, "control"
    assert "Åsa".encode() not in everything and str(study.folder).encode() not in everything


# --- tampering -----------------------------------------------------------------------------------------


def test_a_changed_label_is_seen(bundle):
    def change(parts):
        parts["labels.csv"] = parts["labels.csv"].replace(b",1\n", b",0\n")

    said = "was changed or damaged: its hash does not fit. Ask for it again."
    refused(rewritten(bundle, change), f"A bundle must be as it was packed; labels.csv of {bundle} {said}")


def test_a_changed_manifest_a_part_too_few_and_a_flipped_bit_are_seen(bundle, tmp_path):
    said = "was changed or damaged: its hash does not fit. Ask for it again."
    untouched = bundle.read_bytes()

    def diameter(parts):
        parts["bundle.json"] = parts["bundle.json"].replace(b'"diameter_um": 16.0', b'"diameter_um": 61.0')

    refused(rewritten(bundle, diameter), f"A bundle must be as it was packed; bundle.json of {bundle} {said}")
    bundle.write_bytes(untouched)
    refused(
        rewritten(bundle, lambda parts: parts.pop("cubes/0-signal.npy")),
        f"A bundle must be as it was packed; bundle.json of {bundle} {said}",
    )
    for at in np.linspace(100, len(untouched) / 2, 12).astype(int):
        torn = bytearray(untouched)
        torn[at] ^= 0x10
        bundle.write_bytes(torn)
        with pytest.raises(
            ValueError, match=r"^.*lab\.zip.* (Copy it again|Ask for it again|was not read)\.$"
        ):
            read_bundle(bundle)
    bundle.write_bytes(untouched)
    assert len(read_bundle(bundle)) == 3, "control"


@pytest.mark.parametrize(
    "name", ["../../outside.npy", "/etc/passwd", "cubes/../x.npy", "cubes\\0-signal.npy"]
)
def test_a_path_out_of_the_bundle_is_refused(bundle, name):
    rewritten(bundle, lambda parts: parts.update({name: b"x"}))
    said = f"A bundle holds bundle.json, labels.csv and cubes; {bundle} does not: it holds {name!r}. "
    refused(bundle, said + "It was not read.")


def test_a_zip_bomb_is_refused_before_it_unpacks(bundle, monkeypatch):
    rewritten(bundle, lambda parts: parts.update({"cubes/1-signal.npy": bytes(300 * 2**20)}))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(
        ValueError,
        match=rf"^A bundle may unpack to 4 GiB and 200 times its size; {bundle} unpacks to 314,[\d,]+ of "
        r"[\d,]+ bytes\. It was not read\.$",
    ):
        read_bundle(bundle)


def test_cubes_that_are_code_are_not_run(bundle, tmp_path):
    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    def change(parts):
        import hashlib
        import io

        kept = io.BytesIO()
        np.save(kept, np.array([Code()], dtype=object), allow_pickle=True)
        parts["cubes/0-signal.npy"] = kept.getvalue()
        said = json.loads(parts["bundle.json"])
        said["sha256 of parts"]["cubes/0-signal.npy"] = hashlib.sha256(kept.getvalue()).hexdigest()
        parts["bundle.json"] = json.dumps(said).encode()

    said = "Object arrays cannot be loaded when allow_pickle=False"
    refused(
        rewritten(bundle, change, forge=True),
        f"{bundle} must hold what a bundle holds; it does not: {said}. Pack it again.",
    )
    assert not (tmp_path / "made").exists()


def test_a_newer_bundle_and_what_is_none_say_so(bundle, tmp_path):
    refused(
        restated(bundle, version=2),
        f"This cellkit reads bundles of version 1; {bundle} is of version 2. Update cellkit.",
    )
    plain = tmp_path / "plain.zip"
    plain.write_text("no zip")
    refused(plain, f"{plain} must be a bundle; it cannot be read: File is not a zip file. Copy it again.")
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("labels.csv", "")
    said = "it has no bundle.json. It was not read."
    refused(plain, f"A bundle holds bundle.json, labels.csv and cubes; {plain} does not: {said}")


def test_numbers_that_cannot_be_say_so(bundle):
    stack = json.loads(zipfile.ZipFile(bundle).read("bundle.json"))["stacks"][0]
    for change, said in [
        ({"voxel_um": [0, 1, 1]}, "the channels or the voxel size of m1 cannot be"),
        ({"cubes": 4}, "cubes/0-signal.npy is no stack of (4, 4, 6, 6) finite numbers"),
        ({"sides": [4, 6]}, "cubes/0-signal.npy is no stack of (3, 4, 6) finite numbers"),
    ]:
        refused(
            restated(bundle, stacks=[stack | change]),
            f"{bundle} must hold what a bundle holds; it does not: {said}. Pack it again.",
        )
