"""Train the supplied network cells-0 on synthetic volumes of wide variety.

Volumes are drawn by seed (microscopes, tissues, crowding, artefacts; one and two channels), searched by the
detector, and each candidate is labelled by the truth. Training, validation and test volumes have seeds of
their own, and nothing of a volume lies on two sides. Cubes are cached, so an interrupted run goes on.

    python training/supplied.py --out cellkit/networks/supplied
"""

import argparse
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from cellkit.augment import AugmentSettings
from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.detect import find_candidates
from cellkit.images import Image, open_image
from cellkit.intensities import measure_intensities
from cellkit.match import match_points
from cellkit.networks import (
    FitSettings,
    NetworkCard,
    TrainingSet,
    calibrate,
    choose_threshold,
    fit,
    save_network,
)
from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.engines import compile_engine
from cellkit.synthetic import make_volume, random_settings
from cellkit.tables import positions_um

GEOMETRY = CubeGeometry()
SIDES = ("training", "validation", "test")
PER_CELL = 5
VARIED = AugmentSettings(zoom=0.15, background_dropout=0.15)


@dataclass(frozen=True)
class Recipe:
    """What the network is trained on.

    Attributes
    ----------
    volumes : tuple of 3 int
        Training, validation and test volumes.
    per_volume : int
        Most candidates of one volume.
    one_channel : float
        Share of the volumes whose background channel is left out.
    misjudged : float
        The cell diameter that the person gives is wrong by up to this factor.
    """

    volumes: tuple[int, int, int] = (200, 30, 40)
    per_volume: int = 160
    one_channel: float = 0.35
    misjudged: float = 1.25
    seed: int = 0


class Part(NamedTuple):
    """The labelled candidates of some volumes: one row each, `group` the volume, `score` the detector's."""

    cubes: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    scores: np.ndarray


def draw_part(seed: int, recipe: Recipe, *, as_found: bool) -> Part:
    """Make one volume, find its candidates and cut their cubes.

    `as_found` keeps candidates as the detector gives them; otherwise both classes get an equal chance.
    """
    rng = np.random.default_rng((recipe.seed, seed))
    settings = random_settings(rng)
    volume = make_volume(settings, seed)
    channels = [volume.signal, volume.background]
    roles = ("signal", "background")[: 1 if rng.random() < recipe.one_channel else 2]
    image = open_image(
        np.stack(channels[: len(roles)]),
        voxel_um=settings.voxel_um,
        roles=roles,
        name=f"volume-{seed}",
        axes="czyx",
    )
    diameter_um = settings.diameter_um * recipe.misjudged ** rng.uniform(-1, 1)
    found = find_candidates(image, diameter_um=diameter_um).head(PER_CELL * len(volume.cells))
    match = match_points(
        positions_um(found, settings.voxel_um),
        positions_um(volume.cells, settings.voxel_um),
        within_um=settings.diameter_um / 2,
    )
    targets = np.zeros(len(found), np.int8)
    targets[match.found] = 1
    rows = _choose(targets, recipe.per_volume, rng, as_found=as_found)
    return Part(
        _cubes(image, found.iloc[rows], diameter_um),
        targets[rows],
        np.full(len(rows), seed),
        found["score"].to_numpy(np.float32)[rows],
    )


