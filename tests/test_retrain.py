import shutil
import threading
from dataclasses import replace
from re import escape

import numpy as np
import pandas as pd
import pytest

from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.card import NetworkCard
from cellkit.networks.fit import FitSettings, TrainingSet
from cellkit.networks.store import load_network, save_network
from cellkit.retrain import continue_training, history, retrain, retrain_head, set_threshold
from cellkit.study import Study, create_study, open_study
from cellkit.teaching.labelled import gather

VOXEL_UM = (5.0, 2.0, 2.0)
SHAPE = (30, 150, 150)
QUICK = FitSettings(epochs=3, batch=16, learning_rate=3e-3)


def paint(rng):
    """A volume with 40 round cells and 40 flat artefacts on a grid, in shuffled order, and where they are."""
    grid = np.stack(np.meshgrid([4, 15, 25], np.arange(12, 140, 27), np.arange(10, 145, 22)), -1).reshape(
        -1, 3
    )
    places = rng.permutation(grid)[:80] + rng.uniform(-1, 1, (80, 3))
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    volume = rng.normal(200, 10, SHAPE)
    for number, (cz, cy, cx) in enumerate(places):
        width = (7, 7, 7) if number < 40 else (3, 3, 25)
        far = sum(
            ((axis - centre) * step / w) ** 2
            for axis, centre, step, w in zip((z, y, x), (cz, cy, cx), VOXEL_UM, width, strict=True)
        )
        volume += 200 * np.exp(-far / 2)
    return volume.astype(np.uint16), places


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A study of three animals, the third judging, with called candidates and a network of its own."""
    folder = tmp_path_factory.mktemp("painted")
    rng = np.random.default_rng(3)
    images, tables = [], {}
    for number, role in enumerate(["train", "train", "judge"]):
        name = f"a{number}"
        volume, places = paint(rng)
        np.save(folder / f"{name}.npy", volume)
        images.append(
            {"name": name, "animal": name, "path": str(folder / f"{name}.npy"), "channels": ["signal"],
             "voxel_um": VOXEL_UM, "role": role}
        )  # fmt: skip
        tables[name] = pd.DataFrame(places, columns=list("zyx")).assign(
            image=name, frame=0, score=1.0, diameter_um=14.0, p=0.5, called=True, network="base"
        )
    study = create_study(folder / "study", images=images, diameter_um=14.0, seed=1)
    for name, table in tables.items():
        study.save_candidates(name, table, made_by={"diameter_um": 14.0, "network": "base"})
    card = NetworkCard("base")
    model = build_classifier(card.shape, ClassifierSettings(stem=8, widths=(8, 16), embedding=16))
    save_network(model, card, study.folder / "networks")
    return study


@pytest.fixture
def study(painted, tmp_path):
    """The painted study with a ledger and networks that only this test writes to."""
    import shutil

    shutil.copytree(painted.folder, tmp_path / "study")
    return open_study(tmp_path / "study")


def tell(study: Study, images=("a0", "a1"), numbers=range(80), origin="random", answer=None):
    """Answer the painted candidates of these numbers as they were painted."""
    rows = []
    for name in images:
        table = study.candidates(name)
        for number in numbers:
            z, y, x = table.loc[number, ["z", "y", "x"]].to_numpy(float) * VOXEL_UM
            rows.append(
                {"image": name, "frame": 0, "z_um": z, "y_um": y, "x_um": x, "origin": origin,
                 "answer": answer or ("cell" if number < 40 else "artefact"), "batch": "1"}
            )  # fmt: skip
    return study.ledger("me").add(rows)


def test_what_may_train_is_gathered_and_what_must_not_is_left_out(study):
    tell(study, numbers=range(10, 70))
    tell(study, images=["a2"], numbers=range(10, 20))
    tell(study, images=["a0"], numbers=[0, 1], answer="unsure")
    base = load_network("base", study.folder / "networks")
    labelled = gather(study, base.card)
    assert set(labelled.places["image"]) == {"a0", "a1"} and len(labelled.places) == 120
    assert labelled.cubes.shape == (120, *base.card.shape)
    assert labelled.targets.sum() == 60
    assert set(labelled.places["side"]) <= {"train", "validation", "gap"}
    audited = tell(study, images=["a0"], numbers=[20], origin="audit")
    assert len(audited) == 1
    fewer = gather(study, base.card).places
    assert len(fewer) == 119, "what is audited is barred, though it was labelled for training before"
    place = study.candidates("a0").loc[20, ["z", "y", "x"]].to_numpy(float) * VOXEL_UM
    distance = np.abs(fewer.loc[fewer["image"] == "a0", ["z_um", "y_um", "x_um"]].to_numpy() - place).max(
        axis=1
    )
    assert distance.min() >= 3 * 14.0


def test_no_training_cube_overlaps_a_held_out_one(study):
    tell(study)
    places = gather(study, NetworkCard("x")).places
    for _, part in places.groupby("image"):
        taught, held_out = (
            part.loc[part["side"] == side, ["z_um", "y_um", "x_um"]].to_numpy()
            for side in ("train", "validation")
        )
        if len(taught) and len(held_out):
            apart = np.abs(taught[:, None] - held_out[None]).max(axis=2)
            assert apart.min() >= 3 * 14.0


def test_the_head_learns_what_the_embedding_holds_and_only_the_last_layer_changes(study):
    tell(study)
    network = retrain_head(study, name="head-1", base="base")
    base = load_network("base", study.folder / "networks")
    for old, new in zip(base.model.get_weights()[:-2], network.model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(old, new)
    assert study.networks() == ["base", "head-1"]
    assert network.card.parents[-1].startswith("base (")
    assert network.card.trained_on["n"] == 160
    assert network.card.metrics["held-out labels"]["f1"]["value"] > 0.7


def test_how_far_a_head_goes_is_chosen_over_animals_where_there_are_several(study, monkeypatch):
    from cellkit.teaching import heads

    asked, real = [], heads.fit_head

    def fit_head(embeddings, targets, weights, groups, **how):
        asked.append(set(groups))
        return real(embeddings, targets, weights, groups, **how)

    monkeypatch.setattr(heads, "fit_head", fit_head)
    tell(study, images=["a0"])
    tell(study, images=["a1"], numbers=range(40))
    retrain_head(study, name="head-1", base="base")
    assert not {"0: a0", "0: a1"} & asked[-1] and len(asked[-1]) > 2, "a1 has cells alone: blocks of space"
    tell(study, images=["a1"], numbers=range(40, 80))
    retrain_head(study, name="head-2", base="base")
    assert asked[-1] == {"0: a0", "0: a1"}


def test_all_layers_learn_and_the_same_labels_and_seed_give_the_same_network(study):
    tell(study)
    said = []
    network = retrain(study, name="net-1", base="base", settings=QUICK, on_epoch=said.append)
    assert [row["epoch"] for row in said] == [1, 2, 3]
    pd.testing.assert_frame_equal(history(study, "net-1"), pd.DataFrame(said), check_dtype=False)
    again = retrain(study, name="net-2", base="base", settings=QUICK)
    for old, new in zip(network.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_where_no_epoch_of_all_layers_is_better_the_network_is_the_head_of_all_labels(study):
    tell(study)
    head = retrain_head(study, name="head-1", base="base")
    learns_nothing = replace(QUICK, epochs=2, learning_rate=1e-12)
    network = retrain(study, name="net-1", base="base", settings=learns_nothing)
    assert list(history(study, "net-1")["kept"]) == [0, 0]
    for taught, kept in zip(head.model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, taught)
    assert network.card.settings["kind"] == "all layers" and "strength" in network.card.settings
    for said in ("threshold", "slope", "offset", "crowding", "prominence", "metrics"):
        assert getattr(network.card, said) == getattr(head.card, said)
    more = continue_training(study, "net-1", epochs=3, learning_rate=3e-3, name="net-2")
    rows = history(study, "net-2")
    assert list(rows["kept"][:2]) == [0, 0] and rows["kept"][2:].any()
    assert more.card.parents[-1].startswith("base ("), "net-1 knows the labels that are held out"
    base = load_network("base", study.folder / "networks")
    shutil.rmtree(base.folder)
    save_network(
        head.model, replace(base.card, versions={}, sha256="", made_at=""), study.folder / "networks"
    )
    other = continue_training(study, "net-1", epochs=1, name="net-3")
    assert other.card.parents[-1].startswith("net-1 ("), "another network has the base's name by now"


def test_a_network_of_that_name_is_opened_and_not_trained_again(study):
    tell(study)
    first = retrain_head(study, base="base")
    assert first.name == "head-1"
    assert retrain_head(study, base="base").card.made_at == first.card.made_at, "the labels are the same"
    assert retrain_head(study, name="head-1", base="base").card.sha256 == first.card.sha256
    tell(study, images=["a0"], numbers=[3], answer="artefact")
    assert retrain_head(study, base="base").name == "head-2", "control: a label has changed"


def test_stop_during_training_keeps_the_best_epoch(study):
    tell(study)
    stop = threading.Event()
    network = retrain(
        study, name="net-1", base="base", settings=QUICK, stop=stop, on_epoch=lambda row: stop.set()
    )
    assert len(history(study, "net-1")) == 1
    assert study.networks()[-1] == network.name == "net-1"


def test_an_interrupt_during_training_keeps_the_best_epoch(study):
    tell(study)

    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    retrain(study, name="net-1", base="base", settings=QUICK, on_epoch=interrupt)
    assert len(history(study, "net-1")) == 2


def test_a_training_that_was_cut_off_goes_on_and_is_no_network_meanwhile(study, monkeypatch):
    tell(study)
    through = retrain(study, name="net-1", base="base", settings=QUICK)

    def cut_off(row):
        if row["epoch"] == 3:
            raise SystemExit

    with pytest.raises(SystemExit):
        retrain(study, name="net-2", base="base", settings=QUICK, on_epoch=cut_off)
    assert len(list((study.folder / "networks" / "net-2" / "checkpoint").glob("epoch-*.npz"))) == 2
    assert study.networks() == ["base", "net-1"]
    seen = []
    again = retrain(study, name="net-2", base="base", settings=QUICK, on_epoch=seen.append)
    assert [row["epoch"] for row in seen] == [1, 2, 3]
    for old, new in zip(through.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert again.card.threshold == through.card.threshold
    assert sorted(path.name for path in again.folder.iterdir()) == [
        "card.json", "held-out.csv", "history.csv", "network.keras",
    ]  # fmt: skip


def test_a_finished_network_is_taught_more_epochs_at_the_rate_that_is_asked(study):
    tell(study)
    retrain(study, name="net-1", base="base", settings=QUICK)
    more = continue_training(study, "net-1", epochs=2, learning_rate=1e-4, name="net-2")
    assert history(study, "net-2")["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert 0 < history(study, "net-2")["learning_rate"].iloc[3:].max() <= 1e-4
    assert more.card.parents[-1].startswith("net-1 (")
    assert more.card.settings["learning_rate"] == 1e-4
    assert (
        more.card.settings["augment"]
        == load_network("net-1", study.folder / "networks").card.settings["augment"]
    )
    assert continue_training(study, "net-1", name="net-2").card.sha256 == more.card.sha256, "it is opened"

    def weight_of(labels):
        return np.where(labels["image"] == "a0", 3, 1)

    weighed = continue_training(study, "net-1", epochs=1, weight_of=weight_of)
    assert weighed.card.trained_on["weights"] == [1, 3] and weighed.name == "net-3"


def test_a_card_says_how_far_the_probabilities_of_the_held_out_labels_can_be_believed(study):
    tell(study)
    network = retrain_head(study, name="head-1", base="base")
    said = network.card.metrics["held-out labels"]["calibration"]
    held_out = pd.read_csv(network.folder / "held-out.csv")
    assert said["labels"] == len(held_out) > 20
    assert 0 <= said["error"] <= 1 and 0 < said["by chance up to"] < 0.5
    curve = said["curve"]
    share = np.average(curve["share"], weights=curve["weight"])
    assert share == pytest.approx(held_out["target"].mean())
    assert list(held_out) == ["label", "group", "target", "p"]
    assert set(held_out["label"]) <= set(study.labels()["id"])


def test_a_threshold_is_set_by_what_a_person_wants_and_the_calls_follow(study):
    from cellkit.detect import classify

    tell(study)
    first = retrain_head(study, name="head-1", base="base")
    classify(study, "head-1")
    sure = set_threshold(study, "head-1", ("precision", 0.9))
    assert study.candidates()["called"].equals(study.candidates()["p"] >= sure.card.threshold)
    n = {}
    surest = float(study.candidates()["p"].nlargest(10).min())
    for aim in ("f1", "count", ("recall", 0.99), surest):
        n[str(aim)] = int(
            (study.candidates()["p"] >= set_threshold(study, "head-1", aim).card.threshold).sum()
        )
    p = study.candidates()["p"]
    assert n["count"] == pytest.approx(p.sum(), abs=1)
    strongest = np.sort(p)[::-1]
    foretold = np.cumsum(strongest) / p.sum()
    assert foretold[n["('recall', 0.99)"] - 1] >= 0.99 > foretold[n["('recall', 0.99)"] - 2], (
        "no more than needed"
    )
    gain = 2 * np.cumsum(strongest) / (np.arange(1, len(p) + 1) + p.sum())
    assert gain[n["f1"] - 1] == pytest.approx(gain.max())
    assert n["f1"] > n[str(surest)]
    card = load_network("head-1", study.folder / "networks").card
    assert card.sha256 == first.card.sha256, "nothing was trained"
    assert card.threshold == surest and card.history[0]["threshold"] == first.card.threshold
    assert [change["then"].split(", ")[1] for change in card.history] == [
        "precision of at least 0.9", "f1", "count", "recall of at least 0.99", "as given",
    ]  # fmt: skip
    message = (
        r"^A threshold is set for one of the study's own networks; got 'cells-1'\. It has base, head-1\.$"
    )
    with pytest.raises(FileNotFoundError, match=message):
        set_threshold(study, "cells-1", "f1")


def test_labels_of_another_study_teach_and_stand_on_the_card(study, painted, tmp_path):
    rng = np.random.default_rng(11)
    volume, places = paint(rng)
    np.save(tmp_path / "b.npy", volume)
    image = {"name": "b", "animal": "b", "path": str(tmp_path / "b.npy"), "channels": ["signal"]}
    other = create_study(tmp_path / "other", images=[image | {"voxel_um": VOXEL_UM}], diameter_um=14.0)
    table = pd.DataFrame(places, columns=list("zyx")).assign(image="b", frame=0, score=1.0, diameter_um=14.0)
    other.save_candidates("b", table, made_by={"diameter_um": 14.0})
    tell(other, images=["b"])
    tell(study)
    network = retrain_head(study, name="head-1", base="base", pools=[other])
    assert network.card.trained_on["pools"] == [{"source": "other", "labels": 80, "positive": 40}]
    alone = retrain_head(study, name="head-2", base="base")
    assert not np.array_equal(network.model.get_weights()[-2], alone.model.get_weights()[-2])
    taught = retrain(
        study, name="net-1", base="base", pools=[other], settings=replace(QUICK, epochs=1, sources="equal")
    )
    assert taught.card.settings["sources"] == "equal" and taught.card.trained_on["pools"][0]["labels"] == 80


def test_a_network_in_any_folder_may_be_the_base(study, tmp_path):
    import shutil

    tell(study)
    shutil.copytree(study.folder / "networks" / "base", tmp_path / "from a colleague")
    for base in (tmp_path / "from a colleague", str(tmp_path / "from a colleague" / "network.keras")):
        network = retrain_head(study, name=f"head-{len(study.networks())}", base=base)
        assert network.card.parents[-1].startswith("base (")


def test_without_labels_of_both_classes_it_says_what_is_missing(study):
    message = (
        r"^Retraining needs labels of both classes in training images; this study has {} and {}\. "
        r"Label more: annotate\.draw_batch\(study, \.\.\.\)\.$"
    )
    with pytest.raises(ValueError, match=message.format("0 cell", "0 artefact")):
        retrain(study, base="base", settings=QUICK)
    tell(study, images=["a0"], numbers=range(10))
    with pytest.raises(ValueError, match=message.format("10 cell", "0 artefact")):
        retrain_head(study, base="base")
    assert study.networks() == ["base"]


def test_a_network_without_history_says_so(study):
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"^A history is kept for networks of which all layers were trained; 'base' has none\. "
            r"This study has the networks base\.$"
        ),
    ):
        history(study, "base")


def test_weights_of_labels_reach_the_training_and_the_card_and_may_be_of_any_column(study, painted):
    tell(study, numbers=range(10, 70))
    asked = []

    def weight_of(labels):
        asked.append(labels)
        return np.where(labels["image"] == "a0", 3, 1)

    labelled = gather(study, NetworkCard("x"), [], weight_of=weight_of)
    assert {"who", "origin", "answer", "at", "image", "side"} <= set(asked[0])
    heavy = labelled.places["image"].to_numpy() == "a0"
    assert np.array_equal(labelled.all_own.weights, np.where(heavy, 3, 1))
    plain = retrain_head(study, base="base")
    weighed = retrain_head(study, base="base", weight_of=weight_of)
    assert (plain.name, weighed.name) == ("head-1", "head-2"), "the labels are the same, the weights are not"
    assert weighed.card.trained_on["weights"] == [1, 3] and plain.card.trained_on["weights"] == [1, 1]
    old, new = (net.model.get_weights()[-2] for net in (plain, weighed))
    assert np.abs(old - new).max() > 1e-4
    assert retrain_head(study, base="base").name == "head-3", "without weights it is another network again"


@pytest.mark.parametrize(
    ("weights", "said"),
    [(np.zeros(120), "120 of shape (120,), the least 0"), (np.ones(3), "3 of shape (3,), the least 1"),
     (np.full(120, np.nan), "120 of shape (120,), the least nan")],
)  # fmt: skip
def test_weights_that_are_none_are_refused(study, weights, said):
    tell(study, numbers=range(10, 70))
    message = (
        f"`weight_of` must give each of 120 labels a number above 0; it gave {said}. "
        "Leave a label out by answering unsure."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        gather(study, NetworkCard("x"), weight_of=lambda labels: weights)


def test_labels_that_people_contradict_count_by_the_newest_answer_and_it_is_said(study):
    tell(study, numbers=range(10, 70))
    assert gather(study, NetworkCard("x")).places["contradicted"].sum() == 0, "control, and no warning"
    table = study.candidates("a0")
    um = table[["z", "y", "x"]].to_numpy() * VOXEL_UM
    rows = table.assign(**dict(zip(["z_um", "y_um", "x_um"], um.T, strict=True)), origin="random", batch="1")
    study.ledger("you").add(rows.iloc[10:16].assign(answer="artefact"))
    message = (
        "6 of 120 labels are contradicted by another person; the newest answer counts. "
        "Look at review.agreements(study), or let some count less by `weight_of`."
    )
    with pytest.warns(UserWarning, match=f"^{escape(message)}$"):
        places = gather(study, NetworkCard("x")).places
    disputed = places[places["contradicted"]]
    assert set(disputed["who"]) == {"you"} and set(disputed["answer"]) == {"artefact"}
    assert np.allclose(np.sort(disputed["x"]), np.sort(table["x"].iloc[10:16]))
    study.ledger("you").add(rows.iloc[10:11].assign(answer="cell"))
    assert gather(study, NetworkCard("x")).places["contradicted"].sum() == 5, "five of 120 are not said aloud"


def test_a_training_set_of_another_geometry_is_refused_as_a_pool(study):
    tell(study, numbers=range(10, 70))
    card = NetworkCard("x")
    cubes = np.zeros((4, 12, 24, 23, 3), np.float16)
    pool = TrainingSet(cubes, np.arange(4) % 2, np.ones(4), np.arange(4))
    message = (
        "A pool's cubes must be those that x sees, (12, 24, 24, 3) voxels; a set has "
        "(12, 24, 23, 3). Cut them with the network's geometry."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        gather(study, card, [pool])
    right = pool._replace(cubes=np.zeros((4, *card.shape), np.float16))
    assert len(gather(study, card, [right]).pools) == 1, "control"


def test_ten_labels_in_one_animal_make_a_head_and_say_how_little_they_hold_out(study):
    tell(study, images=["a0"], numbers=[*range(5), *range(75, 80)])
    network = retrain_head(study, base="base")
    said = network.card.metrics["held-out labels"]
    held_out = pd.read_csv(network.folder / "held-out.csv")
    assert 1 <= len(held_out) < 9 and network.card.trained_on["held out"] == "blocks of space"
    interval = said["recall"]
    assert interval["high"] - interval["low"] > 0.4, "so few labels say next to nothing"
    assert network.card.slope == 1, "the calibration that is there is kept"


def test_ten_labels_in_one_place_are_too_few_places_to_hold_some_out(study):
    at = study.candidates("a0").iloc[[0]]
    um = at[["z", "y", "x"]].to_numpy() * VOXEL_UM
    near = pd.DataFrame(um + 4.0 * np.arange(10)[:, None], columns=["z_um", "y_um", "x_um"]) % 60
    told = near.assign(image="a0", frame=0, origin="random", batch="1", answer=["cell", "artefact"] * 5)
    study.ledger("me").add(told)
    message = (
        "Training and validation need labels from two blocks of space at least; got 10 in one. "
        "Label some farther away."
    )
    for train in (retrain, retrain_head):
        with pytest.raises(ValueError, match=f"^{escape(message)}$"):
            train(study, base="base")
    assert study.networks() == ["base"]
