"""What people mistype and what programs pass on: exit status 2 (or 1), one sentence, nothing left behind, no escape
code on a terminal."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from cl_core.cli.options import accuracy_table, headline
from cl_core.cli.run import Progress
from cl_core.config import ConfigError, RunConfig
from cl_core.store import create_run
from cl_core.summary import summarise
from tests import recorded_clip_runs, recorded_runs
from tests.cli.test_cli import TINY, one_sentence


def toml(tmp_path, text):
    file = tmp_path / "settings.toml"
    file.write_text('method = "nsp2"\nbackbone = "random-vit"\nstream = "synthetic"\ndevice = "cpu"\n' + text)
    return file


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("format = -5", "format must be a whole number from 1"),
        ('parent = "../../x"', "parent is a plain name"),
        ('group = "../../x"', "group is a plain name"),
        ('group = "a\\u001b[31mb"', "group is a plain name"),
        ("fork_task = -3", "fork_task is a number of tasks"),
        ("settings = " + "[" * 5000 + "]" * 5000, "deep"),
        ("settings = {a = " + "[" * 60 + "]" * 60 + "}", "deep"),
        (f'parent = "{"x" * 5000}"', "at most 200 bytes"),
    ],
)
def test_settings_that_cannot_be_meant_end_with_two(say, runs, tmp_path, text, sentence):
    status, out, err = say("run", toml(tmp_path, text))
    assert (status, out) == (2, "") and sentence in one_sentence(err) and len(err) < 600
    assert not runs.exists()


@pytest.mark.parametrize("command", ["list", "show", "run"])
def test_an_empty_path_is_not_this_folder(say, command):
    arguments = {"list": (), "show": ("x",), "run": TINY}[command]
    assert say(command, *arguments, "--runs", "")[0] == 2


@pytest.mark.parametrize("command", ["show", "resume", "stop", "export"])
def test_a_name_longer_than_a_file_may_have_is_not_found_in_one_sentence(say, command):
    status, out, err = say(command, "x" * 5000)
    assert (status, out) == (1, "") and len(one_sentence(err)) < 400


HUGE = "1" + "0" * 400  # no double holds it


@pytest.mark.parametrize("text", ['{"log_history": ' + "[" * 100_000, '{"log_history": [{"loss": ' + HUGE + "}]}"])
def test_a_log_of_another_program_that_cannot_be_meant_is_refused(say, tmp_path, text):
    (tmp_path / "trainer_state.json").write_text(text)
    status, out, err = say("import", tmp_path / "trainer_state.json")
    assert status in (1, 2) and out == "" and "trainer_state.json" in one_sentence(err)


def test_a_run_cannot_be_named_so_long_that_its_folder_could_not_be_made(say, runs):
    status, _, err = say("run", "--method", "sequential", *TINY, "--name", "x" * 300)
    assert status == 1 and "at most 200 bytes" in one_sentence(err) and not runs.exists()


def test_a_command_that_is_not_there_is_answered_with_the_nearest_and_only_those_for_people(say):
    status, out, err = say("rnu", "--method", "nsp2")
    assert (status, out) == (2, "") and "Did you mean run?" in one_sentence(err) and " work" not in err


def test_an_unknown_option_is_answered_with_the_usage_of_its_command(say):
    status, _, err = say("run", "--methd", "nsp2")
    assert status == 2 and "usage: plastiscope run" in err and "--methd" in err


def test_a_weights_file_that_is_not_there_ends_with_two(say, tmp_path):
    status, out, err = say("backbones", f"timm:vit_tiny_patch16_224@{tmp_path}/missing.pt")
    assert (status, out) == (2, "") and "missing.pt" in one_sentence(err)


def test_sizes_are_written_out(say):
    status, out, _ = say("backbones", "timm:vit_tiny_patch16_224@random", "--batch-size", "16")
    assert status == 0 and "e+" not in out and " MB" in out


@pytest.mark.parametrize("content", [[1, 2], "text", torch.zeros(3), 5, None, {"model": [1]}, {1: "a"}])
def test_weights_that_are_no_tensors_by_name_are_refused(tmp_path, content):
    from cl_core.backbones.weight_files import read_weights

    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"hold (a \w+, not tensors|no tensors) by name"):
        read_weights(tmp_path / "weights.pt")


def test_weights_of_a_kind_that_cannot_be_copied_are_refused():
    from cl_core.backbones.weight_files import Weights, fill

    model = torch.nn.Linear(2, 2)
    wrong = {"weight": torch.empty(2, 2, device="meta"), "bias": torch.zeros(2)}
    with pytest.raises(ConfigError, match="do not fit the model"):
        fill(model, Weights(wrong, "w.pt"), ())


def test_no_escape_code_of_a_file_reaches_the_terminal(say, tmp_path):
    name = tmp_path / "we\x1b[31mights.pt"
    name.write_bytes(b"\x80\x02}q\x00\x1b[31m")
    _, _, err = say("backbones", f"timm:vit_tiny_patch16_224@{name}")
    run = say("run", "--method", "sequential", *TINY[2:], "--backbone", f"timm:vit_tiny_patch16_224@{name}")
    assert run[0] == 2 and "\x1b" not in run[2] and "\x1b" not in err
    say_bad = say("show", "a\x1b[31mb")
    assert say_bad[0] == 1 and "\x1b" not in say_bad[2]


def test_the_log_that_a_failure_names_is_there(say, runs, monkeypatch):
    from cl_core.methods.sequential import Sequential

    def loss(self, backbone, batch):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(Sequential, "loss", loss)
    status, _, err = say("run", "--method", "sequential", *TINY, "--name", "mine")
    assert status == 1 and "details in the run's log" in err
    assert "Traceback" in (runs / "mine" / "worker.log").read_text()


def test_a_run_deleted_while_it_trains_is_said_in_one_sentence(say, runs, monkeypatch):
    from cl_core.training import worker

    append = worker.RunWriter.append

    def then_gone(writer, moment):
        seq = append(writer, moment)
        if seq > 20 and writer.folder.path.exists():
            shutil.rmtree(writer.folder.path)
        return seq

    monkeypatch.setattr(worker.RunWriter, "append", then_gone)
    status, out, err = say("run", "--method", "sequential", *TINY, "--name", "mine")
    assert (status, out) == (1, "") and "was deleted, moved or replaced" in one_sentence(err.splitlines()[-1])
    assert not (runs / "mine").exists()


def test_a_run_killed_while_it_is_built_can_be_resumed(say, runs, monkeypatch):
    from cl_core.training import factory as building

    intact = building.build

    def killed(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "build", killed)
    status, _out, err = say("run", "--method", "sequential", *TINY, "--name", "mine")
    assert status == 1 and "plastiscope resume mine" in err
    monkeypatch.setattr(building, "build", intact)
    assert say("resume", "mine", "--json")[0] == 0


def test_an_earlier_checkpoint_is_one_option_away(say, runs):
    status, _, err = say("run", "--method", "sequential", *TINY, "--name", "mine", "--set", "stream.tasks=5")
    assert status == 0
    for file in (runs / "mine").glob("events.db*"):
        file.unlink()
    status, out, err = say("resume", "mine")
    assert (status, out) == (1, "") and "--after-task 0" in one_sentence(err)
    status, out, _ = say("resume", "mine", "--after-task", "0", "--json")
    assert status == 0 and json.loads(out)["state"] == "finished"


# ---------------------------------------------------------------- what is printed


class Terminal:
    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self): ...


def test_a_bar_for_a_run_without_steps_is_full(tiny_trainer):
    class Nothing:
        total_steps = 0
        cursor = type("Cursor", (), {"step": 0, "stage": "end"})

    terminal = Terminal()
    Progress(terminal)((), Nothing())
    assert "100 %" in terminal.text


def test_a_matrix_is_called_after_whose_accuracies_it_holds(tmp_path):
    named = summarise(recorded_clip_runs.finished(tmp_path, "clip"))
    assert "(task-incremental accuracy" in accuracy_table(named) and "before" in accuracy_table(named)
    assert all(word in headline(named) for word in ("Transfer", "Average", "Last"))
    plain = summarise(recorded_runs.finished(tmp_path, "plain"))
    assert "(class-incremental accuracy" in accuracy_table(plain) and "Transfer" not in headline(plain)


def test_settings_from_elsewhere_are_kept_from_leading_elsewhere(tmp_path):
    for others in ({"parent": "a/../b"}, {"group": ".hidden"}, {"fork_task": -1}):
        with pytest.raises(ConfigError):
            RunConfig("nsp2", **others)
    assert create_run(tmp_path, RunConfig("nsp2", group="sweep mine", parent="20260101-nsp2-aaaa", fork_task=2))
