"""The command line: exit status 0, 1 (failed) or 2 (bad usage), one clear sentence on error, JSON for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from cl_core.cli import COMMANDS
from cl_core.methods.sequential import Sequential
from cl_core.registry import BACKBONES, METHODS, SCHEMES, STREAMS
from cl_core.store import RunReader, list_runs

TINY = ["--backbone", "random-vit", "--stream", "synthetic", "--device", "cpu", "--set", "stream.tasks=2", "--set",
        "epochs=1", "--set", "batch_size=50"]  # fmt: skip
KEYS = [
    "run", "folder", "state", "method", "backbone", "stream", "seed", "device", "seconds",
    "accuracy_matrix", "zero_shot", "final_average_accuracy", "average_incremental_accuracy", "learning_accuracy",
    "forgetting", "backward_transfer",
    "transfer", "average", "last",
]  # fmt: skip


def one_sentence(error):
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("plastiscope: ") and "Traceback" not in error, error
    return lines[0]


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", [name for name in COMMANDS if COMMANDS[name][1]])
def test_every_command_explains_itself_with_an_example(say, command):
    status, out, _ = say(command, "--help")
    assert status == 0 and "example" in out and f"plastiscope {command}" in out.split("example", 1)[1]
    assert COMMANDS[command][1].split(":")[0][:30] in out or command == "pretrain"


def test_the_command_itself_lists_every_command_for_people(say):
    status, out, _ = say("--help")
    assert status == 0 and "example: plastiscope run" in out
    for name, (_, about) in COMMANDS.items():
        listed = any(line.split()[:1] == [name] for line in out.splitlines())
        assert listed == bool(about)


def test_bad_usage_ends_with_status_two(say):
    for arguments in (
        (),
        ("dance",),
        ("run", "--seed", "x"),
        ("run", "--device", "tpu"),
        ("show",),
        ("list", "--loud"),
    ):
        status, out, err = say(*arguments)
        assert status == 2 and out == "" and err.strip(), arguments


def test_the_version_is_told(say):
    from cl_core import __version__

    assert say("--version") == (0, f"plastiscope {__version__}\n", "")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(("command", "table"), [("methods", METHODS), ("backbones", BACKBONES), ("streams", STREAMS)])
def test_what_can_be_named_is_listed_one_line_each(say, command, table, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))  # no model at hand
    forms = [scheme.form.split()[0] for scheme in SCHEMES.get(command.removesuffix("s"), {}).values()]
    status, out, _ = say(command)
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == [*table, *forms]
    status, out, _ = say(command, "--json")
    assert status == 0 and [row["name"] for row in json.loads(out)] == [*table, *forms]


def test_a_backbone_and_a_stream_are_described_before_a_run(say, tmp_path):
    from PIL import Image

    for name in ("wren", "robin"):
        for i in range(5):
            (tmp_path / "birds" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (50 * i, 9, 9)).save(tmp_path / "birds" / name / f"{i}.png")
    (tmp_path / "birds" / "wren" / "song.png").write_text("tweet")
    status, out, _ = say("streams", f"folder:{tmp_path / 'birds'}", "--set", "stream.tasks=2")
    assert status == 0 and out.count("4 training and 1 test pictures") == 2
    assert "left out: wren/song.png: not a picture" in out
    status, _, error = say("streams", f"folder:{tmp_path / 'bees'}")
    assert status == 2 and "there is no folder" in error
    status, out, _ = say("backbones", "timm:vit_tiny_patch16_224@random", "--json")
    told = json.loads(out)
    assert (status, told["width"], told["tokens"], told["missing"]) == (0, 192, 197, "")
    assert told["memory"] > 4 * told["parameters"] > 0 and not told["method_counted"]
    status, out, _ = say("backbones", "random-clip", "--method", "finetune", "--set", "towers=text")
    assert status == 0 and "the copy that is trained" in out and "by an estimate" in out
    status, _, error = say("backbones", "random-clip", "--set", "towers=text")
    assert status == 2 and "name it with --method" in error
    status, out, error = say(
        "run", "--method", "sequential", "--backbone", "random-vit", "--stream", f"folder:{tmp_path / 'birds'}",
        "--set", "stream.tasks=2", "--set", "epochs=1", "--runs", tmp_path / "runs", "--name", "birds", "--json",
    )  # fmt: skip
    assert status == 0, error
    assert json.loads(out.splitlines()[-1])["stream"] == f"folder:{tmp_path / 'birds'}"


def test_presets_are_listed_with_what_they_set(say):
    from cl_core.presets import PRESETS

    status, out, _ = say("presets", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0 and list(rows) == list(PRESETS)
    assert rows["nsp2-micro"]["config"]["method"] == "nsp2"


def test_the_settings_of_one_method_are_listed_with_bounds(say):
    status, out, _ = say("methods", "nsp2")
    assert status == 0 and all(text in out for text in ("eta_affinity", "0 … 1", "elbow | energy"))
    status, out, _ = say("methods", "nsp2", "--json")
    (row,) = json.loads(out)
    assert row["name"] == "nsp2" and {"eta_affinity", "prompt_length"} <= {setting["name"] for setting in row["knobs"]}


@pytest.mark.parametrize("command", [["list"], ["presets"], ["methods"], ["streams", "--json"], ["run", "--help"]])
def test_looking_around_does_not_import_torch(tmp_path, command):
    code = (
        "import sys\nfrom cl_core.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'streamlit' in sys.modules)"
    )
    environment = {**os.environ, "PLASTISCOPE_RUNS": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code, *command], env=environment, capture_output=True).returncode == 0


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "nps2"], "unknown method 'nps2'; known: .*Did you mean nsp2"),
        (["--method", "nsp2", "--backbone", "micro-vt"], "unknown backbone 'micro-vt'.*Did you mean micro-vit"),
        (["--method", "nsp2", "--stream", "synthetik"], "unknown stream 'synthetik'.*Did you mean synthetic"),
        (["--preset", "nsp2-micr"], "unknown preset 'nsp2-micr'.*Did you mean nsp2-micro"),
        (
            ["--method", "nsp2", "--set", "eta_afinity=1"],
            "unknown setting of nsp2 'eta_afinity'.*Did you mean eta_affinity",
        ),
        (["--method", "nsp2", "--set", "trainig.epochs=1"], "unknown section 'trainig'.*Did you mean training"),
        (["--method", "nsp2", "--set", "eta_affinity"], "--set takes key=value, got 'eta_affinity'"),
        (["--method", "nsp2", "--set", "eta_affinity=2"], r"eta_affinity must lie in \[0, 1\], got 2"),
        (["--method", "nsp2", "--set", "stream.tasks=3"], "do not divide into 3 equal tasks"),
        (["--method", "nsp2", "--seed", "-1"], "seed must be a whole number from 0"),
        (["absent.toml"], r"cannot read absent.toml: No such file"),
        ([], "a run needs a method"),
    ],
)
def test_a_run_that_cannot_be_meant_ends_with_two_one_sentence_and_no_folder(say, runs, arguments, sentence):
    named = [] if {"--backbone", "--preset"} & set(arguments) or not arguments or ".toml" in arguments[0] else TINY[:4]
    if "--stream" in arguments:
        named = TINY[:2]
    status, out, err = say("run", *named, *arguments)
    assert (status, out) == (2, "")
    import re

    assert re.search(sentence, one_sentence(err))
    assert not runs.exists()


@pytest.mark.parametrize("command", ["show", "resume", "stop", "pause"])
def test_a_run_that_is_not_there_ends_with_one_and_one_sentence(say, command):
    status, out, err = say(command, "nothing")
    assert (status, out) == (1, "") and "no run 'nothing'" in one_sentence(err)


def test_a_runs_folder_that_cannot_be_written_ends_with_one_and_the_way_out(say, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    status, out, err = say("run", "--method", "sequential", *TINY, "--runs", blocked)
    assert (status, out) == (1, "") and "choose a writable folder with --runs" in one_sentence(err)


def test_an_unreadable_run_is_named_and_the_others_are_listed(say, runs):
    say("run", "--method", "sequential", *TINY, "--name", "good")
    (runs / "bad").mkdir()
    (runs / "bad" / "config.json").write_text("{")
    status, out, err = say("list", "--json")
    assert status == 0 and [row["run"] for row in json.loads(out)] == ["good"]
    assert "is damaged" in one_sentence(err)


# ---------------------------------------------------------------- training


def test_run_trains_and_its_last_line_is_one_object_with_the_fixed_keys(say, runs):
    status, out, err = say("run", "--method", "nsp2", *TINY, "--seed", 3, "--name", "mine", "--json")
    assert status == 0 and "after T2:" in err
    report = json.loads(out.splitlines()[-1])
    assert list(report) == KEYS
    assert (report["run"], report["state"], report["method"], report["seed"]) == ("mine", "finished", "nsp2", 3)
    assert (report["backbone"], report["stream"], report["device"]) == ("random-vit", "synthetic", "cpu")
    assert report["folder"] == str(runs / "mine")
    matrix = report["accuracy_matrix"]
    assert len(matrix) == 2 and matrix[0][1] is None and None not in matrix[1]
    assert report["final_average_accuracy"] == pytest.approx(sum(matrix[1]) / 2)
    assert report["forgetting"] == pytest.approx(matrix[0][0] - matrix[1][0])
    assert report["zero_shot"] is None and report["seconds"] > 0


def test_model_and_stream_are_built_once_and_what_cannot_be_built_still_leaves_no_folder(say, runs, monkeypatch):
    from cl_core.training import factory as building

    built, intact = [], building.Trainer
    monkeypatch.setattr(building, "Trainer", lambda *arguments: built.append(arguments) or intact(*arguments))
    tiny = ("--method", "sequential", "--backbone", "random-vit", "--stream", "synthetic", "--set", "epochs=1")
    assert say("run", *tiny, "--name", "once", "--set", "stream.tasks=2")[0] == 0 and len(built) == 1
    assert say("run", *tiny, "--name", "never", "--set", "stream.tasks=3")[0] == 2
    assert [folder.name for folder in runs.iterdir()] == ["once"]


def test_run_without_json_prints_the_matrix_and_the_measures_for_people(say):
    status, out, _ = say("run", "--method", "sequential", *TINY, "--name", "mine")
    assert status == 0
    for text in ("after \\ on", "T2", "final average accuracy", "forgetting", "plastiscope open"):
        assert text in out


def test_a_finished_run_is_listed_shown_and_not_trained_again(say):
    say("run", "--method", "sequential", *TINY, "--name", "mine")
    status, out, _ = say("list")
    assert status == 0 and "mine" in out and "finished" in out
    (row,) = json.loads(say("list", "--json")[1])
    status, out, _ = say("show", "mine", "--json")
    shown = json.loads(out)
    assert status == 0 and {k: shown[k] for k in row} == row
    assert (
        set(shown) == {*KEYS, "readouts", "reason", "config", "fork", "turned"}
        and shown["config"]["method"] == "sequential"
    )
    assert "task-incremental" in shown["readouts"]
    status, out, _ = say("show", "min")
    assert status == 0 and out.startswith("mine: finished")
    for command in ("resume", "stop", "pause"):
        status, out, err = say(command, "mine")
        assert (status, out) == (1, "") and "finished" in one_sentence(err)


def test_listing_nothing_says_how_to_begin(say):
    status, out, _ = say("list")
    assert status == 0 and "plastiscope run" in out
    assert json.loads(say("list", "--json")[1]) == []


def test_a_file_of_settings_is_used_and_options_win_over_it(say, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'method = "nsp2"\nbackbone = "random-vit"\nstream = "synthetic"\ndevice = "cpu"\nseed = 5\nname = "filed"\n'
        "[settings]\neta_affinity = 0.5\n[training]\nepochs = 2\nbatch_size = 100\n[stream_settings]\ntasks = 2\n"
    )
    status, out, _ = say("run", file, "--seed", 6, "--set", "epochs=1", "--json")
    assert status == 0 and json.loads(out.splitlines()[-1])["seed"] == 6
    config = json.loads(say("show", "filed", "--json")[1])["config"]
    assert (config["seed"], config["training"]["epochs"], config["training"]["batch_size"]) == (6, 1, 100)
    assert config["settings"]["eta_affinity"] == 0.5 and len(config["settings"]) > 10, "all of them are stored"


def test_a_failed_run_ends_with_one_and_one_sentence_and_its_report(say, monkeypatch):
    def loss(self, backbone, batch):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(Sequential, "loss", loss)
    status, out, err = say("run", "--method", "sequential", *TINY, "--name", "mine", "--json")
    assert status == 1 and "run mine failed: RuntimeError: the sky fell" in one_sentence(err)
    report = json.loads(out.splitlines()[-1])
    assert list(report) == KEYS and report["state"] == "failed" and report["final_average_accuracy"] is None
    shown = json.loads(say("show", "mine", "--json")[1])
    assert "the sky fell" in shown["reason"]
    monkeypatch.undo()


# ---------------------------------------------------------------- other processes


def process(*arguments, runs):
    environment = {**os.environ, "PLASTISCOPE_RUNS": str(runs)}
    command = [sys.executable, "-m", "cl_core", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_steps(runs, child, seconds=60):
    """Until a run below `runs` has trained a step; its folder."""
    deadline = time.monotonic() + seconds
    while True:
        assert child.poll() is None and time.monotonic() < deadline, child.stderr.read()
        for folder in list_runs(runs):
            with closing(RunReader(folder)) as reader:
                if reader.latest("StepEnded"):
                    return folder
        time.sleep(0.02)


def test_control_c_saves_and_resume_goes_on_to_the_same_end(say, runs):
    settings = [
        *TINY,
        "--set",
        "epochs=30",
        "--set",
        "diagnostics.attention=false",
        "--set",
        "diagnostics.readout=false",
    ]
    child = process("run", "--method", "sequential", *settings, "--name", "cut", "--json", runs=runs)
    try:
        wait_for_steps(runs, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 0 and "saving and stopping" in err and "plastiscope resume cut" in err
    assert "Traceback" not in err
    stopped = json.loads(out.splitlines()[-1])
    assert list(stopped) == KEYS and stopped["state"] == "stopped" and stopped["accuracy_matrix"][1] == [None, None]
    status, out, _ = say("resume", "cut", "--json")
    resumed = json.loads(out.splitlines()[-1])
    assert status == 0 and resumed["state"] == "finished"
    _, out, _ = say("run", "--method", "sequential", *settings, "--name", "whole", "--json")
    assert json.loads(out.splitlines()[-1])["accuracy_matrix"] == resumed["accuracy_matrix"]
