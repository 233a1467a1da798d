"""Figures of numbers: confusion, precision and recall, calibration, counts, balance."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellkit.estimates import Agreement, Interval, reliability
from cellkit.labels.balance import Balance
from cellkit.measuring.assessment import Assessment
from cellkit.plots.style import FOUND, INK, NEGATIVE, POSITIVE, TOTAL, bare, new_axes, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_confusion(assessment: Assessment, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the four categories: answers, and the candidates they stand for; right is blue, wrong orange."""
    ax = bare(new_axes(ax, size=(4.2, 3.4)))
    answers, standing = assessment.confusion.to_numpy(), assessment.weighted.to_numpy()
    share = standing / max(standing.sum(), 1)
    for row in range(2):
        for column in range(2):
            colour = POSITIVE if row == column else NEGATIVE
            strength = 0.1 + 0.25 * np.sqrt(share[row, column])
            ax.add_patch(_square(column, row, colour, strength))
            write(ax, column, row - 0.08, f"{answers[row, column]}", fontsize=20, ha="center", va="center")
            stands = f"stands for {standing[row, column]:,.0f}"
            write(ax, column, row + 0.24, stands, ha="center", va="center")
    ax.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), xticks=[0, 1], yticks=[0, 1])
    ax.set_xticklabels(assessment.confusion.columns)
    ax.set_yticklabels(assessment.classes, rotation=90, va="center")
    ax.set(xlabel="network", ylabel="person", title=f"{assessment.network}, {assessment.over}")
    ax.tick_params(length=0)
    return ax


def _square(x: int, y: int, colour: str, strength: float):
    from matplotlib.patches import FancyBboxPatch

    shape = "round,pad=0,rounding_size=0.06"
    return FancyBboxPatch(
        (x - 0.46, y - 0.46), 0.92, 0.92, boxstyle=shape, color=colour, alpha=strength, lw=0
    )


def plot_precision_recall(assessment: Assessment, *, ax: "Axes | None" = None) -> "Axes":
    """Draw precision against recall over all thresholds; the dot with its intervals is the one in use."""
    ax = new_axes(ax)
    places = assessment.places.sort_values("p", ascending=False)
    weight = places["weight"].to_numpy()
    hits, called = np.cumsum(weight * places["cell"]), np.cumsum(weight)
    last = np.append(np.diff(places["p"]) != 0, True)
    recall, precision = (hits / max(hits.iloc[-1], 1))[last], (hits / called)[last]
    _f1_lines(ax)
    ax.step(recall, precision, where="post", color=POSITIVE, linewidth=2)
    at, height = assessment.interval("recall"), assessment.interval("precision")
    if np.isfinite(at.value) and np.isfinite(height.value):
        ax.errorbar(
            at.value, height.value, xerr=[[at.value - at.low], [at.high - at.value]],
            yerr=[[height.value - height.low], [height.high - height.value]],
            fmt="o", color=NEGATIVE, markersize=7, elinewidth=1.5, capsize=3,
        )  # fmt: skip
    ax.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall (of the candidates)", ylabel="precision")
    ax.set_title(f"{assessment.network}, {assessment.over}")
    return ax


def _f1_lines(ax: "Axes") -> None:
    for f1 in (0.3, 0.5, 0.7, 0.9):
        recall = np.linspace(f1 / (2 - f1) + 1e-6, 1, 100)
        ax.plot(recall, f1 * recall / (2 * recall - f1), color=INK, linewidth=0.7, alpha=0.5)
        write(ax, 1.025, f1 / (2 - f1), f"F1 {f1}", fontsize=7, va="center")


def plot_calibration(assessment: Assessment, *, bins: int = 8, ax: "Axes | None" = None) -> "Axes":
    """Draw how often candidates of like `p` are cells, with intervals; on the line, `p` can be believed."""
    ax = new_axes(ax)
    places = assessment.places
    found = reliability(
        places["cell"].to_numpy(), places["p"].to_numpy(), places["weight"].to_numpy(), bins=bins
    )
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
    error = [found.share - found.low, found.high - found.share]
    ax.errorbar(found.p, found.share, yerr=error, fmt="o", color=POSITIVE, elinewidth=1.5, capsize=3)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set(xlabel="p, mean of the bin", ylabel=f"share of {assessment.classes[0]}")
    value, chance = assessment.calibration
    ax.set_title(f"{assessment.network}: error {value:.3f}, by chance up to {chance:.3f}")
    return ax


