"""Events of an invented run, by kind, without a store: figures take events."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from plotly.io.json import to_json_plotly

from dashboard.theme import FONT
from tests.recorded_runs import Plan, moments


class Told(defaultdict):
    """Events of a plan by kind."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(list)
        self.plan = plan
        for moment in moments(plan):
            for event in moment:
                self[type(event)].append(event)


@pytest.fixture(scope="session")
def told() -> Told:
    """Three tasks, three layers."""
    return Told(Plan())


@pytest.fixture(scope="session")
def many() -> Told:
    """Sizes at which a wall of lines would begin: 12 layers, 12 tasks, 14 × 14 patches."""
    return Told(Plan(tasks=12, epochs=1, steps=2, depth=12, heads=2, grid=14, width=192, prompts=4, probes=1))


def assert_complete(figures: dict[str, Any]) -> None:
    """Every figure, by name, has its words, the template, the reader's view and arrays that travel small."""
    for name, figure in figures.items():
        words = figure.layout.meta
        assert all(str(words[key]).strip() for key in ("title", "caption", "how", "alt", "height")), name
        assert words["caption"].rstrip().endswith((".", "!")) and words["alt"].rstrip().endswith("."), name
        assert "nan" not in (words["caption"] + words["alt"]).lower().split(), name
        assert figure.layout.template.layout.font.family == FONT and figure.layout.uirevision == "keep", name
        assert len(to_json_plotly(figure)) < 700_000 and 200 <= words["height"] <= 800, name
        for part in figure.data:
            assert not any(getattr(getattr(part, axis, None), "dtype", None) == np.float64 for axis in "xyz"), name


def trace(figure: Any, name: str) -> Any:
    """The first trace called `name`."""
    return next(t for t in figure.data if t.name == name)


def spots_along(count: int) -> list[Any]:
    """A sweep's spots with two seeds each: more of the setting learns less and forgets less; the last is dominated."""
    from cl_core.sweeps import ParetoPoint

    made = []
    for i in range(count):
        learned, lost = 90.0 - 2 * i, 20.0 - 2 * i + 30 * (i == count - 1)
        runs = tuple(f"softness-{i}-seed-{seed}" for seed in (0, 1))
        values = [(v, v + 1) for v in (learned, lost, learned - lost)]
        made.append(ParetoPoint(f"eta {i}", "", str(i), runs, (0, 1), *values))
    return made


def all_figures(told: Told) -> dict[str, Any]:
    """Every figure there is, drawn from one run."""
    from cl_core.events import (
        AccuracyMeasured,
        AttentionCompared,
        ProbesChosen,
        PromptsDrifted,
        RunStarted,
        SpectrumMeasured,
        StepEnded,
        TaskEnded,
        UpdateMeasured,
    )
    from dashboard.figures import (
        accuracy,
        attention,
        comparison,
        drift,
        frontier,
        nullity_plots,
        readouts,
        spectra,
        training,
        updates,
    )
    from dashboard.figures.event_arrays import accuracies as matrix_of

    plan = told[RunStarted][0]
    stages, tasks = {"stages": plan.trained_tasks}, {"tasks": len(plan.tasks)}
    accuracies, steps, spectrum = told[AccuracyMeasured], told[StepEnded], told[SpectrumMeasured]
    compared, changes, prompts = told[AttentionCompared], told[UpdateMeasured], told[PromptsDrifted]
    probes, looked = told[ProbesChosen][0], [e for e in compared if e.probe_task == 0]
    before, after = (attention.class_token_row(e, image=0, layer=1, head=None) for e in (looked[0], looked[-1]))
    matrix = matrix_of(accuracies)
    twice = {"first": matrix, "second": matrix - 2}
    return {
        "plane": frontier.plane(spots_along(plan.trained_tasks + 2), budget=10.0),
        "accuracy_overlay": comparison.accuracy_overlay(twice),
        "forgetting_overlay": comparison.forgetting_overlay(twice),
        "matrix_difference": comparison.matrix_difference(
            matrix, matrix - 2, names=("first", "second"), tasks=plan.tasks
        ),
        "accuracy_matrix": accuracy.accuracy_matrix(accuracies, tasks=plan.tasks, **stages),
        "accuracy_over_time": accuracy.accuracy_over_time(accuracies, **stages),
        "learned_and_kept": accuracy.learned_and_kept(accuracies, **stages),
        "readout_comparison": readouts.readout_comparison(accuracies, **stages),
        "readout_bars": readouts.readout_bars(accuracies, **stages),
        "losses": training.losses(steps, total_steps=plan.total_steps, **tasks),
        "batch_accuracy": training.batch_accuracy(steps, total_steps=plan.total_steps, **tasks),
        "update_norms": training.update_norms(steps, total_steps=plan.total_steps),
        "time_and_memory": training.time_and_memory(told[TaskEnded], **tasks),
        "spectrum_decay": spectra.spectrum_decay(spectrum, layer=1, space="affinity", **tasks),
        "spectrum_facets": spectra.spectrum_facets(spectrum, space="affinity", layer=1, **tasks),
        "energy_kept": spectra.energy_kept(spectrum, layer=1, space="affinity", **tasks),
        "nullity_map": nullity_plots.nullity_map(spectrum, space="affinity", **tasks),
        "directions_left": nullity_plots.directions_left(spectrum, space="affinity", layer=1, **tasks),
        "gains": updates.gains(spectrum, space="mixture"),
        "update_residual": updates.update_residual(changes, space="affinity", **tasks),
        "attention_on_image": attention.attention_on_image(
            probes.images[0],
            before,
            after,
            grid=(told.plan.grid, told.plan.grid),
            layer=1,
            head=None,
            probe_task=0,
            moments=("after T1", "after T3"),
            name=probes.names[0],
        ),
        "consistency_by_layer": attention.consistency_by_layer(compared, probe_task=0, layer=1, **tasks),
        "consistency_over_tasks": attention.consistency_over_tasks(compared, layer=1, **tasks),
        "prompt_mass": attention.prompt_mass(compared, layer=1, **tasks),
        "feature_drift": attention.feature_drift(compared, **tasks),
        "statistics_drift": drift.statistics_drift(prompts, **tasks),
        "prompt_statistics": drift.prompt_statistics(prompts, layer=1, **tasks),
        "prompt_paths": drift.prompt_paths(prompts, layer=1, **tasks),
        "movement": drift.movement(changes, **tasks),
    }
