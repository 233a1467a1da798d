"""The labels that may train a network, the side each is on, and their cubes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cellkit.folder.disk import fingerprint
from cellkit.labels.sampling import barred
from cellkit.networks.card import NORMALISATION, NetworkCard
from cellkit.networks.pool import CubePool
from cellkit.networks.splits import space_blocks, split_groups
from cellkit.networks.stream import TrainingSet, pool_sets
from cellkit.study import Study, open_study
from cellkit.teaching.cube_store import keep_cubes
from cellkit.teaching.pools import Pool

ENOUGH_ANIMALS = 3
CUBES = "cubes"
Source = Study | Pool | TrainingSet | str | Path


class Labelled(NamedTuple):
    """Labels, one row each: their places, cubes and targets.

    `places` has `image, frame, z, y, x` (voxels), `z_um, y_um, x_um, answer, id, animal, side, block`. `side`
    is "train", "validation" or "gap", `block` the number of a block of space. `cubes` is float16
    (n, z, y, x, channel), on disk; `targets` (n,) 1 for the positive class. `pools` are sets from elsewhere,
    which only teach, and `sources` what they are called.
    """

    places: pd.DataFrame
    cubes: CubePool
    targets: np.ndarray
    pools: tuple[TrainingSet, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def all_own(self) -> TrainingSet:
        """All labels of the study itself, grouped by block of space."""
        weights, blocks = np.ones(len(self.targets), np.float32), self.places["block"].to_numpy()
        return TrainingSet(self.cubes, self.targets, weights, blocks)

    def on(self, *sides: str) -> TrainingSet:
        """Return the study's labels of these sides as a set to teach or to judge with."""
        return self.all_own.take(np.flatnonzero(self.places["side"].isin(sides)))

    @property
    def teaching(self) -> TrainingSet:
        """The study's labels of the side that trains, and all pooled ones."""
        own = self.on("train")
        return pool_sets([own, *self.pools]) if self.pools else own


def gather(study: Study, card: NetworkCard, pools: Sequence[Source] = ()) -> Labelled:
    """Collect the labels that may train a network and their cubes, which are cut once and kept in `cubes/`.

    Left out are labels of images that judge, of audits, "unsure", and those whose cube overlaps an audited
    place. Validation takes whole animals where three or more are labelled, else blocks of space with a gap of
    one cube; it is always of this study, for which the network is meant.

    Parameters
    ----------
    study : Study
    card : NetworkCard
        Of the network that is to learn: it says what a cube is.
    pools : sequence of Study, path of a study, Pool, or TrainingSet
        What teaches beside the study's own labels; other images, of other animals.

    Raises
    ------
    ValueError
        If there are no such labels, only one class, or too few places to hold some out; if a pool is for
        another task, has no labels, has cubes of another geometry or an image of this study; if the network
        comes from another program.
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
    cubes = keep_cubes(study, places, card, study.folder / CUBES)
    opened = [open_study(pool) if isinstance(pool, str | Path) else pool for pool in pools]
    sets = tuple(_pooled(study, pool, card) for pool in opened)
    return Labelled(places, cubes, targets, sets, tuple(map(_name, opened)))


def _pooled(study: Study, pool: Study | Pool | TrainingSet, card: NetworkCard) -> TrainingSet:
    """Return what a pool teaches; cubes of a study are kept in the folder of the one that learns."""
    if isinstance(pool, TrainingSet):
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
    weights = np.ones(len(places), np.float32)
    return TrainingSet(cubes, _targets(pool, places), weights, places["animal"].to_numpy())


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
