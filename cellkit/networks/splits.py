"""Which labels teach and which judge the teaching: by animal, else by blocks of space."""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.tables import ZYX

SIDES = ("train", "validation", "gap")
BLOCK_CUBES = 4
DRAWS = 200


def split_groups(
    places: pd.DataFrame,
    targets: np.ndarray,
    *,
    cube_um: ZYX,
    share: float = 0.2,
    seed: int = 0,
    by: str | None = None,
) -> np.ndarray:
    """Put every label on one side, so that no animal, or else no overlapping cube, lies on both.

    Of 200 seeded draws of whole animals or blocks, the one is taken whose validation side is nearest to
    `share` in both classes and that loses the fewest labels to the gap.

    Parameters
    ----------
    places : DataFrame
        Columns `animal, image, z_um, y_um, x_um`.
    targets : ndarray, shape (n,)
        1 for the positive class, 0 for the other.
    cube_um : tuple of 3 float
        Sides of a cube along z, y, x, in µm.
    share : float
        Share of the labels wanted for validation.
    by : {"animal", "space"}, optional
        By animal if there are several, if not given.

    Returns
    -------
    ndarray of str, shape (n,)
        "train", "validation", or "gap": near a validation cube in the same image, and left out.

    Raises
    ------
    ValueError
        If the labels cannot be split: all in one animal (by animal) or in one block (by space).
    """
    several = places["animal"].nunique() > 1
    by = by or ("animal" if several else "space")
    units = space_blocks(places, cube_um) if by == "space" else pd.factorize(places["animal"])[0]
    if len(np.unique(units)) < 2:
        where = "blocks of space" if by == "space" else "animals"
        raise ValueError(
            f"Training and validation need labels from two {where} at least; "
            f"got {len(places)} in one. Label some farther away."
        )
    rng = np.random.default_rng(seed)
    targets = np.asarray(targets) == 1
    scaled, image = _positions(places) / np.asarray(cube_um), pd.factorize(places["image"])[0]
    sides = [_sides(scaled, image, _draw(units, share, rng)) for _ in range(DRAWS)]
    return min(sides, key=lambda side: _cost(side, targets, share))


def space_blocks(places: pd.DataFrame, cube_um: ZYX) -> np.ndarray:
    """Return the number of the block, four cubes wide, that each place of each image lies in."""
    edge = BLOCK_CUBES * np.asarray(cube_um)
    cells = np.floor(_positions(places) / edge).astype(np.int64)
    images = pd.factorize(places["image"])[0]
    return np.unique(np.column_stack([images, cells]), axis=0, return_inverse=True)[1].reshape(-1)


def _draw(units: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return who is in validation: units in random order until the share is reached, never all."""
    order = rng.permutation(np.unique(units))
    sizes = np.bincount(units)[order]
    taken = int(np.searchsorted(np.cumsum(sizes), share * len(units))) + 1
    return np.isin(units, order[: min(taken, len(order) - 1)])


def _sides(scaled: np.ndarray, image: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Return the side of places (n, 3), in cubes, of the images of these numbers."""
    side = np.where(validation, SIDES[1], SIDES[0]).astype("<U10")
    for number in range(image.max() + 1):
        here = image == number
        judging = scaled[here & validation]
        teaching = np.flatnonzero(here & ~validation)
        if len(judging) and len(teaching):
            distance, _ = KDTree(judging).query(scaled[teaching], p=np.inf, distance_upper_bound=1.0)
            side[teaching[np.isfinite(distance)]] = SIDES[2]
    return side


def _cost(side: np.ndarray, targets: np.ndarray, share: float) -> float:
    """Distance from the wished share in each class, plus the labels lost, plus 10 for an empty class."""
    cost = float(np.mean(side == SIDES[2]))
    for of_class in (targets, ~targets):
        if of_class.any():
            judged, taught = (np.mean(side[of_class] == name) for name in (SIDES[1], SIDES[0]))
            cost += abs(judged - share) + 10 * float(judged == 0) + 10 * float(taught == 0)
    return cost


def _positions(places: pd.DataFrame) -> np.ndarray:
    return places[["z_um", "y_um", "x_um"]].to_numpy(dtype=np.float64)
