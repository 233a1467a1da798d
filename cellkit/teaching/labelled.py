"""The labels that may train a network, the side each is on, and their cubes."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.folder.disk import fingerprint
from cellkit.folder.neighbourhoods import in_context
from cellkit.labels.sampling import barred
from cellkit.ledger import current_labels
from cellkit.networks.card import NORMALISATION, NetworkCard
from cellkit.networks.pool import CubePool
from cellkit.networks.predict import margins_of
from cellkit.networks.splits import space_blocks, split_groups
from cellkit.networks.stream import TrainingSet, pool_sets
from cellkit.study import SAME_PLACE, Study, open_study
from cellkit.teaching.cube_store import keep_cubes
from cellkit.teaching.pools import Pool

ENOUGH_ANIMALS = 3
CUBES = "cubes"
UM = ["z_um", "y_um", "x_um"]
CONTRADICTED = 0.05  # share of the labels from which on it is said aloud
Source = Study | Pool | TrainingSet | str | Path
WeightOf = Callable[[pd.DataFrame], Any]


class Labelled(NamedTuple):
    """Labels, one row each: their places, cubes and targets.

    `places` has `image, frame, z, y, x` (voxels), `z_um, y_um, x_um, answer, id, animal, side, block`,
    `crowding, prominence`, and `contradicted`, whether another person's newest answer there is the other
    class. `side` is "train", "validation" or "gap", `block` the number of a block of space. `cubes` is
    float16 (n, z, y, x, channel), on disk; `targets` (n,) 1 for the positive class; `weights` (n,) how much
    each counts; `margins` (n,) what the context adds to a logit. `pools` are sets from elsewhere, which only
    teach, and `sources` what they are called.
    """

    places: pd.DataFrame
    cubes: CubePool
    targets: np.ndarray
    weights: np.ndarray
    margins: np.ndarray
    pools: tuple[TrainingSet, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def all_own(self) -> TrainingSet:
        """All labels of the study itself, grouped by block of space."""
        blocks = self.places["block"].to_numpy()
        return TrainingSet(self.cubes, self.targets, self.weights, blocks, margins=self.margins)

    def on(self, *sides: str) -> TrainingSet:
        """Return the study's labels of these sides as a set to teach or to judge with."""
        return self.all_own.take(np.flatnonzero(self.places["side"].isin(sides)))

    @property
    def teaching(self) -> TrainingSet:
        """The study's labels of the side that trains, and all pooled ones."""
        own = self.on("train")
        return pool_sets([own, *self.pools]) if self.pools else own


def gather(
    study: Study, card: NetworkCard, pools: Sequence[Source] = (), *, weight_of: WeightOf | None = None
) -> Labelled:
    """Collect the labels that may train a network and their cubes, which are cut once and kept in `cubes/`.

    Left out are labels of images that judge, of audits, "unsure", and those whose cube overlaps an audited
    place. Where people contradict each other the newest answer counts. Validation takes whole animals where
    three or more are labelled, else blocks of space with a gap of one cube; it is always of this study, for
    which the network is meant.

    Parameters
    ----------
    study : Study
    card : NetworkCard
        Of the network that is to learn: it says what a cube is.
    pools : sequence of Study, path of a study, Pool, or TrainingSet
        What teaches beside the study's own labels; other images, of other animals.
    weight_of : callable, optional
        From a table of labels (`who, origin, answer, at, image` and others, a row a label) to how much each
        counts, above 0: with 3 a label counts as if it were there three times. The labels of other studies
        are asked too; a `TrainingSet` has weights of its own, and those of a bundle count 1.

    Warns
    -----
    UserWarning
        If one label in twenty or more is contradicted by another person.

    Raises
    ------
    ValueError
        If there are no such labels, only one class, or too few places to hold some out; if a pool is for
        another task, has no labels, has cubes of another geometry or an image of this study; if the network
        comes from another program; if a weight is not above 0.
    """
    if card.normalisation != NORMALISATION:
        raise ValueError(
            f"Retraining needs a network that sees cubes as cellkit cuts them; {card.name} comes from "
            "another program. Start from a supplied one, and compare the two on one audit."
        )
    places = training_places(study)
    targets = _targets(study, places)
    if len(places) == 0 or targets.min() == targets.max():
        counts = [int(targets.sum()), int((1 - targets).sum())]
        came = " and ".join(f"{n} {name}" for n, name in zip(counts, study.settings.classes, strict=True))
        raise ValueError(
            f"Retraining needs labels of both classes in training images; this study has {came}. "
            "Label more: annotate.draw_batch(study, ...)."
        )
    several = places["animal"].nunique() >= ENOUGH_ANIMALS
    z, y, x = (length * study.settings.diameter_um for length in card.cube.extent)
    by = "animal" if several else "space"
    side = split_groups(places, targets, cube_um=(z, y, x), seed=study.settings.seed, by=by)
    places = places.assign(side=side, block=space_blocks(places, (z, y, x)))
    places["contradicted"] = _contradicted(study, places)
    places = in_context(study, places)
    weights = _weights(places, weight_of)
    cubes = keep_cubes(study, places, card, study.folder / CUBES)
    opened = [open_study(pool) if isinstance(pool, str | Path) else pool for pool in pools]
    sets = tuple(_pooled(study, pool, card, weight_of) for pool in opened)
    margins = margins_of(card, places).astype(np.float32)
    return Labelled(places, cubes, targets, weights, margins, sets, tuple(map(_name, opened)))


