import numpy as np
import pytest

from cellkit.finding.smoothing import Room, cell_means, mirror, pool, reach, smooth, smoothing_steps


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 4000, (24, 30, 36)).astype(np.float32)


@pytest.mark.parametrize("variance", [0.0, 0.1, 0.5, 0.9, 3.3, 8.0, 25.0])
def test_smoothing_spreads_a_point_as_wide_as_asked_and_loses_no_light(variance):
    point = np.zeros((1, 1, 101), np.float32)
    point[0, 0, 50] = 1
    if variance == 0:
        assert smoothing_steps(variance) == []
        return
    spread = smooth(point, (0, 0, variance), Room(), "out")[0, 0].astype(float)
    assert spread.sum() == pytest.approx(1, abs=1e-6)
    assert (np.arange(101) - 50) ** 2 @ spread == pytest.approx(variance, rel=1e-5)
    assert np.flatnonzero(spread)[0] >= 50 - reach(smoothing_steps(variance))


def test_smoothing_does_not_depend_on_where_an_array_was_cut(values, monkeypatch):
    variances = (0.4, 2.3, 3.1)
    margin = [reach(smoothing_steps(v)) for v in variances]
    whole = smooth(values, variances, Room(), "out")
    for length in (7, 1000):
        monkeypatch.setattr("cellkit.finding.smoothing.CHUNK", length)
        cut = smooth(np.ascontiguousarray(values[3:, 2:27, 5:31]), variances, Room(), "out")
        inside = tuple(slice(m, n - m) for m, n in zip(margin, cut.shape, strict=True))
        expected = whole[3:, 2:27, 5:31][inside]
        assert expected.size > 1000, "control: there is an inside"
        np.testing.assert_array_equal(cut[inside], expected)


def test_pooling_averages_whole_boxes(values):
    pooled = np.empty((12, 10, 9), np.float32)
    pool(values.astype(np.uint16), (2, 3, 4), pooled)
    expected = values.reshape(12, 2, 10, 3, 9, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "pads", [[(0, 0), (2, 3), (5, 0)], [(9, 1), (0, 12), (3, 20)]], ids=["short", "long"]
)
def test_a_mirrored_margin_is_that_of_numpy(values, pads):
    small = values[:4, :5, :6]
    padded = np.pad(small, pads, mode="symmetric")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pads, small.shape, strict=True))
    filled = np.zeros_like(padded)
    filled[inside] = small
    mirror(filled, inside)
    np.testing.assert_array_equal(filled, padded)


def test_cells_at_the_end_are_means_of_what_there_is(values):
    means = cell_means(values[:7, :8, :9], (3, 4, 5))
    assert means.shape == (3, 2, 2)
    assert means[0, 0, 0] == pytest.approx(values[:3, :4, :5].mean(), rel=1e-6)
    assert means[2, 1, 1] == pytest.approx(values[6:7, 4:8, 5:9].mean(), rel=1e-6)


def test_a_room_gives_the_same_memory_again():
    room = Room()
    first = room.take("a", (4, 5, 6))
    assert np.shares_memory(first, room.take("a", (2, 5, 6)))
    assert room.take("a", (5, 5, 6)).shape == (5, 5, 6)
    assert not np.shares_memory(first, room.take("b", (4, 5, 6))), "control: another name is another array"
