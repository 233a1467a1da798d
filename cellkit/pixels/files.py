"""Image files of every kind as lazy arrays along (t, c, z, y, x): TIFF, OME-Zarr, NumPy."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellkit.pixels.planes import Mapped, release
from cellkit.pixels.tiffs import Stored, check_level, in_um, open_planes, open_tiff

TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".tf8")
ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")


class Axes:
    """A stored array seen along (t, c, z, y, x); axes that it lacks have length 1."""

    def __init__(self, stored: Stored, axes: str):
        self._array, self._axes = stored.array, axes
        lengths = dict(zip(axes, stored.array.shape, strict=True))
        chunk = dict(zip(axes, stored.chunk, strict=True))
        self.shape = tuple(int(lengths.get(axis, 1)) for axis in "tczyx")
        self.chunk = tuple(int(chunk.get(axis, 1)) for axis in "zyx")
        self.dtype = np.dtype(stored.array.dtype).newbyteorder("=")

    def __getitem__(self, index: tuple[int, int, slice, slice, slice]) -> np.ndarray:
        """Read a block of one frame and channel, shape (z, y, x): an array of its own."""
        wanted = dict(zip("tczyx", index, strict=True))
        block = np.asarray(self._array[tuple(wanted[axis] for axis in self._axes)])
        kept = [axis for axis in self._axes if axis in "zyx"]
        block = block.transpose([kept.index(axis) for axis in "zyx" if axis in kept])
        if isinstance(self._array, np.ndarray):
            block = block.astype(self.dtype, order="C")
            release(self._array)
        block = np.ascontiguousarray(block, dtype=self.dtype)
        return block if "z" in kept else block[None]


class Stack:
    """Several images of one channel or more, one after the other along c."""

    def __init__(self, parts: Sequence[Axes]):
        self._channels = [(part, c) for part in parts for c in range(part.shape[1])]
        frames, _, *zyx = parts[0].shape
        self.shape = (frames, len(self._channels), *zyx)
        self.chunk = tuple(max(part.chunk[k] for part in parts) for k in range(3))
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, index: tuple[int, int, slice, slice, slice]) -> np.ndarray:
        """Read a block of one frame and channel, shape (z, y, x)."""
        frame, channel, z, y, x = index
        part, c = self._channels[channel]
        return part[frame, c, z, y, x]


def open_file(path: Path, *, level: int = 0) -> Stored:
    """Open a TIFF, a folder of TIFF planes, an OME-Zarr or a `.npy`; of a pyramid one level.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If what is there is of another kind, damaged or in colour.
    """
    if not path.exists():
        raise FileNotFoundError(f"An image must be there to be opened; {path} is not. Is the path right?")
    is_zarr = path.is_dir() and any((path / mark).exists() for mark in ZARR_MARKS)
    if is_zarr:
        return _open_zarr(path, level)
    if path.is_file() and path.suffix.lower() in TIFF_ENDINGS:
        return open_tiff(path, level=level)
    check_level(path, level, 1)
    if path.is_dir():
        return _open_folder(path)
    if path.suffix.lower() == ".npy":
        return _open_npy(path)
    raise ValueError(
        "An image must be a TIFF, a folder of TIFF planes, an OME-Zarr or a .npy; "
        f"got {path}. Export it as OME-TIFF."
    )


def _open_folder(path: Path) -> Stored:
    """Open the TIFFs of a folder as planes, plane2 before plane10."""
    planes = [file for file in path.iterdir() if file.suffix.lower() in TIFF_ENDINGS and file.name[0] != "."]
    if not planes:
        raise ValueError(
            f"A folder of planes must hold TIFFs, and an OME-Zarr its metadata; {path} holds neither. "
            "Is it the right folder?"
        )
    return open_planes(sorted(planes, key=natural_order))


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a sorting key by which plane2 comes before plane10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def _open_npy(path: Path) -> Stored:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = (str(error) or "it is empty").splitlines()[0]
        raise ValueError(
            f"A .npy must hold one whole array; {path} cannot be read: {reason}. Save it again."
        ) from error
    order = "C" if array.flags.c_contiguous else "F"
    mapped = Mapped(path, array.dtype, array.offset, array.shape, order)
    return Stored(mapped, unnamed_axes(array.ndim), {}, (1,) * array.ndim)


def unnamed_axes(number: int) -> str:
    """Return the axes of an array that names none: the last two are y and x."""
    return "?" * (number - 2) + "yx"


def _open_zarr(path: Path, level: int) -> Stored:
    import zarr  # slow to load, and few need it

    try:
        node = zarr.open(path, mode="r")
    except Exception as error:  # whatever a store holds that is no Zarr
        raise ValueError(
            f"An OME-Zarr must be whole; {path} cannot be read: {type(error).__name__}. Copy it again."
        ) from error
    if isinstance(node, zarr.Array):
        check_level(path, level, 1)
        return Stored(node, unnamed_axes(node.ndim), {}, _chunk(node))
    attributes: Mapping[str, Any] = node.attrs.asdict()
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        inside = ", ".join(sorted(node)[:5]) or "nothing"
        raise ValueError(
            f"An OME-Zarr must have `multiscales` in its attributes; {path} has none. "
            f"Give the image inside it; it holds {inside}."
        )
    datasets = scales[0]["datasets"]
    check_level(path, level, len(datasets))
    array = node.get(datasets[level]["path"])
    if not isinstance(array, zarr.Array):
        raise ValueError(
            f"An OME-Zarr must hold the levels that it lists; {path} lists {datasets[level]['path']!r} "
            "and holds no such array. Copy it again."
        )
    axes, sides_um = _zarr_axes(scales[0], level, array.ndim)
    return Stored(array, axes, sides_um, _chunk(array))


def _chunk(array: Any) -> tuple[int, ...]:
    return tuple(array.shards or array.chunks)


def _zarr_axes(scale: Mapping[str, Any], level: int, number: int) -> tuple[str, dict[str, float]]:
    """Return the axes' names and the voxel size of one level; versions before 0.4 name no units."""
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scale.get("axes", [])]
    names = "".join(axis["name"] if axis["name"] in set("tczyx") else "?" for axis in axes)
    if len(names) != number:
        return unnamed_axes(number), {}
    scales = [
        np.asarray(transform["scale"], dtype=float)
        for holder in (scale["datasets"][level], scale)
        for transform in holder.get("coordinateTransformations", [])
        if transform.get("type") == "scale"
    ]
    lengths = np.prod(scales, axis=0) if scales else np.full(number, np.nan)
    said = {axis["name"]: in_um(n, axis.get("unit")) for axis, n in zip(axes, lengths, strict=True)}
    return names, {name: um for name, um in said.items() if name in set("zyx") and um}


def name_axes(stored: Stored, axes: str | None, *, what: str) -> str:
    """Return one letter of "tczyx" for each axis: those given, else the file's, else (z, y, x) or (y, x).

    Raises
    ------
    ValueError
        If the given axes do not fit, or there are four or more and the file does not name them.
    """
    number = len(stored.array.shape)
    if axes is not None:
        if len(axes) != number or len(set(axes)) != number or not set("yx") <= set(axes) <= set("tczyx"):
            raise ValueError(
                f"`axes` must name each axis of an image once, by t, c, z, y or x, with y and x; {what} has "
                f"{number} axes of length {stored.array.shape}, got {axes!r}. Mend `axes`."
            )
        return axes
    named = stored.axes.replace("?", "z") if "z" not in stored.axes else stored.axes
    if "?" in named or len(set(named)) != len(named) or not set("yx") <= set(named):
        raise ValueError(
            f"An image must name its axes unless they are (y, x) or (z, y, x); {what} has {number} axes "
            f'of length {stored.array.shape}, known as {stored.axes!r}. Name them: `axes="tzyx"`.'
        )
    return named
