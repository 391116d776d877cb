"""Questions: each names runs that can be built, finds them again, and never answers from others."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from cl_core.config import ConfigError, from_mapping
from cl_core.presets import PRESETS, resolve
from cl_core.questions import QUESTIONS, answered, config_of, finished_runs, known_runs, question
from cl_core.registry import METHODS, load
from cl_core.store import RunFolder, RunWriter, create_run
from tests.recorded_question_runs import weight, write

NAMES = [
    "nusa-orthogonality", "nusa-rho", "nusa-persistence", "nusa-directions", "nusa-saturation", "nusa-cost",
    "nusa-similar", "gnsp-gap", "gnsp-rho", "gnsp-losses", "star-selection", "star-drifting", "star-residual",
    "star-mixture", "star-components",
    "star-clip", "star-companion",
    "fwd-spaces", "fwd-domains", "fwd-residual", "fwd-pretrained", "fwd-random", "fwd-epsilon", "fwd-orders",
    "fwd-pool", "fwd-similarity", "nsp2-baseline", "nsp2-ablation", "nsp2-eta", "nsp2-eta-released", "nsp2-adaptive",
    "nsp2-exact", "nsp2-norm", "nsp2-attention", "splitlora-protection", "splitlora-gain", "codecl-protection",
    "codecl-held", "mgclip-stop", "mgclip-head", "clip-refine-forgetting",
]  # fmt: skip
PAIR = "nusa-persistence"


def test_the_questions_are_these():
    assert list(QUESTIONS) == NAMES and all(name == asked.name for name, asked in QUESTIONS.items())


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_a_question_has_settings_that_its_method_accepts(name):
    asked = question(name)
    assert asked.title.endswith("?") and len(asked.why) > 60 and len(set(asked.labels)) == len(asked.labels)
    configs = [config_of(asked, label, seed=3) for label in asked.labels]
    for config in configs:
        assert from_mapping(load(METHODS, config.method, "method").Config, config.settings, config.method)
        assert config.group == f"question {name}" and config.name.startswith(name)
    assert [c.seed for c in configs] == [3 + int(record.get("seed", 0)) for _, record in asked.runs]
    assert len({config.name for config in configs}) == len(configs)
    assert len({str(replace(config, name="")) for config in configs}) == len(configs), "no two runs are the same"


def test_runs_of_two_questions_and_seeds_have_names_of_their_own():
    named = [config_of(q, label, seed=seed).name for q in QUESTIONS.values() for label in q.labels for seed in (0, 1)]
    assert len(named) == len(set(named))
    assert config_of(question("nusa-rho"), "rho 0.95", seed=2, device="cpu").name == "nusa-rho-rho-0.95-seed-2-cpu"


def test_an_unknown_question_or_run_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown question 'nusa-roh'; known: .* Did you mean nusa-rho?"):
        question("nusa-roh")
    with pytest.raises(ConfigError, match=r"unknown run of question nusa-rho 'rho 0.96'; .* Did you mean rho 0.95?"):
        config_of(question("nusa-rho"), "rho 0.96")


def test_how_long_a_question_takes_is_what_its_presets_took_for_as_many_tasks(monkeypatch):
    took = PRESETS["nusa-cl-micro"].seconds
    assert question(PAIR).seconds == 2 * took
    assert question("nusa-rho").seconds == pytest.approx(5 * took * 2 / 6), "two tasks of the preset's six"
    monkeypatch.setitem(PRESETS, "nusa-cl-micro", replace(PRESETS["nusa-cl-micro"], seconds=None))
    assert question(PAIR).seconds is None


def test_only_finished_runs_with_exactly_these_settings_count(tmp_path):
    asked = question(PAIR)
    write(tmp_path, PAIR, "every step", weight(), rows=[[1, 2], [3, 4]], end="failed")
    assert finished_runs(asked, tmp_path) == {}
    assert {label: state for label, (_, state) in known_runs(asked, tmp_path).items()} == {"every step": "failed"}
    write(tmp_path, PAIR, "every step", weight(), rows=[[1, 2], [3, 4]], seed=1)
    assert finished_runs(asked, tmp_path) == {} and list(finished_runs(asked, tmp_path, seed=1)) == ["every step"]
    for change in ({"device": "cpu"}, {"settings": {"rate": 0.5}}, {"training": {"epochs": 1}}):
        record = {**config_of(asked, "initial only").to_dict(), "name": next(iter(change))}
        settings = {k: {**record[k], **v} if isinstance(v, dict) else v for k, v in change.items()}
        finish(create_run(tmp_path, resolve({**record, **settings})))
    assert "initial only" not in known_runs(asked, tmp_path)


def test_a_run_of_another_name_or_group_with_these_settings_counts_and_a_finished_one_goes_before_a_newer(tmp_path):
    asked = question(PAIR)
    config = config_of(asked, "every step")
    finish(create_run(tmp_path, replace(config, name="by hand", group="mine")))
    create_run(tmp_path, config)
    assert finished_runs(asked, tmp_path)["every step"].name == "by hand"


def test_the_settings_of_a_run_are_read_once_however_often_a_page_looks(tmp_path, monkeypatch):
    asked = question(PAIR)
    folder = create_run(tmp_path, config_of(asked, "every step"))
    read, look = [], RunFolder.config
    monkeypatch.setattr(RunFolder, "config", lambda self: read.append(self.name) or look(self))
    for _ in range(3):
        assert "every step" in known_runs(asked, tmp_path)
    assert len(read) == 1
    record = json.loads(folder.config_file.read_text("utf-8"))
    folder.config_file.write_text(json.dumps({**record, "seed": 5}), "utf-8")
    assert "every step" not in known_runs(asked, tmp_path), "changed settings are read anew"


def test_runs_count_from_every_folder_and_however_often_the_readouts_control_was_measured(tmp_path):
    asked = question(PAIR)
    config = config_of(asked, "initial only")
    finish(
        create_run(
            tmp_path / "shipped", replace(config, diagnostics=replace(config.diagnostics, readout_control="every"))
        )
    )
    write(tmp_path / "own", PAIR, "every step", weight(), rows=[[1, 2], [3, 4]])
    assert list(finished_runs(asked, tmp_path / "own", tmp_path / "shipped")) == ["every step", "initial only"]


def finish(folder):
    from cl_core.events import Clock, StateChanged

    writer = RunWriter(folder)
    writer.append([StateChanged(Clock(), "finished")])
    writer.close()


def test_what_cannot_be_read_is_passed_over(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    write(tmp_path, PAIR, "every step", weight(), rows=[[1, 2], [3, 4]])
    assert list(finished_runs(question(PAIR), tmp_path)) == ["every step"]


def test_without_runs_nothing_is_answered(tmp_path):
    found = answered(question(PAIR), tmp_path / "nowhere", seeds=range(3))
    assert found.text() == "Not answered yet: no run is finished." and found.verdict == "undecided"


def test_part_of_the_runs_give_numbers_and_no_verdict(tmp_path):
    for seed in range(3):
        write(tmp_path, PAIR, "every step", weight(), rows=[[90, 40], [80, 85]], seed=seed)
    found = answered(question(PAIR), tmp_path, seeds=range(3))
    assert found.text().startswith("No verdict yet (3 runs missing). Seeds 0, 1, 2; mean ± sd.")
    assert "- raises Transfer: not measured" in found.text() and "every step  40.0 ± 0.0" in found.text()


def test_one_seed_has_numbers_and_no_verdict(tmp_path):
    for label, last in (("every step", 85), ("initial only", 80)):
        write(tmp_path, PAIR, label, weight(), rows=[[90, 40], [80, last]])
    found = answered(question(PAIR), tmp_path, seeds=[0])
    assert found.sentence() == (
        "No verdict yet, seed 0: raises Transfer: 0.0 pp (asked for at least 1 pp); raises Last: +2.5 pp (asked for at "
        "least 1 pp)."
    )
    assert found.text().startswith("No verdict yet (1 of 3 seeds). Seed 0.\n")


@pytest.mark.parametrize("name", ["star-mixture", "star-components", "star-clip"])
def test_questions_about_features_have_their_observer_switched_on(name):
    """Mixtures and likeness within classes come from the observer that `spectra` switches on."""
    assert all(config_of(question(name), label).diagnostics.spectra for label in question(name).labels)


def test_asking_costs_no_torch():
    code = "import sys, cl_core.questions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
