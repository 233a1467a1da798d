"""What boxes say about the detector: its recall, and the cells that are not among the candidates."""

from dataclasses import dataclass
from html import escape
from itertools import combinations

import numpy as np
import pandas as pd

from cellkit.estimates import Interval, detector_recall, missed_total
from cellkit.estimates.draws import UNKNOWN
from cellkit.match import match_points
from cellkit.measuring.boxes import ENDS, FOLDER, box_events, box_queue, done_by, lines_of, read_boxes
from cellkit.study import NEAR, Study
from cellkit.tables import CLASSES, DONE, positions_um

OWN_BOXES = 20  # draws from which on an animal's misses rest on its own boxes
FEW_BOXES = 40


@dataclass(frozen=True)
class Misses:
    """How many cells the detector missed.

    Attributes
    ----------
    boxes : DataFrame
        One row a finished box: `box, image, frame, animal, role, times, chance`, and of the cells marked in
        it `cells`, `hits` (with a candidate) and `missed`.
    waiting : int
        Boxes that are not done.
    recall : Interval
        Share of all cells that are among the candidates.
    missed : Interval
        Cells that are not, in all images that boxes were drawn from.
    images : tuple of str
        Those images.
    sentence : str
        The same in words.
    """

    boxes: pd.DataFrame
    waiting: int
    recall: Interval
    missed: Interval
    images: tuple[str, ...]
    sentence: str

    def of(self, animal: str) -> Interval | None:
        """Return the cells missed in one animal from its own boxes; None where those are too few."""
        here = (self.boxes["animal"] == animal).to_numpy()
        if self.boxes["times"].to_numpy()[here].sum() < OWN_BOXES:
            return None
        return _missed(self.boxes.assign(missed=self.boxes["missed"].where(here, 0)))

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.sentence)}</p>"

    def __repr__(self) -> str:
        return self.sentence


def box_marks(study: Study, name: str = "boxes") -> pd.DataFrame:
    """Return the cells that people marked in boxes: `box, who, image, frame, z, y, x`, in voxels.

    Raises
    ------
    ValueError
        As `boxes.read_boxes`.
    """
    read_boxes(study, name)
    events = box_events(study, name)
    marks = events[events["answer"] != DONE].reset_index(drop=True)
    voxel = np.array([study.voxel_um[image] for image in marks["image"]]).reshape(-1, 3)
    marks[["z", "y", "x"]] = marks[["z_um", "y_um", "x_um"]].to_numpy(dtype="float64") / voxel
    marks["box"] = marks["batch"].str.rsplit("/", n=1).str[-1].astype("int64")
    return marks[["box", "who", "image", "frame", "z", "y", "x"]]


def missed_cells(study: Study, name: str = "boxes") -> Misses:
    """Compare the cells marked in boxes with the candidates, and say what share the detector found.

    Each cell is matched to one candidate at most, within half a cell diameter. A box counts once somebody
    said that it is done, with the marks of whoever said so first.

    Parameters
    ----------
    study : Study
        With boxes that are done.
    name : str
        Of the draw.

    Raises
    ------
    ValueError
        If there is no such draw, an image was replaced since, fewer than two boxes are done, or they hold no
        cell.
    """
    boxes, record = read_boxes(study, name)
    done = boxes[boxes["done"]].reset_index(drop=True)
    if done["times"].sum() < 2:
        raise ValueError(
            f"Missed cells are counted over boxes that are done; {len(done)} of {len(boxes)} are. "
            "Mark their cells: review.box_queue(study)."
        )
    marks = box_marks(study, name).merge(done[["box", "who"]], on=["box", "who"])
    marks = marks.assign(hit=_hit(study, marks))
    by_box = marks.groupby("box")["hit"]
    cells, hits = (
        each.reindex(done["box"], fill_value=0).to_numpy() for each in (by_box.size(), by_box.sum())
    )
    kept = ["box", "image", "frame", "animal", "role", "times", "chance"]
    counted = done[kept].assign(cells=cells, hits=hits.astype("int64"), missed=cells - hits)
    draws = counted.loc[counted.index.repeat(counted["times"])]
    recall = detector_recall(*(draws[column].to_numpy() for column in ("hits", "cells", "chance")))
    missed, waiting = _missed(counted), len(boxes) - len(done)
    said = _said(recall, missed, int(draws.shape[0]), int(counted["cells"].sum()), waiting)
    return Misses(counted, waiting, recall, missed, tuple(record["images"]), said)


