"""What another threshold would have done, computed from stored spectra and updates: nothing is trained, no torch.

from cl_core.whatif import Threshold, boundaries, own_threshold, predict
found = boundaries(measured, weights, updates)            events of one run, by space and task
predict(found[-1], Threshold("energy", 0.99)).nullity     [L] directions left free
"""

from cl_core.whatif.prediction import Prediction, nullities, predict
from cl_core.whatif.rules import (
    elbow_nullity,
    energy_nullity,
    energy_rank,
    free_nullity,
    tail_energy_cut,
    weight_rank,
)
from cl_core.whatif.settings import settings_of, takes, threshold_from
from cl_core.whatif.task_boundary import Boundary, best, boundaries, own_threshold
from cl_core.whatif.threshold import RULES, Rule, Threshold, positions, rules_for

__all__ = [
    "RULES",
    "Boundary",
    "Prediction",
    "Rule",
    "Threshold",
    "best",
    "boundaries",
    "elbow_nullity",
    "energy_nullity",
    "energy_rank",
    "free_nullity",
    "nullities",
    "own_threshold",
    "positions",
    "predict",
    "rules_for",
    "settings_of",
    "tail_energy_cut",
    "takes",
    "threshold_from",
    "weight_rank",
]
