"""Localises the loss of a task by layer: inserts parts of the model just after the task into the current model.

A method changes a frozen model by an edit, block by block (`ModelEdit`), so models of two times can be mixed exactly.
With E_j the edit just after task j and E_i the current one, all classified by the current heads among all classes seen:

    block l alone            E_j in block l, E_i elsewhere: only its prompts or weights
    up to block l            E_j in blocks 1 … l: the old activations, inserted after block l
    body                     E_j everywhere
    head                     E_i everywhere; scores of task j's own classes from the old heads

Recovered is the accuracy on task j's test images minus that of the current model, in points. Needs both boundary
checkpoints; writes one file into the run's folder.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cl_core.analysis.image_paths import evenly, nearest_means, plane_paths, table
from cl_core.analysis.measured_later import save
from cl_core.backbones.io_types import Adaptation, ModelEdit
from cl_core.config import DiagnosticsConfig
from cl_core.observers.image_answers import followed
from cl_core.readouts import RECOMPUTED, REFITTED
from cl_core.store import RunFolder, StoreError, boundaries, effective_config, fork_of
from cl_core.streams.stream import TaskStream
from cl_core.training import checkpoint as checkpoints
from cl_core.training.factory import build, new_backbone, new_stream
from cl_core.training.trainer import Trainer
from cl_core.training.worker import restored

MOST = 1000  # maximum number of test images per mixture
_BLOCK = re.compile(r"(?:visual\.transformer\.resblocks|image)\.(\d+)\.")
_LATE = ("visual.ln_post", "visual.proj")  # behind the last block


def block_of(name: str, depth: int) -> int | None:
    """The image tower's block of a parameter or map, by name; parameters before the first or after the last block count
    to these. None: not part of the image tower."""
    found = _BLOCK.match(name)
    if found:
        return int(found[1])
    if not name.startswith("visual."):
        return None
    return depth - 1 if name.startswith(_LATE) else 0


def mixed(then: ModelEdit, now: ModelEdit, old: Collection[int], depth: int) -> ModelEdit:
    """The current edit with the blocks `old` restored."""
    source = lambda block: then if block in old else now
    blocks = {layer: edit for layer in range(depth) if (edit := source(layer).blocks.get(layer)) is not None}
    joined = now.joined or then.joined
    if joined is not None:
        joined = source(joined.block).joined

    def chosen(part: str) -> dict[str, Any]:
        tables = {id(edit): getattr(edit.adaptation, part) for edit in (then, now)}
        names = [*tables[id(now)], *(name for name in tables[id(then)] if name not in tables[id(now)])]
        found = {}
        for name in names:
            block = block_of(name, depth)
            table = tables[id(now if block is None else source(block))]
            if name in table:
                found[name] = table[name]
        return found

    return ModelEdit(blocks, joined, Adaptation(chosen("weights"), chosen("branches")))


def shared() -> tuple[Callable[[str], Any], Callable[..., TaskStream]]:
    """Shared models (by name) and stream for several trainers of one run, each built once."""
    return functools.cache(new_backbone), functools.lru_cache(1)(lambda *settings: new_stream(*settings))


def at(folder: RunFolder, task: int, backbone: Callable[[str], Any], stream: Callable[..., TaskStream]) -> Trainer:
    """A trainer restored just after `task` (from 0). Raises StoreError without a checkpoint."""
    known = boundaries(folder)
    if task + 1 not in known:
        there = ", ".join(f"T{number}" for number in sorted(known)) or "none"
        fork = fork_of(folder)
        way = f"; the run was forked from {fork.parent}, which may have it" if fork is not None else ""
        raise StoreError(f"{folder.name} has no checkpoint after T{task + 1}; there are: {there}{way}")
    config = effective_config(folder)
    wanted = replace(DiagnosticsConfig.off(), readout=config.diagnostics.readout)
    trainer = build(replace(config, diagnostics=wanted), backbone, stream)
    restored(trainer, checkpoints.load(known[task + 1]))
    return trainer


@torch.no_grad()
def locate(folder: RunFolder, task: int, after: int, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure one cell (both from 0) and store the result with the run.

    Returns:
        "now", "then": percent of the images used; "layers": per block, from 1, "alone" and "up_to" in points; "head",
        "body"; "refit", "recomputed": R and Q just after task j and now, percent of all test images (Q null where
        images come with their task); "answers": predictions of both for the stored images; "paths": as
        `image_paths.table` (null where no class statistics are stored); "images", "lost", "seconds".

    Raises:
        StoreError: a checkpoint is missing or damaged.
        ValueError: the task is not older than `after`.
    """
    if task >= after:
        raise ValueError(f"nothing can be compared: T{task + 1} is not older than T{after + 1}")
    started = time.perf_counter()
    backbone_of, stream_of = shared()
    say(f"loading the model after T{task + 1}")
    then = at(folder, task, backbone_of, stream_of)
    say(f"loading the model after T{after + 1}")
    now = at(folder, after, backbone_of, stream_of)
    backbone, index, depth = now.backbone, now.stream[task], now.backbone.depth
    rivals = index.classes if now.stream.task_is_known else range(now.stream[after].classes.stop)
    use = _evenly(len(index.test), MOST)
    mixtures: dict[str, Collection[int]] = {"now": (), "body": range(depth)}
    mixtures |= {f"alone-{layer}": (layer,) for layer in range(depth)}
    mixtures |= {f"up_to-{layer}": range(layer + 1) for layer in range(depth)}
    right: dict[str, list[Tensor]] = {name: [] for name in (*mixtures, "head", "then")}
    best: list[Tensor] = []
    place = 0
    for number, batch in enumerate(now.feed.ordered(index, "test", now.evaluation.batch)):
        chosen = use[place : place + len(batch.labels)].to(batch.labels.device)
        place += len(batch.labels)
        if not chosen.any():
            continue
        images, labels = batch.images[chosen], batch.labels[chosen]
        ids = None if batch.ids is None else batch.ids[chosen.cpu()]
        edits = [trainer.method.edit(backbone, images, ids) for trainer in (then, now)]
        for name, old in mixtures.items():
            pooled = backbone.features(images, mixed(edits[0], edits[1], old, depth)).pooled
            scores = now.method.classify(pooled, rivals)
            right[name].append(scores.argmax(dim=1) + rivals.start == labels)
            if name == "now":
                best.append(_rivals_of(scores, labels - rivals.start) + rivals.start)
                own = _with_own(scores, then.method.classify(pooled, index.classes), index.classes, rivals)
                right["head"].append(own.argmax(dim=1) + rivals.start == labels)
            if name == "body":
                known = index.classes if now.stream.task_is_known else range(index.classes.stop)
                right["then"].append(then.method.classify(pooled, known).argmax(dim=1) + known.start == labels)
        say(f"batch {number + 1}: {len(mixtures)} mixtures")
    whole = {name: torch.cat(parts) for name, parts in right.items()}
    percent = {name: 100 * float(part.float().mean()) for name, part in whole.items()}
    gain = lambda name: percent[name] - percent["now"]
    say("fitting readouts to the old and current features")
    kept = effective_config(folder).diagnostics.images
    then.evaluation.followed = now.evaluation.followed = followed(now.stream, kept)
    (fitted_then, said_then), (fitted_now, said_now) = _anew(then, task, task), _anew(now, task, after)
    pair = lambda name: [fitted_then[name], fitted_now[name]] if name in fitted_now else None
    paths = None
    if now.evaluation.reads_statistics:
        there = boundaries(folder)
        moments = [moment for moment in evenly(task, after) if moment + 1 in there]
        say(f"following {int(use.sum())} images through {len(moments)} models")
        models = {task: lambda: then, after: lambda: now}
        models = {m: models.get(m, functools.partial(at, folder, m, backbone_of, stream_of)) for m in moments}
        paths = _paths(use, models, torch.cat(best).cpu(), task)
    result = {
        "task": task + 1,
        "after": after + 1,
        "then": percent["then"],
        "now": percent["now"],
        "layers": [
            {"layer": layer + 1, "alone": gain(f"alone-{layer}"), "up_to": gain(f"up_to-{layer}")}
            for layer in range(depth)
        ],
        "head": gain("head"),
        "body": gain("body"),
        "refit": pair(REFITTED),
        "recomputed": pair(RECOMPUTED),
        "answers": {name: [said_then[name], said_now[name]] for name in said_now},
        "paths": paths,
        "images": int(use.sum()),
        "lost": int((whole["then"] & ~whole["now"]).sum()),
        "seconds": time.perf_counter() - started,
    }
    save(folder, result)
    return result


