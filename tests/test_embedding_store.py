import shutil
import tracemalloc
from dataclasses import replace
from re import escape

import numpy as np
import pandas as pd
import pytest
from made_up import make_study

from cellkit.annotate import similar
from cellkit.cubes import CubeGeometry
from cellkit.detect import classify
from cellkit.networks import Network, NetworkCard, embed, load_network, predict, replace_head, save_network
from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.heads import Head, head_of, logits_of
from cellkit.retrain import retrain_head
from cellkit.study import open_study
from cellkit.teaching import embedding_store
from cellkit.teaching.embedding_store import call_all, call_places, embeddings_at

CARD = NetworkCard("base", cube=CubeGeometry((4, 8, 8)), slope=0.7, offset=-0.3)
IMAGE = "animal-1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("made") / "study", seed=1, n=90)


@pytest.fixture
def study(made, tmp_path):
    return open_study(shutil.copytree(made.folder, tmp_path / "study"))


def body(seed: int = 0):
    model = build_classifier(CARD.shape, ClassifierSettings(stem=8, widths=(8,), embedding=8, seed=seed))
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def bodies():
    return [body(seed) for seed in range(3)]


def network(model, seed: int | None = None) -> Network:
    """Return a network of this body; with a seed, one of another last layer."""
    if seed is not None:
        model = replace_head(model, Head(np.random.default_rng(seed).normal(size=11).astype("f4"), 0.1, 1.0))
    made = Network(CARD, "")
    made.model = model
    return made


@pytest.fixture
def looks(monkeypatch):
    """Count the candidates that a network looks at."""
    seen = []
    real_scored, real_embed = embedding_store.scored, embedding_store.embed

    def scored(network, image, places, **how):
        seen.append(len(places))
        return real_scored(network, image, places, **how)

    def embed_(network, image, places, **how):
        seen.append(len(places))
        return real_embed(network, image, places, **how)

    monkeypatch.setattr(embedding_store, "scored", scored)
    monkeypatch.setattr(embedding_store, "embed", embed_)
    return seen


def test_where_all_is_kept_no_network_is_loaded(study, tmp_path, monkeypatch):
    save_network(body(), CARD, tmp_path)
    p = call_all(study, IMAGE, load_network(tmp_path / "base"))

    def load(*_):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr("cellkit.networks.store.load_model", load)
    again, places = load_network(tmp_path / "base"), study.candidates(IMAGE).head(7)
    assert np.array_equal(call_all(study, IMAGE, again), p)
    assert np.array_equal(call_places(study, again, places), p[:7])
    assert embeddings_at(study, again, places).shape == (7, 11)
    written = study.folder / "embeddings" / "networks.json"
    for damaged in ("{", '{"x": 1}', "[]"):
        written.write_text(damaged)
        with pytest.raises(AssertionError, match=r"^a network was loaded$"):
            call_all(study, IMAGE, again)


def asked(study, net, places=None) -> np.ndarray:
    """Return p as a network says it of cubes that are cut now."""
    places = study.candidates(IMAGE) if places is None else places
    return predict(net, study.image(IMAGE), places, **how(study))


def how(study) -> dict:
    return {"intensities": study.intensities(IMAGE), "diameter_um": study.settings.diameter_um}


def test_another_last_layer_calls_all_candidates_without_a_cube_and_as_it_would_with_them(
    study, bodies, looks
):
    first, other = network(bodies[0]), network(bodies[0], seed=5)
    told = []
    p = call_all(study, IMAGE, first)
    assert looks == [90]
    again = call_all(study, IMAGE, other, progress=lambda done, of: told.append((done, of)))
    assert looks == [90], "control: the second looked at none"
    assert told == [(90, 90)]
    assert np.array_equal(p, asked(study, first))
    assert np.array_equal(again, asked(study, other))
    assert np.abs(again - p).max() > 0.05, "control: it is another"


