"""Look and judge: the audit that tells how good a network is, and what the network got wrong."""

import numpy as np
import pandas as pd

from cellkit.labels.places import add_micrometres, barred
from cellkit.labels.sampling import QUEUE_COLUMNS
from cellkit.match import categories
from cellkit.measuring.audits import call_places, read_audit
from cellkit.measuring.boxes import box_queue, draw_boxes, finish_box, mark_cells, read_boxes, unmark
from cellkit.measuring.drawing import draw_audit, extend_audit
from cellkit.measuring.misses import Misses, answer_boxes_from_truth, box_marks, missed_cells
from cellkit.measuring.parts import name_parts
from cellkit.measuring.planning import Plan, plan_audit
from cellkit.measuring.quality import Agreements, agreements, check_split, suspects
from cellkit.study import Study
from cellkit.tables import UNSURE

__all__ = [
    "Agreements",
    "Misses",
    "Plan",
    "agreements",
    "answer_boxes_from_truth",
    "audit_queue",
    "barred",
    "box_marks",
    "box_queue",
    "category_table",
    "check_split",
    "draw_audit",
    "draw_boxes",
    "errors",
    "extend_audit",
    "finish_box",
    "mark_cells",
    "missed_cells",
    "name_parts",
    "plan_audit",
    "read_boxes",
    "suspects",
    "unmark",
]


def audit_queue(study: Study, name: str = "audit", *, answered: bool = False) -> pd.DataFrame:
    """Return the places of an audit that wait for an answer, in random order, draw by draw, as a queue.

    The order is the same at every call. Show the queue without the network's opinion: `p` and `called` are
    there for the ledger.

    Parameters
    ----------
    study : Study
    name : str
        Of the audit.
    answered : bool
        Whether places that have an answer come too, where they stand in that order.

    Raises
    ------
    ValueError
        If there is no such audit, or its candidates were detected anew or an image was replaced since.
    """
    places, record = read_audit(study, name)
    rng = np.random.default_rng(record["seed"])
    mixed = pd.concat([part.iloc[rng.permutation(len(part))] for _, part in places.groupby("phase")])
    waiting = mixed[(mixed["answer"] == "") | answered].reset_index(drop=True)
    return waiting.assign(origin="audit", batch=name, category="")[QUEUE_COLUMNS]


def category_table(study: Study) -> pd.DataFrame:
    """Count the candidates by the network's call (rows) and the person's answer (columns).

    Column `no label` holds those that could still be drawn to train: not those of images that judge, nor
    those that an audit bars.
    """
    positive, negative = study.settings.classes
    table = study.labelled_candidates()
    if "called" not in table or table.empty:
        raise ValueError(
            "Categories need called candidates; this study has none. "
            "Run detect.detect(study), then detect.classify(study)."
        )
    trains = table["image"].map(lambda image: study.entry(image).role == "train").to_numpy()
    free = (table["answer"] == "").to_numpy() & trains & ~barred(study, table)
    columns = {answer: table["answer"] == answer for answer in (positive, negative, UNSURE)} | {
        "no label": free
    }
    call = np.where(table["called"], f"called {positive}", f"called {negative}")
    counted = pd.DataFrame(columns).groupby(call).sum().astype(int)
    return counted.reindex([f"called {positive}", f"called {negative}"], fill_value=0)


def errors(study: Study, network: str | None = None) -> pd.DataFrame:
    """Return the labelled candidates that a network calls wrong, the surest mistake first.

    Parameters
    ----------
    study : Study
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.

    Returns
    -------
    DataFrame
        A queue with `answer` and `sure`, the network's probability for its wrong call. Answers that are given
        to it are not blind: they mend training, and an audit goes on with its first answers.
    """
    table = study.labelled_candidates()
    table = table[table["answer"].isin(study.settings.classes)].reset_index(drop=True)
    table = call_places(study, table, network)
    called, answer = table["called"].to_numpy(), table["answer"].to_numpy()
    table["category"] = categories(called, answer, study.settings.classes)
    table["sure"] = np.where(called, table["p"], 1 - table["p"])
    wrong = table[~table["category"].str.startswith("correct")]
    wrong = wrong.sort_values("sure", ascending=False, kind="stable")
    wrong = add_micrometres(study, wrong).assign(origin="category", weight=np.nan, batch="errors")
    return wrong[[*QUEUE_COLUMNS, "answer", "sure"]]
