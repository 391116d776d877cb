"""Avalanche: `csvlogs/eval_results.csv` (with `training_results.csv` beside it) and text logs.

A CSV line is `eval_exp,training_exp,eval_accuracy,eval_loss,forgetting`, experiences from 0, accuracies from 0 to 1;
evaluations before training have None as training experience. In a text log, accuracies are written as
`Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp001 = 0.8710` below the line that names the phase.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.interop.result import (
    Asked,
    Loss,
    Result,
    first_of,
    headline_readout_of,
    in_percent,
    matrix,
    names_of,
    scenario_of,
    text_of,
)

HEAD = ["eval_exp", "training_exp", "eval_accuracy"]
METRIC = re.compile(
    r"^\s*Top1_Acc_Exp/eval_phase/(?P<stream>\w+?)_stream(?:/Task(?P<task>\d+))?/Exp(?P<exp>\d+) = "
    r"(?P<value>[-+.\deE]+)\s*$"
)
NAME = re.compile(r"Top1_Acc_Exp/eval_phase/(?P<stream>\w+?)_stream(?:/Task(?P<task>\d+))?/Exp(?P<exp>\d+)")
TRAINING, EVALUATION = "-- >> Start of training phase << --", "-- >> Start of eval phase << --"
STARTS_ON = re.compile(r"^-- Starting training on experience (?P<exp>\d+)")
LOSS = re.compile(r"^\s*Loss_Epoch/train_phase/train_stream\S* = (?P<value>[-+.\deE]+)\s*$")

Cells = dict[tuple[int, int], float]


def fits(path: Path) -> bool:
    if path.is_dir():
        return first_of(path, ("eval_results.csv", "csvlogs/eval_results.csv")) is not None
    try:
        with path.open("rb") as file:
            start = file.read(200_000).decode("utf-8", errors="replace")
    except OSError:
        return False
    return start.startswith(",".join(HEAD)) or EVALUATION in start or bool(NAME.search(start))


def read(path: Path, asked: Asked) -> Result:
    """Read the folder of a CSVLogger, its eval_results.csv, or a TextLogger's file."""
    if path.is_dir():
        path = first_of(path, ("eval_results.csv", "csvlogs/eval_results.csv")) or path
    text = text_of(path)
    return _csv(path, text, asked) if text.startswith(",".join(HEAD)) else _log(path, text, asked)


def _csv(path: Path, text: str, asked: Asked) -> Result:
    cells: Cells = {}
    replaced, last = 0, -1
    for number, line in enumerate(csv.DictReader(io.StringIO(text)), 2):
        try:
            on = int(line["eval_exp"])
            after = -1 if line["training_exp"].strip() in ("None", "") else int(line["training_exp"])
            value = float(line["eval_accuracy"])
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"line {number} of {path.name} is no line of Avalanche's CSVLogger ({error})") from error
        if after < last:
            raise ConfigError(
                f"line {number} of {path.name} goes back to training experience {after}: the file holds more than one "
                "training; keep the lines of one"
            )
        last = max(last, after)
        replaced += (after, on) in cells
        cells[after, on] = value
    notes = ["Read as Avalanche's CSVLogger writes it: experiences from 0."]
    if replaced:
        notes.append(f"{replaced} cells were evaluated again after the same experience; the newest counts.")
    losses, more = _training(path.with_name("training_results.csv"))
    return _result(path, cells, asked, "", notes + more, losses)


def _training(path: Path) -> tuple[list[Loss], list[str]]:
    """Return mean training losses of epochs, because Avalanche does not log single steps. It writes 0 if unmeasured."""
    if not path.is_file():
        return [], []
    found: list[Loss] = []
    for line in csv.DictReader(io.StringIO(text_of(path))):
        try:
            task, epoch, value = int(line["training_exp"]), int(line["epoch"]), float(line["training_loss"])
        except (TypeError, ValueError, KeyError):
            return [], [f"{path.name} was not read: it is no file of Avalanche's CSVLogger."]
        if value != 0:
            found.append(Loss(len(found), task, value, epoch))
    said = "Losses are means over epochs: a step on the loss curve is an epoch." if found else ""
    return found, [said] if said else []


def _log(path: Path, text: str, asked: Asked) -> Result:
    cells: Cells = {}
    labels: dict[int, int] = {}
    losses: list[Loss] = []
    after, streams, phase = -1, set(), ""
    for line in text.splitlines():
        if TRAINING in line:
            phase = "training"
        elif EVALUATION in line:
            phase = "evaluation"
        elif found := STARTS_ON.match(line):
            if int(found["exp"]) < after:
                raise ConfigError(
                    f"{path.name} goes back to experience {found['exp']} after {after}: it holds more than one "
                    "training; keep the lines of one"
                )
            after = int(found["exp"])
        elif phase == "training" and (found := LOSS.match(line)):
            losses.append(Loss(len(losses), after, float(found["value"])))
        elif (found := METRIC.match(line)) and phase != "training":
            streams.add(found["stream"])
            if found["stream"] == "test" or "test" not in streams:
                cells[after, int(found["exp"])] = float(found["value"])
                labels[int(found["exp"])] = int(found["task"] or 0)
    if not cells:
        raise ConfigError(
            f"{path.name} holds no line Top1_Acc_Exp/eval_phase/…; switch it on with "
            "accuracy_metrics(experience=True) in the EvaluationPlugin"
        )
    told = "task-incremental" if len(set(labels.values())) > 1 else ""
    notes = ["Read as Avalanche's TextLogger writes it."]
    if told:
        notes.append("The names of its metrics carry a task label of their own for every experience.")
    if losses:
        notes.append("Losses are means over epochs: a step on the loss curve is an epoch.")
    return _result(path, cells, asked, told, notes, losses)


def _result(path: Path, cells: Cells, asked: Asked, told: str, notes: list[str], losses: list[Loss]) -> Result:
    scenario = scenario_of(asked, told, notes, path.name)
    tasks = max(max(on, after) for after, on in cells) + 1
    cells = in_percent(cells, asked, notes, told="share")
    rows, before = matrix(cells, tasks, scenario, asked, notes)
    return Result(
        "Avalanche",
        path.name,
        scenario,
        names_of(asked, tasks, notes),
        {headline_readout_of(scenario): rows},
        before,
        [loss for loss in losses if 0 <= loss.task < tasks],
        notes=notes,
    )
