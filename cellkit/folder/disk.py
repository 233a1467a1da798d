"""Writing that a killed program or a full disk cannot leave half done, and fingerprints of things."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BLOCK = 65536
BLOCKS = 64
FILES = 32


@contextmanager
def writing(folder: Path, *, what: str) -> Iterator[None]:
    """Turn a failure to write into an error of the same kind that says in one line what to do.

    Raises
    ------
    PermissionError
        If the folder is read-only.
    OSError
        If the disk is full, or whatever else the machine says.
    """
    try:
        yield
    except OSError as error:
        denied = isinstance(error, PermissionError) or error.errno == errno.EROFS
        raise (PermissionError if denied else OSError)(
            f"{what} must be writable; {folder} is not: {error.strerror or error}. "
            "Free space or ask for the right to write, then do the last step again: it was not saved."
        ) from error


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all: a killed program leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_json(path: Path, record: Any) -> Path:
    """Write a record as JSON, whole or not at all; NaN is not JSON and is refused with a ValueError."""
    return write_text(path, json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def read_json(path: Path, *, what: str) -> Any:
    """Read a JSON file.

    Raises
    ------
    ValueError
        If the file does not hold JSON; `what` names it in the message.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{what} must hold JSON; {path} does not: {error}. Put back a copy of it."
        ) from error


def append_text(path: Path, text: str) -> None:
    """Write whole lines at a file's end and wait until the disk has them; on failure leave it as it was."""
    data = text.encode()
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def fingerprint(what: Any) -> str:
    """Return 16 hexadecimal digits that change when a record, a table, an array, a file or a folder does.

    A file counts by its content, not by its name, place or time, so a study can be copied. Of a file above
    4 MiB the length and 64 evenly spread blocks of 64 KiB are read; of a folder the names and lengths of all
    files and the content of 32 of them.

    Parameters
    ----------
    what : JSON-able object, dataclass, DataFrame, ndarray or Path
        A plain str is text; pass a Path to mean a file.
    """
    if isinstance(what, Path):
        return _path_digest(what).hexdigest()[:16]
    digest = hashlib.sha256()
    if isinstance(what, pd.DataFrame):
        for name in what.columns:
            digest.update(f"{name}\0{len(what)}\0".encode())
            digest.update(_column_bytes(what[name]))
    elif isinstance(what, np.ndarray):
        digest.update(f"{what.dtype.str}{what.shape}".encode() + np.ascontiguousarray(what).tobytes())
    else:
        digest.update(json.dumps(what, sort_keys=True, default=plain, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def plain(value: Any) -> Any:
    """Return a plain value that JSON holds in place of a dataclass, array, numpy number or path."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(
        f"Plain values are needed; got a {type(value).__name__}. Pass numbers, texts, lists and dicts."
    )


def _column_bytes(column: pd.Series) -> bytes:
    if pd.api.types.is_numeric_dtype(column.dtype):
        kind = "<i8" if pd.api.types.is_integer_dtype(column.dtype) else "<f8"
        return kind.encode() + column.to_numpy().astype(kind).tobytes()
    texts = column.astype(object).where(column.notna(), None)
    return json.dumps(texts.tolist(), default=str, ensure_ascii=False).encode()


def _path_digest(path: Path) -> "hashlib._Hash":
    if not path.is_dir():
        stat = path.stat()
        return _file_digest(path, stat.st_size, stat.st_mtime_ns).copy()
    digest = hashlib.sha256()
    files = sorted(_files_in(str(path), ""))
    digest.update(json.dumps(files).encode("utf-8", "surrogatepass"))
    for n in np.unique(np.linspace(0, len(files) - 1, FILES).astype(int)) if files else ():
        digest.update(_path_digest(path / files[n][0]).digest())
    return digest


def _files_in(folder: str, inside: str) -> Iterator[tuple[str, int]]:
    """Yield path and length of every file, the path from the top folder with slashes."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_in(entry.path, f"{inside}{entry.name}/")
            else:
                yield f"{inside}{entry.name}", entry.stat().st_size


@lru_cache(maxsize=1024)
def _file_digest(path: Path, length: int, modified: int) -> "hashlib._Hash":
    """Hash what is read of one file; `modified` keys the cache."""
    digest = hashlib.sha256(str(length).encode())
    with path.open("rb") as file:
        if length <= BLOCK * BLOCKS:
            digest.update(file.read())
        else:
            for start in np.linspace(0, length - BLOCK, BLOCKS).astype(int):
                file.seek(int(start))
                digest.update(file.read(BLOCK))
    return digest


def write_frozen(path: Path, places: pd.DataFrame, record: dict[str, Any]) -> Path:
    """Write a table and the record of how it was drawn, as JSON with a hash, never over a file that is there.

    Raises
    ------
    FileExistsError
        If there is one.
    """
    if path.exists():
        raise FileExistsError(
            f"A frozen file is never overwritten; {path} is there. Use another name, or read the one that is."
        )
    columns = {str(name): str(places[name].dtype) for name in places.columns}
    rows = [list(row) for row in places.astype(object).where(places.notna(), None).itertuples(index=False)]
    frozen = json.loads(json.dumps({"record": record, "columns": columns, "places": rows}, default=plain))
    with writing(path.parent, what="The folder of audits"):
        return write_json(path, {"sha256": _content_hash(frozen)} | frozen)


def read_frozen(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read what `write_frozen` wrote.

    Raises
    ------
    ValueError
        If the file was changed since.
    """
    frozen = read_json(path, what="A frozen file")
    said = frozen.pop("sha256", "") if isinstance(frozen, dict) else ""
    if said != _content_hash(frozen):
        raise ValueError(
            f"A frozen file must be as it was written; {path} was changed since: its hash does not fit. "
            "Put back a copy of the original."
        )
    places = pd.DataFrame(frozen["places"], columns=list(frozen["columns"]))
    return places.astype(frozen["columns"]), frozen["record"]


def _content_hash(frozen: Any) -> str:
    return hashlib.sha256(json.dumps(frozen, sort_keys=True, allow_nan=False).encode()).hexdigest()
