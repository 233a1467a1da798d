"""The append-only record of labels on disk: one line an event, never rewritten, never deleted."""

import json
import os
import re
import threading
import unicodedata
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count, groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd

from cellkit.folder.disk import append_text, writing
from cellkit.folder.events import EMPTY, Event, read_events, read_folder
from cellkit.match import group_points
from cellkit.tables import LABEL_COLUMNS, ORIGINS, check_table

__all__ = ["CLEAR", "UNDO", "Ledger", "current_labels", "read_events"]

UNDO, CLEAR = "undo", "clear"
GIVEN_COLUMNS = {name: kind for name, kind in LABEL_COLUMNS.items() if name not in {"id", "at", "who"}}
KEPT = 16  # results of `current_labels`: screens and reports ask many times for the same
_CURRENT: dict[tuple[Any, ...], pd.DataFrame] = {}


class Ledger:
    """One sitting of one person: answers are added, undone and redone, each a line on disk before it counts.

    The file `<who>-<time>.jsonl` is made at the first answer. What `who` answered in earlier sittings is read
    back, so that `undo` and `redo` go on where the person stopped. It may be called from several threads.

    Parameters
    ----------
    folder : path
        The folder of labels; made at the first answer.
    who : str
        The person's name, any text.
    answers : tuple of str, optional
        The only answers that `add` accepts; every answer but "undo" and "clear" where it is not given.
    """

    def __init__(self, folder: str | os.PathLike[str], who: str, *, answers: tuple[str, ...] | None = None):
        if not who.strip():
            raise ValueError(f"A ledger needs the name of the person who answers; got {who!r}. Give a name.")
        self.folder, self.who, self.answers = Path(folder), who, answers
        self.path: Path | None = None
        self._lock = threading.RLock()
        self._done: list[list[Event]] = []
        self._undone: list[tuple[list[Event], list[Event]]] = []
        events = read_folder(self.folder)
        mine = _records(events[events["who"] == who])
        for _, add in groupby(mine, key=lambda event: (event["when"], event["file"])):
            self._remember([{name: event[name] for name in LABEL_COLUMNS} for event in add])
        self._last = mine[-1]["when"].to_pydatetime() if mine else datetime.min.replace(tzinfo=UTC)

    def __repr__(self) -> str:
        steps = f"{len(self._done)} to undo, {len(self._undone)} to redo"
        return f"Ledger({str(self.folder)!r}, who={self.who!r}): {steps}"

    def add(self, rows: pd.DataFrame | list[Event]) -> list[str]:
        """Write answers to disk, all of them in one go, and return their ids.

        Parameters
        ----------
        rows : DataFrame or list of dict
            `image, z_um, y_um, x_um, answer, origin`, in µm; and where known `frame` (0 if left out),
            `weight, network, p, batch, replaces`. Further columns are left out.

        Raises
        ------
        ValueError
            If a column is missing or wrong, or an answer or an origin is not one of the known.
        OSError
            If the folder cannot be written or the disk is full; then none of the answers is kept.
        """
        table = pd.DataFrame(rows)
        if len(table) == 0:
            return []
        table = table.assign(**{name: value for name, value in EMPTY.items() if name not in table.columns})
        table = check_table(table, GIVEN_COLUMNS, what="answers")[list(GIVEN_COLUMNS)]
        self._check_words(table)
        with self._lock:
            events = self._write(_records(table))
        return [event["id"] for event in events]

    def undo(self, batch: str | None = None) -> list[Event]:
        """Take back the last add that stands (of this batch), however many answers it held; [] if none."""
        with self._lock:
            undone = next((add for add in reversed(self._done) if batch in (None, add[0]["batch"])), [])
            return self._take_back(undone)

    def redo(self, batch: str | None = None) -> list[Event]:
        """Bring back what was undone last (of this batch); [] if nothing was or something was added since."""
        with self._lock:
            mine = (step for step in reversed(self._undone) if batch in (None, step[0][0]["batch"]))
            restored, undos = next(mine, ([], []))
            self._take_back(undos)
            return restored

    def take_back(self, ids: Collection[str]) -> list[Event]:
        """Take back these answers of this person, whichever adds they came with; `undo` brings them back."""
        with self._lock:
            return self._take_back(
                [event for add in self._done for event in add if event["id"] in ids], CLEAR
            )

    def _take_back(self, events: list[Event], how: str = UNDO) -> list[Event]:
        if events:
            self._write([{**event, "answer": how, "replaces": event["id"]} for event in events])
        return events

    def _check_words(self, table: pd.DataFrame) -> None:
        for column, allowed in [("answer", self.answers), ("origin", ORIGINS)]:
            wrong = ~table[column].isin(allowed) if allowed else table[column].isin([UNDO, CLEAR])
            if wrong.any():
                rule = f"must be one of {', '.join(allowed)}" if allowed else f"may not be {UNDO} or {CLEAR}"
                row = int(np.argmax(wrong))
                raise ValueError(
                    f"Every {column} {rule}; row {row} holds {table[column].iloc[row]!r}. Mend it."
                )

    def _write(self, rows: list[Event]) -> list[Event]:
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        stamp = {"at": self._last.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "who": self.who}
        given = [{name: row[name] for name in GIVEN_COLUMNS} for row in rows]
        events = [{"id": uuid4().hex[:16], **stamp, **row} for row in given]
        lines = "".join(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n" for event in events)
        with writing(self.folder, what="The folder of labels"):
            if self.path is None:
                self.path = _new_file(self.folder, self.who, self._last)
            append_text(self.path, lines)
        self._remember(events)
        return events

    def _remember(self, events: list[Event]) -> None:
        """Follow one add, undo or redo, just written or read back."""
        targets = {event["replaces"] for event in events if event["answer"] == UNDO}
        if (n := _last_holding(self._done, targets)) is not None:
            self._undone.append((self._done.pop(n), events))
        elif (n := _last_holding([undos for _, undos in self._undone], targets)) is not None:
            self._done.append(self._undone.pop(n)[0])
        else:
            self._done.append(events)
            self._undone.clear()


def _last_holding(adds: list[list[Event]], ids: set[str]) -> int | None:
    held = (n for n in reversed(range(len(adds))) if ids == {event["id"] for event in adds[n]})
    return next(held, None) if ids else None


def _records(table: pd.DataFrame) -> list[Event]:
    columns = [[None if pd.isna(value) else value for value in table[name].tolist()] for name in table]
    names = [str(name) for name in table]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def current_labels(events: pd.DataFrame, *, within_um: float) -> pd.DataFrame:
    """Return the label that counts at every place: the newest answer there that was not undone.

    The first answer at a place founds it; later answers of the same image and frame within `within_um` belong
    to it (to the nearest place, if there are several) and replace one another, whoever gave them. "unsure" is
    an answer. A place that was answered in an audit is founded by that answer and stays an audit place:
    its label keeps the origin "audit" and the weight of the draw when it is answered again in training.

    Parameters
    ----------
    events : DataFrame
        Events in time order, as `read_events` returns them.
    within_um : float
        Largest distance of an answer from its place, in µm.

    Returns
    -------
    DataFrame
        The columns of `tables.LABEL_COLUMNS`, in time order.
    """
    key = (within_um, *(_contents(events[name]) for name in events))
    found = _CURRENT.get(key)
    if found is None:
        found = _CURRENT[key] = _current(events, within_um)
        for old in list(_CURRENT)[:-KEPT]:
            _CURRENT.pop(old, None)  # a training and a screen may ask at once
    return found.copy()


def _contents(column: pd.Series) -> tuple[Any, ...] | bytes:
    """Return all values of a column as what can be compared: NaN equals NaN."""
    return column.to_numpy().tobytes() if column.dtype.kind in "if" else tuple(column.tolist())


def _current(events: pd.DataFrame, within_um: float) -> pd.DataFrame:
    undone: set[str] = set()
    takes_back = events["answer"].isin([UNDO, CLEAR])
    for event, target in reversed(events.loc[takes_back, ["id", "replaces"]].to_numpy().tolist()):
        if event not in undone:
            undone.add(target)
    standing = events[~takes_back & ~events["id"].isin(undone)].reset_index(drop=True)
    place = _places(standing, within_um)
    newest = pd.Series(place).drop_duplicates(keep="last").index.to_numpy()
    current, here = standing.loc[newest], place[newest]
    audited = standing["origin"] == "audit"
    weight = pd.Series(standing["weight"].to_numpy(), index=place)[audited.to_numpy()]
    is_audit = np.isin(here, weight.index)
    weight = weight[~weight.index.duplicated(keep="last")].reindex(here)
    current["origin"] = current["origin"].where(~is_audit, "audit")
    current["weight"] = np.where(is_audit, weight, current["weight"])
    return current.reset_index(drop=True)


def _places(answers: pd.DataFrame, within_um: float) -> np.ndarray:
    """Return the number of the place of every answer, shape (n,)."""
    place = np.zeros(len(answers), np.int64)
    for rows in map(np.asarray, answers.groupby(["image", "frame"], sort=False).indices.values()):
        part = answers.iloc[rows]
        audited = (part["origin"] == "audit").to_numpy()
        order = np.argsort(~audited, kind="stable")
        points = part[["z_um", "y_um", "x_um"]].to_numpy()[order]
        founder = group_points(points, within_um=within_um, n_founders=int(audited.sum()))
        place[rows[order]] = rows[order][founder]
    return place


def _new_file(folder: Path, who: str, at: datetime) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    plain = unicodedata.normalize("NFKD", who).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:40] or "person"
    for microsecond in count(at.microsecond):
        path = folder / f"{safe}-{at:%Y%m%dT%H%M%S}-{microsecond:06d}.jsonl"
        with suppress(FileExistsError):
            path.open("xb").close()
            break
    return path
