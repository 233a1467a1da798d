"""The labels that may train a network, the side each is on, and their cubes."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cellkit.cubes import cut_cubes
from cellkit.networks.card import NetworkCard
from cellkit.networks.fit import TrainingSet
from cellkit.networks.splits import space_blocks, split_groups
from cellkit.sampling import barred
from cellkit.study import Study

ENOUGH_ANIMALS = 3


class Labelled(NamedTuple):
    """Labels, one row each: their places, cubes and targets.

    `places` has `image, frame, z, y, x` (voxels), `z_um, y_um, x_um, answer, id, animal, side, block`. `side`
    is "train", "validation" or "gap", `block` the number of a block of space. `cubes` is float32
    (n, z, y, x, channel), `targets` (n,) 1 for the positive class.
    """

    places: pd.DataFrame
    cubes: np.ndarray
    targets: np.ndarray

    def on(self, *sides: str) -> TrainingSet:
        """Return the labels of these sides as a set to teach or to judge with."""
        rows = self.places["side"].isin(sides).to_numpy()
        animals = self.places["animal"].to_numpy()[rows]
        return TrainingSet(self.cubes[rows], self.targets[rows], np.ones(rows.sum(), np.float32), animals)


def gather(study: Study, card: NetworkCard) -> Labelled:
    """Collect the labels that may train a network and cut their cubes.

    Left out are labels of images that judge, of audits, "unsure", and those whose cube overlaps an audited
    place. Validation takes whole animals where three or more are labelled, else blocks of space with a gap of
    one cube.

    Parameters
    ----------
    study : Study
    card : NetworkCard
        Of the network that is to learn: it says what a cube is.

    Raises
    ------
    ValueError
        If there are no such labels, only one class, or too few places to hold some out.
    """
    places = _training_places(study)
    targets = (places["answer"] == study.settings.classes[0]).to_numpy(np.float32)
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
    return Labelled(places, _cubes(study, places, card), targets)


def _training_places(study: Study) -> pd.DataFrame:
    labels = study.training_labels()
    voxel = np.array([study.voxel_um[name] for name in labels["image"]]).reshape(-1, 3)
    labels[["z", "y", "x"]] = labels[["z_um", "y_um", "x_um"]].to_numpy() / voxel
    labels["animal"] = [study.entry(name).animal for name in labels["image"]]
    return labels[~barred(study, labels)].reset_index(drop=True)


def _cubes(study: Study, places: pd.DataFrame, card: NetworkCard) -> np.ndarray:
    cubes = np.empty((len(places), *card.shape), np.float32)
    for name, rows in places.groupby("image").indices.items():
        cubes[rows] = cut_cubes(
            study.image(str(name)), places.iloc[rows], intensities=study.intensities(str(name)),
            diameter_um=study.settings.diameter_um, geometry=card.cube,
        )  # fmt: skip
    return cubes
