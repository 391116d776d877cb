"""Plastiscope's engine: continual-learning methods on task streams, every event of a run recorded."""

__version__ = "0.1.0"
