"""Counts that lean on the network: prediction-powered, adjusted, by changed prevalence; and when not to."""

from typing import NamedTuple

import numpy as np

from cellkit.estimates.draws import Design, Interval, Spread, Z, hidden_share, spread, stratified_share

LEAST_CONTRAST = 0.5
EM_STEPS, EM_STILL = 500, 1e-9
NULL_DRAWS = 2000


class Rates(NamedTuple):
    """How a network called labels other than the audit's: called cells and all, among cells and artefacts."""

    called_cells: float
    cells: float
    called_artefacts: float
    artefacts: float

    @property
    def sensitivity(self) -> float:
        """Share of the cells that are called cells."""
        return self.called_cells / self.cells

    @property
    def false_rate(self) -> float:
        """Share of the artefacts that are called cells."""
        return self.called_artefacts / self.artefacts


class ShiftCheck(NamedTuple):
    """Whether audited answers agree with what a correction without them takes for granted.

    Attributes
    ----------
    difference : Interval
        Share that the correction expects minus the share by the audit.
    probability : float
        Of a disagreement as large as this, or larger, if the assumption holds.
    """

    difference: Interval
    probability: float

    @property
    def holds(self) -> bool:
        """False if the disagreement is rarer than one in twenty."""
        return self.probability >= 0.05


def powered_share(y: np.ndarray, q: np.ndarray, design: Design, frame_q: np.ndarray) -> Interval:
    """Return the share of positives by the prediction-powered difference estimator, stratum by stratum.

    Sound with any `q`: a useless one gets no influence, a good one narrows the interval. After a draw that
    is stratified by `q` there is little left to gain (4 % at most in the simulated worlds).

    Parameters
    ----------
    y : ndarray of bool, shape (n,)
        Person's answers.
    q : ndarray, shape (n,)
        Network's probabilities of the same places.
    design : Design
        How the places were drawn.
    frame_q : ndarray, shape (strata,)
        Mean `q` over all candidates of each stratum.

    References
    ----------
    Angelopoulos et al. 2023, Science 382:669; power tuning: arXiv 2311.01453.
    """
    y, q = np.asarray(y, bool), np.asarray(q, dtype="float64")
    n, sizes = design.drawn, design.sizes
    share = sizes / sizes.sum()
    mean_y, mean_q = (np.bincount(design.stratum, weights=v, minlength=len(n)) / n for v in (y, q))
    off_y, off_q = y - mean_y[design.stratum], q - mean_q[design.stratum]
    part = (share**2 * (1 - n / sizes) / n / np.maximum(n - 1, 1))[design.stratum]
    below = float((part * off_q**2).sum())
    trust = float(np.clip((part * off_y * off_q).sum() / below, 0, 1)) if below > 0 else 0.0
    found = spread(y - trust * q, design)
    value = found.mean + trust * float(share @ np.asarray(frame_q, dtype="float64"))
    if found.variance > 0 and 0 < value < 1:
        return Spread(value, found.variance, found.degrees).as_share()
    return stratified_share(y, design)


def adjusted_share(called: int, candidates: int, rates: Rates) -> Interval:
    """Return the share of cells from the number that is called, undone for a network's known error rates.

    Right only where the network errs on these candidates as it did on the labels behind `rates`;
    `check_rates` tells on an audit whether it does.

    Parameters
    ----------
    called, candidates : int
        Candidates that the network calls cells, and all.
    rates : Rates
        From labels that neither trained the network nor come from these candidates.

    Raises
    ------
    ValueError
        If the network hardly calls cells more often than artefacts, or `rates` rests on no labels.

    References
    ----------
    Rogan and Gladen 1978, Am J Epidemiol 107:71; Forman 2008, Data Min Knowl Discov 17:164.
    """
    contrast = _contrast(rates)
    t, f, c = rates.sensitivity, rates.false_rate, called / candidates
    value = float(np.clip((c - f) / contrast, 0, 1))
    parts = (
        c * (1 - c) / candidates
        + value**2 * t * (1 - t) / rates.cells
        + (1 - value) ** 2 * f * (1 - f) / rates.artefacts
    )
    half = Z * float(np.sqrt(parts)) / contrast
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _contrast(rates: Rates) -> float:
    """Return by how much more often cells are called than artefacts, or refuse."""
    if rates.cells <= 0 or rates.artefacts <= 0:
        raise ValueError(
            "Error rates need labels of both classes; "
            f"got {rates.cells:g} cells and {rates.artefacts:g} artefacts. Label some of the other."
        )
    t, f = rates.sensitivity, rates.false_rate
    if t - f < LEAST_CONTRAST:
        raise ValueError(
            f"An adjusted count needs a network that calls cells at least {100 * LEAST_CONTRAST:.0f} points "
            f"more often than artefacts; this one calls {100 * t:.0f} % and {100 * f:.0f} %. "
            "Use the stratified count of an audit."
        )
    return t - f


