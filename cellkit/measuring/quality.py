"""How far labels can be trusted: answers given twice, labels that are probably wrong, splits that leak."""

from dataclasses import dataclass
from html import escape
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cellkit.estimates import Agreement, Canary, agreement, canary, out_of_fold, suspect_labels
from cellkit.labels.places import PLACE_UM, cube_sides_um
from cellkit.labels.sampling import QUEUE_COLUMNS
from cellkit.ledger import current_labels
from cellkit.match import match_points
from cellkit.measuring.audits import find_network, newest_network
from cellkit.measuring.misses import mark_agreements
from cellkit.study import SAME_PLACE, Study
from cellkit.tables import REPEAT, SUSPECT
from cellkit.teaching.embedding_store import embeddings_at
from cellkit.teaching.labelled import ENOUGH_ANIMALS, gather

FEW_REPEATS = 50


@dataclass(frozen=True)
class Agreements:
    """How far answers about the same places agree.

    Attributes
    ----------
    table : DataFrame
        One row for each person with themself (blind repeats) and each two people: `first, second, n`, the
        `prevalence` of positive answers, and `alike`, `kappa` and `positive` with `_low` and `_high` ends.
    boxes : DataFrame
        The same of cells marked in boxes, as `misses.mark_agreements` returns it, with the `draw` of boxes.
    ceiling : Agreement or None
        Of all blind repeats: its `positive` stands beside a network's F1, which cannot be expected to be
        higher.
    sentence : str
        The same in words.
    """

    table: pd.DataFrame
    boxes: pd.DataFrame
    ceiling: Agreement | None
    sentence: str

    def _repr_html_(self) -> str:
        shown = [table for table in (self.table, self.boxes) if len(table)]
        tables = (table.to_html(index=False, float_format="{:.3f}".format) for table in shown)
        return f"<p>{escape(self.sentence)}</p>{''.join(tables)}"

    def __repr__(self) -> str:
        return self.sentence


def agreements(study: Study) -> Agreements:
    """Compare answers about the same places: of one person twice, blind, and of different people.

    Parameters
    ----------
    study : Study
        Batches bring blind repeats; a second person answers by opening the same queue under another name, and
        marks the cells of boxes that `box_queue(study, who=...)` gives.
    """
    events = study.events()
    again = events["origin"] == REPEAT
    of = {str(who): current_labels(part, within_um=0.0) for who, part in events[~again].groupby("who")}
    repeats = {str(who): current_labels(part, within_um=0.0) for who, part in events[again].groupby("who")}
    pairs = {(who, who): _pairs(study, of.get(who), later) for who, later in repeats.items()}
    own = pd.concat([pd.DataFrame(columns=["first", "second"], dtype=bool), *pairs.values()])
    pairs |= {(a, b): _pairs(study, of[a], of[b], any_order=True) for a, b in combinations(of, 2)}
    rows = [_row(*key, _agreement(pair)) for key, pair in pairs.items() if len(pair) > 1]
    ceiling = _agreement(own) if len(own) > 1 else None
    draws = sorted(file.stem for file in (study.folder / "boxes").glob("*.json"))
    boxes = pd.concat([mark_agreements(study, name).assign(draw=name) for name in draws] or [pd.DataFrame()])
    return Agreements(
        pd.DataFrame(rows), boxes.reset_index(drop=True), ceiling, _said(ceiling) + _of_boxes(boxes)
    )


def _pairs(
    study: Study, first: pd.DataFrame | None, later: pd.DataFrame, *, any_order: bool = False
) -> pd.DataFrame:
    """Return the answers of places that were answered in both, True for the positive class."""
    classes, within = study.settings.classes, SAME_PLACE * study.settings.diameter_um
    parts = [pd.DataFrame(columns=["first", "second"], dtype=bool)]
    before = later.iloc[:0] if first is None else first
    groups = before[before["answer"].isin(classes)].groupby(["image", "frame"])
    there = dict(iter(groups))
    for key, part in later[later["answer"].isin(classes)].groupby(["image", "frame"]):
        if key in there:
            match = match_points(there[key][PLACE_UM].to_numpy(), part[PLACE_UM].to_numpy(), within_um=within)
            a, b = there[key].iloc[match.found], part.iloc[match.true]
            counts = any_order | (a["at"].to_numpy() < b["at"].to_numpy())
            both = {
                "first": a["answer"].to_numpy() == classes[0],
                "second": b["answer"].to_numpy() == classes[0],
            }
            parts.append(pd.DataFrame(both)[counts])
    return pd.concat(parts, ignore_index=True).astype(bool)


def _agreement(pairs: pd.DataFrame) -> Agreement:
    return agreement(pairs["first"].to_numpy(bool), pairs["second"].to_numpy(bool))


