"""What lies in a study's folder: its images opened and measured, its candidates, its networks' cards."""

import json
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from cellkit.folder.disk import fingerprint, plain, read_frozen, read_json, write_frozen, write_json, writing
from cellkit.folder.settings import FILE, ImageEntry, StudySettings, check_diameter
from cellkit.images import Image, open_image
from cellkit.ledger import current_labels, read_events
from cellkit.pixels.intensities import Intensities, measure_intensities
from cellkit.tables import (
    CALL_COLUMNS,
    CANDIDATE_COLUMNS,
    DONE,
    PLACE_COLUMNS,
    check_candidates,
    check_table,
    empty_table,
    read_table,
    write_table,
)

WHAT = "The study's folder"


def open_entry(entry: ImageEntry, folder: Path) -> Image:
    """Open the image of an entry of `study.toml`, lazily; errors as of `images.open_image`."""
    paths = entry.files(folder)
    image = open_image(
        paths[0] if isinstance(entry.path, str) else paths,
        voxel_um=entry.voxel_um,
        roles=entry.channels or None,
        name=entry.name,
        axes=entry.axes,
        level=entry.level,
    )
    return replace(image, animal=entry.animal)


def complete(settings: StudySettings, folder: Path, *, every: bool = False) -> StudySettings:
    """Check that all images are there, and fill in what their metadata say where `study.toml` does not.

    Parameters
    ----------
    settings : StudySettings
        Its paths start from `folder`.
    folder : Path
        The study's folder.
    every : bool
        Open every image, so that one that cannot be read is found at once.

    Raises
    ------
    FileNotFoundError
        If images are missing; all are named.
    ValueError
        If the cell's diameter is below a voxel, or as of `images.open_image`.
    """
    missing = [
        f"{path} (image {entry.name!r})"
        for entry in settings.images
        for path in entry.files(folder)
        if not path.exists()
    ]
    if missing:
        raise FileNotFoundError(
            f"The images of a study must be there; missing: {', '.join(missing)}. "
            f"Put them back, or edit `path` in {folder / FILE}."
        )
    entries = list(settings.images)
    for n, entry in enumerate(entries):
        if every or entry.voxel_um is None or not entry.channels:
            image = open_entry(entry, folder)
            entries[n] = replace(entry, voxel_um=image.voxel_um, channels=tuple(image.roles))
    settings = replace(settings, images=tuple(entries))
    check_diameter(settings)
    return settings


def keep_intensities(path: Path, image: Image, *, state: str, seed: int) -> dict[str, Intensities]:
    """Return the intensities of the signal and background channel; measured when the image's state is new.

    Parameters
    ----------
    path : Path
        The JSON file that keeps them.
    image : Image
        What is measured.
    state : str
        Fingerprint of the image as it is now.
    seed : int
        Of the sample of blocks.
    """
    kept = read_json(path, what="The intensities of an image") if path.exists() else {}
    if kept.get("image") != state:
        roles = [role for role in image.roles if role != "none"]
        measured = {role: asdict(measure_intensities(image, role, seed=seed)) for role in roles}
        kept = {"image": state, "channels": measured}
        with writing(path.parent, what=WHAT):
            write_json(path, kept)
    return {role: Intensities(**values) for role, values in kept["channels"].items()}


def write_candidates(path: Path, table: pd.DataFrame, *, image: Image, made_by: Mapping[str, Any]) -> None:
    """Write the candidates of one image and what made them into one Parquet file, whole or not at all.

    Raises
    ------
    ValueError
        If the table lacks a column, or holds another image or positions outside.
    """
    columns = CANDIDATE_COLUMNS | (CALL_COLUMNS if "p" in table.columns else {})
    table = check_candidates(check_table(table, columns, what="candidates"), shape_zyx=image.shape[2:])
    last = image.shape[0] - 1
    inside = (table["image"] == image.name) & table["frame"].between(0, last)
    if not inside.all():
        row = int(np.argmin(inside))
        name, frame = table["image"].iloc[row], table["frame"].iloc[row]
        raise ValueError(
            f"Candidates saved for {image.name!r} must be of that image and of frames 0 to {last}; "
            f"row {row} is of {name!r}, frame {frame}. Save each image's own."
        )
    table.attrs = {"made_by": json.loads(json.dumps(dict(made_by), default=plain))}
    with writing(path.parent, what=WHAT):
        write_table(table, path)


def read_made_by(path: Path) -> dict[str, Any]:
    """Return what made the candidates in a file, without reading them; {} without the file."""
    kept = (pq.read_schema(path).metadata or {}) if path.exists() else {}
    return json.loads(kept.get(b"PANDAS_ATTRS", b"{}")).get("made_by", {})


Kept = MutableMapping[Path, tuple[tuple[int, ...], pd.DataFrame]]


def read_candidates(paths: Iterable[Path], kept: Kept) -> pd.DataFrame:
    """Return the candidates of all files that are there; calls where at least one file has some.

    `kept` holds what was read of each file: one that was not written since is not read again.
    """
    tables = [_read_once(path, kept) for path in paths if path.exists()]
    tables = [table for table in tables if len(table)]
    if not tables:
        return empty_table(CANDIDATE_COLUMNS)
    joined = pd.concat(tables, ignore_index=True)
    if "p" in joined.columns:
        classified = joined["p"].notna()
        joined["called"] = joined["called"].astype(object).where(classified, False).astype(bool)
        joined["network"] = joined["network"].astype(object).where(classified, "").astype("str")
    return joined


