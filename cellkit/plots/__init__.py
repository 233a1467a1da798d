"""Figures: each takes `ax=` and returns it, and can be read on light and dark pages."""

from cellkit.plots.figures import (
    plot_balance,
    plot_calibration,
    plot_confusion,
    plot_counts,
    plot_metrics,
    plot_precision_recall,
    plot_probabilities,
)
from cellkit.plots.learning import plot_curves, plot_variations, save_curves
from cellkit.plots.pictures import plot_channels, plot_gallery, plot_projection

__all__ = [
    "plot_balance",
    "plot_calibration",
    "plot_channels",
    "plot_confusion",
    "plot_counts",
    "plot_curves",
    "plot_gallery",
    "plot_metrics",
    "plot_precision_recall",
    "plot_probabilities",
    "plot_projection",
    "plot_variations",
    "save_curves",
]
