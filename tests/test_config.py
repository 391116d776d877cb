"""Settings are checked where they are written down, and each refusal is one sentence with the way out."""

import json
from dataclasses import dataclass, replace

import pytest

from cl_core.config import (
    FORMAT,
    ConfigError,
    DiagnosticsConfig,
    RunConfig,
    TrainingConfig,
    check_settings,
    describe,
    from_mapping,
    nearest,
    parse_value,
    setting,
)


@dataclass(frozen=True)
class Example:
    share: float = setting(0.5, low=0.0, high=1.0, help="a share", live=True)
    count: int = setting(3, low=1, help="a count")
    rule: str = setting("elbow", choices=("elbow", "energy"), help="a rule")
    strict: bool = setting(False, help="a switch")
    at: tuple = setting((), help="places")

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"share": 1.5}, r"share must lie in \[0, 1\], got 1.5"),
        ({"share": float("nan")}, r"share must lie in \[0, 1\], got nan"),
        ({"count": 0}, r"count must lie in \[1, ∞\], got 0"),
        ({"count": 2.0}, "count must be int, got 2.0"),
        ({"count": True}, "count must be int, got True"),
        ({"strict": 1}, "strict must be bool, got 1"),
        ({"share": "half"}, "share must be float, got 'half'"),
        ({"rule": "knee"}, "rule must be one of elbow, energy, got 'knee'"),
        ({"shard": 0.5}, "unknown setting of an example 'shard'; known: .*Did you mean share"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_name_bound_and_value(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_mapping(Example, settings, "an example")


def test_settings_at_their_bounds_whole_numbers_for_shares_and_hyphens_are_accepted():
    made = from_mapping(Example, {"share": 1, "count": 1, "at": [1, 2]}, "an example")
    assert (made.share, made.count, made.at) == (1, 1, (1, 2))
    assert from_mapping(TrainingConfig, {"batch-size": 8}, "training").batch_size == 8


def test_settings_are_described_once_for_command_line_and_forms():
    rows = {row["name"]: row for row in describe(Example)}
    assert rows["share"]["default"] == 0.5 and rows["share"]["type"] == "float" and rows["share"]["live"]
    assert (rows["share"]["low"], rows["share"]["high"], rows["share"]["help"]) == (0.0, 1.0, "a share")
    assert rows["rule"]["choices"] == ("elbow", "energy") and not rows["rule"]["live"]


def test_the_nearest_name_is_offered_only_if_one_is_near():
    assert nearest("nps2", ["joint", "nsp2"], "method") == (
        "unknown method 'nps2'; known: joint, nsp2. Did you mean nsp2?"
    )
    assert "Did you mean" not in nearest("zzz", ["joint", "nsp2"], "method")


def test_a_run_survives_being_written_as_json_and_read_again():
    config = RunConfig(
        "nsp2",
        seed=7,
        name="one",
        settings={"eta_affinity": 0.5, "sides": "both"},
        training=TrainingConfig(epochs=3, milestones=(1, 2)),
        diagnostics=DiagnosticsConfig.off(),
    )
    record = json.loads(json.dumps(config.to_dict()))
    assert record["format"] == FORMAT
    assert RunConfig.from_dict(record) == config


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({}, "a run needs a method; `plastiscope methods` lists them"),
        ({"method": 3}, "method must be str, got 3"),
        ({"method": "nsp2", "sed": 1}, "unknown setting of a run 'sed'; .*Did you mean seed"),
        ({"method": "nsp2", "seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
        ({"method": "nsp2", "seed": 2**32}, "seed must be a whole number from 0"),
        ({"method": "nsp2", "training": 3}, r"\[training\] must be a table of settings, got 3"),
        ({"method": "nsp2", "settings": 3}, "settings must be dict, got 3"),
        ({"method": "nsp2", "training": {"epoch": 3}}, "unknown setting of training 'epoch'; .*Did you mean epochs"),
        ({"method": "nsp2", "training": {"milestones": [2, 1]}}, "milestones must be rising whole numbers"),
        ({"method": "nsp2", "training": {"milestones": [0]}}, "milestones must be rising whole numbers ≥ 1"),
        (
            {"method": "nsp2", "stream_settings": {"evaluate_on": "train"}},
            "evaluate_on must be one of test, validation",
        ),
        ({"method": "nsp2", "format": FORMAT + 1}, "written by a newer Plastiscope"),
    ],
)
def test_a_run_that_cannot_be_meant_is_refused_in_one_sentence(record, sentence):
    with pytest.raises(ConfigError, match=sentence) as raised:
        RunConfig.from_dict(record)
    assert "\n" not in str(raised.value)


def test_the_learning_rate_falls_at_every_milestone():
    training = TrainingConfig(epochs=6, milestones=(2, 4), decay=0.5)
    assert [training.learning_rate_factor(epoch) for epoch in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert TrainingConfig().learning_rate_factor(100) == 1


@pytest.mark.parametrize(
    ("pair", "where", "value"),
    [
        ("training.epochs=3", lambda c: c.training.epochs, 3),
        ("epochs=3", lambda c: c.training.epochs, 3),
        ("batch-size=8", lambda c: c.training.batch_size, 8),
        ("milestones=[1, 3]", lambda c: c.training.milestones, (1, 3)),
        ("stream.tasks=2", lambda c: c.stream_settings.tasks, 2),
        ("stream_settings.evaluate_on=validation", lambda c: c.stream_settings.evaluate_on, "validation"),
        ("diagnostics.drift=false", lambda c: c.diagnostics.drift, False),
        ("eta_affinity=0.5", lambda c: c.settings, {"kept": 1, "eta_affinity": 0.5}),
        ("settings.rule=energy", lambda c: c.settings, {"kept": 1, "rule": "energy"}),
    ],
)
def test_dotted_overrides_reach_their_section_and_bare_ones_the_method(pair, where, value):
    config = RunConfig("nsp2", settings={"kept": 1})
    assert where(config.with_overrides([pair])) == value
    assert config == RunConfig("nsp2", settings={"kept": 1}), "the original stays"


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("epochs", "--set takes key=value, got 'epochs'"),
        ("=3", "--set takes key=value"),
        ("trainig.epochs=3", "unknown section 'trainig'; .*Did you mean training"),
        ("training.epoch=3", "unknown setting of training 'epoch'; .*Did you mean epochs"),
        ("training.epochs=many", "epochs must be int, got 'many'"),
        ("training.epochs=0", r"epochs must lie in \[1, 1000\], got 0"),
        ("stream.tasks=2.5", "tasks must be int, got 2.5"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused_in_one_sentence(pair, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RunConfig("nsp2").with_overrides([pair])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("elbow", "elbow"),
        ('"3"', "3"),
        ("null-space", "null-space"),
    ],
)
def test_values_on_the_command_line_are_read_as_toml_else_as_text(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


def test_a_toml_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*absent.toml: No such file"):
        RunConfig.record_from_toml(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("method = ")
    with pytest.raises(ConfigError, match=r"broken.toml is not valid TOML"):
        RunConfig.record_from_toml(broken)
    broken.write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match=r"broken.toml is not valid TOML"):
        RunConfig.record_from_toml(broken)


def test_a_run_is_frozen():
    with pytest.raises(AttributeError):
        RunConfig("nsp2").seed = 3
    assert replace(RunConfig("nsp2"), seed=3).seed == 3
