"""When to stop labelling: a forecast of the learning curve, networks that stay alike, and a narrow count."""

from typing import NamedTuple

import numpy as np

from cellkit.estimates.curves import weights_again
from cellkit.estimates.draws import Design, Interval
from cellkit.estimates.metrics import metric_parts, n_more

LEAST_ROUNDS = 4
POWERS = np.geomspace(0.1, 2, 40)
STABLE_KAPPA, STABLE_ROUNDS = 0.99, 3
SMALL_GAIN = 0.01


class Curve(NamedTuple):
    """Error a + b * labels ** -power: a is what remains however much is labelled."""

    a: float
    b: float
    power: float

    def at(self, labels: float) -> float:
        """Return the error after so many labels."""
        return self.a + self.b * labels**-self.power


class Forecast(NamedTuple):
    """A learning curve, and how much the error is expected to change with `ahead` further labels."""

    curve: Curve
    ahead: int
    change: Interval


class Advice(NamedTuple):
    """Whether to stop, in one sentence, and the numbers behind it."""

    stop: bool
    sentence: str
    numbers: dict[str, float]


def f1_errors(
    truth: np.ndarray,
    calls: np.ndarray,
    design: Design,
    *,
    animals: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 - F1 of the networks of all rounds on one audit, and the same for 1000 audits drawn again.

    Parameters
    ----------
    truth : ndarray of bool, shape (n,)
        Person's answers.
    calls : ndarray of bool, shape (rounds, n)
        Each network's calls of the same places.
    design : Design
        How the places were drawn.
    animals : ndarray of str, shape (n,), optional
        Whole animals are drawn again where there are 3.

    Returns
    -------
    tuple of ndarray, shapes (rounds,) and (1000, rounds)
    """
    weights = np.concatenate([design.weights[None], weights_again(design, animals=animals, seed=seed)])
    parts = [metric_parts(truth, call)["F1"] for call in np.asarray(calls, bool)]
    with np.errstate(invalid="ignore"):
        f1 = np.stack([(weights @ top) / (weights @ bottom) for top, bottom in parts], axis=1)
    return 1 - f1[0], 1 - f1[1:]


def fit_curve(labels: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Fit error = a + b * labels ** -power to each row of errors by least squares; a and b are not below 0.

    Parameters
    ----------
    labels : ndarray, shape (rounds,)
        Labels that each network was trained on.
    errors : ndarray, shape (curves, rounds)

    Returns
    -------
    ndarray, shape (curves, 3)
        a, b and power, which is from 0.1 to 2.

    References
    ----------
    Viering and Loog 2023, IEEE Trans Pattern Anal 45:7799 (shapes of learning curves).
    """
    errors = np.asarray(errors, dtype="float64")
    scale = float(np.exp(np.log(labels).mean()))
    x = (np.asarray(labels, dtype="float64")[None] / scale) ** -POWERS[:, None]
    mean_x, mean_e = x.mean(axis=1)[:, None], errors.mean(axis=1)
    b = ((x - mean_x) @ errors.T) / ((x - mean_x) ** 2).sum(axis=1)[:, None]
    b = np.maximum(b, 0)
    a = mean_e - b * mean_x
    through = (x @ errors.T) / (x**2).sum(axis=1)[:, None]
    b, a = np.where(a < 0, through, b), np.maximum(a, 0)
    off = ((errors[None] - a[..., None] - b[..., None] * x[:, None]) ** 2).sum(axis=2)
    best, each = off.argmin(axis=0), np.arange(len(errors))
    power = POWERS[best]
    return np.stack([a[best, each], b[best, each] * scale**power, power], axis=1)


def forecast_error(
    labels: np.ndarray, errors: np.ndarray, again: np.ndarray, *, ahead: int = 50, seed: int = 0
) -> Forecast:
    """Return the learning curve of the rounds so far, and what further labels are expected to bring.

    Parameters
    ----------
    labels : ndarray, shape (rounds,)
        Labels that each round's network was trained on; the last round is the present.
    errors : ndarray, shape (rounds,)
        Their errors on one audit, from `f1_errors`.
    again : ndarray, shape (draws, rounds)
        The same for audits drawn again.
    ahead : int
        Further labels.

    Raises
    ------
    ValueError
        If there are fewer than 4 rounds with different numbers of labels.

    Notes
    -----
    The interval holds the chance of the audit and that of training: rounds scatter about the curve, and as
    much is added at random to every round of every draw.
    """
    labels, errors = np.asarray(labels, dtype="float64"), np.asarray(errors, dtype="float64")
    if (rounds := len(np.unique(labels))) < LEAST_ROUNDS:
        raise ValueError(
            f"A forecast needs {LEAST_ROUNDS} rounds with different numbers of labels; got {rounds}. "
            "Label on."
        )
    found = Curve(*(float(each) for each in fit_curve(labels, errors[None])[0]))
    off = errors - np.array([found.at(n) for n in labels])
    scatter = float(np.sqrt((off**2).sum() / max(len(labels) - 3, 1)))
    again = again[np.isfinite(again).all(axis=1)]
    noise = np.random.default_rng(seed).normal(0, scatter, again.shape)
    _, b, power = fit_curve(labels, again + noise).T
    now, then = labels[-1], labels[-1] + ahead
    change = b * (then**-power - now**-power)
    value = found.at(then) - found.at(now)
    low, high = np.quantile(change, [0.025, 0.975])
    return Forecast(found, ahead, Interval(value, min(value, float(low)), max(value, float(high))))


def f1_bound(kappa: float) -> float:
    """Return how far F1 can at most have moved between two networks that agree this well on one set.

    References
    ----------
    Bloodgood and Grothendieck 2013, arXiv 1504.06329.
    """
    return 4 * (1 - kappa) / kappa if kappa > 0 else np.inf


def advise(
    kappas: list[float],
    forecast: Forecast | None,
    count: Interval | None,
    *,
    answers: int = 0,
    within: float = 0.1,
) -> Advice:
    """Return one advice from the three signs that labelling may end; without a sign it says what is missing.

    Parameters
    ----------
    kappas : list of float
        Agreement of every network with the one before, on the same unlabelled candidates; the latest last.
    forecast : Forecast, optional
        What further labels are expected to bring.
    count : Interval, optional
        The count by the audit; left out if none is wanted.
    answers : int
        Answers of the audit behind `count`.
    within : float
        Half-width wanted of the count, as a share of it.

    References
    ----------
    Bloodgood and Vijay-Shanker 2009, arXiv 1409.5165 (kappa of at least 0.99 for three rounds).
    """
    said, numbers = [], {}
    last = kappas[-STABLE_ROUNDS:]
    stable = len(last) == STABLE_ROUNDS and min(last) >= STABLE_KAPPA
    if kappas:
        numbers["kappa"] = kappas[-1]
        said.append(f"the last two networks agree with kappa {kappas[-1]:.3f}")
    flat = forecast is not None and -forecast.change.low < SMALL_GAIN
    if forecast is not None:
        change = forecast.change.times(-100)
        numbers |= {"gain": change.value / 100, "gain_low": change.high / 100, "gain_high": change.low / 100}
        said.append(
            f"{forecast.ahead} more labels are expected to bring {change.value:.1f} points of F1 "
            f"({change.high:.1f} to {change.low:.1f})"
        )
    narrow = True
    if count is not None and count.value > 0:
        width = count.half_width / count.value
        narrow, numbers["count_half_width"] = width <= within, width
        said.append(f"the count is known to ±{width:.0%}")
    elif count is not None:
        narrow = False
        said.append(f"the audit holds no cell, so up to {count.high:,.0f} may hide")
    numbers_said = "; ".join(said) or "no sign is known yet"
    return _advice(stable or flat, narrow, _more(count, answers, within), numbers_said, numbers)


def _more(count: Interval | None, answers: int, within: float) -> int:
    if count is None or not count.value > 0:
        return 0
    return n_more(answers, count.half_width, within * count.value)


def _advice(learnt: bool, narrow: bool, more: int, said: str, numbers: dict[str, float]) -> Advice:
    numbers = numbers | {"answers_needed": float(more)}
    places = f"about {more:,} more places of the audit" if more else "more places of the audit"
    if learnt and narrow:
        return Advice(True, f"Stop labelling: {said}.", numbers)
    if learnt:
        return Advice(False, f"Label no more to train, but {places}: {said}.", numbers)
    also = f" and {places}" if not narrow else ""
    return Advice(False, f"Go on labelling to train{also}: {said}.", numbers)
