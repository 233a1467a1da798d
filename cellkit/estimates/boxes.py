"""Cells that the detector missed, from boxes of which a person marked every cell.

Boxes are drawn from a grid with replacement, more often where more was detected (`box_chances`). A cell
belongs to the box that holds its centre. Shapes (m,) are over draws; a box that is drawn twice stands there
twice.
"""

import numpy as np

from cellkit.estimates.draws import Design, Interval, spread, t_quantile, wilson

ENOUGH_BOXES = 40


def box_chances(detected: np.ndarray) -> np.ndarray:
    """Return the probability of each box to be drawn, shape (boxes,): more where more was detected.

    Parameters
    ----------
    detected : ndarray, shape (boxes,)
        Candidates in every box of the grid; their share counts, and half their mean for each box.
    """
    detected = np.asarray(detected, dtype="float64")
    size = detected + (0.5 * detected.mean() or 1.0)
    return size / size.sum()


def draw_boxes(detected: np.ndarray, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `m` boxes with replacement; return which, and the probability of each draw, both of shape (m,).

    Raises
    ------
    ValueError
        If there is no box, or `m` is below 2.
    """
    if m < 2 or len(detected) == 0:
        raise ValueError(
            f"Missed cells need at least 2 draws from a grid of boxes; got {m} draws of {len(detected)} "
            f"boxes. Draw {ENOUGH_BOXES}."
        )
    chance = box_chances(detected)
    drawn = rng.choice(len(chance), m, p=chance)
    return drawn, chance[drawn]


def missed_total(missed: np.ndarray, chance: np.ndarray) -> Interval:
    """Return how many cells the detector missed in all boxes of the grid.

    Parameters
    ----------
    missed : ndarray, shape (m,)
        Marked cells without a candidate, in each drawn box.
    chance : ndarray, shape (m,)
        Probability of each draw, from `draw_boxes`.

    Notes
    -----
    Hansen and Hurwitz's mean, with Student's t on the logarithm: a total is never negative and its error
    leans to one side. In the simulated world this covers 0.94 to 0.96 with 20 to 160 boxes; on the plain
    scale 0.90 to 0.94. Without a missed cell seen, the upper end is the rule of three: 3 / m times the boxes
    that a draw stands for.

    References
    ----------
    Hansen and Hurwitz 1943, Ann Math Stat 14:333.
    """
    each = np.asarray(missed, dtype="float64") / _checked(chance)
    m, value = len(each), float(each.mean())
    if value == 0:
        return Interval(0.0, 0.0, 3 * float(np.mean(1 / chance)) / m)
    times = float(np.exp(t_quantile(m - 1) * each.std(ddof=1) / np.sqrt(m) / value))
    return Interval(value, value / times, value * times)


def detector_recall(hits: np.ndarray, cells: np.ndarray, chance: np.ndarray) -> Interval:
    """Return the share of all cells that the detector found.

    Parameters
    ----------
    hits, cells : ndarray, shape (m,)
        Marked cells with a candidate, and all marked cells, in each drawn box.
    chance : ndarray, shape (m,)
        Probability of each draw, from `draw_boxes`.

    Raises
    ------
    ValueError
        If no cell was marked.
    """
    chance = _checked(chance)
    hits, cells = (np.asarray(each, dtype="float64") for each in (hits, cells))
    if cells.sum() == 0:
        raise ValueError(
            f"Recall needs marked cells; the {len(chance)} boxes hold none. Draw more boxes, or larger ones."
        )
    value = float((hits / chance).sum() / (cells / chance).sum())
    one_stratum = Design(np.zeros(len(hits), dtype=np.int64), np.ones(1))
    found = spread((hits - value * cells) / chance / np.mean(cells / chance), one_stratum, finite=False)
    n = value * (1 - value) / found.variance if found.variance > 1e-15 else float(cells.sum())
    return wilson(value * n, n, t=t_quantile(found.degrees))


def ratio_total(cells: np.ndarray, detected: np.ndarray, chance: np.ndarray, all_detected: int) -> Interval:
    """Return the number of cells: all that was detected, times cells for each detected in the drawn boxes.

    Needs no labelled candidates, but many boxes: 40 give 13 % to either side in the simulated world.

    Parameters
    ----------
    cells, detected : ndarray, shape (m,)
        Marked cells, and candidates (or called cells), in each drawn box.
    chance : ndarray, shape (m,)
        Probability of each draw, from `draw_boxes`.
    all_detected : int
        Candidates (or called cells) in all boxes.

    Raises
    ------
    ValueError
        If nothing was detected in the drawn boxes.

    References
    ----------
    Perez, Maji and Sheldon 2024, AAAI (DISCount).
    """
    chance = _checked(chance)
    cells, detected = (np.asarray(each, dtype="float64") for each in (cells, detected))
    if detected.sum() == 0:
        raise ValueError(
            f"A ratio needs something detected; the {len(chance)} boxes hold nothing. Draw more boxes."
        )
    each = float((cells / chance).sum() / (detected / chance).sum())
    m, value = len(cells), each * all_detected
    off = (cells - each * detected) / chance / np.mean(detected / chance)
    reach = t_quantile(m - 1) * all_detected * float(off.std(ddof=1)) / np.sqrt(m)
    return Interval(value, max(0.0, value - reach), value + reach)


def add_intervals(*parts: Interval) -> Interval:
    """Return the sum of independent estimates; on each side the distances are added as squares.

    References
    ----------
    Zou and Donner 2008, Stat Med 27:1693 (MOVER).
    """
    value = sum(part.value for part in parts)
    low = np.sqrt(sum((part.value - part.low) ** 2 for part in parts))
    high = np.sqrt(sum((part.high - part.value) ** 2 for part in parts))
    return Interval(float(value), float(value - low), float(value + high))


def _checked(chance: np.ndarray) -> np.ndarray:
    chance = np.asarray(chance, dtype="float64")
    bad = ~((chance > 0) & (chance <= 1))
    if bad.any() or len(chance) < 2:
        raise ValueError(
            "Boxes measure if each was drawn with a known probability, and 2 at least were; "
            f"{bad.sum()} of {len(chance)} have none. Draw them with draw_boxes."
        )
    return chance
