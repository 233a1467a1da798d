import re

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from cellkit.cubes import CubeGeometry, cut_batches, cut_cubes
from cellkit.images import Image, open_image
from cellkit.pixels import blocks
from cellkit.pixels.intensities import Intensities, measure_intensities, normalise

PLAIN = Intensities(100.0, 50.0, 0.0, 1000.0)
GEOMETRY = CubeGeometry((12, 24, 24), (3.0, 3.0, 3.0))
STEP_UM = (3.75, 1.875, 1.875)


def places(*rows, frame=0):
    table = pd.DataFrame(np.array(rows, dtype=float).reshape(-1, 3), columns=["z", "y", "x"])
    return table.assign(frame=frame)


def cut(image, where, *, diameter_um=15.0, geometry=GEOMETRY, measured=PLAIN, **settings):
    intensities = {role: measured for role in image.roles if role != "none"}
    return cut_cubes(
        image, where, intensities=intensities, diameter_um=diameter_um, geometry=geometry, **settings
    )


def raw(cubes):
    """Return how far voxels lie above the local background: the normalisation undone, but for its level."""
    return np.sinh(cubes.astype("float64")) * PLAIN.spread


def expected(values):
    """Normalise one channel of one cube, interpolated already: above the first quartile, in spreads."""
    quartile = np.sort(values, axis=None)[int(0.25 * values.size)]
    return np.arcsinh((values - quartile) / PLAIN.spread)


def blob(shape, voxel_um, centre_um, *, sigma_um=4.0, peak=800.0, floor=100.0):
    """Draw a Gaussian at a place in µm, pixel centres at integers, as the mean over each voxel's extent."""
    profiles = []
    for n, voxel, centre in zip(shape, voxel_um, centre_um, strict=True):
        fine = (np.arange(n * 8) + 0.5) / 8 * voxel - voxel / 2
        profiles.append(np.exp(-((fine - centre) ** 2) / (2 * sigma_um**2)).reshape(n, 8).mean(1))
    z, y, x = profiles
    return (floor + peak * z[:, None, None] * y[:, None] * x).astype("float32")


def centroid(cube):
    weight = raw(cube)
    weight = np.where(weight > 20, weight, 0)
    axes = [
        np.arange(n).reshape([-1 if k == axis else 1 for k in range(3)]) for axis, n in enumerate(cube.shape)
    ]
    return np.array([(weight * axis).sum() / weight.sum() for axis in axes])


def image_of(array, voxel_um=(5.0, 2.0, 2.0), **settings):
    return open_image(array, voxel_um=voxel_um, **settings)


class Watched(Image):
    """An image that notes which boxes are read."""

    def read(self, role="signal", *, frame=0, box=None):
        boxes.append((role, frame, box))
        return super().read(role, frame=frame, box=box)


boxes: list = []


def watched(array, voxel_um=(5.0, 2.0, 2.0), **settings):
    boxes.clear()
    plain = image_of(array, voxel_um, **settings)
    return Watched(plain.name, plain.source, plain.voxel_um, plain.roles)


# --- where a cube lies ------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    shift=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    voxel_um=st.sampled_from(
        [(5.0, 2.0, 2.0), (2.5, 1.0, 1.0), (1.0, 0.5, 0.5), (6.0, 1.62, 1.62), (3.0, 3.0, 3.0)]
    ),
)
def test_a_blob_at_a_fraction_of_a_voxel_lies_in_the_middle_of_its_cube(shift, voxel_um):
    shape = tuple(int(np.ceil(80 / voxel)) for voxel in voxel_um)
    at = np.array(shape) // 2 + np.array(shift)
    image = image_of(blob(shape, voxel_um, at * voxel_um), voxel_um)
    cube = cut(image, places(at))[0, ..., 0]
    assert centroid(cube) == pytest.approx((np.array(GEOMETRY.shape) - 1) / 2, abs=0.1)


