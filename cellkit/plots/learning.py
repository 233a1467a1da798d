"""Figures of a training: its curves with what they say, and how the cubes were varied."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellkit.augment import AugmentSettings, augment_cubes
from cellkit.folder.disk import writing
from cellkit.plots.style import INK, POSITIVE, bare, dress, new_axes, write
from cellkit.retrain import history as history_of
from cellkit.study import Study
from cellkit.teaching.learning import kept_epoch, read_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = ("loss", "f1", "accuracy", "precision", "recall", "learning_rate")
FORMER = 5


def plot_curves(
    history: pd.DataFrame,
    *,
    metric: str = "loss",
    former: Mapping[str, pd.DataFrame] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a training curve: the labels that train, those held out, and the epoch that was kept.

    Parameters
    ----------
    history : DataFrame
        A row an epoch: `epoch`, `val_loss`, and the metric with and without `val_`.
    metric : str
        "loss", "f1", "accuracy", "precision", "recall" or "learning_rate". What the losses say stands below.
    former : dict of str to DataFrame
        Histories of earlier rounds, by their names: their held-out curves are drawn thin behind.
    """
    ax = new_axes(ax)
    for number, (name, earlier) in enumerate((former or {}).items()):
        style = {"color": INK, "linewidth": 1, "linestyle": ("--", "-.", ":")[number % 3], "alpha": 0.8}
        ax.plot(earlier["epoch"], earlier[f"val_{metric}"], label=f"{name}, held out", **style)
    epoch = history["epoch"].to_numpy()
    best = kept_epoch(history)
    for name, label, colour in [(metric, "train", INK), (f"val_{metric}", "held out", POSITIVE)]:
        if name in history:
            style = {"linewidth": 2, "marker": "o" if len(epoch) < 4 else "", "label": label}
            ax.plot(epoch, history[name].to_numpy(), color=colour, **style)
    ax.axvline(best, color=INK, linewidth=1, linestyle=":")
    if f"val_{metric}" in history:
        at_best = history[history["epoch"] == best]
        ax.plot(at_best["epoch"], at_best[f"val_{metric}"], "o", color=POSITIVE, markersize=7)
        ax.legend(frameon=False, labelcolor=INK, fontsize=9)
    said = f"\n\n{fill(read_curves(history), 64)}" if metric == "loss" else ""
    ax.set(xlabel=f"epoch{said}", ylabel=metric.replace("_", " "))
    ax.set_title(f"Best: epoch {best}" if best else "Best: the last layer alone, before epoch 1")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return dress(ax)


def save_curves(study: Study, name: str) -> Path:
    """Draw all curves of one of the study's networks, former rounds behind, into its `curves.png`.

    Raises
    ------
    FileNotFoundError
        If there is no such network, or only its head was retrained.
    """
    from matplotlib.figure import Figure

    made = study.networks()
    before = made[: made.index(name)] if name in made else []
    former = {other: history_of(study, other) for other in before if _has_history(study, other)}
    figure = Figure(figsize=(13, 7), layout="constrained", facecolor="white")
    for ax, metric in zip(figure.subplots(2, 3).ravel(), PANELS, strict=True):
        behind = dict(list(former.items())[-FORMER:]) if metric != "learning_rate" else None
        plot_curves(history_of(study, name), metric=metric, former=behind, ax=ax)
    figure.patch.set_alpha(1)
    path = study.network_folder(name) / "curves.png"
    with writing(path.parent, what="The network's folder"):
        figure.savefig(path, dpi=110)
    return path


def _has_history(study: Study, name: str) -> bool:
    return (study.network_folder(name) / "history.csv").exists()


def plot_variations(
    cube: np.ndarray, settings: AugmentSettings, *, seed: int = 0, examples: int = 5, ax: "Axes | None" = None
) -> "Axes":
    """Draw what each kind of variation does to a cube: a row a kind, at its range in the settings.

    Parameters
    ----------
    cube : ndarray, shape (z, y, x, 3)
        As `cubes.cut_cubes` gives it; its signal is shown, the brightest plane of each column of voxels, and
        for `background_dropout` the background.
    settings : AugmentSettings
        Kinds with range 0 are left out; the last row shows all together.
    """
    kinds = [field.name for field in fields(settings) if getattr(settings, field.name)]
    rows = []
    for kind in [*kinds, "all together"]:
        only = AugmentSettings.none()
        only = settings if kind == "all together" else replace(only, **{kind: getattr(settings, kind)})
        many = np.repeat(cube[None].astype(np.float32), examples, axis=0)
        varied = augment_cubes(many, np.random.default_rng(seed), only)
        channel = 1 if kind == "background_dropout" else 0
        rows.append(np.concatenate([cube[None, ..., channel], varied[..., channel]]).max(axis=1))
    height, width = cube.shape[1:3]
    ax = bare(new_axes(ax, size=(0.75 * (examples + 1) + 1.4, 0.75 * len(rows))))
    picture = np.pad(np.array(rows), ((0, 0), (0, 0), (0, 2), (0, 2)), constant_values=np.nan)
    picture = picture.transpose(0, 2, 1, 3).reshape(len(rows) * (height + 2), -1)
    ax.imshow(picture, cmap="gray", vmin=float(np.min(cube[..., 0])), vmax=float(np.max(cube[..., 0])))
    for row, kind in enumerate([*kinds, "all together"]):
        y = row * (height + 2) + height / 2
        write(ax, -2, y, kind.replace("_", " "), ha="right", va="center")
    write(ax, width / 2, -2, "as it is", ha="center", va="bottom")
    return ax
