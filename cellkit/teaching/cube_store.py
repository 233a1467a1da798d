"""Cubes of labelled places, cut once and kept on disk, so that training reads them and memory stays small."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellkit import __version__
from cellkit.cubes import cut_batches
from cellkit.folder.disk import fingerprint, writing
from cellkit.networks.card import NetworkCard
from cellkit.networks.pool import CubePool
from cellkit.study import Study

KEY = ["frame", "z_um", "y_um", "x_um"]


def keep_cubes(study: Study, places: pd.DataFrame, card: NetworkCard, folder: Path) -> CubePool:
    """Return the cubes of places; those that are not in the folder yet are cut and added.

    They are found again by the content of the image, the place, and the way cubes are cut. A damaged file is
    cut anew, and the whole folder may be deleted at any time.

    Parameters
    ----------
    study : Study
        Whose images the places lie in.
    places : DataFrame
        Columns `image, frame, z, y, x` (voxels) and `z_um, y_um, x_um`.
    card : NetworkCard
        Of the network that is to see the cubes.
    folder : Path
        Where cubes are kept: float16, one file for all places of an image that came together.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    parts: list[np.ndarray] = [np.empty((0, *card.shape), np.float16)]
    part_of, row_of = np.zeros((2, len(places)), np.int64)
    for name, rows in places.groupby("image").indices.items():
        home = folder / way_of_cutting(study, str(name), card)
        here = places.iloc[rows]
        keys = here[KEY].to_numpy(np.float64)
        known = _known(home, card.shape)
        missing = here[[key.tobytes() not in known for key in keys]].drop_duplicates(KEY)
        if len(missing):
            with writing(folder, what="The folder of cubes"):
                _cut(study, missing, card, home)
            known = _known(home, card.shape)
        files = sorted({known[key.tobytes()][0] for key in keys})
        number = {file: len(parts) + n for n, file in enumerate(files)}
        parts += [np.load(file, mmap_mode="r") for file in files]
        for row, key in zip(rows, keys, strict=True):
            file, row_of[row] = known[key.tobytes()]
            part_of[row] = number[file]
    return CubePool(parts, part_of, row_of)


def way_of_cutting(study: Study, name: str, card: NetworkCard) -> str:
    """Return what changes when a cube of this image would be another."""
    way: list[Any] = [study.image_fingerprint(name), study.intensities(name), study.settings.diameter_um]
    return fingerprint([*way, card.cube, card.channels, card.normalisation, __version__])


def _known(home: Path, shape: tuple[int, ...]) -> dict[bytes, tuple[Path, int]]:
    """Return the file and row of every place that is kept, by its bytes; damaged files are removed."""
    known = {}
    for listed in sorted(home.glob("*.places.npy")):
        cubes = listed.with_name(listed.name.replace(".places", ""))
        try:
            keys = np.load(listed, allow_pickle=False)
            there = np.load(cubes, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            keys = there = np.empty(0)
        if len(keys) == 0 or there.shape != (len(keys), *shape):
            listed.unlink(missing_ok=True)
            continue
        known |= {key.tobytes(): (cubes, row) for row, key in enumerate(keys)}
    return known


def _cut(study: Study, places: pd.DataFrame, card: NetworkCard, home: Path) -> None:
    """Cut cubes batch by batch into one file; the list of its places comes last and makes it count."""
    home.mkdir(parents=True, exist_ok=True)
    name = str(places["image"].iloc[0])
    keys = places[KEY].to_numpy(np.float64)
    path = home / f"{sha256(keys.tobytes()).hexdigest()[:16]}.npy"
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    header = {"descr": "<f2", "fortran_order": False, "shape": (len(places), *card.shape)}
    order = []
    try:
        with part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for rows, cubes in cut_batches(
                study.image(name), places, intensities=study.intensities(name),
                diameter_um=study.settings.diameter_um, geometry=card.cube,
            ):  # fmt: skip
                order.append(rows)
                file.write(cubes.astype("<f2").tobytes())
        os.replace(part, path)
        with part.open("wb") as file:
            np.save(file, keys[np.concatenate(order)])
        os.replace(part, path.with_suffix(".places.npy"))
    finally:
        part.unlink(missing_ok=True)