def test_what_is_kept_is_not_used_for_another_body_other_candidates_or_another_way_of_cutting(
    study, bodies, looks
):
    call_all(study, IMAGE, network(bodies[0]))
    call_all(study, IMAGE, network(bodies[1]))
    assert looks == [90, 90]
    steady = network(bodies[0])
    steady.flips = True
    call_all(study, IMAGE, steady)
    assert looks == [90, 90, 90], "mirror images too"
    call_all(study, IMAGE, network(bodies[0]))
    assert len(looks) == 4
    fewer = study.candidates(IMAGE).iloc[::-1].reset_index(drop=True)
    study.save_candidates(IMAGE, fewer, made_by={})
    turned = call_all(study, IMAGE, network(bodies[0]))
    assert len(looks) == 5
    assert np.array_equal(turned, asked(study, network(bodies[0])))
    study.settings = replace(study.settings, diameter_um=18.0)
    call_all(study, IMAGE, network(bodies[0]))
    assert len(looks) == 6


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-44])


def flip_a_bit(path):
    kept = bytearray(path.read_bytes())
    kept[100] ^= 1
    path.write_bytes(kept)


def no_json(path):
    path.with_suffix(".json").write_text("{")


def a_list(path):
    path.with_suffix(".json").write_text("[]")


def lose(path):
    path.unlink()


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, no_json, a_list, lose], ids=lambda f: f.__name__)
def test_a_damaged_file_is_made_anew(study, bodies, looks, damage):
    net = network(bodies[0])
    p = call_all(study, IMAGE, net)
    path = study.folder / "embeddings" / net.body / f"{IMAGE}.float32"
    damage(path)
    some = study.candidates(IMAGE).iloc[[70, 3]]
    at = embeddings_at(study, net, some)
    assert looks == [90, 2], "places are looked at, and nothing is believed of the file"
    assert np.array_equal(call_all(study, IMAGE, net), p)
    assert looks == [90, 2, 90]
    assert np.array_equal(embeddings_at(study, net, some), at)
    assert looks == [90, 2, 90], "control: now it is whole"


def test_the_folder_may_be_deleted(study, bodies, looks):
    p = call_all(study, IMAGE, network(bodies[0]))
    shutil.rmtree(study.folder / "embeddings")
    assert np.array_equal(call_all(study, IMAGE, network(bodies[0])), p)
    assert looks == [90, 90]


def test_two_bodies_stay_and_images_that_went_do_not(study, bodies):
    home = study.folder / "embeddings"
    nets = [network(model) for model in bodies]
    for net in nets[:2]:
        call_all(study, IMAGE, net)
    call_all(study, IMAGE, nets[0])
    (home / nets[2].body).mkdir()
    (home / nets[2].body / "gone.float32").write_bytes(b"")
    (home / nets[2].body / "gone.json").write_text("{}")
    call_all(study, IMAGE, nets[2])
    assert {path.name for path in home.iterdir()} == {nets[0].body, nets[2].body}, (
        "the last two that were used"
    )
    assert sorted(path.name for path in (home / nets[2].body).iterdir()) == [
        f"{IMAGE}.float32", f"{IMAGE}.json",
    ]  # fmt: skip


