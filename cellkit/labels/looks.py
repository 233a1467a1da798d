"""What candidates look like to the network that called them: what batches are made varied by."""

import numpy as np
import pandas as pd

from cellkit.networks.store import load_network, supplied_networks
from cellkit.study import Study
from cellkit.teaching.embedding_store import embeddings_at


def looks_of(study: Study, places: pd.DataFrame) -> np.ndarray | None:
    """Return the embedding of candidates by the network that called them, scaled alike along its axes.

    Where it is not kept it is worked out, about a thousand candidates a second: ask for some, not for all.

    Parameters
    ----------
    study : Study
    places : DataFrame
        Candidates: `image, frame, z, y, x`, in voxels, and `network`, the name of what called them.

    Returns
    -------
    ndarray, shape (n, d), or None
        None where they were not all called by one network that is there.
    """
    names = set(places["network"])
    if len(names) != 1 or not names <= {*study.networks(), *supplied_networks()}:
        return None
    network = load_network(names.pop(), study.folder / "networks", task=study.settings.task)
    return scaled_alike(embeddings_at(study, network, places))


def scaled_alike(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings (n, d) with mean 0 and, where they differ, standard deviation 1 along each axis."""
    if not len(embeddings):
        return embeddings
    seen = np.asarray(embeddings, np.float64)
    spread = seen.std(axis=0)
    return (seen - seen.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
