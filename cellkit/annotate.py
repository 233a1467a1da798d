"""Label: queues to answer, answers that are on disk at once, and what is still lacking."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellkit.labels.balance import Balance, meter
from cellkit.labels.batches import (
    Region,
    batch_names,
    draw_batch,
    draw_rectangle,
    draw_region,
    outlined,
    read_batch,
    rectangle,
    regions_of,
)
from cellkit.labels.keys import keymap, read_keymap, remap
from cellkit.labels.places import add_micrometres, barred
from cellkit.labels.sampling import draw as sample
from cellkit.labels.similar import draw_similar, embedding_map, similar
from cellkit.labels.standing import Review, label, open_review, press
from cellkit.labels.told import answers_of, answers_to, spots_of
from cellkit.match import match_points
from cellkit.study import Study
from cellkit.tables import (
    CLASSES,
    PLACE_COLUMNS,
    ZYX,
    check_inside,
    check_table,
    positions_um,
)

__all__ = [
    "Balance",
    "Region",
    "Review",
    "answer",
    "answer_from_truth",
    "answers_of",
    "barred",
    "batch_names",
    "clear",
    "draw_batch",
    "draw_rectangle",
    "draw_region",
    "draw_similar",
    "embedding_map",
    "keymap",
    "label",
    "meter",
    "missed",
    "open_review",
    "outlined",
    "press",
    "read_batch",
    "read_keymap",
    "rectangle",
    "redo",
    "regions_of",
    "remap",
    "sample",
    "similar",
    "undo",
]


def answer(study: Study, rows: pd.DataFrame, answers: str | Sequence[str], who: str = "me") -> list[str]:
    """Save answers about the candidates of a queue; they are on disk when this returns.

    Parameters
    ----------
    study : Study
    rows : DataFrame
        Rows of a queue: `image, frame, z, y, x, origin`, and where known `weight, network, p, batch`.
    answers : str or sequence of str
        One for all rows, or one a row: the classes of the study or "unsure".
    who : str
        The person.

    Returns
    -------
    list of str
        The ids of the answers in the ledger.

    Raises
    ------
    ValueError
        If an answer is none, or a label that is not of the audit lies in an image that judges.
    OSError
        If nothing can be written; then nothing was saved.
    """
    table = check_table(rows, PLACE_COLUMNS | {"origin": "str"}, what="a queue")
    told = [answers] * len(table) if isinstance(answers, str) else list(answers)
    if len(told) != len(table):
        raise ValueError(
            f"A queue needs one answer for each row; got {len(told)} for {len(table)}. Add them."
        )
    roles = np.array([study.entry(name).role for name in table["image"]], dtype=object)
    judges = (table["origin"] != "audit") & (roles == "judge")
    if judges.any():
        first = table[judges].iloc[0]
        raise ValueError(
            f"An image that judges takes labels of its audit only; {first['image']!r} was to get one "
            f"of origin {first['origin']!r}. Label in a training image."
        )
    return study.ledger(who).add(add_micrometres(study, table).assign(answer=told))


def undo(study: Study, who: str = "me", batch: str | None = None) -> list[dict]:
    """Take back this person's last step (in this batch), one answer or many; return what was taken back."""
    return study.ledger(who).undo(batch)


def redo(study: Study, who: str = "me", batch: str | None = None) -> list[dict]:
    """Bring back what this person undid last (in this batch); return what came back."""
    return study.ledger(who).redo(batch)


def clear(study: Study, rows: pd.DataFrame, who: str = "me") -> list[dict]:
    """Take back all that this person answered at these places, as one step that `undo` brings back."""
    events = study.events()
    mine = events[events["who"] == who]
    ids = [
        told["id"].to_numpy()[spot]
        for asked, told in answers_to(rows, mine, mine)
        for spot in spots_of(study, asked, told)
    ]
    return study.ledger(who).take_back(set(np.concatenate([*ids, np.empty(0, dtype=object)])))


def missed(
    study: Study, image: str, where: ZYX, who: str = "me", *, frame: int = 0, batch: str = ""
) -> list[str]:
    """Add a cell that the detector did not find, at a position (z, y, x) in voxels.

    Raises
    ------
    ValueError
        If the position lies outside the image, or the image judges.
    """
    z, y, x = map(float, where)
    row = pd.DataFrame({"image": [image], "frame": [frame], "z": [z], "y": [y], "x": [x]})
    check_inside(row, study.image(image).shape[2:], what="a missed cell")
    return answer(study, row.assign(origin="missed", batch=batch), study.settings.classes[0], who)


def answer_from_truth(
    study: Study,
    queue: pd.DataFrame,
    who: str = "truth",
    truth: pd.DataFrame | None = None,
    *,
    within_um: float | None = None,
) -> pd.DataFrame:
    """Let known cells answer what is still open in a queue, as a perfect person would.

    The known cells of an image are matched one-to-one to all of its candidates, so that of two candidates on
    one cell only one is that cell.

    Parameters
    ----------
    study : Study
    queue : DataFrame
        Candidates of the study; those that have an answer keep it.
    who : str
        In whose name.
    truth : DataFrame, optional
        Known cells of the one image of the queue, `z, y, x` in voxels; the study's own if left out.
    within_um : float, optional
        Largest distance of a candidate from its cell; half a cell diameter if left out.

    Returns
    -------
    DataFrame
        The rows answered now, with their `answer`.

    Raises
    ------
    ValueError
        If no truth is known for an image, or a row of the queue is no candidate of the study.
    """
    still_open = np.array([said == "" for said in answers_of(study, queue)], dtype=bool)
    rows = queue[still_open].reset_index(drop=True)
    within_um = study.settings.diameter_um / 2 if within_um is None else within_um
    positive = pd.concat(
        [
            _true_candidates(study, str(name), study.truth(str(name)) if truth is None else truth, within_um)
            for name in rows["image"].unique()
        ]
        or [pd.Series(dtype=bool)]
    )
    keys = _keys(rows)
    gone = ~keys.isin(positive.index)
    if gone.any():
        raise ValueError(
            f"The truth answers about candidates of the study; {int(gone.sum())} rows of this queue are none "
            "of them, perhaps because they were detected again. Draw a new queue."
        )
    told = np.where(positive.reindex(keys).to_numpy(dtype=bool), *study.settings.classes)
    answer(study, rows, told.tolist(), who)
    return rows.assign(answer=told)


def _keys(places: pd.DataFrame) -> pd.Index:
    return pd.MultiIndex.from_frame(places[list(PLACE_COLUMNS)]).to_flat_index()


def _true_candidates(study: Study, name: str, truth: pd.DataFrame | None, within_um: float) -> pd.Series:
    """Say of every candidate of an image whether it is the one matched to a known positive."""
    if truth is None:
        raise ValueError(
            f"The truth answers where it is known; for {name!r} there is none. "
            "Answer yourself, or pass `truth`, a table of its cells with z, y, x in voxels."
        )
    kind = CLASSES[study.settings.task][0]
    cells = truth[truth["kind"] == kind] if "kind" in truth else truth
    frame = cells["frame"] if "frame" in cells else pd.Series(0, index=cells.index)
    candidates, voxel_um = study.candidates(name).reset_index(drop=True), study.image(name).voxel_um
    hit = np.zeros(len(candidates), dtype=bool)
    for number, part in candidates.groupby("frame"):
        known_um = positions_um(cells[frame == number], voxel_um)
        found = match_points(positions_um(part, voxel_um), known_um, within_um=within_um).found
        hit[part.index[found]] = True
    return pd.Series(hit, index=_keys(candidates))
