"""`plastiscope playground`: a table, JSON for programs, kept runs, one HTML file."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

SHORT = ("--tasks", "2", "--set", "epochs=2")


def test_json_holds_what_programs_need(say):
    status, out, _ = say("playground", "--rule", "gpm", "--energy", "0.9", "--seeds", "0,1", *SHORT, "--json")
    record = json.loads(out.strip().splitlines()[-1])
    assert status == 0 and {"rule", "stream", "tasks", "seconds", "results"} <= set(record)
    assert (record["rule"], record["stream"], record["tasks"]) == ("gpm", "permuted-digits", 2)
    assert [(r["energy"], r["seed"]) for r in record["results"]] == [(0.9, 0), (0.9, 1)]
    first = record["results"][0]
    matrix, free = first["accuracy_matrix"], first["free"]
    assert matrix[0][1] is None and 0 < matrix[1][0] <= 100
    assert first["final_average_accuracy"] == pytest.approx(sum(matrix[1]) / 2, abs=1e-3)
    assert first["learning_accuracy"] == pytest.approx((matrix[0][0] + matrix[1][1]) / 2, abs=1e-3)
    assert first["forgetting"] == pytest.approx(matrix[0][0] - matrix[1][0], abs=1e-3)
    assert len(free) == 2 and len(free[0]) == 3 and all(0 < share < 1 for row in free for share in row)


def test_a_frontier_is_a_table_with_its_best(say):
    status, out, _ = say("playground", "--frontier", "0,0.9,0.999", "--seeds", "0,1", "--tasks", "3")
    assert status == 0 and "mean ± sd over 2 seeds" in out
    rows = {line.split()[0]: line for line in out.splitlines() if re.match(r"\s+(0|0\.9|0\.999) ", line)}
    assert set(rows) == {"0", "0.9", "0.999"} and "±" in rows["0.9"]
    assert re.search(r"best energy: 0\.9, final average accuracy \d", out)


def test_every_rule_runs_and_a_threshold_a_layer(say):
    for rule in ("none", "sgp", "adam_nscl", "ewc", "replay", "joint"):
        status, out, _ = say("playground", "--rule", rule, *SHORT, "--set", "epochs=1", "--json")
        assert status == 0 and json.loads(out)["rule"] == rule.replace("_", "-")
    status, out, _ = say("playground", "--energy", "0,0.9,0.5", *SHORT, "--json")
    assert json.loads(out)["results"][0]["energy"] == [0, 0.9, 0.5]


def test_networks_are_kept_as_runs(say, runs):
    status, out, _ = say("playground", "--frontier", "0,0.9", *SHORT, "--keep", "pg")
    assert status == 0 and sorted(p.name for p in runs.iterdir()) == ["pg-0", "pg-0.9"]
    status, out, error = say("playground", "--frontier", "0,0.9", *SHORT, "--keep", "pg")
    assert status == 2 and "choose another name for --keep" in error, "refused before anything is trained"
    status, out, _ = say("show", "pg-0.9", "--json")
    assert status == 0 and json.loads(out)["state"] == "finished"


def test_the_web_page_needs_no_network(say, tmp_path):
    file = tmp_path / "page.html"
    status, out, _ = say("playground", "--frontier", "0,0.9", *SHORT, "--html", file)
    text = file.read_text("utf-8")
    assert status == 0 and str(file) in out
    assert not re.search(r"(src|href)=|@import|url\(|fetch\(|XMLHttpRequest", text), "everything is in the file"
    record = json.loads(re.search(r'id="record">(.*?)</script>', text, re.S)[1])
    assert set(record["stored"]) == {"0", "0.9"} and record["texts"] == ["0", "0.9"] and not record["trains"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "gpmm"), "Did you mean gpm?"),
        (("--stream", "permuted"), "unknown stream of the playground 'permuted'"),
        (("--energy", "2"), "energy is a share from 0 to 1, got 2"),
        (("--seeds", "a"), "--seeds takes whole numbers"),
        (("--seeds", ""), "--seeds takes whole numbers"),
        (("--frontier", "0.9,x"), "--frontier takes numbers"),
        (("--rule", "joint", "--frontier", "0.9"), "has no strength to choose"),
        (("--tasks", "1"), "tasks must lie in [2, 20]"),
        (("--set", "widht=3"), "Did you mean width?"),
        (("--rule", "ewc", "--energy", "0.5"), "has no energy threshold"),
        (("--energy", "0.5", "--set", "energy=0.9"), "say the same thing"),
        (("--energy", "0.5", "--frontier", "0.5,0.9"), "say the same thing"),
        (("--html", "/nowhere/at/all.html"), "there is no folder"),
        (("--keep", "../outside"), "--keep takes a plain folder name"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(say, arguments, said):
    status, out, error = say("playground", *arguments)
    assert status == 2 and said in error and "Traceback" not in error and not out


def test_it_needs_no_torch():
    program = "import sys; from cl_core.cli import main; main(['playground', '--tasks', '2', '--set', 'epochs=1']); " \
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
