"""A last layer taught by the labels of a study, on a network that is left as it is but for that."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import logit

from cellkit.networks.card import NetworkCard
from cellkit.networks.heads import Head, fit_head, head_of, joined_head, logits_of, replace_head
from cellkit.networks.store import Network
from cellkit.networks.stream import pool_sets
from cellkit.study import Study
from cellkit.teaching.embedding_store import embeddings_at
from cellkit.teaching.labelled import Labelled


def looks(study: Study, parent: Network, labelled: Labelled) -> np.ndarray:
    """Return a network's embeddings of all labels, those of pools last: float32 (n, d)."""
    parts = [embeddings_at(study, parent, labelled.places)]
    return np.concatenate(parts + [parent.scores(pool.cubes).embeddings for pool in labelled.pools])


def taught_head(
    study: Study, parent: Network, labelled: Labelled, embeddings: np.ndarray, *, every: bool
) -> Head:
    """Return a last layer taught by all labels, or by those that are not held out alone.

    How far it leaves what the network said before is chosen over animals where two or more have labels of
    both classes, else over blocks of space: what holds in one animal alone is not learnt.

    Parameters
    ----------
    embeddings : ndarray, shape (n, d)
        From `looks`.

    Returns
    -------
    Head
        What it keeps of the network's last layer is in its kernel and bias; `kept` says how much of the
        weights of the context stays.
    """
    pooled = pool_sets([labelled.all_own, *labelled.pools])
    rows = np.ones(len(embeddings), bool)
    rows[: len(labelled.places)] = every | (labelled.places["side"] == "train").to_numpy()
    was = head_of(parent.model)
    before = None if was is None else (logits_of(embeddings, was) + pooled.known)[rows]
    groups = pooled.groups.astype(object)
    own = labelled.places.assign(target=labelled.targets)[rows[: len(labelled.places)]]
    if (own.groupby("animal")["target"].nunique() == 2).sum() > 1:
        groups[: len(labelled.places)] = [f"0: {animal}" for animal in labelled.places["animal"]]
    columns = (column[rows] for column in (embeddings, pooled.targets, pooled.weights, groups))
    head = fit_head(*columns, before=before, seed=study.settings.seed)
    return head if was is None else joined_head(head, was)


def kept_context(card: NetworkCard, head: Head) -> dict[str, float]:
    """Return the weights of the context on the card of a network with this head."""
    return {"crowding": card.crowding * head.kept, "prominence": card.prominence * head.kept}


def with_taught_head(
    study: Study, parent: Network, labelled: Labelled, *, shown: float | None
) -> tuple[Network, Labelled]:
    """Return the network with a last layer taught by the labels that train, and the labels with its margins.

    Parameters
    ----------
    shown : float or None
        Share of the positive class in what it will be shown from now on; None leaves the labels' share.
    """
    head = taught_head(study, parent, labelled, looks(study, parent, labelled), every=False)
    if shown is not None:
        share = np.average(labelled.teaching.targets, weights=labelled.teaching.weights)
        head = head._replace(bias=head.bias + float(logit(shown) - logit(share)))
    card = replace(parent.card, **kept_context(parent.card, head))
    start = Network(card, Path(parent.folder))
    start.model = replace_head(parent.model, head)
    pools = tuple(pool._replace(margins=head.kept * pool.known) for pool in labelled.pools)
    return start, labelled._replace(margins=head.kept * labelled.margins, pools=pools)
