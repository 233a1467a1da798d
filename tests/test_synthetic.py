import hashlib
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage
from scipy.spatial import KDTree
from sklearn.metrics import roc_auc_score

from cellkit.match import match_points
from cellkit.study import open_study
from cellkit.synthetic import (
    ARTEFACT_KINDS,
    ArtefactSettings,
    LapseSettings,
    OpticsSettings,
    SliceSettings,
    SomaSettings,
    TissueSettings,
    VolumeSettings,
    create_sample_study,
    make_lapse,
    make_slices,
    make_volume,
    random_settings,
)
from cellkit.synthetic.camera import photograph
from cellkit.synthetic.sample import ANIMALS, DIAMETER_UM
from cellkit.tables import positions_um

SMALL = VolumeSettings(
    shape=(16, 80, 80),
    somas=SomaSettings(n=30),
    tissue=TissueSettings(vessels=2),
    artefacts=ArtefactSettings(autofluorescent=30, debris=5, haze=5, fibres=10, streaks=10),
)
CLEAN = replace(
    SMALL,
    shape=(24, 128, 128),
    tissue=TissueSettings(outside=0.0, layers=0.0, mottle=0.0, unlabelled=0.0, vessels=0),
    artefacts=ArtefactSettings(autofluorescent=0, debris=0, haze=0, fibres=0, streaks=0),
    optics=OpticsSettings(
        shading=0.0, stripes=0.0, scattered=(0.0, 0.0), photons=500, background_photons=500
    ),
)
SAMPLE = "cellkit.synthetic.sample"
KEPT = {"images": "tif", "truth": "csv"}
DRAWN = """
from tests.test_synthetic import SMALL, fingerprint
from cellkit.synthetic import make_volume
print(fingerprint(make_volume(SMALL, 5)))
"""


@cache
def sample_volume(animal):
    return make_volume(ANIMALS[animal], 7)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return create_sample_study(tmp_path_factory.mktemp("made")).folder


def fingerprint(volume) -> str:
    pixels = volume.signal.tobytes() + volume.background.tobytes()
    return hashlib.sha256(pixels + volume.truth.to_csv().encode()).hexdigest()


def clearer_than_around(image, places, voxel_um, diameter_um):
    """How much brighter each place is than what surrounds it, in counts."""
    image = image.astype(np.float32)
    smooth, wide = (
        ndimage.gaussian_filter(image, [share * diameter_um / step for step in voxel_um], truncate=2)
        for share in (0.2, 1)
    )
    at = tuple(np.clip(np.rint(places).astype(int).T, 0, np.array(image.shape)[:, None] - 1))
    return (smooth - wide)[at]


def test_one_seed_makes_one_volume_and_another_seed_another():
    assert fingerprint(make_volume(SMALL, 3)) == fingerprint(make_volume(SMALL, 3))
    assert fingerprint(make_volume(SMALL, 3)) != fingerprint(make_volume(SMALL, 4)), (
        "control: the seed counts"
    )


def test_a_processor_without_vector_units_makes_the_same_volume(repository):
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    plain = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    }
    run = subprocess.run(
        [sys.executable, "-c", DRAWN],
        capture_output=True,
        text=True,
        cwd=repository,
        env=os.environ | plain,
        check=True,
    )
    assert run.stdout.strip() == fingerprint(make_volume(SMALL, 5))


def test_a_volume_has_two_channels_and_its_truth_lies_inside():
    volume = make_volume(SMALL, 1)
    assert volume.signal.shape == volume.background.shape == SMALL.shape
    assert volume.signal.dtype == volume.background.dtype == np.uint16
    assert list(volume.truth) == ["z", "y", "x", "diameter_um", "brightness", "kind", "class"]
    assert (volume.truth[["z", "y", "x"]] >= -0.5).all(axis=None)
    assert (volume.truth[["z", "y", "x"]] <= np.array(SMALL.shape) - 0.5).all(axis=None)
    cells = volume.truth["class"] == "cell"
    assert (cells == (volume.truth["kind"] == "cell")).all() and cells.sum() == len(volume.cells) == 30


def test_a_volume_of_no_size_is_refused():
    rule = (
        r"^A volume needs a shape of three whole numbers of at least 1 and a voxel size of three lengths "
        r"above zero \(z, y, x\); got shape \(4, 5\) and \(5\.0, 2\.0, 2\.0\)\. Give both\.$"
    )
    with pytest.raises(ValueError, match=rule):
        VolumeSettings(shape=(4, 5))