def test_the_same_object_at_two_voxel_sizes_gives_similar_cubes():
    cubes = []
    for voxel_um in [(5.0, 2.0, 2.0), (2.5, 1.0, 1.0), (1.25, 0.5, 0.5)]:
        shape = tuple(int(90 / voxel) for voxel in voxel_um)
        image = image_of(blob(shape, voxel_um, (45, 45.7, 44.1)), voxel_um)
        cubes.append(raw(cut(image, places(np.array((45, 45.7, 44.1)) / voxel_um))[0, ..., 0]))
    for finer in cubes[1:]:
        assert np.abs(finer - cubes[0]).max() < 0.12 * 800
        assert np.corrcoef(finer.ravel(), cubes[0].ravel())[0, 1] > 0.99


def test_a_cube_holds_as_many_cell_diameters_as_its_extent():
    image = image_of(blob((60, 120, 120), (2.0, 1.0, 1.0), (60, 60, 60), sigma_um=6), (2.0, 1.0, 1.0))
    where = places((30, 60, 60))
    wide, narrow = (cut(image, where, diameter_um=d)[0, 6, 12, :, 0] for d in (20.0, 10.0))
    assert (raw(narrow) > 400).sum() == pytest.approx(2 * (raw(wide) > 400).sum(), abs=2)


def test_a_linear_ramp_is_cut_exactly():
    ramp = np.arange(40.0)[:, None, None] * 3 + np.arange(60.0)[:, None] * 5 + np.arange(60.0) * 7
    image = image_of(ramp.astype("float32"), (3.75, 1.875, 1.875))
    cube = cut(image, places((20.3, 30.6, 29.9)))[0, ..., 0]
    z, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in GEOMETRY.shape], indexing="ij")
    values = (20.3 + z) * 3 + (30.6 + y) * 5 + (29.9 + x) * 7
    assert np.allclose(cube, expected(values), rtol=0, atol=1e-5)
    assert np.abs(cube - expected(values + 0.1 * x)).max() > 1e-2, "control: a slope of 7.1"


def test_places_one_voxel_apart_give_different_cubes():
    image = image_of(np.random.default_rng(0).normal(100, 50, (30, 60, 60)).astype("float32"))
    cubes = cut(image, places((15, 30, 30), (15, 30, 31), (15, 31, 30), (16, 30, 30)))
    for other in cubes[1:]:
        assert np.abs(cubes[0] - other).max() > 0.5


def test_places_a_whole_step_apart_give_shifted_cubes():
    image = image_of(np.random.default_rng(0).normal(100, 50, (30, 60, 60)).astype("float32"), STEP_UM)
    cubes = cut(image, places((15.3, 30, 30), (15.3, 30, 31)))
    gap = raw(cubes[0, :, :, 1:, 0]) - raw(cubes[1, :, :, :-1, 0])
    assert np.ptp(gap) < 1e-5 * PLAIN.spread, "only the quartiles of the two differ"
    assert np.ptp(raw(cubes[0, ..., 0]) - raw(cubes[1, ..., 0])) > PLAIN.spread, "control: not shifted"


# --- border, 2D, time ------------------------------------------------------------


def by_hand(array, place, voxel_um):
    """Interpolate one cube with another program, the edge repeated, and normalise it."""
    along = [
        p + (np.arange(n) - (n - 1) / 2) * step / voxel
        for p, n, step, voxel in zip(place, GEOMETRY.shape, STEP_UM, voxel_um, strict=True)
    ]
    at = np.meshgrid(*along, indexing="ij")
    return expected(map_coordinates(array.astype("float64"), at, order=1, mode="nearest"))


@pytest.mark.parametrize("place", [(0, 0, 0), (-0.4, 19.6, 30), (8.9, 39.3, 49.4), (4.4, 20.1, 25.7)])
def test_cubes_at_the_border_repeat_the_edge(place):
    array = np.random.default_rng(0).integers(50, 900, (10, 40, 50)).astype("uint16")
    inside = np.clip(place, 0, np.array(array.shape) - 1)
    cube = cut(image_of(array), places(inside))[0, ..., 0]
    assert np.allclose(cube, by_hand(array, inside, (5.0, 2.0, 2.0)), rtol=0, atol=1e-5)


def test_no_place_is_dropped_from_an_image_smaller_than_its_cube():
    array = np.random.default_rng(0).integers(50, 900, (3, 5, 4)).astype("uint16")
    cubes = cut(image_of(array), places((0, 0, 0), (2, 4, 3), (1, 2, 2)))
    assert cubes.shape == (3, 12, 24, 24, 3)
    for cube, place in zip(cubes, [(0, 0, 0), (2, 4, 3), (1, 2, 2)], strict=True):
        assert np.allclose(cube[..., 0], by_hand(array, place, (5.0, 2.0, 2.0)), rtol=0, atol=1e-5)


