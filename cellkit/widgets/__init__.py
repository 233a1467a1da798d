"""Screens for a notebook: browse, label, audit, sample, see errors, watch a training."""

from cellkit.widgets.audit import AuditLabeller
from cellkit.widgets.boxes import BoxLabeller
from cellkit.widgets.categories import CategorySampler
from cellkit.widgets.errors import ErrorGallery
from cellkit.widgets.figures import CalibrationPlot, ConfusionMatrix, EmbeddingMap, ThresholdExplorer
from cellkit.widgets.gallery import Gallery
from cellkit.widgets.monitor import TrainingMonitor
from cellkit.widgets.regions import RegionSampler
from cellkit.widgets.slices import SliceBrowser

__all__ = [
    "AuditLabeller",
    "BoxLabeller",
    "CalibrationPlot",
    "CategorySampler",
    "ConfusionMatrix",
    "EmbeddingMap",
    "ErrorGallery",
    "Gallery",
    "RegionSampler",
    "SliceBrowser",
    "ThresholdExplorer",
    "TrainingMonitor",
]
