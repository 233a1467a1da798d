"""What the curves of a training say, in a sentence."""

import numpy as np
import pandas as pd

FEW = 4
RISES = 0.1  # of the least held-out loss: by less, a rise is noise
FALLS = 0.03  # of the held-out loss over the last quarter: by less, it is flat
GAP = 1.5  # held-out loss over training loss: above, the network knows its labels better than others


def kept_epoch(history: pd.DataFrame) -> int:
    """Return the epoch whose weights a training kept: the last one marked so, 0 for those it started from.

    Of a history that marks none, the epoch of the least loss.
    """
    if "kept" in history:
        return int(history["epoch"][history["kept"] > 0].max()) if (history["kept"] > 0).any() else 0
    return int(history["epoch"].iloc[int(np.argmin(history["val_loss"]))])


def judge_epoch(
    losses: np.ndarray, least: np.ndarray | None = None, *, goes_on: bool
) -> tuple[bool, np.ndarray]:
    """Tell whether an epoch is kept, and return the losses that the next one is held against.

    Parameters
    ----------
    losses : ndarray, shape (n,)
        Of the held-out labels after the epoch.
    least : ndarray, shape (n,), optional
        What this returned for the epoch before; without it the epoch is the first.
    goes_on : bool
        From what a network knew before: an epoch is kept if it lies below the one kept so far by more than
        one standard error of the difference. Else it is kept unless it lies above the least by more than
        that.
    """
    if least is None:
        return True, losses
    if goes_on:
        kept = _below(least - losses)
        return kept, losses if kept else least
    least = losses if losses.sum() < least.sum() else least
    return not _below(losses - least), least


def _below(by: np.ndarray) -> bool:
    """Tell whether losses lie lower by these differences, on average by more than one standard error."""
    return bool(by.mean() > by.std(ddof=1) / np.sqrt(len(by)))


def read_curves(history: pd.DataFrame) -> str:
    """Return a plain sentence: still learning, overfitting since an epoch, or what else the curves show.

    Parameters
    ----------
    history : DataFrame
        A row an epoch: `epoch`, `loss` and `val_loss`, and `kept` where it is known. Losses are smoothed over
        three epochs before they are judged, since few labels are held out as a rule.

    Raises
    ------
    ValueError
        If there is no epoch.
    """
    if history.empty:
        raise ValueError("Curves need at least one epoch; got none. Train first.")
    n = len(history)
    if "kept" in history and kept_epoch(history) == 0:
        return (
            f"None of {n} epoch{'s' * (n > 1)} judged the held-out labels better, by more than chance, than "
            "the network before the first, which was kept. More labels help, or a lower learning rate."
        )
    if n < FEW:
        return f"Too early to say: {n} epoch{'s' * (n > 1)}. Curves can be read from {FEW} epochs on."
    taught, held_out = (_smooth(history[name].to_numpy(dtype=float)) for name in ("loss", "val_loss"))
    best = int(np.argmin(held_out))
    epoch = int(history["epoch"].iloc[best])
    rise = held_out[-1] / held_out[best] - 1
    last = max(2, n // 4)
    fall = 1 - held_out[-1] / held_out[-1 - last]
    if rise > RISES:
        return _risen(rise, epoch, overfits=bool(taught[-1] < taught[best]))
    if fall > FALLS:
        return (
            f"Still learning: the loss on held-out labels fell by {fall:.0%} over the last {last} epochs. "
            "More epochs may help: continue_training."
        )
    if held_out[best] > GAP * taught[best]:
        return (
            "The labels are the limit: the loss on held-out labels is flat, and "
            f"{held_out[best] / taught[best]:.1f} times that on the labels that train. "
            "More, and more varied, labels help; more epochs do not."
        )
    return (
        "The labels are the limit: both losses are flat and close to one another, so all that these labels "
        "teach is learnt. Look for labels that contradict each other, or label other kinds of places."
    )


def _risen(rise: float, epoch: int, *, overfits: bool) -> str:
    if overfits:
        return (
            f"Overfitting since epoch {epoch}: the loss on held-out labels has risen by {rise:.0%} since, "
            "while that on the labels that train fell. The best epoch is kept; more labels help, more epochs "
            "do not."
        )
    return (
        f"Unlearning since epoch {epoch}: both losses have risen since, that on held-out labels by "
        f"{rise:.0%}. The best epoch is kept; lower the learning rate."
    )


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value and its two neighbours; at the ends of those that are there."""
    ones = np.ones(3)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
