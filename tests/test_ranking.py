import numpy as np
import pytest

from cellkit.finding.blobs import Blobs
from cellkit.finding.grids import working_grid
from cellkit.finding.plateaus import Plateaus
from cellkit.finding.ranking import Noise, image_noise, scores, strongest

GRID = working_grid((40, 100, 100), (5.0, 2.0, 2.0), 10.0)


def blobs(centre, *, height=100.0, roundness=1.0, shoulder=False, noise=10.0, plateau=-1):
    n = len(centre)
    cells = [-(-s // c) for s, c in zip(GRID.shape, GRID.noise_cell, strict=True)]
    columns = (np.full(n, value) for value in (height, roundness, shoulder))
    shown = np.full(n, 10.0), np.broadcast_to(noise, cells), np.zeros(2)
    none = np.zeros(1), np.zeros((0, 4)), np.zeros((0, 2), int)
    return Blobs(np.array(centre, float), *columns, *shown, np.full(n, plateau), *none)


NOISE = Noise(np.full([-(-s // c) for s, c in zip(GRID.shape, GRID.noise_cell, strict=True)], 10.0), 10.0)


def scored(centre, *, noise=10.0, **columns):
    cells = np.broadcast_to(noise, NOISE.around.shape)
    return scores(blobs(centre, **columns), image_noise(cells), GRID)


def test_a_score_is_the_height_over_the_noise():
    one = [(20, 50, 50)]
    assert scored(one, height=200) == pytest.approx(2 * scored(one))
    assert scored(one, noise=20) == pytest.approx(scored(one) / 2)


def test_noise_around_a_blob_counts_half_and_that_of_the_image_half():
    noise = np.full(NOISE.around.shape, 10.0)
    noise[:, :, : noise.shape[2] // 3] = 40
    calm, noisy = scored([(20, 50, 90), (20, 50, 5)], noise=noise)
    assert noisy == pytest.approx(calm / 2)


def test_where_there_is_no_noise_at_all_a_quarter_of_the_usual_counts():
    noise = np.full(NOISE.around.shape, 16.0)
    usual = scored([(20, 50, 5)], noise=noise)
    noise[:, :, : noise.shape[2] // 3] = 0
    assert scored([(20, 50, 5)], noise=noise) == pytest.approx(2 * usual)


def test_lines_and_shoulders_count_less():
    one = [(20, 50, 50)]
    assert scored(one, roundness=0.0) == pytest.approx(0.5 * scored(one))
    assert scored(one, roundness=0.8) == pytest.approx(scored(one))
    assert scored(one, shoulder=True) == pytest.approx(0.6 * scored(one))


NONE = Plateaus(np.zeros((0, 3)), np.zeros(0))
ROW = np.array([(20, 50, 50), (20, 50, 52), (20, 50, 54)], float)


def kept(centre, score, *, least=0.0, apart=0.5):
    """Return which of these blobs are kept, strongest first; each is a part of its own."""
    usual = scores(blobs(centre), NOISE, GRID)
    parts = [blobs([c], height=100 * s / u) for c, s, u in zip(centre, score, usual, strict=True)]
    table = strongest(parts, NOISE, GRID, plateaus=NONE, least=least, apart=apart)
    assert table["score"].is_monotonic_decreasing
    places = table[["z", "y", "x"]].to_numpy()
    return [int(np.flatnonzero((centre == place).all(axis=1))[0]) for place in places]


@pytest.mark.parametrize(
    ("score", "expected"), [((3, 2, 1), [0, 2]), ((2, 3, 1), [1]), ((1, 2, 3), [2, 0]), ((2, 2, 2), [0, 2])]
)
def test_only_a_candidate_that_stays_drops_its_weaker_neighbours(score, expected):
    assert kept(ROW, score) == expected


def test_candidates_need_more_distance_along_z_than_in_the_plane():
    pair = np.array([(20, 50, 50), (21, 50, 50)], float)
    assert kept(pair, (2, 1)) == [0]
    assert kept(pair * (2, 1, 1), (2, 1)) == [0, 1]
    across = np.array([(20, 50, 50), (20, 50, 53)], float)
    assert kept(across, (2, 1)) == [0, 1], "control: 6 µm"


def test_weak_candidates_are_dropped():
    assert kept(ROW * (1, 1, 1.5), (1, 3, 2), least=1.5, apart=0.1) == [1, 2]


def test_empty_space_around_a_specimen_is_not_its_noise():
    tissue = np.full(NOISE.around.shape, 16.0)
    tissue += np.random.default_rng(0).uniform(-1, 1, tissue.shape)
    alone, within = image_noise(tissue), tissue.copy()
    within[:, :, : within.shape[2] * 7 // 10] = 0.5
    assert image_noise(within).usual == pytest.approx(alone.usual, rel=0.02)
    assert np.median(within) == 0.5, "control: most of the image is empty"


def test_a_few_noisy_places_make_no_empty_space_of_the_rest():
    rng = np.random.default_rng(0)
    noise = rng.uniform(1, 2, NOISE.around.shape)
    flat = image_noise(noise).usual
    for z, y, x in rng.integers(0, noise.shape, (noise.size // 50, 3)):
        noise[z : z + 2, y, x] = 500
    assert noise[noise > 100].sum() > 5 * noise[noise < 100].sum(), "control: of all noise most is there"
    assert image_noise(noise).usual == pytest.approx(flat, rel=0.05)