def _weights(places: pd.DataFrame, weight_of: WeightOf | None) -> np.ndarray:
    """Return how much each label counts, float32 (n,): 1, or what `weight_of` says."""
    if weight_of is None:
        return np.ones(len(places), np.float32)
    weights = np.asarray(weight_of(places.copy()), dtype=np.float32)
    if weights.shape != (len(places),) or not (np.isfinite(weights) & (weights > 0)).all():
        least = f", the least {weights.min():g}" if weights.size else ""
        raise ValueError(
            f"`weight_of` must give each of {len(places)} labels a number above 0; it gave {weights.size} of "
            f"shape {weights.shape}{least}. Leave a label out by answering unsure."
        )
    return weights


def _contradicted(study: Study, places: pd.DataFrame) -> np.ndarray:
    """Tell which labels another person's newest answer at the place contradicts; say it if they are many."""
    told, classes = study.events(), study.settings.classes
    contradicted = np.zeros(len(places), bool)
    for who, events in told.groupby("who"):
        theirs = current_labels(events, within_um=0.0)
        other = theirs[theirs["answer"].isin(classes)].groupby(["image", "frame"])
        others = places[places["who"] != who].groupby(["image", "frame"]).groups
        for key, rows in others.items():
            if key in other.groups:
                there, row = other.get_group(key), places.index.get_indexer(rows)
                far, near = KDTree(there[UM]).query(places[UM].to_numpy()[row])
                differs = there["answer"].to_numpy()[near] != places["answer"].to_numpy()[row]
                contradicted[row] |= differs & (far <= SAME_PLACE * study.settings.diameter_um)
    if contradicted.sum() >= max(CONTRADICTED * len(places), 1):
        warnings.warn(
            f"{contradicted.sum()} of {len(places)} labels are contradicted by another person; the newest "
            "answer counts. Look at review.agreements(study), or let some count less by `weight_of`.",
            stacklevel=3,
        )
    return contradicted


def _pooled(
    study: Study, pool: Study | Pool | TrainingSet, card: NetworkCard, weight_of: WeightOf | None
) -> TrainingSet:
    """Return what a pool teaches; cubes of a study are kept in the folder of the one that learns."""
    if isinstance(pool, TrainingSet):
        if pool.cubes.shape[1:] != card.shape:
            raise ValueError(
                f"A pool's cubes must be those that {card.name} sees, {card.shape} voxels; a set has "
                f"{pool.cubes.shape[1:]}. Cut them with the network's geometry."
            )
        return pool
    task, images = (
        (pool.settings.task, image_files(pool)) if isinstance(pool, Study) else (pool.task, pool.images)
    )
    if task != study.settings.task:
        raise ValueError(
            f"Labels are pooled with those of the same task, {study.settings.task}; {_name(pool)} is for "
            f"{task}. Leave it out."
        )
    twice = sorted({images[key] for key in images.keys() & image_files(study).keys()})
    if twice:
        raise ValueError(
            "A pool may have no image of the study that it is pooled with: it could teach what an audit "
            f"measures; {_name(pool)} has {', '.join(twice)}. Copy its label files into the study instead."
        )
    places = training_places(pool) if isinstance(pool, Study) else pool
    if len(places) == 0:
        raise ValueError(f"A pool needs labels that may train; {_name(pool)} has none. Leave it out.")
    if isinstance(places, Pool):
        return places.training_set(card.cube, study.folder / CUBES)
    cubes = keep_cubes(pool, places, card, study.folder / CUBES)
    weights = _weights(places, weight_of)
    margins = margins_of(card, in_context(pool, places)).astype(np.float32)
    animals = places["animal"].to_numpy()
    return TrainingSet(cubes, _targets(pool, places), weights, animals, margins=margins)


def _name(pool: Study | Pool | TrainingSet) -> str:
    if isinstance(pool, Study):
        return pool.folder.name
    return pool.name if isinstance(pool, Pool) else "training set"


def image_files(study: Study) -> dict[str, str]:
    """Return the names of a study's images by the content of their files."""
    return {
        fingerprint(file): entry.name for entry in study.settings.images for file in entry.files(study.folder)
    }


def _targets(study: Study, places: pd.DataFrame) -> np.ndarray:
    return (places["answer"] == study.settings.classes[0]).to_numpy(np.float32)


def training_places(study: Study) -> pd.DataFrame:
    """Return the labels that may train, with `z, y, x` in voxels and `animal`; barred ones are left out."""
    labels = study.training_labels()
    voxel = np.array([study.voxel_um[name] for name in labels["image"]]).reshape(-1, 3)
    labels[["z", "y", "x"]] = labels[["z_um", "y_um", "x_um"]].to_numpy() / voxel
    labels["animal"] = [study.entry(name).animal for name in labels["image"]]
    return labels[~barred(study, labels)].reset_index(drop=True)
