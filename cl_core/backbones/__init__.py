"""Frozen networks that accept prompts and other edits, and return named activations."""
