from re import escape

import numpy as np
import pandas as pd
import pytest
from painted import SOMA, VOXEL, found, paint, recall, scattered, um
from scipy.ndimage import gaussian_filter

from cellkit.detect import DetectSettings, call_candidates, classify, detect, find_candidates
from cellkit.images import open_image
from cellkit.match import match_points
from cellkit.study import create_study
from cellkit.synthetic import make_slices
from cellkit.tables import CANDIDATE_COLUMNS


@pytest.fixture(scope="module")
def places():
    return scattered((40, 130, 150), 60, apart_um=24)


@pytest.fixture(scope="module")
def volume(places):
    return paint((40, 130, 150), places)


def test_every_soma_is_found_at_its_place_and_ranks_before_the_noise(volume, places):
    table = found(volume)
    first = table.head(len(places))
    match = match_points(um(first), places, within_um=SOMA / 2)
    assert len(match.found) == len(places)
    off = um(first)[match.found] - places[match.true]
    assert np.sqrt((off**2).mean(axis=0)) == pytest.approx([0, 0, 0], abs=1.5)
    assert list(table.columns) == list(CANDIDATE_COLUMNS)
    assert table["score"].is_monotonic_decreasing
    assert first["score"].min() > 2 * table["score"].iloc[len(places)], "control: the noise ranks far below"


def test_the_diameter_is_about_that_of_the_soma():
    for diameter in (12.0, 15.0, 18.0):
        places = scattered((30, 90, 90), 12, apart_um=40, margin_um=15)
        table = found(paint((30, 90, 90), places, diameter_um=diameter)).head(len(places))
        assert table["diameter_um"].median() == pytest.approx(diameter, rel=0.15)


def test_a_table_of_no_candidate_has_its_columns():
    table = found(paint((6, 40, 40), [], noise=3), min_score=50)
    assert table.dtypes.astype(str).to_dict() == CANDIDATE_COLUMNS


def test_four_times_the_light_changes_nothing(volume):
    pd.testing.assert_frame_equal(found(volume * np.uint16(4)), found(volume), check_exact=True)


def test_a_dark_corner_changes_no_recall(volume, places):
    dark = volume.copy()
    dark[:, :16, :16] = 0
    outside = (places[:, 1] > 45) | (places[:, 2] > 45)
    assert recall(found(dark), places[outside]) == recall(found(volume), places[outside]) == 1


def test_a_dense_volume_loses_no_soma():
    places = scattered((30, 110, 110), 400, apart_um=14.4)
    assert len(places) > 350, "control: they nearly touch"
    assert (
        recall(found(paint((30, 110, 110), places, diameter_um=12), diameter_um=12), places, within_um=6)
        > 0.95
    )


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
@pytest.mark.parametrize("far", [False, True], ids=["first", "last"])
def test_a_soma_on_the_border_is_found(axis, far):
    shape = (21, 61, 67)
    place = np.multiply(shape, VOXEL) / 2
    place[axis] = (shape[axis] - 1) * VOXEL[axis] if far else 0
    table = found(paint(shape, [place]))
    assert np.linalg.norm(um(table)[0] - place) < SOMA / 3


@pytest.mark.parametrize("way", [(0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 0)], ids=["x", "yx", "z", "zy"])
def test_touching_somas_are_split(way):
    middle = np.array([50.0, 60.0, 60.0])
    step = np.array(way) / np.linalg.norm(way) * SOMA * 1.05
    row = [middle - step, middle, middle + step]
    table = found(paint((21, 61, 61), row))
    assert recall(table, row, per_place=1) == 1
    alone = found(paint((21, 61, 61), [middle]))
    assert alone["score"].iloc[1] < alone["score"].iloc[0] / 5, "control: one soma is one candidate"


def test_a_soma_in_the_streak_of_a_brighter_one_is_found():
    places = [(50.0, 60.0, 60.0), (70.0, 60.0, 60.0)]
    volume = gaussian_filter(
        paint((25, 61, 61), places, height=[800, 560], noise=0).astype(float), (1.6, 0, 0)
    )
    assert (np.diff(volume[10:15, 30, 30]) < 0).all(), "control: no maximum of its own"
    volume = (volume + np.random.default_rng(0).normal(0, 5, volume.shape)).astype(np.uint16)
    assert recall(found(volume), places, per_place=1) == 1


