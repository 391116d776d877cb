"""A run says what it was trained with for ever: every setting is stored, and runs that stored only what differed get
the defaults of their version."""

from __future__ import annotations

import json

import pytest

from bench.method_defaults import current, descriptions
from cl_core import method_defaults
from cl_core.config import RunConfig
from cl_core.method_defaults import DESCRIBED, FILE, as_first_written
from cl_core.presets import PRESETS, resolve
from cl_core.registry import METHODS
from cl_core.store import RunFolder, create_run
from cl_core.sweeps.pareto import differing, settings_of


def test_the_table_is_what_the_code_says():
    *_, newest = json.loads(FILE.read_text("utf-8")).values()
    assert newest == json.loads(json.dumps(current())), "run `python -m bench.method_defaults` and look at what changed"
    assert set(newest["methods"]) == {name for name, entry in METHODS.items() if not entry.origin}
    assert json.loads(DESCRIBED.read_text("utf-8")) == json.loads(json.dumps(descriptions()))


def test_a_page_asks_no_process_for_settings_of_the_packages_methods(monkeypatch):
    from dashboard import method_settings

    def refuse(*_, **__):
        raise AssertionError("a process was asked")

    monkeypatch.setattr(method_settings.subprocess, "run", refuse)
    assert {row["name"] for row in method_settings.settings_of("nsp2")} == set(current()["methods"]["nsp2"])


@pytest.fixture
def other_defaults(monkeypatch):
    """A later version, in which a default is another one and a setting was added."""
    first = json.loads(FILE.read_text("utf-8"))["0.1.0"]
    later = json.loads(json.dumps(first))
    later["methods"]["nsp2"] |= {"eta_affinity": 0.123, "added": 1}
    later["run"]["training"]["epochs"] = 77
    monkeypatch.setattr(method_defaults, "_versions", lambda: [first, later])
    return first["methods"]["nsp2"]


def old_run(tmp_path, **settings):
    """A run as it was stored before everything was written out."""
    folder = RunFolder(tmp_path / "old")
    folder.path.mkdir()
    folder.config_file.write_text(json.dumps({"format": 1, "method": "nsp2", "settings": settings}))
    return folder


def test_every_setting_is_written_out(tmp_path):
    folder = create_run(tmp_path, RunConfig("nsp2", settings={"eta-affinity": 0.25}))
    stored = json.loads(folder.config_file.read_text())["settings"]
    assert stored == {**current()["methods"]["nsp2"], "eta_affinity": 0.25}
    assert folder.config().own_settings() == {"eta_affinity": 0.25}


def test_a_changed_default_changes_nothing_that_an_old_run_says(tmp_path, other_defaults):
    config = old_run(tmp_path, rule="energy").config()
    assert (
        config.settings == {**other_defaults, "rule": "energy"}
        and config.training.epochs == RunConfig("x").training.epochs
    )
    assert settings_of(config)["eta_affinity"] == other_defaults["eta_affinity"]
    made = create_run(tmp_path, RunConfig("nsp2", name="new")).config()
    assert made.settings["eta_affinity"] == 0.123 and made.settings["added"] == 1


@pytest.mark.parametrize(
    ("method", "setting", "before"),
    [("split_lora", "scaling", "none"), ("fwd_prompt", "accumulation", "every direction")],
)
def test_a_run_from_before_a_rule_changed_says_the_rule_it_was_trained_by(tmp_path, method, setting, before):
    made = create_run(tmp_path, RunConfig(method, name="new"))
    assert made.config().settings[setting] != before
    stored = json.loads(made.config_file.read_text())
    del stored["settings"][setting]
    made.config_file.write_text(json.dumps(stored))
    assert made.config().settings[setting] == before


def test_runs_that_stored_less_or_more_are_the_same_run(tmp_path):
    asked = RunConfig("nsp2", settings={"rule": "energy"})
    usual = current()["methods"]["nsp2"]["eta_affinity"]
    told = RunConfig("nsp2", settings={"rule": "energy", "eta_affinity": usual})
    prints = {
        config.fingerprint() for config in (asked, told, asked.completed(), old_run(tmp_path, rule="energy").config())
    }
    assert len(prints) == 1 and RunConfig("nsp2").fingerprint() not in prints


def test_a_method_that_is_not_ours_keeps_the_settings_it_was_given(tmp_path):
    config = RunConfig("mine", settings={"a": 1})
    assert config.completed() == config and create_run(tmp_path, config).config() == config
    assert as_first_written({"method": ["no", "name"]})["settings"] == {}


def test_a_preset_says_the_same_before_and_after_it_is_stored():
    config = resolve({"preset": next(iter(PRESETS))})
    assert settings_of(config.completed()) == settings_of(config)


def test_what_only_one_of_two_methods_has_is_told_where_it_was_changed():
    changed = settings_of(RunConfig("nsp2", settings={"eta_affinity": 0.25}))
    assert differing([changed, settings_of(RunConfig("joint"))]) == ["method", "eta_affinity"]
