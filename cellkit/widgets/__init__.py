"""Screens for a notebook: browse, label, sample by category, watch a training."""

from cellkit.widgets.gallery import Gallery

__all__ = ["Gallery"]