def test_the_border_of_an_even_image_draws_no_candidates():
    table = found(paint((30, 100, 100), [], noise=20))
    near = (table[["y", "x"]].min(axis=1) < 4) | (table[["y", "x"]].max(axis=1) > 95)
    assert near.mean() < 2.5 * (1 - 0.92**2)
    assert table.loc[near, "score"].max() < 1.3 * table.loc[~near, "score"].max()


PLATEAU = """
. . . . . . . . . . . .
. . . # # # # # . . . .
. . # # # # # # # . . .
. . # # # # # # # # . .
. . # # # # # # # # . .
. . . # # # # # # . . .
. . . . # # # . . . . .
. . . . . . . . . . . .
"""


@pytest.mark.parametrize("wide", [1, 2])
def test_a_saturated_plateau_is_one_candidate_in_its_middle(wide):
    mask = np.array([list(line.replace(" ", "")) for line in PLATEAU.split("\n") if line]) == "#"
    mask = mask.repeat(wide, 0).repeat(wide, 1)
    volume = paint((15, 70, 70), [], noise=5)
    volume[5:9, 20 : 20 + mask.shape[0], 30 : 30 + mask.shape[1]][:, mask] = 65535
    table = found(volume)
    strong = table[table["score"] > table["score"].iloc[0] / 4]
    assert len(strong) == 1
    y, x = np.argwhere(mask).mean(axis=0)
    assert um(strong)[0] == pytest.approx([6.5 * 5, (20 + y) * 2, (30 + x) * 2], abs=3)


def test_the_same_soma_ranks_alike_in_fine_and_coarse_voxels():
    places = scattered((20, 100, 100), 15, apart_um=30, margin_um=15)
    coarse = found(paint((20, 100, 100), places))
    fine = found(paint((50, 100, 100), places, voxel_um=(2, 2, 2)), voxel_um=(2, 2, 2))
    assert recall(coarse, places, per_place=1) == recall(fine, places, per_place=1, voxel_um=(2, 2, 2)) == 1
    assert fine["diameter_um"].head(15).median() == pytest.approx(
        coarse["diameter_um"].head(15).median(), rel=0.1
    )


def test_a_streak_and_an_edge_rank_below_a_soma_of_their_height():
    volume = paint((20, 110, 110), [(50, 50, 50)], noise=5)
    volume[10, 80:84, :] += 400
    volume[:, :, 90:] += 400
    table = found(volume)
    assert np.linalg.norm(um(table)[0] - (50, 50, 50)) < 3
    others = table.iloc[1:]
    assert len(others) > 10, "control: the streak and the edge are among the candidates"
    assert others["score"].max() < 0.6 * table["score"].iloc[0]


def test_a_slice_is_a_volume_of_one_plane():
    flat = scattered((1, 130, 150), 30, apart_um=24) * (0, 1, 1)
    table = found(paint((1, 130, 150), flat))
    assert recall(table, flat, per_place=1) == 1
    assert (table["z"] == 0).all()


def test_crowded_nuclei_of_a_slice_are_found():
    hits = sparse = cells = 0
    for made in make_slices(2, seed=3):
        ground = made.settings.ground
        true = um(made.truth[made.truth["class"].isin(["on", "off"])], ground.voxel_um)
        shown = {"voxel_um": ground.voxel_um, "diameter_um": ground.diameter_um}
        near = {"voxel_um": ground.voxel_um, "within_um": ground.diameter_um / 2, "per_place": 5}
        cells += len(true)
        hits += len(true) * recall(found(made.marker, **shown), true, **near)
        sparse += len(true) * recall(found(made.marker, **shown, min_score=2), true, **near)
    assert hits / cells > 0.85
    assert sparse / cells < 0.7, "control: what stands out as far as it must in a volume"


def test_the_diameter_is_about_that_of_a_nucleus_in_a_slice():
    places = [(0, 30 + 50 * i, 30 + 50 * j) for i in range(4) for j in range(4)]
    for diameter in (11.0, 15.0, 19.0):
        table = found(paint((1, 110, 110), places, diameter_um=diameter, noise=5)).head(16)
        assert table["diameter_um"].median() == pytest.approx(diameter, rel=0.1)


