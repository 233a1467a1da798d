"""cellfinder's training folders: a `training.yaml` and its cubes, read and written."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import yaml

from cellkit.cubes import ROLES
from cellkit.folder.disk import write_text, writing
from cellkit.formats.cellfinder_cubes import cut_as_measured
from cellkit.formats.cellfinder_points import CELL, NO_CELL, read_points
from cellkit.formats.texts import read_yaml
from cellkit.pixels.blocks import Readable

KINDS = {"cell": CELL, "no_cell": NO_CELL}
FOLDERS = {CELL: ("cells", "cell"), NO_CELL: ("non_cells", "no_cell")}
KEYS = ("cube_dir", "type", "signal_channel", "bg_channel")
COLUMNS = ["source", "z", "y", "x", "type", "signal", "background"]
PLANES = 50


def read_training(path: str | Path, *, root: str | Path | None = None) -> pd.DataFrame:
    """Read what a `training.yaml` lists: one row a label. No cube is opened.

    A folder that was moved since is found again: where a path is not there, its last parts are looked for
    beside the YAML.

    Parameters
    ----------
    path : path
        The `training.yaml`, or the folder that holds it.
    root : path, optional
        The folder in which all cubes must lie; that of the YAML where it is not given.

    Returns
    -------
    DataFrame
        `source` (the folder above that of the cubes: one brain), `z, y, x` (whole voxels of the brain's
        image, from the name), `type` (2 cell, 1 no cell), `signal` and `background` (files; "" without one).

    Raises
    ------
    FileNotFoundError
        If the YAML, a folder or a background cube is not there.
    ValueError
        If it is not a training file, or names a folder outside `root`.
    """
    path = Path(path)
    path = path / "training.yaml" if path.is_dir() else path
    said = read_yaml(path, most_mib=10)
    entries = said.get("data") if isinstance(said, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"{path} must be cellfinder's training file, a list named data; it is not. Is it the right file?"
        )
    home = Path(root or path.parent)
    checked = [_checked(entry, n, path) for n, entry in enumerate(entries)]
    rows = [row for entry in checked for row in _labels_of(entry, home, path)]
    if not rows:
        raise ValueError(f"{path} must list folders with cubes; there is none in them. Copy them too.")
    return pd.DataFrame(rows, columns=COLUMNS)


def _checked(entry: Any, number: int, path: Path) -> dict[str, Any]:
    missing = [key for key in KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(
            f"{path}: every entry needs {', '.join(KEYS)}; entry {number} lacks {', '.join(missing)}. Add it."
        )
    signal, background = entry["signal_channel"], entry["bg_channel"]
    whole = all(type(n) is int for n in (signal, background))
    if entry["type"] not in KINDS or not whole or not 0 <= signal <= 9 or not -1 <= background <= 9:
        raise ValueError(
            f"{path}: an entry's type is cell or no_cell, its channels 0 to 9, without background -1; entry "
            f"{number} has {entry['type']!r}, {signal!r} and {background!r}. Mend it."
        )
    return entry


def _labels_of(entry: dict[str, Any], home: Path, path: Path) -> Iterator[tuple[Any, ...]]:
    folder = _inside(entry["cube_dir"], home, path)
    wanted = _chosen(entry.get("cell_def"), home, path)
    signal, background = entry["signal_channel"], entry["bg_channel"]
    for name in sorted(os.listdir(folder)):
        if not name.lower().endswith(f"ch{signal}.tif"):
            continue
        place = _place_in(name, path)
        if wanted is not None and place not in wanted:
            continue
        first = _file_in(folder, name, home, path)
        second = ""
        if background not in {-1, signal}:
            second = _file_in(folder, f"{name[:-5]}{background}.tif", home, path)
        yield str(folder.parent), *place, KINDS[entry["type"]], first, second


def _place_in(name: str, path: Path) -> tuple[int, int, int]:
    found = [re.findall(rf"{axis}(\d+)", name.lower()) for axis in "zyx"]
    if not all(found):
        raise ValueError(
            f"{path}: the name of a cube must hold its place, as in pCellz10y308x132Ch0.tif; got {name}. "
            "Rename it."
        )
    z, y, x = (int(numbers[-1]) for numbers in found)
    return z, y, x


def _chosen(said: Any, home: Path, path: Path) -> set[tuple[int, int, int]] | None:
    """Return the places that `cell_def` chooses: a file of points, or a folder of named files."""
    if not said:
        return None
    file = _inside(said, home, path)
    if file.is_dir():
        return {_place_in(name, path) for name in os.listdir(file) if not name.startswith(".")}
    places = read_points(file)[["z", "y", "x"]].to_numpy(np.int64)
    return {(z, y, x) for z, y, x in places.tolist()}


def _inside(said: Any, home: Path, path: Path) -> Path:
    """Return where a path of the YAML lies, which must be inside `home`."""
    text = str(said)
    parts = (PureWindowsPath if "\\" in text else PurePath)(text).parts
    given = path.parent / text
    tails = [home.joinpath(*parts[n:]) for n in range(1, len(parts))]
    moved = (tail for tail in tails if not given.exists() and tail.exists())
    found = given if given.exists() else next(moved, given)
    if found.exists() and not found.resolve().is_relative_to(home.resolve()):
        raise ValueError(
            f"{path} may name folders inside {home} only; {text} lies outside. It was not read: copy the "
            "cubes beside the file, or say where they may lie with root=..."
        )
    if not found.exists():
        raise FileNotFoundError(
            f"{path} names {text}, which is not there, nor beside the file. Copy the cubes too."
        )
    return found


def _file_in(folder: Path, name: str, home: Path, path: Path) -> str:
    file = folder / name
    if file.is_symlink():
        _inside(file.absolute(), home, path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: every cube needs all its channels; {file} is missing. Copy it too.")
    return str(file)


def write_training(image: Readable, points: pd.DataFrame, folder: str | Path) -> Path:
    """Write labels of one image with their cubes so that `cellfinder_train` accepts them.

    The paths in the YAML are absolute, since cellfinder looks for relative ones where it was started. Without
    a background the signal stands for it, too: cellfinder 1.10.1 knows no network of one channel.

    Parameters
    ----------
    image : Image
    points : DataFrame
        `z, y, x` in voxels and `type` (2 cell, 1 no cell). Places that round to the same voxel, and have the
        same type, are written once.
    folder : path
        Is made; it may be there if it is empty.

    Returns
    -------
    Path
        The `training.yaml`, which is written last.

    Raises
    ------
    FileExistsError
        If the folder holds anything.
    ValueError
        If there is no point, or one has another type.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"A training folder is never written over another; {folder} is not empty. Choose another."
        )
    strange = sorted(set(points["type"]) - set(FOLDERS))
    if strange or len(points) == 0:
        raise ValueError(
            f"Training needs points of type 2 (cell) and 1 (no cell); got {strange or 'none'}. Label some."
        )
    whole = points.assign(**{axis: np.rint(points[axis]) for axis in "zyx"}, frame=0)
    whole = whole.drop_duplicates(["z", "y", "x", "type"], ignore_index=True)
    with writing(folder, what="The training folder"):
        for kind in sorted(set(whole["type"]), reverse=True):
            (folder / FOLDERS[kind][0]).mkdir(parents=True)
        _write_cubes(image, whole, folder)
        return write_text(folder / "training.yaml", _training_yaml(image, whole, folder))


