"""Why a task was forgotten: computed from a run's events, or from its checkpoints on request. Pages read it without
torch; only `patching` needs it."""
