"""Results of other programs, in files as they write them: read right, or refused with the way out."""

from __future__ import annotations

import json
import struct
from contextlib import closing
from pathlib import Path

import pytest

from cl_core.config import ConfigError
from cl_core.interop import FORMATS, Asked, read, write
from cl_core.interop.records import BLOCK, crc32c, event_record, field, wandb_file, wandb_records
from cl_core.store import RunReader
from cl_core.summary import summarise

TASK = Asked(scenario="task-incremental")
CLASS = Asked(scenario="class-incremental")
ENDS = Asked(scenario="task-incremental", ends=(100, 200))
ROWS = [[97.0, None, None], [80.0, 95.0, None], [61.0, 77.0, 93.0]]


def put(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def rows_of(result):
    return next(iter(result.matrices.values()))


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "text",
    [
        "97,,\n80,95,\n61,77,93\n",
        "97,nan,nan\n80,95,-\n61,77,93\n",
        "cats,dogs,birds\n97,,\n80,95,\n61,77,93\n",
        ",cats,dogs,birds\ncats,97,,\ndogs,80,95,\nbirds,61,77,93\n",
        "after;cats;dogs;birds\ncats;0,97;;\ndogs;0,80;0,95;\nbirds;0,61;0,77;0,93\n",
        "97\t\t\n80\t95\t\n61\t77\t93\n",
        "# a comment\n97%,,\n80%,95%,\n61%,77%,93%\n",
        "trained,evaluated,accuracy\n1,1,97\n2,1,80\n2,2,95\n3,1,61\n3,2,77\n3,3,93\n",
        "trained,evaluated,accuracy\n0,0,97\n1,0,80\n1,1,95\n2,0,61\n2,1,77\n2,2,93\n",
        "accuracy,trained,evaluated\n.97,cats,cats\n.80,dogs,cats\n.95,dogs,dogs\n.61,owls,cats\n.77,owls,dogs\n.93,owls,owls\n",
    ],
)
def test_a_table_in_any_of_its_shapes_is_one_matrix(tmp_path, text):
    assert rows_of(read(put(tmp_path, "m.csv", text), TASK)) == [pytest.approx(row) for row in ROWS]


def test_a_turned_table_is_turned_back_and_noticed_if_nobody_says_so(tmp_path):
    file = put(tmp_path, "m.csv", "97,80,61\n,95,77\n,,93\n")
    assert rows_of(read(file, Asked("task-incremental", transposed=True))) == ROWS
    with pytest.raises(ConfigError, match="--transposed turns it"):
        read(file, TASK)


def test_a_row_before_training_and_an_unfinished_training(tmp_path):
    text = "trained,evaluated,accuracy\nbefore,1,9\nbefore,2,11\n1,1,90\n"
    result = read(put(tmp_path, "m.csv", text), TASK)
    assert result.untrained == [9.0, 11.0] and rows_of(result) == [[90.0, None], [None, None]]
    assert any("2 of 3 cells" in note for note in result.notes)
    folder = write(result, tmp_path / "runs", name="mine")
    assert summarise(folder).state == "stopped" and summarise(folder).zero_shot == [9.0, 11.0]


def test_zeros_above_the_diagonal_are_asked_about(tmp_path):
    file = put(tmp_path, "m.csv", "90,0\n80,95\n")
    with pytest.raises(ConfigError, match="--zeros measured or --zeros not-measured"):
        read(file, TASK)
    assert rows_of(read(file, Asked("task-incremental", zeros="measured"))) == [[90, 0], [80, 95]]
    assert rows_of(read(file, Asked("task-incremental", zeros="not-measured"))) == [[90, None], [80, 95]]
    class_incremental = read(file, CLASS)
    assert rows_of(class_incremental) == [[90, None], [80, 95]]
    assert any("cannot answer with their classes" in note for note in class_incremental.notes)
    assert rows_of(read(file, Asked("class-incremental", zeros="measured", keep_future=True))) == [[90, 0], [80, 95]]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "is empty"),
        ("90,80\n70,x\n", "row 2, column 2 of m.csv holds 'x'"),
        ("90,180\n70,80\n", r"lie in \[0, 100\], got 180"),
        ("90,-1\n70,80\n", r"got -1"),
        ("90,80\n70,80\n60,50\n", "3 rows and 2 columns"),
        ("trained,evaluated,accuracy\n1,1,90\n1,1,91\n", "line 3 of m.csv gives another accuracy"),
        ("trained,evaluated,accuracy\n1,1\n", "line 2 of m.csv has 2 cells"),
        ("trained,evaluated,accuracy\n1,1,\n", "holds no accuracy"),
    ],
)
def test_a_table_that_does_not_do_is_refused_in_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError, match=sentence) as refused:
        read(put(tmp_path, "m.csv", text), TASK)
    assert "\n" not in str(refused.value)


