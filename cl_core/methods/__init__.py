"""Continual-learning methods, one file per paper."""
