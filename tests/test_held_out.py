from re import escape
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cellkit.retrain import compare_held_out


@pytest.fixture
def study(tmp_path):
    return SimpleNamespace(network_folder=lambda name: tmp_path / name, networks=lambda: ["head-1", "net-1"])


def keep(study, name, p, target, *, groups=40, first=0):
    folder = study.network_folder(name)
    folder.mkdir()
    n = len(p)
    table = pd.DataFrame({"label": [f"{first + k}" for k in range(n)], "group": np.arange(n) % groups})
    table.assign(target=target, p=p).to_csv(folder / "held-out.csv", index=False)


def told(right, target, rng):
    """Return p of a network that is right on this share of the labels."""
    return np.where(rng.random(len(target)) < right, 0.2 + 0.6 * target, 0.8 - 0.6 * target)


def test_a_clearly_better_network_is_called_better_and_an_equal_one_is_not(study):
    rng = np.random.default_rng(5)
    target = (np.arange(200) % 2).astype(float)
    keep(study, "head-1", told(0.8, target, rng), target)
    keep(study, "net-1", told(0.97, target, rng), target)
    keep(study, "net-2", told(0.8, target, rng), target)
    found = compare_held_out(study, "head-1", "net-1")
    called, true = pd.read_csv(study.network_folder("net-1") / "held-out.csv")["p"] >= 0.5, target == 1
    f1 = 2 * np.sum(called & true) / (np.sum(called) + np.sum(true))
    assert found.table["f1"].tolist()[1] == pytest.approx(f1)
    assert 0 < found.low < found.difference < found.high
    assert found.said.startswith("net-1 is better than head-1: F1 differs by +0.")
    other_way = compare_held_out(study, "net-1", "head-1").said
    assert other_way.startswith("net-1 is better than head-1: F1 differs by -0.")
    equal = compare_held_out(study, "head-1", "net-2")
    assert equal.low < 0 < equal.high
    assert equal.said.endswith("on 200 held-out labels. The one that is quicker to train is enough.")


def test_the_interval_of_the_difference_covers_nothing_19_times_in_20(study):
    rng, covered = np.random.default_rng(1), 0
    target = (np.arange(120) % 2).astype(float)
    for k in range(100):
        keep(study, f"a{k}", told(0.85, target, rng), target)
        keep(study, f"b{k}", told(0.85, target, rng), target)
        found = compare_held_out(study, f"a{k}", f"b{k}")
        covered += found.low <= 0 <= found.high
    assert 88 <= covered <= 100


def test_only_labels_that_both_were_held_out_from_count(study):
    rng = np.random.default_rng(2)
    target = (np.arange(60) % 2).astype(float)
    keep(study, "head-1", told(0.9, target, rng), target)
    keep(study, "net-1", told(0.9, target, rng), target, first=40)
    assert compare_held_out(study, "head-1", "net-1").table["labels"].tolist() == [20, 20]
    keep(study, "net-2", told(0.9, target, rng), target, first=100)
    message = (
        "Two networks are compared on labels that both were held out from; head-1 and net-2 share none. "
        "Train both on the labels of today."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        compare_held_out(study, "head-1", "net-2")
    message = (
        "Held-out labels are kept with networks that this study made; 'cells-1' has none. "
        "This study has the networks head-1, net-1."
    )
    with pytest.raises(FileNotFoundError, match=f"^{escape(message)}$"):
        compare_held_out(study, "head-1", "cells-1")
