import numpy as np
import pandas as pd
import pytest

from cellkit.finding.context import crowding, prominence, with_context

SHAPE, VOXEL_UM = (120, 240, 240), (5.0, 2.5, 2.5)  # 60 x 60 x 60 diameters of 10 µm


def table(places, score=10.0, frame=0):
    return pd.DataFrame(np.atleast_2d(places), columns=["z", "y", "x"]).assign(score=score, frame=frame)


def around(places, candidates, shape=SHAPE):
    return crowding(places, candidates, voxel_um=VOXEL_UM, shape=shape, diameter_um=10.0)


def test_it_is_the_log_of_the_density_in_a_box_over_the_usual_one():
    middle = [60.0, 120.0, 120.0]
    near = [[60.0, 120.0, 120.0 + 4 * n] for n in range(1, 5)]  # 1 to 4 diameters away
    far = [[60.0, 120.0, 120.0 + 4 * 9]]
    found = around(table(middle), table([middle, *near, *far]))
    assert found == pytest.approx([np.log((4 + 1) / (16**3 + 100) * 100)], abs=1e-6)


def test_it_is_the_same_for_many_places_as_for_each():
    rng = np.random.default_rng(0)
    many = table(rng.uniform(0, SHAPE, (5000, 3)), score=rng.uniform(3, 30, 5000))
    together = around(many, many)
    some = rng.permutation(5000)[:50]
    assert together[some] == pytest.approx([around(many.iloc[[i]], many)[0] for i in some], abs=1e-6)


def test_weak_candidates_and_the_place_itself_do_not_count():
    middle = [60.0, 120.0, 120.0]
    alone = around(table(middle), table(middle))
    assert around(table(middle), table([middle, [60, 120, 130]], score=[9.0, 3.9])) == alone
    assert around(table(middle), table([middle, [60, 120, 130]], score=[9.0, 4.0])) > alone, "control"
    assert around(table(middle), table([60.1, 120.5, 120.5])) == alone, "a label lies beside its candidate"


def test_an_even_density_is_the_same_at_the_border():
    grid = np.stack(np.meshgrid(*(np.arange(3, n, 6) for n in SHAPE), indexing="ij"), -1).reshape(-1, 3)
    candidates = table(grid.astype(float))
    middle, corner = around(table([[60.0, 120.0, 120.0], [0.0, 0.0, 0.0]]), candidates)
    assert corner == pytest.approx(middle, abs=0.4), "an eighth is seen there: 2.1 less if uncorrected"
    lone = around(table([[60.0, 120.0, 120.0], [0.0, 0.0, 0.0]]), table([30.0, 30.0, 30.0]))
    assert lone[1] > lone[0], "control: less was looked at there"


def test_frames_are_counted_apart():
    candidates = pd.concat([table([60, 120, 120 + 4 * n], frame=n % 2) for n in range(5)])
    places = pd.concat([table([60, 120, 140], frame=0), table([60, 120, 140], frame=1)])
    even, odd = around(places, candidates)
    assert even > odd, "three lie in frame 0, two in frame 1"


def test_a_slice_is_one_diameter_thick():
    places = table([0.0, 120.0, 120.0])
    found = around(places, table([[0.0, 120.0, 120.0], [0.0, 130.0, 120.0]]), shape=(1, 240, 240))
    assert found == pytest.approx([np.log(2 / (256 + 100) * 100)], abs=1e-6)


def test_without_scores_or_candidates_it_is_the_usual_or_less():
    places = table([[60.0, 120.0, 120.0]])
    assert around(places, places.drop(columns="score")) == [0]
    assert around(places, places.iloc[:0]) == pytest.approx([np.log(100 / (16**3 + 100))], abs=1e-6)


def test_prominence_is_the_log_of_the_score_of_the_candidate_there():
    candidates = pd.concat([table([[60, 120, 120], [60, 120, 130]], [20.0, 5.0]), table([9, 9, 9], 3.0, 1)])
    places = pd.concat([table([[60.2, 120.5, 120.5], [60, 120, 125], [9, 9, 9]]), table([9, 9, 9], frame=1)])
    found = prominence(places, candidates, voxel_um=VOXEL_UM, diameter_um=10.0)
    assert found == pytest.approx([np.log(2), 0, 0, np.log(0.3)], abs=1e-6), "2.5 voxels are 0.6 diameters"
    faint = prominence(places.head(1), table([60, 120, 120], -1.0), voxel_um=VOXEL_UM, diameter_um=10.0)
    assert faint == pytest.approx([np.log(0.05)], abs=1e-6)
    unknown = candidates.drop(columns="score")
    assert not prominence(places, unknown, voxel_um=VOXEL_UM, diameter_um=10.0).any()
    assert not prominence(places, candidates.iloc[:0], voxel_um=VOXEL_UM, diameter_um=10.0).any()


def test_with_a_background_the_network_knows_better_how_far_a_place_stands_out():
    places = table([[60.0, 120.0, 120.0], [60.0, 120.0, 130.0]], score=[20.0, 5.0])
    where = {"voxel_um": VOXEL_UM, "shape": SHAPE, "diameter_um": 10.0}
    one = with_context(places, places, roles=["signal"], **where)
    two = with_context(places, places, roles=["signal", "background"], **where)
    assert one["prominence"].to_list() == pytest.approx([np.log(2), np.log(0.5)], abs=1e-6)
    assert two["prominence"].to_list() == [0, 0]
    assert (one["crowding"] == around(places, places)).all() and (two["crowding"] == one["crowding"]).all()
