"""Screens for a notebook: browse, label, sample by category, watch a training."""

from cellkit.widgets.categories import CategorySampler
from cellkit.widgets.gallery import Gallery
from cellkit.widgets.monitor import TrainingMonitor
from cellkit.widgets.slices import SliceBrowser

__all__ = ["CategorySampler", "Gallery", "SliceBrowser", "TrainingMonitor"]
