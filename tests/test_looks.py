"""What candidates look like makes a batch varied; how wide cubes are, decides what an audit bars."""

import numpy as np
import pytest
from made_up import make_study

from cellkit import annotate
from cellkit.detect import classify
from cellkit.labels import sampling
from cellkit.labels.looks import looks_of
from cellkit.labels.places import barred, cube_sides_um
from cellkit.measuring.guard import leaked
from cellkit.measuring.quality import overlap_groups
from cellkit.networks.card import AS_MEASURED
from cellkit.study import Study
from cellkit.teaching import embedding_store

KINDS = 6


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


def kind_of(table):
    """Say of every candidate which of six kinds it is: of the last five there are two in a hundred each."""
    luck = (table["x"] * 7919 % 1).to_numpy()
    return np.where(luck > 0.9, np.floor((luck - 0.9) * 50 + 1), 0).astype(int)


def see_kinds(monkeypatch):
    """Let the looks of candidates be their kind, with a little noise."""

    def seen(study, places):
        rng = np.random.default_rng(len(places))
        return 5.0 * np.eye(KINDS)[kind_of(places)] + rng.normal(0, 0.05, (len(places), KINDS))

    monkeypatch.setattr(sampling, "looks_of", seen)


@pytest.mark.parametrize("by", ["diverse", "mixed"])
def test_a_batch_holds_kinds_that_only_a_network_tells_apart(study, monkeypatch, by):
    def kinds():
        queues = [annotate.sample(study, 12, by=by, seed=seed) for seed in range(8)]
        chosen = [queue if by == "diverse" else queue[queue["origin"] == "uncertain"] for queue in queues]
        return np.mean([len(set(kind_of(queue))) for queue in chosen])

    without = kinds()
    see_kinds(monkeypatch)
    assert kinds() > {"diverse": 5.5, "mixed": 3}[by]
    assert without < {"diverse": 3.5, "mixed": 2.2}[by], "control: by place and opinion"


def test_what_has_a_label_is_not_drawn_again_in_another_guise(study, monkeypatch):
    see_kinds(monkeypatch)
    table = study.candidates()
    table = table[table["image"] != "animal-3"]
    rare = table[kind_of(table) == 1]

    def again():
        queues = [annotate.sample(study, 3, by="diverse", seed=seed) for seed in range(30)]
        return np.mean([(kind_of(queue) == 1).any() for queue in queues])

    before = again()
    annotate.answer(study, rare.head(5).assign(origin="random"), "cell")
    assert before > 0.3, "control"
    assert again() < before / 2


def test_looks_are_those_of_the_network_that_called(study):
    some = study.candidates().groupby("image").head(5)
    assert looks_of(study, some) is None, "net-a is not there"
    called = some.assign(network="cells-1")
    seen = looks_of(study, called)
    assert seen.shape[0] == 15 and seen.shape[1] > 8
    assert np.isfinite(seen).all() and seen.std(axis=0).max() == pytest.approx(1)
    shuffled = called.sample(frac=1, random_state=0)
    order = called.index.get_indexer(shuffled.index)
    assert looks_of(study, shuffled) == pytest.approx(seen[order], abs=1e-3), "row by row"
    assert looks_of(study, called.assign(network=["cells-1"] * 14 + ["net-a"])) is None, "by one network"


def test_a_batch_is_drawn_by_the_looks_of_a_supplied_network(study, monkeypatch):
    for name in study.names:
        study.save_candidates(name, study.candidates(name).assign(network="cells-1"), made_by={"a": 1})
    asked, embed = [], embedding_store.embed

    def counted(network, image, places, **how):
        asked.append(len(places))
        return embed(network, image, places, **how)

    monkeypatch.setattr(embedding_store, "embed", counted)
    assert len(annotate.sample(study, 10)) == 10
    assert sum(asked) == 70, "ten times the seven that are to differ, and not all candidates"
    classify(study, "cells-1", progress=False)
    asked.clear()
    assert len(annotate.sample(study, 10)) == 10 and asked == [], "what was kept is not looked at again"


def wide(monkeypatch, *, extent=(3.0, 6.0, 6.0), **card):
    """Let the study have a network "net-w" that sees wider cubes."""
    said = {
        "name": "net-w",
        "made_at": "2030",
        "sha256": "0",
        "cube": {"shape": [12, 48, 48], "extent": extent},
    }
    monkeypatch.setattr(Study, "cards", lambda study: [said | card])


def test_what_an_audit_bars_follows_the_cubes_of_the_studys_networks(study, monkeypatch):
    study.save_audit("audit", study.candidates("animal-1").head(3).assign(weight=1.0), {"seed": 0})
    assert cube_sides_um(study) == pytest.approx([45, 45, 45])
    before = barred(study, study.candidates())
    wide(monkeypatch)
    assert cube_sides_um(study) == pytest.approx([45, 90, 90])
    assert cube_sides_um(study, "cells-1") == pytest.approx([45, 45, 45])
    after = barred(study, study.candidates())
    assert after[before].all() and after.sum() > 2 * before.sum()
    wide(monkeypatch, normalisation=AS_MEASURED)
    assert (barred(study, study.candidates()) == before).all(), "control: one that cannot be taught"


def test_a_place_leaks_if_the_networks_own_cube_reaches_what_taught_it(study, monkeypatch):
    table = study.candidates("animal-1")
    taught, at = table.iloc[[0]], table.iloc[[0]][["z", "y", "x"]].to_numpy()
    ids = annotate.answer(study, taught.assign(origin="random"), "cell")
    beside = taught.assign(x=np.where(at[:, 2] < 60, at[:, 2] + 6, at[:, 2] - 6))
    wide(monkeypatch, trained_on={"ids": ids})
    assert leaked(study, beside, "net-w").tolist() == [True], "60 µm, in a cube of 90"
    wide(monkeypatch, trained_on={"ids": ids}, extent=(3.0, 3.0, 3.0))
    assert leaked(study, beside, "net-w").tolist() == [False], "control: in one of 45"


def test_wider_cubes_overlap_in_larger_groups(study, monkeypatch):
    row = study.candidates("animal-1").iloc[[0, 0]].assign(x=[10.0, 16.0], x_um=[100.0, 160.0])
    both = row.assign(z_um=0.0, y_um=0.0).reset_index(drop=True)
    wide(monkeypatch)
    assert len(set(overlap_groups(study, both, "net-w"))) == 1
    assert len(set(overlap_groups(study, both, "cells-1"))) == 2, "control"
