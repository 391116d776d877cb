"""Frozen networks with doors: prompts go in, named activations come out."""
