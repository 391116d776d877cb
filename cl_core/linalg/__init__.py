"""Pure functions of tensors: moments, spectra, projectors, subspaces. On the caller's device and in the caller's dtype.

Decompositions are computed in float64 whatever comes in. A spectrum holds eigenvalues of a second moment, descending.
"""

from cl_core.linalg.moments import (
    SecondMoment,
    gram,
    gram_per_head,
    pulled_back_moment,
    second_moment,
    unit_norm,
)
from cl_core.linalg.nullspace import (
    absolute_leak,
    blended_projector,
    condition_residual,
    isotropic_residual,
    null_projector,
    projector_gains,
    rms_gain,
    shrink_only,
    tail_projector,
)
from cl_core.linalg.spectra import (
    cut_gap,
    effective_rank,
    eigenbasis,
    elbow_curvature,
    elbow_margin,
    elbow_nullity,
    energy_nullity,
    energy_rank,
    multiple_nullity,
    participation_ratio,
    protected_energy,
    smoothed,
    spectrum,
    tail_energy_cut,
)
from cl_core.linalg.subspaces import leading_directions, principal_angles, subspace_overlap
from cl_core.linalg.weights import SingularDirections, WeightSplit, singular_directions, weight_split

__all__ = [
    "SecondMoment",
    "SingularDirections",
    "WeightSplit",
    "absolute_leak",
    "blended_projector",
    "condition_residual",
    "cut_gap",
    "effective_rank",
    "eigenbasis",
    "elbow_curvature",
    "elbow_margin",
    "elbow_nullity",
    "energy_nullity",
    "energy_rank",
    "gram",
    "gram_per_head",
    "isotropic_residual",
    "leading_directions",
    "multiple_nullity",
    "null_projector",
    "participation_ratio",
    "principal_angles",
    "projector_gains",
    "protected_energy",
    "pulled_back_moment",
    "rms_gain",
    "second_moment",
    "shrink_only",
    "singular_directions",
    "smoothed",
    "spectrum",
    "subspace_overlap",
    "tail_energy_cut",
    "tail_projector",
    "unit_norm",
    "weight_split",
]
