"""Go through an image block by block, on several cores; a stopped sweep goes on where it was.

What a block holds waits on the disk until all are done, so that memory does not grow with the image.
"""

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import product
from math import lcm
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from tqdm.auto import tqdm

from cellkit.finding.blobs import Blobs, find_blobs
from cellkit.finding.grids import Grid
from cellkit.finding.plateaus import Plateaus, join
from cellkit.finding.smoothing import Count, Room, mirror, pool
from cellkit.folder.disk import fingerprint, write_text, writing
from cellkit.images import Image

ALL_BLOCKS = 3_000_000
LEAST_BLOCK = 500_000
AT_ONCE = 8  # working planes that are read at a time, in whole chunks of the file
FAIR = 2.5  # times the noise, what most candidates surpass
BRIGHTEST = 1e25  # smoothing adds up to 4 to the 20th times a value before it divides, in float32


class Sweep(NamedTuple):
    """How to go through an image: a frame, blocks of so many working voxels, threads, a place for parts.

    Without a `folder` the parts lie in a temporary one, which is removed in the end.
    """

    frame: int
    block: Count
    workers: int
    folder: Path | None
    progress: bool


class Swept(NamedTuple):
    """What a sweep found.

    `noise` of all noise cells (z, y, x); `span`, least and greatest grey value; saturated `plateaus`; `blobs`
    of one block after the other, whose `piece` is now their plateau, -1 for none.
    """

    noise: np.ndarray
    span: tuple[float, float]
    plateaus: Plateaus
    blobs: Iterable[Blobs]


class _Seen(NamedTuple):
    """What is kept in memory of a block while others are gone through."""

    noise: np.ndarray
    span: np.ndarray
    fair: int
    level: float


