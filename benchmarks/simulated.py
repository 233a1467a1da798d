"""Simulated truth for `estimates.py` and for the tests: populations of candidates, grids of boxes.

Nine worlds of 50,000 candidates: 2, 10 or 30 % cells; a network trained on as many cells as artefacts (AUC
0.993) as it was trained, on images where everything looks more like a cell ("shift"), or with logits twice as
large as they should be ("over-confident"). `q` is `p` corrected for the prevalence by Saerens' method.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri

from cellkit.estimates import Design, Rates, changed_prevalence
from cellkit.measuring.strata import allocate, steps_of

CANDIDATES = 50_000
APART = 3.5


class World(NamedTuple):
    """Share of cells, what is added to the logits, and what they are multiplied with."""

    cells: float
    shift: float = 0.0
    sharpness: float = 1.0

    @property
    def name(self) -> str:
        """The world in words."""
        kind = "shift" if self.shift else "over-confident" if self.sharpness != 1 else "plain"
        return f"{self.cells:.0%} {kind}"


WORLDS = [World(cells, *kind) for cells in (0.02, 0.1, 0.3) for kind in ((0.0, 1.0), (1.5, 1.0), (0.0, 2.0))]


class Population(NamedTuple):
    """All candidates of a world: truth, the network's probability, and that for the prevalence here."""

    y: np.ndarray
    p: np.ndarray
    q: np.ndarray


def scores(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a network sees of each candidate, shape (n,)."""
    return np.where(y, APART / 2, -APART / 2) + rng.normal(size=len(y))


def populate(world: World, rng: np.random.Generator, *, n: int = CANDIDATES) -> Population:
    """Return the candidates of a world."""
    y = rng.random(n) < world.cells
    p = expit((APART * scores(y, rng) + world.shift) * world.sharpness)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return Population(y, p, changed_prevalence(p)[1])


def error_rates(rng: np.random.Generator, *, n: int = 2000) -> Rates:
    """Return how the network errs on labels of an unshifted world, half of them cells."""
    y = np.arange(n) < n // 2
    called = scores(y, rng) > 0
    return Rates(float(called[y].sum()), n // 2, float(called[~y].sum()), n - n // 2)


def audit(
    q: np.ndarray, n: int, rng: np.random.Generator, *, random_share: float = 0.25
) -> tuple[np.ndarray, Design, np.ndarray]:
    """Draw an audit of `n` places, as `strata.draw_strata` does, but in no order of place.

    Returns their rows, the design, and the stratum of every candidate.
    """
    stratum = np.digitize(q, steps_of(q, n))
    had = np.zeros(len(q), bool)
    had[rng.choice(len(q), round(n * random_share), replace=False)] = True
    sizes, taken = np.bincount(stratum), np.bincount(stratum, weights=had).astype(int)
    chosen = [np.flatnonzero(had)]
    for h, places in enumerate(allocate(q, stratum, n, taken=taken)):
        left = np.flatnonzero((stratum == h) & ~had)
        chosen.append(rng.choice(left, places - taken[h], replace=False))
    rows = np.concatenate(chosen)
    return rows, Design(stratum[rows], sizes.astype("float64")), stratum


class Pair(NamedTuple):
    """An audit drawn by one network's probabilities: answers, both networks' calls, and the design."""

    y: np.ndarray
    first: np.ndarray
    second: np.ndarray
    design: Design


def equal_networks(cells: float, n: int, rng: np.random.Generator, *, alike: float = 0.5) -> Pair:
    """Return an audit of two networks that err equally often and share this part of what misleads them."""
    y = rng.random(20_000) < cells
    shared = rng.normal(size=len(y))
    seen = [
        np.where(y, APART / 2, -APART / 2)
        + np.sqrt(alike) * shared
        + np.sqrt(1 - alike) * rng.normal(size=len(y))
        for _ in range(2)
    ]
    prior = logit(cells) / APART
    rows, design, _ = audit(expit(APART * (seen[0] + prior)), n, rng)
    return Pair(y[rows], seen[0][rows] > -prior, seen[1][rows] > -prior, design)


class Boxes(NamedTuple):
    """A grid of boxes: true cells, those the detector found, and its candidates, in each."""

    cells: np.ndarray
    hits: np.ndarray
    detected: np.ndarray


def fill_boxes(rng: np.random.Generator, *, n: int = 4000) -> Boxes:
    """Return boxes with 3 cells on average (variance 21), recall 0.90 +- 0.05, 0.9 false candidates a box."""
    cells = rng.poisson(rng.gamma(0.5, 6.0, n))
    hits = rng.binomial(cells, np.clip(rng.normal(0.9, 0.05, n), 0, 1))
    return Boxes(cells, hits, hits + rng.poisson(0.9, n))


class NoisyLabels(NamedTuple):
    """Features, labels of which some are wrong, which these are, and groups of five."""

    features: np.ndarray
    labels: np.ndarray
    wrong: np.ndarray
    groups: np.ndarray


def noisy_labels(
    rng: np.random.Generator, *, auc: float, wrong: float = 0.05, cells: float = 0.5, n: int = 2000
) -> NoisyLabels:
    """Return labels of which this share is flipped; the best network has this AUC."""
    truth, flipped = rng.random(n) < cells, rng.random(n) < wrong
    features = rng.normal(size=(n, 10))
    features[:, 0] += np.where(truth, 1, -1) * ndtri(auc) / np.sqrt(2)
    return NoisyLabels(features, truth ^ flipped, flipped, np.arange(n) // 5)


class Cubes(NamedTuple):
    """What a network sees of overlapping cubes, and the cube, overlap group and animal of each."""

    features: np.ndarray
    units: dict[str, np.ndarray]


def overlapping_cubes(rng: np.random.Generator) -> Cubes:
    """Return three overlapping cubes of each of 60 cells in each of 8 animals."""
    animal, group = np.repeat(np.arange(8), 180), np.repeat(np.arange(480), 3)
    seen = 2 * rng.normal(size=(8, 16))[animal] + rng.normal(size=(480, 16))[group]
    cube = np.arange(1440)
    return Cubes(seen + 0.2 * rng.normal(size=seen.shape), {"cube": cube, "group": group, "animal": animal})


def held_out(unit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hold out a quarter of the units; return which rows, shape (n,)."""
    names = np.unique(unit)
    return np.isin(unit, rng.choice(names, len(names) // 4, replace=False))