def test_the_scenario_is_asked_for_and_never_guessed(tmp_path):
    with pytest.raises(ConfigError, match="choose --scenario class-incremental, "):
        read(put(tmp_path, "m.csv", "90,\n80,95\n"), Asked())


def test_names_of_tasks_are_as_many_as_tasks(tmp_path):
    file = put(tmp_path, "m.csv", "90,\n80,95\n")
    assert read(file, Asked("task-incremental", tasks=("cats", "dogs"))).tasks == ["cats", "dogs"]
    with pytest.raises(ConfigError, match="--tasks names 3 tasks, the file holds 2"):
        read(file, Asked("task-incremental", tasks=("a", "b", "c")))


# ---------------------------------------------------------------- Avalanche

EVAL = """eval_exp,training_exp,eval_accuracy,eval_loss,forgetting
0,None,0.1000,2.3000,0
1,None,0.0900,2.3100,0
0,0,0.9700,0.1000,0
1,0,0.0000,5.0000,0
0,1,0.6100,1.1000,0.3600
1,1,0.9300,0.2000,0
"""
TRAINING = """training_exp,epoch,training_accuracy,val_accuracy,training_loss,val_loss
0,0,0.8000,0,0.9000,0
0,1,0.9000,0,0.4000,0
1,0,0.7000,0,0.8000,0
"""


def test_avalanches_csv_with_its_losses_and_the_row_before_training(tmp_path):
    put(tmp_path, "csvlogs/training_results.csv", TRAINING)
    file = put(tmp_path, "csvlogs/eval_results.csv", EVAL)
    with pytest.raises(ConfigError, match="--scenario"):
        read(file, Asked())
    for path in (file, file.parent, tmp_path):
        result = read(path, CLASS)
        assert rows_of(result) == [[97.0, None], [61.0, 93.0]] and result.untrained == [10.0, 9.0]
        assert [(loss.task, loss.epoch, loss.value) for loss in result.losses] == [
            (0, 0, 0.9),
            (0, 1, 0.4),
            (1, 0, 0.8),
        ]
    assert rows_of(read(file, TASK)) == [[97.0, 0.0], [61.0, 93.0]]


def test_two_trainings_in_one_file_of_avalanche_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="more than one training; keep the lines of one"):
        read(put(tmp_path, "eval_results.csv", EVAL + EVAL.split("\n", 1)[1]), CLASS)


def log(labels: bool) -> str:
    lines = []
    for after in range(2):
        lines += ["-- >> Start of training phase << --"]
        lines += [f"-- Starting training on experience {after} (Task {after if labels else 0}) from train stream --"]
        lines += [f"\tLoss_Epoch/train_phase/train_stream/Task000 = {0.5 - after / 10}"]
        lines += ["\tTop1_Acc_Epoch/train_phase/train_stream/Task000 = 0.9900", "-- >> End of training phase << --"]
        lines += ["-- >> Start of eval phase << --"]
        for on in range(2):
            label = f"Task{on if labels else 0:03d}"
            value = 0.97 - 0.36 * (after - on) if on <= after else 0.0
            lines += [
                f"-- Starting eval on experience {on} (Task 0) from test stream --",
                "> Eval on experience ended.",
            ]
            lines += [f"\tTop1_Acc_Exp/eval_phase/test_stream/{label}/Exp{on:03d} = {value:.4f}"]
        lines += ["-- >> End of eval phase << --", "\tTop1_Acc_Stream/eval_phase/test_stream/Task000 = 0.5000"]
    return "\n".join(lines)


def test_avalanches_text_log_tells_task_labels_by_its_names(tmp_path):
    told = read(put(tmp_path, "log.txt", log(labels=True)), Asked())
    assert told.scenario == "task-incremental" and rows_of(told) == [[97.0, 0.0], [61.0, 97.0]]
    assert [loss.value for loss in told.losses] == [0.5, 0.4]
    with pytest.raises(ConfigError, match="--scenario"):
        read(put(tmp_path, "plain.txt", log(labels=False)), Asked())
    assert rows_of(read(tmp_path / "plain.txt", CLASS)) == [[97.0, None], [61.0, 97.0]]


