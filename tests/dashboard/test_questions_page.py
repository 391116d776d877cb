"""The Questions page: states of the runs, the button that trains what is missing, and the answer."""

from __future__ import annotations

import json
import sys
import time

from cl_core.questions import QUESTIONS, merged, stored
from cl_core.store import StoreError
from dashboard import launch, runs
from tests import recorded_runs
from tests.dashboard.reading import figures, foot, words
from tests.recorded_question_runs import weight, write

NAME = "nusa-persistence"
ROWS = [[90, 60], [80, 88]]


def said(app):
    return words(app).replace("\\", "")


def open_buttons(app):
    return [button for button in app.button if (button.key or "").startswith("question-open-")]


def test_a_question_without_runs_says_why_it_is_asked_and_how_to_get_them(runs_folder, open_page):
    app = open_page("questions", question=NAME)
    asked = QUESTIONS[NAME]
    assert asked.title in said(app) and asked.why in said(app)
    assert "every step: not started" in said(app) and "initial only: not started" in said(app)
    assert app.button(key="question-start").label == "Train the 2 missing runs"
    assert f"`plastiscope ask {NAME} --seed 0`" in said(app)
    assert "The answer appears here when its runs are finished" in said(app)


def test_every_question_can_be_chosen(runs_folder, open_page):
    app = open_page("questions")
    for name, asked in QUESTIONS.items():
        app.selectbox(key="question").set_value(name).run()
        assert not app.exception and asked.title in said(app), name


def test_one_finished_run_gives_a_part_of_the_answer_and_names_the_missing_one(runs_folder, open_page):
    write(runs_folder, NAME, "every step", weight(), rows=ROWS)
    app = open_page("questions", question=NAME)
    whole = said(app).replace("\N{NO-BREAK SPACE}", " ")
    assert "No verdict yet, seed 0: no criterion has all of its runs." in whole
    assert "| every step | 60.0 | 84.0 |" in whole and "initial only: not started" in whole
    assert app.button(key="question-start").label == "Train the missing run"


def test_all_finished_runs_give_the_answer_and_nothing_is_left_to_train(runs_folder, open_page):
    for label in QUESTIONS[NAME].labels:
        write(runs_folder, NAME, label, weight(), rows=ROWS)
    app = open_page("questions", question=NAME)
    assert "No verdict yet, seed 0: raises Transfer: 0.0 pp (asked for at least 1 pp)" in said(app)
    assert said(app).count("raises Last: 0.0 pp") == 1, "said once"
    assert "question-start" not in {button.key for button in app.button}


def test_runs_of_another_seed_are_found_with_that_seed(runs_folder, open_page):
    write(runs_folder, NAME, "every step", weight(), rows=ROWS, seed=4)
    app = open_page("questions", question=NAME)
    assert "every step: not started" in said(app)
    app.number_input(key="question-seed").set_value(4).run()
    assert not app.exception and "No verdict yet, seed 4:" in said(app)


def test_the_shelf_shows_how_far_each_question_is_and_opens_it(runs_folder, open_page):
    write(runs_folder, NAME, "every step", weight(), rows=ROWS)
    app = open_page("questions")
    picks = {b.key.removeprefix("question-pick-"): b for b in app.button if (b.key or "").startswith("question-pick-")}
    assert list(picks) == list(QUESTIONS)
    assert picks[NAME].help == f"{NAME}: 1 of 2 runs finished"
    assert picks["nusa-cost"].help == "nusa-cost: 1 of 1 runs finished", "it asks for the same run"
    assert picks["gnsp-gap"].help == "gnsp-gap: 0 of 3 runs finished"
    picks[NAME].click().run()
    assert not app.exception and QUESTIONS[NAME].why in said(app)
    assert app.selectbox(key="question").value == NAME


def test_recordings_that_come_with_the_program_count(monkeypatch, tmp_path, runs_folder, open_page):
    write(tmp_path / "recordings", NAME, "initial only", weight(), rows=ROWS)
    monkeypatch.setattr(runs, "recordings_folder", lambda: tmp_path / "recordings")
    app = open_page("questions", question=NAME)
    assert "No verdict yet, seed 0:" in said(app) and "every step: not started" in said(app)