def test_fine_voxels_at_the_border_repeat_the_edge_too():
    flat, corners = np.full((31, 41, 51), 500, "uint16"), np.array([(0, 0, 0), (30, 40, 50)])
    cubes = cut(image_of(flat, (0.5, 0.4, 0.4)), places(*corners))
    assert np.abs(raw(cubes[..., 0])).max() < 0.05
    in_the_dark = cut(image_of(np.pad(flat, 60), (0.5, 0.4, 0.4)), places(*corners + 60))
    assert raw(in_the_dark[..., 0]).max((1, 2, 3)) == pytest.approx([500, 500], rel=1e-3), "control: zeros"


@pytest.mark.parametrize("voxel", [0.4, 2.0])
def test_a_2d_slice_is_one_plane_repeated(voxel):
    plane = np.random.default_rng(0).integers(50, 900, (200, 200)).astype("uint16")
    cube = cut(image_of(plane, (1.0, voxel, voxel)), places((0, 100, 90)))[0]
    assert (cube == cube[:1]).all()
    assert cube[0, ..., 0].std() > 0.05, "control: the plane itself varies"


def test_each_place_is_cut_from_its_own_frame():
    lapse = np.full((5, 4, 30, 30), 100, "uint16")
    lapse[..., 17:] += np.arange(0, 250, 50, dtype="uint16")[:, None, None, None]
    image = image_of(lapse, axes="tzyx")
    cubes = cut(image, places((2, 15, 15), (2, 15, 15), (1, 9, 9), frame=[3, 0, 4]))
    assert np.allclose(raw(cubes[:, 5, 12, 0, 0]), 0, atol=0.01)
    assert np.allclose(raw(cubes[:, 5, 12, -1, 0]), [150, 0, 200], rtol=0, atol=0.01)


# --- channels and normalisation ------------------------------------------------------------


def test_the_channels_are_signal_background_and_presence():
    signal, background = np.full((9, 30, 30), 100, "uint16"), np.full((9, 30, 30), 300, "uint16")
    signal[..., 16:] += 50
    background[:, 16:] += 100
    image = image_of([background, signal], roles=("background", "signal"))
    cube = cut(image, places((4, 15, 15)))[0]
    for channel, height in [(cube[..., 0], 1), (cube[..., 1].swapaxes(1, 2), 2)]:
        assert np.allclose(channel[..., :12], 0) and np.allclose(channel[..., -9:], np.arcsinh(height))
    assert (cube[..., 2] == 1).all()
    alone = cut(image_of(signal), places((4, 15, 15)))[0]
    assert np.array_equal(alone[..., 0], cube[..., 0])
    assert (alone[..., 1:] == 0).all()


@pytest.mark.parametrize(("gain", "offset"), [(3, 100), (1, 60_000)])
def test_gain_and_offset_change_no_cube_even_on_a_very_high_background(gain, offset):
    array = np.random.default_rng(0).poisson(blob((20, 60, 60), (5, 2, 2), (50, 60, 60))).astype("uint16")
    where = places(*np.random.default_rng(1).uniform(0, 19, (20, 3)) * (1, 3, 3))
    cubes = []
    for data in (array, array * gain + offset):
        image = image_of(data)
        cubes.append(cut(image, where, measured=measure_intensities(image, "signal")))
    assert np.abs(cubes[0] - cubes[1]).max() < 1e-5


def noisy(shape=(20, 60, 60), *, peak=600.0):
    """Draw a cell at (10, 30, 30) in voxels of (5, 2, 2) µm, in noise of 10 around 100."""
    noise = np.random.default_rng(0).normal(0, 10, shape)
    return np.rint(blob(shape, (5, 2, 2), (50, 60, 60), peak=peak) + noise).astype("uint16")