def test_a_text_log_without_accuracies_of_experiences_says_how_to_get_them(tmp_path):
    lines = [line for line in log(True).splitlines() if "Acc_Exp" not in line]
    with pytest.raises(ConfigError, match=r"accuracy_metrics\(experience=True\)"):
        read(put(tmp_path, "log.txt", "\n".join(lines)), Asked())


# ---------------------------------------------------------------- Mammoth

PYD = (
    "{'accmean_task1': 97.0, 'accuracy_1_task1': 97.0, 'accuracy_2_task1': 0.0, 'accmean_task2': np.float64(77.0), "
    "'accuracy_1_task2': np.float64(61.0), 'accuracy_2_task2': 93.0, 'dataset': 'seq-cifar10', 'model': 'der', "
    "'seed': 7, 'lr': 0.03, 'device': device(type='cuda', index=0)}\n"
)


def test_mammoths_line_is_read_without_being_run(tmp_path):
    file = put(tmp_path, "data/results/class-il/seq-cifar10/der/logs.pyd", "{'accuracy_1_task1': 1.0}\n" + PYD)
    put(
        tmp_path,
        "data/results/task-il/seq-cifar10/der/logs.pyd",
        "{'accuracy_1_task1': 1.0}\n" + PYD.replace("61.0", "90.0"),
    )
    result = read(file, Asked())
    assert result.scenario == "class-incremental" and rows_of(result) == [[97.0, None], [61.0, 93.0]]
    assert result.matrices["task-incremental"] == [[97.0, None], [90.0, 93.0]]
    assert (result.method, result.stream, result.seed) == ("der", "seq-cifar10", 7)
    assert result.settings["lr"] == 0.03 and any("2 trainings" in note for note in result.notes)


def test_means_alone_are_no_matrix_and_code_in_a_line_is_not_run(tmp_path):
    file = put(tmp_path, "domain-il/perm-mnist/er/logs.pyd", "{'accmean_task1': 97.0, 'model': 'er'}\n")
    with pytest.raises(ConfigError, match="means over tasks only"):
        read(file, Asked())
    mark = tmp_path / "ran"
    hostile = (
        f"{{'accuracy_1_task1': 97.0, 'seed': __import__('pathlib').Path({str(mark)!r}).touch(), 'lr': {'(' * 5000}}}\n"
    )
    assert rows_of(read(put(tmp_path, "class-il/a/b/logs.pyd", hostile), Asked())) == [[97.0]]
    assert not mark.exists()


# ---------------------------------------------------------------- PILOT, FACIL

PILOT = """2024-01-18 10:00:30,251 [trainer.py] => dataset: cifar224
2024-01-18 10:00:30,251 [trainer.py] => seed: 1993
2024-01-18 10:01:30,251 [trainer.py] => CNN: {'total': 97.0, '00-09': 97.0, 'old': 0, 'new': 97.0}
2024-01-18 10:01:31,251 [trainer.py] => NME: {'total': 90.0, '00-09': 90.0, 'old': 0, 'new': 90.0}
2024-01-18 10:02:30,251 [trainer.py] => CNN: {'total': 77.0, '00-09': np.float64(61.0), '10-19': 93.0, 'old': 61.0}
2024-01-18 10:02:31,251 [trainer.py] => NME: {'total': 80.0, '00-09': 75.0, '10-19': 85.0, 'old': 75.0, 'new': 85.0}
"""


def test_pilots_log_has_a_line_a_task_and_the_last_training_counts(tmp_path):
    result = read(put(tmp_path, "a.log", PILOT.replace("97.0", "12.0") + PILOT), Asked())
    assert result.scenario == "class-incremental" and rows_of(result) == [[97.0, None], [61.0, 93.0]]
    assert result.matrices["nearest class mean (NME)"] == [[90.0, None], [75.0, 85.0]]
    assert result.tasks == ["00-09", "10-19"] and result.seed == 1993 and result.stream == "cifar224"
    assert any("2 trainings" in note for note in result.notes)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(put(tmp_path, "b.log", "x => CNN: {'00-09': open('x')}\n"), Asked())


def test_facils_two_kinds_are_two_readouts(tmp_path):
    put(tmp_path, "results/acc_tag-2024-01-18.txt", "0.970000\t0.000000\n0.610000\t0.930000\n")
    put(tmp_path, "results/acc_taw-2024-01-18.txt", "0.980000\t0.000000\n0.900000\t0.950000\n")
    put(tmp_path, "results/acc_tag-2023-01-18.txt", "0.110000\t0.000000\n0.110000\t0.110000\n")
    result = read(tmp_path, Asked())
    assert result.matrices["class-incremental"] == [[97.0, None], [61.0, 93.0]]
    assert result.matrices["task-incremental"] == [[98.0, None], [90.0, 95.0]]
    assert any("newest, 2024-01-18" in note for note in result.notes)


