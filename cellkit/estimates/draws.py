"""What a random draw says about all candidates: shares, totals, intervals. Arrays in, numbers out.

Everything here measures only what was drawn with a known probability. A `Design` says how: each place
belongs to a stratum, and each stratum holds a known number of candidates. Intervals are at 95 %.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

Z = 1.959963984540054


class Interval(NamedTuple):
    """An estimate and its 95 % interval; the value is NaN where nothing can be said."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the distance between both ends."""
        return (self.high - self.low) / 2

    def times(self, factor: float) -> "Interval":
        """Return the interval of `factor` times the value."""
        return Interval(*(factor * each for each in self))


UNKNOWN = Interval(np.nan, 0.0, 1.0)


class Design(NamedTuple):
    """How places were drawn: their stratum, shape (n,), and each stratum's candidates, shape (strata,)."""

    stratum: np.ndarray
    sizes: np.ndarray

    @property
    def drawn(self) -> np.ndarray:
        """Places measured in each stratum, shape (strata,)."""
        return np.bincount(self.stratum, minlength=len(self.sizes))

    @property
    def weights(self) -> np.ndarray:
        """Candidates that each place stands for, shape (n,): 1 / probability of having been drawn."""
        return (self.sizes / self.drawn)[self.stratum]


class Spread(NamedTuple):
    """A stratified mean, its variance, and the degrees of freedom of this variance; see `spread`."""

    mean: float
    variance: float
    degrees: float

    @property
    def reach(self) -> float:
        """Half-width of the t-interval."""
        return t_quantile(self.degrees) * float(np.sqrt(self.variance))

    def as_share(self) -> Interval:
        """Return the interval of a share: Wilson's at the effective number of answers, with Student's t."""
        n = self.mean * (1 - self.mean) / self.variance
        return wilson(self.mean * n, n, t=t_quantile(self.degrees))


def checked_weights(weight: np.ndarray) -> np.ndarray:
    """Return the weights as float64, or refuse labels that were not drawn with a known probability.

    Raises
    ------
    ValueError
        If a weight is empty, or below 1.
    """
    weight = np.asarray(weight, dtype="float64")
    bad = ~(np.isfinite(weight) & (weight >= 1 - 1e-9))
    if bad.any():
        raise ValueError(
            "Every label that measures needs the probability of having been drawn (weight = 1 / probability, "
            f"at least 1); {bad.sum()} of {len(weight)} have none. "
            "Measure on an audit: review.draw_audit(study)."
        )
    return weight


def audit_design(stratum: np.ndarray, weight: np.ndarray, answered: np.ndarray | None = None) -> Design:
    """Return the design of the answered places of a stratified draw.

    Parameters
    ----------
    stratum : ndarray of str or int, shape (drawn,)
        Stratum of every place that was drawn, answered or not.
    weight : ndarray, shape (drawn,)
        1 / probability of having been drawn; their sum over a stratum is the number of its candidates.
    answered : ndarray of bool, shape (drawn,), optional
        Places with a usable answer; within a stratum they must be a random part (blind, in random order).

    Raises
    ------
    ValueError
        If a weight is missing, or a stratum has too few answers to say anything about its candidates.
    """
    weight = checked_weights(weight)
    if len(weight) == 0:
        raise ValueError("An audit must hold a place; it is empty. Draw one: review.draw_audit(study).")
    answered = np.ones(len(weight), bool) if answered is None else np.asarray(answered, bool)
    names, codes = np.unique(np.asarray(stratum), return_inverse=True)
    sizes = np.bincount(codes, weights=weight)
    done = np.bincount(codes[answered], minlength=len(names))
    few = np.flatnonzero((done < 2) & (done < np.rint(sizes)))
    if len(few):
        raise ValueError(
            f"Every stratum of an audit needs 2 answers; {str(names[few[0]])!r} has {done[few[0]]} for "
            f"{sizes[few[0]]:.0f} candidates. Answer more of the audit: review.audit_queue(study)."
        )
    return Design(codes[answered], np.maximum(sizes, done))


def wilson(k: float, n: float, *, t: float = Z) -> Interval:
    """Return k / n with Wilson's interval; `k` and `n` may be effective (broken) numbers.

    References
    ----------
    Wilson 1927, J Am Stat Assoc 22:209.
    """
    if n <= 0:
        return UNKNOWN
    p = k / n
    centre = (p + t**2 / (2 * n)) / (1 + t**2 / n)
    half = t * float(np.sqrt(max(0.0, p * (1 - p)) / n + t**2 / (4 * n**2))) / (1 + t**2 / n)
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def spread(values: np.ndarray, design: Design, *, finite: bool = True) -> Spread:
    """Return the stratified mean of `values`, shape (n,), with its variance and t degrees.

    With `finite` it is about just these candidates: once all are measured, the variance is zero. Without,
    they are themselves a sample of what a network will meet.

    Notes
    -----
    Degrees of freedom after Satterthwaite, but the variance of each stratum's variance comes from its fourth
    moment, not from the normal curve: one cell among 200 answers says as little about the variance as two
    or three numbers do. With n - 1 degrees the intervals of a population of 2 % cells covered 0.91.

    References
    ----------
    Satterthwaite 1946, Biometrics Bull 2:110.
    """
    values, n = np.asarray(values, dtype="float64"), design.drawn
    share = design.sizes / design.sizes.sum()
    free = np.maximum(n - 1, 1)
    mean = np.bincount(design.stratum, weights=values, minlength=len(n)) / n
    off = values - mean[design.stratum]
    squares, fourths = (np.bincount(design.stratum, weights=off**k, minlength=len(n)) / n for k in (2, 4))
    left = 1 - n / design.sizes if finite else 1.0
    part = share**2 * left * squares / free
    peaked = np.divide(fourths, squares**2, out=np.full(len(n), 3.0), where=squares > 0)
    doubt = np.maximum(2 / free, (peaked - 1 + 2 / free) / n)
    variance = float(part.sum())
    degrees = 2 * variance**2 / float((part**2 * doubt).sum()) if variance > 0 else np.inf
    return Spread(float(share @ mean), variance, degrees)