def test_the_same_cell_on_a_higher_local_ground_gives_the_same_cube():
    low, high = noisy(), noisy() + 300
    image = image_of(np.concatenate([low, high], axis=2))
    measured = measure_intensities(image, "signal")
    one, other = cut(image, places((10.2, 30.4, 29.7), (10.2, 30.4, 89.7)), measured=measured)[..., 0]
    assert one.max() > np.arcsinh(30), "control: there is a cell"
    assert np.abs(one - other).max() < 1e-5
    by_centre = normalise(low, measured) - normalise(high, measured)
    assert np.abs(by_centre).min() > 0.4, "control: on one ground for all they differ"


def test_a_cell_dimmed_to_a_third_in_an_unchanged_volume_gives_a_dimmer_cube():
    cubes = []
    for peak in (600, 200):
        image = image_of(np.concatenate([noisy(peak=peak), noisy()], axis=2))
        where = places((10, 30, 30), (10, 30, 90))
        cubes.append(cut(image, where, measured=measure_intensities(image, "signal"))[..., 0])
    (bright, beside_bright), (dim, beside_dim) = cubes
    assert dim.max() == pytest.approx(bright.max() - np.log(3), abs=0.15)
    assert np.allclose(beside_dim, beside_bright, atol=0.01), "its neighbour stays as bright"
    by_itself = [np.sinh(cube) / np.sinh(cube).std() for cube in (bright, dim)]
    assert by_itself[0].max() < 1.2 * by_itself[1].max(), "control: each divided by its own spread"


# --- order, memory, batches ------------------------------------------------------------


def test_cubes_come_in_the_order_of_their_places_however_these_are_grouped(monkeypatch):
    array = np.random.default_rng(0).integers(50, 900, (40, 80, 90)).astype("uint16")
    where = places(*np.random.default_rng(1).uniform(0, 39, (300, 3)) * (1, 2, 2))
    whole = cut(image_of(array), where)
    one_by_one = np.concatenate([cut(image_of(array), where.iloc[[k]]) for k in range(0, 300, 17)])
    assert np.array_equal(whole[::17], one_by_one)
    monkeypatch.setattr(blocks, "FEW_VOXELS", 2000)
    monkeypatch.setattr(blocks, "MOST_VOXELS", 60_000)
    parted = watched(array)
    assert np.array_equal(cut(parted, where), whole)
    assert len(boxes) > 10, "control: several blocks"


def test_no_block_is_read_that_is_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(blocks, "FEW_VOXELS", 1000)
    monkeypatch.setattr(blocks, "MOST_VOXELS", 80_000)
    image = watched(np.zeros((60, 200, 200), "uint16"))
    where = places(*np.random.default_rng(1).uniform(0, 59, (500, 3)) * (1, 3, 3))
    assert cut(image, where).shape[0] == 500
    assert max(np.prod([side.stop - side.start for side in box]) for _, _, box in boxes) <= 80_000
    assert 60 * 200 * 200 > 20 * 80_000, "control: the image is much larger"


def test_far_places_do_not_read_what_lies_between():
    image = watched(np.zeros((300, 300, 300), "uint8"))
    cut(image, places((5, 10, 10), (290, 290, 290)))
    assert sum(np.prod([side.stop - side.start for side in box]) for _, _, box in boxes) < 100_000


def test_places_in_one_compressed_plane_share_its_block(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "FEW_VOXELS", 1000)
    deep, where = np.zeros((40, 300, 300), "uint8"), places((20, 10, 10), (20, 290, 290))
    tifffile.imwrite(tmp_path / "a.tif", deep, compression="zlib")
    cut(watched(tmp_path / "a.tif"), where)
    assert len(boxes) == 1
    cut(watched(deep), where)
    assert len(boxes) == 2, "control: in memory each is read for itself"


def test_batches_hold_every_row_once_and_stay_small():
    array = np.random.default_rng(0).integers(50, 900, (20, 60, 60)).astype("uint16")
    where = places(*np.random.default_rng(1).uniform(0, 19, (700, 3)) * (1, 3, 3))
    settings = {"intensities": {"signal": PLAIN}, "diameter_um": 15.0, "geometry": CubeGeometry((4, 6, 6))}
    batches = list(cut_batches(image_of(array), where, **settings))
    assert max(len(rows) for rows, _ in batches) <= 256
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(700))
    whole = cut_cubes(image_of(array), where, **settings)
    for rows, cubes in batches:
        assert np.array_equal(whole[rows], cubes)