def test_a_full_disk_costs_the_embeddings_and_no_call(study, bodies, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    net = network(bodies[0])
    home = study.folder / "embeddings"
    message = (
        f"Embeddings could not be kept in {home}: No space left on device. All candidates are called; "
        "the next head will have to look at them again. Free space."
    )
    for act in ("_write", "_finish"):
        monkeypatch.setattr(embedding_store, act, full)
        with pytest.warns(UserWarning, match=f"^{escape(message)}$"):
            p = call_all(study, IMAGE, net)
        assert np.array_equal(p, asked(study, net))
        assert list((home / net.body).iterdir()) == []
        monkeypatch.undo()
    home.rename(study.folder / "aside")
    home.write_text("a file where the folder should be")
    with pytest.warns(
        UserWarning, match=f"^{escape(message.replace('No space left on device', 'Not a directory'))}$"
    ):
        assert np.array_equal(call_all(study, IMAGE, net), p)


def test_what_a_killed_process_left_is_cleared(study, bodies):
    net = network(bodies[0])
    left = study.folder / "embeddings" / net.body / f".{IMAGE}.float32.1.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(100))
    call_all(study, IMAGE, net)
    assert not left.exists()


def test_kept_embeddings_are_found_by_place_and_others_are_made(study, bodies, looks):
    net = network(bodies[0])
    call_all(study, IMAGE, net)
    candidates = pd.concat([study.candidates(IMAGE).iloc[[50, 3, 77]], study.candidates("animal-2").iloc[:2]])
    voxel = np.array(study.voxel_um[IMAGE])
    um = candidates[["z", "y", "x"]].to_numpy() * voxel
    candidates[["z", "y", "x"]] = um / voxel
    moved = candidates.iloc[[1]].assign(x=candidates["x"].iloc[1] * 0.9)
    places = pd.concat([candidates, moved], ignore_index=True)
    found = embeddings_at(study, net, places)
    assert looks[1:] == [1, 2], "the moved one, and those of an image that was not called"
    for name, rows in places.groupby("image").indices.items():
        _, made = embed(net, study.image(name), places.iloc[rows], **how(study))
        np.testing.assert_allclose(found[rows], made, atol=1e-5)
    assert np.abs(found[5] - found[1]).max() > 1e-3, "control: the place matters"
    here = places[places["image"] == IMAGE]
    assert call_places(study, net, here) == pytest.approx(asked(study, net, here), abs=1e-6)


def test_what_looks_alike_is_looked_at_once(study, looks):
    classify(study, "cells-1", progress=False)
    seen = len(looks)
    shutil.rmtree(study.folder / "embeddings")
    like = study.candidates(IMAGE).iloc[[0]]
    first = similar(study, like, n=5)
    assert looks[seen:] == [len(study.candidates(name)) for name in ("animal-1", "animal-2")]
    assert similar(study, like, n=5)["x"].tolist() == first["x"].tolist()
    assert len(looks) == seen + 2, "embeddings are kept"


def test_a_last_layer_that_is_not_linear_is_asked_as_before(study, bodies, looks):
    import keras

    model = bodies[0]
    bent = keras.layers.Dense(1, activation="relu", name="bent")(model.get_layer("embedding").output)
    net = network(keras.Model(model.inputs, bent))
    assert head_of(model) is not None and head_of(net.model) is None
    assert np.array_equal(call_all(study, IMAGE, net), asked(study, net))
    assert np.array_equal(call_places(study, net, study.candidates(IMAGE)), asked(study, net))
    assert looks == [] and not (study.folder / "embeddings").exists()


def test_a_linear_last_layer_says_the_same_of_a_row_alone_and_among_others():
    rng = np.random.default_rng(0)
    embeddings, head = rng.normal(size=(5000, 67)).astype(np.float32), (rng.normal(size=67), 0.3)
    every = logits_of(embeddings, head)
    assert every == pytest.approx(embeddings @ head[0] + 0.3, abs=1e-5)
    assert np.array_equal([logits_of(embeddings[[row]], head)[0] for row in range(0, 5000, 50)], every[::50])


def test_memory_beyond_the_answers_does_not_grow_with_the_candidates(study, bodies):
    net, peaks = network(bodies[0]), []
    table = study.candidates(IMAGE)
    for times in (20, 400):
        study.save_candidates(IMAGE, pd.concat([table] * times, ignore_index=True), made_by={})
        call_all(study, IMAGE, net)
        tracemalloc.start()
        call_all(study, IMAGE, net)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 34_200 * 300, "some columns a candidate, no cube"


def test_a_head_is_the_same_with_and_without_what_is_kept(study, bodies, looks):
    save_network(bodies[0], CARD, study.folder / "networks")
    for name in ("animal-1", "animal-2"):
        table = study.candidates(name)
        um = table[["z", "y", "x"]].to_numpy() * study.voxel_um[name]
        told = table.assign(
            **dict(zip(["z_um", "y_um", "x_um"], um.T, strict=True)), origin="random", batch="1"
        )
        study.ledger("me").add(told.assign(answer=np.where(table["cell"], "cell", "artefact")))
    made_now = retrain_head(study, name="head-1", base="base")
    without = sum(looks)
    classify(study, "base", progress=False)
    looks.clear()
    kept = retrain_head(study, name="head-2", base="base")
    calls = classify(study, "head-2", progress=False)
    assert looks == [] and without >= 180, "control: without, every label was looked at"
    there = load_network("head-1", study.folder / "networks")
    assert calls.loc[calls["image"] == IMAGE, "p"].to_numpy() == pytest.approx(asked(study, there), abs=1e-4)
    assert kept.card.threshold == pytest.approx(made_now.card.threshold, abs=1e-4)