def _with_own(scores: Tensor, own: Tensor, classes: range, rivals: range) -> Tensor:
    """Scores [B, |rivals|] with those of `classes` replaced by `own` [B, |classes|]."""
    replaced = scores.clone()
    replaced[:, classes.start - rivals.start : classes.stop - rivals.start] = own
    return replaced


def _evenly(total: int, most: int) -> Tensor:
    """[total] bool: all, or `most` evenly spaced ones."""
    use = torch.zeros(total, dtype=torch.bool)
    count = min(total, most)
    use[torch.arange(count) * total // max(count, 1)] = True
    return use


def _anew(trainer: Trainer, task: int, moment: int) -> tuple[dict[str, float], dict[str, list[int]]]:
    """Accuracy in percent and predictions for the followed test images of `task`, by readouts fitted to the old
    features."""
    evaluation, seen = trainer.evaluation, range(trainer.stream[moment].classes.stop)
    percent, answers = evaluation.fitted_anew(task, list(range(moment + 1)), seen)
    return percent, {} if answers is None else {name: told.tolist() for name, (told, _) in answers.of.items()}


def _paths(use: Tensor, trainers: Mapping[int, Callable[[], Trainer]], rival: Tensor, task: int) -> dict[str, Any]:
    """`image_paths.table` for the images in `use`; `trainers`: time → factory of the model."""
    seen_at, features, means = [], [], torch.empty(0)
    for trainer in (give() for give in trainers.values()):
        index = trainer.stream[task]
        batches = trainer.feed.ordered(index, "test", trainer.evaluation.batch)
        whole = torch.cat([trainer.evaluation.features(batch).pooled.float().cpu() for batch in batches])
        features.append(whole[use])
        means = trainer.evaluation.statistics.means.float().cpu()
        seen_at.append(int((trainer.evaluation.statistics.counts > 0).sum()))
    true = index.test.labels[use].cpu()
    near = [nearest_means(now, means, seen) for now, seen in zip(features, seen_at, strict=True)]
    paths = plane_paths(torch.stack(features), means, true.long(), rival)
    return table(torch.nonzero(use).flatten(), rival, list(trainers), paths, near)


def _rivals_of(scores: Tensor, labels: Tensor) -> Tensor:
    """[B] the best wrong class, as columns of scores [B, C]."""
    return scores.scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
