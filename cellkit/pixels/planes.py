"""Planes of TIFF files, and mapped files, as arrays: a block is read, not the file.

Both can be sent to another process, which opens the files there anew. Reading is safe from several threads.
"""

import mmap
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile

KEPT_BYTES, SLAB_BYTES = 64_000_000, 1_000_000


class Mapped:
    """A stretch of a file that holds an array as it is, mapped into memory."""

    def __init__(self, path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...], order: Any = "C"):
        self._made_of = (path, dtype, offset, shape, order)
        if not path.exists():
            raise FileNotFoundError(f"An image must be there to be read; {path} is not. Was it moved?")
        self._array = np.memmap(path, dtype, "r", offset, shape, order)
        self.shape, self.dtype = self._array.shape, dtype.newbyteorder("=")

    def __reduce__(self) -> tuple[type, tuple]:
        return Mapped, self._made_of

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        """Read a block: slices and numbers, one an axis."""
        block = np.array(self._array[index], dtype=self.dtype, order="C")
        release(self._array)
        return block


def release(array: np.ndarray) -> None:
    """Give the memory of a mapped file back: pages that were read would count until the file is closed.

    Only of a file mapped for reading, whose pages can be read again.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if getattr(array, "mode", "") == "r" and isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


class Kind(NamedTuple):
    """What pages have in common: where one of them is described, its voxels' type, its strips or tiles.

    `offset` and `index` are those of the page in the file; `dtype` is as stored; `chunk` is the shape (y, x)
    of a strip or tile and `across` the number of them beside one another; `tables` are those of JPEG; pages
    that are `plain` lie in the file as they are.
    """

    path: Path
    offset: int
    index: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, int]
    across: int
    tables: bytes | None
    plain: bool


class Planes:
    """Equal pages of TIFF files as one array, whose last two axes are those of a page."""

    def __init__(self, pages: Sequence[Any], files: Sequence[Path], leading: tuple[int, ...]):
        first = pages[0].keyframe
        self.shape = (*leading, *first.shape)
        self.dtype = first.dtype.newbyteorder("=")
        self._numbers = np.arange(len(pages)).reshape(leading)
        common = [
            (page.keyframe.hash, page.parent.byteorder, page.jpegtables, _is_plain(page)) for page in pages
        ]
        kinds = {key: _kind(page) for key, page in zip(common[::-1], pages[::-1], strict=True)}
        self._kinds = list(kinds.values())
        numbers = {key: n for n, key in enumerate(kinds)}
        self._kind_of = np.array([numbers[key] for key in common], np.int32)
        self._paths = list(dict.fromkeys(files))
        places = {path: n for n, path in enumerate(self._paths)}
        self._path_of = np.array([places[path] for path in files], np.int32)
        self._first = np.cumsum([0, *(len(page.dataoffsets) for page in pages)])
        self._offsets = np.concatenate([np.array(page.dataoffsets, np.int64) for page in pages])
        self._counts = np.concatenate([np.array(page.databytecounts, np.int64) for page in pages])
        self._start()

    def _start(self) -> None:
        tallest, widest = (max(kind.chunk[axis] for kind in self._kinds) for axis in (0, 1))
        self._kept = _Kept((tallest, widest), self.dtype)
        self._decoders: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in {"_kept", "_decoders", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a strip or tile."""
        kind = self._kinds[self._kind_of[0]]
        return (*(1,) * self._numbers.ndim, *((1, 1) if kind.plain else kind.chunk))

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        """Read a block: slices of the last two axes, a slice or a number of the others."""
        rows, columns = (range(n)[side] for n, side in zip(self.shape[-2:], index[-2:], strict=True))
        numbers = np.asarray(self._numbers[index[:-2]])
        block = np.empty((*numbers.shape, len(rows), len(columns)), dtype=self.dtype)
        with ExitStack() as stack:
            opened: dict[int, BinaryIO] = {}
            for position in np.ndindex(numbers.shape):
                number = int(numbers[position])
                file = int(self._path_of[number])
                if file not in opened:
                    opened[file] = stack.enter_context(open(self._paths[file], "rb"))
                self._fill(block[position], number, (rows, columns), opened[file])
        return block

    def _fill(self, plane: np.ndarray, number: int, part: tuple[range, range], file: BinaryIO) -> None:
        kind = self._kinds[self._kind_of[number]]
        rows, columns = part
        if kind.plain:
            offset = int(self._offsets[self._first[number]])
            mapped = np.memmap(file, kind.dtype, mode="r", offset=offset, shape=self.shape[-2:])
            plane[...] = mapped[rows.start : rows.stop, columns.start : columns.stop]
            return
        height, width = kind.chunk
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(columns.start // width, -(-columns.stop // width)):
                y, x = i * height, j * width
                top, left = max(rows.start, y), max(columns.start, x)
                bottom, right = min(rows.stop, y + height), min(columns.stop, x + width)
                cut = slice(top - y, bottom - y), slice(left - x, right - x)
                out = plane[
                    top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
                ]
                which = int(self._first[number]) + i * kind.across + j
                if not self._kept.copy(which, cut, out):
                    segment = self._decoded(number, which, file)
                    self._kept.keep(which, segment)
                    out[...] = segment[cut]

    def _decoded(self, number: int, which: int, file: BinaryIO) -> np.ndarray:
        """Return one strip or tile, shape (y, x)."""
        kind = int(self._kind_of[number])
        file.seek(int(self._offsets[which]))
        coded, place = file.read(int(self._counts[which])) or None, which - int(self._first[number])
        decoded, _, shape = self._decoder(kind)(coded, place, jpegtables=self._kinds[kind].tables)
        return np.zeros(shape[1:3], self.dtype) if decoded is None else decoded[0, :, :, 0]

    def _decoder(self, number: int) -> Any:
        """Return what decodes pages of one kind; made when first needed, also in another process."""
        with self._lock:
            if number not in self._decoders:
                kind = self._kinds[number]
                with tifffile.TiffFile(kind.path) as tiff:
                    tiff.filehandle.seek(kind.offset)
                    self._decoders[number] = tifffile.TiffPage(tiff, kind.index).decode
            return self._decoders[number]


def _kind(page: Any) -> Kind:
    key = page.keyframe
    stored, chunk = key.dtype.newbyteorder(page.parent.byteorder), (int(key.chunks[0]), int(key.chunks[1]))
    path = Path(key.parent.filehandle.path)
    return Kind(
        path, key.offset, key.treeindex, stored, chunk, key.chunked[1], page.jpegtables, _is_plain(page)
    )


def _is_plain(page: Any) -> bool:
    """Say whether a page lies in its file as one uncompressed stretch."""
    ends = np.add(page.dataoffsets, page.databytecounts)
    return page.keyframe.is_contiguous and np.array_equal(ends[:-1], page.dataoffsets[1:])


class _Kept:
    """The strips or tiles that were used last, in arrays that are used again: memory falls to no pieces."""

    def __init__(self, shape: tuple[int, int], dtype: np.dtype):
        nbytes = shape[0] * shape[1] * dtype.itemsize
        self._room, self._together = max(1, KEPT_BYTES // nbytes), max(1, SLAB_BYTES // nbytes)
        self._slab = (self._together, *shape), dtype
        self._slabs: list[np.ndarray] = []
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()

    def copy(self, which: int, cut: tuple[slice, slice], out: np.ndarray) -> bool:
        """Copy a part of a strip or tile to `out`, if it is kept; say whether it is."""
        with self._lock:
            if which not in self._slots:
                return False
            self._slots.move_to_end(which)
            out[...] = self._held(self._slots[which])[cut]
            return True

    def keep(self, which: int, segment: np.ndarray) -> None:
        """Keep a strip or tile, in place of the one that was used longest ago where there is no room."""
        with self._lock:
            if which in self._slots:
                return
            full = len(self._slots) == self._room
            slot = self._slots.popitem(last=False)[1] if full else len(self._slots)
            if slot == len(self._slabs) * self._together:
                self._slabs.append(np.empty(*self._slab))
            self._held(slot)[: segment.shape[0], : segment.shape[1]] = segment
            self._slots[which] = slot

    def _held(self, slot: int) -> np.ndarray:
        return self._slabs[slot // self._together][slot % self._together]