def _read_once(path: Path, kept: Kept) -> pd.DataFrame:
    stat = path.stat()
    written = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if path not in kept or kept[path][0] != written:
        table = read_table(path, CANDIDATE_COLUMNS)
        table.attrs = {}
        kept[path] = written, table
    return kept[path][1]


def read_cards(folder: Path) -> list[dict[str, Any]]:
    """Return what the cards of the networks in a folder say, oldest first; no network is loaded."""
    paths = folder.glob("*/card.json")
    cards = [read_json(path, what="A network's card") | {"name": path.parent.name} for path in paths]
    return sorted(cards, key=lambda card: (card.get("made_at", ""), len(card["name"]), card["name"]))


def read_assessments(folder: Path) -> dict[int, dict[str, Any]]:
    """Return what `assessment.json` of every round says, by the number of the round."""
    paths = folder.glob("*/assessment.json")
    rounds = {int(path.parent.name): path for path in paths if path.parent.name.isdigit()}
    return {n: read_json(rounds[n], what="An assessment") for n in sorted(rounds)}


def write_audit(path: Path, places: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Freeze the places of an audit and the record of their draw.

    Raises
    ------
    FileExistsError
        If the file is there: an audit is never overwritten.
    ValueError
        If a column is missing, or a weight is not positive.
    """
    places = check_table(places, PLACE_COLUMNS | {"weight": "float64"}, what="audit")
    bad = ~(places["weight"] > 0).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"Every place of an audit needs a positive weight; row {row} has {places['weight'].iloc[row]:g}. "
            "Give 1 / the probability with which it was drawn."
        )
    write_frozen(path, places, dict(record))


def read_audit(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read an audit: its first draw, the later ones in the folder beside it, and the weights of all together.

    Returns
    -------
    tuple of DataFrame and dict
        The places with `phase`, the number of their draw; the record of the first draw, with `strata` of all
        draws together and their number `phases`.

    Raises
    ------
    ValueError
        If a file was changed since, or a draw before the last is missing.
    """
    places, record = read_frozen(path)
    draws, before = [places.assign(phase=1)], path
    for phase, file in enumerate(_later_draws(path), start=2):
        more, said = read_frozen(file)
        if said["after"] != fingerprint(before) or said["phase"] != phase:
            raise ValueError(
                f"The draws of an audit follow one another; {file} does not follow {before}. "
                "Put back a copy of the original."
            )
        draws, before = [*draws, more.assign(phase=phase)], file
    every = pd.concat(draws, ignore_index=True)
    if len(draws) > 1:
        sizes = {stratum: each["candidates"] for stratum, each in record["strata"].items()}
        drawn = every["stratum"].value_counts()
        record["strata"] = {
            stratum: {"candidates": size, "places": int(drawn[stratum])} for stratum, size in sizes.items()
        }
        every["weight"] = every["stratum"].map(sizes) / every["stratum"].map(drawn)
    return every, record | {"phases": len(draws)}


def extend_audit_file(folder: Path, name: str, places: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Freeze a further draw of an audit beside the earlier ones, tied to the last of them by its hash."""
    path = folder / "audits" / f"{name}.json"
    before = [path, *_later_draws(path)][-1]
    said = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **record, "after": fingerprint(before)}
    write_audit(path.with_suffix("") / f"{record['phase']}.json", places, said)


def about_done(events: pd.DataFrame) -> np.ndarray:
    """Say which lines of the boxes' ledger say that a box is done, or take that back; shape (n,)."""
    ids = set(events.loc[events["answer"] == DONE, "id"])
    while more := set(events.loc[events["replaces"].isin(ids), "id"]) - ids:
        ids |= more
    return events["id"].isin(ids).to_numpy()


def read_box_draws(folder: Path) -> dict[str, tuple[pd.DataFrame, dict[str, Any]]]:
    """Return, by its name, the boxes of every draw in a folder, with `done`, and the record of the draw.

    Raises
    ------
    ValueError
        If a file was changed since.
    """
    events = read_events(folder)
    done = set(current_labels(events[about_done(events)], within_um=0.0)["batch"])
    draws = {file.stem: read_frozen(file) for file in sorted(folder.glob("*.json"))}
    return {
        name: (boxes.assign(done=[f"{name}/{box}" in done for box in boxes["box"]]), record)
        for name, (boxes, record) in draws.items()
    }


def audit_frame_file(folder: Path, name: str) -> Path:
    """Return where the candidates that an audit was drawn from are kept."""
    return folder / "audits" / name / "frame.parquet"


def _later_draws(path: Path) -> list[Path]:
    files = (folder := path.with_suffix("")).glob("*.json") if path.with_suffix("").is_dir() else ()
    return [folder / f"{n}.json" for n in sorted(int(file.stem) for file in files if file.stem.isdigit())]
