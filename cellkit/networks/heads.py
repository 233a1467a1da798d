"""Retraining in seconds: a new last layer on a frozen network."""

import json
from typing import Any, NamedTuple

import numpy as np

from cellkit.folder.disk import fingerprint
from cellkit.networks.architectures import EMBEDDING

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
FOLDS = 5
KEEPS = 0.0  # the strength that takes over what the network said before, at another slope and offset
EASE = 3.0  # so much weaker is the penalty on what the network said before


class Head(NamedTuple):
    """A last layer: logit = embedding @ kernel + bias + kept * what the network said before."""

    kernel: np.ndarray
    bias: float
    strength: float
    kept: float = 0.0


def fit_head(
    embeddings: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    before: np.ndarray | None = None,
    seed: int = 0,
) -> Head:
    """Fit a regularised logistic regression; how strongly, grouped cross-validation decides.

    With few labels it ends near what the network said `before`, for that is penalised a ninth as much. Where
    nothing that the labels teach of the embedding holds in the groups left out, it is left as it was.

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
    before : ndarray, shape (n,), optional
        Logits of the network whose head is replaced; without them it starts from nothing.

    Returns
    -------
    Head
        `strength` is the inverse of the penalty, one of 0.0001 to 100, or 0 if the kernel is zero and the
        logits before are all that is kept, at another slope and offset; `kept` is by what they are
        multiplied, 0 without them.

    Raises
    ------
    ValueError
        If there are labels of one class only.
    """
    from threadpoolctl import threadpool_limits

    task = _stated(embeddings, targets, weights, before)
    groups = np.arange(len(task.targets)) if groups is None else np.asarray(groups)
    strengths = STRENGTHS if before is None else (KEEPS, *STRENGTHS)
    with threadpool_limits(1):  # on matrices this small threads wait for one another
        return _solved(task, _best_strength(*task[:3], groups, seed, strengths))


def refit_head(
    head: Head,
    embeddings: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    before: np.ndarray | None = None,
) -> Head:
    """Fit a head of the same strength to other labels, without cross-validation; see `fit_head`."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return _solved(_stated(embeddings, targets, weights, before), head.strength)


class _Task(NamedTuple):
    """What a head is fitted to: columns of one spread (n, d + 1), the last what was said before."""

    scaled: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    centre: np.ndarray
    spread: np.ndarray


def _stated(
    embeddings: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, before: np.ndarray | None
) -> _Task:
    embeddings, targets = np.asarray(embeddings, dtype=np.float64), np.asarray(targets).astype(int)
    if len(np.unique(targets)) < 2:
        raise ValueError(
            f"A head needs labels of both classes; got {len(targets)} of one. Label some of the other."
        )
    weights = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=np.float64)
    said = np.zeros(len(targets)) if before is None else np.asarray(before, dtype=np.float64)
    seen = np.column_stack([embeddings, said])
    centre = np.average(seen, axis=0, weights=weights)
    spread = np.sqrt(np.average((seen - centre) ** 2, axis=0, weights=weights))
    spread[spread < 1e-6] = 1.0
    spread[-1] /= EASE
    return _Task((seen - centre) / spread, targets, weights, centre, spread)


def _solved(task: _Task, strength: float) -> Head:
    kernel, bias = _fitted(*task[:3], strength)
    kernel /= task.spread
    kept = float(kernel[-1])
    return Head(kernel[:-1].astype(np.float32), float(bias - kernel @ task.centre), strength, kept)


def _fitted(
    scaled: np.ndarray, targets: np.ndarray, weights: np.ndarray, strength: float
) -> tuple[np.ndarray, float]:
    """Return the kernel (d,) and the bias of a logistic regression, of the last column alone if it keeps."""
    from sklearn.linear_model import LogisticRegression

    used = slice(-1, None) if strength == KEEPS else slice(None)
    model = LogisticRegression(C=strength or 1.0, solver="newton-cholesky")
    model.fit(scaled[:, used], targets, sample_weight=weights)
    kernel = np.zeros(scaled.shape[1])
    kernel[used] = model.coef_[0]
    return kernel, float(model.intercept_[0])


def _best_strength(
    scaled: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray, seed: int,
    strengths: tuple[float, ...],
) -> float:  # fmt: skip
    """Return the strength of the least held-out loss; the middle one where no fold has both classes."""
    from scipy.special import log_expit
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, len(np.unique(groups)), *np.bincount(targets))
    losses = np.zeros(len(strengths))
    if folds >= 2:
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for taught, judged in cut.split(scaled, targets, groups):
            if len(np.unique(targets[taught])) < 2:
                continue
            for i, strength in enumerate(strengths):
                kernel, bias = _fitted(scaled[taught], targets[taught], weights[taught], strength)
                margin = (scaled[judged] @ kernel + bias) * (2 * targets[judged] - 1)
                losses[i] -= np.sum(weights[judged] * log_expit(margin))
    return strengths[int(np.argmin(losses))] if losses.any() else STRENGTHS[len(STRENGTHS) // 2]


def head_of(model: Any) -> tuple[np.ndarray, float] | None:
    """Return kernel (d,) and bias of a last layer that is linear in the embedding; None for another."""
    last = model.layers[-1]
    linear = type(last).__name__ == "Dense" and last.activation.__name__ == "linear" and last.use_bias
    if not linear or last.input is not model.get_layer(EMBEDDING).output or last.units != 1:
        return None
    kernel, bias = last.get_weights()
    return kernel[:, 0].astype(np.float64), float(bias[0])


def logits_of(embeddings: np.ndarray, head: tuple[np.ndarray, float]) -> np.ndarray:
    """Return what a last layer makes of embeddings (n, d): float32 (n,), the same in whatever company."""
    kernel, bias = head
    return (np.einsum("nd,d->n", embeddings, kernel, dtype=np.float64) + bias).astype(np.float32)


def fingerprint_body(model: Any) -> str:
    """Return what changes when any layer but the last does: two networks of one body share embeddings."""
    plan = json.loads(model.to_json())["config"]["layers"][:-1]
    weights = [fingerprint(values) for layer in model.layers[:-1] for values in layer.get_weights()]
    return fingerprint([plan, weights])


def joined_head(head: Head, before: tuple[np.ndarray, float]) -> Head:
    """Return a head as one last layer, with what it keeps of the one before (kernel and bias) in it."""
    kernel, bias = before
    together = head.kernel + head.kept * kernel
    return head._replace(kernel=together.astype(np.float32), bias=head.bias + head.kept * bias)


def replace_head(model: Any, head: Head) -> Any:
    """Return a new network with the same body and this last layer; `model` stays as it is."""
    import keras

    renewed = keras.models.clone_model(model)
    renewed.set_weights(model.get_weights())
    renewed.layers[-1].set_weights([head.kernel[:, None], np.array([head.bias], np.float32)])
    return renewed
