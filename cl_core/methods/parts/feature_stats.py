"""Similarity of images within and between classes in a feature space.

Shapes: n images, w width, c classes of the task.

    R = ‖mean of unit features‖;  mean cosine of two images of a class = (n R² − 1) / (n − 1)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cl_core.events import Clock, IntraClassMeasured
from cl_core.methods.parts.event_values import array, number


def intra_class(clock: Clock, space: str, x: Tensor, labels: Tensor, classes: range) -> IntraClassMeasured:
    """Similarity within each class of features x [n, w], all with labels in `classes`."""
    x, targets = F.normalize(x.double(), dim=1), labels - classes.start
    members = F.one_hot(targets, len(classes)).to(x)
    counts = members.sum(dim=0)
    means = members.mT @ x / counts[:, None]
    length = means.norm(dim=1)
    within = (counts * length.square() - 1) / (counts - 1)  # NaN for a single image
    cosines = means @ means.mT
    between = (cosines.sum(dim=1) - cosines.diagonal()) / (len(classes) - 1)  # NaN for a single class
    nearest = (x @ F.normalize(means, dim=1).mT).argmax(dim=1) == targets
    return IntraClassMeasured(
        clock,
        space,
        array(length.float()),
        array(within.float()),
        array(between.float()),
        number(100 * nearest.double().mean()),
    )
