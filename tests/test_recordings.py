"""The bundled recordings show what they are said to show, by their events."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from cl_core.assets import recordings_folder
from cl_core.events import ImagesClassified, SpectrumMeasured, UpdateMeasured
from cl_core.questions.reporting import events
from cl_core.readouts import RECOMPUTED, STORED
from cl_core.recordings import RECORDINGS
from cl_core.store import RunFolder
from cl_core.summary import measures, summarise

NSP2, PLAIN, ROOM = "nsp2-split-digits", "sequential-split-digits", "gpm-permuted-digits"
# Made before answers of single images were kept; remaking them adds these.
WITHOUT_ANSWERS = {"nusa-cl-micro-mtil", "gnsp-micro-mtil", "finetune-micro-mtil"}
FROZEN, ADAPTED = "frozen-camouflage", "split-lora-camouflage"


def folder(name):
    return RunFolder(recordings_folder() / name)


def final(name, readout=""):
    return measures(summarise(folder(name)).matrix(readout))["final_average_accuracy"]


def test_the_recordings_are_those_that_are_described():
    assert {place.name for place in recordings_folder().iterdir()} == set(RECORDINGS)
    assert len({described.title for described in RECORDINGS.values()}) == len(RECORDINGS)
    assert all(described.shows.endswith(".") for described in RECORDINGS.values())


def test_the_docs_say_what_each_shows():
    said = (Path(__file__).parents[1] / "docs" / "views" / "start.md").read_text("utf-8")
    for name, described in RECORDINGS.items():
        assert f"| `{name}` | {described.title} | {described.shows} |" in said


def test_together_they_are_small():
    size = sum(file.stat().st_size for file in recordings_folder().rglob("*") if file.is_file())
    assert size <= 25e6


@pytest.mark.parametrize("name", RECORDINGS)
def test_each_is_finished_and_made_from_its_settings(name):
    assert summarise(folder(name)).state == "finished"
    described = RECORDINGS[name]
    if described.playground is None:
        config, made = described.config(), folder(name).config()
        assert (made.method, made.preset, made.seed) == (config.method, config.preset, config.seed)
        assert made.own_settings() == config.own_settings() and made.training == config.training
        assert events(folder(name), ImagesClassified) or name in WITHOUT_ANSWERS, "which images were lost can be asked"


def test_protection_shows_by_the_readout_that_both_runs_name():
    assert summarise(folder(NSP2)).readout == summarise(folder(PLAIN)).readout == STORED
    assert final(NSP2) - final(PLAIN) >= 30


def test_nsp2s_changes_lie_where_old_tasks_hardly_look():
    cells = [
        (residual, event.isotropic[space])
        for event in events(folder(NSP2), UpdateMeasured)
        for space, residual in event.residual.items()
        if residual is not None
    ]
    assert len(cells) >= 24 and sum(mine < chance for mine, chance in cells) >= 0.9 * len(cells)


def test_room_runs_out_and_layers_differ():
    nullity = defaultdict(list)
    for event in events(folder(ROOM), SpectrumMeasured):
        nullity[event.layer].append(event.nullity)
    assert sum(len(set(values)) >= 4 for values in nullity.values()) >= 3
    assert all(values == sorted(values, reverse=True) for values in nullity.values())
    assert nullity[0][-1] < nullity[0][0] / 3 and nullity[2][-1] > nullity[2][0] / 2


def test_adapting_pays_and_is_lost():
    """T1 at the end: read anew the adapted features are the better ones, by what was stored of it they are not."""
    adapted, frozen = (
        {readout: summarise(folder(name)).matrix(readout)[-1][0] for readout in (STORED, RECOMPUTED)}
        for name in (ADAPTED, FROZEN)
    )
    assert adapted[RECOMPUTED] >= frozen[RECOMPUTED] + 15 and adapted[STORED] <= frozen[STORED] - 10
    assert frozen[STORED] == frozen[RECOMPUTED], "nothing moves"


@pytest.mark.parametrize(("protected", "matched"), [("gnsp", "as-gnsp"), ("nusa-cl", "as-nusa")])
def test_fine_tuning_learns_as_much_as_the_method_it_is_matched_to(protected, matched):
    mine, other = (
        summarise(folder(f"{name}-micro-mtil")).learning_accuracy for name in (protected, f"finetune-{matched}")
    )
    assert abs(mine - other) <= 1.0
