"""What was answered at the rows of a queue: found by place; what comes back unseen sees no other answer."""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.labels.places import PLACE_UM, add_micrometres
from cellkit.ledger import current_labels
from cellkit.study import SAME_PLACE, Study
from cellkit.tables import UNSEEN


def answers_of(study: Study, queue: pd.DataFrame) -> list[str]:
    """Return the answer that counts now for every row of a queue, "" where there is none.

    Answers are looked up by place, not by row, so they are found again on any day; an audit's queue sees
    answers of the audit only, and what comes back unseen (a blind repeat, a suspect) those of its batch.
    """
    return look_up(study, queue)["answer"].tolist()


def look_up(study: Study, queue: pd.DataFrame) -> pd.DataFrame:
    """Return `answer` and `at`, when it was given, of every row of a queue; both "" where there is none."""
    blind = len(queue) and (queue["origin"] == "audit").all()
    said = pd.DataFrame("", index=queue.index, columns=["answer", "at"], dtype=object)
    for asked, told in answers_to(queue, study.audit_labels() if blind else study.labels(), study.events()):
        nearest = [int(spot[0]) if len(spot) else -1 for spot in spots_of(study, asked, told)]
        spots = np.array(nearest, dtype=np.int64)
        for column in said:
            values = np.append(told[column].to_numpy(dtype=object), "")
            said.loc[asked.index, column] = values[spots]
    return said


def answers_to(
    queue: pd.DataFrame, labels: pd.DataFrame, events: pd.DataFrame
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return rows of a queue and the answers they may see: what comes back unseen apart from the rest."""
    again = queue["origin"].isin(UNSEEN).to_numpy()
    here = events["origin"].isin(UNSEEN) & events["batch"].isin(queue["batch"] if again.any() else [])
    repeated = current_labels(events[here], within_um=0.0)
    return [(queue[~again], labels.reset_index(drop=True)), (queue[again], repeated)]


def spots_of(study: Study, rows: pd.DataFrame, told: pd.DataFrame) -> list[np.ndarray]:
    """Return, for every row, which of these labels lie at its place, the nearest first."""
    spots: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(rows)
    groups = told.groupby(["image", "frame"]).indices
    for key, here in add_micrometres(study, rows).groupby(["image", "frame"]):
        if key not in groups:
            continue
        there = groups[key]
        tree = KDTree(told[PLACE_UM].to_numpy(dtype="float64")[there])
        points = here[PLACE_UM].to_numpy()
        found = tree.query_ball_point(points, SAME_PLACE * study.settings.diameter_um)
        for row, point, near in zip(here.index, points, found, strict=True):
            if near:
                distance = np.linalg.norm(tree.data[near] - point, axis=1)
                spots[row] = there[np.asarray(near)[np.argsort(distance, kind="stable")]]
    return spots
