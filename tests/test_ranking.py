import numpy as np
import pytest

from cellkit.blobs import Blobs, working_grid
from cellkit.ranking import scores, strongest

GRID = working_grid((40, 100, 100), (5.0, 2.0, 2.0), 10.0)


def blobs(centre, *, height=100.0, roundness=1.0, shoulder=False, noise=10.0):
    n = len(centre)
    cells = [-(-s // c) for s, c in zip(GRID.shape, GRID.noise_cell, strict=True)]
    columns = (np.full(n, value) for value in (height, roundness, shoulder))
    return Blobs(
        np.array(centre, float), *columns, np.full(n, 10.0), np.broadcast_to(noise, cells), np.zeros(2)
    )


def test_a_score_is_the_height_over_the_noise():
    one = [(20, 50, 50)]
    assert scores(blobs(one, height=200), GRID) == pytest.approx(2 * scores(blobs(one), GRID))
    assert scores(blobs(one, noise=20), GRID) == pytest.approx(scores(blobs(one), GRID) / 2)


def test_noise_around_a_blob_counts_half_and_that_of_the_image_half():
    noise = np.full([-(-s // c) for s, c in zip(GRID.shape, GRID.noise_cell, strict=True)], 10.0)
    noise[:, :, : noise.shape[2] // 3] = 40
    calm, noisy = scores(blobs([(20, 50, 90), (20, 50, 5)], noise=noise), GRID)
    assert noisy == pytest.approx(calm / 2)


def test_where_there_is_no_noise_at_all_a_quarter_of_the_usual_counts():
    noise = np.full([-(-s // c) for s, c in zip(GRID.shape, GRID.noise_cell, strict=True)], 16.0)
    usual = scores(blobs([(20, 50, 5)], noise=noise), GRID)
    noise[:, :, : noise.shape[2] // 3] = 0
    assert scores(blobs([(20, 50, 5)], noise=noise), GRID) == pytest.approx(2 * usual)


def test_lines_and_shoulders_count_less():
    one = [(20, 50, 50)]
    assert scores(blobs(one, roundness=0.0), GRID) == pytest.approx(0.5 * scores(blobs(one), GRID))
    assert scores(blobs(one, roundness=0.8), GRID) == pytest.approx(scores(blobs(one), GRID))
    assert scores(blobs(one, shoulder=True), GRID) == pytest.approx(0.6 * scores(blobs(one), GRID))


ROW = np.array([(20, 50, 50), (20, 50, 52), (20, 50, 54)], float)


@pytest.mark.parametrize(
    ("score", "kept"), [((3, 2, 1), [0, 2]), ((2, 3, 1), [1]), ((1, 2, 3), [2, 0]), ((2, 2, 2), [0, 2])]
)
def test_only_a_candidate_that_stays_drops_its_weaker_neighbours(score, kept):
    rows = strongest(ROW, np.array(score, float), GRID, min_score=0.5, min_distance=0.5)
    assert rows.tolist() == kept


def test_candidates_need_more_distance_along_z_than_in_the_plane():
    pair = np.array([(20, 50, 50), (21, 50, 50)], float)
    score = np.array([2.0, 1.0])
    assert strongest(pair, score, GRID, min_score=0, min_distance=0.5).tolist() == [0]
    assert strongest(pair * (2, 1, 1), score, GRID, min_score=0, min_distance=0.5).tolist() == [0, 1]
    across = np.array([(20, 50, 50), (20, 50, 53)], float)
    assert strongest(across, score, GRID, min_score=0, min_distance=0.5).tolist() == [0, 1], "control: 6 µm"


def test_weak_candidates_are_dropped():
    rows = strongest(ROW * (1, 1, 9), np.array([1.0, 3.0, 2.0]), GRID, min_score=2, min_distance=0.5)
    assert rows.tolist() == [1, 2]
