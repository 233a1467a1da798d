"""Train the supplied network cells-1 on synthetic volumes of wide variety and on annotated real ones.

Synthetic volumes are drawn by seed, searched by the detector, and each candidate is labelled by the truth;
the real ones are searched the same way. The network that ships learns from all of them. Three others are
trained in a shorter way, each without one cfos volume and one or two microglia volumes. On these the last
layer is fitted, and each fold is judged on its own, with a last layer from the others; the card holds these
figures. How far what was learnt is trusted, and how much the context counts, were chosen on the same volumes.
Cubes, epochs and networks are cached, so an interrupted run goes on.

    python training/supplied.py --real DIR --out cellkit/networks/supplied [--without cfos]

With `--without` it trains one more network in the shorter way, which has seen no volume of that kind: the one
that `benchmarks/real_loop.py` starts from. It is kept in the cache, as `finished/without-cfos`.
"""

import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from measures import by_volume, with_intervals, within_volume
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sources import GEOMETRY, REAL, Part, Recipe, gather, joined

from cellkit.augment import AugmentSettings
from cellkit.networks import (
    FitSettings,
    Network,
    NetworkCard,
    TrainingSet,
    calibrate,
    choose_threshold,
    fit,
    load_network,
    save_network,
)
from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.backend import load_keras
from cellkit.networks.engines import compile_engine
from cellkit.networks.predict import calibrated, margins_of

VARIED = AugmentSettings(zoom=0.15, background_dropout=0.15)
SETTINGS = FitSettings(epochs=4, batch=64, learning_rate=2e-3, weight_decay=1e-3, augment=VARIED)
TOLD_BY = {"cfos": 0.4, "microglia": 0.4, "synthetic": 0.2}  # synthetic volumes are of the kind that taught
TRUST = 0.1  # of what was learnt with one channel, beside how far a cell stands out
CROWDED = 0.5  # of the crowding, beside the same
PROMINENT = 1.0  # of the prominence, beside the same
THRESHOLDS = np.linspace(0.05, 0.8, 76)
FOLDS = (("753", "1874"), ("969", "4923"), ("1147", "6506", "7466"))
FOLD_RECIPE = Recipe(volumes=(120, 20, 0), cuts=(("cfos", 1), ("microglia", 4)))
FOLD_EPOCHS = 2
LICENCES = {
    "cfos": "erturklab/delivr_cfos, training_data/cFos, MIT",
    "microglia": "erturklab/delivr_cfos, training_data/microglia, MIT",
}


class Weighing(NamedTuple):
    """How the last layer weighs its evidence, and the threshold on the probability that comes of it.

    `trust` and `constants` with one channel and with two; `stands_out` for signal and background; `crowding`
    and `prominence` for the context.
    """

    trust: tuple[float, float]
    stands_out: tuple[float, float]
    constants: tuple[float, float]
    crowding: float
    prominence: float
    threshold: float


class Plan(NamedTuple):
    """One network to train: its data, sizes and schedule, and where everything is kept."""

    recipe: Recipe
    sizes: ClassifierSettings
    settings: FitSettings
    cache: Path
    real: Path | None


def train(plan: Plan, name: str) -> Network:
    """Return the network of a plan; one that is in the cache is not trained again."""
    networks = plan.cache / "networks"
    if (networks / name).exists():
        return load_network(name, networks)
    training, validation = (gather(side, plan.recipe, plan.cache, plan.real) for side in SIDES_TAUGHT)
    model = build_classifier((*GEOMETRY.shape, 3), plan.sizes)
    history = fit(
        model, _labelled(training), _labelled(validation), settings=plan.settings,
        checkpoint=plan.cache / "checkpoints" / name, on_epoch=_say,
    )  # fmt: skip
    logits = compile_engine(model)(validation.cubes).logits
    slope, offset = calibrate(logits, validation.targets, _evenly(validation.groups))
    p = expit(slope * logits + offset)
    minutes = round(history["seconds"].sum() / 60, 1)  # of all epochs, whenever they were run
    card = NetworkCard(
        name=name,
        cube=GEOMETRY,
        threshold=choose_threshold(p, validation.targets, _evenly(validation.groups)),
        slope=slope,
        offset=offset,
        trained_on=_trained_on(plan, training),
        settings=asdict(plan.settings) | {"sizes": asdict(plan.sizes), "minutes": minutes},
    )
    return save_network(model, card, networks, history=history)


