"""Training: the loop as a generator of event groups, checkpoints, and the worker that handles commands."""
