"""What to label next: queues of candidates drawn from a study, and what must never be drawn.

A queue is a table of candidates with `z_um, y_um, x_um`, the network's `p, called, network`, and how each
row was drawn: `origin`, `weight` (1 / probability of having been drawn, where it is known), `batch`,
`category`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.folder.disk import fingerprint, read_json
from cellkit.labels.diversity import varied_rows
from cellkit.labels.looks import looks_of
from cellkit.labels.places import PLACE_UM, add_micrometres, barred, near
from cellkit.study import SAME_PLACE, Study
from cellkit.tables import PLACE_COLUMNS

CALLS = ["p", "called", "network"]
QUEUE_COLUMNS = [*PLACE_COLUMNS, *PLACE_UM, *CALLS, "origin", "weight", "batch", "category"]
WAYS = {  # the parts of a queue, in the order in which they are drawn
    "mixed": {"random": 0.1, "varied": 0.7, "emptiest": 0.2},
    "category": {"category": 1.0},
    "uncertain": {"uncertain": 1.0},
    "diverse": {"diverse": 1.0},
    "random": {"random": 1.0},
}
ORIGIN_OF = {"varied": "uncertain", "emptiest": "category"}
CALLED_AND_WRONG = ((True, False), (False, False), (False, True), (True, True))  # of the four categories
NEIGHBOURS = 8
LOOKED_AT, KNOWN = 1000, 500  # candidates among which different ones are sought, and labels held against them
Looks = Callable[[pd.DataFrame], np.ndarray | None]


def category_names(classes: tuple[str, str]) -> tuple[str, str, str, str]:
    """Return the four categories: correct positive, correct negative, missed positive, false positive."""
    positive, negative = classes
    return f"correct {positive}", f"correct {negative}", f"missed {positive}", f"false {positive}"


def frame_of(study: Study) -> pd.DataFrame:
    """Return all candidates of the training images; `free` marks those that may be drawn.

    Raises
    ------
    ValueError
        If the study has no candidates.
    """
    table = study.labelled_candidates()
    if table.empty:
        raise ValueError(
            "A queue is drawn from candidates; this study has none. Run `detect.detect(study)` first."
        )
    lacking = {"p": np.nan, "called": False, "network": "", "category": ""}
    table = table.assign(**{name: value for name, value in lacking.items() if name not in table})
    table = table[table["image"].map(lambda name: study.entry(name).role != "judge")]
    table = add_micrometres(study, table)
    told = near(table, study.labels(), np.full(3, SAME_PLACE * study.settings.diameter_um), norm=2)
    return table.assign(
        free=(table["answer"] == "") & ~told & ~barred(study, table) & ~in_batches(study, table)
    )


def in_batches(study: Study, candidates: pd.DataFrame) -> np.ndarray:
    """Say which candidates a batch of the study holds already: nothing is drawn into two batches.

    Parameters
    ----------
    study : Study
    candidates : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    """
    columns = list(PLACE_COLUMNS)
    files = sorted((study.folder / "batches").glob("*.json"))
    rows = [row for file in files for row in read_json(file, what="A batch")["queue"]]
    held = {tuple(row[name] for name in columns) for row in rows}
    return np.array(
        [key in held for key in candidates[columns].itertuples(index=False, name=None)], dtype=bool
    )


def draw(
    study: Study,
    n: int,
    *,
    by: str = "mixed",
    seed: int | None = None,
    quotas: dict[str, int] | None = None,
) -> pd.DataFrame:
    """Draw a queue of candidates that have no label yet; fewer than `n` if fewer are left.

    Images that judge, audited places and candidates whose cubes overlap one are never drawn.

    Parameters
    ----------
    study : Study
        With candidates; all ways but "random" and "diverse" need them called by a network.
    n : int
        Number of candidates.
    by : str
        "mixed": 10 % at random, 70 % uncertain and varied, 20 % for the emptiest category. "category": the
        four categories evenly, as far as the network's calls and the labels so far foretell them.
        "uncertain": nearest to the network's threshold. "diverse": as different as possible from one another
        and from what has labels, to the network that called them; without it, by `p`, score and place.
        "random".
    seed : int, optional
        Same study, same seed: same queue. The study's own if left out.
    quotas : dict of str to int, optional
        Labels wanted in the study per category, in place of equal numbers.

    Raises
    ------
    ValueError
        If `by`, `n` or a quota is not one, or the candidates lack what the way of drawing needs.
    """
    names = category_names(study.settings.classes)
    _check(n, by, quotas, names)
    frame = frame_of(study)
    if by not in {"random", "diverse"}:
        frame = frame.assign(margin=_margin(_called(frame, by)), chance=error_chance(frame))
    wanted = {name: (quotas.get(name, 0) if quotas else np.nan) for name in names}
    rng, parts, left = np.random.default_rng(study.settings.seed if seed is None else seed), [], n
    looks = partial(looks_of, study)
    for way, share in WAYS[by].items():
        k = left if way == list(WAYS[by])[-1] else min(left, round(share * n))
        varied = way in {"varied", "diverse"}
        rows = _varied(frame, way, k, rng, looks) if varied else _rows(frame, way, k, rng, wanted)
        weight = frame["free"].sum() / max(len(rows), 1) if way == "random" else np.nan
        parts.append(frame.loc[rows].assign(origin=ORIGIN_OF.get(way, way), weight=weight))
        frame.loc[rows, "free"] = False
        left -= len(rows)
    queue = pd.concat(parts)
    return as_queue(queue.iloc[rng.permutation(len(queue))], name=by)


def as_queue(rows: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Return these candidates as a queue; its batch is named after how it was drawn and what is in it."""
    rows = rows.reset_index(drop=True)
    batch = f"{name}-{fingerprint(rows[list(PLACE_COLUMNS)])[:8]}"
    return rows.assign(batch=batch, category="", network=rows["network"].astype("str"))[QUEUE_COLUMNS]