def stratified_share(y: np.ndarray, design: Design) -> Interval:
    """Return the share of positives among all candidates of the frame.

    Parameters
    ----------
    y : ndarray of bool, shape (n,)
        Person's answer: True for the first class.
    design : Design
        How the places were drawn.

    Notes
    -----
    Wilson's interval at the effective number of answers, with Student's t. It covers the truth in 93 to 97 of
    100 simulated audits of 400 answers (`benchmarks/estimates.py`, T1). Where every stratum is pure, the
    error is zero by accident; the ends then lie at the rule-of-three bounds of `hidden_share`.

    References
    ----------
    Franco et al. 2019, J Surv Stat Methodol 7:334 (Wilson's interval in complex surveys).
    """
    y = np.asarray(y, bool)
    found = spread(y, design)
    if found.variance > 0:
        return found.as_share()
    low, high = found.mean - hidden_share(~y, design), found.mean + hidden_share(y, design)
    return Interval(found.mean, max(0.0, low), min(1.0, high))


def stratified_total(y: np.ndarray, design: Design) -> Interval:
    """Return the number of positives in the frame; see `stratified_share`."""
    return stratified_share(y, design).times(float(design.sizes.sum()))


def hidden_share(y: np.ndarray, design: Design) -> float:
    """Return how many positives, as a share of the frame, may hide in strata where none was seen.

    The rule of three: 3 / n at most in a stratum of which n answers hold none, and no more than is left.
    """
    n, sizes = design.drawn, design.sizes
    unseen = np.bincount(design.stratum, weights=np.asarray(y, dtype="float64"), minlength=len(n)) == 0
    bound = np.minimum(3 / n, 1 - n / sizes)
    return float((sizes / sizes.sum() * bound)[unseen].sum())


def pooled_total(y: np.ndarray, kind: np.ndarray, sizes: np.ndarray, design: Design) -> Interval:
    """Return the positives of an animal whose candidates are as often positive, kind by kind, as the frame's.

    Parameters
    ----------
    y : ndarray of bool, shape (n,)
        Person's answers in the whole audit.
    kind : ndarray of int, shape (n,)
        Kind of every place (its step of `p`), 0 ... kinds - 1.
    sizes : ndarray, shape (kinds,)
        The animal's candidates of each kind.

    Raises
    ------
    ValueError
        If the animal has candidates of a kind that the audit does not hold.

    Notes
    -----
    Beside the error of the shares, the animal's own candidates of a kind are by chance more or less often
    cells: a binomial variance each, left out only where `sizes` are all of the audit's frame.
    """
    y, sizes = np.asarray(y, dtype="float64"), np.asarray(sizes, dtype="float64")
    of_kind = np.bincount(kind, weights=design.weights, minlength=len(sizes))
    if (empty := (of_kind == 0) & (sizes > 0)).any():
        raise ValueError(
            f"An audit must hold places of every kind; kind {np.flatnonzero(empty)[0]} has none. Merge kinds."
        )
    share = np.bincount(kind, weights=design.weights * y, minlength=len(sizes)) / np.maximum(of_kind, 1e-9)
    value = float(share @ sizes)
    residual = design.sizes.sum() * (sizes / np.maximum(of_kind, 1e-9))[kind] * (y - share[kind])
    found, n = spread(residual, design), float(sizes.sum())
    of_its_own = 0.0 if np.allclose(sizes, of_kind) else float(sizes @ (share * (1 - share)))
    if found.variance > 0 and 0 < value < n:
        variance = (found.variance + of_its_own) / n**2
        return Spread(value / n, variance, found.degrees).as_share().times(n)
    reach = n * max(hidden_share(y, design), hidden_share(1 - y, design))
    return Interval(value, max(0.0, value - reach), min(n, value + reach))


def horvitz_thompson(y: np.ndarray, weight: np.ndarray) -> Interval:
    """Return the total of `y`, shape (n,), from independent draws with weight 1 / probability.

    References
    ----------
    Horvitz and Thompson 1952, J Am Stat Assoc 47:663.
    """
    y, weight = np.asarray(y, dtype="float64"), checked_weights(weight)
    total = float((y * weight).sum())
    half = Z * float(np.sqrt(((1 - 1 / weight) * (y * weight) ** 2).sum()))
    return Interval(total, total - half, total + half)


def t_quantile(degrees: float) -> float:
    """Return the 97.5 % point of Student's t; of the normal curve for endless degrees of freedom."""
    return float(stdtrit(degrees, 0.975)) if np.isfinite(degrees) else Z
