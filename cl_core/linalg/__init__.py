"""Pure functions of tensors: moments, spectra, projectors, subspaces. On the caller's device and in the caller's dtype.

Decompositions are computed in float64 whatever comes in. A spectrum holds eigenvalues of a second moment, descending.
"""

from cl_core.linalg.conceptors import (
    capacity,
    conceptor,
    conceptor_and,
    conceptor_not,
    conceptor_or,
    fitted_aperture,
    significant,
)
from cl_core.linalg.directions import first_directions, held_back, scaled_importance
from cl_core.linalg.moments import (
    gram,
    gram_per_head,
    pulled_back_moment,
    second_moment,
    unit_norm,
)
from cl_core.linalg.nullspace import (
    blended_projector,
    condition_residual,
    isotropic_residual,
    null_projector,
    projector_gains,
    rms_gain,
    shrink_only,
    tail_projector,
)
from cl_core.linalg.orthogonal import orthonormal_beside, orthonormality_loss
from cl_core.linalg.spectra import (
    effective_rank,
    eigenbasis,
    elbow_nullity,
    energy_nullity,
    energy_rank,
    protected_energy,
    smoothed,
    spectrum,
    tail_energy_cut,
)
from cl_core.linalg.splitlora_cut import splitting_costs, splitting_cut
from cl_core.linalg.subspaces import (
    absorb,
    added_directions,
    allocation_projector,
    core_space,
    principal_angles,
    random_projector,
    space_shares,
    subspace_overlap,
)
from cl_core.linalg.weights import SingularDirections, WeightSplit, singular_directions, weight_split

__all__ = [
    "SingularDirections",
    "WeightSplit",
    "absorb",
    "added_directions",
    "allocation_projector",
    "blended_projector",
    "capacity",
    "conceptor",
    "conceptor_and",
    "conceptor_not",
    "conceptor_or",
    "condition_residual",
    "core_space",
    "effective_rank",
    "eigenbasis",
    "elbow_nullity",
    "energy_nullity",
    "energy_rank",
    "first_directions",
    "fitted_aperture",
    "gram",
    "gram_per_head",
    "held_back",
    "isotropic_residual",
    "null_projector",
    "orthonormal_beside",
    "orthonormality_loss",
    "principal_angles",
    "projector_gains",
    "protected_energy",
    "pulled_back_moment",
    "random_projector",
    "rms_gain",
    "scaled_importance",
    "second_moment",
    "shrink_only",
    "significant",
    "singular_directions",
    "smoothed",
    "space_shares",
    "spectrum",
    "splitting_costs",
    "splitting_cut",
    "subspace_overlap",
    "tail_energy_cut",
    "tail_projector",
    "unit_norm",
    "weight_split",
]
