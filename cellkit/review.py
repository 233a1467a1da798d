"""Look and judge: the audit that tells how good a network is, and what the network got wrong."""

from zlib import crc32

import numpy as np
import pandas as pd

from cellkit import __version__
from cellkit.audits import PLACE_UM, call_places, frame_hashes, read_audit
from cellkit.cubes import CubeGeometry
from cellkit.match import categories
from cellkit.sampling import QUEUE_COLUMNS, add_micrometres, barred
from cellkit.strata import draw_strata
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS, UNSURE

__all__ = ["audit_queue", "barred", "category_table", "draw_audit", "errors"]

AUDIT_COLUMNS = [
    *PLACE_COLUMNS, *PLACE_UM, "animal", "role", "stratum", "weight", "p", "called", "network",
]  # fmt: skip
TRAIN_SHARE = 0.3


def draw_audit(
    study: Study,
    n: int = 300,
    *,
    name: str = "audit",
    seed: int | None = None,
    train_share: float = TRAIN_SHARE,
) -> pd.DataFrame:
    """Draw an audit once; the same call returns it unchanged ever after.

    Every candidate can be drawn, with a known probability: by animal and by steps of `p`, more where the
    network is undecided, at least 10 in each stratum, spread over depth.

    Parameters
    ----------
    study : Study
        With candidates that a network has called.
    n : int
        Places to draw, over all animals.
    name : str
        Another name is another audit.
    seed : int, optional
        The study's own if left out.
    train_share : float
        Where some images judge, the most that the others get of the places. What is audited there may not
        train, nor may neighbours whose cubes overlap it, so they get fewer where that would bar more than a
        third. With 0 nothing is lost for training, and counts of those animals rest on the error rates of
        the judging ones.

    Returns
    -------
    DataFrame
        `image, frame, z, y, x, z_um, y_um, x_um, animal, role, stratum, weight, p, called, network`; `weight`
        is 1 / probability of having been drawn.

    Raises
    ------
    ValueError
        If candidates are not called, or `n` or `train_share` cannot be.
    """
    if name in study.audits():
        return study.audit(name)[0]
    frame = _frame(study)
    seed = study.settings.seed if seed is None else seed
    rng = np.random.default_rng([seed, crc32(name.encode())])
    side_um = np.asarray(CubeGeometry().extent) * study.settings.diameter_um
    drawn = draw_strata(frame, n, train_share=train_share, side_um=side_um, rng=rng)
    record = {
        "seed": int(seed),
        "frame": frame_hashes(frame[frame["role"].isin(drawn["role"])]),
        "strata": {
            str(stratum): {"candidates": int(part["in_stratum"].iloc[0]), "places": len(part)}
            for stratum, part in drawn.groupby("stratum")
        },
        "cellkit": __version__,
    }
    study.save_audit(name, drawn[AUDIT_COLUMNS], record)
    return study.audit(name)[0]


def _frame(study: Study) -> pd.DataFrame:
    """Return all candidates in order of place, with their animal and role."""
    table = study.candidates()
    if table.empty or "p" not in table or table["p"].isna().any():
        came = "this study has none" if table.empty else "not all of this study's are called"
        raise ValueError(
            f"An audit is drawn from called candidates; {came}. "
            "Run detect.detect(study), then detect.classify(study)."
        )
    table = add_micrometres(study, table.sort_values(list(PLACE_COLUMNS)))
    of_image = {image: study.entry(image) for image in table["image"].unique()}
    return table.assign(
        animal=[of_image[image].animal for image in table["image"]],
        role=[of_image[image].role for image in table["image"]],
    )


def audit_queue(study: Study, name: str = "audit") -> pd.DataFrame:
    """Return the places of an audit that wait for an answer, in random order, as a queue.

    The order is the same at every call. Show the queue without the network's opinion: `p` and `called` are
    there for the ledger.

    Raises
    ------
    ValueError
        If there is no such audit, or its candidates were detected anew since.
    """
    places, record = read_audit(study, name)
    mixed = places.iloc[np.random.default_rng(record["seed"]).permutation(len(places))]
    waiting = mixed[mixed["answer"] == ""].reset_index(drop=True)
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
