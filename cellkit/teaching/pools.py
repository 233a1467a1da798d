"""Labels from elsewhere, which come with their cubes: another laboratory's, or another program's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellkit import __version__
from cellkit.cubes import CubeGeometry
from cellkit.folder.disk import fingerprint, writing
from cellkit.formats.cellfinder_cubes import CENTRE, stack_cubes
from cellkit.formats.cellfinder_points import CELL
from cellkit.formats.cellfinder_training import read_training
from cellkit.networks.fit import TrainingSet
from cellkit.pixels.stacks import LabelledStack


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

    def training_set(self, geometry: CubeGeometry, folder: Path | None = None) -> TrainingSet:
        """Return the labels with cubes as a network of this geometry sees them; groups are animals.

        Parameters
        ----------
        geometry : CubeGeometry
        folder : Path, optional
            Where cubes are cut to, once, as float16, and read from, so that memory does not grow with their
            number. Without it they are float32 in memory.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        if folder is None:
            cubes = np.concatenate([stack.cut(geometry) for stack in self.stacks])
        else:
            cubes = self._kept(geometry, folder)
        animals = [stack.animal or stack.name for stack in self.stacks]
        groups = np.repeat(np.array(animals, dtype=object), [len(stack.targets) for stack in self.stacks])
        targets = np.concatenate([stack.targets for stack in self.stacks]).astype(np.float32)
        return TrainingSet(cubes, targets, np.ones(len(targets), np.float32), groups)

    def _kept(self, geometry: CubeGeometry, folder: Path) -> np.ndarray:
        """Return the cubes mapped from a file, cut now if they are not there yet."""
        key = fingerprint([geometry, __version__, [stack.hash() for stack in self.stacks]])
        path, shape = folder / f"pool-{key}.npy", (len(self), *geometry.shape, 3)
        kept = _mapped(path, shape)
        if kept is None:
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            try:
                with writing(folder, what="The folder of cubes"):
                    folder.mkdir(parents=True, exist_ok=True)
                    with part.open("wb") as file:
                        np.lib.format.write_array_header_1_0(file, header)
                        for stack in self.stacks:
                            for _, cubes in stack.batches(geometry):
                                file.write(cubes.astype("<f2").tobytes())
                    os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r", allow_pickle=False) if kept is None else kept


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the cubes of a file, or None if it is not there or damaged."""
    try:
        cubes = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return cubes if cubes.shape == shape else None


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