JUDGED = ("f1", "f1 of brightness")
SIDES_TAUGHT = ("training", "validation")


def _trained_on(plan: Plan, training: Part) -> dict[str, Any]:
    sources = pd.Series(kind_of(training)).value_counts()
    return {
        "source": "synthetic and annotated volumes" if plan.real else "synthetic volumes",
        "labels": len(training.targets),
        "cubes by source": {str(kind): int(n) for kind, n in sources.items()},
        "licences": {kind: text for kind, text in LICENCES.items() if kind in sources.index},
    } | asdict(plan.recipe)


def evidence(network: Network, part: Part) -> np.ndarray:
    """Return (n, 6): what was learnt, how far signal and background stand out, if there are two, context."""
    embeddings = compile_engine(network.model)(part.cubes).embeddings
    kernel, bias = network.model.layers[-1].get_weights()
    learnt = embeddings[:, :-3] @ kernel[:-3, 0] + bias[0]
    return np.column_stack([learnt, embeddings[:, -3:], part.crowding, part.prominence])


def weigh(parts: list[tuple[np.ndarray, Part]]) -> Weighing:
    """Fit the last layer on volumes that were not seen before.

    A logistic fit says all but the shares of what was learnt with one channel and of the context; the
    threshold is the one for all volumes that reaches the largest F1, in the mean over the kinds of volumes.
    """
    seen, joint = np.concatenate([seen for seen, _ in parts]), joined([part for _, part in parts])
    kinds, weights = kind_of(joint), _evenly(joint.groups)
    for kind in np.unique(kinds):
        weights[kinds == kind] *= TOLD_BY[kind] / weights[kinds == kind].sum()
    weights *= len(weights) / weights.sum()
    learnt, signal, background, two, around, height = seen.T
    alone = signal + TRUST * learnt * (two == 0) + CROWDED * around + PROMINENT * height
    weighed = np.column_stack([alone, background, two, learnt * two])
    fitted = LogisticRegression(C=100.0, max_iter=1000).fit(weighed, joint.targets, sample_weight=weights)
    p = fitted.predict_proba(weighed)[:, 1]
    scale, behind, pair, paired = (float(c) for c in fitted.coef_[0])
    constant = float(fitted.intercept_[0])
    threshold = max(THRESHOLDS, key=lambda least: _reached(p >= least, joint, kinds))
    constants = (constant, constant + pair)
    context = (scale * CROWDED, scale * PROMINENT)
    return Weighing((scale * TRUST, paired), (scale, behind), constants, *context, float(threshold))


def _reached(called: np.ndarray, joint: Part, kinds: np.ndarray) -> float:
    """Return the mean over kinds of volumes of the F1 of each volume."""
    table = pd.DataFrame({"kind": kinds, "group": joint.groups, "called": called, "cell": joint.targets == 1})
    table = table.assign(hit=table["called"] & table["cell"])
    sums = table.groupby(["kind", "group"])[["hit", "called", "cell"]].sum()
    f1 = 2 * sums["hit"] / (sums["called"] + sums["cell"])
    means = f1.groupby("kind").mean()
    return float(sum(TOLD_BY[str(kind)] * value for kind, value in means.items()))