def _choose(targets: np.ndarray, most: int, rng: np.random.Generator, *, as_found: bool) -> np.ndarray:
    if as_found:
        return rng.permutation(len(targets))[:most]
    classes = [rng.permutation(np.flatnonzero(targets == value)) for value in (0, 1)]
    return np.concatenate([rows[: most // 2] for rows in classes])


def _cubes(image: Image, places: object, diameter_um: float) -> np.ndarray:
    intensities = {role: measure_intensities(image, role) for role in image.roles}
    cubes = cut_cubes(image, places, intensities=intensities, diameter_um=diameter_um, geometry=GEOMETRY)
    return cubes.astype(np.float16)


def gather(side: str, recipe: Recipe, cache: Path) -> Part:
    """Return all candidates of one side; volumes that are in the cache are not made again."""
    first = sum(recipe.volumes[: SIDES.index(side)])
    parts = []
    for seed in range(first, first + recipe.volumes[SIDES.index(side)]):
        path = cache / f"{side}-{seed}.npz"
        if not path.exists():
            part = draw_part(seed, recipe, as_found=side != "training")
            np.savez(path.with_suffix(".part.npz"), **part._asdict())
            os.replace(path.with_suffix(".part.npz"), path)
        with np.load(path) as kept:
            parts.append(Part(**kept))
    print(f"{side}: {len(parts)} volumes, {sum(len(p.targets) for p in parts)} candidates", flush=True)
    return Part(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def best_f1(values: np.ndarray, targets: np.ndarray) -> float:
    """Return the F1 of the best threshold on `values`, chosen with the truth in hand."""
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(targets[order])
    return float(np.max(2 * hits / (np.arange(1, len(order) + 1) + targets.sum())))


def measure(p: np.ndarray, part: Part, threshold: float) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1, and the F1 of the best brightness threshold of each volume.

    Intervals come from drawing whole volumes anew 1,000 times.
    """
    volumes = np.unique(part.groups)
    counts = np.zeros((len(volumes), 4))
    for row, volume in zip(counts, volumes, strict=True):
        here = part.groups == volume
        called, true = p[here] >= threshold, part.targets[here] == 1
        bright = best_f1(part.scores[here], part.targets[here]) if true.any() else 0.0
        row[:] = (called & true).sum(), called.sum(), true.sum(), bright
    rng = np.random.default_rng(0)
    drawn = np.stack([counts[rng.integers(0, len(counts), len(counts))] for _ in range(1000)])
    return {
        name: {"value": float(value), "low": float(low), "high": float(high)}
        for name, value, (low, high) in zip(
            ("precision", "recall", "f1", "f1 of brightness, best threshold of each volume"),
            _rates(counts[None])[0],
            np.quantile(_rates(drawn), (0.025, 0.975), axis=0).T,
            strict=True,
        )
    }


def _rates(counts: np.ndarray) -> np.ndarray:
    hits, called, true, _ = np.moveaxis(counts.sum(axis=1), -1, 0)
    bright = (counts[..., 3] * counts[..., 2]).sum(axis=1) / true
    return np.stack([hits / called, hits / true, 2 * hits / (called + true), bright], axis=1)


def main() -> None:
    """Make the volumes, train, calibrate, measure on the test volumes and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of networks")
    parser.add_argument("--name", default="cells-0")
    parser.add_argument("--cache", type=Path, default=Path("training-cache"))
    parser.add_argument("--volumes", type=int, nargs=3, default=Recipe.volumes, metavar=SIDES)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    recipe = Recipe(volumes=tuple(options.volumes))
    training, validation, test = (gather(side, recipe, options.cache) for side in SIDES)
    settings = FitSettings(
        epochs=options.epochs, batch=64, learning_rate=2e-3, weight_decay=1e-3, augment=VARIED
    )
    model = build_classifier((*GEOMETRY.shape, 3), ClassifierSettings(seed=recipe.seed))
    history = fit(model, _labelled(training), _labelled(validation), settings=settings, on_epoch=_say)
    logits = {
        side: compile_engine(model)(part.cubes).logits for side, part in (("v", validation), ("t", test))
    }
    slope, offset = calibrate(logits["v"], validation.targets)
    threshold = choose_threshold(expit(slope * logits["v"] + offset), validation.targets)
    p = expit(slope * logits["t"] + offset)
    card = NetworkCard(
        name=options.name,
        cube=GEOMETRY,
        threshold=threshold,
        slope=slope,
        offset=offset,
        trained_on={"source": "synthetic volumes", "labels": len(training.targets)} | asdict(recipe),
        settings=asdict(settings) | {"minutes": round((time.perf_counter() - began) / 60, 1)},
        metrics=_by_channels(p, test, threshold),
    )
    print(save_network(model, card, options.out, history=history), card.metrics)


def _labelled(part: Part) -> TrainingSet:
    return TrainingSet(part.cubes, part.targets, np.ones(len(part.targets), np.float32), part.groups)


def _say(row: dict[str, float]) -> None:
    print({name: round(value, 4) for name, value in row.items()}, flush=True)


def _by_channels(p: np.ndarray, test: Part, threshold: float) -> dict[str, dict[str, dict[str, float]]]:
    two = test.cubes[:, 0, 0, 0, 2] == 1
    sides = {"synthetic test volumes, one channel": ~two, "synthetic test volumes, two channels": two}
    return {
        name: measure(p[rows], Part(*(column[rows] for column in test)), threshold)
        for name, rows in sides.items()
    }


if __name__ == "__main__":
    main()
