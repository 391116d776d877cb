"""Predictions against what they claim: recomputed from the moments and steps themselves, and from whole runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cl_core.config import ConfigError
from cl_core.events import Clock, SpectrumMeasured, UpdateByDirection
from cl_core.whatif import (
    Threshold,
    best,
    boundaries,
    own_threshold,
    positions,
    predict,
    rules_for,
    settings_of,
    takes,
    threshold_from,
)


def spectrum(task, layer, values, nullity, rule="energy 0.9", used=True, gains=(1.0, 0.0), space="affinity"):
    values = np.asarray(values, np.float32)
    return SpectrumMeasured(Clock(task), layer, space, values, nullity, rule, used, 0.9, 2.0, *gains)


def small(rule="energy 0.9", used=True, gains=(1.0, 0.0)):
    """Two layers, four directions, an update of 1, 2, 3, 4 units of energy along them."""
    events = [spectrum(0, layer, [8, 4, 2, 1], 2, rule, used, gains) for layer in (0, 1)]
    update = UpdateByDirection(
        Clock(1), "affinity", [0, 1], np.array([[1, 2, 3, 4], [4, 3, 2, 1]], np.float32), "steps"
    )
    return boundaries(events, (), [update])[0]


def test_a_strict_cut_lets_through_what_lies_in_free_directions():
    found = predict(small(), Threshold("free", 0.5))
    assert found.nullity.tolist() == [2, 2]
    np.testing.assert_allclose(found.passed, [0.7, 0.3])
    np.testing.assert_allclose(found.interference, [(6 + 4) / (8 + 8 + 6 + 4), (4 + 1) / (32 + 12 + 4 + 1)])
    np.testing.assert_allclose(found.residual, [math.sqrt(10 / (8 * 7)), math.sqrt(5 / (8 * 3))])


def test_softness_lets_a_share_of_the_rest_through():
    strict, half, off = (predict(small(), Threshold("free", 0.5, eta=eta)) for eta in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half.passed, 0.75 * strict.passed + 0.25)
    np.testing.assert_allclose(off.passed, 1)
    np.testing.assert_allclose(off.interference, 1)


def test_a_rule_that_shortens_every_step_is_judged_relative_to_a_free_direction():
    plain = predict(small(), Threshold("free", 0.5, eta=0.5))
    short = predict(small(), Threshold("free", 0.5, eta=0.5, scale="frobenius"))
    gain = 0.5 / math.sqrt(2) + 0.5
    np.testing.assert_allclose(short.gain, gain)
    np.testing.assert_allclose(short.passed, [0.7 + 0.3 * (0.5 / gain) ** 2, 0.3 + 0.7 * (0.5 / gain) ** 2])
    assert (short.passed > plain.passed).all()


def test_more_protection_never_lets_more_through():
    steps = positions("energy")
    found = predict(small(), Threshold("energy", 0.5), values=steps)
    assert (np.diff(found.nullity, axis=0) <= 0).all()
    assert (np.diff(found.passed, axis=0) <= 1e-12).all() and (np.diff(found.interference, axis=0) <= 1e-12).all()
    assert found.passed[0].tolist() == [1, 1] and found.nullity[-1].tolist() == [0, 0] and found.passed[-1].max() == 0


def test_without_a_stored_update_the_directions_are_known_all_the_same():
    found = predict(boundaries([spectrum(0, 0, [8, 4, 2, 1], 2)])[0], Threshold("free", 0.25))
    assert found.nullity.tolist() == [1] and np.isnan(found.passed).all() and np.isnan(found.mean("passed"))


def test_the_newest_boundary_with_a_learned_task_comes_first():
    events = [spectrum(task, 0, [8, 4, 2, 1], 2) for task in range(3)]
    updates = [UpdateByDirection(Clock(t), "affinity", [0], np.ones((1, 4), np.float32), "steps") for t in (1, 2)]
    found = boundaries(events, (), updates)
    assert [b.task for b in found] == [0, 1, 2] and best(found).task == 1
    assert best(found, task=2).task == 2 and best(found, task=7) is None and best(found, "mixture") is None


def test_an_update_of_another_width_or_layer_is_no_update():
    events = [spectrum(0, layer, [8, 4, 2, 1], 2) for layer in (0, 1)]
    for layers, width in (([0], 4), ([0, 1], 3)):
        update = UpdateByDirection(Clock(1), "affinity", layers, np.ones((len(layers), width), np.float32), "steps")
        assert boundaries(events, (), [update])[0].energies is None


# ---------------------------------------------------------------- thresholds and settings


def test_a_runs_own_threshold_is_read_from_its_events():
    assert own_threshold(small("elbow", gains=(1.0, 0.5))).text() == "knee, η 0.5"
    soft = own_threshold(small("energy 0.9", gains=(0.9 / math.sqrt(2) + 0.1, 0.1)))
    assert (soft.rule, soft.value, soft.eta, soft.scale) == ("energy", 0.9, 0.9, "frobenius")
    assert own_threshold(small("tail 0.15")).value == 0.15
    assert own_threshold(small("elbow", used=False, gains=(1.0, 1.0))).eta == 1
    assert own_threshold(small("energy")) is None and own_threshold(small("a rule of its own 3")) is None


def test_settings_and_thresholds_lead_to_each_other():
    there = small("energy 0.9", gains=(1.0, 0.5))
    moved = threshold_from(there, {"energy_affinity": 0.99, "eta_affinity": 0.7})
    assert (moved.rule, moved.value, moved.eta) == ("energy", 0.99, 0.7)
    assert settings_of(there, moved) == {"rule": "energy", "energy_affinity": 0.99, "eta_affinity": 0.7}
    assert threshold_from(there, {"rule": "elbow"}).rule == "elbow"
    assert settings_of(small("tail 0.15"), Threshold("tail", 0.3)) == {"rho": 0.3}


def test_what_a_method_cannot_be_set_to_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="cannot be set to the rule free"):
        settings_of(small(), Threshold("free", 0.5))
    with pytest.raises(ConfigError, match="obeys no threshold"):
        settings_of(small(used=False), Threshold("energy", 0.5))
    with pytest.raises(ConfigError, match="Did you mean energy_affinity"):
        threshold_from(small(), {"energy_afinity": 0.9})
    assert takes(small(used=False)) == ()


@pytest.mark.parametrize("wrong", [{"rule": "energy", "value": 1.5}, {"rule": "elbow", "eta": 2.0}, {"rule": "enrgy"}])
def test_a_threshold_out_of_bounds_is_no_threshold(wrong):
    with pytest.raises(ConfigError):
        Threshold(**wrong)


def test_a_slider_can_stand_at_the_runs_own_value():
    for rule in ("energy", "tail", "free"):
        steps = positions(rule, 0.123456)
        assert 0.123456 in steps and steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 1
    assert positions("elbow") == [] and rules_for("weights") == ["energy", "free"]


# ---------------------------------------------------------------- whole runs


def told(trainer):
    """Events of a run by kind."""
    found = {}
    for moment in trainer.run():
        for event in moment:
            found.setdefault(event.kind, []).append(event)
    return found


def of(found):
    return boundaries(
        found.get("SpectrumMeasured", []), found.get("WeightSpectrumMeasured", []), found.get("UpdateByDirection", [])
    )


SETTINGS = {
    "elbow, plain, soft": {"scale": "plain", "eta_affinity": 0.5, "eta_mixture": 0.7},
    "elbow, as released": {},
    "energy, strict": {"rule": "energy", "energy_affinity": 0.8, "scale": "plain", "eta_affinity": 1, "eta_mixture": 1},
    "energy, one side": {"rule": "energy", "sides": "affinity", "eta_affinity": 0.9},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_at_its_own_setting_a_prompt_run_is_reproduced(tiny_trainer, settings):
    """Nullities exactly, and the residual of the change that was really made: from what was asked for and the cut."""
    found = told(tiny_trainer("nsp2", tasks=5, settings=settings))
    residuals = {(e.clock.task, e.layer): e.residual for e in found["UpdateMeasured"]}
    checked = 0
    for boundary in of(found):
        own = own_threshold(boundary)
        predicted = predict(boundary, own)
        if boundary.used:
            assert predicted.nullity.tolist() == boundary.recorded.tolist(), boundary.space
        if boundary.energies is None:
            assert boundary.task == 4
            continue
        assert boundary.source == "steps"
        taken = own if boundary.used else Threshold("elbow", eta=0.0)
        for row, layer in enumerate(boundary.layers):
            measured = residuals[boundary.task + 1, layer][boundary.space]
            assert predict(boundary, taken).residual[row] == pytest.approx(measured, rel=2e-3), (boundary.space, layer)
            checked += 1
    assert checked == 16  # four boundaries, two spaces, two layers


def test_where_nothing_is_projected_the_net_change_is_the_update(tiny_trainer):
    found = told(tiny_trainer("sequential", tasks=2))
    changes = {(e.layer): e for e in found["UpdateMeasured"] if e.clock.task == 1}
    known = [b for b in of(found) if b.energies is not None]
    assert {b.source for b in known} == {"net change"} and not any(b.used for b in known)
    for boundary in known:
        free = predict(boundary, Threshold("free", 1.0))
        np.testing.assert_allclose([free.passed, free.interference], 1, rtol=1e-12)
        for row, layer in enumerate(boundary.layers):
            assert free.residual[row] == pytest.approx(changes[layer].residual[boundary.space], rel=1e-3)


def test_a_resumed_task_asks_for_the_same(tiny_trainer):
    """Sums of proposed steps survive being stopped in the middle of a task."""
    whole = told(tiny_trainer("nsp2", tasks=2))["UpdateByDirection"]
    first, second, stopped = tiny_trainer("nsp2", tasks=2), tiny_trainer("nsp2", tasks=2), []
    for moment in first.run():
        stopped += moment
        if any(e.kind == "StepEnded" and e.clock.task == 1 for e in moment):
            break
    second.restore(first.state())
    rest = told(second)["UpdateByDirection"]
    assert [e.space for e in rest] == [e.space for e in whole]
    for one, other in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(one.energies, other.energies)


CLIP = {"backbone": "random-clip", "stream": "synthetic-domains"}


@pytest.mark.parametrize("project", ["gradient", "update", "none"])
def test_features_of_a_run_that_protects_them(tiny_trainer, project):
    settings = {"project": project, "rho": 0.3, "distillation": 0.0, "alignment": 0.0}
    found = told(tiny_trainer("gnsp", tasks=2, settings=settings, **CLIP))
    known = [b for b in of(found) if b.space in ("c_fc", "c_proj", "proj")]
    source = {"gradient": "gradients", "update": "steps", "none": "net change"}[project]
    for boundary in known:
        assert predict(boundary, own_threshold(boundary)).nullity.tolist() == boundary.recorded.tolist()
    learned = [b for b in known if b.energies is not None]
    assert {b.space for b in learned} == {"c_fc", "c_proj", "proj"} and {b.source for b in learned} == {source}
    assert all(np.isfinite(b.energies).all() and b.energies.min() >= 0 for b in learned)
    if project == "update":  # what was taken is what passes
        residuals = {(e.clock.task, e.layer): e.residual for e in found["UpdateMeasured"]}
        for boundary in learned:
            for row, layer in enumerate(boundary.layers):
                predicted = predict(boundary, own_threshold(boundary)).residual[row]
                assert predicted == pytest.approx(residuals[1, layer][boundary.space], rel=2e-2), boundary.space


def test_weights_written_into_null_directions(tiny_trainer):
    found = told(tiny_trainer("nusa_cl", tasks=2, settings={"rho": 0.6, "r_max": 3}, **CLIP))
    known = of(found)
    assert {b.task for b in known} == {-1, 0} and all(b.confined for b in known)
    for boundary in known:
        own = own_threshold(boundary)
        predicted = predict(boundary, own)
        assert predicted.nullity.tolist() == boundary.recorded.tolist() and own.most == 3
        np.testing.assert_allclose(predicted.passed, 1, atol=1e-5)  # it could not leave them
        fewer = predict(boundary, Threshold("energy", own.value, most=1))
        assert fewer.nullity.max() == 1 and (fewer.passed < 1).all()
        assert settings_of(boundary, Threshold("energy", 0.5, most=2)) == {"rho": 0.5, "r_max": 2}


def test_leaks_of_weights_agree_with_their_energies(tiny_trainer):
    """Both sides inside the last d − k directions: at most what either side alone keeps out of the principal ones."""
    found = told(tiny_trainer("lora_sequential", tasks=1, **CLIP))
    leaks = {e.name: e for e in found["WeightSpectrumMeasured"]}
    for boundary in of(found):
        free = predict(boundary, own_threshold(boundary)).passed
        for row, layer in enumerate(boundary.layers):
            tower, part = boundary.space.split(".")
            event = leaks[f"{tower}.{layer}.{part}"]
            if event.leak_left is None:
                continue
            assert free[row] <= min(1 - event.leak_left**2, 1 - event.leak_right**2) + 1e-5
            assert boundary.energies[row].sum() > 0
