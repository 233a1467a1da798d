"""TIFF files as lazy arrays: a block is read, not the file.

An uncompressed stack is memory-mapped; of a compressed one only the strips or tiles that a block needs are
decoded, and the last ones are kept. Reading is safe from several threads.
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

KEPT_BYTES = 64_000_000
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


class Planes:
    """Equal pages of TIFF files as one array, whose last two axes are those of a page."""

    def __init__(self, pages: Sequence[Any], files: Sequence[Path], leading: tuple[int, ...]):
        self._pages, self._files = pages, files
        first = pages[0].keyframe
        self.shape = (*leading, *first.shape)
        self.dtype = first.dtype.newbyteorder("=")
        self._numbers = np.arange(len(pages)).reshape(leading)
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a strip or tile."""
        leading = (1,) * self._numbers.ndim
        return (*leading, *((1, 1) if _is_plain(self._pages[0]) else self._pages[0].keyframe.chunks))

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        """Read a block: slices of the last two axes, a slice or a number of the others."""
        rows, columns = (range(n)[side] for n, side in zip(self.shape[-2:], index[-2:], strict=True))
        numbers = np.asarray(self._numbers[index[:-2]])
        block = np.empty((*numbers.shape, len(rows), len(columns)), dtype=self.dtype)
        with ExitStack() as stack:
            opened: dict[Path, BinaryIO] = {}
            for position in np.ndindex(numbers.shape):
                number = int(numbers[position])
                path = self._files[number]
                if path not in opened:
                    opened[path] = stack.enter_context(open(path, "rb"))
                self._fill(block[position], number, (rows, columns), opened[path])
        return block

    def _fill(self, plane: np.ndarray, number: int, part: tuple[range, range], file: BinaryIO) -> None:
        page = self._pages[number]
        rows, columns = part
        if _is_plain(page):
            stored = page.keyframe.dtype.newbyteorder(page.parent.byteorder)
            mapped = np.memmap(file, stored, mode="r", offset=page.dataoffsets[0], shape=self.shape[-2:])
            plane[...] = mapped[rows.start : rows.stop, columns.start : columns.stop]
            return
        height, width = page.keyframe.chunks
        across = page.keyframe.chunked[1]
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(columns.start // width, -(-columns.stop // width)):
                segment = self._segment(number, i * across + j, file)
                y, x = i * height, j * width
                top, left = max(rows.start, y), max(columns.start, x)
                cut = segment[top - y : rows.stop - y, left - x : columns.stop - x]
                plane[top - rows.start :, left - columns.start :][: cut.shape[0], : cut.shape[1]] = cut

    def _segment(self, number: int, which: int, file: BinaryIO) -> np.ndarray:
        """Return one decoded strip or tile, shape (y, x)."""
        with self._lock:
            if (number, which) in self._kept:
                self._kept.move_to_end((number, which))
                return self._kept[number, which]
        page = self._pages[number]
        file.seek(page.dataoffsets[which])
        coded = file.read(page.databytecounts[which])
        decoded, _, shape = page.keyframe.decode(coded, which, jpegtables=page.jpegtables)
        segment = np.zeros(shape[1:3], self.dtype) if decoded is None else decoded[0, :, :, 0]
        with self._lock:
            if (number, which) not in self._kept:
                self._kept[number, which] = segment
                self._kept_bytes += segment.nbytes
            while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return segment


def _is_plain(page: Any) -> bool:
    """Say whether a page lies in its file as one uncompressed stretch."""
    ends = np.add(page.dataoffsets, page.databytecounts)
    return page.keyframe.is_contiguous and np.array_equal(ends[:-1], page.dataoffsets[1:])


def open_tiff(path: Path) -> Stored:
    """Open a TIFF, OME-TIFF or ImageJ TIFF.

    Raises
    ------
    ValueError
        If it is not a TIFF, is damaged or in colour, or holds several images that differ.
    """
    with _parsed(path) as tiff:
        series = tiff.series
        _check_grey(path, series[0].keyframe)
        alike = {(image.shape, image.dtype) for image in series}
        if len(alike) > 1 or (len(series) > 1 and len(series[0].shape) != 2):
            shapes = ", ".join(str(image.shape) for image in series[:4])
            raise ValueError(
                f"A TIFF must hold one image, or planes of one shape and type; {path} holds {len(series)}: "
                f"{shapes}{', ...' if len(series) > 4 else ''}. Save the one you want as a file of its own."
            )
        axes = re.sub("[^tczyx]", "?", series[0].axes.lower())
        shape, sides_um = series[0].shape, _sides_um(tiff)
        if len(series) > 1:
            axes, shape = f"?{axes}", (len(series), *shape)
        pages = [page for image in series for page in image.pages]
        contiguous = series[0].dataoffset if len(series) == 1 else None
        if contiguous is not None:
            _check_complete(path, contiguous + series[0].nbytes, len(pages), len(pages))
            stored = series[0].dtype.newbyteorder(tiff.byteorder)
            mapped = np.memmap(path, stored, mode="r", offset=contiguous, shape=shape)
            return Stored(mapped, axes, sides_um, (1,) * len(shape))
        there = [page for page in pages if page is not None]
        files = [Path(page.parent.filehandle.path) for page in there]
        ends: dict[Path, int] = {path: 0}
        for page, file in zip(there, files, strict=True):
            ends[file] = max(ends.get(file, 0), _end(page))
        for file, end in ends.items():
            _check_complete(file, end, len(there), int(np.prod(shape[:-2])))
    planes = Planes(pages, files, shape[:-2])
    return Stored(planes, axes, sides_um, planes.chunk)


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
    with _heard() as complaints:
        tiff = None
        try:
            tiff = tifffile.TiffFile(path)
            number = len(tiff.pages) and len(tiff.series)
        except Exception as error:  # a damaged header breaks the parser anywhere
            complaints.append(f"corrupted: {error}")
            number = 0
    if any("not a TIFF" in said for said in complaints):
        raise ValueError(f"An image with this ending must be a TIFF; {path} is not. Save it as TIFF.")
    if number == 0 or any(DAMAGED.search(said) for said in complaints):
        if tiff is not None:
            tiff.close()
        raise ValueError(f"A TIFF must be whole; {path} is damaged or cut short. Copy or save it again.")
    assert tiff is not None
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