def reweighed(network: Network, weighing: Weighing, folder: Path) -> Network:
    """Return the network with a last layer that trusts what was learnt as far as that is worth elsewhere."""
    model = load_keras().models.clone_model(network.model)
    model.set_weights(network.model.get_weights())
    kernel, (bias,) = model.layers[-1].get_weights()
    (alone, paired), (one, two) = weighing.trust, weighing.constants
    model.get_layer("trust").set_weights([np.array([[0], [0], [paired - alone]]), np.array([alone])])
    kernel[-3:, 0] = [*weighing.stands_out, two - one + (paired - alone) * bias]
    model.layers[-1].set_weights([kernel, np.array([one + alone * bias])])
    card = replace(
        network.card, slope=1.0, offset=0.0, crowding=weighing.crowding, prominence=weighing.prominence,
        threshold=weighing.threshold,
        versions={}, sha256="", made_at="",
        settings=network.card.settings
        | {"last layer": weighing._asdict() | {"folds": asdict(FOLD_RECIPE) | {"epochs": FOLD_EPOCHS}}},
    )  # fmt: skip
    history = pd.read_csv(network.folder / "history.csv")
    shutil.rmtree(folder / card.name, ignore_errors=True)
    return save_network(model, card, folder, history=history)


def judge(network: Network, test: Part, true: dict[str, int]) -> pd.DataFrame:
    """Return one row a volume: hits, calls, cells and the best threshold on brightness."""
    context = pd.DataFrame({"crowding": test.crowding, "prominence": test.prominence})
    logits = compile_engine(network.model)(test.cubes).logits
    p = calibrated(network, logits, margins_of(network.card, context))
    called = p >= network.card.threshold
    return by_volume(called, test.targets, test.groups, test.scores, true).assign(
        two=[bool(test.cubes[test.groups == v][0, 0, 0, 0, 2]) for v in np.unique(test.groups)]
    )


def kind_of(part: Part) -> np.ndarray:
    """Return the kind of volume that each candidate comes from."""
    kinds = {real.name: real.kind for real in REAL}
    return np.array([kinds.get(str(group), "synthetic") for group in part.groups])


def cells_there(real: Path) -> dict[str, int]:
    """Return the number of annotated cells of each real volume."""
    return {v.name: len(pd.read_csv(real / v.kind / f"{v.name}_centres.csv")) for v in REAL}


