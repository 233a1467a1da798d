"""From a network's logits to probabilities that mean what they say, and to calls."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

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
    p: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, *, by: str = "f1"
) -> float:
    """Return the probability from which on calling a candidate positive serves best.

    Parameters
    ----------
    p, targets : ndarray, shape (n,)
        Calibrated probabilities of labels that the network was not trained on, and their answers (1 or 0).
    weights : ndarray, shape (n,), optional
        1 / probability that a label was drawn.
    by : {"f1", "count"}
        The largest F1, or the number called nearest to the number that is there.

    Raises
    ------
    ValueError
        If `by` is neither, or no label is positive.
    """
    if by not in {"f1", "count"}:
        raise ValueError(f'A threshold is chosen by "f1" or "count"; got {by!r}. Choose one of them.')
    p, targets = np.asarray(p, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if not targets.any():
        raise ValueError(
            f"A threshold needs labels of the positive class; got none among {len(targets)}. Label some."
        )
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-p, kind="stable")
    p, weights, targets = p[order], weights[order], targets[order]
    called, hits, there = np.cumsum(weights), np.cumsum(weights * targets), np.sum(weights * targets)
    gain = 2 * hits / (called + there) if by == "f1" else -np.abs(called - there)
    lower = np.append(p[1:], 0.0)
    gain[p == lower] = -np.inf
    best = int(np.argmax(gain))
    return float(np.clip((p[best] + lower[best]) / 2, 1e-6, 1 - 1e-6))
