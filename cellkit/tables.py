"""The tables that travel: their columns, types and units, and the checks at the borders.

Positions `z, y, x` are voxels (pixel centres at integers); columns ending in `_um` are micrometres.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

ZYX = tuple[float, float, float]

PLACE_COLUMNS = {"image": "str", "frame": "int64", "z": "float64", "y": "float64", "x": "float64"}
CANDIDATE_COLUMNS = PLACE_COLUMNS | {"score": "float64", "diameter_um": "float64"}
CALL_COLUMNS = {"p": "float64", "called": "bool", "network": "str"}
LABEL_COLUMNS = {
    "id": "str",
    "at": "str",
    "who": "str",
    "image": "str",
    "frame": "int64",
    "z_um": "float64",
    "y_um": "float64",
    "x_um": "float64",
    "answer": "str",
    "origin": "str",
    "weight": "float64",
    "network": "str",
    "p": "float64",
    "batch": "str",
    "replaces": "str",
}
MAY_BE_EMPTY = {"weight", "network", "p", "batch", "replaces"}
ORIGINS = (
    "audit", "rectangle", "category", "uncertain", "diverse", "random", "missed", "imported", "repeat",
    "similar", "suspect",
)  # fmt: skip
CLASSES = {"cell": ("cell", "artefact"), "expression": ("on", "off")}
UNSURE = "unsure"
DONE = "done"
REPEAT, SUSPECT = "repeat", "suspect"
UNSEEN = (REPEAT, SUSPECT)  # shown again without the first answer


def empty_table(columns: dict[str, str]) -> pd.DataFrame:
    """Return a table with these columns and types and no row."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})


def check_table(table: pd.DataFrame, columns: dict[str, str], *, what: str) -> pd.DataFrame:
    """Return `table` with the agreed types, or say which column and row is wrong.

    Parameters
    ----------
    table : DataFrame
        Further columns are kept as they are.
    columns : dict of str to str
        Name and type of every column that must be there.
    what : str
        What the table holds, for the message: "candidates", a file's name.

    Raises
    ------
    ValueError
        If a column is missing, holds something that is not of its type, or is empty where it must not be.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{what} must have the columns {', '.join(columns)}; {', '.join(missing)} is missing. "
            f"Found: {', '.join(map(str, table.columns)) or 'none'}."
        )
    checked = {
        name: _checked_column(table[name], columns[name], f"{what}: column {name}") for name in columns
    }
    return pd.DataFrame({name: checked.get(name, table[name]) for name in table.columns})


def _checked_column(column: pd.Series, kind: str, where: str) -> pd.Series:
    may_be_empty = column.name in MAY_BE_EMPTY
    if kind == "str":
        filled = np.where(column.isna(), "", column.to_numpy(dtype=object))
        if not may_be_empty and (filled == "").any():
            raise ValueError(f"{where} must be filled in; row {_first(filled == '')} is empty. Fill it in.")
        return pd.Series(filled, column.index, dtype="str")
    if kind == "bool":
        as_text = column.astype("str").str.lower()
        bad = ~as_text.isin(["true", "false"])
        if bad.any():
            raise ValueError(
                f"{where} must be True or False; row {_first(bad)} holds {column[bad].tolist()[0]!r}. "
                "Mend it."
            )
        return as_text == "true"
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = ~np.isfinite(numbers.to_numpy(dtype="float64", na_value=np.nan))
    wrong &= ~(column.isna().to_numpy() & may_be_empty)
    if wrong.any():
        raise ValueError(
            f"{where} must be a finite number; row {_first(wrong)} holds {column[wrong].tolist()[0]!r}. "
            "Mend it."
        )
    return numbers.astype(np.dtype(kind))


def _first(mask: pd.Series) -> int:
    return int(np.flatnonzero(np.asarray(mask))[0])


def check_candidates(
    table: pd.DataFrame, *, what: str = "candidates", shape_zyx: Sequence[int] | None = None
) -> pd.DataFrame:
    """Check a table of candidates and, where the image's shape is given, that each lies inside it.

    Raises
    ------
    ValueError
        As `check_table`; or for the first row whose position is outside the image.
    """
    checked = check_table(table, CANDIDATE_COLUMNS, what=what)
    return checked if shape_zyx is None else check_inside(checked, shape_zyx, what=what)


def check_inside(table: pd.DataFrame, shape_zyx: Sequence[int], *, what: str) -> pd.DataFrame:
    """Return `table`, or raise a ValueError that names the first row outside an image of this shape."""
    places = table[["z", "y", "x"]].to_numpy(dtype="float64")
    outside = ((places < -0.5) | (places > np.asarray(shape_zyx, dtype="float64") - 0.5)).any(axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        z, y, x = places[row]
        raise ValueError(
            f"{what}: positions must lie inside the image of {tuple(map(int, shape_zyx))} voxels (z, y, x); "
            f"row {row} is at ({z:g}, {y:g}, {x:g}). Are the columns swapped, or in µm instead of voxels?"
        )
    return table


def positions_um(table: pd.DataFrame, voxel_um: ZYX | np.ndarray) -> np.ndarray:
    """Return the positions of a table in µm, (n, 3): z, y, x voxels times the voxel size, one or (n, 3)."""
    return table[["z", "y", "x"]].to_numpy(dtype="float64") * np.asarray(voxel_um, dtype="float64")


def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as `.parquet` or `.csv`, whole or not at all: a killed program leaves the old file.

    Raises
    ------
    ValueError
        If the ending is neither.
    """
    path = Path(path)
    _check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix == ".parquet":
            table.to_parquet(part, index=False)
        else:
            table.to_csv(part, index=False)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_table(path: str | os.PathLike[str], columns: dict[str, str]) -> pd.DataFrame:
    """Read a `.parquet` or `.csv` table and check its columns.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a table, or `check_table` refuses it.
    """
    path = Path(path)
    _check_ending(path)
    if not path.exists():
        raise FileNotFoundError(f"A table must be there to be read; {path} is not. Is the path right?")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} must hold a table; it cannot be read: {reason}. Write it again.") from error
    return check_table(table, columns, what=str(path))


def _check_ending(path: Path) -> None:
    if path.suffix not in {".parquet", ".csv"}:
        raise ValueError(f"A table's file must end in .parquet or .csv; got {path.name!r}. Rename it.")