def test_the_least_score_is_higher_in_a_volume_than_in_a_slice():
    volume = paint((12, 80, 80), [(30, 80, 80)])
    assert 2 <= found(volume)["score"].min() < 2.2
    assert 0.5 <= found(volume[6:7])["score"].min() < 0.7
    assert found(volume, min_score=0.5)["score"].min() < 0.7, "control"


@pytest.mark.parametrize("planes", [2, 3, 5])
def test_a_volume_thinner_than_the_filters_works(planes):
    places = [(5.0, 40.0, 40.0), (0.0, 90.0, 80.0)]
    assert recall(found(paint((planes, 70, 70), places)), places, per_place=1) == 1


def test_an_image_little_larger_than_a_cell_works():
    assert len(found(paint((4, 8, 9), [(8, 8, 8)]))) >= 1


def test_a_lapse_is_searched_frame_by_frame():
    lapse = np.stack([paint((1, 60, 60), [(0, 40, 40)]), paint((1, 60, 60), [(0, 80, 70)])])[:, None]
    image = open_image(lapse, voxel_um=VOXEL, axes="tczyx", name="lapse")
    for frame, place in enumerate([(0, 40, 40), (0, 80, 70)]):
        table = find_candidates(image, diameter_um=SOMA, frame=frame)
        assert (table["frame"] == frame).all()
        assert np.linalg.norm(um(table)[0] - place) < 3


def test_a_constant_image_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^An image must vary to hold cells; all of brain, frame 0, is 7\. Is it the right channel\?$",
    ):
        found(np.full((5, 40, 40), 7, np.uint16))


def test_a_diameter_below_one_voxel_is_refused(volume):
    with pytest.raises(
        ValueError,
        match=r"^A cell's diameter must be at least one voxel, here 2 µm; got 1\.5\. Give it in µm\.$",
    ):
        found(volume, diameter_um=1.5)
    with pytest.raises(ValueError, match=r"^A cell's diameter .* got nan\. Give it in µm\.$"):
        found(volume, diameter_um=float("nan"))
    assert len(found(volume[:10, :40, :40], diameter_um=4)) > 0, "control: two voxels are enough"


def test_an_image_smaller_than_a_cell_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^An image must be wider than a cell, 15 µm; brain is 12 x 80 µm\. Is the voxel size in µm\?$",
    ):
        found(np.zeros((10, 6, 40), np.uint16))


def test_an_array_is_no_image(volume):
    with pytest.raises(
        ValueError,
        match=r"^`find_candidates` needs an image; got an array of shape \(40, 130, 150\)\. "
        r"Pass open_image\(array, voxel_um=\(z, y, x\)\)\.$",
    ):
        find_candidates(volume, diameter_um=SOMA)


def test_a_voxel_that_is_no_number_is_refused(volume):
    shown = volume.astype(np.float32)
    shown[7, 60, 70] = np.nan
    with pytest.raises(ValueError, match=r"^An image must hold finite numbers; .* \(7, 60, 70\), .*$"):
        found(shown)


