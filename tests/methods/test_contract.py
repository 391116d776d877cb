"""What every method promises the engine, over the whole registry: a new method joins by being in the table.

The resume test works by induction. A checkpoint is written to disk after every moment; from each of them a fresh
trainer must produce exactly the next moment and arrive at exactly the next state. So stopping anywhere changes nothing
that follows.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pytest
import torch

from cl_core.config import ConfigError, DiagnosticsConfig, describe
from cl_core.registry import BACKBONES, METHODS, load
from cl_core.store import RunReader, RunWriter, create_run, fork_run
from cl_core.streams.stream import MULTI_DOMAIN
from cl_core.training import checkpoint
from cl_core.training.factory import build
from cl_core.training.live_settings import turn
from cl_core.training.worker import drive

EAGER = {"prompt_rate": 0.05, "temperature": 1.0}
VARIANTS = [
    ("sequential", {**EAGER, "weight_decay": 0.01, "head_init": "fresh"}),
    ("sequential", {"prompt_length": 0}),
    ("sequential", {**EAGER, "prompt_length": 1}),
    ("nsp2", {**EAGER}),
    ("nsp2", {**EAGER, "rule": "energy", "prompt_length": 2, "projection": "shrink-only"}),
    ("nsp2", {**EAGER, "rule": "energy", "prompt_length": 1, "scale": "plain", "sides": "affinity"}),
    ("nsp2", {**EAGER, "scale": "plain", "fold_norm": True, "sides": "mixture", "weighting": "images"}),
    ("nsp2", {**EAGER, "projection": "none", "prompt_length": 2}),
    ("nsp2", {"projection": "none", "prompt_length": 0}),
    ("fwd_prompt", {"prompt_length": 2, "site": 1, "projection": "random", "key_policy": "freeze-used"}),
    ("fwd_prompt", {"prompt_length": 2, "energy": 0.8, "projection": "pretrained-only", "pretrained_space": "weights"}),
    ("nsp2", {**EAGER, "prompt_blocks": 1, "scale": "plain"}),
    ("ewc", {**EAGER, "prompt_blocks": 1}),
    ("lwf", {**EAGER, "prompt_blocks": 1, "distillation": 5.0}),
    ("coda_prompt", {"pool": 10, "prompt_length": 2, "blocks": 1, "orthogonality": 0.1}),
]
# CLIP methods, on domains whose task is known; variants turn on what a method's defaults leave out.
CLIP_VARIANTS = [
    ("finetune", {"rate": 1e-3, "towers": "image"}),
    ("lora_sequential", {"rate": 1e-2, "rank": 4}),
    ("gnsp", {"rate": 1e-3, "project": "update", "first_task": "projected layers"}),
    ("gnsp", {"rate": 1e-3, "project": "none", "distillation": 0.0}),
    ("clip_refine", {"rate": 1e-3, "noise": "features", "mixing": 0.0, "refine_temperature": 2.0}),
    ("keeplora", {"rate": 1e-2, "rank": 4, "weights_image": 0.5, "features": 0.8}),
    ("keeplora", {"rate": 1e-2, "rank": 4, "side": "output", "towers": "image"}),
    ("clip_nsp2", {"rate": 1e-2, "rule": "energy", "scale": "plain", "prompt_blocks": 1}),
    ("nusa_cl", {"rate": 1e-2, "r_max": 6, "rho": 0.7}),
    ("nusa_cl", {"rate": 1e-2, "r_max": 6, "directions": "random"}),
    ("nusa_cl", {"rate": 1e-2, "r_max": 6, "directions": "after the cut", "persistence": "initial only"}),
]
VARIANTS += CLIP_VARIANTS
VARIANTS += [("star_prompt", {"site": "prefix", "keys": "moving", "components": 2, "kept_queries": 30})]
VARIANTS += [
    ("lwf", {**EAGER, "distillation": 5.0}),
    ("ewc", {**EAGER, "stiffness": 1e3, "memory": "online", "fading": 0.5}),
    ("replay", {**EAGER, "rule": "der++", "buffer": 20, "replay_batch": 8}),
    ("replay", {**EAGER, "rivals": "all", "buffer": 20, "replay_batch": 8}),
    ("split_lora", {"rate": 0.01, "rank": 4, "alpha": 2.0, "temperature": 1.0}),
    ("code_cl", {"optimiser": "adam", "temperature": 1.0, "aperture": 0.5, "held": 0.5}),
]
VARIANTS += [
    ("gpm", {"rate": 0.05, "optimiser": "adam", "energy": 0.7, "shares": "moment"}),
    ("sgp", {"rate": 0.05, "momentum": 0.9, "energy": 0.7, "alpha": 3.0}),
    ("nsp2pp", {**EAGER, "important": 0.1, "strict": 0.8, "relax": 0.3, "refine_epochs": 0}),
    ("nsp2pp", {**EAGER, "prompt_length": 1, "rule": "energy", "importance": "cross-entropy", "scale": "plain"}),
    ("ness", {"rate": 0.05, "epsilon": 0.02, "optimiser": "adam"}),
    ("ranpac", {"units": 0, "first_session": "none"}),
    ("ranpac", {"units": 40, "penalty": 2.0, "tuning_epochs": 1}),
    ("fecam", {"covariance": "shared", "alpha_off_diagonal": 1.0, "correlation": False}),
    ("slca", {"rate": 1e-3, "drift": "norms", "reverse": 0.5, "covariance": "diagonal", "optimiser": "adam"}),
]
MERGE = {"split_lora", "ness"}  # branches are merged into the weights at a task's end, and new ones begin
# Heads of earlier tasks go on being trained, or are balanced anew.
# Where all classes share one covariance, each task changes it.
REWRITE_HEADS = {"replay", "star_prompt", "ranpac", "slca", "nsp2pp"}
# What a method does outside its steps, made short; the rest of its settings stay its own.
SHORTENED = {
    "star_prompt": {
        "companion": "random-clip", "draws": 16, "key_epochs": 3, "key_replay_epochs": 2, "replay_epochs": 2,
        "replay_growth": 1,
    },
    "clip_refine": {"refine_pairs": 40, "refine_batch": 16, "refine_rate": 1e-4},
    "ranpac": {"units": 60, "tuning_epochs": 2},
    "slca": {"draws": 16, "align_epochs": 2},
    "nsp2pp": {"draws": 16, "refine_epochs": 2},
}  # fmt: skip
SHORT = [*((name, {}) for name in METHODS), VARIANTS[0], VARIANTS[3]]
CASES = [*((name, {}) for name in METHODS), *VARIANTS]


def named(case):
    method, settings = case
    return "-".join([method, *(f"{k}={v}" for k, v in settings.items() if EAGER.get(k) != v)])


def needs_clip(case):
    return METHODS[case[0]].needs == "clip"


def trains(case):
    """By steps of the engine."""
    return case[0] not in ("zero_shot", "fecam", "ranpac")


def keeps(case):
    """Anything between one step and the next."""
    return case[0] != "zero_shot"


def smallest_backbone(method):
    """The one for tests if it serves, else the first that does."""
    fitting = [n for n, b in BACKBONES.items() if METHODS[method].needs in ("", b.needs)]
    return next((n for n in fitting if "random" in n), fitting[0])


@pytest.fixture(scope="module")
def config_of(tiny_config):
    """Two steps an epoch, two epochs a task; three tasks for a method's own settings, two for a variant of them, whose
    pictures are shown each time a little differently, most of them in one epoch."""

    def make(case, **others):
        method, settings = case
        changed = {"random_crop": 0.5, "flip": True, "epochs": 2 if case in SHORT else 1} if settings else {}
        sizes = {"tasks": 2, "training": {"batch_size": 50, **changed}}
        if needs_clip(case):
            sizes |= {"stream": "synthetic-domains"}
        elif not settings and "tasks" not in others:
            sizes |= {"tasks": 3, "stream_settings": {"first_task": 4}}  # of four, three and three classes
        return tiny_config(
            method,
            settings={**SHORTENED.get(method, {}), **settings},
            **{"backbone": smallest_backbone(method), **sizes, **others},
        )

    return make


def comparable(event):
    """Everything an event says, wall seconds left out."""
    body = {
        key: (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)
        for key, value in event.body().items()
        if key != "seconds"
    }
    return event.kind, event.clock, body


def flat(state, place=""):
    """A trainer's state as one table: place → bytes or text; wall seconds left out."""
    if isinstance(state, torch.Tensor):
        return {place: (state.dtype, tuple(state.shape), state.numpy().tobytes())}
    if isinstance(state, dict):
        parts = [flat(v, f"{place}/{k!r}") for k, v in state.items() if k != "task_seconds"]
    elif isinstance(state, (list, tuple)):
        parts = [flat(v, f"{place}/{i}") for i, v in enumerate(state)]
        parts.append({place: type(state)})
    else:
        return {place: repr(state)}
    return {key: value for part in parts for key, value in part.items()}