def plot_counts(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the counts of `reassess.counts` with intervals, missed cells included where they are known.

    Where parts were counted every part has a row. Crosses are the naive counts.
    """
    rows = table[table["animal"] != "all"].reset_index(drop=True)
    part = table.columns[1] if table.columns[1] != "candidates" else None
    names = rows["animal"] if part is None else rows["animal"] + ", " + rows[part]
    ax = new_axes(ax, size=(5.2, 1.3 + 0.45 * len(rows)))
    row = np.arange(len(rows))
    value, low, high, label = _best_counts(rows)
    assumed = rows["note"].str.startswith("assumes").to_numpy()
    kinds = [(~assumed, POSITIVE, label), (assumed, "none", f"{label}, error rates of all")]
    for which, face, said in kinds:
        if which.any():
            ax.errorbar(
                value[which], row[which], xerr=np.stack([value - low, high - value])[:, which], fmt="o",
                color=POSITIVE, markerfacecolor=face, markersize=7, elinewidth=2, capsize=4, label=said,
            )  # fmt: skip
    ax.plot(rows["naive"], row, "x", color=NEGATIVE, markersize=7, markeredgewidth=2, label="naive")
    ax.set(yticks=row, ylim=(len(rows) - 0.5, -0.5), xlabel="cells")
    ax.set_yticklabels(names)
    ax.set_xlim(0, 1.05 * max(high.max(), rows["naive"].max(), 1))
    every = [each[0] for each in _best_counts(table[table["animal"] == "all"])[:3]]
    ax.set_title("All: {:,.0f} ({:,.0f} to {:,.0f})".format(*every))
    ax.legend(frameon=False, labelcolor=INK, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.28), ncols=3)
    return ax


def _best_counts(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Return the counts with missed cells and their ends where all are known, else those without."""
    names, label = ("corrected", "low", "high"), "corrected"
    if rows["total"].notna().all():
        names, label = ("total", "total_low", "total_high"), "with missed cells"
    value, low, high = (rows[name].to_numpy(dtype="float64") for name in names)
    return value, low, high, label


def plot_balance(balance: Balance, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the labels that may train, by category."""
    ax = new_axes(ax, size=(4.6, 2.2))
    counts = balance.of("category")
    row = np.arange(len(counts))
    colours = [POSITIVE if name.startswith("correct") else NEGATIVE for name in counts.index]
    ax.barh(row, counts.to_numpy(), color=colours, alpha=0.75, height=0.62)
    for y, n in zip(row, counts.to_numpy(), strict=True):
        write(ax, n, y, f" {n}", va="center")
    ax.set(yticks=row, ylim=(len(counts) - 0.4, -0.6), xlim=(0, 1.15 * max(counts.max(), 5)))
    ax.set_xlabel("labels that may train")
    ax.set_yticklabels(counts.index)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_probabilities(calls: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Draw how many candidates have which `p`, by the network's call; `calls` has columns `p, called`."""
    ax = new_axes(ax)
    edges = np.linspace(0, 1, 41)
    called = calls["called"].to_numpy(bool)
    parts = [calls["p"].to_numpy()[called], calls["p"].to_numpy()[~called]]
    labels = [f"called: {called.sum():,}", f"not called: {(~called).sum():,}"]
    ax.hist(parts, bins=edges, stacked=True, color=[POSITIVE, NEGATIVE], alpha=0.75, label=labels)
    ax.set_yscale("log")
    ax.set(xlim=(0, 1), xlabel="p", ylabel="candidates")
    ax.legend(frameon=False, labelcolor=INK, fontsize=9)
    ax.tick_params(which="minor", colors=INK)
    return ax


def plot_metrics(
    assessments: tuple[Assessment, ...], *, ceiling: Agreement | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw precision, recall and F1 of networks on one audit side by side, with intervals.

    Parameters
    ----------
    assessments : tuple of Assessment
        From `reassess.compare`.
    ceiling : Agreement, optional
        Of a person with themself (`review.agreements`): its interval is a band behind F1.
    """
    ax = new_axes(ax, size=(5.2, 3.2))
    colours = [INK, POSITIVE, TOTAL, FOUND, NEGATIVE]
    names = ("precision", "recall", "F1")
    for n, each in enumerate(assessments):
        found = [each.interval(name) for name in names]
        x = np.arange(len(names)) + 0.16 * (n - (len(assessments) - 1) / 2)
        value = np.array([interval.value for interval in found])
        error = np.array([[i.value - i.low for i in found], [i.high - i.value for i in found]])
        ax.errorbar(
            x, value, yerr=np.nan_to_num(error), fmt="o", color=colours[n % len(colours)], markersize=7,
            elinewidth=2, capsize=4, label=each.network,
        )  # fmt: skip
    if ceiling is not None and np.isfinite(ceiling.positive.value):
        _ceiling(ax, ceiling.positive, at=names.index("F1"))
    ax.set(xticks=range(len(names)), xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.02))
    ax.set_xticklabels(names)
    ax.set_title(f"Over {assessments[0].over}")
    ax.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    return ax


def _ceiling(ax: "Axes", ceiling: Interval, *, at: int) -> None:
    """Draw the agreement of a person with themself behind one metric."""
    ends = (at - 0.42, at + 0.42)
    ax.fill_between(ends, ceiling.low, ceiling.high, color=INK, alpha=0.18, linewidth=0)
    ax.plot(ends, [ceiling.value] * 2, color=INK, linewidth=1, linestyle="--", label="a person, asked twice")
