"""Whether a probability of 0.8 is right eight times in ten."""

from typing import NamedTuple

import numpy as np

from cellkit.estimates.draws import checked_weights, wilson


class Reliability(NamedTuple):
    """Bins of places with like `p`: mean `p`, share of positives with its interval; each shape (bins,)."""

    p: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


class CalibrationError(NamedTuple):
    """Expected calibration error, and the value that a perfect network stays below 19 times in 20."""

    value: float
    chance: float

    @property
    def passes(self) -> bool:
        """True if the error is no larger than chance makes it."""
        return self.value <= self.chance


def _bins(p: np.ndarray, weight: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the order by `p` and where each bin of equal weight starts in it."""
    order = np.argsort(p, kind="stable")
    reached = np.cumsum(weight[order]) - weight[order] / 2
    step = np.minimum((reached / weight.sum() * bins).astype(int), bins - 1)
    return order, np.flatnonzero(np.diff(step, prepend=-1))


def reliability(y: np.ndarray, p: np.ndarray, weight: np.ndarray, *, bins: int = 10) -> Reliability:
    """Return the share of positives over bins of as many answers, with Wilson's interval at Kish's size.

    Parameters
    ----------
    y : ndarray of bool, shape (n,)
        Person's answers.
    p : ndarray, shape (n,)
        Network's probabilities.
    weight : ndarray, shape (n,)
        1 / probability of having been drawn.
    """
    weight, p = checked_weights(weight), np.asarray(p, dtype="float64")
    order, starts = _bins(p, np.ones(len(p)), bins)
    w = weight[order]
    mass = np.add.reduceat(w, starts)
    mean = np.add.reduceat(w * p[order], starts) / mass
    share = np.add.reduceat(w * np.asarray(y, dtype="float64")[order], starts) / mass
    effective = mass**2 / np.add.reduceat(w**2, starts)
    each = [wilson(s * n, n) for s, n in zip(share, effective, strict=True)]
    return Reliability(mean, share, np.array([i.low for i in each]), np.array([i.high for i in each]), mass)


def reliability_bins(p: np.ndarray, *, bins: int = 10) -> np.ndarray:
    """Return the number of each answer's bin in `reliability`, shape (n,)."""
    p = np.asarray(p, dtype="float64")
    order, starts = _bins(p, np.ones(len(p)), bins)
    number = np.empty(len(p), dtype=np.int64)
    number[order] = np.searchsorted(starts, np.arange(len(p)), side="right") - 1
    return number


def calibration_error(
    y: np.ndarray, p: np.ndarray, weight: np.ndarray, *, bins: int = 10, seed: int = 0
) -> CalibrationError:
    """Return the expected calibration error and its 95 % point for a network that is calibrated perfectly.

    The error of a finite sample is above zero even then, so the bare number says nothing: 1000 sets of
    answers are drawn from `p` itself for comparison. Parameters as in `reliability`.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599.
    """
    weight, p = checked_weights(weight), np.asarray(p, dtype="float64")
    order, starts = _bins(p, weight, bins)
    w, p = weight[order] / weight.sum(), p[order]
    drawn = np.random.default_rng(seed).random((1000, len(p))) < p
    answers = np.concatenate([np.asarray(y, bool)[order][None], drawn])
    gaps = np.abs(np.add.reduceat(w * (answers - p), starts, axis=1)).sum(axis=1)
    return CalibrationError(float(gaps[0]), float(np.quantile(gaps[1:], 0.95)))
