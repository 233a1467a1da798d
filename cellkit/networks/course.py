"""The course of a training: how long, how fast, how varied."""

from dataclasses import dataclass, field

import numpy as np

from cellkit.augment import AugmentSettings

SOURCES = ("size", "equal")


@dataclass(frozen=True)
class FitSettings:
    """How a network is taught.

    Attributes
    ----------
    epochs : int
        At most so many; one shows as many cubes as there are labels, filled up to whole batches.
    batch : int
        Cubes in one step.
    learning_rate : float
        Reached after the warm-up; falls to 0 along a cosine.
    warm_up : float
        Share of all steps in which the learning rate rises.
    weight_decay : float
        Of AdamW.
    patience : int
        Epochs after which training stops if none of them judged as well as the best before.
    smooth : int
        Epochs over which the validation losses are averaged before they are compared: with few labels held
        out one low value may be luck.
    balance : float or None
        Share of the positive class in what the network is shown; None shows every label once an epoch.
    sources : str
        How often each source of pooled labels is shown: "size", by the number of its labels, or "equal".
    augment : AugmentSettings
        How the cubes are varied.
    seed : int
        Of the order and the variation.
    """

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 1e-3
    warm_up: float = 0.1
    weight_decay: float = 1e-4
    patience: int = 6
    smooth: int = 3
    balance: float | None = 0.5
    sources: str = "size"
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that train nothing."""
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0 or not 0 <= self.warm_up < 1:
            raise ValueError(
                "Training needs at least 1 epoch, a batch of at least 1, a learning rate above 0 and a "
                f"warm-up from 0 to below 1; got {self.epochs}, {self.batch}, {self.learning_rate:g} and "
                f"{self.warm_up:g}. Change the settings."
            )
        if self.balance is not None and not 0 < self.balance < 1:
            raise ValueError(
                f"`balance` must lie between 0 and 1; got {self.balance:g}. "
                "None shows each label once an epoch."
            )
        if self.sources not in SOURCES:
            raise ValueError(
                f"`sources` must be {' or '.join(SOURCES)}; got {self.sources!r}. "
                "By size, a large pool is shown more often."
            )


def rate_at(step: int, steps: int, settings: FitSettings) -> float:
    """Return the learning rate of a step, from 0 on: a line up to `learning_rate`, a cosine down to 0."""
    warm_up = round(settings.warm_up * steps)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / (warm_up + 1)
    fallen = (step - warm_up) / (steps - warm_up)
    return float(settings.learning_rate * 0.5 * (1 + np.cos(np.pi * fallen)))