def _hit(study: Study, marks: pd.DataFrame) -> np.ndarray:
    """Say which marked cells have a candidate, one-to-one; shape (n,)."""
    hit, within = np.zeros(len(marks), dtype=bool), NEAR * study.settings.diameter_um
    for image, rows in marks.groupby("image").indices.items():
        candidates, voxel_um = study.candidates(str(image)), study.voxel_um[str(image)]
        for frame, part in marks.iloc[rows].groupby("frame"):
            here = positions_um(candidates[candidates["frame"] == frame], voxel_um)
            hit[part.index[match_points(here, positions_um(part, voxel_um), within_um=within).true]] = True
    return hit


def mark_agreements(study: Study, name: str = "boxes") -> pd.DataFrame:
    """Compare the cells that two people marked in the same boxes.

    Cells are matched one-to-one within half a cell diameter.

    Parameters
    ----------
    study : Study
        With boxes that two people finished; see `boxes.box_queue`.
    name : str
        Of the draw.

    Returns
    -------
    DataFrame
        One row each two people with 2 boxes or more in common: `first, second, boxes, cells` (marked by the
        first), `others` (by the second), `both`, and `positive, positive_low, positive_high`: the F1 of one
        judged by the other, over all boxes of the grid; empty where neither marked a cell.

    Raises
    ------
    ValueError
        As `boxes.read_boxes`.
    """
    boxes, marks = read_boxes(study, name)[0].set_index("box"), box_marks(study, name)
    finished, rows = done_by(study, name), []
    for pair in combinations(sorted(finished), 2):
        common = sorted(finished[pair[0]] & finished[pair[1]])
        drawn = boxes.loc[common]
        if drawn["times"].sum() < 2:
            continue
        counted = np.array([_alike(study, marks[marks["box"] == box], *pair) for box in common])
        one, two, both = counted.repeat(drawn["times"], axis=0).T
        chance = drawn["chance"].to_numpy().repeat(drawn["times"])
        found = detector_recall(both, (one + two) / 2, chance) if (one + two).any() else UNKNOWN
        numbers = dict(zip(("cells", "others", "both"), counted.sum(axis=0).tolist(), strict=True))
        ends = dict(zip(("positive", "positive_low", "positive_high"), found, strict=True))
        rows.append({"first": pair[0], "second": pair[1], "boxes": len(common)} | numbers | ends)
    return pd.DataFrame(rows)


def _alike(study: Study, marks: pd.DataFrame, first: str, second: str) -> tuple[int, int, int]:
    """Return how many cells two people marked in one box, and how many of them are the same."""
    parts = [marks[marks["who"] == who] for who in (first, second)]
    both = 0
    if len(marks):
        voxel_um = study.voxel_um[str(marks["image"].iloc[0])]
        here, there = (positions_um(part, voxel_um) for part in parts)
        both = len(match_points(here, there, within_um=NEAR * study.settings.diameter_um).found)
    return len(parts[0]), len(parts[1]), both


def _missed(boxes: pd.DataFrame) -> Interval:
    draws = boxes.loc[boxes.index.repeat(boxes["times"])]
    return missed_total(draws["missed"].to_numpy(), draws["chance"].to_numpy())


def _said(recall: Interval, missed: Interval, draws: int, cells: int, waiting: int) -> str:
    found = f"{100 * recall.value:.1f} % ({100 * recall.low:.1f} to {100 * recall.high:.1f})"
    total = f"about {missed.value:,.0f} ({missed.low:,.0f} to {missed.high:,.0f})"
    still = f"; {waiting} boxes wait" if waiting else ""
    few = "; with fewer than 40 boxes this is rough" if draws < FEW_BOXES else ""
    of = f"from {cells} cells in {draws} boxes{still}{few}"
    return f"The detector finds {found} of the cells; {total} are not among the candidates ({of})."


def answer_boxes_from_truth(study: Study, name: str = "boxes", who: str = "truth") -> int:
    """Let known cells answer the boxes that are not done, as a perfect person would; return how many.

    Raises
    ------
    ValueError
        As `boxes.read_boxes`; or if no truth is known for an image.
    """
    waiting = box_queue(study, name)
    lines = []
    for _, box in waiting.iterrows():
        truth = study.truth(box["image"])
        if truth is None:
            raise ValueError(
                f"The truth answers where it is known; for {box['image']!r} there is none. Mark the cells."
            )
        kind = CLASSES[study.settings.task][0]
        cells = truth[truth["kind"] == kind] if "kind" in truth else truth
        cells = cells[cells["frame"] == box["frame"]] if "frame" in cells else cells
        centres = cells[["z", "y", "x"]].to_numpy(dtype="float64")
        ends = box[ENDS].to_numpy(dtype="float64").reshape(3, 2) - 0.5
        inside = ((centres >= ends[:, 0]) & (centres < ends[:, 1])).all(axis=1)
        lines += [lines_of(study, box, centres[inside], name), lines_of(study, box, None, name)]
    if lines:
        study.ledger(who, of=FOLDER).add(pd.concat(lines, ignore_index=True))
    return len(waiting)
