"""Train the supplied network cells-1 on synthetic volumes of wide variety and on annotated real ones.

Synthetic volumes are drawn by seed, searched by the detector, and each candidate is labelled by the truth;
the real ones are searched the same way. The network that ships learns from all of them. Three others are
trained in the same way, each without one cfos volume and one or two microglia volumes, which then judge it:
the card holds these figures. Cubes, epochs and networks are cached, so an interrupted run goes on.

    python training/supplied.py --real DIR --out cellkit/networks/supplied
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from measures import by_volume, with_intervals, within_volume
from scipy.special import expit
from sources import GEOMETRY, REAL, Part, Recipe, gather

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
from cellkit.networks.engines import compile_engine

VARIED = AugmentSettings(zoom=0.15, background_dropout=0.15)
SETTINGS = FitSettings(epochs=6, batch=64, learning_rate=2e-3, weight_decay=1e-3, augment=VARIED)
FOLDS = (("753", "1874"), ("969", "4923"), ("1147", "6506", "7466"))
LICENCES = {
    "cfos": "erturklab/delivr_cfos, training_data/cFos, MIT",
    "microglia": "erturklab/delivr_cfos, training_data/microglia, MIT",
}


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
    began = time.perf_counter()
    training, validation = (gather(side, plan.recipe, plan.cache, plan.real) for side in SIDES_TAUGHT)
    model = build_classifier((*GEOMETRY.shape, 3), plan.sizes)
    history = fit(
        model, _labelled(training), _labelled(validation), settings=plan.settings,
        checkpoint=plan.cache / "checkpoints" / name, on_epoch=_say,
    )  # fmt: skip
    logits = compile_engine(model)(validation.cubes).logits
    slope, offset = calibrate(logits, validation.targets, _evenly(validation))
    p = expit(slope * logits + offset)
    minutes = round((time.perf_counter() - began) / 60, 1)
    card = NetworkCard(
        name=name,
        cube=GEOMETRY,
        threshold=choose_threshold(p, validation.targets, _evenly(validation)),
        slope=slope,
        offset=offset,
        trained_on=_trained_on(plan, training),
        settings=asdict(plan.settings) | {"sizes": asdict(plan.sizes), "minutes": minutes},
    )
    return save_network(model, card, networks, history=history)


SIDES_TAUGHT = ("training", "validation")


def _trained_on(plan: Plan, training: Part) -> dict[str, Any]:
    kinds = {real.name: real.kind for real in REAL}
    sources = pd.Series([kinds.get(str(group), "synthetic") for group in training.groups]).value_counts()
    return {
        "source": "synthetic and annotated volumes" if plan.real else "synthetic volumes",
        "labels": len(training.targets),
        "cubes by source": {str(kind): int(n) for kind, n in sources.items()},
        "licences": {kind: text for kind, text in LICENCES.items() if kind in sources.index},
    } | asdict(plan.recipe)


def judge(network: Network, test: Part, true: dict[str, int]) -> pd.DataFrame:
    """Return one row a volume: hits, calls, cells and the best threshold on brightness."""
    logits = compile_engine(network.model)(test.cubes).logits
    p = expit(network.card.slope * logits + network.card.offset)
    called = p >= network.card.threshold
    return by_volume(called, test.targets, test.groups, test.scores, true).assign(
        two=[bool(test.cubes[test.groups == v][0, 0, 0, 0, 2]) for v in np.unique(test.groups)]
    )


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
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(volumes=tuple(options.volumes))
    settings = replace(SETTINGS, epochs=options.epochs)
    plan = Plan(recipe, ClassifierSettings(), settings, options.cache, options.real)
    network = train(plan, options.name)
    counts = [judge(network, gather("test", recipe, plan.cache, None), {})]
    for number, left_out in enumerate(FOLDS if options.real else ()):
        fold = plan._replace(recipe=replace(recipe, volumes=(*recipe.volumes[:2], 0), left_out=left_out))
        test = gather("test", fold.recipe, plan.cache, plan.real)
        counts.append(judge(train(fold, f"fold-{number}"), test, cells_there(options.real)))
        print(counts[-1].to_string(), flush=True)
    metrics = metrics_of(pd.concat(counts))
    print(json.dumps(metrics, indent=1))
    card = replace(network.card, metrics=metrics, versions={}, sha256="", made_at="")
    history = pd.read_csv(network.folder / "history.csv")
    print(save_network(network.model, card, options.out, history=history))


def _labelled(part: Part) -> TrainingSet:
    return TrainingSet(part.cubes, part.targets, np.ones(len(part.targets), np.float32), part.groups)


def _evenly(part: Part) -> np.ndarray:
    """Return weights under which each volume counts alike."""
    _, inverse, sizes = np.unique(part.groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[inverse]


def _say(row: dict[str, float]) -> None:
    print({name: round(value, 4) for name, value in row.items()}, flush=True)


if __name__ == "__main__":
    main()
