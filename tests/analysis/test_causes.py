"""Runs that are made to forget for a known reason: ledger, patching and command name it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from dataclasses import replace

import torch

from cl_core.analysis import measured_later
from cl_core.analysis.image_paths import evenly, nearest_means, plane_paths
from cl_core.analysis.ledger import COMPETE, LOST, images, ledger, statistics_ledger, with_later
from cl_core.analysis.patching import block_of, locate, mixed
from cl_core.analysis.reading import Measured
from cl_core.analysis.verdict import verdict, where
from cl_core.backbones.io_types import Adaptation, BlockIntervention, LowRank, ModelEdit, PrependedTokens
from cl_core.cli import main
from cl_core.config import ConfigError
from cl_core.store import RunFolder, StoreError, create_run
from cl_core.training.worker import drive
from tests.analysis.built_to_forget import LAYER, three_runs


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory, tiny_config):
    """Reason → a run of two tasks that has forgotten its first for it."""
    with three_runs(tmp_path_factory.mktemp("runs"), tiny_config) as found:
        yield found


@pytest.mark.parametrize(("reason", "cause"), [("heads", COMPETE), ("features", LOST)])
def test_the_ledger_names_the_reason_and_its_parts_add_up(forgotten, reason, cause):
    measured = Measured.of(forgotten[reason])
    cell = ledger(measured.rows, 0, 1)
    assert cell.drop > 20 and cell.cause == cause
    assert sum(cell.parts.values()) == pytest.approx(cell.drop, abs=0.05)
    assert cell.parts[cause] == pytest.approx(cell.drop, abs=10), "and nothing else is to blame"
    found = measured.images(0, 1)
    assert cause in {found.why(i) for i in found.lost.nonzero()[0]}
    said = verdict(cell, measured.rows, found, measured.names)
    assert f"mainly {cause}" in said and ("features still separable" in said) == (reason == "heads")


def test_patching_finds_the_one_block_and_the_command_says_so(forgotten, capsys):
    folder = forgotten["layer"]
    found = locate(folder, 0, 1)
    best = max(found["layers"], key=lambda row: row["alone"])
    assert best["layer"] == LAYER + 1 and best["alone"] == pytest.approx(found["then"] - found["now"])
    others = [row for row in found["layers"] if row is not best]
    assert all(abs(row["alone"]) < 1e-6 for row in others)
    assert [row["up_to"] for row in found["layers"]] == [0, best["alone"]]
    assert found["body"] == best["alone"] and found["head"] == 0
    assert f"block {LAYER + 1} alone" in where(found) and "it is this block" in where(found)
    assert measured_later.read(folder, 0, 1) == json.loads(json.dumps(found))
    assert main(["why", "layer", "--task", "1", "--after", "2", "--json", "--runs", str(folder.path.parent)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(record) == ["task", "after", "readout", "then", "now", "drop", "parts", "cause", "layers", "steps"]
    assert record["layers"] == [{"layer": row["layer"], "recovered": row["alone"]} for row in found["layers"]]


def test_patching_finds_the_heads_where_features_stay(forgotten):
    found = locate(forgotten["heads"], 0, 1)
    assert found["body"] == 0 and all(row["alone"] == row["up_to"] == 0 for row in found["layers"])
    assert found["head"] == 0, "what wins are the new task's scores, not the old ones'"
    assert "no part" in where(found)


def test_what_patching_refits_is_what_the_run_measured(forgotten):
    for reason in ("heads", "features"):
        folder = forgotten[reason]
        rows = Measured.of(folder).rows
        run, later = ledger(rows, 0, 1), locate(folder, 0, 1)["refit"]
        assert list(run.levels["R"]) == pytest.approx(later)
        bare = {name: table for name, table in rows.items() if name != "refitted head"}
        assert ledger(bare, 0, 1).parts[LOST] is None
        assert ledger(with_later(bare, 0, 1, {"refit": later}), 0, 1).parts == pytest.approx(run.parts)


def test_what_was_fitted_later_splits_the_statistics_and_names_the_images(forgotten):
    for reason in ("heads", "features"):
        folder = forgotten[reason]
        measured, later = Measured.of(folder), locate(folder, 0, 1)
        run = statistics_ledger(with_later(measured.rows, 0, 1, later), 0, 1)
        assert None not in run.parts.values() and sum(run.parts.values()) == pytest.approx(run.drop)
        assert later["recomputed"][1] == pytest.approx(measured.rows["recomputed statistics"][1][0])
        newest = measured.answers(0)[1]
        for name, (_, now) in later["answers"].items():
            assert now == newest.predicted[newest.readouts.index(name)].tolist()
        with_none = {
            moment: replace(event, readouts=event.readouts[:1]) for moment, event in measured.answers(0).items()
        }
        labels = measured.stored(0).labels
        bare, full = images(with_none, labels, 0, 1), images(with_none, labels, 0, 1, later)
        assert not len(bare.of_part(LOST)) and 100 * full.of_part(LOST).mean() == pytest.approx(
            later["refit"][0] - later["refit"][1]
        )


def test_an_image_whose_features_stay_stays_where_it_was_among_the_classes(forgotten):
    found = locate(forgotten["heads"], 0, 1)["paths"]
    kept = measured_later.read(forgotten["heads"], 0, 1)["paths"]
    assert kept == json.loads(json.dumps(found)) and found["after"] == [1, 2]
    labels = Measured.of(forgotten["heads"]).stored(0).labels
    for row, rival, path, near in zip(found["rows"], found["rival"], found["path"], found["nearest"], strict=True):
        assert path[0] == path[1] and path[0][2] == pytest.approx(0, abs=1e-3)
        assert rival != labels[row] and rival >= 2, "what wins are the new task's classes"
        assert near[0][0] in near[1], "the same means, and those of the new task beside them"
    moved = locate(forgotten["features"], 0, 1)["paths"]["path"]
    assert any(path[0] != path[1] for path in moved)


def test_the_plane_holds_both_means_and_the_image_as_it_was_learned():
    means = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 0, 0]])
    then, now = torch.tensor([[1.0, 2, 0], [0, 0, 0]]), torch.tensor([[2.0, 0, 4], [2, 0, 0]])
    path = plane_paths(torch.stack([then, now]), means, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert path[:, 0].tolist() == [[0.5, 1, 0], [1, 0, 2]]
    assert path[:, 1].isnan().all(), "two classes with the same mean have no line between them"
    classes, distances = nearest_means(then, means, 2)
    assert classes.tolist() == [[0, 1], [0, 1]] and distances[1].tolist() == [0, 2]
    assert evenly(2, 5) == [2, 3, 4, 5] and evenly(0, 99, 4) == [0, 33, 66, 99] and evenly(3, 3) == [3]


def test_without_a_checkpoint_it_says_which_there_are(forgotten):
    import shutil

    folder = forgotten["layer"]
    copy = RunFolder(folder.path.parent / "copied")
    shutil.copytree(folder.path, copy.path)
    shutil.rmtree(copy.checkpoints / sorted(p.name for p in copy.checkpoints.iterdir())[0])
    with pytest.raises(StoreError, match=r"no checkpoint after T1; there are: T2"):
        locate(copy, 0, 1)


def test_a_file_that_is_not_a_result_is_no_result(forgotten, tmp_path):
    folder = RunFolder(tmp_path / "run")
    for text in ("{}", "[", '{"task": 1, "after": 2, "layers": [{"layer": "x"}], "refit": [1, 2]}'):
        file = measured_later.file_of(folder, 0, 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        assert measured_later.read(folder, 0, 1) is None


# ---------------------------------------------------------------- mixing edits


def test_each_block_is_taken_from_the_moment_that_is_asked_for():
    prompts = lambda value: BlockIntervention(head_shift=value)
    then, now = (ModelEdit({0: prompts(a), 1: prompts(b)}) for a, b in (("t0", "t1"), ("n0", "n1")))
    shifts = lambda old: [mixed(then, now, old, 2).blocks[x].head_shift for x in (0, 1)]
    assert shifts(()) == ["n0", "n1"] and shifts((1,)) == ["n0", "t1"] and shifts((0, 1)) == ["t0", "t1"]
    assert mixed(ModelEdit(), now, (0,), 2).blocks == {1: now.blocks[1]}, "then there was nothing in it"


def test_tokens_that_join_belong_to_the_block_they_enter_at():
    then, now = (ModelEdit(joined=PrependedTokens(name, 1)) for name in ("then", "now"))
    assert mixed(then, now, (0,), 2).joined.tokens == "now" and mixed(then, now, (1,), 2).joined.tokens == "then"


def test_weights_and_branches_of_a_clip_are_told_by_their_names():
    names = [
        "visual.conv1.weight",
        "visual.transformer.resblocks.1.attn.in_proj_weight",
        "visual.proj",
        "ln_final.weight",
    ]
    assert [block_of(name, 3) for name in names] == [0, 1, 2, None] and block_of("image.2.q", 3) == 2
    assert block_of("text.2.q", 3) is None
    then, now = (ModelEdit(adaptation=Adaptation({name: when for name in names})) for when in ("then", "now"))
    found = mixed(then, now, (1,), 3).adaptation.weights
    assert [found[name] for name in names] == ["now", "then", "now", "now"]
    branch = LowRank(None, None, 1.0)
    merged = ModelEdit(adaptation=Adaptation(branches={"image.1.q": branch}))
    assert mixed(ModelEdit(), merged, (1,), 3).adaptation.branches == {}
    assert mixed(ModelEdit(), merged, (0,), 3).adaptation.branches == {"image.1.q": branch}


# ---------------------------------------------------------------- the line between two states of the weights


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, tiny_config):
    """A small CLIP whose weights were trained on two domains, hard enough to move."""
    settings = {"rate": 1e-3}
    config = tiny_config("finetune", backbone="random-clip", stream="synthetic-domains", tasks=2, settings=settings)
    folder = create_run(tmp_path_factory.mktemp("runs"), replace(config, name="adapted"))
    assert drive(folder).state == "finished"
    return folder


def test_the_line_begins_at_the_untouched_weights_and_ends_at_the_runs_own(adapted):
    from cl_core.analysis.interpolation import UNTOUCHED, interpolate

    found = interpolate(adapted, UNTOUCHED, 0, points=3)
    rows = Measured.of(adapted).rows
    assert found["alphas"] == [0, 0.5, 1]
    assert found["tasks"][0] == pytest.approx(list(rows["zero-shot"][-1]))
    assert found["tasks"][2] == pytest.approx(list(rows["task-incremental"][0]))
    assert found["learned"] == [row[0] for row in found["tasks"]] and found["kept"] == [
        row[1] for row in found["tasks"]
    ]
    assert measured_later.read_line(adapted, UNTOUCHED, 0) == json.loads(json.dumps(found))
    between = interpolate(adapted, 0, 1, points=2)
    assert between["tasks"][0] == pytest.approx(found["tasks"][2]), "it begins where the first task ended"
    assert between["kept"] is None


def test_a_method_that_leaves_the_weights_alone_has_no_line(forgotten):
    from cl_core.analysis.interpolation import UNTOUCHED, interpolate

    with pytest.raises(ConfigError, match="does not change the weights of a CLIP"):
        interpolate(forgotten["heads"], UNTOUCHED, 1)
