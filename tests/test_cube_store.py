from dataclasses import replace
from re import escape

import numpy as np
import pandas as pd
import pytest
from made_up import make_study
from test_fit import toy

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.folder.disk import fingerprint
from cellkit.networks import FitSettings, NetworkCard
from cellkit.networks.pool import CubePool, as_pool
from cellkit.networks.stream import check_set, draw_order, pool_sets
from cellkit.pixels.stacks import CubeStack, LabelledStack
from cellkit.teaching.cube_store import keep_cubes
from cellkit.teaching.labelled import gather
from cellkit.teaching.pools import Pool

CARD = NetworkCard("x", cube=CubeGeometry((4, 8, 8)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return make_study(folder / "one", seed=1, n=60), make_study(folder / "two", seed=2, n=60)


@pytest.fixture
def studies(made, tmp_path):
    import shutil

    from cellkit.study import open_study

    return [open_study(shutil.copytree(study.folder, tmp_path / study.folder.name)) for study in made]


def places_of(study, name="animal-1", n=30) -> pd.DataFrame:
    places = study.candidates(name).head(n).reset_index(drop=True)
    um = places[["z", "y", "x"]].to_numpy() * study.voxel_um[name]
    return places.assign(**dict(zip(["z_um", "y_um", "x_um"], um.T, strict=True)))


def tell(study, *, answers=("cell", "artefact"), n=30):
    for name in ("animal-1", "animal-2"):
        places = places_of(study, name, n)
        told = np.array(answers)[np.arange(len(places)) % len(answers)]
        study.ledger("me").add(places.assign(answer=told, origin="random", batch="1"))


# --- cubes on disk ----------------------------------------------------------------------------------


def test_kept_cubes_are_those_that_are_cut_and_are_cut_once(studies, tmp_path, monkeypatch):
    study, _ = studies
    places = pd.concat([places_of(study, "animal-2"), places_of(study)], ignore_index=True)
    kept = keep_cubes(study, places, CARD, tmp_path / "cubes")
    for name, rows in places.groupby("image").indices.items():
        cut = cut_cubes(
            study.image(name), places.iloc[rows], intensities=study.intensities(name), diameter_um=15,
            geometry=CARD.cube,
        )  # fmt: skip
        np.testing.assert_array_equal(kept[rows], cut.astype(np.float16))
    assert kept.dtype == np.float16 and kept.shape == (60, 4, 8, 8, 3)

    def refuse(*_, **__):
        raise AssertionError("it was cut again")

    monkeypatch.setattr("cellkit.teaching.cube_store.cut_batches", refuse)
    order = np.random.default_rng(0).permutation(60)
    again = keep_cubes(study, places.iloc[order], CARD, tmp_path / "cubes")
    np.testing.assert_array_equal(again[:], kept[order])
    for other in (
        lambda: keep_cubes(
            study, places, NetworkCard("x", cube=CubeGeometry((4, 8, 10))), tmp_path / "cubes"
        ),
        lambda: keep_cubes(study, places.assign(z_um=places["z_um"] + 1), CARD, tmp_path / "cubes"),
    ):
        with pytest.raises(AssertionError, match=r"^it was cut again$"):
            other()


def test_only_new_places_are_cut_and_added(studies, tmp_path, monkeypatch):
    study, _ = studies
    places = places_of(study)
    first = keep_cubes(study, places.head(20), CARD, tmp_path / "cubes")
    seen = []
    import cellkit.teaching.cube_store as cube_store

    real = cube_store.cut_batches
    monkeypatch.setattr(
        cube_store,
        "cut_batches",
        lambda image, more, **how: (seen.append(len(more)), real(image, more, **how))[1],
    )
    every = keep_cubes(study, places, CARD, tmp_path / "cubes")
    assert seen == [10]
    np.testing.assert_array_equal(every[:20], first[:])


@pytest.mark.parametrize("which", ["*[0-9a-f].npy", "*.places.npy"])
def test_a_damaged_file_of_cubes_is_cut_anew(studies, tmp_path, which):
    study, _ = studies
    places = places_of(study)
    kept = keep_cubes(study, places, CARD, tmp_path / "cubes")[:]
    path = next(
        path for path in (tmp_path / "cubes").rglob(which) if path.name.count(".") == which.count(".")
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    np.testing.assert_array_equal(keep_cubes(study, places, CARD, tmp_path / "cubes")[:], kept)


def test_a_folder_that_cannot_be_written_says_so(studies, tmp_path):
    study, _ = studies
    (tmp_path / "cubes").write_text("a file where the folder should be")
    message = (
        f"The folder of cubes must be writable; {tmp_path / 'cubes'} is not: Not a directory. Free space or "
        "ask for the right to write, then do the last step again: it was not saved."
    )
    with pytest.raises(OSError, match=f"^{escape(message)}$"):
        keep_cubes(study, places_of(study), CARD, tmp_path / "cubes")


def test_a_pool_of_cubes_reads_like_an_array():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(5, 2, 3, 3, 3)), rng.normal(size=(7, 2, 3, 3, 3))
    both, pool = np.concatenate([one, other]), CubePool.joined([one, as_pool(other)])
    assert pool.shape == both.shape and len(pool) == 12
    mask = rng.random(12) < 0.5
    for rows in (slice(3, 9), [11, 0, 0, 6], mask, np.array([], int)):
        np.testing.assert_array_equal(pool[rows], both[rows])
    np.testing.assert_array_equal(pool.take(mask)[::2], both[mask][::2])


# --- pooled labels ----------------------------------------------------------------------------------


def test_pools_teach_and_only_the_study_itself_judges(studies):
    study, other = studies
    tell(study)
    tell(other, n=20)
    spare = toy(10, 0)
    labelled = gather(study, CARD, [other, spare._replace(cubes=spare.cubes[:, :4, :8, :8])])
    teaching, judging = labelled.teaching, labelled.on("validation")
    assert np.bincount(teaching.sources).tolist() == [len(labelled.on("train").targets), 40, 10]
    assert set(labelled.places["image"]) == {"animal-1", "animal-2"}
    assert len(judging.targets) == (labelled.places["side"] == "validation").sum()
    assert not {str(group) for group in judging.groups} & {str(group) for group in teaching.groups}
    assert check_set(teaching, (4, 8, 8, 3), "training") != check_set(judging, (4, 8, 8, 3), "validation")
    assert (study.folder / "cubes").is_dir() and not (other.folder / "cubes").exists()
    by_path = gather(study, CARD, [other.folder]).teaching
    assert np.array_equal(by_path.targets, gather(study, CARD, [other]).teaching.targets)


def test_a_pool_may_have_one_class_but_not_none(studies):
    study, other = studies
    tell(study)
    tell(other, answers=["unsure"])
    message = f"A pool needs labels that may train; {other.folder.name} has none. Leave it out."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        gather(study, CARD, [other])
    tell(other, answers=["cell"])
    assert gather(study, CARD, [other]).pools[0].targets.min() == 1


def test_a_pool_with_an_image_of_the_study_or_another_task_is_refused(studies, tmp_path):
    study, _ = studies
    tell(study)
    message = (
        "A pool may have no image of the study that it is pooled with: it could teach what an audit "
        f"measures; {study.folder.name} has animal-1, animal-2, animal-3. "
        "Copy its label files into the study instead."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        gather(study, CARD, [study])
    other = make_study(tmp_path / "slices", seed=5, n=5, task="expression")
    message = (
        f"Labels are pooled with those of the same task, cell; {other.folder.name} is for expression. "
        "Leave it out."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        gather(study, CARD, [other])


def test_a_pool_of_stacks_teaches_but_not_with_an_image_of_the_study(studies):
    study, other = studies
    tell(study)
    targets = np.array([1, 0])
    pixels = np.random.default_rng(0).normal(size=(2, 9, 9, 9)).astype(np.float32)
    cubes = CubeStack({"signal": pixels}, (9, 9, 9), (5.0, 5.0, 5.0))
    stack = LabelledStack("m1", cubes, np.full((2, 3), 4.0), targets, 15.0)
    pool = Pool("bundle", "cell", (stack,))
    labelled = gather(study, CARD, [pool])
    assert labelled.sources == ("bundle",) and labelled.pools[0].targets.tolist() == [1, 0]
    key = fingerprint(other.folder / "animal-2.npy")
    assert gather(study, CARD, [replace(pool, images={key: "m1"})]).pools, (
        "control: an image of another study"
    )
    key = fingerprint(study.folder / "animal-2.npy")
    message = (
        "A pool may have no image of the study that it is pooled with: it could teach what an audit "
        "measures; bundle has m1. Copy its label files into the study instead."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        gather(study, CARD, [replace(pool, images={key: "m1"})])


def test_each_source_is_shown_equally_often_or_by_its_size_and_all_are_shuffled():
    sets = [toy(300, 0), toy(60, 1), toy(40, 2, positive=1.0)]
    pooled = pool_sets(sets)
    rng = np.random.default_rng(0)
    by_size = draw_order(pooled, FitSettings(), rng)
    equal = draw_order(pooled, FitSettings(sources="equal"), rng)
    for order in (by_size, equal):
        assert len(order) == 400 and pooled.targets[order].sum() == 200
    shown = np.bincount(pooled.sources[equal]).tolist()
    assert shown == [67 + 100, 66 + 100, 67], "a third of the cells, half of the artefacts"
    assert np.bincount(pooled.sources[by_size])[0] > 1.5 * np.bincount(pooled.sources[by_size])[1]
    assert max(np.diff(np.flatnonzero(pooled.sources[equal] == 2))) < 60, "consecutive batches mix sources"
    plain = draw_order(pooled, FitSettings(balance=None, sources="equal"), rng)
    assert np.bincount(pooled.sources[plain]).tolist() == [133, 134, 133]
    message = "`sources` must be size or equal; got 'luck'. By size, a large pool is shown more often."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        replace(FitSettings(), sources="luck")
