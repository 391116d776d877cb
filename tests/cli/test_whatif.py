"""`plastiscope whatif`: a table or JSON from a stored run, without training and without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cl_core.cli import main
from tests import recorded_clip_runs, recorded_runs


@pytest.fixture
def say(tmp_path, capsys):
    """`say("finished", "--energy", 0.9)` → (exit status, standard output, standard error)."""
    runs = tmp_path / "runs"
    recorded_runs.finished(runs)
    recorded_runs.unmeasured(runs)
    recorded_clip_runs.written(runs)

    def run(*arguments):
        try:
            status = main(["whatif", *map(str, arguments), "--runs", str(runs)])
        except SystemExit as ended:
            status = ended.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def rows(out: str, space: str = "affinity") -> list[dict]:
    return next(table["layers"] for table in json.loads(out)["spaces"] if table["space"] == space)


def test_more_energy_leaves_fewer_directions(say):
    status, less, _ = say("finished", "--energy", 0.8, "--json")
    _, more, _ = say("finished", "--energy", 0.99, "--json")
    assert status == 0
    for few, many in zip(rows(more), rows(less), strict=True):
        assert few["nullity"] < many["nullity"] and few["passed"] < many["passed"]
        assert few["interference"] <= many["interference"] and few["protected_rank"] == 16 - few["nullity"]


def test_the_table_says_what_it_is(say):
    status, out, _ = say("finished", "--energy", 0.9, "--layer", 2, "--space", "affinity")
    assert status == 0 and "computed from stored spectra and updates, not retrained" in out
    assert "after T2: energy 0.9, η 0.97 instead of knee, η 0.97" in out and "sum of the steps that T3 proposed" in out
    assert len([line for line in out.splitlines() if line.strip().startswith("2 ")]) == 1 and "mixture" not in out


def test_settings_are_moved_by_name_and_said_for_a_fork(say):
    status, out, _ = say(
        "finished", "--task", 1, "--set", "energy-affinity=0.97", "--set", "eta_affinity=0.5", "--json"
    )
    table = next(t for t in json.loads(out)["spaces"] if t["space"] == "affinity")
    assert status == 0 and table["after_task"] == 1 and table["threshold"] == "energy 0.97, η 0.5"
    assert table["settings"] == {"rule": "energy", "energy_affinity": 0.97, "eta_affinity": 0.5}


def test_weights_take_rho_and_r_max_also_before_the_first_task(say):
    status, out, _ = say("clip-written", "--task", 0, "--set", "r_max=2", "--json")
    assert status == 0 and {r["nullity"] for r in rows(out, "image.q")} == {2}
    assert json.loads(out)["spaces"][0]["after_task"] == 0 and rows(out, "image.q")[0]["passed"] is None


def test_the_common_axis_needs_no_rule(say):
    _, out, _ = say("finished", "--free", 0.5, "--json")
    assert {r["nullity"] for r in rows(out)} == {8} and {r["nullity"] for r in rows(out, "mixture")} == {2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["finished", "--energy", "1.5"], "must lie in [0, 1], got 1.5"),
        (["finished", "--task", "9"], "nothing was measured after T9; known: T1, T2"),
        (["finished", "--energy", "0.9", "--layer", "7"], "no layer 7; it has 1, 2, 3"),
        (["finished", "--space", "weights", "--knee"], "no space 'weights'; it has affinity, mixture"),
        (["finished", "--set", "energy_afinity=0.9"], "Did you mean energy_affinity?"),
        (["finished", "--set", "rule=energy", "--energy", "0.9"], "give one of them"),
        (["finished", "--set", "energy_affinity"], "takes key=value"),
        (["unmeasured", "--energy", "0.9"], "has no spectra"),
    ],
)
def test_bad_usage_is_one_sentence(say, arguments, words):
    status, out, err = say(*arguments)
    assert status == 2 and out == "" and words in err
    assert len(err.strip().splitlines()) == 1 and err.startswith("plastiscope: ")


def test_an_unknown_run_fails(say):
    status, _, err = say("nobody", "--energy", "0.9")
    assert status == 1 and "no run 'nobody'" in err


def test_nothing_is_trained_and_torch_stays_out(say, tmp_path):
    program = (
        "import sys; from cl_core.cli import main; "
        f"status = main(['whatif', 'finished', '--energy', '0.9', '--runs', {str(tmp_path / 'runs')!r}]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120).returncode == 0