def _row(first: str, second: str, found: Agreement) -> dict[str, object]:
    row: dict[str, object] = {"first": first, "second": second, "n": found.n, "prevalence": found.prevalence}
    for name in ("alike", "kappa", "positive"):
        value, low, high = getattr(found, name)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def _said(ceiling: Agreement | None) -> str:
    if ceiling is None:
        return "Nothing was answered twice yet: what people agree on with themselves is not known."
    value, low, high = ceiling.positive
    kappa = f"kappa {ceiling.kappa.value:.2f} ({ceiling.kappa.low:.2f} to {ceiling.kappa.high:.2f})"
    few = f"; with fewer than {FEW_REPEATS} this is rough" if ceiling.n < FEW_REPEATS else ""
    alike = f"{100 * ceiling.alike.value:.0f} % got the same answer; {kappa}"
    best = f"So the F1 of a network can be {value:.2f} ({low:.2f} to {high:.2f}) at most{few}."
    return f"Of {ceiling.n} places that came back unseen, {alike}. {best}"


def _of_boxes(boxes: pd.DataFrame) -> str:
    told = boxes[boxes["positive"].notna()] if len(boxes) else boxes
    return "".join(
        f" In {row.boxes} boxes that {row.first} and {row.second} both marked their cells agree with an F1 "
        f"of {row.positive:.2f} ({row.positive_low:.2f} to {row.positive_high:.2f})."
        for row in told.itertuples()
    )


def suspects(study: Study, network: str | None = None) -> pd.DataFrame:
    """Return the labels that are probably wrong, the most doubtful first, as a queue for the gallery.

    Each label is foretold from the others by what a network sees of them, whole animals or blocks of space
    left out at a time. In the gallery they come back unseen: without the first answer, and without the
    network's opinion. Those that were decided again are not shown another time.

    Parameters
    ----------
    study : Study
        With labels that may train.
    network : str, optional
        Whose embedding is used; the newest if left out.

    Returns
    -------
    DataFrame
        A queue of origin "suspect" with the `answer` that stands and `margin`, the probability of that answer
        minus that of the other: -1 to 1. Nothing is changed: a person decides again.

    Raises
    ------
    ValueError
        If there are too few labels to leave some out.
    """
    places, embeddings = _embedded(study, network)
    positive = (places["answer"] == study.settings.classes[0]).to_numpy()
    several = places["animal"].nunique() >= ENOUGH_ANIMALS
    p = out_of_fold(embeddings, positive, places["animal" if several else "block"].to_numpy())
    found = suspect_labels(positive, p)
    doubtful = places.assign(margin=found.margin).iloc[found.rows]
    doubtful = doubtful[doubtful["origin"] != SUSPECT].reset_index(drop=True)
    batch = f"suspects {network or newest_network(study)}"
    queue = doubtful.assign(origin=SUSPECT, weight=np.nan, batch=batch, category="")
    return queue.assign(p=np.nan, called=False, network="")[[*QUEUE_COLUMNS, "answer", "margin"]]


@dataclass(frozen=True)
class Canaries:
    """Whether random labels were learnt across the split that training uses; `sentence` says it in words."""

    found: dict[str, Canary]
    sentence: str

    @property
    def passes(self) -> bool:
        """False if the split leaks."""
        return all(each.passes for each in self.found.values())

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.sentence)}</p>"

    def __repr__(self) -> str:
        return self.sentence


def check_split(study: Study, network: str | None = None) -> Canaries:
    """Give random labels to the cubes of a study and see whether they are learnt across its split.

    They must not be: else the same cells, or what gives them away, lie on both sides, and figures of held-out
    labels are too good. Labels are random by overlap group, and by animal where whole animals are held out.

    Parameters
    ----------
    study : Study
        With labels that may train.
    network : str, optional
        Whose embedding is used; the newest if left out.

    Raises
    ------
    ValueError
        If there are too few labels to hold some out.
    """
    places, embeddings = _embedded(study, network)
    train, judged = ((places["side"] == side).to_numpy() for side in ("train", "validation"))
    units = {"group": overlap_groups(study, places, network)}
    if places["animal"].nunique() >= ENOUGH_ANIMALS:
        units["animal"] = places["animal"].to_numpy()
    found = {
        by: canary(embeddings, unit, train, judged, by=by, seed=study.settings.seed)
        for by, unit in units.items()
    }
    names = {"group": "overlapping cubes", "animal": "animals"}
    said = [f"{each.accuracy:.2f} by {names[by]} (at most {each.limit:.2f})" for by, each in found.items()]
    leaks = not all(each.passes for each in found.values())
    end = "the split leaks, and held-out figures are too good" if leaks else "the split does not leak"
    return Canaries(found, f"Random labels are told right with {' and '.join(said)}: {end}.")


def overlap_groups(study: Study, places: pd.DataFrame, network: str | None = None) -> np.ndarray:
    """Return the number of the group of overlapping cubes that each place belongs to, shape (n,).

    The cubes are those of a network of the study; without a name, the widest that one of them may see.
    """
    side_um = cube_sides_um(study, network)
    pairs = [np.empty((0, 2), np.int64)]
    for rows in places.groupby(["image", "frame"]).indices.values():
        tree = KDTree(places[PLACE_UM].to_numpy(dtype="float64")[rows] / side_um)
        pairs.append(rows[tree.query_pairs(1, p=np.inf, output_type="ndarray")])
    i, j = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(places), len(places)))
    return connected_components(graph, directed=False)[1]


def _embedded(study: Study, network: str | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the labels that may train and what a network's last layer but one says of their cubes."""
    found = find_network(study, network or newest_network(study))
    labelled = gather(study, found.card)
    return labelled.places, embeddings_at(study, found, labelled.places)
