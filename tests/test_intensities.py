import re

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkit.images import open_image
from cellkit.pixels.intensities import Intensities, measure_intensities, normalise

VOXEL = (5.0, 2.0, 2.0)


def tissue(*shape, seed=0, level=300.0, noise=30.0):
    """Make a noisy background with some bright cells."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(level, noise, shape)
    for z, y, x in rng.integers(0, shape, (max(1, volume.size // 4000), 3)):
        volume[z, y : y + 4, x : x + 4] += 10 * noise
    return volume.astype("float32")


def measured(array, **settings):
    return measure_intensities(open_image(array, voxel_um=VOXEL), "signal", **settings)


def test_the_centre_is_the_background_and_the_spread_its_noise():
    found = measured(tissue(20, 200, 200))
    assert found.centre == pytest.approx(300, abs=2)
    assert found.spread == pytest.approx(30, rel=0.05)
    assert 220 < found.low < 240 and 500 < found.high < 700


def deviation(values):
    """Return the robust standard deviation over a whole volume."""
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def test_the_spread_is_that_of_the_noise_not_of_a_slow_gradient():
    flat = tissue(10, 200, 300)
    slope = np.linspace(0, 600, 300) + np.linspace(0, 600, 10)[:, None, None]
    sloped = flat + slope.astype("float32")
    assert measured(sloped).spread == pytest.approx(measured(flat).spread, rel=0.1)
    assert deviation(sloped) > 6 * deviation(flat), "control: over the whole volume the gradient rules"


@pytest.mark.parametrize(("width", "number", "filled"), [(96, 13_000, 0.65), (304, 2000, 0.05)])
def test_the_spread_is_that_of_the_noise_not_of_dense_bright_cells(width, number, filled):
    tissue_alone = tissue(10, 208, 304)
    dense, rng = tissue_alone.copy(), np.random.default_rng(2)
    for z, y, x in rng.integers(0, (10, 204, width - 4), (number, 3)):
        cell = (z, slice(y, y + 4), slice(x, x + 4))
        dense[cell] = tissue_alone[cell] + 900
    assert (dense[..., :width] > 900).mean() == pytest.approx(filled, abs=0.03), "control: how dense"
    assert measured(dense).spread == pytest.approx(measured(tissue_alone).spread, rel=0.1)
    assert dense.std() > 6 * 30, "control: the standard deviation is theirs"
    if width < 100:
        assert deviation(dense) > 1.35 * deviation(tissue_alone), "control: over the whole volume they count"


@pytest.mark.parametrize("empty", [0.3, 0.8])
def test_empty_space_around_a_specimen_counts_nothing_even_if_it_is_most_of_the_image(empty):
    rng, tissue_alone = np.random.default_rng(4), tissue(10, 208, 320)
    edge = int(208 * empty) // 16 * 16
    within = tissue_alone.copy()
    within[:, :edge] = rng.normal(100, 2, within[:, :edge].shape)
    found, alone = measured(within), measured(tissue_alone)
    assert found.spread == pytest.approx(alone.spread, rel=0.1)
    assert found.centre == pytest.approx(alone.centre, rel=0.05)
    assert (np.abs(within - 100) < 10).mean() > 0.95 * edge / 208, "control: so much is empty"


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.1, 50), offset=st.floats(-1000, 1000), seed=st.integers(0, 5))
def test_gain_and_offset_of_the_microscope_change_no_normalised_value(gain, offset, seed):
    volume = tissue(6, 64, 64, seed=seed).astype("float64")
    changed = volume * gain + offset
    before, after = volume.astype("float32"), changed.astype("float32")
    a = normalise(before, measured(before))
    b = normalise(after, measured(after))
    assert np.allclose(a, b, atol=2e-3 * (1 + abs(offset) / gain / 100))


def test_three_times_plus_hundred_changes_normalised_values_by_less_than_a_hundred_thousandth():
    volume = tissue(12, 120, 120).astype("uint16")
    a, b = normalise(volume, measured(volume)), normalise(volume * 3 + 100, measured(volume * 3 + 100))
    assert np.abs(a - b).max() < 1e-5
    assert np.abs(a - normalise(volume * 3 + 100, measured(volume))).max() > 1, "control: one for both"


@pytest.mark.parametrize("padding", [0, 77])
def test_padding_however_large_does_not_count(padding):
    inside = tissue(20, 160, 160)
    padded = np.pad(inside, [(0, 0), (200, 200), (200, 200)], constant_values=padding)
    found, alone = measured(padded), measured(inside)
    assert np.median(padded) == padding, "control: most voxels are padding"
    assert found.centre == pytest.approx(alone.centre, abs=0.5 * alone.spread)
    assert found.spread == pytest.approx(alone.spread, rel=0.1), "tiles on its edge still count"
    assert deviation(padded) == 0, "control: over the whole volume there is no noise"


def test_the_smooth_space_around_a_specimen_counts_little():
    inside = tissue(20, 160, 160)
    around = np.random.default_rng(1).normal(100, 3, (20, 240, 240)).astype("float32")
    around[:, 40:200, 40:200] = inside
    found = measured(around)
    assert np.median(around) < 120, "control: most voxels lie outside"
    assert found.centre == pytest.approx(300, abs=0.5 * 30)
    assert found.spread == pytest.approx(measured(inside).spread, rel=0.1)
    assert deviation(around) < 0.5 * 30, "control: over the whole volume it is too small"


def test_the_same_seed_gives_the_same_and_another_nearly_the_same():
    volume = tissue(80, 200, 200)
    first, again, other = measured(volume), measured(volume), measured(volume, seed=1)
    assert first == again
    assert first != other, "control: the seed chooses the sample"
    assert other.centre == pytest.approx(first.centre, abs=1) and other.spread == pytest.approx(
        first.spread, rel=0.05
    )


def test_a_noiseless_background_still_has_a_spread():
    volume = np.full((10, 64, 64), 100, dtype="uint16")
    volume[5, 20:25, 20:25] = 900
    found = measured(volume)
    assert found.centre == 100 and found.spread > 0


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 200, 30), (3, 17, 15)])
def test_small_images_are_measured_whole(shape):
    volume = np.random.default_rng(0).normal(100, 10, shape).astype("float32")
    assert measured(volume) == measured(volume, seed=7)
    assert measured(volume).centre == pytest.approx(100, abs=5)


def test_each_channel_and_frame_counts_for_itself():
    both = [tissue(8, 64, 64), tissue(8, 64, 64, level=900, noise=90)]
    image = open_image(both, voxel_um=VOXEL, roles=("signal", "background"))
    signal, background = (measure_intensities(image, role) for role in ("signal", "background"))
    assert (signal.centre, background.centre) == pytest.approx((300, 900), rel=0.03)
    assert (signal.spread, background.spread) == pytest.approx((30, 90), rel=0.05)
    lapse = open_image(np.concatenate(both), voxel_um=VOXEL, axes="tyx")
    assert 300 < measure_intensities(lapse, "signal").centre < 900


def test_a_compressed_file_gives_the_same_as_its_array(tmp_path):
    volume = tissue(12, 100, 120).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", volume, compression="zlib")
    assert measured(tmp_path / "a.tif") == measured(volume)


def test_a_constant_image_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^A channel needs more than one value to be normalised; the signal channel is 7 everywhere "
        r"\(spread 0\)\. Is it the right channel, and was it exported whole\?$",
    ):
        measured(np.full((4, 40, 40), 7, "uint8"))


def test_intensities_that_cannot_normalise_are_refused():
    message = (
        "Intensities need finite numbers, a spread above zero and low <= high; got centre 1, spread 0, "
        "low 0, high 2. Measure them again with `measure_intensities`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Intensities(1, 0, 0, 2)


def test_intensities_survive_json():
    found = Intensities(1.5, 2.0, 0.0, 9.0)
    assert Intensities(**found.as_dict()) == found


def test_normalised_values_keep_their_order_and_are_linear_near_the_background():
    values = np.array([0, 90, 100, 110, 1000, 65535], dtype="uint16")
    normalised = normalise(values, Intensities(100, 100, 0, 1))
    assert normalised.dtype == np.float32
    assert (np.diff(normalised) > 0).all()
    assert normalised[1:4] == pytest.approx([-0.1, 0, 0.1], abs=1e-3)


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["cfos/969_img", "cfos/1147_img", "cfos/753_img", "two_channel_brain/signal"]
)
def test_real_background_lies_below_the_cells_and_hardly_depends_on_the_seed(real_data, name):
    image = open_image(real_data / f"{name}.tif", voxel_um=VOXEL)
    first, other = (measure_intensities(image, "signal", seed=seed) for seed in (0, 1))
    whole = image.read()
    assert np.percentile(whole, 20) < first.centre < np.percentile(whole, 80)
    assert first.centre == pytest.approx(other.centre, rel=0.05)
    assert first.spread == pytest.approx(other.spread, rel=0.1)
