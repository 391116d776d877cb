"""A recorded run that says, beside what pools say, everything that only single methods measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cl_core.events import (
    Clock,
    ConceptorMeasured,
    EpochsChosen,
    InputsSurveyed,
    IntraClassMeasured,
    KeysMoved,
    MixtureFitted,
    ResidualMeasured,
    StageEnded,
    TradeOffMeasured,
)
from cl_core.store import RunFolder
from tests import recorded_pool_runs
from tests.recorded_pool_runs import PoolPlan
from tests.recording import append

WIDTH = 6


def rows(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def finished(runs: Path, name: str = "rare") -> RunFolder:
    """Two stages, keys, likeness, residuals, mixtures, conceptors and trade-offs after the first task."""
    plan = PoolPlan(of="class", layers=(-1, 0, 1))
    told = list(recorded_pool_runs.moments(plan))
    folder = recorded_pool_runs.record(runs, name, plan, until=len(told) - 1)
    clock, points = Clock(0), np.arange(6, dtype=np.float16).reshape(3, 2)
    used, loss = np.linspace(1, 0, WIDTH, dtype=np.float32), np.linspace(3, 0, WIDTH, dtype=np.float32)
    said = [
        KeysMoved(clock, rows(1, 0.9), rows(0.5, 0.4), rows(0.1, 0.2)),
        *(
            IntraClassMeasured(clock, space, rows(0.9, 0.9), rows(0.8, 0.8), rows(0.2, np.nan), 90.0)
            for space in ("query", "features")
        ),
        ResidualMeasured(clock, rows(0.1, 0.2, 0.3), rows(0.1, 0.1, 0.1)),
        *(MixtureFitted(clock, c, 5, 1.0, 0.5, points, points, points, 0.5) for c in (0, 1)),
        *(ConceptorMeasured(clock, layer, used, 0.5, 0.3, 4.0, 0.2) for layer in (0, 1)),
        *(InputsSurveyed(Clock(1), layer, 0.4, 0.2, 0.5) for layer in (0, 1)),
        *(TradeOffMeasured(clock, layer, "kv", loss, loss[::-1].copy(), 3) for layer in (0, 1)),
        StageEnded(clock, "class keys", {"total": [2.0, 1.0]}, 0.5),
        EpochsChosen(clock, 1, [0.5, 0.4], [0.9, 0.95], 0.1),
    ]
    append(folder, said, told[-1])
    return folder
