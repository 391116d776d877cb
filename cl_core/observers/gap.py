"""Effect of adaptation on the joint space of images and texts: the two clouds, their pairs, and each task's classes.

The general set of a stream (pairs and classes from the pre-training distribution, which no task trains on) is embedded
before training and after every task, by the current towers. Formulas are in `cl_core.observers.joint_space`.

The first measurement fixes the reference of later ones: its gap vector, and two axes, along it and along the largest
spread across it. They are saved with the run, so a resumed run has the same reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cl_core.events import Clock, Event, ModalityGapMeasured, SimilaritiesMeasured
from cl_core.methods.method import ReadsClasses
from cl_core.observers import joint_space
from cl_core.observers.joint_space import Array
from cl_core.observers.landing import copied
from cl_core.observers.observer import Observer, View
from cl_core.streams.stream import General, Task, TaskStream

BATCH = 250
PICTURES = 60  # test images per task for similarities, classes in turn
EDGES = np.linspace(-1.0, 1.0, 101)  # bins of the cosines


class ModalityGap(Observer):
    """Measures a method's joint space; only for methods with a text tower."""

    name = "modality gap"

    def started(self, view: View) -> list[Event]:
        return self.measure(view.method, view.backbone, view.clock)

    def task_measured(self, view: View) -> list[Event]:
        return self.measure(view.method, view.backbone, view.clock)

    def __init__(self, stream: TaskStream) -> None:
        self.stream = stream
        self._first: dict[str, Tensor] = {}  # gap [e], centre [e], axes [2, e], of the first measurement
        self._found: tuple[list[float], list[Array]] | None = None  # newest embeddings, and their weights

    @torch.no_grad()
    def measure(self, method: Any, backbone: Any, clock: Clock) -> list[Event]:
        """The current joint space: the general set, if the stream has one, then every task in turn."""
        general = self.stream.general
        if not isinstance(method, ReadsClasses):
            return []
        tasks = [(task, task.probes(PICTURES)) for task in self.stream if task.words is not None]
        weights = _fingerprint(cast(nn.Module, method), backbone)
        if self._found is None or self._found[0] != weights:
            self._found = weights, self._embedded(method, backbone, [chosen.pictures for _, chosen in tasks])
        captions, texts, *seen = self._found[1]
        said: list[Event] = []
        if general is not None:
            pairs, tested, *seen = seen
            said.append(self._general(general, pairs, tested, captions, clock))
        for (task, chosen), x in zip(tasks, seen, strict=True):
            labels = (chosen.labels - task.classes.start).numpy()
            said.append(_task(task, x, texts[task.classes.start : task.classes.stop], labels, clock))
        return said

    def _embedded(self, method: Any, backbone: Any, probes: list[Tensor]) -> list[Array]:
        """Texts of the general set, class texts, and images: of the general set and `probes`."""
        general, read, shown = self.stream.general, torch.zeros(0), probes
        if general is not None:
            sentences = [*general.pairs.captions, *(said for texts in general.words.texts() for said in texts)]
            read = backbone.read(sentences, method.edit(backbone, general.test.pictures[:0]))
            shown = [general.pairs.pictures, general.test.pictures, *probes]
        found = [read, method.class_texts, *(self._look(method, backbone, pictures) for pictures in shown)]
        return [values.numpy() for values in copied([values.double() for values in found])]

    def _general(self, general: General, x: Array, tested: Array, read: Array, clock: Clock) -> Event:
        """x [n, e] of the pairs' images, `tested` of the general test images. `read`: embeddings of the captions, then
        of all sentences of all general classes."""
        t, classes = read[: len(general.pairs)], _ensemble(read[len(general.pairs) :], len(general.words.phrases))
        gap = joint_space.gap_vector(x, t)
        if not self._first:
            centre, axes = joint_space.gap_axes(x, t)
            self._first = {k: torch.from_numpy(v) for k, v in (("gap", gap), ("centre", centre), ("axes", axes))}
        first = {name: value.numpy() for name, value in self._first.items()}
        cosines = x @ t.T
        positive, negative = joint_space.pair_cosines(cosines)
        return ModalityGapMeasured(
            clock,
            float(np.linalg.norm(gap)),
            joint_space.cosine(gap, first["gap"]),
            float(np.linalg.norm(x.mean(axis=0))),
            float(np.linalg.norm(t.mean(axis=0))),
            joint_space.paired_distance(x, t),
            EDGES.astype(np.float32),
            joint_space.shares(positive, EDGES).astype(np.float32),
            joint_space.shares(negative, EDGES).astype(np.float32),
            float(positive.mean()),
            float(negative.mean()),
            joint_space.separation(positive, negative),
            joint_space.area_under_roc(positive, negative),
            joint_space.linear_probe(x, t),
            joint_space.retrieval_recall(cosines),
            joint_space.retrieval_recall(cosines.T),
            len(x),
            joint_space.nearest_text_accuracy(tested, classes, general.test.labels.numpy()),
            ((x - first["centre"]) @ first["axes"].T).astype(np.float16),
            ((t - first["centre"]) @ first["axes"].T).astype(np.float16),
        )

    def _look(self, method: Any, backbone: Any, pictures: Tensor) -> Tensor:
        """Unit embeddings [n, e] of images [n, 3, S, S] in 0..1."""
        device = next(backbone.parameters()).device
        seen = [
            method.features(backbone, self.stream[0].prepare(part).to(device)).pooled for part in pictures.split(BATCH)
        ]
        return F.normalize(torch.cat(seen), dim=1)

    # ------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Tensor]:
        """The reference fixed by the first measurement; empty before it."""
        return dict(self._first)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._first = {name: value.cpu() for name, value in state.items()}


def _ensemble(sentences: Array, classes: int) -> Array:
    """Unit class texts [C, e]: the mean over templates of sentences [C · templates, e], normalised."""
    means = sentences.reshape(classes, -1, sentences.shape[1]).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _fingerprint(*modules: nn.Module) -> list[float]:
    """Sum and norm of every parameter and buffer, in float64. Not their version counters: fused optimisers and writes
    to `.data` leave these as they are."""
    values = [value for module in modules for value in (*module.parameters(), *module.buffers())]
    sums = [value.sum(dtype=torch.float64) for value in values]
    norms = [torch.linalg.vector_norm(value.double()) for value in values]
    return torch.stack([*sums, *norms]).tolist() if values else []


def _task(task: Task, x: Array, texts: Array, labels: NDArray[np.int64], clock: Clock) -> Event:
    """`texts` [c, e]: the task's class embeddings as in evaluation; `labels` [n] of the images x, from 0."""
    positive, negative = joint_space.class_similarities(x, texts, labels)
    return SimilaritiesMeasured(clock, task.index, positive, negative, joint_space.modality_gap(x, texts))
