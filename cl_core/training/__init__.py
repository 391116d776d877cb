"""Time: the loop as a generator of moments, checkpoints, and the process that obeys commands."""
