"""A checkpoint is complete or it does not exist; what is damaged is named, what is superseded is removed."""

import json

import pytest
import torch

from cl_core.config import RunConfig
from cl_core.store import StoreError, create_run
from cl_core.training import checkpoint

STATE = {
    "cursor": {"task": 1, "stage": "train", "epoch": 0, "item": 2, "step": 9},
    "optimiser": {"state": {0: {"step": torch.tensor(3.0), "mean": torch.randn(2, 3)}}, "rates": [(0.9, 1)]},
    "losses": {"a": 0.1 + 0.2, "none": None, "yes": True, "text": "ü"},
    "empty": torch.zeros(2, 0, 4),
    "view": torch.arange(6).reshape(2, 3).T,
    "wide": torch.tensor([1 / 3], dtype=torch.float64),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return create_run(tmp_path, RunConfig("nsp2", name="run"))


def saved(folder, seq, boundary=False):
    return checkpoint.save(folder, STATE, seq, boundary=boundary)


def places(folder):
    return [(c.seq, c.boundary) for c in checkpoint.complete(folder)]


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return type(first) is type(second) and all(map(equal, first, second))
    return type(first) is type(second) and first == second


def test_a_state_comes_back_from_disk_exactly_as_it_was(folder):
    made = saved(folder, 12)
    assert (made.seq, made.boundary, made.task) == (12, False, 1)
    assert checkpoint.complete(folder) == [made]
    assert equal(checkpoint.load(made), STATE)


def test_of_a_symmetric_matrix_half_is_written_and_the_same_matrix_comes_back(folder):
    moment = torch.randn(3, 200, 80, dtype=torch.float64)
    moment = moment.mT @ moment
    moment = moment + moment.mT
    tilted = moment.clone()
    tilted[0, 0, 1] += 1e-12
    state = {**STATE, "moment": moment, "tilted": tilted, "narrow": torch.eye(8), "counts": torch.ones(80, 80).long()}
    made = checkpoint.save(folder, state, 3, boundary=True)
    assert equal(checkpoint.load(made), state)
    whole = sum(t.numel() * t.element_size() for t in (moment, tilted, state["counts"]))
    assert (made.path / "state.safetensors").stat().st_size < whole - 0.45 * moment.numel() * 8


def test_a_folder_cut_off_in_writing_is_never_read(folder):
    saved(folder, 5, boundary=True)
    cut = saved(folder, 9)
    (cut.path / "done").unlink()
    (cut.path / "state.json").write_text('{"half')
    assert places(folder) == [(5, True)]
    saved(folder, 12)
    assert places(folder) == [(5, True), (12, False)]


def test_checkpoints_within_a_task_are_removed_by_the_next_and_boundaries_are_kept(folder):
    for seq, boundary in ((3, True), (5, False), (8, True), (9, False), (12, False)):
        saved(folder, seq, boundary)
    assert places(folder) == [(3, True), (8, True), (12, False)]
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["00000003", "00000008", "00000012"]


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_named_in_one_sentence_with_the_way_out(folder, name, damage):
    saved(folder, 3, boundary=True)
    newest = saved(folder, 9, boundary=True)
    file = newest.path / name
    file.write_bytes(file.read_bytes()[:20]) if damage == "cut" else file.unlink()
    with pytest.raises(
        StoreError, match=r"checkpoint .*00000009 is damaged \(.*\); remove that folder to resume"
    ) as told:
        checkpoint.load(checkpoint.complete(folder)[-1])
    assert "\n" not in str(told.value)


def test_a_checkpoint_of_an_unknown_shape_is_damaged_too(folder):
    made = saved(folder, 9)
    (made.path / "state.json").write_text(json.dumps([1, 2]))
    with pytest.raises(StoreError, match="is damaged"):
        checkpoint.complete(folder)


def test_a_checkpoint_that_cannot_be_written_says_that_earlier_ones_are_safe(folder):
    folder.checkpoints.rmdir()
    folder.checkpoints.write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"cannot write checkpoint .*; earlier checkpoints are safe"):
        saved(folder, 3)


def test_only_tensors_and_plain_values_can_be_kept(folder):
    with pytest.raises(TypeError, match="state at /cursor/who holds a object; keep tensors and plain values only"):
        checkpoint.save(folder, {"cursor": {"task": 0, "who": object()}}, 1, boundary=False)
    assert checkpoint.complete(folder) == []
