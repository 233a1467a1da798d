"""Boxes of which a person marks every cell: how many cells the detector missed, and how many it found.

Boxes are frozen in `boxes/<name>.json`. What a person marks there, and that a box is done, are lines of
`boxes/<who>-<time>.jsonl`, append-only as the labels are: a box without any cell is told from one that
nobody has looked at. Marks only measure; they never train.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from cellkit import __version__
from cellkit.estimates import draw_boxes as draw_from_grid
from cellkit.folder.disk import read_frozen, write_frozen
from cellkit.folder.holdings import about_done
from cellkit.folder.settings import check_name
from cellkit.ledger import current_labels, read_events
from cellkit.measuring.audits import PLACE_UM, check_images
from cellkit.study import SAME_PLACE, Study
from cellkit.tables import DONE, ZYX

FOLDER = "boxes"
SIDE = 5.0  # cell diameters
BOX_COLUMNS = {
    "box": "int64", "image": "str", "frame": "int64", "animal": "str", "role": "str",
    "z0": "int64", "z1": "int64", "y0": "int64", "y1": "int64", "x0": "int64", "x1": "int64",
    "times": "int64", "chance": "float64",
}  # fmt: skip
ENDS = ["z0", "z1", "y0", "y1", "x0", "x1"]


def draw_boxes(
    study: Study,
    n: int = 40,
    *,
    name: str = "boxes",
    side_um: float | None = None,
    animals: Sequence[str] | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """Draw boxes once, of which every cell is to be marked; the same call returns them unchanged ever after.

    The images are cut into boxes of like size, and `n` are drawn with replacement, more often where the
    detector found more. They stay good when the images are detected anew.

    Parameters
    ----------
    study : Study
        With candidates; called ones count by their `p`.
    n : int
        Draws. 40 tell the detector's recall to about 5 points, 80 to 4.
    name : str
        Another name is another draw.
    side_um : float, optional
        Side of a box, in µm; five cell diameters if left out.
    animals : sequence of str, optional
        Where to draw; in all if left out.
    seed : int, optional
        The study's own if left out.

    Returns
    -------
    DataFrame
        One row a box: `box` (its number), `image, frame, animal, role`, its range `z0, z1, y0, y1, x0, x1` in
        voxels, the first in and the last out, `times` drawn, and the `chance` of each draw.

    Raises
    ------
    ValueError
        If there are no candidates, an animal is not in the study, or `n` or `side_um` cannot be.
    """
    file = _file(study, name)
    if file.exists():
        return read_frozen(file)[0]
    side_um = SIDE * study.settings.diameter_um if side_um is None else side_um
    if not side_um >= study.settings.diameter_um:
        raise ValueError(
            f"A box must be wider than a cell, {study.settings.diameter_um:g} µm; got {side_um:g} µm. "
            "Five diameters are a good size."
        )
    seed = study.settings.seed if seed is None else seed
    grid = _grid(study, side_um, _images_of(study, animals))
    rng = np.random.default_rng([seed, crc32(name.encode()), 1])
    which, chance = draw_from_grid(grid.pop("expected").to_numpy(), n, rng)
    times = pd.Series(which).value_counts().sort_index()
    chances = pd.Series(chance, which).groupby(level=0).first()
    boxes = grid.loc[times.index].assign(times=times, chance=chances).reset_index(drop=True)
    boxes.insert(0, "box", np.arange(1, len(boxes) + 1))
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": int(seed),
        "side_um": float(side_um),
        "draws": n,
        "grid": len(grid),
        "images": {image: study.image_fingerprint(str(image)) for image in grid["image"].unique()},
        "cellkit": __version__,
    }
    write_frozen(file, boxes.astype(BOX_COLUMNS), record)
    return read_frozen(file)[0]


def _file(study: Study, name: str) -> Path:
    return study.folder / FOLDER / f"{check_name(name, what='draw of boxes')}.json"


def _images_of(study: Study, animals: Sequence[str] | None) -> list[str]:
    there = {entry.animal for entry in study.settings.images}
    strange = [animal for animal in animals or () if animal not in there]
    if strange:
        raise ValueError(
            f"Boxes are drawn in animals of the study, {', '.join(sorted(there))}; got {strange[0]!r}. "
            "Choose among them."
        )
    return [entry.name for entry in study.settings.images if animals is None or entry.animal in animals]


def _grid(study: Study, side_um: float, images: Sequence[str]) -> pd.DataFrame:
    """Return all boxes of these images, with the cells `expected` in each of what the detector found."""
    candidates = study.candidates()
    if not candidates["image"].isin(images).any():
        raise ValueError(
            "Boxes are drawn where the detector looked; there are no candidates. Run detect.detect(study)."
        )
    rows: list[dict[str, Any]] = []
    for name in images:
        entry, image = study.entry(name), study.image(name)
        edges = [_edges(n, side_um / step) for n, step in zip(image.shape[2:], image.voxel_um, strict=True)]
        for frame in range(image.shape[0]):
            here = candidates[(candidates["image"] == name) & (candidates["frame"] == frame)]
            weight = here["p"].fillna(0.5).to_numpy() if "p" in here else np.ones(len(here))
            bins = [axis - 0.5 for axis in edges]
            inside = np.histogramdd(here[["z", "y", "x"]].to_numpy(), bins=bins, weights=weight)[0]
            where = {"image": name, "frame": frame, "animal": entry.animal, "role": entry.role}
            spans = product(*map(pairwise, edges))
            for span, expected in zip(spans, inside.ravel(), strict=True):
                ends = dict(zip(ENDS, (int(end) for pair in span for end in pair), strict=True))
                rows.append(where | ends | {"expected": expected})
    return pd.DataFrame(rows)


def _edges(n: int, side: float) -> np.ndarray:
    return np.round(np.linspace(0, n, max(1, round(n / side)) + 1)).astype(int)


def read_boxes(study: Study, name: str = "boxes") -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the boxes with `done` (bool) and `who` finished each first ("" if nobody), and their record.

    Raises
    ------
    ValueError
        If there is no such draw, its file was changed, or an image was replaced since.
    """
    file = _file(study, name)
    if not file.exists():
        raise ValueError(
            f"Missed cells are counted in boxes; this study has none of the name {name!r}. "
            "Draw them with review.draw_boxes(study), then mark their cells."
        )
    boxes, record = read_frozen(file)
    check_images(study, record["images"], f"the boxes {name!r} were")
    events = box_events(study, name)
    done = events[events["answer"] == DONE].drop_duplicates("batch").set_index("batch")["who"]
    who = [str(done.get(_batch(name, box), "")) for box in boxes["box"]]
    return boxes.assign(done=[bool(name) for name in who], who=who), record


