"""The report of a run: what is in it, what is not, and what it never gives away."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from cl_core.config import RunConfig, StreamConfig
from cl_core.events import AccuracyMeasured, Clock, KnobTurned, PicturesSkipped, RunFailed, RunStarted, StateChanged
from dashboard.figures.catalogue import FIGURES, Figure, contents, in_report
from dashboard.figures.event_arrays import accuracies
from dashboard.report import document, facts, report
from dashboard.run_log import RunLog, Snapshot
from dashboard.summary_metrics import numbers_of, so_far
from tests import (
    recorded_clip_runs,
    recorded_forks,
    recorded_pool_runs,
    recorded_rare_runs,
    recorded_runs,
    recorded_subspace_runs,
)
from tests.invented_run import Plan
from tests.recording import ENVIRONMENT, recorded

SHOWN = Figure.shown
VOID = {"meta", "br", "img", "input", "link", "hr"}
RUNS = {
    "finished": (recorded_runs.finished, {"accuracy", "training", "room", "updates", "attention"}),
    "unmeasured": (recorded_runs.unmeasured, {"accuracy", "training"}),
    "stopped": (recorded_runs.stopped, {"accuracy", "training", "room", "updates", "attention"}),
    "waiting": (recorded_runs.waiting, set()),
    "damaged-events": (recorded_runs.damaged_events, set()),
    "clip-begun": (recorded_clip_runs.begun, {"accuracy", "gap"}),
    "clip-unsaid": (recorded_clip_runs.unsaid, {"accuracy", "training", "gap"}),
    "clip-written": (recorded_clip_runs.written, {"accuracy", "training", "weights", "gap"}),
    "clip-protected": (recorded_clip_runs.protected, {"accuracy", "training", "room", "updates", "weights", "gap"}),
    "pool": (lambda runs, name: recorded_pool_runs.record(runs, name), {"accuracy", "pools"}),
    "spaces": (lambda runs, name: recorded_subspace_runs.written(runs, name=name), {"subspaces"}),
    "rare": (recorded_rare_runs.finished, {"accuracy", "room", "pools", "mixtures", "other"}),
}
FRAME = {"content", "numbers", "settings"}
LIBRARY = document._library


class Page(HTMLParser):
    """A page taken apart; complains of tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.places: list[tuple[str, str]] = []  # what could be fetched: (attribute, value)
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        known = dict(attrs)
        self.ids += [known["id"]] if "id" in known else []
        self.places += [
            (key, value or "") for key, value in attrs if key in ("src", "href", "data", "action", "srcset")
        ]
        assert not [key for key in known if key.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        (self.scripts if self.open[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def drawn(self) -> list[dict]:
        return [json.loads(part) for part in self.scripts if part.startswith('{"data"')]


@pytest.fixture(autouse=True)
def without_the_library(monkeypatch):
    """Five megabytes that say nothing here."""
    monkeypatch.setattr(document, "_library", lambda: "")


def log_of(folder) -> Snapshot:
    return RunLog(folder).snapshot(force=True)


@pytest.mark.parametrize("name", RUNS)
def test_a_report_holds_what_was_measured_and_no_more(name, tmp_path, monkeypatch):
    drawn = Counter()

    def counted(log, part):
        made = list(in_report(log, part))
        drawn[part.title] += len(made)
        return made

    monkeypatch.setattr(document, "in_report", counted)
    make, expected = RUNS[name]
    log = log_of(make(tmp_path, name))
    text = report(log, described=[])
    page = Page(text)
    assert {i for i in page.ids if not i.startswith("figure-")} - FRAME == expected
    assert len(page.ids) == len(set(page.ids))
    assert all(figure["data"] for figure in page.drawn) and len(page.drawn) == sum(drawn.values())
    promised = [part.title for _, parts in contents(log) for part in parts]
    assert set(promised) == {title for title, count in drawn.items() if count}, "a part was promised and drew nothing"
    assert not re.search(r"\\[a-zA-Z]{2,}", page.text), "a formula was not understood"
    assert all(value.startswith("#") for _, value in page.places)
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", text, re.I), "an address of another host"
    assert all(f["config"]["showSendToCloud"] is False and not f["config"]["plotlyServerURL"] for f in page.drawn)
    measured = log.events(AccuracyMeasured)
    for number, value, _ in numbers_of(accuracies(measured)):
        if value != "–":
            assert re.search(rf"({number}|{so_far(number)}) {re.escape(value)}", page.text), (number, value)
    if not [e for e in measured if e.clock.task >= 0]:
        assert "No accuracy has been measured" in page.text


def test_the_library_is_in_the_file_and_ends_no_script_early(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "_library", LIBRARY)
    text = report(log_of(recorded_runs.unmeasured(tmp_path)), described=[])
    assert 4e6 < len(text) < 6e6
    page = Page(text)
    assert any("plotly.js" in part[:500] for part in page.scripts)
    assert all(value.startswith("#") for _, value in page.places)


HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "<a href='https://evil.example/x'>cat</a>",
    "<b>bold & </b>",
)


def hostile(runs):
    """A run that calls everything by names that would like to be markup, trained from a private place."""
    secret = "folder:/home/anna/secret place/cats"
    config = RunConfig(
        method="sequential", stream=secret, name="hostile", stream_settings=StreamConfig(tasks=2), settings={}
    )
    tasks = [{"name": HOSTILE[t], "classes": list(HOSTILE[2 * t : 2 * t + 2]), "train": 1, "test": 1} for t in (0, 1)]
    backbone = {"name": "micro-vit", "depth": 2, "width": 4}
    reason = "cannot read /home/anna/secret place/cats/7.jpg (<b>no</b>); see /home/anna/notes.txt"
    return recorded(
        runs,
        config,
        [
            (
                RunStarted(Clock(), tasks, "class-incremental", 2, 4, 1, backbone, ENVIRONMENT),
                PicturesSkipped(Clock(), 2, ["<i>7</i>.jpg: not a picture", "cat/8.jpg: empty"]),
                StateChanged(Clock(), "running"),
            ),
            (AccuracyMeasured(Clock(0, 0, 1), "class-incremental", [90.0, None]),),
            (KnobTurned(Clock(1, 0, 2), "<u>rate</u>", 1, 2),),
            (RunFailed(Clock(1, 0, 2), reason), StateChanged(Clock(1, 0, 2), "failed", reason)),
        ],
    )


@pytest.fixture(autouse=True)
def failing_figures_fail_the_test(monkeypatch):
    monkeypatch.setattr(Figure, "shown", Figure.drawn)


def test_a_figure_that_cannot_be_drawn_is_named_and_the_others_are_there(tmp_path, monkeypatch):
    def draw(run, **controls):
        raise ValueError("![x](http://example.org/x.png)")

    monkeypatch.setattr(Figure, "shown", SHOWN)
    monkeypatch.setitem(FIGURES, "accuracy-matrix", replace(FIGURES["accuracy-matrix"], draw=draw))
    page = Page(report(log_of(recorded_runs.finished(tmp_path)), described=[]))
    assert "This figure cannot be drawn from the events of this run (ValueError)." in page.text
    assert "example.org" not in page.text and len(page.drawn) > 5


def test_names_from_a_run_stay_names(tmp_path):
    text = report(log_of(hostile(tmp_path)), described=[])
    page = Page(text)
    assert all(value.startswith("#") for _, value in page.places)
    assert len(page.scripts) - len(page.drawn) == 1  # the page's own; the library is left out here
    for name in HOSTILE:
        assert name in page.text or name[:18] in page.text
    assert "alert(1)</script>" not in text and "<img" not in text and "<u>rate" not in text and "<i>7" not in text
    drawn = json.dumps(page.drawn)
    assert "<a " not in drawn and "&lt;a " in drawn


def test_a_report_names_folders_and_never_where_they_lie(tmp_path):
    text = report(log_of(hostile(tmp_path)), described=[])
    assert "folder:cats" in text and "7.jpg" in text and "notes.txt" in text
    for part in ("/home", "anna", "secret place", str(tmp_path)):
        assert part not in text, part


def test_what_to_keep_in_mind_is_said(tmp_path):
    said = Page(report(log_of(hostile(tmp_path)), described=[])).text
    assert "This run failed: 0 of 2 tasks learned" in said and "those so far" in said
    assert "2 files of the stream could not be used" in said and "cat/8.jpg: empty" in said
    assert "2 of 3 cells of the accuracy matrix" in said
    assert "was changed from 1 to 2" in said
    well = log_of(recorded_runs.finished(tmp_path, "well"))
    assert facts.warnings(well) == [] and not facts.unfinished(well)


def test_a_fork_says_whose_it_is(tmp_path):
    parent = recorded_forks.forkable(tmp_path)
    log = log_of(recorded_forks.forked(parent, 1, "fork", 50.0))
    told = dict(facts.about(log))
    assert told["Parent"].startswith("fork of whole after T1")


def test_settings_that_differ_are_marked_and_the_usual_value_stands_beside(tmp_path):
    plan = Plan()
    config = replace(
        plan.config,
        name="odd",
        settings={**plan.config.settings, "scale": "plain"},
        training=replace(plan.config.training, epochs=7),
    )
    log = log_of(recorded(tmp_path, config, []))
    described = [
        {"name": "prompt_length", "default": 8, "help": "how many"},
        {"name": "scale", "default": "released", "help": "how large"},
        {"name": "untold", "default": 0.25, "help": "nobody named it"},
    ]
    groups = dict(facts.settings(log, described))
    method, training = ({s.name: s for s in groups[g]} for g in ("Method", "Training"))
    assert method["prompt_length"].differs and method["prompt_length"].source == "preset"  # 4 here, 8 in nsp2-micro
    assert not method["scale"].differs  # the preset's own
    assert method["untold"].value == "0.25" and not method["untold"].differs
    assert training["epochs"].differs and (training["epochs"].value, training["epochs"].usual) == ("7", "5")
    text = report(log, described=described)
    assert re.search(r'class="differs"><th scope="row">epochs</th><td>7</td><td>preset: 5</td>', text)


def test_a_matrix_is_a_table_with_empty_cells_where_nothing_was_measured(tmp_path):
    log = log_of(recorded_runs.stopped(tmp_path))
    heads, rows = facts.matrix_rows(log)
    matrix = accuracies(log.events(AccuracyMeasured), rows=3)
    assert len(heads) == 3 and [name for name, _ in rows] == ["T1", "T2", "T3"]
    assert np.array_equal(np.array([values for _, values in rows]), matrix, equal_nan=True)
    cells = re.findall(
        r"<td[^>]*>([^<]*)</td>", report(log, described=[]).split('<table class="cells">')[1].split("</table>")[0]
    )
    assert cells.count("") == 1 + int(np.isnan(matrix).sum())


def test_a_run_that_learned_all_at_once_has_no_numbers_over_time(tmp_path):
    tasks = [{"name": f"T{i + 1}", "classes": ["a", "b"], "train": 1, "test": 1} for i in range(3)]
    backbone, end = {"name": "x", "depth": 2, "width": 4}, Clock(2, 0, 2)
    moments = [
        (RunStarted(Clock(), tasks, "class-incremental", 1, 3, 1, backbone, ENVIRONMENT),),
        (AccuracyMeasured(end, "class-incremental", [90.0, 80.0, 70.0]), StateChanged(end, "finished")),
    ]
    log = log_of(recorded(tmp_path, RunConfig(method="joint", name="joint"), moments))
    assert [(m.name, m.value) for m in facts.numbers(log)] == [("Final average accuracy", "80.0 %")]
    assert facts.matrix_rows(log)[1] == [("all tasks", [90.0, 80.0, 70.0])]
    assert "learned at once" in Page(report(log, described=[])).text


@pytest.mark.parametrize(("total", "said"), [(12, "one after the other, 12 steps"), (0, "one after the other")])
def test_steps_that_nobody_planned_are_not_counted_as_none(total, said):
    tasks = [{"name": f"T{t + 1}", "classes": ["a"], "train": 1, "test": 1} for t in range(2)]
    plan = RunStarted(Clock(), tasks, "class-incremental", 2, total, 1, {"name": "x"}, ENVIRONMENT)
    assert facts._length(plan).endswith(said)
