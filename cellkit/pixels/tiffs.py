"""TIFF files as lazy arrays: a block is read, not the file.

An uncompressed stack is memory-mapped; of a compressed one only the strips or tiles that a block needs are
decoded, and the last ones are kept.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from cellkit.pixels.planes import Mapped, Planes

GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
DAMAGED = re.compile("invalid page offset|invalid value offset|corrupted|failed to reshape|missing data")
UM_PER = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4}
UM_PER |= {"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "micron": 1.0}
UM_PER |= {"microns": 1.0, "nanometer": 1e-3, "picometer": 1e-6, "angstrom": 1e-4}


class Stored(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    array : array-like
        Has `shape`, `dtype` and indexing with numbers and slices; reads when indexed.
    axes : str
        One letter an axis of `array`, "?" where the file does not name it.
    sides_um : dict of str to float
        Voxel size in µm along the axes z, y, x, as far as the file says it.
    chunk : tuple of int
        Smallest part that the file gives at once, one number an axis.
    """

    array: Any
    axes: str
    sides_um: dict[str, float]
    chunk: tuple[int, ...]


def open_tiff(path: Path, *, level: int = 0) -> Stored:
    """Open a TIFF, OME-TIFF or ImageJ TIFF, or one level of a pyramid in it.

    Raises
    ------
    ValueError
        If it is not a TIFF, is damaged or in colour, holds several images that differ, or has no such level.
    """
    with _parsed(path) as tiff:
        series = tiff.series
        _check_grey(path, series[0].keyframe)
        _check_alike(path, series)
        check_level(path, level, len(series[0].levels))
        finest, series = series[0], [series[0].levels[level], *series[1:]]
        axes = re.sub("[^tczyx]", "?", series[0].axes.lower())
        shape, sides_um = series[0].shape, _sides_um(tiff)
        for axis, whole, n in zip(axes, finest.shape, shape, strict=True):
            if axis in sides_um:
                sides_um[axis] *= whole / n
        if len(series) > 1:
            axes, shape = f"?{axes}", (len(series), *shape)
        pages = [page for image in series for page in image.pages]
        contiguous = series[0].dataoffset if len(series) == 1 else None
        if contiguous is not None:
            _check_complete(path, contiguous + series[0].nbytes, len(pages), len(pages))
            stored = series[0].dtype.newbyteorder(tiff.byteorder)
            mapped = Mapped(path, stored, contiguous, shape)
            return Stored(mapped, axes, sides_um, (1,) * len(shape))
        planes = _planes(path, pages, shape[:-2])
    return Stored(planes, axes, sides_um, planes.chunk)


def check_level(path: object, level: int, levels: int) -> None:
    """Raise a ValueError if a file of so many levels has not this one."""
    if level and levels == 1:
        raise ValueError(
            f"Only a pyramid has levels; {path} holds one image, and level {level} came. Leave it out."
        )
    if not 0 <= level < levels:
        raise ValueError(
            f"The level must be one of the {levels} of {path}, counted from 0; got {level}. "
            "Level 0 is the finest."
        )


def _check_alike(path: Path, series: Sequence[Any]) -> None:
    alike = {(image.shape, image.dtype) for image in series}
    if len(alike) > 1 or (len(series) > 1 and len(series[0].shape) != 2):
        shapes = ", ".join(str(image.shape) for image in series[:4])
        raise ValueError(
            f"A TIFF must hold one image, or planes of one shape and type; {path} holds {len(series)}: "
            f"{shapes}{', ...' if len(series) > 4 else ''}. Save the one you want as a file of its own."
        )


def _planes(path: Path, pages: Sequence[Any], leading: tuple[int, ...]) -> Planes:
    """Join pages, which may lie in several files, if all of them are there."""
    there = [page for page in pages if page is not None]
    files = [Path(page.parent.filehandle.path) for page in there]
    ends: dict[Path, int] = {path: 0}
    for page, file in zip(there, files, strict=True):
        ends[file] = max(ends.get(file, 0), _end(page))
    for file, end in ends.items():
        _check_complete(file, end, len(there), int(np.prod(leading)))
    return Planes(pages, files, leading)


