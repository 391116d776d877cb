"""Presets and the tables of names: whatever can be named can be built, and a person's own words win over a preset's."""

import json
import subprocess
import sys

import pytest

from cl_core.config import ConfigError, RunConfig, from_mapping
from cl_core.presets import PRESETS, preset, resolve, starting_point
from cl_core.registry import BACKBONES, METHODS, STREAMS, load, lookup

TABLES = {"method": METHODS, "backbone": BACKBONES, "stream": STREAMS}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_run_whose_settings_its_method_accepts(name):
    config = resolve({"preset": name})
    assert config.preset == name == PRESETS[name].name
    for table, chosen in (("method", config.method), ("backbone", config.backbone), ("stream", config.stream)):
        assert lookup(TABLES[table], chosen, table)[0] == chosen
    kind = load(METHODS, config.method, "method").Config
    assert from_mapping(kind, config.settings, config.method) is not None
    assert json.loads(json.dumps(PRESETS[name].config)) == PRESETS[name].config, "plain values only"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_run_with_another_backbone_and_stream(name, tmp_path):
    from cl_core.training.factory import build

    if METHODS[PRESETS[name].config["method"]].needs not in ("", "vit"):
        pytest.skip("needs a backbone of another family")
    own = PRESETS[name].config["settings"]
    companion = {"companion": "random-clip"} if "companion" in own else {}
    elsewhere = {"backbone": "random-vit", "stream": "synthetic", "stream_settings": {"tasks": 5}}
    trainer = build(resolve({"preset": name, **elsewhere, "settings": companion, "device": "cpu"}))
    steps = trainer.total_steps
    assert steps > 0 or not trainer.method.groups(), "only who trains nothing by steps has none"


@pytest.mark.parametrize("table", TABLES)
def test_every_named_thing_exists_and_says_what_it_is(table):
    for name, entry in TABLES[table].items():
        assert callable(load(TABLES[table], name, table)) and entry.about
        assert lookup(TABLES[table], name.replace("-", "_"), table)[0] == name
        assert lookup(TABLES[table], name.replace("_", "-"), table)[0] == name


@pytest.mark.parametrize("table", TABLES)
def test_an_unknown_name_is_refused_with_the_nearest(table):
    name = next(iter(TABLES[table]))
    with pytest.raises(ConfigError, match=f"unknown {table} '{name}x'; known: .* Did you mean {name}?"):
        lookup(TABLES[table], name + "x", table)


@pytest.mark.parametrize("name", ["nsp2-paper", "sequential-paper"])
def test_the_authors_schedule_is_a_hundred_passes_with_decays_after_forty_and_seventy(name):
    training = resolve({"preset": name}).training
    assert training.epochs * training.repeats == 100 and training.batch_size == 256
    factors = [training.learning_rate_factor(epoch) for epoch in range(training.epochs)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_the_control_differs_from_the_method_in_its_projection_alone():
    method, control = resolve({"preset": "nsp2-micro"}), resolve({"preset": "nsp2-shrink-micro"})
    assert control.settings == {**method.settings, "projection": "shrink-only"}
    assert control.training == method.training


@pytest.mark.parametrize(
    ("arm", "method", "apart"),
    [
        ("gnsp-kd-micro", "gnsp-micro", {"project": "none", "alignment": 0.0}),
        ("gnsp-map-micro", "gnsp-micro", {"project": "none", "distillation": 0.0}),
        ("star-frozen-micro", "star-prompt-micro", {"companion": "none"}),
    ],
)
def test_an_arm_of_an_ablation_differs_from_its_method_in_what_it_names_alone(arm, method, apart):
    whole, part = resolve({"preset": method}), resolve({"preset": arm})
    assert part.settings == {**whole.settings, **apart}
    assert (part.training, part.stream, part.backbone) == (whole.training, whole.stream, whole.backbone)


def test_what_a_person_wrote_wins_over_the_preset_and_the_rest_is_kept():
    plain = resolve({"preset": "nsp2-micro"})
    mine = resolve({"preset": "nsp2-micro", "seed": 3, "settings": {"prompt_length": 5}, "training": {"epochs": 1}})
    assert (mine.seed, mine.settings["prompt_length"], mine.training.epochs) == (3, 5, 1)
    assert {**mine.settings, "prompt_length": 0} == {**plain.settings, "prompt_length": 0}
    assert mine.training.batch_size == plain.training.batch_size
    assert resolve({"preset": "nsp2-micro"}) == plain, "a preset is not changed by being used"


def test_a_method_on_the_embedded_backbone_starts_from_its_own_preset():
    assert resolve({"method": "nsp2"}) == resolve({"preset": "nsp2-micro"}) == starting_point("nsp2", "micro-vit")
    elsewhere = resolve({"method": "nsp2", "backbone": "random-vit"})
    assert elsewhere.preset == "" and elsewhere.settings == {}


def test_names_are_written_down_as_in_the_tables_however_they_were_spelled():
    config = resolve({"method": "nsp2", "backbone": "random_vit", "stream": "split_digits"})
    assert (config.method, config.backbone, config.stream) == ("nsp2", "random-vit", "split-digits")
    assert resolve({"preset": "nsp2_micro"}).preset == "nsp2-micro"


def test_a_complete_record_resolves_to_itself():
    for config in (resolve({"preset": "joint-micro"}), RunConfig("nsp2", backbone="random-vit", stream="synthetic")):
        assert resolve(config.to_dict()) == config


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({}, "a run needs a method"),
        ({"preset": "nsp2-mirco"}, "unknown preset 'nsp2-mirco'; .*Did you mean nsp2-micro"),
        ({"preset": 3}, "preset must be a name, got 3"),
        ({"method": 3}, "method must be a name, got 3"),
        ({"method": "nps2"}, "unknown method 'nps2'; .*Did you mean nsp2"),
        ({"method": "nsp2", "backbone": "micro-vt"}, "unknown backbone 'micro-vt'; .*Did you mean micro-vit"),
        ({"method": "nsp2", "stream": "split-digit"}, "unknown stream 'split-digit'; .*Did you mean split-digits"),
        ({"method": "nsp2", "training": 3}, r"\[training\] must be a table"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(record, sentence):
    with pytest.raises(ConfigError, match=sentence):
        resolve(record)


def test_a_method_refuses_a_backbone_of_another_family(monkeypatch):
    from dataclasses import replace

    from cl_core.training.factory import build

    monkeypatch.setitem(METHODS, "nsp2", replace(METHODS["nsp2"], needs="clip"))
    with pytest.raises(ConfigError, match="method nsp2 cannot use backbone random-vit; choose one of: "):
        build(RunConfig("nsp2", backbone="random-vit", stream="synthetic"))


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"settings": {"eta": 0.5}}, "unknown setting of nsp2 'eta'; .*Did you mean eta_mixture|eta_affinity"),
        ({"settings": {"eta_mixture": 2.0}}, r"eta_mixture must lie in \[0, 1\]"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, got 'tpu'"),
        ({"stream_settings": {"tasks": 3}}, "do not divide into 3 equal tasks"),
    ],
)
def test_settings_are_checked_before_anything_is_trained(others, sentence):
    from cl_core.training.factory import build

    with pytest.raises(ConfigError, match=sentence):
        build(resolve({"method": "nsp2", "backbone": "random-vit", "stream": "synthetic", **others}))


def test_naming_things_costs_no_torch():
    code = "import sys, cl_core.presets, cl_core.registry, cl_core.summary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_presets_are_found_by_name():
    assert preset("nsp2-micro") is PRESETS["nsp2-micro"]