# ---------------------------------------------------------------- curves

CURVES = {"val_acc/task0": [0.97, 0.61], "val_acc/task1": [0.1, 0.93], "train_loss": [0.5, 0.4], "lr": [0.1, 0.1]}
STEPS = (100, 200)


def tfevents(curves=CURVES, form="simple"):
    out = event_record(field(1, 1.5) + field(3, "brain.Event:2"))
    for name, values in curves.items():
        for step, value in zip(STEPS, values, strict=True):
            single = struct.pack("<f", value)
            scalar = b"\x15" + single if form == "simple" else field(8, field(1, 1) + field(5, single))
            out += event_record(field(1, 1.5) + field(2, step) + field(5, field(1, field(1, name) + scalar)))
    return out


@pytest.mark.parametrize("form", ["simple", "tensor"])
def test_tensorboards_scalars_up_to_where_the_file_breaks_off(tmp_path, form):
    file = tmp_path / "events.out.tfevents.1.host"
    file.write_bytes(tfevents(form=form) + event_record(b"\x08\x01")[:9])
    with pytest.raises(ConfigError, match=r"2 evaluations of 2 tasks \(at steps 100, 200\).*--ends"):
        read(tmp_path, TASK)  # they may be epochs
    result = read(tmp_path, ENDS)
    assert rows_of(result) == [pytest.approx([97.0, 10.0], rel=1e-6), pytest.approx([61.0, 93.0], rel=1e-6)]
    assert [(loss.step, loss.task) for loss in result.losses] == [(100, 0), (200, 1)] and result.unread == ["lr"]
    file.write_bytes(b"not one" * 10)
    with pytest.raises(ConfigError, match="no TensorBoard event file"):
        read(file, TASK)


def test_crc32c_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283


def history(step, **values):
    items = b"".join(field(1, field(2, key) + field(16, json.dumps(value))) for key, value in values.items())
    return field(2, items + field(2, field(1, step)))


def test_wandbs_offline_file_over_many_blocks(tmp_path):
    large = field(3, b"x" * (2 * BLOCK + 5))
    records = [field(17, b"run"), large, history(100, val_acc_0=0.97, val_acc_1=0.1, _step=100), large]
    records += [history(200, val_acc_0=0.61, val_acc_1=0.93, _step=200)]
    data = wandb_file(records)
    assert list(wandb_records(data, "x")) == records
    assert list(wandb_records(data[:-3], "x")) == records[:-1]
    (tmp_path / "run-abc.wandb").write_bytes(data)
    assert rows_of(read(tmp_path, ENDS)) == [[97.0, 10.0], [61.0, 93.0]]


def test_lightnings_csv_and_the_steps_at_which_tasks_ended(tmp_path):
    lines = ["epoch,step,train_loss,val_acc/task0,val_acc/task1", "0,49,0.9,,", "0,50,,0.5,0.0", "1,100,,0.97,0.1"]
    put(tmp_path, "version_0/metrics.csv", "\n".join([*lines, "2,200,,0.61,0.93"]))
    with pytest.raises(ConfigError, match=r"3 evaluations of 2 tasks .*--ends"):
        read(tmp_path / "version_0", TASK)
    result = read(tmp_path / "version_0", Asked("task-incremental", ends=(100, 200)))
    assert rows_of(result) == [[97.0, 10.0], [61.0, 93.0]] and result.losses[0].value == 0.9


def test_trainings_of_one_task_each_are_the_rows_in_natural_order(tmp_path):
    head = "epoch,step,train_loss,val_acc/task0,val_acc/task1"
    for version, last in ((9, "1,4,,0.97,0.1"), (10, "1,4,,0.61,0.93")):
        lines = [head, "0,1,0.9,,", "0,2,,0.5,0.5", "1,3,0.8,,", last]
        put(tmp_path, f"logs/version_{version}/metrics.csv", "\n".join(lines))
    result = read(tmp_path / "logs", TASK)
    assert rows_of(result) == [[97.0, 10.0], [61.0, 93.0]]
    assert [(loss.step, loss.task) for loss in result.losses] == [(1, 0), (3, 0), (5, 1), (7, 1)]
    put(tmp_path, "logs/version_11/metrics.csv", f"{head}\n1,4,,0.2,0.2")
    with pytest.raises(ConfigError, match=r"3 trainings were found .* for 2 tasks"):
        read(tmp_path / "logs", TASK)