def open_planes(paths: Sequence[Path]) -> Stored:
    """Open TIFF files of one plane each as a stack, in the order of the paths.

    Raises
    ------
    ValueError
        As `open_tiff`; if a file holds several planes, or another shape or type than the first.
    """
    pages: list[Any] = []
    sides_um: dict[str, float] = {}
    for path in paths:
        with _parsed(path) as tiff:
            page = tiff.pages[0]
            _check_grey(path, page)
            if len(tiff.pages) > 1:
                raise ValueError(
                    f"In a folder of planes each TIFF must hold one plane; {path} holds {len(tiff.pages)}. "
                    "Give that file itself, or take it out of the folder."
                )
            _check_complete(path, _end(page), 1, 1)
            if pages and (page.shape, page.dtype) != (pages[0].shape, pages[0].dtype):
                raise ValueError(
                    f"The planes of a folder must have one shape and type; {paths[0].name} has "
                    f"{pages[0].shape} {pages[0].dtype}, {path.name} has {page.shape} {page.dtype}. "
                    "Take out what does not belong, or save the planes again."
                )
            sides_um = sides_um or _sides_um(tiff)
            pages.append(page)
    planes = Planes(pages, paths, (len(pages),))
    return Stored(planes, "?yx", sides_um, planes.chunk)


def _parsed(path: Path) -> tifffile.TiffFile:
    """Open a TIFF and read its structure; what tifffile only logs about damage becomes an error."""
    if path.stat().st_size == 0:
        raise ValueError(f"A TIFF must hold an image; {path} is empty (0 bytes). Copy it again.")
    with _heard() as complaints, ExitStack() as opened:
        number, in_pyramid = 0, False
        try:
            tiff = opened.enter_context(tifffile.TiffFile(path))
            number = len(tiff.pages) and len(tiff.series)
            in_pyramid = bool(number and tiff.pages.first.pages)
        except Exception as error:  # a damaged header breaks the parser anywhere
            complaints.append(f"corrupted: {error}")
        if any("not a TIFF" in said for said in complaints):
            raise ValueError(f"An image with this ending must be a TIFF; {path} is not. Save it as TIFF.")
        if in_pyramid:  # tifffile expects another shape of it
            complaints = [said for said in complaints if "invalid shaped series metadata" not in said]
        if number == 0 or any(DAMAGED.search(said) for said in complaints):
            raise ValueError(f"A TIFF must be whole; {path} is damaged or cut short. Copy or save it again.")
        opened.pop_all()
    return tiff


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect what tifffile logs, in place of its printing."""
    complaints: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("tifffile")
    propagates, log.propagate = log.propagate, False
    log.addHandler(listener)
    try:
        yield complaints
    finally:
        log.removeHandler(listener)
        log.propagate = propagates


def _check_grey(path: Path, page: Any) -> None:
    if page.samplesperpixel != 1 or page.photometric not in GREY:
        raise ValueError(
            f"An image must be in grey values, one number a voxel; {path} is in colour "
            f"({page.photometric.name}, {page.samplesperpixel} numbers a voxel). Split it into its channels."
        )


def _end(page: Any) -> int:
    """Return where the last byte of a page must lie."""
    return int(max(np.add(page.dataoffsets, page.databytecounts), default=0))


def _check_complete(path: Path, end: int, pages: int, expected: int) -> None:
    there = path.stat().st_size
    if end > there:
        raise ValueError(
            f"A TIFF must be whole; {path} ends after {there:,} of {end:,} bytes. Copy or save it again."
        )
    if pages != expected:
        raise ValueError(
            f"A TIFF must be whole; {path} holds {pages} of {expected} planes. Copy or save it again."
        )


def _sides_um(tiff: tifffile.TiffFile) -> dict[str, float]:
    """Return the voxel size that the OME or ImageJ metadata give, as far as they do."""
    if tiff.is_ome and tiff.ome_metadata:
        pixels = ElementTree.fromstring(tiff.ome_metadata).find("{*}Image/{*}Pixels")
        found = {} if pixels is None else dict(pixels.attrib)
        said = {
            side: (
                found.get(f"PhysicalSize{side.upper()}"),
                found.get(f"PhysicalSize{side.upper()}Unit", "µm"),
            )
            for side in "zyx"
        }
        return {side: um for side, (number, unit) in said.items() if (um := in_um(number, unit))}
    if not tiff.is_imagej:
        return {}
    notes, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    sides = {"z": notes.get("spacing")}
    for side, tag in [("y", "YResolution"), ("x", "XResolution")]:
        pixels_per_unit = tags[tag].value if tag in tags else (0, 1)
        sides[side] = pixels_per_unit[1] / pixels_per_unit[0] if pixels_per_unit[0] else None
    units = {side: notes.get(f"{side}unit", notes.get("unit")) for side in "zyx"}
    return {side: um for side in "zyx" if (um := in_um(sides[side], units[side]))}


def in_um(number: object, unit: object) -> float | None:
    """Return a length in µm, or None where the number or the unit says nothing."""
    named = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), str(unit)).replace("μ", "µ")
    try:
        um = float(str(number)) * UM_PER[named]
    except (ValueError, KeyError):
        return None
    return um if 0 < um < np.inf else None
