"""What the loop says beside the methods' contract: cadence of measurements, sizes, environment."""

import pytest

from cl_core.config import ConfigError


def events(trainer, *kinds):
    return [event for moment in trainer.run() for event in moment if event.kind in kinds]


def test_the_plan_is_told_once_before_anything_else(tiny_trainer):
    trainer = tiny_trainer("nsp2", tasks=2)
    moments = list(trainer.run())
    started = moments[0][0]
    assert started.kind == "RunStarted"
    assert sum(event.kind == "RunStarted" for moment in moments for event in moment) == 1
    assert [task["name"] for task in started.tasks] == ["T1", "T2"]
    assert [(task["train"], task["test"]) for task in started.tasks] == [(100, 50), (100, 50)]
    assert (started.trained_tasks, started.total_steps, started.scenario) == (2, 16, "class-incremental")
    assert started.trainable_parameters == 2 * 4 * 48 + 5 * 48 + 5
    assert started.environment["device"] == "cpu" and started.backbone["name"] == "random-vit"


def test_joint_training_takes_as_many_steps_and_fills_only_the_last_row(tiny_trainer):
    trainer = tiny_trainer("joint", tasks=2, diagnostics={"readout": False})
    moments = list(trainer.run())
    started = moments[0][0]
    assert (started.trained_tasks, started.total_steps, len(started.tasks)) == (1, 16, 2)
    rows = [(e.clock.task, e.row) for m in moments for e in m if e.kind == "AccuracyMeasured"]
    assert [task for task, _ in rows] == [1, 1] and all(None not in row for _, row in rows)


@pytest.mark.parametrize(("control", "after"), [("last", [4]), ("every", [0, 1, 2, 3, 4])])
def test_recomputed_statistics_are_taken_when_asked_for_and_stored_ones_always(tiny_trainer, control, after):
    found = events(tiny_trainer(tasks=5, diagnostics={"readout_control": control}), "AccuracyMeasured")
    assert [e.clock.task for e in found if e.readout == "recomputed statistics"] == after
    assert [e.clock.task for e in found if e.readout == "stored statistics"] == [0, 1, 2, 3, 4]


def test_stored_and_recomputed_statistics_agree_while_features_stay_as_they_are(tiny_trainer):
    trainer = tiny_trainer(tasks=5, settings={"prompt_length": 0}, diagnostics={"readout_control": "every"})
    rows = {(e.readout, e.clock.task): e.row for e in events(trainer, "AccuracyMeasured")}
    for task in range(5):
        assert rows["stored statistics", task] == pytest.approx(
            rows["recomputed statistics", task], nan_ok=True, abs=5.1
        )


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2, 3]), (9, [3])])
def test_old_tasks_are_looked_at_as_often_as_asked_and_after_every_task(tiny_trainer, every, epochs):
    trainer = tiny_trainer(tasks=2, training={"epochs": 4}, diagnostics={"probe_epochs": every, "readout": False})
    looked = [e.clock.epoch for e in events(trainer, "AttentionCompared") if (e.clock.task, e.probe_task) == (1, 0)]
    assert looked == epochs


def test_prompts_are_told_at_the_start_and_after_every_epoch(tiny_trainer):
    drifted = events(tiny_trainer(tasks=2), "PromptsDrifted")
    assert [(e.clock.task, e.clock.epoch) for e in drifted] == [(-1, -1), (0, 0), (0, 1), (1, 0), (1, 1)]
    for event in drifted:
        assert event.prompts.shape == (2, 4, 48) and event.means.shape == event.deviations.shape == (2, 4)
        assert event.means == pytest.approx(event.prompts.astype(float).mean(axis=-1), abs=1e-3)
        assert event.deviations == pytest.approx(event.prompts.astype(float).std(axis=-1), abs=1e-3)


def test_the_time_of_a_task_holds_that_of_its_steps(tiny_trainer):
    said = events(tiny_trainer(tasks=2), "StepEnded", "TaskEnded")
    for ended in (event for event in said if event.kind == "TaskEnded"):
        steps = [e.seconds for e in said if e.kind == "StepEnded" and e.clock.task == ended.clock.task]
        assert sum(steps) < ended.seconds < sum(steps) + 60


def test_the_time_spent_on_a_task_is_not_forgotten_by_a_resume(tiny_trainer):
    first, second = tiny_trainer(tasks=2), tiny_trainer(tasks=2)
    for moment in first.run():
        if moment[0].kind == "StepEnded":
            break
    state = first.state()
    assert 0 < state["task_seconds"] < 60
    second.restore({**state, "task_seconds": 1000.0})
    ended = [event.seconds for event in events(second, "TaskEnded")]
    assert ended[0] > 1000 and ended[1] < 1000


def test_held_out_training_images_take_the_tests_place_when_asked(tiny_trainer):
    trainer = tiny_trainer(tasks=2, stream_settings={"evaluate_on": "validation"})
    started = next(trainer.run())[0]
    assert [(task["train"], task["test"]) for task in started.tasks] == [(80, 20), (80, 20)]


def test_a_device_that_is_not_there_is_refused_with_the_way_out(tiny_trainer, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU here; use --device cpu"):
        tiny_trainer(device="cuda")
    assert tiny_trainer(device="auto").device.type == "cpu"
