"""Candidates that look alike to a network: the nearest to one, and a map of all."""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.labels.batches import keep
from cellkit.labels.looks import scaled_alike
from cellkit.labels.sampling import as_queue, frame_of
from cellkit.measuring.audits import find_network, newest_network
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS
from cellkit.teaching.embedding_store import embeddings_at, look_once

SIMILAR = "similar"
FEWEST = 10


def embeddings_of(study: Study, candidates: pd.DataFrame, network: str | None = None) -> np.ndarray:
    """Return what a network makes of candidates before it calls them, (n, d), scaled alike along its axes.

    Candidates that it has not called yet it looks at once, at all of their images.

    Parameters
    ----------
    study : Study
    candidates : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.
    """
    found = find_network(study, network or newest_network(study))
    for image in candidates["image"].unique():
        look_once(study, str(image), found)
    return scaled_alike(embeddings_at(study, found, candidates))


def similar(study: Study, like: pd.DataFrame, n: int = 40, network: str | None = None) -> pd.DataFrame:
    """Return the candidates without a label that look most like these to a network, the most alike first.

    Parameters
    ----------
    study : Study
    like : DataFrame
        One candidate or several, `image, frame, z, y, x`; near one of them is near enough.
    n : int
        How many; fewer if fewer are free.
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.

    Returns
    -------
    DataFrame
        A queue of origin "similar".

    Raises
    ------
    ValueError
        If one of `like` is no candidate of a training image.
    """
    frame = frame_of(study).reset_index(drop=True)
    index = pd.MultiIndex.from_frame(frame[list(PLACE_COLUMNS)])
    rows = index.get_indexer(pd.MultiIndex.from_frame(like[list(PLACE_COLUMNS)]))
    if (rows < 0).any():
        raise ValueError(
            "What others are to resemble is a candidate of a training image; "
            f"{int((rows < 0).sum())} of {len(like)} are none, perhaps because they were detected again. "
            "Choose another."
        )
    embeddings = embeddings_of(study, frame, network)
    free = np.flatnonzero(frame["free"])
    far = KDTree(embeddings[rows]).query(embeddings[free])[0]
    chosen = free[np.argsort(far, kind="stable")[:n]]
    return as_queue(frame.iloc[chosen].assign(origin=SIMILAR, weight=np.nan), name=SIMILAR)


def draw_similar(study: Study, name: str, like: pd.DataFrame, *, n: int = 40) -> pd.DataFrame:
    """Draw the queue of `similar` once and keep it under its name: the same call returns it again.

    Raises
    ------
    ValueError
        As `similar`; or if the name is taken by a batch that was drawn otherwise.
    """
    how = {"like": like[list(PLACE_COLUMNS)].to_dict("records"), "n": n}
    return keep(study, name, how, lambda _: similar(study, like, n))


def embedding_map(study: Study, network: str | None = None, *, most: int = 5000) -> pd.DataFrame:
    """Return candidates of the training images with their places on a map of what looks alike (t-SNE).

    Parameters
    ----------
    study : Study
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.
    most : int
        Larger numbers are drawn from at random; 5,000 take some seconds.

    Returns
    -------
    DataFrame
        The columns of `sampling.frame_of`, and `across, down`. Neighbours look alike; how far apart groups
        lie, and how wide they are, says nothing.

    Raises
    ------
    ValueError
        If there are fewer than 10 candidates.

    References
    ----------
    van der Maaten and Hinton 2008, JMLR 9:2579.
    """
    frame = frame_of(study)
    if len(frame) < FEWEST:
        raise ValueError(
            f"A map needs {FEWEST} candidates of training images or more; got {len(frame)}. "
            "Look at them in a gallery."
        )
    embeddings = embeddings_of(study, frame.reset_index(drop=True), network)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    seed = study.settings.seed
    rows = np.random.default_rng(seed).permutation(len(frame))[:most]
    main = PCA(min(10, embeddings.shape[1]), random_state=seed).fit_transform(embeddings)[np.sort(rows)]
    spread = min(30, (len(rows) - 1) / 3)
    spots = TSNE(2, perplexity=spread, init="pca", max_iter=500, random_state=seed).fit_transform(main)
    return frame.iloc[np.sort(rows)].assign(across=spots[:, 0], down=spots[:, 1]).reset_index(drop=True)
