"""The Compare page: which runs are drawn over each other, when it refuses, and the sweep's form, progress and stop."""

from __future__ import annotations

import base64
import json
import sys
import time
from dataclasses import replace

import pytest

from cl_core.store import hold
from cl_core.sweeps import conducted_by, load
from cl_core.sweeps.spec import save, stop_file, sweep_folder
from dashboard import launch, method_settings, runs
from dashboard.comparison import meant, named, read
from dashboard.library import run_names
from dashboard.widgets.liveplot import figure_of
from tests import recorded_runs
from tests.dashboard.reading import opened, words
from tests.recorded_forks import forkable, forked
from tests.recorded_runs import Plan
from tests.recorded_sweep import softness, trade, write, write_run

ROWS = [
    {"name": "eta_affinity", "default": 0.97, "type": "float", "low": 0.0, "high": 1.0, "choices": None, "live": True,
     "help": "η₁", "unit": ""},
    {"name": "eta_mixture", "default": 0.97, "type": "float", "low": 0.0, "high": 1.0, "choices": None, "live": True,
     "help": "η₂", "unit": ""},
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick_settings(monkeypatch):
    monkeypatch.setattr(method_settings, "method_settings", lambda method: ROWS)


def said(app):
    return words(app).replace("\\", "")


def titles(app):
    return [figure["layout"]["meta"]["title"] for figure in map(figure_of, _drawn(app))]


def keys(app):
    return {button.key for button in app.button}


def bars(app):
    return "\n".join(p.proto.text for p in app.get("progress"))


def test_without_runs_it_says_what_appears_and_offers_a_sweep(open_page):
    app = open_page("compare")
    assert "as soon as there are two" in said(app) and "sweep-start" not in keys(app)
    assert "sweep-start" in keys(app.toggle(key="sweep-form").set_value(True).run())


def test_the_shown_run_and_another_of_its_stream_come_first(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "older", Plan(tasks=2))
    recorded_runs.finished(runs_folder, "other")
    recorded_runs.finished(runs_folder, "shown", Plan(method="sequential"))
    app = open_page("compare", run="shown")
    assert app.multiselect(key="runs").value == ["shown", "other"]
    assert "Difference of the two matrices" not in titles(app)
    assert "One seed each (0): which is better is undecided. They differ in method (nsp2 | sequential)" in said(app)
    (sentence,) = [part.value for part in app.markdown if "undecided" in part.value]
    assert "higher" not in sentence and "forgets less" not in sentence, "one seed decides nothing"
    assert titles(opened(app, "compare-cells")) == [
        "Stability and plasticity", "Average accuracy over tasks", "Forgetting over tasks",
        "Difference of the two matrices",
    ]  # fmt: skip


def test_one_run_is_drawn_and_another_asked_for(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "lonely")
    app = open_page("compare", run="lonely")
    assert "One run is chosen" in said(app) and "Difference of the two matrices" not in titles(app)


def test_different_streams_are_refused_in_a_sentence_and_settings_shown(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "two", Plan(tasks=2))
    recorded_runs.finished(runs_folder, "three")
    app = open_page("compare", run="two")
    app.multiselect(key="runs").set_value(["two", "three"]).run()
    assert not app.exception and "so their numbers cannot be compared" in said(app) and not titles(app)
    names = called()
    assert f"{names['two']}: split-digits, 2 tasks" in said(app)
    table = app.dataframe[-1].value
    assert list(table["setting"]) == ["stream.tasks"]
    assert list(table[names["two"]]) == ["2"] and list(table[names["three"]]) == ["3"]


def test_only_settings_that_differ_are_listed(runs_folder, open_page):
    for seed in (0, 1):
        recorded_runs.finished(runs_folder, f"seed{seed}", Plan(seed=seed))
    app = open_page("compare", run="seed0")
    assert list(app.dataframe[-1].value["setting"]) == ["seed"]


def test_more_than_six_runs_are_compared_and_the_difference_is_between_two_of_them(runs_folder, open_page):
    for seed in range(3):
        recorded_runs.finished(runs_folder, f"seed{seed}", Plan(seed=seed))
    app = open_page("compare", run="seed0")
    assert app.multiselect(key="runs").proto.max_selections == 30
    app.multiselect(key="runs").set_value(["seed0", "seed1", "seed2"]).run()
    opened(app, "compare-cells")
    assert app.session_state["difference"] == "seed0"
    assert app.session_state["minus"] == "seed1"
    app.session_state["difference"] = "seed1"
    app.run()
    assert not app.exception and app.session_state["minus"] == "seed0", "never a run minus itself"


def test_of_many_runs_the_first_six_have_curves_and_all_a_place_in_the_plane(runs_folder, open_page):
    for seed in range(8):
        recorded_runs.finished(runs_folder, f"seed{seed}", Plan(seed=seed))
    app = open_page("compare", run="seed0")
    app.multiselect(key="runs").set_value([f"seed{seed}" for seed in range(8)]).run()
    assert not app.exception and "Curves of the first 6 of 8 runs" in words(app)
    assert called()["seed7"] in app.dataframe[-1].value, "the table has all of them"


def test_a_run_that_is_not_there_is_said(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "here")
    app = open_page("compare", run="here")
    app.query_params["runs"] = ["here", "../secret"]
    app.run()
    assert not app.exception and "`../secret`" in said(app) and app.multiselect(key="runs").value == ["here"]


def _drawn(app):
    return [e.proto.bytes for e in app.get("bidi_component") if e.proto.bytes]


def called() -> dict[str, str]:
    """Folder → what its run is called."""
    return dict(run_names(runs.runs_index(fresh=True)))


def lines(app, title):
    """Folder → how many points its line has, in the figure with that title."""
    (figure,) = [f for f in map(figure_of, _drawn(app)) if f["layout"]["meta"]["title"] == title]
    folders = {name: folder for folder, name in called().items()}
    points = {t["name"]: len(base64.b64decode(t["y"]["bdata"])) // 4 for t in figure["data"]}  # float32
    return {folders.get(name, name): count for name, count in points.items()}


def test_the_past_that_a_run_shares_with_its_forks_is_drawn_once(runs_folder, open_page):
    parent = forkable(runs_folder)
    child = forked(parent, 2, "child", 30.0)
    forked(child, 1, "grandchild", 50.0)
    app = open_page("compare", run="whole")
    app.multiselect(key="runs").set_value(["grandchild", "child", "whole"]).run()
    assert not app.exception
    for title in ("Average accuracy over tasks", "Forgetting over tasks"):
        points = lines(app, title)
        first = title.startswith("Average")  # forgetting begins at T2
        assert points["whole"] == 2 + first and points["child"] == 2 and points["grandchild"] == 2 + first
        assert points["forks"] == 1 + first
    whole, child, grandchild = (called()[name] for name in ("whole", "child", "grandchild"))
    words = f"drawn once: {grandchild} leaves {whole} after T1; {child} leaves {whole} after T2."
    assert said(app).count(words) >= 2


def test_two_forks_without_their_parent_share_the_line_of_the_first(runs_folder, open_page):
    parent = forkable(runs_folder)
    forked(parent, 2, "one", 30.0)
    forked(parent, 2, "other", 50.0)
    app = open_page("compare", run="one")
    app.multiselect(key="runs").set_value(["other", "one"]).run()
    assert "eta_affinity (0.5 | 0.3)" in said(app), "in the order of the runs in the sentence"
    app.multiselect(key="runs").set_value(["one", "other"]).run()
    assert "eta_affinity (0.5 | 0.3)" in said(app)
    app.multiselect(key="runs").set_value(["other", "one"]).run()
    points = lines(app, "Average accuracy over tasks")
    assert points["other"] == 3 and points["one"] == 2
    one, other, whole = (called()[name] for name in ("one", "other", "whole"))
    assert f"{one} leaves {other} after T2, which carries the common part from {whole} for" in said(app)


def test_the_plane_holds_the_chosen_runs_and_no_others(runs_folder, open_page):
    parent = forkable(runs_folder)
    forked(parent, 2, "one", 30.0)
    recorded_runs.finished(runs_folder, "another", Plan(seed=1))
    app = open_page("compare", run="whole")

    def marks():
        (plane,) = [f for f in map(figure_of, _drawn(app)) if f["layout"]["meta"]["title"].startswith("Stability")]
        return {run for trace in plane["data"] for run, *_ in trace.get("customdata") or () if run}  # folders

    app.multiselect(key="runs").set_value(["whole", "one"]).run()
    assert marks() == {"whole", "one"} and "no fork" in str(_drawn(app)[0])
    table = app.dataframe[-1].value
    assert list(table[table["setting"] == "fork of"].iloc[0])[1:] == ["none", f"{called()['whole']} after T2"]
    app.multiselect(key="runs").set_value(["another"]).run()  # the shown run is the same
    assert marks() == {"another"}


def test_runs_that_are_no_forks_are_drawn_whole(runs_folder, open_page):
    for seed in (0, 1):
        recorded_runs.finished(runs_folder, f"seed{seed}", Plan(seed=seed))
    app = open_page("compare", run="seed0")
    points = lines(app, "Average accuracy over tasks")
    assert points == {"seed0": 3, "seed1": 3} and "drawn once" not in said(app)


@pytest.mark.parametrize("spelled", ["seed2,seed0", "seed2, seed0,", ["seed2,seed0", "seed2"]])
def test_a_link_names_runs_in_one_list_with_commas(runs_folder, open_page, spelled):
    for seed in range(3):
        recorded_runs.finished(runs_folder, f"seed{seed}", Plan(seed=seed))
    app = open_page("compare", run="seed1")
    app.query_params["runs"] = spelled
    app.run()
    assert not app.exception and app.multiselect(key="runs").value == ["seed2", "seed0"]
    app.multiselect(key="runs").set_value(["seed1"]).run()
    assert app.multiselect(key="runs").value == ["seed1"], "the list in the link does not come back"


def test_a_list_with_a_run_that_is_not_there_shows_the_others(runs_folder, open_page):
    recorded_runs.finished(runs_folder, "here")
    app = open_page("compare", run="here")
    app.query_params["runs"] = "nowhere,here,"
    app.run()
    assert app.multiselect(key="runs").value == ["here"] and "Not in" in said(app) and "`nowhere`" in said(app)


def test_a_name_with_a_comma_is_itself(runs_folder):
    recorded_runs.finished(runs_folder, "a,b")
    recorded_runs.finished(runs_folder, "a")
    index = runs.RunIndex(runs_folder, runs_folder / "none")
    assert named(["a,b", "a , c", ""], index) == ["a,b", "a", "c"]


def test_a_sweep_is_drawn_with_its_frontier_and_the_best_within_a_budget(runs_folder, open_page):
    write(runs_folder, softness())
    app = open_page("compare", sweep="softness")
    (plane,) = [figure_of(e.proto.bytes) for e in app.get("bidi_component") if e.proto.bytes][:1]
    assert [t["name"] for t in plane["data"] if t["name"].startswith("eta")] == [
        f"eta_affinity+eta_mixture {v}" for v in ("0", "0.5", "1")
    ]
    app.toggle(key="compare-limited").set_value(True).run()
    app.number_input(key="compare-budget").set_value(20.0).run()
    assert not app.exception and "eta_affinity+eta_mixture 0.5 learns most (80.5 ± 0.7 %)" in said(app)


def test_a_sweep_of_another_stream_than_the_chosen_runs_is_drawn_alone(runs_folder, open_page):
    write(runs_folder, softness())
    recorded_runs.finished(runs_folder, "three")
    app = open_page("compare", sweep="softness", runs=["three"])
    assert "until then the sweep is drawn alone" in said(app) and "the sweep: split-digits, 2 tasks" in said(app)
    assert titles(app) == ["Stability and plasticity"]


def test_a_readout_that_was_not_measured_is_said(runs_folder, open_page):
    write(runs_folder, softness())
    app = open_page("compare", sweep="softness", readout="stored statistics")
    assert "under the readout stored statistics" in said(app)


def test_a_half_finished_sweep_says_how_far_it_is_and_why_runs_failed(runs_folder, open_page):
    first, second, *_ = softness().points
    write_run(runs_folder, first, trade(first))
    write_run(runs_folder, second, [], "failed", "loss became NaN")
    save(softness(), runs_folder)
    app = open_page("compare", sweep="softness")
    assert "1 of 6 runs are finished; the rest are not running" in said(app) and "loss became NaN" in said(app)
    assert app.button(key="sweep-resume").label == "Train the remaining 5"
    opened(app, "sweep-form")  # then it stands below the form, and only there
    assert app.button(key="sweep-resume").label == "Train the remaining 5"
    assert [e.value for e in app.error if "loss became NaN" in e.value]


def test_a_conducted_sweep_shows_its_progress_and_can_be_stopped(runs_folder, open_page):
    first, *_ = softness().points
    write_run(runs_folder, first, trade(first))
    save(softness(), runs_folder)
    with hold(sweep_folder(runs_folder, "softness")):
        app = open_page("compare", sweep="softness")
        assert "1 of 6 runs finished" in bars(app) and "sweep-resume" not in keys(app)
        app.button(key="sweep-stop").click().run()
        assert stop_file(runs_folder, "softness").exists()
    assert conducted_by(runs_folder, "softness") is None


def test_the_form_starts_the_command_that_it_shows(monkeypatch, runs_folder, open_page):
    script = "import sys, time; print(sys.argv[1:]); sys.stdout.flush(); time.sleep(30)"
    monkeypatch.setattr(launch, "SWEEPER", (sys.executable, "-c", script))
    recorded_runs.finished(runs_folder)
    app = open_page("compare")
    app.toggle(key="sweep-form").set_value(True).run()
    app.selectbox(key="sweep-also-nsp2-eta_affinity").set_value("eta_mixture").run()
    app.text_input(key="sweep-values-nsp2-eta_affinity").set_value("0.5, 1").run()
    app.text_input(key="sweep-seeds").set_value("0,1").run()
    app.text_input(key="sweep-others").set_value("epochs=2 stream=synthetic device=cpu").run()
    assert app.button(key="sweep-start").label == "Start the sweep of 4 runs"
    app.number_input(key="sweep-workers").set_value(1).run()
    shown = next(c.value for c in app.caption if "In a terminal" in c.value)
    app.button(key="sweep-start").click().run()
    try:
        assert not app.exception and launch.sweeping(runs_folder, "nsp2-eta_affinity-eta_mixture")
        log = launch.output_of(runs_folder, "nsp2-eta_affinity-eta_mixture")
        end = time.monotonic() + 20
        while not (lines := launch.last_lines(log)) and time.monotonic() < end:
            time.sleep(0.05)
        options = ["--method", "nsp2", "--grid", "eta_affinity+eta_mixture=0.5,1", "--seeds", "0,1", "--workers", "1"]
        options += ["--set", "epochs=2", "--stream", "synthetic", "--device", "cpu"]
        options += ["--name", "nsp2-eta_affinity-eta_mixture"]
        assert lines == [str([*options, "--runs", str(runs_folder.resolve())])]
        assert " ".join(options) in shown
    finally:
        for child, _ in launch._CHILDREN.values():
            child.kill()
            child.wait()


def test_the_form_says_what_cannot_be_meant(runs_folder, open_page):
    recorded_runs.finished(runs_folder)
    app = open_page("compare")
    app.toggle(key="sweep-form").set_value(True).run()
    app.text_input(key="sweep-seeds").set_value("a").run()
    assert "Seeds are whole numbers" in said(app) and "sweep-start" not in keys(app)


def test_a_worker_that_ends_at_once_leaves_its_last_words(monkeypatch, runs_folder, open_page):
    monkeypatch.setattr(launch, "SWEEPER", (sys.executable, "-c", "import sys; sys.exit('eta is too large')"))
    recorded_runs.finished(runs_folder)
    app = open_page("compare")
    app.toggle(key="sweep-form").set_value(True).run()
    app.button(key="sweep-start").click().run()
    end = time.monotonic() + 20
    while launch.sweeping(runs_folder, "nsp2-eta_affinity") and time.monotonic() < end:
        time.sleep(0.05)
    app.run()
    assert not app.exception and "ended before the sweep began" in said(app)
    assert any("eta is too large" in shown.value for shown in app.code)


def test_a_damaged_sweep_is_said_and_the_page_stays(runs_folder, open_page):
    write(runs_folder, replace(softness(), seeds=(0,)))
    (runs_folder / ".sweeps" / "softness" / "sweep.json").write_text(json.dumps({"format": 1}))
    app = open_page("compare", sweep="softness")
    assert "damaged" in said(app) and load(runs_folder, "another") is None


def test_a_click_means_a_run_or_all_seeds_of_a_setting():
    runs = {"eta 0.5": ["a", "b"]}
    assert meant({"custom": ["a", "eta 0.5"]}, runs) == ["a"]
    assert meant({"custom": ["", "eta 0.5"]}, runs) == ["a", "b"]
    assert meant({"custom": None}, runs) == [] == meant({"custom": ["", "another"]}, runs)


def test_what_is_remembered_of_a_run_goes_with_its_files(runs_folder):
    point = softness().points[0]
    folder = write_run(runs_folder, point, trade(point))
    assert read(folder).matrix().shape == (2, 2)  # reading leaves SQLite's own files beside it
    assert read(folder) is read(folder)
    assert read(folder).matrix("stored statistics").size == 0
    folder.config_file.write_text("{")
    assert read(folder) is None
