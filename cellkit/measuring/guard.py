"""The guard against leaks: places of an audit that taught a network do not measure it."""

import numpy as np
import pandas as pd

from cellkit.labels.places import add_micrometres, cube_sides_um, near
from cellkit.study import Study


def taught_by(study: Study, network: str) -> pd.DataFrame | None:
    """Return the answers that a network of the study learnt from, those of its parents in the study included.

    Returns
    -------
    DataFrame or None
        Rows of `study.events()`; None if the card of a network of the study does not list them. A network
        that is not of the study has learnt from none of its answers.
    """
    cards = {card["name"]: card for card in study.cards()}
    if network not in cards:
        return study.events().iloc[:0]
    parents = [parent.split(" (")[0] for parent in cards[network].get("parents", ())]
    ids: set[str] = set()
    for name in [network, *(parent for parent in parents if parent in cards)]:
        listed = cards[name].get("trained_on", {}).get("ids")
        if listed is None:
            return None
        ids |= set(listed)
    events = study.events()
    return events[events["id"].isin(ids)]


def leaked(study: Study, places: pd.DataFrame, network: str) -> np.ndarray:
    """Say which places taught a network: their cube overlaps one that it learnt from; shape (n,).

    Parameters
    ----------
    study : Study
    places : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    network : str
        Of the study, or supplied.
    """
    taught = taught_by(study, network)
    if taught is None or taught.empty:
        return np.zeros(len(places), dtype=bool)
    sides_um = cube_sides_um(study, network)
    return near(add_micrometres(study, places), taught, sides_um, norm=np.inf)
