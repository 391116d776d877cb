"""The Playground: small NumPy networks trained on a whole task stream in half a second.

settings.py   what can be chosen, checked
streams.py    permuted, rotated and split digits
network.py    a bank of multilayer perceptrons, trained side by side
algebra.py    the formulas the rules share: energy rule, basis growth, projector, importance
rules/        one file a paper: gpm, sgp, adam_nscl, ewc, replay (with joint)
training.py   the loop, task after task; `frontier` for a row of thresholds × seeds
recording.py  a trained network as an ordinary run
"""

from cl_core.playground.settings import PlaygroundConfig, Strength, at_strength, slider_of, strength_of
from cl_core.playground.training import Laboratory, Outcome, TaskOutcome, train, train_bank

__all__ = [
    "Laboratory",
    "Outcome",
    "PlaygroundConfig",
    "Strength",
    "TaskOutcome",
    "at_strength",
    "slider_of",
    "strength_of",
    "train",
    "train_bank",
]
