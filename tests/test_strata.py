import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellkit.estimates import audit_design, stratified_total
from cellkit.measuring.strata import (
    STEPS,
    Shares,
    allocate,
    draw_strata,
    expected_half_width,
    make_strata,
    most_places,
    share_out,
    steps_of,
    top_up,
    with_weights,
)

SIDE = np.array([30.0, 30.0, 30.0])


def frame_of(*animals, n=600, side=2000.0, seed=0):
    """Make candidates of animals given as (name, role) in cubes of this side; `p` as two thirds artefacts."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, role in animals:
        places = rng.random((n, 3)) * side
        part = pd.DataFrame(places[np.argsort(places[:, 0])], columns=["z_um", "y_um", "x_um"])
        p = np.where(rng.random(n) < 2 / 3, rng.beta(0.3, 6, n), rng.beta(6, 0.6, n))
        parts.append(part.assign(image=name, frame=0, p=p, animal=name, role=role))
    return pd.concat(parts, ignore_index=True)


def strata_of(frame, n, train_share=0.3):
    return make_strata(frame, n, shares=Shares(train_share, 0.25), side_um=SIDE)


def draw(frame, n, train_share=0.3, seed=0, random_share=0.25):
    rng = np.random.default_rng(seed)
    return draw_strata(strata_of(frame, n, train_share), random_share=random_share, rng=rng)


def test_the_weights_of_a_stratum_add_up_to_its_candidates():
    frame = frame_of(("a", "train"), ("b", "train"), ("c", "judge"))
    drawn = draw(frame, 300)
    assert len(drawn) == 300
    assert not drawn.duplicated(["image", "z_um", "y_um", "x_um"]).any()
    per = drawn.groupby("stratum").agg(sum=("weight", "sum"), size=("in_stratum", "first"), n=("p", "size"))
    assert np.allclose(per["sum"], per["size"])
    assert per["size"].sum() == len(frame)
    assert per["n"].min() >= 10


def test_an_animal_that_judges_gets_most_and_one_with_enough_places_its_own_strata():
    drawn = draw(frame_of(("a", "train"), ("b", "train"), ("c", "judge")), 300)
    assert (drawn["role"] == "judge").sum() == 210
    groups = set(drawn["stratum"].str.split(",").str[0])
    assert groups == {"a (train)", "b (train)", "c (judge)"}
    few = draw(frame_of(("a", "train"), ("b", "train"), ("c", "judge")), 100)
    assert set(few["stratum"].str.split(",").str[0]) == {"train animals", "c (judge)"}


def test_without_images_that_judge_the_places_are_shared_by_all():
    drawn = draw(frame_of(("a", "train"), ("b", "train")), 200)
    assert drawn["animal"].value_counts().to_dict() == {"a": 100, "b": 100}


def test_undecided_candidates_are_drawn_more_often():
    frame = frame_of(("a", "judge"), n=4000)
    drawn = draw(frame, 400)
    undecided = drawn["p"].between(0.1, 0.9)
    assert drawn.loc[undecided, "weight"].mean() < 0.5 * drawn.loc[~undecided, "weight"].mean()


def test_every_candidate_is_drawn_as_often_as_its_weight_says():
    frame = frame_of(("a", "judge"), n=300)
    times, expected = np.zeros(300), np.zeros(300)
    for seed in range(400):
        drawn = draw(frame, 60, seed=seed)
        rows = frame.reset_index().merge(drawn[["z_um", "weight"]], on="z_um")
        times[rows["index"]] += 1
        expected[rows["index"]] = 400 / rows["weight"]
    z = (times - expected) / np.sqrt(expected)
    assert (expected > 0).all()
    assert abs(z).max() < 4


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    frame = frame_of(("a", "judge"))
    assert draw(frame, 100).equals(draw(frame, 100))
    assert not draw(frame, 100).equals(draw(frame, 100, seed=1))


def test_small_volumes_that_train_are_audited_less_so_that_two_thirds_may_train():
    small = frame_of(("a", "train"), ("c", "judge"), n=1000, side=400.0)
    train = small[small["role"] == "train"]
    k = most_places(train, SIDE)
    assert 20 < k < 120
    drawn = draw(small, 400)
    audited = drawn.loc[drawn["role"] == "train", ["z_um", "y_um", "x_um"]].to_numpy()
    assert len(audited) == k
    gaps = np.abs(train[["z_um", "y_um", "x_um"]].to_numpy()[:, None] - audited[None]) / SIDE
    barred = (gaps.max(axis=2) < 1).any(axis=1).mean()
    assert barred == pytest.approx(1 / 3, abs=0.06)
    assert len(drawn) == 400, "control: the judging animal takes the rest"


def test_an_audit_that_cannot_be_is_refused():
    frame = frame_of(("a", "judge"))
    with pytest.raises(
        ValueError, match=r"^An audit needs at least 40 places; got n = 39\. Ask for .* more\.$"
    ):
        draw(frame, 39)
    message = r"^`train_share` must be from 0 to below 1; got 1\.0\. Leave it out\.$"
    with pytest.raises(ValueError, match=message):
        draw(frame, 40, train_share=1.0)
    with pytest.raises(
        ValueError, match=r"^`random_share` must be from 0 to below 1; got -1\. Leave it out\.$"
    ):
        make_strata(frame, 40, shares=Shares(0.3, -1), side_um=SIDE)


def test_without_a_share_for_training_images_only_judging_ones_are_audited():
    drawn = draw(frame_of(("a", "train"), ("c", "judge")), 100, train_share=0.0)
    assert set(drawn["animal"]) == {"c"}


def test_more_places_than_candidates_draws_all_with_weight_one():
    drawn = draw(frame_of(("a", "judge"), n=120), 300)
    assert len(drawn) == 120
    assert (drawn["weight"] == 1).all()


def test_places_are_shared_evenly_as_far_as_there_are_candidates():
    assert share_out(90, {"a": 10, "b": 500, "c": 500}) == {"a": 10, "b": 40, "c": 40}
    assert share_out(7, {"a": 100, "b": 100}) == {"a": 4, "b": 3}


def test_the_random_part_is_drawn_whatever_p_is_and_counts_in_its_stratum():
    frame = frame_of(("a", "judge"), n=4000)
    drawn = draw(frame, 400)
    random = drawn[drawn["part"] == "random"]
    assert len(random) == 100
    assert random["p"].gt(0.5).mean() == pytest.approx(frame["p"].gt(0.5).mean(), abs=0.15)
    assert (drawn["weight"] * drawn.groupby("stratum")["p"].transform("size") == drawn["in_stratum"]).all()
    alone = draw(frame, 400, random_share=0.0)
    assert set(alone["part"]) == {"stratum"}, "control"


def drawn_twice(frame, n, more, seed):
    strata = strata_of(frame, n)
    rng = np.random.default_rng(seed)
    first = draw_strata(strata, random_share=0.25, rng=rng)
    had = strata["z_um"].isin(first["z_um"]).to_numpy()
    return first, with_weights(pd.concat([first, top_up(strata, had, more, rng)], ignore_index=True))


def test_a_second_draw_takes_no_place_twice_and_its_weights_add_up():
    frame = frame_of(("a", "train"), ("c", "judge"))
    first, both = drawn_twice(frame, 200, 100, seed=0)
    assert len(both) == 300
    assert both["z_um"].is_unique
    assert both["weight"].sum() == pytest.approx(len(frame))
    assert both.groupby("stratum")["weight"].first().le(first.groupby("stratum")["weight"].first()).all()
    more = both.iloc[200:]
    assert (more["role"] == "judge").sum() == pytest.approx(70, abs=1), "shared out as the first draw was"


def test_after_two_draws_the_weighted_share_is_without_bias_and_its_interval_covers():
    frame = frame_of(("a", "judge"), n=1500)
    truth = np.random.default_rng(3).random(len(frame)) < frame["p"] ** 2
    cell = dict(zip(frame["z_um"], truth, strict=True))
    errors, covered = [], []
    for seed in range(150):
        _, both = drawn_twice(frame, 60, 90, seed)
        y = both["z_um"].map(cell).to_numpy(bool)
        found = stratified_total(y, audit_design(both["stratum"].to_numpy(), both["weight"].to_numpy()))
        errors.append(found.value / truth.sum() - 1)
        covered.append(found.low <= truth.sum() <= found.high)
    assert np.mean(errors) == pytest.approx(0, abs=3 * np.std(errors) / np.sqrt(150))
    assert np.mean(covered) >= 0.9
    assert np.std(errors) < 0.12, "control: two draws of a tenth say something"


def test_a_second_draw_ends_where_the_candidates_end():
    frame = frame_of(("a", "judge"), n=120)
    _, both = drawn_twice(frame, 60, 1000, seed=0)
    assert len(both) == 120
    assert (both["weight"] == 1).all()


def test_the_width_that_is_foretold_is_the_width_that_comes_where_p_can_be_believed():
    frame = frame_of(("a", "judge"), n=4000)
    truth = np.random.default_rng(3).random(len(frame)) < frame["p"]
    cell = dict(zip(frame["z_um"], truth, strict=True))
    widths = []
    for seed in range(30):
        drawn = draw(frame, 300, seed=seed)
        y = drawn["z_um"].map(cell).to_numpy(bool)
        found = stratified_total(y, audit_design(drawn["stratum"].to_numpy(), drawn["weight"].to_numpy()))
        widths.append(found.half_width / found.value)
    assert expected_half_width(strata_of(frame, 300)) == pytest.approx(np.mean(widths), rel=0.15)
    assert expected_half_width(strata_of(frame, 1200)) < 0.6 * np.mean(widths), "control: more places"


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=400),
    st.integers(1, 300),
)
def test_strata_are_never_small_and_never_drawn_beyond_their_candidates(p, k):
    p = np.array(p)
    k = min(k, len(p))
    edges = steps_of(p, k)
    assert set(edges) <= set(STEPS)
    stratum = np.digitize(p, edges)
    sizes = np.bincount(stratum, minlength=len(edges) + 1)
    assert not edges or sizes.min() >= 50
    places = allocate(p, stratum, k)
    assert places.sum() == k
    assert (places <= sizes).all()
    assert not edges or places.min() >= 10
