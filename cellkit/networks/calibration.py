"""From a network's logits to probabilities that mean what they say, and to calls."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Aim = str | tuple[str, float]
LEAST_LABELS = 200
LEAST_OF_A_CLASS = 20


def calibrate(
    logits: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    keep: tuple[float, float] = (1.0, 0.0),
) -> tuple[float, float]:
    """Return the slope and offset for which p = sigmoid(slope * logit + offset) fits the answers best.

    Parameters
    ----------
    logits, targets : ndarray, shape (n,)
        Logits of labels that the network was not trained on; 1 for the positive class, 0 for the other.
    weights : ndarray, shape (n,), optional
        1 / probability that a label was drawn.
    keep : tuple of 2 float
        Returned as it is with fewer than 200 labels, or fewer than 20 of one class: then fitting does harm.

    References
    ----------
    Platt 1999, with its softened targets; Guo et al. 2017, arXiv 1706.04599.
    """
    logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    positives = int(targets.sum())
    if len(targets) < LEAST_LABELS or min(positives, len(targets) - positives) < LEAST_OF_A_CLASS:
        return keep
    weights = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=np.float64)
    weights = weights / weights.sum()
    soft = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (len(targets) - positives + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.exp(line[0])
        z = slope * logits + line[1]
        off = weights * (expit(z) - soft)
        value = -np.sum(weights * (soft * log_expit(z) + (1 - soft) * log_expit(-z)))
        return float(value), np.array([np.sum(off * logits) * slope, np.sum(off)])

    best = minimize(loss, np.zeros(2), jac=True, method="BFGS")
    return float(np.exp(best.x[0])), float(best.x[1])


def choose_threshold(
    p: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, *, aim: Aim = "f1"
) -> float:
    """Return the probability from which on calling a candidate positive serves an aim best.

    Parameters
    ----------
    p, targets : ndarray, shape (n,)
        Calibrated probabilities of labels that the network was not trained on, and their answers (1 or 0).
        With `p` itself as the answers the choice is the one that the probabilities foretell.
    weights : ndarray, shape (n,), optional
        1 / probability that a label was drawn.
    aim : str or tuple
        "f1", the largest F1; "count", the number called nearest to the number that is there;
        ("precision", 0.9), at least that, with as much recall as can be had; ("recall", 0.9), at least that,
        with as much precision as can be had.

    Raises
    ------
    ValueError
        If the aim is none of these or cannot be reached, or no label is positive.
    """
    name, goal = _checked_aim(aim)
    p, targets = np.asarray(p, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if not targets.any():
        raise ValueError(
            f"A threshold needs labels of the positive class; got none among {len(targets)}. Label some."
        )
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-p, kind="stable")
    p, weights, targets = p[order], weights[order], targets[order]
    called, hits, there = np.cumsum(weights), np.cumsum(weights * targets), np.sum(weights * targets)
    reached = {"precision": hits / called, "recall": hits / there}.get(name, np.zeros(len(p)))
    gains = {"f1": 2 * hits / (called + there), "count": -np.abs(called - there)}
    gain = (gains | {"precision": hits, "recall": -called})[name]
    lower = np.append(p[1:], 0.0)
    gain = np.where((p == lower) | (reached < goal), -np.inf, gain)
    if np.isneginf(gain).all():
        best = float(np.max(reached[p != lower], initial=0.0))
        raise ValueError(
            f"The threshold for a {name} of {goal:g} must exist; no threshold gives more than {best:.3f}. "
            "Ask for less, or label more and retrain."
        )
    best = int(np.argmax(gain))
    return float(np.clip((p[best] + lower[best]) / 2, 1e-6, 1 - 1e-6))


def say_aim(aim: "Aim | float") -> str:
    """Return an aim in words."""
    if isinstance(aim, int | float):
        return "as given"
    name, goal = _checked_aim(aim)
    return f"{name} of at least {goal:g}" if goal else name


def _checked_aim(aim: Aim) -> tuple[str, float]:
    if aim in ("f1", "count"):
        return str(aim), 0.0
    name, goal = aim if isinstance(aim, tuple | list) and len(aim) == 2 else ("", 0.0)
    if name not in ("precision", "recall") or not 0 < goal < 1:
        raise ValueError(
            'The aim of a threshold must be "f1", "count", ("precision", share) or ("recall", share) with a '
            f"share below 1; got {aim!r}. Choose one of them."
        )
    return name, float(goal)
