"""fertool: rerun, compare and extend attention-based facial expression recognition."""

__version__ = "0.1.0"
