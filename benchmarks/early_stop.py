"""Which epoch to keep when few labels are held out: rules side by side on the sample study.

    python benchmarks/early_stop.py [--seeds 8] [--labels 200] [--epochs 30]

Each seed draws other labels from animal-1 and animal-2 and fine-tunes the supplied network on them, a fifth
held out by blocks of space. Every rule looks at the same training and names one epoch; what counts is the
loss and the F1 of that epoch on 600 candidates of animal-3, which neither taught nor chose. The best that
could have been chosen with hindsight stands below.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit

from cellkit.cubes import cut_cubes
from cellkit.detect import detect
from cellkit.match import match_points
from cellkit.networks import TrainingSet, fit, load_network, split_groups
from cellkit.networks.engines import compile_engine
from cellkit.retrain import FINE_TUNING
from cellkit.synthetic import create_sample_study

DECAY = 0.5


def labelled(study, network, name, n, rng):
    """Return cubes, truth and places of `n` candidates of an image, a third of them cells."""
    table, truth, voxel = study.candidates(name), study.truth(name), np.array(study.voxel_um[name])
    truth = truth[truth["kind"] == "cell"]
    um, cells = table[["z", "y", "x"]].to_numpy() * voxel, truth[["z", "y", "x"]].to_numpy() * voxel
    hit = np.zeros(len(table), bool)
    hit[match_points(um, cells, within_um=0.5 * study.settings.diameter_um).found] = True
    rows = [
        rng.permutation(np.flatnonzero(hit == value))[: round(n * share)]
        for value, share in ((True, 1 / 3), (False, 2 / 3))
    ]
    rows = np.concatenate(rows)
    cubes = cut_cubes(
        study.image(name), table.iloc[rows], intensities=study.intensities(name),
        diameter_um=study.settings.diameter_um, geometry=network.card.cube,
    )  # fmt: skip
    places = pd.DataFrame(um[rows], columns=["z_um", "y_um", "x_um"]).assign(image=name, animal=name)
    return cubes.astype(np.float16), hit[rows].astype(np.float32), places


def curves(study, seed, n, epochs, judge):
    """Return the held-out labels' losses, and loss and F1 on the judge, epoch by epoch, with both weights."""
    rng = np.random.default_rng(seed)
    network = load_network("cells-1")
    parts = [labelled(study, network, name, n // 2, rng) for name in ("animal-1", "animal-2")]
    cubes, targets = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    places = pd.concat([part[2] for part in parts], ignore_index=True)
    cube_um = tuple(side * study.settings.diameter_um for side in network.card.cube.extent)
    side = split_groups(places, targets, cube_um=cube_um, seed=seed, by="space")
    rows = [np.flatnonzero(side == name) for name in ("train", "validation")]
    every = TrainingSet(cubes, targets, np.ones(len(targets)), np.zeros(len(targets)))
    train, held_out = (every.take(kept) for kept in rows)
    model, found, mean = network.model, {"plain": [], "averaged": []}, []

    def note(row):
        weights = model.get_weights()
        mean[:] = [DECAY * a + (1 - DECAY) * b for a, b in zip(mean or weights, weights, strict=True)]
        for kind, values in (("plain", weights), ("averaged", mean)):
            model.set_weights(values)
            run = compile_engine(model)
            found[kind].append([_losses(run, held_out), *_judged(run, judge)])
        model.set_weights(weights)

    settings = replace(FINE_TUNING, epochs=epochs, patience=epochs, seed=seed)
    fit(model, train, held_out, settings=settings, on_epoch=note)
    return found


def _losses(run, labels):
    """Return the loss of each label, cells and artefacts weighing the same in all."""
    true = labels.targets == 1
    losses = -log_expit(np.where(true, 1, -1) * run(labels.cubes).logits.astype(float))
    return losses * np.where(true, 0.5 / true.mean(), 0.5 / (~true).mean())


def _judged(run, judge):
    p, true = expit(run(judge.cubes).logits.astype(float)), judge.targets == 1
    hits = np.sum((p >= 0.5) & true)
    return _losses(run, judge).mean(), 2 * hits / (np.sum(p >= 0.5) + true.sum())


def smooth(values):
    """Return the mean of each value and its two neighbours."""
    padded = np.pad(values, 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def within_one_error(losses, *, over=1):
    """Return the last epoch whose loss is not above the least by more than a paired standard error."""
    losses = np.array([losses[max(0, k - over + 1) : k + 1].mean(axis=0) for k in range(len(losses))])
    least = np.argmin(losses.mean(axis=1))
    apart = losses - losses[least]
    error = apart.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    return int(np.flatnonzero(apart.mean(axis=1) <= error)[-1])


RULES = {
    "least loss (as it was)": ("plain", lambda losses: np.argmin(losses.mean(axis=1))),
    "least loss of three epochs": ("plain", lambda losses: np.argmin(smooth(losses.mean(axis=1)))),
    "last within one error": ("plain", within_one_error),
    "the same, mean of three (in use)": ("plain", lambda losses: within_one_error(losses, over=3)),
    "last epoch": ("plain", lambda losses: len(losses) - 1),
    "averaged weights, least loss": ("averaged", lambda losses: np.argmin(losses.mean(axis=1))),
    "averaged, least of three": ("averaged", lambda losses: np.argmin(smooth(losses.mean(axis=1)))),
    "averaged, last within one error": ("averaged", within_one_error),
    "averaged weights, last epoch": ("averaged", lambda losses: len(losses) - 1),
}


def main():
    """Print one row a rule: mean loss and F1 on the judge, and what is lost against hindsight."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = create_sample_study(Path(folder) / "study")
        detect(study)
        network = load_network("cells-1")
        cubes, targets, _ = labelled(study, network, "animal-3", 600, np.random.default_rng(0))
        judge = TrainingSet(cubes, targets, np.ones(len(targets)), np.zeros(len(targets)))
        every = [curves(study, s, options.labels, options.epochs, judge) for s in range(options.seeds)]
    print(f"{options.seeds} seeds, {options.labels} labels, {options.epochs} epochs")
    print(f"{'rule':34}{'loss':>8}{'F1':>8}{'epoch':>7}{'better / worse than the first rule':>38}")
    first = None
    for name, (kind, rule) in RULES.items():
        chosen = [rule(np.array([row[0] for row in one[kind]])) for one in every]
        loss, f1 = (np.array([one[kind][k][n] for one, k in zip(every, chosen, strict=True)]) for n in (1, 2))
        first = loss if first is None else first
        apart = f"{np.sum(loss < first)} / {np.sum(loss > first)}"
        print(f"{name:34}{loss.mean():8.4f}{f1.mean():8.4f}{np.mean(chosen) + 1:7.1f}{apart:>38}")
    best = np.array([min(row[1] for row in one["plain"]) for one in every])
    print(f"{'with hindsight':34}{best.mean():8.4f}")


if __name__ == "__main__":
    main()
