"""The random draw of an audit: candidates are divided by animal and `p`, and drawn with known probability."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

STEPS = (0.002, 0.02, 0.15, 0.6, 0.95)
LEAST = 10
SMALL_STRATUM = 50
OWN_STRATA = 40
MOST_BARRED = 1 / 3
LEAST_SPREAD = 0.03  # of a person's answers where `p` is sure: it may be wrong there too
Z = 1.959963984540054
PLACE_UM = ["z_um", "y_um", "x_um"]


class Shares(NamedTuple):
    """How the places of an audit are shared out, before strata.

    `train`: where some images judge, at most this share of the places lies in those that train; less where
    the cubes drawn there would bar more than a third of their candidates from training. `random`: this share
    of the places is drawn from all candidates of a group alike, whatever their `p`.
    """

    train: float
    random: float


def make_strata(frame: pd.DataFrame, n: int, *, shares: Shares, side_um: np.ndarray) -> pd.DataFrame:
    """Divide the candidates into the strata of an audit of `n` places.

    Parameters
    ----------
    frame : DataFrame
        All candidates in order of place: `image, frame, z_um, y_um, x_um, p, animal, role`.
    n : int
        Places to be drawn, over all animals.
    shares : Shares
        How they are shared out.
    side_um : ndarray, shape (3,)
        Sides of a cube along z, y, x: candidates nearer than this on every axis overlap.

    Returns
    -------
    DataFrame
        The candidates that can be drawn, in their order, with `group`, `in_group` (its places), `stratum` and
        `in_stratum` (its candidates). An animal with 40 places is a group of its own; else the animals of its
        role are one.

    Raises
    ------
    ValueError
        If `n` or a share cannot be.
    """
    parts = []
    for group, (rows, k) in _groups(frame, n, shares, side_um).items():
        part = frame.loc[rows]
        p = part["p"].to_numpy("float64")
        edges = steps_of(p, k)
        names = [0, *edges, 1]
        kinds = [f"{group}, p {low:g} to {high:g}" for low, high in pairwise(names)]
        stratum = pd.Series(np.array(kinds, dtype=object)[np.digitize(p, edges)], part.index)
        size = stratum.map(stratum.value_counts())
        parts.append(part.assign(group=group, in_group=min(k, len(part)), stratum=stratum, in_stratum=size))
    return pd.concat(parts).sort_index()


def draw_strata(strata: pd.DataFrame, *, random_share: float, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the places of a first audit: some at random, more where `p` is undecided, spread over depth.

    Parameters
    ----------
    strata : DataFrame
        As `make_strata` returns it.
    random_share : float
        Of the places of each group.
    rng : Generator
        Decides which.

    Returns
    -------
    DataFrame
        The rows drawn, stratum by stratum, with `part` ("random" or "stratum") and `weight`, 1 / probability
        of having been drawn by either part. Given how many of the random places fell into a stratum, they and
        those drawn there afterwards are a random part of it.
    """
    drawn = []
    for _, group in strata.groupby("group", sort=False):
        k = int(group["in_group"].iloc[0])
        luck = group.index.isin(rng.choice(group.index, round(k * random_share), replace=False))
        drawn += list(_draw_group(group, luck, k, rng))
    return with_weights(pd.concat(drawn, ignore_index=True))


