"""The method of detection: smoothing, blobs, plateaus, ranking, and the sweep over blocks."""