@pytest.mark.parametrize("far", [3e38, -2e25])
def test_values_too_far_from_zero_to_be_averaged_are_refused_and_those_below_are_not(volume, far):
    shown = volume[:12].astype(np.float32)
    large = found(shown * np.float32(2.0**73))
    pd.testing.assert_frame_equal(large, found(shown), check_exact=True)
    assert 2.0**73 * shown.max() > 1e24, "control: large it was"
    shown[7, 60, 70] = far
    message = (
        f"Brightness must stay within 1e+25 to be averaged in float32; brain has {abs(far):g}. "
        "Divide the image by a constant: candidates do not change with its unit."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        found(shown)


# --- a study ---------------------------------------------------------------------------------


FEW = DetectSettings(min_score=15)


@pytest.fixture
def study(volume, tmp_path):
    images = []
    for name, shown in [("a", volume[:20]), ("b", volume[20:])]:
        np.save(tmp_path / f"{name}.npy", shown)
        images.append(
            {"name": name, "path": str(tmp_path / f"{name}.npy"), "voxel_um": VOXEL, "animal": name}
        )
    return create_study(tmp_path / "study", images=images, diameter_um=SOMA)


def kept_files(study):
    return {path: path.stat().st_mtime_ns for path in (study.folder / "candidates").rglob("*")}


def test_a_study_keeps_its_candidates_and_does_nothing_twice(study):
    table = detect(study, progress=False)
    assert table.groupby("image").size().to_dict() == {
        "a": len(study.candidates("a")),
        "b": len(study.candidates("b")),
    }
    assert study.made_by("a")["diameter_um"] == SOMA
    files = kept_files(study)
    assert not [path for path in files if "parts" in path.name]
    pd.testing.assert_frame_equal(detect(study, progress=False), table)
    assert kept_files(study) == files
    weak = detect(study, settings=DetectSettings(min_score=1), progress=False)
    assert len(weak) > len(table), "control: other settings are another detection"


def test_a_study_that_was_stopped_goes_on_with_the_image_it_was_at(study):
    detect(study, progress=False)
    expected = study.candidates()
    (study.folder / "candidates" / "b.parquet").unlink()
    table = detect(study, progress=False)
    pd.testing.assert_frame_equal(table, expected)


def test_the_network_calls_every_candidate_once(study):
    found_ones = detect(study, settings=FEW, progress=False)
    calls = classify(study, progress=False)
    assert len(calls) == len(found_ones)
    assert calls["p"].between(0, 1).all()
    assert set(calls["network"]) == {"cells-1"}
    files = kept_files(study)
    pd.testing.assert_frame_equal(classify(study, "cells-1", progress=False), calls)
    pd.testing.assert_frame_equal(detect(study, settings=FEW, progress=False), calls)
    assert kept_files(study) == files
    places = study.candidates("a")[["z", "y", "x", "score"]]
    alone = call_candidates(study.image("a"), places, network="cells-1", diameter_um=SOMA)
    expected = pytest.approx(calls["p"][calls["image"] == "a"].to_numpy(), abs=1e-3)
    assert alone["p"].to_numpy() == expected
    unknown = places.drop(columns="score")
    lone = call_candidates(study.image("a"), unknown, network="cells-1", diameter_um=SOMA)
    assert lone["p"].to_numpy() != expected, "control: without scores no crowding is known"


def test_places_outside_an_image_are_not_called(study):
    with pytest.raises(ValueError, match=r"^places: positions must lie inside the image of .*$"):
        places = pd.DataFrame({"z": [1000.0], "y": [0.0], "x": [0.0]})
        call_candidates(study.image("a"), places, network="cells-1", diameter_um=SOMA)


def test_calls_need_candidates(study):
    with pytest.raises(
        ValueError, match=r"^Candidates are called after they are found; a has none\. Run detect\(study\)\.$"
    ):
        classify(study, progress=False)


@pytest.mark.real
@pytest.mark.parametrize("name", ["753", "969", "1147"])
def test_five_candidates_per_annotated_cell_hold_nearly_all_cells(real_data, name):
    voxel_um = (6.0, 1.62, 1.62)
    image = open_image(real_data / "cfos" / f"{name}_img.tif", voxel_um=voxel_um)
    cells = um(pd.read_csv(real_data / "cfos" / f"{name}_centres.csv"), voxel_um)
    table = find_candidates(image, diameter_um=10)
    assert recall(table, cells, within_um=10, per_place=5, voxel_um=voxel_um) >= 0.98
    assert recall(table, cells, within_um=10, per_place=4, voxel_um=voxel_um) >= 0.97


@pytest.mark.real
@pytest.mark.parametrize(("name", "least"), [("1874", 0.96), ("4923", 0.88), ("6506", 0.95), ("7466", 0.9)])
def test_without_a_label_real_cells_are_called_though_most_of_an_image_may_be_empty(real_data, name, least):
    image = open_image(real_data / "microglia" / f"{name}_img.tif", voxel_um=(1.0, 1.0, 1.0))
    cells = pd.read_csv(real_data / "microglia" / f"{name}_centres.csv")[["z", "y", "x"]].to_numpy()
    table = find_candidates(image, diameter_um=10)
    called = call_candidates(image, table, network="cells-1", diameter_um=10).query("called")
    match = match_points(called[["z", "y", "x"]].to_numpy(), cells, within_um=10)
    assert 2 * len(match.found) / (len(called) + len(cells)) > least
