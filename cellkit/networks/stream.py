"""What a network is shown: labelled cubes in a drawn order, varied, batch by batch."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from cellkit.augment import augment_cubes
from cellkit.networks.course import FitSettings

PART = 128


class TrainingSet(NamedTuple):
    """Labelled cubes.

    `cubes` (n, z, y, x, channel), float16 or float32, in memory or mapped; `targets` (n,) 1 for the positive
    class and 0 for the other; `weights` (n,) how much each counts; `groups` (n,) animal or block of each.
    """

    cubes: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray


def check_set(labelled: TrainingSet, shape: tuple[int, ...], what: str) -> str:
    """Return a hash of all that a set teaches, after checking that it can be taught.

    Raises
    ------
    ValueError
        If it lacks a class, its cubes are not of this shape (z, y, x, channel), or one is not finite.
    """
    lengths = {len(column) for column in labelled}
    positives = int(np.sum(np.asarray(labelled.targets) == 1))
    negatives = len(labelled.targets) - positives
    if len(lengths) > 1 or labelled.cubes.shape[1:] != shape:
        raise ValueError(
            f"The {what} set must have a target, a weight and a group for every cube of "
            f"{shape} voxels; got cubes of shape {labelled.cubes.shape} and "
            f"{len(labelled.targets)} targets. Cut them with the network's geometry."
        )
    digest = sha256()
    for start in range(0, len(labelled.cubes), PART):
        part = np.ascontiguousarray(labelled.cubes[start : start + PART])
        if not np.isfinite(part).all():
            raise ValueError(
                f"The {what} cubes must be finite; one of the labels {start} to {start + PART - 1} is not. "
                "Mend its image."
            )
        digest.update(part)
    if min(positives, negatives) == 0:
        raise ValueError(
            f"The {what} set must have both classes; got {positives} positive and {negatives} negative "
            "labels. Label some of the other class, in other places too."
        )
    for column in (labelled.targets, labelled.weights):
        digest.update(np.asarray(column, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def batches(
    training: TrainingSet, settings: FitSettings, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield varied batches (cubes, targets, weights), each made while the one before is learnt.

    Order and variation hang on the seed, the epoch and the batch alone: no random state is carried along.
    """
    order = draw_order(training.targets, settings, np.random.default_rng((settings.seed, epoch)))
    scale = 1 / np.mean(training.weights)

    def batch(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = order[start : start + settings.batch]
        rng = np.random.default_rng((settings.seed, epoch, start))
        cubes = augment_cubes(np.asarray(training.cubes[rows], dtype=np.float32), rng, settings.augment)
        targets = np.asarray(training.targets[rows], dtype=np.float32)[:, None]
        return cubes, targets, np.asarray(training.weights[rows] * scale, dtype=np.float32)

    starts = range(0, len(order), settings.batch)
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batch, 0)
        for start in starts:
            ready = coming.result()
            if start != starts[-1]:
                coming = maker.submit(batch, start + settings.batch)
            yield ready


def draw_order(targets: np.ndarray, settings: FitSettings, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of one epoch: every label once, or each class as often as its share says."""
    n = len(targets)
    if settings.balance is None:
        return rng.permutation(n)
    positives = min(max(round(settings.balance * n), 1), n - 1)
    drawn = []
    for value, wanted in ((1, positives), (0, n - positives)):
        rows = np.flatnonzero(np.asarray(targets) == value)
        rounds = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
        drawn.append(np.concatenate(rounds)[:wanted])
    return rng.permutation(np.concatenate(drawn))


def draw_sample(training: TrainingSet, n: int, seed: int) -> TrainingSet:
    """Return at most `n` labels of a set, as many of each class as there are up to half."""
    targets, rng = np.asarray(training.targets), np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(targets == value))[: n // 2] for value in (0, 1)]
    kept = np.sort(np.concatenate(rows))
    return TrainingSet(*(column[kept] for column in training))
