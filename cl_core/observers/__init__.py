"""Measure, never train."""