@pytest.mark.parametrize("animal", ANIMALS)
def test_cells_lie_on_local_signal(animal):
    volume = sample_volume(animal)
    cells, voxel_um = volume.cells[["z", "y", "x"]].to_numpy(), volume.settings.voxel_um
    here = clearer_than_around(volume.signal, cells, voxel_um, DIAMETER_UM) > 0
    beside = clearer_than_around(volume.signal, cells + np.array([0, 9, 9]), voxel_um, DIAMETER_UM) > 0
    assert here.mean() > 0.95
    assert beside.mean() < 0.6, "control: places beside the cells do not"


@pytest.mark.parametrize("animal", ANIMALS)
def test_the_sample_animals_hold_all_kinds_many_cells_and_more_artefacts(animal):
    truth = sample_volume(animal).truth
    assert set(truth["kind"]) == {"cell", *ARTEFACT_KINDS}
    assert 250 <= (truth["class"] == "cell").sum() <= 400
    assert (truth["class"] == "artefact").sum() >= 500


def test_autofluorescence_is_in_both_channels_and_somas_are_in_one():
    settings = replace(
        CLEAN, artefacts=replace(CLEAN.artefacts, autofluorescent=60, in_background=(0.8, 1.2))
    )
    volume = make_volume(settings, 2)
    places = {kind: part[["z", "y", "x"]].to_numpy() for kind, part in volume.truth.groupby("kind")}
    seen = {
        (kind, channel): np.median(
            clearer_than_around(getattr(volume, channel), at, settings.voxel_um, DIAMETER_UM)
        )
        for kind, at in places.items()
        for channel in ("signal", "background")
    }
    assert seen["cell", "background"] < 0.1 * seen["cell", "signal"]
    assert seen["autofluorescence", "background"] > 0.6 * seen["autofluorescence", "signal"] > 0


def brightness_scores(volume, per_cell=5):
    """Blobs of the signal, whether each is a cell, and how bright each is in several ways."""
    voxel_um = volume.settings.voxel_um
    small, large = ([0.3 * f * DIAMETER_UM / step for step in voxel_um] for f in (1, 1.8))
    contrast = []
    for channel in (volume.signal.astype(np.float32), volume.background.astype(np.float32)):
        around = ndimage.gaussian_filter(channel, large)
        contrast.append((ndimage.gaussian_filter(channel, small) - around) / around)
    peaks = ndimage.maximum_filter(contrast[0], [2 * int(0.5 * DIAMETER_UM / step) + 1 for step in voxel_um])
    at = np.argwhere((peaks == contrast[0]) & (contrast[0] > 0))
    at = at[np.argsort(-contrast[0][tuple(at.T)])][: per_cell * len(volume.cells)]
    cells = positions_um(volume.cells, voxel_um)
    matched = match_points(at * np.array(voxel_um), cells, within_um=DIAMETER_UM / 2)
    signal, background = (c[tuple(at.T)] for c in contrast)
    raw = ndimage.gaussian_filter(volume.signal.astype(np.float32), 1)[tuple(at.T)]
    return np.isin(np.arange(len(at)), matched.found), {
        "raw": raw,
        "signal": signal,
        "signal less background": signal - background,
    }


@pytest.mark.parametrize("animal", ANIMALS)
def test_no_brightness_threshold_parts_cells_from_artefacts(animal):
    is_cell, scores = brightness_scores(sample_volume(animal))
    assert is_cell.sum() > 0.75 * len(sample_volume(animal).cells), "control: the cells are among the blobs"
    assert (~is_cell).sum() > 500
    assert 0.8 < max(roc_auc_score(is_cell, score) for score in scores.values()) < 0.97


def gaps(volume):
    """Distance from each cell to the nearest one, over the sum of their radii."""
    at, radii = (
        positions_um(volume.cells, volume.settings.voxel_um),
        volume.cells["diameter_um"].to_numpy() / 2,
    )
    distance, index = KDTree(at).query(at, k=2)
    return distance[:, 1] / (radii + radii[index[:, 1]])


def test_clustered_somas_touch_and_none_lies_inside_another():
    crowded, loose = (
        gaps(make_volume(replace(CLEAN, somas=replace(CLEAN.somas, clustered=share)), 3))
        for share in (0.6, 0.0)
    )
    assert (crowded < 1.3).mean() > 0.6
    assert (loose < 1.3).mean() < 0.3, "control: without clusters few touch"
    assert min(crowded.min(), loose.min()) > 0.9


