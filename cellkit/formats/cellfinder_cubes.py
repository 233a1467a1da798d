"""cellfinder's cubes: 20 x 50 x 50 voxels (z, y, x) of 5 x 1 x 1 µm, as bright as the image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import tifffile

from cellkit.cubes import ROLES, CubeGeometry, cut_batches
from cellkit.pixels.blocks import Readable
from cellkit.pixels.intensities import Intensities
from cellkit.pixels.stacks import CubeStack

GEOMETRY = CubeGeometry((20, 50, 50), (100.0, 50.0, 50.0), unit="µm")
VOXEL_UM = (5.0, 1.0, 1.0)
CENTRE = (10.0, 25.0, 25.0)  # the voxel that a cube is cut around
AS_MEASURED = dict.fromkeys(ROLES, Intensities(0.0, 1.0, 0.0, 1.0))


def cut_as_measured(image: Readable, places: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``(rows, cubes)`` as cellfinder cuts them: float32 (n, 20, 50, 50, 2), signal and background.

    Places whose cube crosses the border come too, the image's edge repeated; cellfinder leaves them out.
    Without a background its channel is 0. Parameters as of `cubes.cut_batches`.
    """
    cut = cut_batches(
        image, places, intensities=AS_MEASURED, diameter_um=1.0, geometry=GEOMETRY, as_measured=True
    )
    for rows, cubes in cut:
        yield rows, cubes[..., :2]


@dataclass(frozen=True)
class TiffCubes:
    """Cubes of one channel in files, each read when it is asked for."""

    files: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.files)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return one, shape (20, 50, 50); int16, as cellfinder up to 1.9 wrote it, is uint16 wrapped around.

        Raises
        ------
        ValueError
            If the file is not such a cube.
        """
        file = self.files[number]
        try:
            cube = tifffile.imread(file)
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{file} must be a TIFF; it is not: {reason}. Copy it again.") from error
        if cube.shape != GEOMETRY.shape or cube.dtype.kind not in "uif":
            raise ValueError(
                f"A cube of cellfinder has {GEOMETRY.shape} voxels (z, y, x); {file} has {cube.shape}, "
                f"{cube.dtype}. Leave it out."
            )
        if cube.dtype.kind == "f" and not np.isfinite(cube).all():
            raise ValueError(f"A cube must hold finite numbers; {file} does not. Leave it out.")
        return cube.view(np.uint16) if cube.dtype == np.int16 else cube


def stack_cubes(labels: pd.DataFrame) -> CubeStack:
    """Return the cubes of labels of one brain, from `read_training`, as a stack; read when needed."""
    channels = {"signal": TiffCubes(tuple(labels["signal"]))}
    if (labels["background"] != "").all():
        channels["background"] = TiffCubes(tuple(labels["background"]))
    return CubeStack(channels, GEOMETRY.shape, VOXEL_UM)
