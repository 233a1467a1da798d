"""What a network says of every candidate: cut, normalised and run, part by part."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from cellkit.networks.card import NetworkCard
from cellkit.networks.engines import Scores
from cellkit.networks.inputs import cut_inputs
from cellkit.networks.store import Network
from cellkit.pixels.blocks import Readable
from cellkit.pixels.intensities import Intensities

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
        Columns `frame, z, y, x` in voxels, and `crowding, prominence` of `finding.context` where they are
        known. Beyond the answers memory does not grow with their number.
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
    p, margins = np.empty(len(places)), margins_of(network.card, places)
    how = {"intensities": intensities, "diameter_um": diameter_um, "progress": progress}
    for rows, scores in scored(network, image, places, **how):
        p[rows] = calibrated(network, scores.logits, margins[rows])
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
    length = network.scores(np.empty((0, *network.card.shape), np.float32)).embeddings.shape[1]
    p, margins = np.empty(len(places)), margins_of(network.card, places)
    embeddings = np.empty((len(places), length), np.float32)
    how = {"intensities": intensities, "diameter_um": diameter_um, "progress": progress}
    for rows, scores in scored(network, image, places, **how):
        p[rows] = calibrated(network, scores.logits, margins[rows])
        embeddings[rows] = scores.embeddings
    return p, embeddings


def margins_of(card: NetworkCard, places: pd.DataFrame) -> np.ndarray:
    """Return what a network takes from the context of places before it sees their cubes, in logits (n,).

    It is the sum of the columns `crowding` and `prominence`, as the card weighs them; 0 where they lack.
    """
    margins = np.zeros(len(places))
    for name, weight in (("crowding", card.crowding), ("prominence", card.prominence)):
        if name in places:
            margins += weight * places[name].to_numpy(np.float64)
    return margins


def calibrated(network: Network, logits: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Return the probabilities (n,) that a network means by its logits beside these margins."""
    card = network.card
    return expit(card.slope * (logits.astype(np.float64) + margins) + card.offset)


def scored(
    network: Network, image: Readable, places: pd.DataFrame,
    *, intensities: dict[str, Intensities], diameter_um: float, progress: Callable[[int, int], Any] | None,
) -> Iterator[tuple[np.ndarray, Scores]]:  # fmt: skip
    """Yield rows of `places` and what the network says of them, part by part; as `predict`."""
    cut = cut_inputs(network.card, image, places, intensities=intensities, diameter_um=diameter_um)
    done = 0
    for rows, cubes in _parts(cut):
        yield rows, network.scores(cubes)
        done += len(rows)
        if progress is not None:
            progress(done, len(places))


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