def test_no_cell_lies_outside_the_tissue():
    settings = replace(CLEAN, tissue=replace(CLEAN.tissue, outside=0.4))
    dark = make_volume(settings, 5)
    level = ndimage.median_filter(dark.background, (1, 5, 5)) - settings.optics.offset
    at = tuple(np.rint(dark.cells[["z", "y", "x"]].to_numpy()).astype(int).T)
    half = 0.5 * settings.optics.gain * settings.optics.background_photons
    assert (level < half).mean() > 0.15, "control: some of the volume is outside"
    assert (level[at] > half).all()


def test_debris_saturates_the_camera_and_nothing_exceeds_it():
    settings = replace(SMALL, optics=replace(SMALL.optics, full=1500))
    assert make_volume(settings, 1).signal.max() == 1500
    clean = replace(
        settings, artefacts=replace(settings.artefacts, debris=0), somas=replace(SMALL.somas, n=0)
    )
    assert make_volume(clean, 1).signal.max() < 1500, "control: without debris it does not"


def test_the_camera_counts_photons_with_poisson_noise():
    optics = OpticsSettings(gain=4, offset=100, read_noise=3)
    counts = photograph(np.full((20, 100, 100), 2, np.float32), 25, optics, np.random.default_rng(0)).astype(
        float
    )
    assert counts.mean() == pytest.approx(100 + 4 * 50, rel=0.01)
    assert counts.var() == pytest.approx(4**2 * 50 + 3**2, rel=0.02)


def test_a_leaning_point_spread_shifts_light_along_x_with_depth():
    def centre_of_planes(tilt):
        optics = replace(CLEAN.optics, tilt=tilt, psf_um=(12.0, 1.0, 1.0))
        somas = replace(CLEAN.somas, n=1, contrast=(8.0, 8.0), processes=0.0, irregular=0.0)
        volume = make_volume(replace(CLEAN, somas=somas, optics=optics), 11)
        z, y, x = volume.cells.loc[0, ["z", "y", "x"]].astype(float).round().astype(int)
        light = volume.signal[z - 4 : z + 5, y - 5 : y + 6, x - 12 : x + 13].astype(float)
        light = np.maximum(light - np.median(volume.signal) * 1.2, 0).sum(axis=1)
        return (light * np.arange(-12, 13)).sum(axis=1) / light.sum(axis=1)

    leaning, upright = centre_of_planes(0.4), centre_of_planes(0.0)
    assert leaning[-1] - leaning[0] > 3
    assert abs(upright[-1] - upright[0]) < 1, "control: upright"


def test_settings_for_training_are_drawn_wide_and_make_volumes():
    rng = np.random.default_rng(0)
    drawn = [random_settings(rng, shape=(12, 64, 64)) for _ in range(60)]
    diameters = [settings.diameter_um for settings in drawn]
    assert min(diameters) < 8 and max(diameters) > 28
    assert {255, 4095, 65535} == {settings.optics.full for settings in drawn}
    assert len({settings.voxel_um for settings in drawn}) == 60
    for settings in drawn[:6]:
        volume = make_volume(settings, 1)
        assert volume.signal.std() > 0 and volume.signal.max() <= settings.optics.full


def test_the_sample_study_holds_three_animals_with_truth_and_is_opened_the_next_time(made, monkeypatch):
    study = open_study(made)
    assert [(e.name, e.animal, e.role) for e in study.settings.images] == [
        ("animal-1", "animal-1", "train"),
        ("animal-2", "animal-2", "train"),
        ("animal-3", "animal-3", "judge"),
    ]
    image = study.image("animal-1")
    assert image.voxel_um == (5.0, 2.0, 2.0) and image.roles == ("signal", "background")
    assert image.shape == (1, 2, *ANIMALS["animal-1"].shape)
    assert {"z", "y", "x", "kind"} <= set(study.truth("animal-3"))
    monkeypatch.setattr(f"{SAMPLE}.make_sample_images", lambda folder: pytest.fail("made again"))
    assert create_sample_study(made).settings == study.settings