def _check(n: int, by: str, quotas: dict[str, int] | None, categories: tuple[str, ...]) -> None:
    if by not in WAYS:
        raise ValueError(f"A queue is drawn by one of {', '.join(WAYS)}; got {by!r}. Choose one of them.")
    if n < 1:
        raise ValueError(f"A queue needs at least one candidate; got n = {n}. Ask for 40.")
    unknown = [name for name in quotas or {} if name not in categories]
    if unknown:
        raise ValueError(
            f"Quotas name the categories {', '.join(categories)}; got {unknown[0]!r}. Rename it."
        )


def _called(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    without = int(frame["p"].isna().sum())
    if without:
        raise ValueError(
            f"Drawing by {by!r} needs candidates called by a network; {without} have no p. "
            'Run `detect.classify(study)` first, or draw by "random".'
        )
    return frame


def _rows(frame: pd.DataFrame, way: str, k: int, rng: np.random.Generator, quotas: dict) -> np.ndarray:
    """Return the index of `k` free candidates drawn this way, fewer if fewer are free."""
    free = frame.index[frame["free"]].to_numpy()
    k = min(k, len(free))
    if way == "random":
        return rng.choice(free, k, replace=False)
    if way == "uncertain":
        return free[np.argsort(frame["margin"].to_numpy()[free], kind="stable")][:k]
    return _for_categories(frame, way, k, rng, quotas)


def _for_categories(
    frame: pd.DataFrame, way: str, k: int, rng: np.random.Generator, quotas: dict
) -> np.ndarray:
    have = (
        frame.loc[frame["origin"] != "audit", "category"].value_counts().reindex(list(quotas), fill_value=0)
    )
    wanted = pd.Series(quotas, dtype="float64").fillna((have.sum() + k) / len(quotas))
    lacking = (wanted - have).clip(lower=0).to_numpy()
    if way == "emptiest":
        lacking = np.eye(len(lacking))[lacking.argmax()]
    if not lacking.any():
        lacking = np.ones(len(lacking))
    shares = np.diff(np.round(np.cumsum(lacking) / lacking.sum() * k).astype(int), prepend=0)
    rows = np.empty(0, dtype=np.int64)
    for (called, wrong), share in zip(CALLED_AND_WRONG, shares, strict=True):
        free = frame[frame["free"] & (frame["called"] == called)].drop(rows, errors="ignore")
        order = free["chance"].sort_values(ascending=not wrong, kind="stable").index.to_numpy()
        best = order[: max(len(order) // 20, 3 * share) if wrong else max(len(order) // 2, share)]
        rows = np.append(rows, rng.choice(best, min(share, len(best)), replace=False))
    others = np.setdiff1d(frame.index[frame["free"]], rows)
    return np.append(rows, rng.choice(others, k - len(rows), replace=False))


def _logit(p: np.ndarray) -> np.ndarray:
    inside = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(inside / (1 - inside))


def _margin(frame: pd.DataFrame) -> np.ndarray:
    """Return how far each p is from the network's threshold, in logits; the calls tell where that lies."""
    p, called = frame["p"].to_numpy(), frame["called"].to_numpy(dtype=bool)
    threshold = (p[~called].max() + p[called].min()) / 2 if called.any() and not called.all() else 0.5
    return np.abs(_logit(p) - _logit(threshold))


def _features(frame: pd.DataFrame) -> np.ndarray:
    """Return what makes candidates differ, shape (n, features): opinion, strength, place and image."""
    opinion = _logit(frame["p"].fillna(0.5).to_numpy()) / 2
    strength = frame["score"].rank(pct=True).to_numpy() * 3
    place = frame.groupby("image")[["z", "y", "x"]].rank(pct=True).to_numpy() * 2
    return np.column_stack(
        [opinion, strength, place, pd.get_dummies(frame["image"]).to_numpy(dtype="float64")]
    )


def _varied(frame: pd.DataFrame, way: str, k: int, rng: np.random.Generator, looks: Looks) -> np.ndarray:
    """Return the index of `k` free candidates that differ from one another and from what has labels.

    "varied": among the 10 k least certain; "diverse": among 10 k at random.
    """
    free = frame.index[frame["free"]].to_numpy()
    if way == "varied":
        rows = free[np.argsort(frame["margin"].to_numpy()[free], kind="stable")][: 10 * k]
    else:
        rows = rng.choice(free, min(len(free), max(10 * k, LOOKED_AT)), replace=False)
    if k >= len(rows):
        return rows
    told = frame.index[(frame["answer"] != "") & (frame["origin"] != "audit")].to_numpy()
    known = rng.choice(told, min(len(told), KNOWN), replace=False)
    both = np.append(rows, known)
    features = looks(frame.loc[both]) if k else None
    if features is None:
        features = _features(frame)[both]
    return rows[varied_rows(features[: len(rows)], k, rng, known=features[len(rows) :])]


def error_chance(frame: pd.DataFrame) -> np.ndarray:
    """Return how likely each call is wrong, by its p and by the labelled calls of similar p and score.

    Parameters
    ----------
    frame : DataFrame
        Columns `p, called, score, origin, category` and the place; "" where the category is unknown.
    """
    p, called = frame["p"].to_numpy(), frame["called"].to_numpy(dtype=bool)
    chance = np.where(called, 1 - p, p)
    place = _features(frame)[:, :2]
    category = frame["category"].astype("str")
    wrong = category.str.startswith(("missed ", "false ")).to_numpy(dtype="float64")
    known = ((category != "") & (frame["origin"] != "audit")).to_numpy()
    for side in (called, ~called):
        told = np.flatnonzero(side & known)
        if len(told):
            neighbours = list(range(1, min(NEIGHBOURS, len(told)) + 1))
            distance, near = KDTree(place[told]).query(place[side], k=neighbours)
            trust = np.exp(-(distance**2))
            chance[side] = (chance[side] + (trust * wrong[told][near]).sum(1)) / (1 + trust.sum(1))
    return chance