@dataclass
class Recording:
    """An uninterrupted run, with a checkpoint on disk after every moment, and what was seen of it from outside."""

    case: tuple
    config: object
    moments: list = field(default_factory=list)
    states: list = field(default_factory=list)
    checkpoints: list = field(default_factory=list)
    changed: list = field(default_factory=list)  # (kinds of the moment, parameters that changed, those in groups())
    widths: list = field(default_factory=list)  # (classes seen, columns of classify) after every task
    answers: dict = field(default_factory=dict)  # task → its columns on fixed features, whenever a task ended
    backbone_moved: bool = False

    @property
    def events(self):
        return [event for moment in self.moments for event in moment]

    def of(self, kind):
        return [event for event in self.events if event.kind == kind]


@pytest.fixture(scope="module", params=CASES, ids=map(named, CASES))
def watched(request, config_of, tmp_path_factory):
    case = request.param
    recording = Recording(case, config_of(case, diagnostics={"readout_control": "every", "probe_epochs": 1}))
    trainer = build(recording.config)
    backbone = {name: value.clone() for name, value in trainer.backbone.state_dict().items()}
    pooled = torch.randn(4, trainer.backbone.pooled_width, generator=torch.Generator().manual_seed(2))
    parameters = {}
    for number, moment in enumerate(trainer.run()):
        recording.moments.append(moment)
        if keeps(case):
            folder = create_run(tmp_path_factory.mktemp("moment"), recording.config)
            recording.states.append(flat(trainer.state()))
            recording.checkpoints.append(checkpoint.save(folder, trainer.state(), number, boundary=False))
        now = {name: p.detach().clone() for name, p in trainer.method.named_parameters()}
        allowed = {name for group in trainer.method.groups() for name in group.parameters}
        moved = {n for n in parameters if n not in now or not torch.equal(parameters[n], now[n])}
        kinds = {event.kind for event in moment}
        if (needs_clip(case) or case[0] in MERGE) and kinds & {"TaskStarted", "TaskEnded"}:
            moved = set()
        recording.changed.append((kinds, moved, allowed))
        assert allowed <= set(now), "a group names a parameter that the method does not have"
        parameters = now
        if moment[-1].kind == "TaskEnded":
            learned = [task for task in trainer.curriculum][: trainer.cursor.task + 1]
            with torch.no_grad():
                logits = trainer.method.classify(pooled, range(learned[-1].classes.stop))
            recording.widths.append((learned[-1].classes.stop, logits.shape[1]))
            rewrites = needs_clip(case) or case[0] in REWRITE_HEADS or case[1].get("covariance") == "shared"
            for task in learned if not rewrites else ():  # class texts move with the text tower
                recording.answers.setdefault(task.index, []).append(logits[:, task.classes].clone())
    state = trainer.backbone.state_dict()
    recording.backbone_moved = any(not torch.equal(value, state[name]) for name, value in backbone.items())
    return recording


