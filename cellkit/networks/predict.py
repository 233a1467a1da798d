"""What a network says of every candidate: cut, normalised and run, part by part."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from cellkit.blocks import Readable
from cellkit.cubes import Intensities, cut_batches
from cellkit.networks.store import Network

PART = 512


def predict(
    network: Network,
    image: Readable,
    places: pd.DataFrame,
    *,
    intensities: dict[str, Intensities],
    diameter_um: float,
    progress: Callable[[int, int], Any] | None = None,
) -> np.ndarray:
    """Return the calibrated probability of the positive class at every place, border ones too.

    Parameters
    ----------
    network : Network
        From `load_network`.
    image : Image
        What the places lie in; read block by block.
    places : DataFrame
        Columns `frame, z, y, x` in voxels. Memory for cubes does not grow with their number.
    intensities : dict of str to Intensities
        For each role of the image's channels.
    diameter_um : float
        Diameter of a cell in this image, in µm.
    progress : callable, optional
        Called with (done, all) after every part of at least 512 places.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the order of `places`.

    Raises
    ------
    ValueError
        If a place is outside the image, or the intensities of a channel are not given.
    """
    p, _ = embed(network, image, places, intensities=intensities, diameter_um=diameter_um, progress=progress)
    return p


def embed(
    network: Network,
    image: Readable,
    places: pd.DataFrame,
    *,
    intensities: dict[str, Intensities],
    diameter_um: float,
    progress: Callable[[int, int], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of `predict`, shape (n,), and the network's embeddings, float32 (n, d).

    The parameters and errors are those of `predict`.
    """
    scores = network.scores(np.empty((0, *network.card.shape), np.float32))
    logits = np.empty(len(places))
    embeddings = np.empty((len(places), scores.embeddings.shape[1]), np.float32)
    cut = cut_batches(
        image, places, intensities=intensities, diameter_um=diameter_um, geometry=network.card.cube
    )
    done = 0
    for rows, cubes in _parts(cut):
        logits[rows], embeddings[rows] = network.scores(cubes)
        done += len(rows)
        if progress is not None:
            progress(done, len(places))
    return expit(network.card.slope * logits + network.card.offset), embeddings


def _parts(cut: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Join small batches, since a network runs full ones faster."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in cut:
        waiting.append(batch)
        if sum(len(rows) for rows, _ in waiting) >= PART:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    rows, cubes = zip(*batches, strict=True)
    return np.concatenate(rows), np.concatenate(cubes)
