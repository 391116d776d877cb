"""What times other toolboxes' code: checkouts of the same package names one after the other, and who pays for what."""

import sys
import types

import pytest

from bench import peers
from bench.meters import Clock


def checkout(folder, answer, *, package):
    (folder / "utils").mkdir(parents=True)
    if package:
        (folder / "utils" / "__init__.py").write_text("")
    (folder / "utils" / "net.py").write_text(
        f"import wandb_of_nobody\nfrom wandb_of_nobody.deep import Base\nclass Net(Base): answer = {answer}\n"
    )
    return folder


def test_toolboxes_with_the_same_package_names_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "ABSENT", ["wandb_of_nobody"])
    before = set(sys.modules)
    for name, answer, package in (("one", 1, False), ("two", 2, True), ("three", 3, False)):
        with peers.imported_from(checkout(tmp_path / name, answer, package=package)):
            from utils.net import Net  # type: ignore[import-not-found]
        assert Net.answer == answer
    assert {name for name in set(sys.modules) - before if name.startswith(("utils", "wandb_of"))} == set()
    with pytest.raises(ModuleNotFoundError):
        import wandb_of_nobody  # type: ignore[import-not-found]  # noqa: F401


def test_what_one_side_does_in_the_others_time_counts_for_itself(monkeypatch):
    now = iter([0.0, 1.0, 1.0, 4.0, 4.0, 9.0])
    monkeypatch.setattr(Clock, "now", staticmethod(lambda: next(now)))
    duel = peers.Duel(types.SimpleNamespace(
        trainer=None, config=types.SimpleNamespace(training=types.SimpleNamespace(epochs=1)), advance=lambda: None,
    ))  # fmt: skip
    duel.new_task()
    with duel.part(duel.theirs, "steps"):
        duel.differentiated(0.5)
        with duel.part(duel.ours, "end"):
            duel.differentiated(0.25)
    assert duel.ours.seconds == [{"steps": 0.0, "end": 3.0, "evaluation": 0.0}]
    assert duel.ours.losses == [[0.25]] and duel.theirs.losses == [[0.5]]
    assert duel.theirs.seconds == [{"steps": 6.0, "end": 0.0, "evaluation": 0.0}]
