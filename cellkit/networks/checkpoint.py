"""Where a training stands after each epoch, kept on disk so that a killed one goes on from there."""

import json
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cellkit.folder.disk import plain

KEPT = 2
PARTS = ("variables", "optimiser", "best", "recent", "least")
DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, NotImplementedError)


class State(NamedTuple):
    """Where a training stands.

    `rows` is the history so far and `best_epoch` the epoch that is kept; `variables` are the network's, of
    its weights and of its random layers, `optimiser` those of the optimiser, `best` those that are kept;
    `recent` the loss of each validation label in the last epochs, `least` its mean over the epochs where they
    were least in all. Order, variation and learning rate follow from the settings and the epoch.
    """

    rows: list[dict[str, float]]
    best_epoch: int
    variables: list[np.ndarray]
    optimiser: list[np.ndarray]
    best: list[np.ndarray]
    recent: list[np.ndarray]
    least: list[np.ndarray]


def save_state(folder: Path, state: State, made_from: Mapping[str, Any]) -> bool:
    """Keep a state on disk, whole or not at all, beside the one before it; return whether there was room.

    A full or failing disk is a warning, not an error: the training itself is not lost by it.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    made_from : dict
        Plain values: what the training is made from. `load_state` compares.
    """
    kept = _files(folder)
    for attempt in range(2):
        try:
            _write(folder / f"epoch-{len(state.rows):05}.npz", state, made_from)
            break
        except OSError as error:
            if attempt == 0 and len(kept) >= KEPT:
                kept.pop(0).unlink(missing_ok=True)
                continue
            warnings.warn(
                f"The checkpoint of epoch {len(state.rows)} could not be written to {folder}: "
                f"{error.strerror or error}. Training goes on; if it is killed now, it starts again from "
                f"{f'epoch {_epoch(kept[-1])}' if kept else 'the beginning'}. Free space.",
                stacklevel=2,
            )
            return False
    for old in _files(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return True


def load_state(folder: Path, made_from: Mapping[str, Any]) -> State | None:
    """Return the newest whole state of a training made from the same, or None if there is none.

    A damaged file is passed over with a warning. A state of a training that was made from something else is
    set aside in `before-1`, `before-2`, ... beside `folder`, with a warning that says what has changed.
    """
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
    for path in reversed(_files(folder)):
        try:
            was, state = _read(path)
        except DAMAGED as error:
            warnings.warn(
                f"The checkpoint {path} is damaged ({str(error).splitlines()[0][:80] or 'it is empty'}); "
                "training goes on from the one before, or else from the beginning.",
                stacklevel=2,
            )
            continue
        changed = _changes(was, json.loads(_as_json(made_from)))
        if not changed:
            return state
        aside = _set_aside(folder)
        warnings.warn(
            f"The training that was interrupted in epoch {len(state.rows) + 1} cannot go on: "
            f"{'; '.join(changed)}. It starts anew; its checkpoints are kept in {aside}.",
            stacklevel=2,
        )
        return None
    return None


def discard(folder: Path) -> None:
    """Remove the checkpoints of a training that has ended and been saved."""
    shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.npz"), key=_epoch)


def _epoch(path: Path) -> int:
    number = path.stem.removeprefix("epoch-")
    return int(number) if number.isdecimal() else 0


def _as_json(value: Any) -> str:
    return json.dumps(value, default=plain)


def _write(path: Path, state: State, made_from: Mapping[str, Any]) -> None:
    record = {"made_from": made_from, "rows": state.rows, "best_epoch": state.best_epoch}
    arrays = {f"{name}.{k:05}": array for name in PARTS for k, array in enumerate(getattr(state, name))}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            np.savez(file, record=np.frombuffer(_as_json(record).encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any], State]:
    """Read a file whole; every array in it has a checksum."""
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        record = json.loads(file["record"].tobytes())
        arrays = [[file[key] for key in sorted(file.files) if key.startswith(f"{name}.")] for name in PARTS]
    return record["made_from"], State(record["rows"], record["best_epoch"], *arrays)


def _changes(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say what two records differ in; hashes only by their name."""
    said = []
    for key in sorted(was.keys() | now.keys()):
        old, new = was.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            said += _changes(old, new)
        elif old != new:
            said.append(f"{key} changed" if key.startswith("the ") else f"{key} was {old} and is now {new}")
    return said


def _set_aside(folder: Path) -> Path:
    aside = next(path for n in count(1) if not (path := folder.with_name(f"before-{n}")).exists())
    folder.rename(aside)
    return aside
