"""The random draw of an audit: candidates are divided by animal and `p`, and drawn with known probability."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

STEPS = (0.01, 0.1, 0.5, 0.9)
LEAST = 10
SMALL_STRATUM = 50
OWN_STRATA = 40
MOST_BARRED = 1 / 3
PLACE_UM = ["z_um", "y_um", "x_um"]


def draw_strata(
    frame: pd.DataFrame, n: int, *, train_share: float, side_um: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw `n` candidates: more where `p` is undecided, at least 10 in each stratum, spread over depth.

    Parameters
    ----------
    frame : DataFrame
        All candidates in order of place: `image, frame, z_um, y_um, x_um, p, animal, role`.
    n : int
        Places to draw, over all animals.
    train_share : float
        Where some images judge, at most this share of the places lies in those that train; less where the
        cubes drawn there would bar more than a third of their candidates from training.
    side_um : ndarray, shape (3,)
        Sides of a cube along z, y, x: candidates nearer than this on every axis overlap.
    rng : Generator
        Decides which.

    Returns
    -------
    DataFrame
        The rows drawn, with `stratum`, `in_stratum` (its candidates) and `weight`, 1 / probability of having
        been drawn. An animal with 40 places has strata of its own; else the animals of its role share them.

    Raises
    ------
    ValueError
        If `n` or `train_share` cannot be.
    """
    drawn = []
    for group, (rows, k) in _groups(frame, n, train_share, side_um).items():
        for stratum, candidates, chosen in _draw_group(frame.loc[rows], k, rng):
            count, weight = len(candidates), len(candidates) / len(chosen)
            part = frame.loc[chosen]
            drawn.append(part.assign(stratum=f"{group}, {stratum}", in_stratum=count, weight=weight))
    return pd.concat(drawn, ignore_index=True)


def _groups(
    frame: pd.DataFrame, n: int, train_share: float, side_um: np.ndarray
) -> dict[str, tuple[pd.Index, int]]:
    """Return the rows of every group, and how many places are drawn from it."""
    if not 0 <= train_share < 1:
        raise ValueError(f"`train_share` must be from 0 to below 1; got {train_share}. Leave it out for 0.3.")
    if n < 4 * LEAST:
        raise ValueError(f"An audit needs at least {4 * LEAST} places; got n = {n}. Ask for 300 or more.")
    roles = {str(role): part for role, part in frame.groupby("role")}
    places = dict.fromkeys(roles, n)
    if len(roles) == 2:
        train = min(round(n * train_share), most_places(roles["train"], side_um))
        places = {"judge": n - train * (train >= LEAST), "train": train * (train >= LEAST)}
    groups: dict[str, tuple[pd.Index, int]] = {}
    for role, k in places.items():
        part = roles[role]
        own = k >= OWN_STRATA * part["animal"].nunique()
        names = part["animal"] + f" ({role})" if own else pd.Series(f"{role} animals", part.index)
        rows_of = {str(name): rows.index for name, rows in part.groupby(names)}
        shared = share_out(k, {name: len(rows) for name, rows in rows_of.items()})
        groups |= {name: (rows_of[name], shared[name]) for name in rows_of if shared[name]}
    return groups


def share_out(k: int, sizes: dict[str, int]) -> dict[str, int]:
    """Share `k` places out evenly; what a small group cannot take goes to the larger ones."""
    places = {}
    for done, (group, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        places[group] = min(size, round(k / (len(sizes) - done)))
        k -= places[group]
    return places


def most_places(part: pd.DataFrame, side_um: np.ndarray) -> int:
    """Return how many places may be drawn from `part` until their cubes overlap a third of it, on average.

    A candidate stays free if none of the m candidates within reach, itself among them, is drawn: with
    probability (1 - k / N) ** m.
    """
    reached = []
    for _, image in part.groupby(["image", "frame"]):
        points = image[PLACE_UM].to_numpy("float64") / side_um
        some = points[:: -(-len(points) // 2000)]
        within = KDTree(points).query_ball_point(some, 1, p=np.inf, return_length=True)
        reached.append(np.stack([within, np.full(len(some), len(points) / len(some))]))
    m, weight = np.concatenate(reached, axis=1)
    low, high = 0, len(part)
    while high - low > 1:
        k = (low + high) // 2
        barred = 1 - np.average((1 - k / len(part)) ** m, weights=weight)
        low, high = (k, high) if barred <= MOST_BARRED else (low, k)
    return low


def _draw_group(
    part: pd.DataFrame, k: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield every stratum of a group: its name, the rows of its candidates, and those that are drawn.

    Within a stratum every j-th candidate in order of place is drawn, from a random start.
    """
    p = part["p"].to_numpy("float64")
    edges = steps_of(p, k)
    stratum = np.digitize(p, edges)
    names = [0, *edges, 1]
    for h, places in enumerate(allocate(p, stratum, k)):
        rows = part.index.to_numpy()[stratum == h]
        every = ((np.arange(places) + rng.random()) * len(rows) / places).astype(int)
        yield f"p {names[h]:g} to {names[h + 1]:g}", rows, rows[every]


def steps_of(p: np.ndarray, k: int, *, least: int = SMALL_STRATUM) -> list[float]:
    """Return the steps of `p` that divide a group for `k` draws; no part is smaller than `least`."""
    edges = list(STEPS)
    while edges:
        sizes = np.bincount(np.digitize(p, edges), minlength=len(edges) + 1)
        if sizes.min() >= least and len(sizes) <= k // LEAST:
            break
        h = int(np.argmin(sizes))
        below = h == len(edges) or (h > 0 and sizes[h - 1] < sizes[h + 1])
        del edges[h - 1 if below else h]
    return edges


def allocate(p: np.ndarray, stratum: np.ndarray, k: int) -> np.ndarray:
    """Return the places of each stratum: more where `p` is undecided, but at least 10 to 20."""
    sizes = np.bincount(stratum)
    doubt = sizes * np.maximum(0.03, np.sqrt(np.bincount(stratum, weights=p * (1 - p)) / sizes))
    floor = np.minimum(sizes, min(20, k // len(sizes)))
    places = np.clip((k * doubt / doubt.sum()).astype(int), floor, sizes)
    while places.sum() > k:
        places[np.argmax(np.where(places > floor, places, 0))] -= 1
    while places.sum() < k:
        places[np.argmax(np.where(places < sizes, doubt / np.maximum(places, 1), -1))] += 1
    return places
