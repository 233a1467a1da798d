"""cellkit: teach a network to see your cells, inside Jupyter."""

__version__ = "0.1.0"
