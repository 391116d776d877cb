"""Conceptors and trade-offs: what is drawn is what was measured, and nothing yet is a figure too."""

import numpy as np
import pytest

from cl_core.events import Clock, ConceptorMeasured, InputsSurveyed, TradeOffMeasured
from dashboard.figures import conceptors

WIDTH, LAYERS, TASKS = 24, 3, 4


@pytest.fixture(scope="module")
def measured():
    found = []
    for task in range(TASKS):
        for layer in range(LAYERS):
            values = np.linspace(1, 0, WIDTH, dtype=np.float32) ** (3 - 0.5 * task)
            values[values < 0.2] = 0
            found.append(ConceptorMeasured(Clock(task), layer, values, float(values.mean()), 0.3, 4.0, 0.2))
    return found


@pytest.fixture(scope="module")
def surveyed():
    return [InputsSurveyed(Clock(t), i, 0.4, 0.2 * t + 0.1 * i, 0.5) for t in range(1, TASKS) for i in range(LAYERS)]


@pytest.fixture(scope="module")
def weighed():
    energies = np.arange(1, WIDTH + 1, dtype=float) ** -1.5
    held = energies.cumsum() / energies.sum()
    gain = (5 * (WIDTH - np.arange(WIDTH)) / WIDTH).astype(np.float32)
    found = []
    for task in range(TASKS):
        loss = ((task + 1) * (1 - held)).astype(np.float32)
        cut = max(int((loss - gain).argmin()), 1) + 1
        found += [TradeOffMeasured(Clock(task), layer, "kv", loss, gain, cut) for layer in range(LAYERS)]
    return found


def figures_of(measured, surveyed, weighed):
    return {
        "use": conceptors.directions_in_use(measured, layer=1),
        "capacity": conceptors.capacity_over_tasks(measured, layer=1),
        "every layer": conceptors.capacity_over_tasks(measured),
        "shared": conceptors.shared_with_the_past(surveyed),
        "trade-off": conceptors.trade_off(weighed, space="kv", layer=1),
    }


def test_every_figure_has_its_words_and_keeps_the_readers_view(measured, surveyed, weighed):
    for name, figure in figures_of(measured, surveyed, weighed).items():
        words = figure.layout.meta
        assert {"title", "caption", "how", "alt", "height"} <= set(words) and figure.layout.uirevision == "keep", name
        assert words["caption"].rstrip().endswith(".") and words["alt"].rstrip().endswith("."), name
        assert 200 <= words["height"] <= 800 and "nan" not in words["caption"].lower().split(), name
        for trace in figure.data:
            for axis in ("x", "y", "z"):
                values = getattr(trace, axis, None)
                assert not (isinstance(values, np.ndarray) and values.dtype == np.float64), (name, axis)


def test_nothing_measured_yet_is_a_figure_too():
    for name, figure in figures_of([], [], []).items():
        assert figure.layout.meta["title"] and figure.to_json(), name


def test_directions_in_use_are_the_conceptors_eigenvalues(measured):
    figure = conceptors.directions_in_use(measured, layer=2)
    mine = [e for e in measured if e.layer == 2]
    assert len(figure.data) == TASKS
    for trace, event in zip(figure.data, mine, strict=True):
        np.testing.assert_array_equal(trace.y, event.eigenvalues)
    over = int((mine[-1].eigenvalues > 0.5).sum())
    assert f"After T{TASKS} {over} of {WIDTH} directions are more than half used" in figure.layout.meta["caption"]


def test_capacity_is_in_percent_and_the_chosen_layer_lies_in_front(measured):
    figure = conceptors.capacity_over_tasks(measured, layer=0)
    assert figure.data[-1].name == "layer 1" and len(figure.data) == LAYERS
    np.testing.assert_allclose(figure.data[-1].y, [100 * e.capacity for e in measured if e.layer == 0], rtol=1e-6)


def test_the_first_task_has_nothing_to_share(surveyed):
    table = conceptors.shared_with_the_past(surveyed).data[0].z
    assert np.isnan(table[:, 0]).all()
    assert table[2, 3] == pytest.approx(80)
    above = sum(e.shared > 0.5 for e in surveyed)
    assert (
        f"{above} of {len(surveyed)} cells lie above 50 %"
        in conceptors.shared_with_the_past(surveyed).layout.meta["caption"]
    )


def test_the_trade_off_is_the_difference_of_its_terms_and_the_dot_lies_on_it(weighed):
    figure = conceptors.trade_off(weighed, space="kv", layer=1, task=2)
    event = next(e for e in weighed if e.layer == 1 and e.clock.task == 2)
    lines = {trace.name: trace for trace in figure.data if trace.showlegend}
    assert set(lines) == {"J", "stability loss", "plasticity gain"}
    np.testing.assert_allclose(lines["J"].y, event.stability_loss - event.plasticity_gain, atol=1e-6)
    dot = next(trace for trace in figure.data if trace.name == "cut of T3")
    assert dot.x[0] == event.protected and dot.y[0] == pytest.approx(float(lines["J"].y[event.protected - 1]))
    assert len([t for t in figure.data if t.mode == "markers"]) == TASKS