def changed_prevalence(p: np.ndarray, trained: float = 0.5) -> tuple[float, np.ndarray]:
    """Return the share of cells that makes `p` agree with itself, and `p` corrected for it.

    Expectation and maximisation after Saerens: right only where `p` is calibrated at the prevalence of the
    training labels and nothing but the prevalence differs; `check_probabilities` tells on an audit.

    Parameters
    ----------
    p : ndarray, shape (candidates,)
        Probabilities of all candidates of the frame.
    trained : float
        Share of cells among the labels that `p` was calibrated on.

    Returns
    -------
    tuple of float and ndarray, shape (candidates,)

    Raises
    ------
    ValueError
        If `trained` is not between 0 and 1.

    References
    ----------
    Saerens et al. 2002, Neural Comput 14:21.
    """
    if not 0 < trained < 1:
        raise ValueError(
            f"`trained` is the share of cells among the labels, between 0 and 1; got {trained}. Count them."
        )
    p = np.asarray(p, dtype="float64")
    cell, artefact = p / trained, (1 - p) / (1 - trained)
    share = trained
    for _ in range(EM_STEPS):
        q = cell * share / (cell * share + artefact * (1 - share))
        before, share = share, float(q.mean())
        if abs(share - before) < EM_STILL:
            break
    return share, q


def check_probabilities(y: np.ndarray, q: np.ndarray, design: Design, *, seed: int = 0) -> ShiftCheck:
    """Test on an audit whether `q` is right, stratum by stratum: else counts summed from `q` mislead.

    The disagreement is the sum over strata of (cells seen - cells expected)^2 / variance expected; its chance
    comes from 2000 sets of answers drawn from `q` itself.

    Parameters
    ----------
    y : ndarray of bool, shape (n,)
        Person's answers.
    q : ndarray, shape (n,)
        Probabilities of the same places, as `changed_prevalence` returns them.
    design : Design
        How the places were drawn.
    """
    y, q = np.asarray(y, bool), np.asarray(q, dtype="float64")
    drawn = np.random.default_rng(seed).random((NULL_DRAWS, len(q))) < q
    strata = len(design.sizes)
    member = np.equal.outer(design.stratum, np.arange(strata)).astype("float64")
    variance = np.maximum((q * (1 - q)) @ member, 1e-3)
    seen = np.concatenate([y[None], drawn]).astype("float64") @ member  # whole numbers: equal ones are equal
    off = ((seen - q @ member) ** 2 / variance).sum(axis=1)
    probability = float((1 + (off[1:] >= off[0]).sum()) / (1 + NULL_DRAWS))
    return ShiftCheck(_difference(q - y, design), probability)


def _difference(values: np.ndarray, design: Design) -> Interval:
    found = spread(values, design)
    return Interval(found.mean, found.mean - found.reach, found.mean + found.reach)


def check_rates(y: np.ndarray, called: np.ndarray, design: Design, rates: Rates) -> ShiftCheck:
    """Test on an audit whether a network errs as often as `rates` says: else adjusted counts mislead.

    Both error rates are compared at once, each by its squared difference over its variance (chi-square with
    two degrees of freedom).

    Parameters
    ----------
    y, called : ndarray of bool, shape (n,)
        Person's answers and network's calls.
    design : Design
        How the places were drawn.
    rates : Rates
        As given to `adjusted_share`.
    """
    contrast = _contrast(rates)
    y, called = np.asarray(y, bool), np.asarray(called, bool)
    off = 0.0
    for group, rate, behind in (
        (y, rates.sensitivity, rates.cells),
        (~y, rates.false_rate, rates.artefacts),
    ):
        if not group.any():
            continue
        weight = design.weights * group / (design.weights @ group)
        here = float(weight @ called)
        residual = design.sizes.sum() / (design.weights @ group) * group * (called - here)
        expected = max(rate * (1 - rate), 0.25 / behind)
        by_chance = max(spread(residual, design, finite=False).variance, expected * float(weight @ weight))
        off += (here - rate) ** 2 / (by_chance + expected / behind)
    return ShiftCheck(
        _difference((called - rates.false_rate) / contrast - y, design), float(np.exp(-off / 2))
    )


def answers_needed(y: np.ndarray, design: Design, wish: float) -> int:
    """Return how many further answers bring the interval of the share down to plus and minus `wish`.

    The further places are taken to be shared out as those so far; in a stratum that is nearly whole they do
    less, and this is counted in.

    Parameters
    ----------
    y : ndarray of bool, shape (n,)
        Person's answers so far.
    design : Design
        How the places were drawn.
    wish : float
        Half-width wanted, as a share of all candidates: 0.1 times the share for "plus and minus 10 %".

    Raises
    ------
    ValueError
        If the wished half-width is not above zero.
    """
    if not wish > 0:
        raise ValueError(f"The wished half-width must be above 0; got {wish}. Say how wide it may be.")
    y = np.asarray(y, bool)
    left = int(np.rint(design.sizes.sum())) - len(y)
    found = spread(y, design)
    if found.variance == 0:
        reach = max(hidden_share(y, design), hidden_share(~y, design))
        return min(left, max(0, int(np.ceil(len(y) * (reach / wish - 1)))))
    endless = spread(y, design, finite=False).variance
    t = found.reach / np.sqrt(found.variance)
    times = endless / ((wish / t) ** 2 + endless - found.variance)
    return min(left, max(0, int(np.ceil(len(y) * (times - 1)))))
