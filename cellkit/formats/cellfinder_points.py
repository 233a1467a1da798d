"""cellfinder's points: XML, YAML and CSV, to and from candidates and labels.

A table of points has `z, y, x` (voxels, float64), `type` (2 cell, 1 no cell, -1 oversized cluster) and
`metadata`, a dict for each point.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pandas as pd

from cellkit.folder.disk import plain, write_text
from cellkit.formats.texts import read_xml, read_yaml
from cellkit.tables import PLACE_COLUMNS, UNSURE, ZYX, check_table

CELL, NO_CELL, CLUSTER = 2, 1, -1
TYPES = (CELL, NO_CELL, CLUSTER)
COLUMNS = {"z": "float64", "y": "float64", "x": "float64", "type": "int64"}
UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
FORMAT = "0.11.2"  # the version of brainglobe-utils that this module follows


def read_points(path: str | Path) -> pd.DataFrame:
    """Read points that cellfinder, or `write_points`, has written.

    Parameters
    ----------
    path : path
        `.xml`, `.yml`, `.yaml` or `.csv`.

    Returns
    -------
    DataFrame
        Columns `z, y, x, type, metadata`, in the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a file of points, or a point has no number where one must be.
    """
    path = Path(path)
    rows = list(_format_of(path, READERS)(path))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "metadata"])
    return _checked(table, str(path))


def write_points(points: pd.DataFrame, path: str | Path) -> Path:
    """Write points so that cellfinder reads them; whole or not at all.

    Positions are rounded to whole voxels. XML holds no metadata. cellfinder itself writes the type -1 as 1
    and, in XML, the coordinate 0 as 1; here both are kept.

    Parameters
    ----------
    points : DataFrame
        Columns `z, y, x, type` and, if there, `metadata`; others are left out.
    path : path
        `.xml`, `.yml`, `.yaml` or `.csv`.

    Raises
    ------
    ValueError
        If there is no point (cellfinder refuses such XML and YAML), one lies below 0 or is of no known type.
    """
    path = Path(path)
    write = _format_of(path, WRITERS)
    points = _checked(points, "points")
    whole = np.rint(points[["z", "y", "x"]].to_numpy()).astype(np.int64)
    if (whole < 0).any():
        row = int(np.flatnonzero((whole < 0).any(axis=1))[0])
        raise ValueError(
            f"cellfinder's points lie at 0 or above; row {row} is at {tuple(map(int, whole[row]))} (z, y, x)."
            " Are the columns swapped?"
        )
    if len(points) == 0 and path.suffix != ".csv":
        raise ValueError(
            f"cellfinder cannot read a file without points; there is none for {path}. "
            "Write a .csv, or nothing."
        )
    points = points.assign(z=whole[:, 0], y=whole[:, 1], x=whole[:, 2])
    return write_text(path, write(points, path))


def points_of_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """Return candidates as points: called ones are cells; `score` and `p` go into the metadata.

    Parameters
    ----------
    candidates : DataFrame
        `z, y, x` in voxels, of one image; where they are classified, `p` and `called`. Others are of type 1.
    """
    _check_one_image(candidates)
    named = [name for name in ("score", "p") if name in candidates]
    kept = candidates[named].astype("float64").to_dict("records")
    metadata = [{key: value for key, value in row.items() if np.isfinite(value)} for row in kept]
    called = (
        candidates["called"].to_numpy(bool) if "called" in candidates else np.zeros(len(candidates), bool)
    )
    return pd.DataFrame(
        {
            **{axis: candidates[axis].to_numpy("float64") for axis in "zyx"},
            "type": np.where(called, CELL, NO_CELL),
            "metadata": pd.Series(metadata, dtype=object),
        }
    )


def points_of_labels(labels: pd.DataFrame, *, voxel_um: ZYX, classes: tuple[str, str]) -> pd.DataFrame:
    """Return the labels of one image as points: 2 the positive class, 1 the other; "unsure" is left out."""
    _check_one_image(labels)
    sure = labels[labels["answer"] != UNSURE]
    strange = sorted(set(sure["answer"]) - set(classes))
    if strange:
        raise ValueError(f"Answers must be {classes[0]} or {classes[1]}; got {strange[0]!r}. Leave them out.")
    places = sure[["z_um", "y_um", "x_um"]].to_numpy("float64") / voxel_um
    return pd.DataFrame(
        {
            **dict(zip("zyx", places.T, strict=True)),
            "type": np.where(sure["answer"] == classes[0], CELL, NO_CELL),
            "metadata": pd.Series([{} for _ in range(len(sure))], dtype=object),
        }
    )


def candidates_of_points(points: pd.DataFrame, *, image: str, diameter_um: float) -> pd.DataFrame:
    """Return points as candidates of an image; `score` comes from the metadata, 0 where it is not there.

    cellfinder's calls are not taken over: it keeps no probability, and a study classifies by its networks.
    """
    points = _checked(points, "points")
    score = [row.get("score", 0.0) for row in points["metadata"]]
    return check_table(
        points[list("zyx")].assign(image=image, frame=0, score=score, diameter_um=diameter_um),
        PLACE_COLUMNS | {"score": "float64", "diameter_um": "float64"},
        what="points",
    )


def labels_of_points(points: pd.DataFrame, *, image: str, classes: tuple[str, str]) -> pd.DataFrame:
    """Return points as rows of a queue with answers: type 2 is the first class, 1 and -1 are the second."""
    points = _checked(points, "points")
    answers = np.where(points["type"] == CELL, classes[0], classes[1])
    return points[list("zyx")].assign(image=image, frame=0, answer=answers, origin="imported")


def _check_one_image(table: pd.DataFrame) -> None:
    if "image" in table and table["image"].nunique() > 1:
        raise ValueError(
            f"A file of points is of one image; these are of {', '.join(sorted(table['image'].unique()))}. "
            'Write one file an image: table[table["image"] == name].'
        )


def _checked(points: pd.DataFrame, what: str) -> pd.DataFrame:
    if "metadata" not in points:
        points = points.assign(
            metadata=pd.Series([{} for _ in range(len(points))], points.index, dtype=object)
        )
    points = check_table(points, COLUMNS, what=what).reset_index(drop=True)
    strange = ~points["type"].isin(TYPES).to_numpy()
    plain = np.array([isinstance(row, dict) for row in points["metadata"]], dtype=bool)
    if strange.any() or not plain.all():
        row = int(np.flatnonzero(strange | ~plain)[0])
        came = f"the type {points['type'][row]}" if strange[row] else f"metadata {points['metadata'][row]!r}"
        raise ValueError(
            f"{what}: a point is of type 2 (cell), 1 (no cell) or -1 (cluster), its metadata a dict; "
            f"row {row} has {came}. Mend it."
        )
    return points


def _format_of(path: Path, known: Mapping[str, Callable]) -> Callable:
    if path.suffix.lower() not in known:
        raise ValueError(f"A file of points must end in {', '.join(known)}; got {path.name!r}. Rename it.")
    return known[path.suffix.lower()]


def _read_xml(path: Path) -> Iterator[Sequence[Any]]:
    root = read_xml(path)
    data = root.find("Marker_Data")
    if root.tag != "CellCounter_Marker_File" or data is None:
        raise ValueError(
            f"{path} must be cellfinder's points, a CellCounter_Marker_File with Marker_Data; it is a "
            f"{root.tag}. Is it the right file?"
        )
    for group in data.findall("Marker_Type"):
        kind = _number(group, "Type", path)
        for marker in group.findall("Marker"):
            z, y, x = (_number(marker, f"Marker{axis}", path) for axis in "ZYX")
            yield z, y, x, kind, {}


def _number(element: Element, name: str, path: Path) -> float:
    text = element.findtext(name)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{path}: every {name} must be a number; one is {text!r}. Mend it.") from None


def _read_yaml(path: Path) -> Iterator[Sequence[Any]]:
    said = read_yaml(path)
    points = said.get("candidate_cells") if isinstance(said, dict) else None
    if not isinstance(points, list) or not said.get("CellCounter_Marker_File"):
        raise ValueError(
            f"{path} must be cellfinder's points, with CellCounter_Marker_File: true and candidate_cells; "
            "it is not. Is it the right file?"
        )
    for row, point in enumerate(points):
        missing = [key for key in ("z", "y", "x", "type") if not isinstance(point, dict) or key not in point]
        if missing:
            raise ValueError(
                f"{path}: every point needs x, y, z, type and metadata; row {row} lacks {', '.join(missing)}."
                " Mend it."
            )
        yield point["z"], point["y"], point["x"], point["type"], point.get("metadata") or {}


def _read_csv(path: Path) -> Iterator[Sequence[Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"A file must be there to be read; {path} is not. Is the path right?")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} must hold a table; it cannot be read: {reason}. Write it again.") from error
    table = check_table(table, COLUMNS, what=str(path))
    extra = [name for name in table.columns if name not in COLUMNS and not str(name).startswith("Unnamed: ")]
    for row, values in zip(table[list(COLUMNS)].to_numpy(), table[extra].to_dict("records"), strict=True):
        yield *row, {str(key): value for key, value in values.items() if pd.notna(value)}


def _xml(points: pd.DataFrame, path: Path) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<CellCounter_Marker_File>",
        "  <Image_Properties>",
        "    <Image_Filename>placeholder.tif</Image_Filename>",
        "  </Image_Properties>",
        "  <Marker_Data>",
        "    <Current_Type>1</Current_Type>",
    ]
    for kind, part in points.groupby("type"):
        lines += ["    <Marker_Type>", f"      <Type>{kind}</Type>"]
        for z, y, x in part[list("zyx")].to_numpy():
            lines += ["      <Marker>", f"        <MarkerX>{x}</MarkerX>", f"        <MarkerY>{y}</MarkerY>"]
            lines += [f"        <MarkerZ>{z}</MarkerZ>", "      </Marker>"]
        lines += ["    </Marker_Type>"]
    return "\n".join([*lines, "  </Marker_Data>", "</CellCounter_Marker_File>", ""])


def _yaml(points: pd.DataFrame, path: Path) -> str:
    lines = [f"brainglobe_utils_version: {FORMAT}", "CellCounter_Marker_File: true"]
    lines += [f"num_candidates: {len(points)}", "candidate_cells:"]
    for z, y, x, kind, metadata in points[[*COLUMNS, "metadata"]].itertuples(index=False):
        lines += [f"  - x: {x}", f"    y: {y}", f"    z: {z}", f"    type: {kind}"]
        lines += [f"    metadata: {_flow(metadata, path)}"]
    return "\n".join([*lines, ""])


def _flow(metadata: dict, path: Path) -> str:
    """Return metadata as JSON on one line, with escapes for what YAML does not take as it is."""
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False, default=plain)
        text.encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Metadata must be plain values, without NaN; {metadata!r} for {path} is not. Leave it out."
        ) from error
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _csv(points: pd.DataFrame, path: Path) -> str:
    metadata = pd.DataFrame(points["metadata"].tolist(), index=points.index)
    rest = points[["x", "y", "z", "type"]]
    taken = metadata.drop(columns=rest.columns, errors="ignore")
    return pd.concat([taken, rest], axis=1).to_csv(lineterminator="\n")


READERS = {".xml": _read_xml, ".yml": _read_yaml, ".yaml": _read_yaml, ".csv": _read_csv}
WRITERS = {".xml": _xml, ".yml": _yaml, ".yaml": _yaml, ".csv": _csv}