def metrics_of(counts: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of each source: synthetic volumes by channels, real ones each by itself."""
    kinds = {real.name: real.kind for real in REAL}
    synthetic = ~counts["volume"].isin(list(kinds))
    out: dict[str, Any] = {}
    for name, two in (("one channel", False), ("two channels", True)):
        rows = counts[synthetic & (counts["two"] == two)]
        if len(rows):
            out[f"synthetic test volumes, {name}"] = with_intervals(rows)
    for _, row in counts[~synthetic].iterrows():
        out[f"{kinds[row['volume']]} {row['volume']}, left out of training"] = within_volume(row)
    return out


def main() -> None:
    """Train the folds and the network that ships, measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of networks")
    parser.add_argument("--real", type=Path, help="folder of cfos/ and microglia/; none: synthetic alone")
    parser.add_argument("--name", default="cells-1")
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    parser.add_argument("--volumes", type=int, nargs=3, default=Recipe.volumes)
    parser.add_argument("--epochs", type=int, default=SETTINGS.epochs)
    parser.add_argument("--without", choices=sorted({volume.kind for volume in REAL}))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(volumes=tuple(options.volumes))
    settings = replace(SETTINGS, epochs=options.epochs)
    plan = Plan(recipe, ClassifierSettings(), settings, options.cache, options.real)
    if options.without and not options.real:
        parser.error("--without needs --real: the other kinds of real volumes teach")
    if options.without:
        print(without(plan, options.without, options.cache / "finished"))
        return
    network, finished = train(plan, options.name), options.cache / "finished"
    metrics = {}
    if options.real:
        network, metrics = weighed(plan, network, finished)
    counts = judge(network, gather("test", recipe, plan.cache, None), {})
    metrics = metrics_of(counts) | metrics
    trained_on = network.card.trained_on | {"where it fails": where_it_fails(metrics)}
    card = replace(network.card, metrics=metrics, trained_on=trained_on, versions={}, sha256="", made_at="")
    print(json.dumps(card.metrics, indent=1))
    history = pd.read_csv(network.folder / "history.csv")
    print(save_network(network.model, card, options.out, history=history))


def where_it_fails(metrics: dict[str, Any]) -> list[str]:
    """Say on which sources a threshold on the detector's score, chosen with the truth, would do better."""
    said = []
    for source, measured in metrics.items():
        f1, brightness = (next(v["value"] for k, v in measured.items() if k.startswith(n)) for n in JUDGED)
        if round(f1, 2) < round(brightness, 2):
            said.append(
                f"{source}: F1 {f1:.2f}; the best threshold on brightness alone reaches {brightness:.2f}"
            )
    return said


def weighed(plan: Plan, network: Network, finished: Path) -> tuple[Network, dict[str, Any]]:
    """Train the folds, and finish them and the network that ships with a last layer that weighs its evidence.

    Each fold's last layer is fitted on the real volumes that the other folds left out, and judged on its own;
    the one that ships has its fitted on all of them. The synthetic volumes are those that validated the
    network itself: they alone have two channels, where most is learnt, at a level of its own in each network.
    """
    folds = [train_fold(plan, f"fold-{number}", left_out) for number, left_out in enumerate(FOLDS)]
    tests = [news_to(fold, plan, left_out) for fold, left_out in zip(folds, FOLDS, strict=True)]
    counts = []
    for number, (fold, (_, test)) in enumerate(zip(folds, tests, strict=True)):
        others = [*tests[:number], *tests[number + 1 :], synthetic_to(fold, FOLD_RECIPE, plan.cache)]
        fold = reweighed(fold, weigh(others), finished)
        counts.append(judge(fold, test, cells_there(plan.real)))
        print(fold.card.settings["last layer"], counts[-1].to_string(), sep="\n", flush=True)
    own = synthetic_to(network, plan.recipe, plan.cache)
    return reweighed(network, weigh([*tests, own]), finished), metrics_of(pd.concat(counts))


def train_fold(plan: Plan, name: str, left_out: tuple[str, ...]) -> Network:
    """Return a network that is trained in the shorter way, without these real volumes."""
    recipe, settings = replace(FOLD_RECIPE, left_out=left_out), replace(plan.settings, epochs=FOLD_EPOCHS)
    return train(plan._replace(recipe=recipe, settings=settings), name)


def news_to(fold: Network, plan: Plan, volumes: tuple[str, ...]) -> tuple[np.ndarray, Part]:
    """Return what a network makes of real volumes that it has not seen, and these."""
    test = gather("test", replace(FOLD_RECIPE, left_out=volumes), plan.cache, plan.real)
    return evidence(fold, test), test


def synthetic_to(network: Network, recipe: Recipe, cache: Path) -> tuple[np.ndarray, Part]:
    """Return what a network makes of the synthetic volumes that validated it, and these."""
    part = gather("validation", replace(recipe, cuts=()), cache, None)
    return evidence(network, part), part


def without(plan: Plan, kind: str, finished: Path) -> Network:
    """Return a network that has seen no volume of a kind, nor has its last layer.

    The last layer is fitted on what the folds say of the volumes of other kinds that they left out.
    """
    names = tuple(volume.name for volume in REAL if volume.kind == kind)
    network = train_fold(plan, f"without-{kind}", names)
    folds = [train_fold(plan, f"fold-{number}", left_out) for number, left_out in enumerate(FOLDS)]
    others = [tuple(name for name in left_out if name not in names) for left_out in FOLDS]
    tests = [news_to(fold, plan, volumes) for fold, volumes in zip(folds, others, strict=True)]
    return reweighed(network, weigh([*tests, synthetic_to(network, FOLD_RECIPE, plan.cache)]), finished)


def _labelled(part: Part) -> TrainingSet:
    return TrainingSet(part.cubes, part.targets, np.ones(len(part.targets), np.float32), part.groups)


def _evenly(groups: np.ndarray) -> np.ndarray:
    """Return weights under which each volume counts alike."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[inverse]


def _say(row: dict[str, float]) -> None:
    print({name: round(value, 4) for name, value in row.items()}, flush=True)


if __name__ == "__main__":
    main()