def test_three_seeds_give_a_verdict_tables_and_a_figure(runs_folder, open_page, monkeypatch, tmp_path):
    """Seeds 0 and 1 are runs, seed 2 is stored: staying keeps 20 points of Last and of Transfer more in each."""
    asked = QUESTIONS[NAME]
    for seed in (0, 1):
        for label, last in zip(asked.labels, (90, 70), strict=True):
            write(runs_folder, NAME, label, weight(), rows=[[95, last - 40 + seed], [last + seed, last]], seed=seed)
    by_label = {label: {"Last, %": last, "Transfer, %": last - 40.0} for label, last in zip(asked.labels, (91.0, 71.0))}
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(merged({}, asked, {2: by_label})))
    monkeypatch.setattr(stored, "answers_file", lambda: file)
    app = open_page("questions", question=NAME)
    assert not app.exception and "Seeds 0, 1, 2; mean ± sd." in said(app)
    assert app.button(key=f"question-pick-{NAME}").help.endswith("runs finished; numbers stored of seed 2")
    whole = said(app).replace("\N{NO-BREAK SPACE}", " ")
    assert "Yes, over 3 seeds: raises Transfer: yes; raises Last: yes." in said(app)
    assert "| raises Last | at least 1 pp | +20.0 ± 0.0 pp | yes |" in whole
    assert "| every step | 50.7 ± 0.6 | 90.5 ± 0.5 |" in whole
    figure = figures(app)["Transfer, run by run"]
    assert [trace["name"] for trace in figure["data"]][1::2] == list(asked.labels)
    app = open_page("questions", question=NAME, measure="Last, %")
    assert not app.exception and "Last, run by run" in figures(app)


def test_a_stored_verdict_counts_as_an_answer(open_page, monkeypatch, tmp_path):
    asked, file = QUESTIONS[NAME], tmp_path / "answers.json"
    numbers = {label: {"Last, %": 90.0 - k, "Transfer, %": 50.0 - k} for k, label in enumerate(asked.labels)}
    monkeypatch.setattr(stored, "answers_file", lambda: file)
    for seeds, told in (((0, 1), 0), ((0, 1, 2), 1)):
        file.write_text(json.dumps(merged({}, asked, dict.fromkeys(seeds, numbers))))
        app = open_page("questions", question=NAME)
        (shelf,) = [part.label for part in app.expander if " answered" in part.label and part.proto.expanded]
        assert f"· {told} of " in shelf
        assert ("check_circle" in app.button(key=f"question-pick-{NAME}").icon) == bool(told)


def test_a_run_is_opened_on_the_run_page(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "another")
    write(runs_folder, NAME, "every step", weight(), rows=ROWS)
    app = open_page("questions", question=NAME)
    (button,) = open_buttons(app)
    button.click().run()
    assert not app.exception
    assert foot(app).selectbox(key="run").value == "nusa-persistence-every-step"
    assert "Losses" in said(app) or "nusa_cl" in said(app)


def test_the_button_starts_a_worker_that_asks(monkeypatch, runs_folder, open_page):
    script = "import sys, time; print(sys.argv[1:]); sys.stdout.flush(); time.sleep(30)"
    monkeypatch.setattr(launch, "ASKER", (sys.executable, "-c", script))
    app = open_page("questions", question=NAME)
    app.button(key="question-start").click().run()
    try:
        assert not app.exception and launch.asking(runs_folder, NAME)
        assert "question-start" not in {button.key for button in app.button}, "one worker a question"
        end = time.monotonic() + 10
        while not (lines := launch.last_lines(launch.question_log(runs_folder, NAME))) and time.monotonic() < end:
            time.sleep(0.05)
        assert lines == [str([NAME, "--runs", str(runs_folder.resolve()), "--seed", "0"])]
        try:
            launch.ask(runs_folder, NAME)
            raise AssertionError("a second worker was started")
        except StoreError as error:
            assert "being worked on already" in str(error)
    finally:
        for child, _ in launch._CHILDREN.values():
            child.kill()
            child.wait()


def test_a_worker_that_ends_early_leaves_its_last_words_on_the_page(monkeypatch, runs_folder, open_page):
    monkeypatch.setattr(launch, "ASKER", (sys.executable, "-c", "import sys; sys.exit('no such preset')"))
    app = open_page("questions", question=NAME)
    app.button(key="question-start").click().run()
    end = time.monotonic() + 10
    while launch.asking(runs_folder, NAME) and time.monotonic() < end:
        time.sleep(0.05)
    app.run()
    assert not app.exception and "ended before all runs were finished" in said(app)
    assert any("no such preset" in shown.value for shown in app.code)


def test_a_run_in_training_is_shown_as_such(runs_folder, open_page):
    folder = write(runs_folder, NAME, "every step", weight(), rows=ROWS, end="running")
    with recorded_runs.held(folder):
        app = open_page("questions", question=NAME)
        assert "running" in said(app) and "0 of 2 runs finished" in "\n".join(p.proto.text for p in app.get("progress"))
        assert "question-start" not in {button.key for button in app.button}


def test_a_damaged_finished_run_is_said_and_the_page_stays(runs_folder, open_page, monkeypatch):
    folder = write(runs_folder, NAME, "every step", weight(), rows=ROWS)
    app = open_page("questions", question=NAME)
    folder.database.write_bytes(b"no database" * 500)
    app.run()
    assert not app.exception and QUESTIONS[NAME].title in said(app)


def test_an_unwritable_runs_folder_is_said(monkeypatch, tmp_path, open_page):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PLASTISCOPE_RUNS", str(tmp_path / "file"))
    assert "annot list runs" in said(open_page("questions", question=NAME))