def top_up(strata: pd.DataFrame, drawn: np.ndarray, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw `n` further places from the strata of an audit, without replacement.

    The probability of having been drawn by now is that of the places of both draws together; how many are
    drawn from a stratum depends on `p` and on nobody's answers.

    Parameters
    ----------
    strata : DataFrame
        As `make_strata` returned it for the first draw.
    drawn : ndarray of bool, shape (n,)
        Which rows have been drawn.
    n : int
        Further places, over all groups; each group gets its share of the first draw.
    rng : Generator
        Decides which.

    Returns
    -------
    DataFrame
        The rows drawn now, with `part` "stratum".
    """
    groups = {str(name): part for name, part in strata.groupby("group", sort=False)}
    left = {name: int((~drawn[strata.index.get_indexer(part.index)]).sum()) for name, part in groups.items()}
    wanted = {name: int(part["in_group"].iloc[0]) for name, part in groups.items()}
    extra = dict(zip(groups, _in_proportion(n, list(wanted.values()), list(left.values())), strict=True))
    parts = []
    for name, part in groups.items():
        had = drawn[strata.index.get_indexer(part.index)]
        parts += list(_draw_group(part, had, int(had.sum()) + extra[name], rng, fresh=True))
    return pd.concat(parts, ignore_index=True)


def _in_proportion(n: int, wanted: list[int], left: list[int]) -> list[int]:
    """Share `n` out in proportion to `wanted`, to none more than is `left`."""
    share = np.minimum((n * np.asarray(wanted) / sum(wanted)).astype(int), left)
    while share.sum() < min(n, sum(left)):
        share[np.argmax(np.where(share < left, wanted / (share + 1), -1))] += 1
    return share.tolist()


def with_weights(drawn: pd.DataFrame) -> pd.DataFrame:
    """Return the places of all draws of an audit with `weight`: candidates of the stratum a place drawn."""
    return drawn.assign(weight=drawn["in_stratum"] / drawn.groupby("stratum")["stratum"].transform("size"))


def expected_half_width(strata: pd.DataFrame) -> float:
    """Return the half-width of the count's interval that this audit will have, as a share of the count.

    It rests on `p`: if that is far off, so is the forecast.
    """
    total, variance = 0.0, 0.0
    for _, group in strata.groupby("group", sort=False):
        p, kinds = group["p"].to_numpy("float64"), pd.factorize(group["stratum"])[0]
        sizes, mean = np.bincount(kinds), np.bincount(kinds, weights=p) / np.bincount(kinds)
        n = allocate(p, kinds, int(group["in_group"].iloc[0]))
        spread = np.maximum(mean * (1 - mean), LEAST_SPREAD**2)
        variance += float((sizes**2 * (1 - n / sizes) * spread / n).sum())
        total += float(p.sum())
    return Z * variance**0.5 / total if total else np.inf


def _groups(
    frame: pd.DataFrame, n: int, shares: Shares, side_um: np.ndarray
) -> dict[str, tuple[pd.Index, int]]:
    """Return the rows of every group, and how many places are drawn from it."""
    for name, share in shares._asdict().items():
        if not 0 <= share < 1:
            raise ValueError(f"`{name}_share` must be from 0 to below 1; got {share}. Leave it out.")
    if n < 4 * LEAST:
        raise ValueError(f"An audit needs at least {4 * LEAST} places; got n = {n}. Ask for 300 or more.")
    roles = {str(role): part for role, part in frame.groupby("role")}
    places = dict.fromkeys(roles, n)
    if len(roles) == 2:
        train = min(round(n * shares.train), most_places(roles["train"], side_um))
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
    group: pd.DataFrame, had: np.ndarray, k: int, rng: np.random.Generator, *, fresh: bool = False
) -> Iterator[pd.DataFrame]:
    """Yield the places of every stratum of a group: those it `had`, and others until there are `k` in all.

    Of the others every j-th in order of place is drawn, from a random start. With `fresh` those it had are
    left out.
    """
    kinds, names = pd.factorize(group["stratum"], sort=True)
    taken = np.bincount(kinds[had], minlength=len(names))
    for h, places in enumerate(allocate(group["p"].to_numpy("float64"), kinds, k, taken=taken)):
        rows = group.index.to_numpy()[(kinds == h) & ~had]
        more = places - taken[h]
        every = ((np.arange(more) + rng.random()) * len(rows) / max(more, 1)).astype(int)
        if not fresh:
            yield group[(kinds == h) & had].assign(part="random")
        yield group.loc[rows[every]].assign(part="stratum")


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


def allocate(p: np.ndarray, stratum: np.ndarray, k: int, *, taken: np.ndarray | None = None) -> np.ndarray:
    """Return the places of each stratum: more where `p` is undecided, but at least 10, or a twentieth of all.

    Parameters
    ----------
    p : ndarray, shape (n,)
        Of all candidates.
    stratum : ndarray of int, shape (n,)
        The stratum of each.
    k : int
        Places in all.
    taken : ndarray of int, shape (strata,), optional
        Places that a stratum has already; it gets no fewer.
    """
    sizes = np.bincount(stratum)
    spread = np.sqrt(np.bincount(stratum, weights=p * (1 - p)) / sizes)
    doubt = sizes * np.maximum(LEAST_SPREAD, spread)
    even = k // len(sizes)
    floor = np.minimum(sizes, max(min(LEAST, even), min(k // 20, even // 2)))
    if taken is not None:
        floor = np.maximum(floor, taken)
    places = np.clip((k * doubt / doubt.sum()).astype(int), floor, sizes)
    while places.sum() > k and (places > floor).any():
        places[np.argmax(np.where(places > floor, places, 0))] -= 1
    while places.sum() < k:
        places[np.argmax(np.where(places < sizes, doubt / np.maximum(places, 1), -1))] += 1
    return places
