"""Analysis of forgetting from a run's events, or on request from its checkpoints. Only `patching` needs torch."""
