"""Go through an image block by block, on several cores; a stopped sweep goes on where it was."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from tqdm.auto import tqdm

from cellkit.blobs import Blobs, Grid, find_blobs
from cellkit.disk import fingerprint, write_text, writing
from cellkit.images import Image
from cellkit.smoothing import Count, Room, mirror, pool

ALL_BLOCKS = 3_000_000
LEAST_BLOCK = 500_000
FAIR = 2.5  # times the noise, what most candidates surpass


class Sweep(NamedTuple):
    """How to go through an image: a frame, blocks of so many working voxels, threads, a place for parts."""

    frame: int
    block: Count
    workers: int
    folder: Path | None
    progress: bool


def sweep(image: Image, grid: Grid, how: Sweep) -> dict[Count, Blobs]:
    """Find the blobs of every block of an image, by the block's first working voxel.

    Raises
    ------
    ValueError
        If the image holds NaN or infinite values.
    """
    starts = list(product(*(range(0, n, b) for n, b in zip(grid.shape, how.block, strict=True))))
    keep = _Parts(
        how.folder,
        lambda: fingerprint({"grid": grid, "image": _state(image, grid, how.frame), "block": how.block}),
    )

    rooms = _Rooms()

    def one(start: Count) -> Blobs:
        part = keep.read(start)
        if part is None:
            part = find_blobs(read_block(image, grid, start, how, rooms.room), grid, start, rooms.room)
            keep.write(start, part)
        return part

    bar = tqdm(total=len(starts), unit="block", desc=image.name, disable=not how.progress, leave=False)
    with bar, _threads(how.workers) as threads:
        waiting = {threads.submit(one, start): start for start in starts}
        return dict(_finished(waiting, bar))


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


def _finished(waiting: dict[Future, Count], bar: tqdm) -> Iterator[tuple[Count, Blobs]]:
    found = 0
    for future in as_completed(waiting):
        part = future.result()
        found += int(np.count_nonzero(part.height > FAIR * np.median(part.noise)))
        bar.set_postfix_str(f"about {found} candidates", refresh=False)
        bar.update()
        yield waiting.pop(future), Blobs(*(values.copy() for values in part))


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
    box, fill, inside, shape = [], [], [], []
    for axis, (first, size) in enumerate(zip(start, how.block, strict=True)):
        margin, length, binning = grid.margin[axis], grid.image_shape[axis], grid.binning[axis]
        low, high = first - margin, min(first + size, grid.shape[axis]) + margin
        box.append(slice(max(0, low) * binning, min(length, high * binning)))
        fill.append((0, (box[-1].start - box[-1].stop) % binning))
        inside.append(slice(max(0, -low), min(high, grid.shape[axis]) - low))
        shape.append(high - low)
    z, y, x = box
    raw = image.read("signal", frame=how.frame, box=(z, y, x))
    values = room.take("values", tuple(shape))
    pool(np.pad(raw, fill, mode="symmetric") if np.any(fill) else raw, grid.binning, values[tuple(inside)])
    mirror(values, tuple(inside))
    return values


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


def joined_noise(parts: dict[Count, Blobs], grid: Grid) -> np.ndarray:
    """Put the noise cells of all blocks side by side."""
    noise = np.empty([-(-n // c) for n, c in zip(grid.shape, grid.noise_cell, strict=True)], np.float32)
    for start, part in parts.items():
        first = [s // c for s, c in zip(start, grid.noise_cell, strict=True)]
        noise[tuple(slice(f, f + n) for f, n in zip(first, part.noise.shape, strict=True))] = part.noise
    return noise


class _Parts:
    """Files of finished blocks in a folder; parts that another image or other settings made are removed."""

    def __init__(self, folder: Path | None, state: Callable[[], str]):
        self.folder = folder
        if folder is None:
            return
        told = state()
        with writing(folder, what="The folder of a sweep"):
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / "sweep.txt"
            if not file.is_file() or file.read_text() != told:
                for part in folder.glob("part-*.npz"):
                    part.unlink()
                write_text(file, told)

    def _file(self, folder: Path, start: Count) -> Path:
        return folder / f"part-{'-'.join(map(str, start))}.npz"

    def read(self, start: Count) -> Blobs | None:
        if self.folder is None or not self._file(self.folder, start).is_file():
            return None
        try:
            with self._file(self.folder, start).open("rb") as file, np.load(file, allow_pickle=False) as kept:
                return Blobs(**{name: kept[name] for name in Blobs._fields})
        except (BadZipFile, ValueError, KeyError, OSError):
            return None

    def write(self, start: Count, part: Blobs) -> None:
        if self.folder is None:
            return
        file = self._file(self.folder, start)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        with writing(self.folder, what="The folder of a sweep"):
            with unfinished.open("wb") as out:
                np.savez(out, **part._asdict())
            os.replace(unfinished, file)
