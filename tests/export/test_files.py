"""Exported tables and arrays: every number is the event's, nothing is there that was not measured."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from cl_core.config import ConfigError
from cl_core.events import (
    KINDS,
    AccuracyMeasured,
    AttentionCompared,
    Clock,
    ModalityGapMeasured,
    PredictionsMade,
    PromptsDrifted,
    RefitMeasured,
    RunStarted,
    SelectionMeasured,
    SpectrumMeasured,
    StepEnded,
    SubspaceMeasured,
    WeightSpectrumMeasured,
)
from cl_core.export import LISTINGS, data_files, events_of, guard, known_paths, manifest, redact_paths, tables, zipped
from cl_core.summary import summarise
from tests import recorded_clip_runs, recorded_pool_runs, recorded_rare_runs, recorded_runs, recorded_subspace_runs
from tests.recorded_runs import Plan


def table(files, name):
    return list(csv.DictReader(io.StringIO(files[name].decode())))


def arrays(files, name):
    return np.load(io.BytesIO(files[name]), allow_pickle=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = recorded_runs.finished(tmp_path_factory.mktemp("runs"))
    return folder, dict(data_files(folder)), events_of(folder)


def test_accuracies_are_the_events_cells_and_no_others(finished):
    _, files, events = finished
    told = {
        (e.readout, e.clock.task + 1, j + 1): value
        for e in events[AccuracyMeasured]
        for j, value in enumerate(e.row)
        if value is not None
    }
    told |= {
        ("refitted head", e.clock.task + 1, j + 1): value
        for e in events[RefitMeasured]
        for j, value in enumerate(e.row)
        if value is not None
    }
    rows = table(files, "accuracy.csv")
    assert {(r["readout"], int(r["after_task"]), int(r["evaluated_task"])): float(r["percent"]) for r in rows} == told
    assert len(rows) == len(told) and rows[0]["evaluated_classes"] == "three; seven"


def test_classes_are_named_by_their_number_of_arrival(finished):
    _, files, events = finished
    rows = table(files, "classes.csv")
    (plan,) = events[RunStarted]
    names = [name for task in plan.tasks for name in task["classes"]]
    assert [(int(row["class"]), row["name"]) for row in rows] == list(enumerate(names, 1))
    assert [int(row["task"]) for row in rows] == [i + 1 for i, task in enumerate(plan.tasks) for _ in task["classes"]]


def test_every_step_is_a_row_with_all_its_parts(finished):
    _, files, events = finished
    rows, steps = table(files, "steps.csv"), events[StepEnded]
    assert len(rows) == len(steps)
    for row, event in zip(rows, steps, strict=True):
        assert [int(row[k]) for k in ("task", "epoch", "step")] == [
            event.clock.task + 1,
            event.clock.epoch + 1,
            event.clock.step + 1,
        ]
        for name, part in (
            ("loss", event.losses),
            ("learning_rate", event.learning_rates),
            ("proposed_norm", event.proposed_norm),
            ("applied_norm", event.applied_norm),
        ):
            assert {k: float(row[f"{name}_{k}"]) for k in part} == part
        assert float(row["batch_accuracy"]) == event.batch_accuracy and float(row["seconds"]) == event.seconds
    assert rows[0]["loss_norm_drift"] == "" and rows[-1]["loss_norm_drift"] != "", "absent in the first task, not zero"


def test_spectra_are_found_by_the_names_of_their_rows(finished):
    _, files, events = finished
    rows, stored = table(files, "spectra.csv"), arrays(files, "spectra.npz")
    assert len(rows) == len(events[SpectrumMeasured]) == len(stored.files)
    for row, event in zip(rows, events[SpectrumMeasured], strict=True):
        found = stored[f"moments/T{row['task']}/layer{row['layer']}/{row['space']}/eigenvalues"]
        assert np.array_equal(found, event.eigenvalues) and found.dtype == np.float32
        assert int(row["nullity"]) == event.nullity and int(row["directions"]) == len(event.eigenvalues)


def test_attention_and_predictions_are_listed_place_by_place(finished):
    _, files, events = finished
    rows = table(files, "attention_consistency.csv")
    last = events[AttentionCompared][-1]
    mine = [r for r in rows if r["task"] == str(last.clock.task + 1) and r["probe_task"] == str(last.probe_task + 1)]
    newest = mine[-len(last.total_variation) :]
    assert [np.float32(r["total_variation"]) for r in newest] == list(last.total_variation)
    assert [int(r["layer"]) for r in newest] == [1, 2, 3]
    said = table(files, "predictions.csv")
    assert [int(r["predicted_class"]) - 1 for r in said] == [
        int(k) for e in events[PredictionsMade] for k in e.predicted
    ]
    assert all(r["true_name"] for r in said)


def test_prompts_way_is_measured_from_where_the_task_began(finished):
    _, files, events = finished
    drifted = events[PromptsDrifted]
    ends = {e.clock.task: np.asarray(e.prompts, dtype=np.float32) for e in drifted}
    way = np.linalg.norm(ends[1] - ends[0], axis=-1)
    rows = [r for r in table(files, "prompt_drift.csv") if r["task"] == "2" and r["epoch"] == "2"]
    assert np.allclose([float(r["moved_this_task"]) for r in rows], way.ravel(), rtol=1e-5)
    assert table(files, "prompt_drift.csv")[0]["moved_this_task"] == ""
    assert len(arrays(files, "prompts.npz").files) == len(drifted)


def test_a_clip_run_leaves_its_gap_and_weights(tmp_path):
    folder = recorded_clip_runs.written(tmp_path)
    files, events = dict(data_files(folder)), events_of(folder)
    rows = table(files, "gap.csv")
    assert [float(r["length"]) for r in rows] == [e.length for e in events[ModalityGapMeasured]]
    assert [int(r["task"]) for r in rows] == [0, 1, 2, 3] and float(rows[0]["image_to_text_1"]) == (
        events[ModalityGapMeasured][0].image_to_text["1"]
    )
    first = events[WeightSpectrumMeasured][0]
    stored = arrays(files, "spectra.npz")
    assert np.array_equal(stored[f"weights/T1/{first.name}/before"], first.before)
    assert {r["after_task"] for r in table(files, "accuracy.csv") if r["readout"] == "zero-shot"} == {"0"}


def test_pools_and_subspaces(tmp_path):
    folder = recorded_pool_runs.record(tmp_path, "pool")
    files, event = dict(data_files(folder)), events_of(folder)[SelectionMeasured][0]
    assert np.array_equal(arrays(files, "selection.npz")["T1/layer0/counts"], event.counts, equal_nan=True)
    assert float(table(files, "selection.csv")[0]["accuracy"]) == event.accuracy
    folder = recorded_subspace_runs.written(tmp_path)
    files, events = dict(data_files(folder)), events_of(folder)
    overlaps = table(files, "subspace_overlaps.csv")
    told = [value for e in events[SubspaceMeasured] for value in e.overlap]
    assert [np.float32(r["overlap"]) for r in overlaps] == told
    assert len(table(files, "forward_transfer.csv")) == 4 * 3


def test_what_single_methods_measure_has_its_tables(tmp_path):
    files = dict(data_files(recorded_rare_runs.finished(tmp_path)))
    assert [r["loss"] for r in table(files, "stages.csv")] == ["2.0", "1.0"]
    assert [r["kept"] for r in table(files, "keys.csv")] == ["1.0", "0.9"]
    assert [r["between"] for r in table(files, "class_likeness.csv")[:2]] == ["0.2", ""], "not measured is empty"
    assert [r["class"] for r in table(files, "mixtures.csv")] == ["1", "2"]
    assert {"conceptors.csv", "inputs_surveyed.csv", "trade_offs.csv", "residuals.csv", "rehearsal.csv"} <= set(files)
    assert {"conceptors/T1/layer2/eigenvalues", "trade-offs/T1/layer1/kv/stability_loss"} <= set(
        arrays(files, "spectra.npz").files
    )


def test_nothing_measured_leaves_no_table(tmp_path):
    files = dict(data_files(recorded_runs.waiting(tmp_path)))
    assert set(files) == {"summary.json", "settings.json", "README.txt"}
    unmeasured = dict(data_files(recorded_runs.unmeasured(tmp_path)))
    assert not {"spectra.csv", "spectra.npz", "attention_consistency.csv", "prompt_drift.csv"} & set(unmeasured)


def test_the_readme_explains_every_file_and_the_formulas(finished):
    _, files, _ = finished
    said = files["README.txt"].decode()
    assert all(name in said for name in files if name != "README.txt")
    assert "mean_{j < n} ( max_{j ≤ i < n} R[i, j] − R[n, j] )" in said and "seed 0" in said
    assert "leak: space → share" in said and max(map(len, said.splitlines())) <= 122


def test_summary_and_settings_are_the_runs(finished):
    folder, files, _ = finished
    summary, reported = json.loads(files["summary.json"]), summarise(folder).reported()
    assert {**summary, "folder": ""} == {**reported, "folder": ""} and summary["folder"] == "finished"
    assert json.loads(files["settings.json"])["config"] == folder.config().to_dict()


def test_every_listing_belongs_to_an_event_and_every_field_is_one():
    assert len({listing.file for listing in LISTINGS}) == len(LISTINGS)
    for listing in LISTINGS:
        known = KINDS[listing.kind.__name__].__dataclass_fields__
        assert {*listing.fields, *listing.each, *(name for name, _ in listing.lengths)} <= set(known), listing.file
        assert listing.rows or listing.fields or listing.each


def test_settings_name_folders_and_never_where_they_lie(tmp_path):
    config = replace(Plan().config, stream="folder:/home/anna/my pictures/cats,/home/anna/dogs", name="private")
    from tests.recording import recorded

    files = dict(data_files(recorded(tmp_path, config, [])))
    said = b"".join(content for name, content in files.items() if name.endswith((".json", ".txt"))).decode()
    assert "folder:cats,dogs" in said
    assert not [part for part in ("anna", "my pictures", str(tmp_path)) if part in said]


def test_a_weights_file_and_its_adapter_are_both_cut_down_to_their_names():
    config = replace(Plan().config, backbone="timm:vit@/home/anna/my w/base.pth@/home/anna/my w/lora")
    told = redact_paths("the weights /home/anna/my w/base.pth do not fit /home/anna/my w/lora", known_paths(config))
    assert told == "the weights base.pth do not fit lora"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot read /home/anna/x.csv: no", "cannot read x.csv: no"),
        ("timm:vit@/opt/weights/v.safetensors", "timm:vit@v.safetensors"),
        (r"C:\Users\anna\runs\a.db is damaged", "a.db is damaged"),
        ("~/data/cats", "cats"),
        (
            "cat/7.jpg and/or ‖ΔW‖/‖W‖ at https://arxiv.org/abs/1",
            "cat/7.jpg and/or ‖ΔW‖/‖W‖ at https://arxiv.org/abs/1",
        ),
    ],
)
def test_paths_become_names_and_other_slashes_stay(text, left):
    assert redact_paths(text) == left and redact_paths({"a": [text, 1]}) == {"a": [left, 1]}


def test_what_an_export_did_not_write_is_never_overwritten(tmp_path):
    guard(tmp_path / "new", "run", ["a.csv"])
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"a\.csv, which this run's export did not write"):
        guard(tmp_path, "run", ["a.csv"])
    manifest(tmp_path, "run", ["a.csv"])
    guard(tmp_path, "run", ["a.csv"])
    with pytest.raises(ConfigError, match="export did not write"):
        guard(tmp_path, "another", ["a.csv"])
    (tmp_path / "b.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"b\.csv"):
        guard(tmp_path, "run", ["a.csv", "b.csv"])
    with pytest.raises(ConfigError, match="is a file"):
        guard(tmp_path / "a.csv", "run", ["x"])


def test_the_zip_holds_the_same_files_in_one_folder(finished):
    _, files, _ = finished
    with zipfile.ZipFile(io.BytesIO(zipped(files.items(), "finished"))) as archive:
        assert {name: archive.read(f"finished/{name}") for name in files} == files


def test_a_table_reads_back_to_the_last_digit(finished):
    _, _, events = finished
    steps = next(t for t in tables(events) if t.file == "steps.csv")
    again = list(csv.DictReader(io.StringIO(steps.text())))
    assert [float(r["loss_total"]) for r in again] == [e.losses["total"] for e in events[StepEnded]]


def test_columns_stand_in_the_order_in_which_rows_first_have_them():
    steps = [
        StepEnded(Clock(0, 0, 0), {"a": 1.0, "total": 1.0}, {"p": 0.1}, {}, {}, 50.0, 0.1),
        StepEnded(Clock(1, 0, 1), {"b": 2.0, "total": 2.0}, {"p": 0.1}, {"p": 3.0}, {}, None, 0.1),
    ]
    (table,) = tables({StepEnded: steps})
    head = "task,epoch,step,loss_a,loss_total,learning_rate_p,batch_accuracy,seconds,loss_b,proposed_norm_p"
    assert table.text().splitlines() == [head, "1,1,1,1.0,1.0,0.1,50.0,0.1,,", "2,1,2,,2.0,0.1,,0.1,2.0,3.0"]


def test_values_along_layers_may_be_fewer_than_layers():
    short = AttentionCompared(
        Clock(1, 0, 5), 0, *(np.zeros(n, np.float32) for n in (3, 3, 2, 3)), 0.1, np.zeros((1, 3, 1, 2))
    )
    (table,) = tables({AttentionCompared: [short]})
    assert [row["output_drift"] for row in csv.DictReader(io.StringIO(table.text()))] == ["0.0", "0.0", ""]