def box_events(study: Study, name: str) -> pd.DataFrame:
    """Return the marks and finished boxes that stand, in time order: one a person and place."""
    events = read_events(study.folder / FOLDER)
    events = events[events["batch"].str.startswith(f"{name}/")]
    parts = [
        current_labels(part, within_um=within)
        for _, each in events.groupby("who")
        for part, within in _of_kind(each, SAME_PLACE * study.settings.diameter_um)
    ]
    return pd.concat(parts).sort_values("at", kind="stable") if parts else events


def _of_kind(events: pd.DataFrame, within_um: float) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield finished boxes and marks apart, each with what takes it back: a mark may lie in the centre."""
    is_done = about_done(events)
    yield events[is_done], 0.0
    yield events[~is_done], within_um


def _batch(name: str, box: int) -> str:
    return f"{name}/{box}"


def done_by(study: Study, name: str = "boxes") -> dict[str, set[int]]:
    """Return the numbers of the boxes that each person finished."""
    events = box_events(study, name)
    done = events[events["answer"] == DONE]
    return {
        str(who): {int(batch.rsplit("/", 1)[1]) for batch in each["batch"]}
        for who, each in done.groupby("who")
    }


def box_queue(study: Study, name: str = "boxes", *, who: str | None = None) -> pd.DataFrame:
    """Return the boxes that are not done yet, in random order; the same order at every call.

    Parameters
    ----------
    study : Study
    name : str
        Of the draw.
    who : str, optional
        Boxes that this person has not finished, whoever else has; else those that nobody has. Two people who
        mark the same boxes are compared by `agreements`.

    Raises
    ------
    ValueError
        As `read_boxes`.
    """
    boxes, record = read_boxes(study, name)
    mixed = boxes.iloc[np.random.default_rng(record["seed"]).permutation(len(boxes))]
    done = mixed["done"] if who is None else mixed["box"].isin(done_by(study, name).get(who, set()))
    return mixed[~done].reset_index(drop=True)


def mark_cells(
    study: Study, box: int, cells: Sequence[ZYX] | np.ndarray, who: str = "me", *, name: str = "boxes"
) -> list[str]:
    """Mark cells of a box, as one step that `unmark` takes back; they are on disk when this returns.

    Parameters
    ----------
    study : Study
    box : int
        Its number.
    cells : sequence of (z, y, x)
        Centres, in voxels. A cell belongs to the box that holds its centre.
    who : str
        The person.
    name : str
        Of the draw.

    Raises
    ------
    ValueError
        If there is no such box, or a centre lies outside it.
    """
    row, centres = _box(study, box, name), np.asarray(cells, dtype="float64").reshape(-1, 3)
    ends = row[ENDS].to_numpy(dtype="float64").reshape(3, 2) - 0.5
    outside = ((centres < ends[:, 0]) | (centres >= ends[:, 1])).any(axis=1)
    if outside.any():
        z, y, x = centres[np.argmax(outside)]
        raise ValueError(
            f"A cell belongs to the box that holds its centre; ({z:g}, {y:g}, {x:g}) lies outside box {box}. "
            "Leave it out."
        )
    return study.ledger(who, of=FOLDER).add(lines_of(study, row, centres, name))


def finish_box(study: Study, box: int, who: str = "me", *, name: str = "boxes") -> list[str]:
    """Say that all cells of a box are marked, none perhaps; `unmark` takes it back.

    Raises
    ------
    ValueError
        If there is no such box.
    """
    row = _box(study, box, name)
    return study.ledger(who, of=FOLDER).add(lines_of(study, row, None, name))


def unmark(study: Study, box: int, who: str = "me", *, name: str = "boxes") -> list[dict[str, Any]]:
    """Take back this person's last step in a box, marks or "done"; return what was taken back."""
    return study.ledger(who, of=FOLDER).undo(_batch(name, box))


def _box(study: Study, box: int, name: str) -> pd.Series:
    boxes, _ = read_boxes(study, name)
    if box not in set(boxes["box"]):
        raise ValueError(f"A box has a number from 1 to {len(boxes)}; got {box}. Choose one.")
    return boxes.set_index("box", drop=False).loc[box]


def lines_of(study: Study, row: pd.Series, centres: np.ndarray | None, name: str) -> pd.DataFrame:
    """Return a ledger's lines for one box: cells at these centres, in voxels, or that the box is done."""
    ends = row[ENDS].to_numpy(dtype="float64").reshape(3, 2)
    points = ends.mean(axis=1)[None] - 0.5 if centres is None else centres
    table = pd.DataFrame(points * study.image(row["image"]).voxel_um, columns=PLACE_UM)
    answer = DONE if centres is None else study.settings.classes[0]
    table = table.assign(image=row["image"], frame=row["frame"], answer=answer, origin="missed")
    return table.assign(batch=_batch(name, row["box"]), weight=1 / row["chance"])
