"""What a network is shown: labelled cubes in a drawn order, varied, batch by batch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from cellkit.augment import augment_cubes
from cellkit.networks.course import FitSettings
from cellkit.networks.pool import CubePool

PART = 128


class TrainingSet(NamedTuple):
    """Labelled cubes.

    `cubes` (n, z, y, x, channel), float16 or float32, in memory or mapped; `targets` (n,) 1 for the positive
    class and 0 for the other; `weights` (n,) how much each counts; `groups` (n,) animal or block of each;
    `sources` (n,), where labels are pooled, the study or bundle that each comes from; `margins` (n,), what is
    added to the network's logits: log odds of the positive class that are known before a cube is seen.
    """

    cubes: np.ndarray | CubePool
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    sources: np.ndarray | None = None
    margins: np.ndarray | None = None

    @property
    def known(self) -> np.ndarray:
        """The margins, 0 where none are given; float32 (n,)."""
        return np.asarray(np.zeros(len(self.targets)) if self.margins is None else self.margins, np.float32)

    def take(self, rows: np.ndarray) -> "TrainingSet":
        """Return some of the labels; cubes of a pool are not read."""
        cubes = self.cubes.take(rows) if isinstance(self.cubes, CubePool) else self.cubes[rows]
        columns = (self.targets, self.weights, self.groups, self.sources, self.margins)
        return TrainingSet(
            cubes, *(None if column is None else np.asarray(column)[rows] for column in columns)
        )


def pool_sets(sets: Sequence[TrainingSet]) -> TrainingSet:
    """Return the labels of several sources as one set; their cubes are not read."""
    columns = [np.concatenate(column) for column in list(zip(*sets, strict=True))[1:3]]
    source = np.repeat(np.arange(len(sets)), [len(each.targets) for each in sets])
    groups = [f"{n}: {group}" for n, each in enumerate(sets) for group in each.groups]
    margins = np.concatenate([each.known for each in sets])
    cubes = CubePool.joined([each.cubes for each in sets])
    return TrainingSet(cubes, *columns, np.array(groups), source, margins)


def check_set(labelled: TrainingSet, shape: tuple[int, ...], what: str) -> str:
    """Return a hash of all that a set teaches, after checking that it can be taught.

    Raises
    ------
    ValueError
        If it lacks a class, its cubes are not of this shape (z, y, x, channel), or one is not finite.
    """
    lengths = {len(column) for column in labelled if column is not None}
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
    for column in (labelled.targets, labelled.weights, labelled.sources, labelled.margins):
        column = () if column is None else column
        digest.update(np.asarray(column, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def batches(
    training: TrainingSet, settings: FitSettings, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield varied batches (cubes, targets, weights), each made while the one before is learnt.

    Targets (n, 2) are the class and the margin. Order and variation hang on the seed, the epoch and the batch
    alone: no random state is carried along. All batches are of one size, for which the network is compiled
    once: the last is filled up with the first labels of the epoch.
    """
    order = draw_order(training, settings, np.random.default_rng((settings.seed, epoch)))
    size = min(settings.batch, len(order))
    order = np.append(order, order[: -len(order) % size])
    weights, margins = _shared_out(training, settings), training.known

    def batch(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = order[start : start + size]
        rng = np.random.default_rng((settings.seed, epoch, start))
        cubes = augment_cubes(np.asarray(training.cubes[rows], dtype=np.float32), rng, settings.augment)
        targets = np.stack([training.targets[rows], margins[rows]], axis=1, dtype=np.float32)
        return cubes, targets, weights[rows]

    starts = range(0, len(order), size)
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batch, 0)
        for start in starts:
            ready = coming.result()
            if start != starts[-1]:
                coming = maker.submit(batch, start + size)
            yield ready


def draw_order(training: TrainingSet, settings: FitSettings, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of one epoch, shuffled across all sources.

    Every label once; or each class as often as `balance` says, and within a class each source equally often.
    """
    n, classes = len(training.targets), np.asarray(training.targets) == 1
    if settings.balance is not None:
        positives = min(max(round(settings.balance * n), 1), n - 1)
        wanted = [(np.flatnonzero(classes), positives), (np.flatnonzero(~classes), n - positives)]
    else:
        wanted = [(np.arange(n), n)]
    if settings.sources == "equal" and training.sources is not None:
        wanted = [part for rows, many in wanted for part in _equally(rows, many, training.sources)]
    drawn = []
    for rows, many in wanted:
        rounds = [rng.permutation(rows) for _ in range(-(-many // len(rows)))]
        drawn.append(np.concatenate(rounds)[:many])
    return rng.permutation(np.concatenate(drawn))


def _shared_out(training: TrainingSet, settings: FitSettings) -> np.ndarray:
    """Return the weights with a mean of 1 in all that is drawn together: they steer within, not between."""
    weights = np.asarray(training.weights, dtype=np.float64)
    drawn = np.zeros(len(weights), np.int64)
    if settings.balance is not None:
        drawn += np.asarray(training.targets) == 1
    if settings.sources == "equal" and training.sources is not None:
        drawn += 2 * np.unique(training.sources, return_inverse=True)[1]
    means = np.bincount(drawn, weights) / np.maximum(np.bincount(drawn), 1)
    return (weights / means[drawn]).astype(np.float32)


def _equally(rows: np.ndarray, many: int, sources: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return the rows of each source, and how many of them make `many` in equal parts."""
    of = np.asarray(sources)[rows]
    parts = [rows[of == source] for source in np.unique(of)]
    edges = np.round(np.linspace(0, many, len(parts) + 1)).astype(int)
    return [(part, upto) for part, upto in zip(parts, np.diff(edges), strict=True) if upto]


def draw_sample(training: TrainingSet, n: int, seed: int) -> TrainingSet:
    """Return at most `n` labels of a set, as many of each class as there are up to half."""
    targets, rng = np.asarray(training.targets), np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(targets == value))[: n // 2] for value in (0, 1)]
    kept = np.sort(np.concatenate(rows))
    return training.take(kept)
