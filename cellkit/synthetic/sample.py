"""The sample study: three small animals with their truth, the same wherever they are made."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from cellkit.study import Study, create_study, open_study
from cellkit.synthetic.settings import (
    ArtefactSettings,
    OpticsSettings,
    SomaSettings,
    TissueSettings,
    VolumeSettings,
)
from cellkit.synthetic.volume import Volume, make_volume
from cellkit.tables import write_table

DIAMETER_UM = 15.0
SEED = 2026
_FIRST = VolumeSettings(
    shape=(42, 224, 224),
    voxel_um=(5.0, 2.0, 2.0),
    somas=SomaSettings(n=300, clustered=0.15, contrast=(0.5, 3.5)),
    tissue=TissueSettings(outside=0.12, vessels=18),
    artefacts=ArtefactSettings(autofluorescent=420, debris=25, fibres=170, precipitates=110),
    optics=OpticsSettings(photons=30, background_photons=25, gain=1.2, offset=30, read_noise=2, full=4095),
)
ANIMALS = {
    "animal-1": _FIRST,
    "animal-2": replace(
        _FIRST,
        somas=replace(_FIRST.somas, n=330, contrast=(0.5, 2.8), layered=0.2, hollow=0.5),
        tissue=replace(_FIRST.tissue, outside=0.12, vessels=20),
        optics=replace(_FIRST.optics, photons=24, gain=1.6, scattered=(0.2, 0.5), stripes=0.1),
    ),
    "animal-3": replace(
        _FIRST,
        somas=replace(_FIRST.somas, n=270, contrast=(0.5, 4.0), irregular=0.35),
        tissue=replace(_FIRST.tissue, outside=0.08, layers=0.18, mottle=0.1),
        artefacts=replace(_FIRST.artefacts, autofluorescent=440, debris=40, contrast=(0.4, 5.0)),
        optics=replace(_FIRST.optics, photons=27, gain=1.6, shading=0.45),
    ),
}


def create_sample_study(folder: str | os.PathLike[str]) -> Study:
    """Return the sample study in `folder`, made there if it is not there yet (a few seconds).

    Three animals, each with one image of two channels (signal, background) at 5 x 2 x 2 µm: animal-1 and
    animal-2 train, animal-3 judges. The truth lies in ``truth/<image>.csv``.
    """
    folder = Path(folder)
    if (folder / "study.toml").exists():
        return open_study(folder)
    make_sample_images(folder)
    images = [
        {
            "name": name,
            "path": folder / "images" / f"{name}.tif",
            "voxel_um": settings.voxel_um,
            "roles": ("signal", "background"),
            "animal": name,
            "role": "judge" if name == "animal-3" else "train",
        }
        for name, settings in ANIMALS.items()
    ]
    return create_study(folder, images=images, diameter_um=DIAMETER_UM, seed=SEED)


def make_sample_images(folder: str | os.PathLike[str]) -> None:
    """Write ``images/<animal>.tif`` (compressed OME-TIFF) and ``truth/<animal>.csv`` into `folder`."""
    folder = Path(folder)
    for name in ANIMALS:
        volume = make_sample_volume(name)
        write_volume(volume, folder / "images" / f"{name}.tif")
        write_table(volume.truth, folder / "truth" / f"{name}.csv")


def make_sample_volume(animal: str) -> Volume:
    """Make the volume of one animal of the sample study, by its name."""
    return make_volume(ANIMALS[animal], SEED + list(ANIMALS).index(animal))


def write_volume(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write both channels as one compressed OME-TIFF with axes (c, z, y, x), whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    z, y, x = volume.settings.voxel_um
    sizes = {"PhysicalSizeZ": z, "PhysicalSizeY": y, "PhysicalSizeX": x}
    units = {f"{name}Unit": "µm" for name in sizes}
    part = path.with_name(f".{path.name}.part")
    try:
        tifffile.imwrite(
            part,
            np.stack([volume.signal, volume.background]),
            ome=True,
            compression="zlib",
            compressionargs={"level": 9},
            metadata={"axes": "CZYX", "Channel": {"Name": ["signal", "background"]}, **sizes, **units},
        )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