def test_hugging_faces_newest_checkpoint(tmp_path):
    record = {
        "log_history": [{"step": 100, "eval_acc_1": 0.97, "eval_acc_2": 0.1, "epoch": 1.0}, {"step": 90, "loss": 0.7}]
    }
    put(tmp_path, "checkpoint-20/trainer_state.json", json.dumps(record))
    record["log_history"].append({"step": 200, "eval_acc_1": 0.61, "eval_acc_2": 0.93})
    put(tmp_path, "checkpoint-100/trainer_state.json", json.dumps(record))
    assert rows_of(read(tmp_path, ENDS)) == [[97.0, 10.0], [61.0, 93.0]]


def test_trainers_output_folders_are_the_tasks_in_order(tmp_path):
    for folder, step, last in (("task9", 4, (0.97, 0.1)), ("task10", 6, (0.61, 0.93))):
        evaluated = {"step": step, "eval_acc_1": last[0], "eval_acc_2": last[1]}
        record = {"log_history": [{"step": 2, "loss": 0.7}, evaluated]}
        put(tmp_path, f"out/{folder}/checkpoint-2/trainer_state.json", json.dumps({"log_history": []}))
        put(tmp_path, f"out/{folder}/checkpoint-{step + 6}/trainer_state.json", json.dumps(record))
    result = read(tmp_path / "out", TASK)
    assert rows_of(result) == [[97.0, 10.0], [61.0, 93.0]]
    assert "A training a task, in order: task9, task10; the last value of each counts." in result.notes
    assert [(loss.step, loss.task) for loss in result.losses] == [(2, 0), (5, 1)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_that_does_not_fit_is_refused_in_a_sentence(tmp_path, form):
    (tmp_path / "empty").mkdir()
    put(tmp_path, "other.txt", "")
    for path in (tmp_path / "empty", tmp_path / "other.txt"):
        with pytest.raises(ConfigError, match=r"\w+ \w+ \w+"):
            read(path, Asked("task-incremental", format=form))


def test_metrics_that_name_no_task_are_listed(tmp_path):
    put(tmp_path, "metrics.csv", "epoch,step,accuracy\n0,1,0.5\n")
    with pytest.raises(ConfigError, match=r"metrics of metrics.csv \(accuracy\); name one with --accuracy"):
        read(tmp_path / "metrics.csv", TASK)
    put(tmp_path, "metrics.csv", "step,val_acc_0,val_acc_1,top5_acc_0,top5_acc_1\n0,1,1,1,1\n1,1,1,1,1\n")
    with pytest.raises(ConfigError, match="several metrics could be"):
        read(tmp_path, TASK)
    result = read(tmp_path, Asked("task-incremental", accuracy="val_acc_{task}", scale="percent", ends=(0, 1)))
    assert rows_of(result) == [[1.0, 1.0], [1.0, 1.0]]


# ---------------------------------------------------------------- what is none, and what is written


@pytest.mark.parametrize("name", ["model.pt", "x.pkl"])
def test_a_checkpoint_is_not_opened(tmp_path, name):
    with pytest.raises(ConfigError, match="is a checkpoint; results are read from the logs"):
        read(put(tmp_path, name, "x"), TASK)


def test_what_is_unknown_is_refused_with_what_is_known(tmp_path):
    with pytest.raises(ConfigError, match=r"none of what can be imported .*trained,evaluated,accuracy always can"):
        read(put(tmp_path, "x.xml", "<x/>"), TASK)
    with pytest.raises(ConfigError, match="does not exist"):
        read(tmp_path / "nothing", TASK)


def test_an_imported_run_says_where_it_comes_from_and_has_its_own_numbers(tmp_path):
    file = put(tmp_path, "csvlogs/eval_results.csv", EVAL)
    folder = write(read(file, CLASS), tmp_path / "runs", method="replay", stream="MNIST", seed=4)
    config, summary = folder.config(), summarise(folder)
    assert config.origin == "imported from eval_results.csv (Avalanche)" and config.trained_elsewhere
    assert (summary.state, summary.method, summary.stream, summary.seed) == ("finished", "replay", "MNIST", 4)
    assert summary.accuracy_matrix == [[97.0, None], [61.0, 93.0]] and summary.forgetting == pytest.approx(36.0)
    assert any("shares from 0 to 1" in note for note in config.settings["read_as"])
    with closing(RunReader(folder)) as reader:
        assert not reader.status().resumable
