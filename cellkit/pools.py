"""Labels from elsewhere, which come with their cubes: another laboratory's, or another program's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellkit.cubes import CubeGeometry
from cellkit.formats.cellfinder_cubes import CENTRE, stack_cubes
from cellkit.formats.cellfinder_points import CELL
from cellkit.formats.cellfinder_training import read_training
from cellkit.networks.fit import TrainingSet
from cellkit.stacks import LabelledStack


@dataclass(frozen=True)
class Pool:
    """Labels with their cubes that may train beside a study's own.

    Attributes
    ----------
    name : str
        What it is called in histories and on cards.
    task : str
        "cell" or "expression".
    stacks : tuple of LabelledStack
        One an image.
    images : dict of str to str
        The names of their images by the fingerprint of their files, where it is known: so that no label comes
        back to the study that it is of.
    about : dict of str to str
        Licence, description and the like, as the laboratory wrote them.
    """

    name: str
    task: str
    stacks: tuple[LabelledStack, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of labels."""
        return sum(len(stack.targets) for stack in self.stacks)

    def __repr__(self) -> str:
        positive = int(sum(stack.targets.sum() for stack in self.stacks))
        return (
            f"Pool({self.name!r}, task {self.task!r}: {positive} positive and {len(self) - positive} "
            f"negative labels of {len(self.stacks)} images)"
        )

    def training_set(self, geometry: CubeGeometry) -> TrainingSet:
        """Return the labels with cubes as a network of this geometry sees them; groups are animals."""
        cubes = [stack.cut(geometry) for stack in self.stacks]
        groups = [
            np.full(len(stack.targets), stack.animal or stack.name, dtype=object) for stack in self.stacks
        ]
        targets = np.concatenate([stack.targets for stack in self.stacks]).astype(np.float32)
        return TrainingSet(
            np.concatenate(cubes), targets, np.ones(len(targets), np.float32), np.concatenate(groups)
        )


def read_cellfinder(
    path: str | Path, *, diameter_um: float, name: str | None = None, root: str | Path | None = None
) -> Pool:
    """Read cellfinder's `training.yaml` and its cubes as a pool; cubes are opened when they are cut.

    Brightness is measured from the cubes, brain by brain. Parameters `path` and `root` and errors as of
    `formats.cellfinder_training.read_training`.

    Parameters
    ----------
    diameter_um : float
        Diameter of a cell in these brains, in µm.
    name : str, optional
        That of the folder of the YAML where it is not given.
    """
    labels = read_training(path, root=root)
    stacks = []
    for (source, _), part in labels.groupby(["source", labels["background"] != ""], sort=False):
        part = part.reset_index(drop=True)
        stacks.append(
            LabelledStack(
                name=Path(source).name,
                cubes=stack_cubes(part),
                centres=np.tile(CENTRE, (len(part), 1)),
                targets=(part["type"] == CELL).to_numpy(np.float32),
                diameter_um=diameter_um,
            )
        )
    home = Path(path).resolve()
    return Pool(name or (home if home.is_dir() else home.parent).name, "cell", tuple(stacks))
