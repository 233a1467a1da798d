"""Retraining in seconds: a new last layer on a frozen network."""

from typing import Any, NamedTuple

import numpy as np

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
FOLDS = 5


class Head(NamedTuple):
    """A last layer: logit = embedding @ kernel + bias."""

    kernel: np.ndarray
    bias: float
    strength: float


def fit_head(
    embeddings: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Head:
    """Fit a regularised logistic regression; how strongly, grouped cross-validation decides.

    Parameters
    ----------
    embeddings : ndarray, shape (n, d)
        What the network's layer "embedding" says of each label.
    targets : ndarray, shape (n,)
        1 for the positive class, 0 for the other.
    weights : ndarray, shape (n,), optional
        Weight of each label.
    groups : ndarray, shape (n,), optional
        Animals or blocks: labels of one group are never on both sides of a fold. Each label alone by default.

    Returns
    -------
    Head
        `strength` is the inverse of the penalty, one of 0.0001 to 100.

    Raises
    ------
    ValueError
        If there are labels of one class only.
    """
    from sklearn.linear_model import LogisticRegression

    embeddings, targets = np.asarray(embeddings, dtype=np.float64), np.asarray(targets).astype(int)
    if len(np.unique(targets)) < 2:
        raise ValueError(
            f"A head needs labels of both classes; got {len(targets)} of one. Label some of the other."
        )
    weights = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=np.float64)
    groups = np.arange(len(targets)) if groups is None else np.asarray(groups)
    centre, spread = embeddings.mean(axis=0), embeddings.std(axis=0)
    spread[spread < 1e-6] = 1.0
    scaled = (embeddings - centre) / spread
    strength = _best_strength(scaled, targets, weights, groups, seed)
    fitted = LogisticRegression(C=strength, max_iter=2000).fit(scaled, targets, sample_weight=weights)
    kernel = fitted.coef_[0] / spread
    return Head(kernel.astype(np.float32), float(fitted.intercept_[0] - kernel @ centre), strength)


def _best_strength(
    scaled: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray, seed: int
) -> float:
    """Return the strength of the least held-out loss; the middle one where no fold has both classes."""
    from scipy.special import log_expit
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, len(np.unique(groups)), *np.bincount(targets))
    losses = np.zeros(len(STRENGTHS))
    if folds >= 2:
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for taught, judged in cut.split(scaled, targets, groups):
            if len(np.unique(targets[taught])) < 2:
                continue
            for i, strength in enumerate(STRENGTHS):
                fitted = LogisticRegression(C=strength, max_iter=2000)
                fitted.fit(scaled[taught], targets[taught], sample_weight=weights[taught])
                margin = fitted.decision_function(scaled[judged]) * (2 * targets[judged] - 1)
                losses[i] -= np.sum(weights[judged] * log_expit(margin))
    return STRENGTHS[int(np.argmin(losses))] if losses.any() else STRENGTHS[len(STRENGTHS) // 2]


def replace_head(model: Any, head: Head) -> Any:
    """Return a new network with the same body and this last layer; `model` stays as it is."""
    import keras

    renewed = keras.models.clone_model(model)
    renewed.set_weights(model.get_weights())
    renewed.layers[-1].set_weights([head.kernel[:, None], np.array([head.bias], np.float32)])
    return renewed