def test_no_place_gives_no_cube():
    assert cut(image_of(np.zeros((4, 9, 9), "uint8")), places()).shape == (0, 12, 24, 24, 3)


# --- bad input ------------------------------------------------------------


def refused(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def test_places_that_cannot_be_are_refused():
    image = image_of(np.zeros((4, 9, 9), "uint8"))
    with refused(
        "places: positions must lie inside the image of (4, 9, 9) voxels (z, y, x); row 1 is at (1, 20, 2). "
        "Are the columns swapped, or in µm instead of voxels?"
    ):
        cut(image, places((1, 2, 2), (1, 20, 2)))
    with refused("places: column y must be a finite number; row 0 holds nan. Mend it."):
        cut(image, places((1, np.nan, 2)))
    with refused("places must have the columns frame, z, y, x; frame is missing. Found: z, y, x."):
        cut(image, places((1, 1, 1)).drop(columns="frame"))
    with refused(
        "A place's frame must be one of the image's 1, counted from 0; got frames 0 to 1. "
        "Are the places of another image?"
    ):
        cut(image, places((1, 1, 1), (1, 1, 1), frame=[0, 1]))


def test_intensities_of_every_channel_are_needed():
    image = image_of([np.zeros((4, 9, 9), "uint8")] * 2, roles=("signal", "background"))
    with refused(
        "Cubes need the intensities of every channel that they show; the image has signal, background, "
        "intensities came for signal. Measure them: `measure_intensities(image, 'background')`."
    ):
        cut_cubes(image, places(), intensities={"signal": PLAIN}, diameter_um=15, geometry=GEOMETRY)


@pytest.mark.parametrize(
    ("diameter", "said"), [(0, "0"), (-3, "-3"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_a_diameter_that_cannot_be_is_refused(diameter, said):
    with refused(f"A cell's diameter must be above 0 µm; got {said}. Give it in µm."):
        cut(image_of(np.zeros((4, 9, 9), "uint8")), places((1, 1, 1)), diameter_um=diameter)


@pytest.mark.parametrize(
    ("shape", "extent"),
    [((12, 24), (3, 3, 3)), ((0, 4, 4), (3, 3, 3)), ((4, 4, 4), (3, 0, 3)), ((4, 4, 4), (3, 3))],
)
def test_a_geometry_that_is_no_cube_is_refused(shape, extent):
    lengths = tuple(float(side) for side in extent)
    with refused(
        "A cube needs a shape of three whole numbers of at least 1 and an extent of three lengths above zero "
        f"(z, y, x); got shape {shape} and extent {lengths}. Mend the network's card."
    ):
        CubeGeometry(shape, extent)


def test_a_geometry_from_json_is_the_same():
    assert CubeGeometry([12, 24, 24], [3, 3, 3]) == GEOMETRY  # type: ignore[arg-type]
    assert GEOMETRY.step_um(15.0) == STEP_UM


@pytest.mark.real
def test_cubes_of_real_cells_are_brightest_near_their_middle(real_data):
    table = pd.read_csv(real_data / "cfos" / "1147_centres.csv")
    image = open_image(real_data / "cfos" / "1147_img.tif", voxel_um=(6, 1.62, 1.62))
    where = table[["z", "y", "x"]].assign(frame=0)
    cubes = cut(image, where, diameter_um=10, measured=measure_intensities(image, "signal"))
    mean = cubes[..., 0].mean(0)
    peak = np.unravel_index(np.argmax(mean), mean.shape)
    assert np.abs(np.array(peak) - (np.array(mean.shape) - 1) / 2).max() <= 1.5


def test_as_measured_a_cube_holds_the_images_own_brightness():
    volume = np.random.default_rng(0).integers(100, 200, (12, 40, 40)).astype("uint16")
    image = image_of([volume])
    seen = cut(image, places((6, 20, 20)), as_measured=True)[0, ..., 0]
    normalised = cut(image, places((6, 20, 20)))[0, ..., 0]
    assert seen.min() >= 100 and seen.max() <= 200
    assert normalised.min() < 0, "control: a network sees what lies above the local background"
    assert np.array_equal(np.argsort(seen, axis=None)[-5:], np.argsort(normalised, axis=None)[-5:])
