"""From what was taught to a network of the study: appraised on the labels held out, and saved."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from cellkit.networks.engines import compile_engine
from cellkit.networks.fit import FitSettings
from cellkit.networks.heads import logits_of, replace_head
from cellkit.networks.store import Network
from cellkit.study import Study
from cellkit.teaching.appraisal import appraise, describe, save_taught
from cellkit.teaching.heads import kept_context, looks, taught_head
from cellkit.teaching.labelled import Labelled


def save_head(
    study: Study, parent: Network, labelled: Labelled, name: str,
    settings: FitSettings | None = None, taught: pd.DataFrame | None = None,
) -> Network:  # fmt: skip
    """Save the network with a last layer taught by all labels; one taught without those held out judges.

    With `settings` and the history `taught` it is what stayed of a training of all layers, none better.
    """
    embeddings = looks(study, parent, labelled)
    judge, head = (taught_head(study, parent, labelled, embeddings, every=every) for every in (False, True))
    held_out = np.flatnonzero(labelled.places["side"] == "validation")
    logits = logits_of(embeddings[held_out], (judge.kernel, judge.bias))
    said = {"kind": "head"} if settings is None else {"kind": "all layers"} | asdict(settings)
    card = replace(
        describe(study, parent, labelled, name), **kept_context(parent.card, head),
        settings=said | {"strength": head.strength},
    )  # fmt: skip
    margins = judge.kept * labelled.on("validation").known
    card, held_out_p = appraise(card, labelled, logits + margins, shown=None)
    tables = {"held_out": held_out_p} | ({} if taught is None else {"history": taught})
    return save_taught(study, replace_head(parent.model, head), card, **tables)


def save_layers(
    study: Study, start: Network, labelled: Labelled, name: str, settings: FitSettings, taught: pd.DataFrame
) -> Network:
    """Save the network that began as `start`, all of whose layers were taught, with its history."""
    held_out = labelled.on("validation")
    logits = compile_engine(start.model)(held_out.cubes).logits + held_out.known
    said = {"kind": "all layers"} | asdict(settings)
    card = replace(describe(study, start, labelled, name), settings=said)
    card, held_out_p = appraise(card, labelled, logits, shown=settings.balance)
    return save_taught(study, start.model, card, history=taught, held_out=held_out_p)
