"""Events of labels as they are read back from a folder: every whole line of every file, in time order."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellkit.tables import LABEL_COLUMNS, empty_table

TEXTS = [name for name, kind in LABEL_COLUMNS.items() if kind == "str"]
NUMBERS = ["frame", "z_um", "y_um", "x_um", "weight", "p"]  # the last two may be empty
EMPTY: dict[str, Any] = {"frame": 0, "weight": None, "network": "", "p": None, "batch": "", "replaces": ""}
Event = dict[str, Any]
_READ: dict[Path, tuple[tuple[int, int], pd.DataFrame, str]] = {}  # of each file its last state, and reading


def read_events(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the events of all files of a folder, of all people, in time order.

    Events of the same moment are ordered by file name and line; an event that stands in two files (a copy)
    counts once. A line that is torn or damaged is read past.

    Returns
    -------
    DataFrame
        The columns of `tables.LABEL_COLUMNS`; an event with the answer "undo" or "clear" takes back the
        one that it `replaces`, be that an answer or another of its kind.

    Warns
    -----
    UserWarning
        Once for each file with torn or damaged lines, with its name and the lines.
    """
    return read_folder(Path(folder))[list(LABEL_COLUMNS)]


def read_folder(folder: Path) -> pd.DataFrame:
    """Return `read_events` with the columns `file`, `line` and `when`, its time."""
    paths = sorted(path for path in folder.glob("*.jsonl") if not path.name.startswith("."))
    parts = []
    for path in paths:
        stat = path.stat()
        state, key = (stat.st_size, stat.st_mtime_ns), path.absolute()
        if key not in _READ or _READ[key][0] != state:
            _READ[key] = (state, *_read_file(path))
        _, table, report = _READ[key]
        if report:
            warnings.warn(report, stacklevel=3)
        parts += [table.assign(file=path.name)] if len(table) else []
    if not parts:
        return empty_table(LABEL_COLUMNS | {"file": "str"})
    events = pd.concat(parts, ignore_index=True).sort_values("when", kind="stable")
    return events.drop_duplicates("id").reset_index(drop=True)


def _read_file(path: Path) -> tuple[pd.DataFrame, str]:
    """Return the whole events of one file, and a sentence about the lines that are not."""
    lines = path.read_bytes().split(b"\n")
    events = [_event(line) for line in lines]
    kept = [(n, event) for n, event in enumerate(events, start=1) if event is not None]
    columns = {name: [event[name] for _, event in kept] for name in LABEL_COLUMNS}
    table = pd.DataFrame({name: pd.Series(columns[name], dtype=LABEL_COLUMNS[name]) for name in columns})
    table["line"] = np.array([n for n, _ in kept], dtype=np.int64)
    table["when"] = pd.to_datetime(table["at"], format="ISO8601", utc=True, errors="coerce")
    table = table[table["when"].notna()]
    damaged = sorted({n for n, line in enumerate(lines, start=1) if line.strip()} - set(table["line"]))
    return table, _report(path.name, damaged, torn=bool(lines[-1].strip()) and len(lines) in damaged)


def _report(name: str, damaged: list[int], *, torn: bool) -> str:
    if not damaged:
        return ""
    if torn and len(damaged) == 1:
        return f"{name} ends in a torn line ({damaged[0]}); it was read past, the answers before it are kept."
    listed = ", ".join(map(str, damaged[:5])) + (" and more" if len(damaged) > 5 else "")
    return f"{name} holds damaged lines ({listed}); they were read past, all other answers are kept."


def _event(line: bytes) -> Event | None:
    """Return the event of one line, with every column, or None if the line does not hold a whole one."""
    try:
        event = EMPTY | json.loads(line)
        "".join([event[name] for name in TEXTS]).encode()
        numbers = [event[name] for name in NUMBERS]
        extent = sum([abs(number) for number in numbers if number is not None])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = isinstance(event["frame"], int) and None not in numbers[:-2] and extent < 2**53
    return event if whole else None