@contextmanager
def sweep(image: Image, grid: Grid, how: Sweep) -> Iterator[Swept]:
    """Find the blobs of every block of an image; they can be read until the context ends.

    Raises
    ------
    ValueError
        If the image holds NaN or infinite values, or floating ones beyond 1e25.
    OSError
        If the folder cannot be written.
    """
    starts = list(product(*(range(0, n, b) for n, b in zip(grid.shape, how.block, strict=True))))
    with _folder(how.folder) as folder:
        keep = _Parts(folder)
        if how.folder is not None:
            keep.only_of(
                fingerprint({"grid": grid, "image": _state(image, grid, how.frame), "block": how.block})
            )
        rooms = _Rooms()

        def one(start: Count) -> _Seen:
            part = keep.read(start)
            if part is None:
                part = find_blobs(read_block(image, grid, start, how, rooms.room), grid, start, rooms.room)
                keep.write(start, part)
            fair = np.count_nonzero(part.height > FAIR * np.median(part.noise))
            return _Seen(part.noise.copy(), part.span, int(fair), float(part.level[0]))

        noise, span, levels = np.empty(_cells(grid), np.float32), (np.inf, -np.inf), {}
        bar = tqdm(total=len(starts), unit="block", desc=image.name, disable=not how.progress, leave=False)
        with bar, _threads(how.workers) as threads:
            waiting = {threads.submit(one, start): start for start in starts}
            for start, seen in _finished(waiting, bar):
                first = [s // c for s, c in zip(start, grid.noise_cell, strict=True)]
                cells = tuple(slice(f, f + n) for f, n in zip(first, seen.noise.shape, strict=True))
                noise[cells] = seen.noise
                span = min(span[0], float(seen.span[0])), max(span[1], float(seen.span[1]))
                levels[start] = seen.level
        bright = (start for start in starts if levels[start] == span[1])
        plateaus, numbers = join((start, keep.finished(start).pieces) for start in bright)
        yield Swept(
            noise, span, plateaus, (_placed(keep.finished(start), numbers.get(start)) for start in starts)
        )


def _placed(part: Blobs, numbers: np.ndarray | None) -> Blobs:
    """Return blobs that know the plateau they lie on, from the plateau of each piece."""
    return part._replace(piece=np.full(len(part.piece), -1) if numbers is None else numbers[part.piece])


def _cells(grid: Grid) -> Count:
    return tuple(-(-n // c) for n, c in zip(grid.shape, grid.noise_cell, strict=True))


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Make the folder for parts, or a temporary one."""
    if given is not None:
        with writing(given, what="The folder of a sweep"):
            given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="cellkit-") as folder:
        yield Path(folder)


class _Rooms(threading.local):
    """One room for each thread."""

    def __init__(self) -> None:
        self.room = Room()


@contextmanager
def _threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Run threads; when the person interrupts, blocks under way are finished and no other is begun."""
    threads = ThreadPoolExecutor(workers)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _finished(waiting: dict[Future, Count], bar: tqdm) -> Iterator[tuple[Count, _Seen]]:
    found = 0
    for future in as_completed(waiting):
        seen = future.result()
        found += seen.fair
        bar.set_postfix_str(f"about {found} candidates", refresh=False)
        bar.update()
        yield waiting.pop(future), seen


def block_shape(grid: Grid, *, workers: int, voxels: Count | None = None) -> Count:
    """Return the shape of blocks in working voxels, whole noise cells.

    Parameters
    ----------
    grid : Grid
        The image's.
    workers : int
        Blocks in memory at a time; together they have about 3 million working voxels.
    voxels : tuple of 3 int, optional
        The shape wanted, in voxels of the image; rounded to noise cells.
    """
    if voxels is not None:
        wanted = [v // b for v, b in zip(voxels, grid.binning, strict=True)]
    else:
        room = max(LEAST_BLOCK, ALL_BLOCKS // workers)
        least = 4 * max(1, grid.margin[0])
        y = x = 1
        while least * -(-grid.shape[1] // y) * -(-grid.shape[2] // x) > room:
            in_rows = 4 * grid.shape[1] / y >= grid.shape[2] / x  # as the strips of a TIFF lie
            y, x = (y + 1, x) if in_rows else (y, x + 1)
        plane = [-(-grid.shape[1] // y), -(-grid.shape[2] // x)]
        wanted = [room // (plane[0] * plane[1]), *plane]
    cells = [max(1, round(w / c)) for w, c in zip(wanted, grid.noise_cell, strict=True)]
    return tuple(n * c for n, c in zip(cells, grid.noise_cell, strict=True))


def read_block(image: Image, grid: Grid, start: Count, how: Sweep, room: Room) -> np.ndarray:
    """Read one block and the margin around it in working voxels, mirrored outside the image."""
    low, high, inside, shape = [], [], [], []
    for axis, (first, size) in enumerate(zip(start, how.block, strict=True)):
        margin, length = grid.margin[axis], grid.shape[axis]
        ends = first - margin, min(first + size, length) + margin
        low.append(max(0, ends[0]))
        high.append(min(length, ends[1]))
        inside.append(slice(low[-1] - ends[0], high[-1] - ends[0]))
        shape.append(ends[1] - ends[0])
    values = room.take("values", tuple(shape))
    pieces = lcm(image.chunk[0], grid.binning[0]) // grid.binning[0]
    pieces *= -(-AT_ONCE // pieces)
    z = low[0]
    while z < high[0]:
        end = min(high[0], z - z % pieces + pieces)
        pooled = values[inside[0].start + z - low[0] :][: end - z, *inside[1:]]
        _read_pooled(image, grid, how.frame, ((z, *low[1:]), (end, *high[1:])), pooled)
        z = end
    mirror(values, tuple(inside))
    return values


def _read_pooled(
    image: Image, grid: Grid, frame: int, corners: tuple[Count, Count], pooled: np.ndarray
) -> None:
    """Read the working voxels between two corners into `pooled`."""
    box, fill = [], []
    for low, high, binning, length in zip(*corners, grid.binning, grid.image_shape, strict=True):
        box.append(slice(low * binning, min(length, high * binning)))
        fill.append((0, (box[-1].start - box[-1].stop) % binning))
    z, y, x = box
    raw = image.read("signal", frame=frame, box=(z, y, x))
    if raw.dtype.kind == "f" and (far := max(raw.max(), -raw.min())) > BRIGHTEST:
        raise ValueError(
            f"Brightness must stay within {BRIGHTEST:g} to be averaged in float32; {image.name} has {far:g}. "
            "Divide the image by a constant: candidates do not change with its unit."
        )
    pool(np.pad(raw, fill, mode="symmetric") if np.any(fill) else raw, grid.binning, pooled)


def _state(image: Image, grid: Grid, frame: int) -> list[Any]:
    """Return what tells one image from another: its shape, and the grey values of a few small boxes."""
    told: list[Any] = [frame, grid.image_shape]
    for i in range(8):
        z, y, x = (
            slice(i * (n - min(n, side)) // 7, i * (n - min(n, side)) // 7 + min(n, side))
            for n, side in zip(grid.image_shape, (1, 128, 128), strict=True)
        )
        told.append(fingerprint(image.read("signal", frame=frame, box=(z, y, x))))
    return told


class _Parts:
    """Files of finished blocks in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def only_of(self, told: str) -> None:
        """Remove parts that another image or other settings made, by what the folder's `sweep.txt` tells."""
        with writing(self.folder, what="The folder of a sweep"):
            file = self.folder / "sweep.txt"
            if not file.is_file() or file.read_text() != told:
                for part in self.folder.glob("part-*.npz"):
                    part.unlink()
                write_text(file, told)

    def _file(self, start: Count) -> Path:
        return self.folder / f"part-{'-'.join(map(str, start))}.npz"

    def finished(self, start: Count) -> Blobs:
        with self._file(start).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return Blobs(**{name: kept[name] for name in Blobs._fields})

    def read(self, start: Count) -> Blobs | None:
        """Return a finished block, or None where it is missing or torn."""
        if not self._file(start).is_file():
            return None
        try:
            return self.finished(start)
        except (BadZipFile, ValueError, KeyError, OSError):
            return None

    def write(self, start: Count, part: Blobs) -> None:
        file = self._file(start)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        with writing(self.folder, what="The folder of a sweep"):
            with unfinished.open("wb") as out:
                np.savez(out, **part._asdict())
            os.replace(unfinished, file)
