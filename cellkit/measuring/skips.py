"""What was passed over in an audit: recorded, so that nobody skips what is hard and nobody knows."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from cellkit.folder.disk import append_text, writing
from cellkit.folder.settings import check_name
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS

SKIP_COLUMNS = {"at": "str", "who": "str", **PLACE_COLUMNS}


def _file(study: Study, name: str) -> Path:
    return study.folder / "audits" / f"{check_name(name, what='audit')}-skipped.jsonl"


def note_skipped(study: Study, places: pd.DataFrame, who: str = "me", *, name: str = "audit") -> int:
    """Record places of an audit that a person passed over while later ones were answered.

    Parameters
    ----------
    study : Study
    places : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    who : str
        The person.
    name : str
        Of the audit.

    Returns
    -------
    int
        How many of them were not recorded for this person yet.

    Raises
    ------
    OSError
        If nothing can be written.
    """
    columns = list(PLACE_COLUMNS)
    known = read_skipped(study, name)
    before = set(known.loc[known["who"] == who, columns].itertuples(index=False, name=None))
    rows = [row for row in places[columns].itertuples(index=False, name=None) if row not in before]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    stamped = [{"at": at, "who": who, **dict(zip(columns, row, strict=True))} for row in rows]
    if stamped:
        with writing(study.folder, what="The study's folder"):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in stamped)
            append_text(_file(study, name), text)
    return len(stamped)


def read_skipped(study: Study, name: str = "audit") -> pd.DataFrame:
    """Return what was passed over in an audit, by whom and when; some may have been answered since."""
    file = _file(study, name)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:  # a torn last line: its answers were not saved either
            continue
    return pd.DataFrame(rows, columns=list(SKIP_COLUMNS)).astype(SKIP_COLUMNS)