def test_the_sample_images_are_small_and_say_their_voxel_size(made):
    files = [made / kind / f"{name}.{kept}" for kind, kept in KEPT.items() for name in ANIMALS]
    assert sum(path.stat().st_size for path in files) <= 12e6
    with tifffile.TiffFile(made / "images" / "animal-1.tif") as tiff:
        assert tiff.series[0].axes == "CZYX" and tiff.series[0].shape == (2, *ANIMALS["animal-1"].shape)
        assert 'PhysicalSizeZ="5.0"' in tiff.ome_metadata and 'Name="background"' in tiff.ome_metadata


def test_the_committed_sample_data_are_what_is_made_today(made, repository):
    folders = made, repository / "data"
    for name in ANIMALS:
        today, kept = (tifffile.imread(folder / "images" / f"{name}.tif") for folder in folders)
        assert hashlib.sha256(today.tobytes()).digest() == hashlib.sha256(kept.tobytes()).digest(), (
            f"{name}: {np.count_nonzero(today != kept)} voxels differ; make them anew: see data/README.md"
        )
        today, kept = ((folder / "truth" / f"{name}.csv").read_text() for folder in folders)
        assert today == kept


def test_the_module_makes_the_images_where_it_is_told(monkeypatch):
    asked = []
    monkeypatch.setattr(f"{SAMPLE}.make_sample_images", asked.append)
    monkeypatch.setattr(sys, "argv", ["synthetic", "here"])
    runpy.run_module("cellkit.synthetic", run_name="__main__")
    assert asked == ["here"]


def test_slices_have_bright_nuclei_and_graded_expression():
    slices = make_slices(2, seed=1)
    for one in slices:
        assert one.marker.shape == one.expression.shape == (256, 256) and one.marker.dtype == np.uint16
        assert set(one.truth["class"]) == {"on", "off", "artefact"} and (one.truth["z"] == 0).all()
        cells = one.truth[one.truth["class"] != "artefact"]
        at = cells[["z", "y", "x"]].to_numpy()
        marker = clearer_than_around(one.marker[None], at, (8, 0.65, 0.65), 9)
        expression = clearer_than_around(one.expression[None], at, (8, 0.65, 0.65), 9)
        is_on = (cells["class"] == "on").to_numpy()
        assert (marker > 0).mean() > 0.9
        assert 0.85 < roc_auc_score(is_on, expression) < 1
        assert cells.loc[is_on, "brightness"].min() > cells.loc[~is_on, "brightness"].max()
    assert not np.array_equal(slices[0].marker, slices[1].marker)
    again = make_slices(2, seed=1)
    assert all(np.array_equal(a.expression, b.expression) for a, b in zip(slices, again, strict=True))


def test_the_share_of_on_cells_is_what_was_asked_for():
    for asked in (0.1, 0.8):
        (one,) = make_slices(1, SliceSettings(on=asked), seed=2)
        counts = one.truth["class"].value_counts()
        assert counts["on"] / (counts["on"] + counts["off"]) == pytest.approx(asked, abs=0.12)


LAPSE = LapseSettings(frames=14, shape=(16, 64, 64), nuclei=5, cycle=(5.0, 9.0))


def test_nuclei_of_a_lapse_lie_on_local_signal_in_every_frame():
    lapse = make_lapse(LAPSE, seed=2)
    assert lapse.frames.shape == (14, 16, 64, 64) and lapse.frames.dtype == np.uint16
    for frame, part in lapse.truth.groupby("frame"):
        at = part[["z", "y", "x"]].to_numpy()
        assert (clearer_than_around(lapse.frames[frame], at, LAPSE.voxel_um, 11) > 0).mean() > 0.9
    assert np.array_equal(lapse.frames, make_lapse(LAPSE, seed=2).frames)
    assert not np.array_equal(lapse.frames, make_lapse(LAPSE, seed=3).frames), "control: the seed counts"


def test_every_daughter_starts_beside_where_its_mother_ended():
    truth = make_lapse(LAPSE, seed=2).truth
    tracks = {track: part.sort_values("frame") for track, part in truth.groupby("track")}
    born = truth[truth["parent"] >= 0].groupby("track")["parent"].first()
    assert len(born) >= 6, "control: nuclei divide"
    for track, parent in born.items():
        first, last = tracks[track].iloc[0], tracks[parent].iloc[-1]
        assert first["frame"] == last["frame"] + 1 and last["dividing"]
        places = pd.DataFrame([first, last])
        assert np.linalg.norm(np.diff(positions_um(places, LAPSE.voxel_um), axis=0)) < first["diameter_um"]
    for part in tracks.values():
        assert (np.diff(part["frame"]) == 1).all() and part["parent"].nunique() == 1