@pytest.fixture
def recorded(watched):
    if not keeps(watched.case):
        pytest.skip("keeps nothing")
    return watched


def resumed(recording, number):
    trainer = build(recording.config)
    trainer.restore(checkpoint.load(recording.checkpoints[number]))
    return trainer


def test_stopping_after_any_moment_and_resuming_changes_nothing_that_follows(recorded):
    for number in range(len(recorded.moments)):
        trainer = resumed(recorded, number)
        assert flat(trainer.state()) == recorded.states[number], f"state restored after moment {number}"
        following = next(trainer.run(), ())
        expected = recorded.moments[number + 1] if number + 1 < len(recorded.moments) else ()
        assert [comparable(e) for e in following] == [comparable(e) for e in expected], f"moment {number + 1}"
        if expected:
            assert flat(trainer.state()) == recorded.states[number + 1], f"state after moment {number + 1}"


def test_a_run_resumed_in_the_middle_of_an_epoch_ends_with_the_same_events(recorded):
    steps = [i for i, moment in enumerate(recorded.moments) if moment[0].kind == "StepEnded"]
    if not steps:
        pytest.skip("trains by no steps")
    stop = steps[len(steps) // 2]
    rest = [comparable(event) for moment in resumed(recorded, stop).run() for event in moment]
    assert rest == [comparable(event) for moment in recorded.moments[stop + 1 :] for event in moment]


HOUSEKEEPING = {"StateChanged", "CheckpointSaved", "RunForked"}


def settings_of(recording):
    return describe(load(METHODS, recording.config.method, "method").Config)


def test_a_fork_with_nothing_changed_equals_its_parent(recorded, tmp_path):
    measured = [number for number, moment in enumerate(recorded.moments) if moment[0].kind == "AccuracyMeasured"]
    if len(measured) < 2:
        pytest.skip("a single task: nothing is left after it")
    last, after = measured[-2], len(measured) - 1
    parent = create_run(tmp_path, replace(recorded.config, name="parent"))
    with closing(RunWriter(parent)) as writer:
        for number, moment in enumerate(recorded.moments):
            writer.append(moment)
            if number == last:
                seq = writer.seq
                checkpoint.save(parent, checkpoint.load(recorded.checkpoints[number]), seq, boundary=True)
    fork = fork_run(parent, after, [], settings_of(recorded))
    assert drive(fork).state == "finished"
    told = []
    for folder in (parent, fork):
        with closing(RunReader(folder)) as reader:
            told.append([comparable(s.event) for s in reader.since(seq) if s.event.kind not in HOUSEKEEPING])
    assert told[0] == told[1] and told[0]


def another(row, now):
    """A value of a setting that differs from the one in force and lies within its bounds."""
    if row["choices"]:
        return next(choice for choice in row["choices"] if choice != now)
    if isinstance(now, bool):
        return not now
    return (now + row["low"]) / 2 if now > row["low"] else min(now + 0.5, row["high"])


def test_live_settings_act_from_the_next_step_on_and_a_resume_finds_them_turned(recorded):
    steps = [i for i, moment in enumerate(recorded.moments) if moment[0].kind == "StepEnded"]
    live = [row for row in settings_of(recorded) if row["live"]]
    if not live:
        pytest.skip("has no live setting")
    trainer, settings = resumed(recorded, steps[-2]), {}
    for row in live:
        value = another(row, getattr(trainer.method.config, row["name"]))
        try:
            said = turn(trainer, row["name"], value)
        except ConfigError as refused:  # some values do not go together; the sentence names one of them
            assert any(row["name"] in str(refused) for row in settings_of(recorded))
            continue
        settings[row["name"]] = said.new
        assert said.clock.step == trainer.cursor.step and getattr(trainer.method.config, row["name"]) == value
    assert settings
    again = build(replace(recorded.config, settings={**recorded.config.settings, **settings}))
    again.restore(checkpoint.load(recorded.checkpoints[steps[-2]]))
    following = [[event for moment in islice(t.run(), 3) for event in moment] for t in (trainer, again)]
    assert [comparable(e) for e in following[0]] == [comparable(e) for e in following[1]]
    assert all(np.isfinite(v) for e in following[0] if e.kind == "StepEnded" for v in e.losses.values())


def test_losses_are_finite_and_named_and_their_sum_is_the_total(recorded):
    steps = recorded.of("StepEnded")
    for event in steps:
        parts = {name: value for name, value in event.losses.items() if name != "total"}
        assert parts and all(name and np.isfinite(value) for name, value in parts.items())
        assert event.losses["total"] == pytest.approx(sum(parts.values()), rel=1e-5)
        assert 0 <= event.batch_accuracy <= 100
    for ended in recorded.of("EpochEnded"):
        own = [e for e in steps if (e.clock.task, e.clock.epoch) == (ended.clock.task, ended.clock.epoch)]
        assert ended.losses["total"] == pytest.approx(np.mean([e.losses["total"] for e in own]))
        assert ended.batch_accuracy == pytest.approx(np.mean([e.batch_accuracy for e in own]))


def test_steps_are_counted_from_zero_without_gaps_and_as_many_as_announced(recorded):
    steps = [event.clock.step for event in recorded.of("StepEnded")]
    started = recorded.of("RunStarted")[0]
    assert steps == list(range(started.total_steps))
    assert sum(event.steps for event in recorded.of("TaskStarted")) == started.total_steps


def test_an_evaluation_row_covers_exactly_the_tasks_seen(recorded):
    rows = {}
    for event in recorded.of("AccuracyMeasured"):
        rows.setdefault(event.readout, {})[event.clock.task] = event.row
    started = recorded.of("RunStarted")[0]
    jointly, tasks, known = started.trained_tasks == 1, len(started.tasks), started.scenario == MULTI_DOMAIN
    if known:
        assert set(rows) == {"zero-shot", "task-incremental"} and list(rows["zero-shot"]) == [-1]
    else:
        assert set(rows) == {"class-incremental", "task-incremental", "stored statistics", "recomputed statistics"}
    for readout, found in rows.items():
        if readout == "zero-shot":
            continue
        assert sorted(found) == ([tasks - 1] if jointly else list(range(tasks))), readout
        for task, row in found.items():
            assert [value is not None for value in row] == [known or j <= task for j in range(tasks)]
            assert all(0 <= value <= 100 for value in row if value is not None)


def test_knowing_the_task_never_makes_the_same_head_worse(recorded):
    rows = {(e.readout, e.clock.task): e.row for e in recorded.of("AccuracyMeasured")}
    for (readout, task), row in rows.items():
        if readout == "class-incremental":
            own = rows["task-incremental", task]
            assert all(mine >= all_ for mine, all_ in zip(own[: task + 1], row[: task + 1], strict=True))


def test_a_step_changes_only_the_parameters_in_groups_and_nothing_else_changes_any(watched):
    for kinds, moved, allowed in watched.changed:
        assert moved <= (allowed if "StepEnded" in kinds else set()), f"changed in {sorted(kinds)}"
    assert any(moved for _, moved, _ in watched.changed) == trains(watched.case)


def test_the_backbone_never_changes(watched):
    assert not watched.backbone_moved


def test_classify_answers_for_every_class_seen_and_for_no_other(watched):
    assert watched.widths and all(columns == seen for seen, columns in watched.widths)


def test_earlier_heads_answer_as_they_did_when_their_task_ended(watched):
    """On the same features; methods that rewrite old heads on purpose have to say so here."""
    for answers in watched.answers.values():
        assert all(torch.equal(answer, answers[0]) for answer in answers[1:])


def briefly(config_of, case, **others):
    """The run of a case over two tasks, all its diagnostics on."""
    config = config_of(case, tasks=2, training={"batch_size": 50}, **others)
    return replace(config, diagnostics=replace(config.diagnostics, forward=True))


@pytest.fixture(scope="module", params=SHORT, ids=map(named, SHORT))
def with_and_without(request, config_of):
    """Events of the same run with all diagnostics and with none, and the state that its method ends with."""
    config, found = briefly(config_of, request.param), []
    for chosen in (config.diagnostics, DiagnosticsConfig.off()):
        trainer = build(replace(config, diagnostics=chosen))
        found.append(([event for moment in trainer.run() for event in moment], flat(trainer.method.state_dict())))
    return found


def test_the_same_configuration_gives_the_same_events_twice_and_another_seed_others(
    with_and_without, config_of, request
):
    def events(config):
        return [comparable(event) for moment in build(config).run() for event in moment]

    case = request.node.callspec.params["with_and_without"]
    first = [comparable(event) for event in with_and_without[0][0]]
    torch.manual_seed(99)  # what was drawn before must not matter
    torch.rand(7)
    assert events(briefly(config_of, case)) == first
    if trains(case):
        unlike = replace(briefly(config_of, case, seed=1), diagnostics=DiagnosticsConfig.off())
        assert events(unlike) != [comparable(event) for event in with_and_without[1][0]]


def test_diagnostics_on_or_off_the_trained_bits_are_equal(with_and_without):
    (_, measured), (_, unmeasured) = with_and_without
    assert measured == unmeasured and measured is not unmeasured


def test_measuring_changes_nothing_in_training(with_and_without):
    measured, unmeasured = (
        [
            comparable(event)
            for event in events
            if event.kind in ("StepEnded", "EpochEnded")
            or (event.kind == "AccuracyMeasured" and event.readout.endswith("-incremental"))
        ]
        for events, _ in with_and_without
    )
    assert measured == unmeasured
    assert {kind for kind, *_ in measured} >= {"AccuracyMeasured"}


def test_without_diagnostics_nothing_but_the_course_and_the_accuracies_is_said(with_and_without):
    said = {event.kind for event in with_and_without[1][0]}
    assert {"RunStarted", "TaskStarted", "TaskEnded", "AccuracyMeasured"} <= said
    measured = {"SpectrumMeasured", "UpdateMeasured", "PromptsDrifted", "AttentionCompared", "WeightSpectrumMeasured"}
    assert not said & {*measured, "ModalityGapMeasured", "SimilaritiesMeasured", "SelectionMeasured"}


def test_what_is_only_measured_for_display_is_not_counted_as_kept(with_and_without):
    measured, unmeasured = (
        [event.kept_bytes for event in events if event.kind == "TaskEnded"] for events, _ in with_and_without
    )
    assert measured == unmeasured and measured