def _write_cubes(image: Readable, points: pd.DataFrame, folder: Path) -> None:
    channels = [role for role in ROLES if role in image.roles]
    for rows, cubes in cut_as_measured(image, points):
        for row, cube in zip(rows, cubes, strict=True):
            z, y, x, kind = points.loc[row, ["z", "y", "x", "type"]].astype(int)
            for channel, _ in enumerate(channels):
                name = f"pCellz{z}y{y}x{x}Ch{channel}.tif"
                file = folder / FOLDERS[kind][0] / name
                tifffile.imwrite(file, np.ascontiguousarray(cube[..., channel]), photometric="minisblack")


def _training_yaml(image: Readable, points: pd.DataFrame, folder: Path) -> str:
    has_background = "background" in image.roles
    levels: dict[str, float] = {}
    for key, role in (("signal", "signal"), ("bg", "background" if has_background else "signal")):
        levels |= dict(zip((f"{key}_mean", f"{key}_std"), _mean_and_sd(image, role), strict=True))
    entries = [
        {
            "bg_channel": int(has_background),
            "cell_def": "",
            "cube_dir": str((folder / FOLDERS[kind][0]).resolve()),
            "signal_channel": 0,
            "type": FOLDERS[kind][1],
            **levels,
        }
        for kind in sorted(set(points["type"]), reverse=True)
    ]
    return yaml.safe_dump({"data": entries}, allow_unicode=True)


def _mean_and_sd(image: Readable, role: str) -> tuple[float, float]:
    """Return mean and standard deviation of at most 50 planes, as cellfinder's next version wants them."""
    planes = np.unique(np.linspace(0, image.shape[2] - 1, PLANES).astype(int))
    n, total, squares = 0, 0.0, 0.0
    for z in planes:
        box = (slice(int(z), int(z) + 1), slice(0, image.shape[3]), slice(0, image.shape[4]))
        plane = image.read(role, frame=0, box=box).astype(np.float64)
        n, total, squares = n + plane.size, total + plane.sum(), squares + np.square(plane).sum()
    mean = total / n
    return float(mean), float(np.sqrt(max(squares / n - mean**2, 0.0)))
