"""What a picture of an image shows: its candidates and labels as points, and what changed of them."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cellkit.labels.places import add_micrometres
from cellkit.match import attach_labels
from cellkit.study import NEAR, Study
from cellkit.tables import PLACE_COLUMNS

NOT_CALLED = 2
GONE = "gone"  # a point of a label that was taken back


class Change(NamedTuple):
    """What became of the points of a picture.

    `points`: all of them, old ones in their order, new ones after them; `rows`: which of the old ones have
    another answer now ("gone": the point is no more); `added`: how many came after them.
    """

    points: pd.DataFrame
    rows: np.ndarray
    added: int


def image_points(
    study: Study, name: str, *, frame: int = 0, candidates: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the candidates of an image, then the labels that lie at none.

    Parameters
    ----------
    study : Study
    name : str
        The image.
    frame : int
        Frame of a time lapse.
    candidates : DataFrame
        Those of the image; read from disk if left out.

    Returns
    -------
    DataFrame
        `key` (what tells a point from all others, also later), `image, frame, z, y, x` in voxels, `p`, `call`
        (0 or 1, or 2 without a call), `answer` ("" without one), and the other columns of the candidates.
    """
    table = study.candidates(name) if candidates is None else candidates
    table = table[table["frame"] == frame].reset_index(drop=True)
    labels = study.labels()
    labels = labels[(labels["image"] == name) & (labels["frame"] == frame)]
    within_um = NEAR * study.settings.diameter_um
    table = attach_labels(table, labels, voxel_um=study.voxel_um, within_um=within_um)
    called = table["called"].astype("int64") if "called" in table else pd.Series(NOT_CALLED, table.index)
    p = table["p"] if "p" in table else pd.Series(np.nan, index=table.index)
    table = table.assign(
        key=[f"candidate {row}" for row in table.index], p=p, call=called.where(p.notna(), NOT_CALLED)
    )
    alone = labels[~labels["id"].isin(table["label"])].reset_index(drop=True)
    voxels = alone[["z_um", "y_um", "x_um"]].to_numpy("float64") / np.asarray(study.image(name).voxel_um)
    alone = alone.assign(key=alone["id"], p=np.nan, call=NOT_CALLED)
    alone = alone[["key", "image", "frame", "answer", "p", "call"]]
    alone[["z", "y", "x"]] = voxels
    return pd.concat([part for part in (table, alone) if len(part)] or [table], ignore_index=True)


def what_changed(before: pd.DataFrame, now: pd.DataFrame) -> Change:
    """Say which points have another answer than before, which are gone, and which are new.

    Parameters
    ----------
    before, now : DataFrame
        As `image_points` returns them; `before` may be the `points` of a former change.
    """
    known = now.set_index("key")["answer"].reindex(before["key"]).fillna(GONE).to_numpy()
    rows = np.flatnonzero(known != before["answer"].to_numpy())
    new = now[~now["key"].isin(before["key"])]
    old = before.assign(answer=known)
    return Change(pd.concat([old, new], ignore_index=True) if len(new) else old, rows, len(new))


def queue_of(study: Study, points: pd.DataFrame, *, batch: str) -> pd.DataFrame:
    """Return chosen points as a queue of origin "category" and of this batch."""
    kept = [name for name in (*PLACE_COLUMNS, "p", "called", "network") if name in points]
    table = add_micrometres(study, points[kept]).assign(origin="category", weight=np.nan, batch=batch)
    return table.assign(category="", network=table["network"].fillna("") if "network" in table else "")
