"""One learned word per class before its name; the text embedding is the class's key.

First level of STAR-Prompt (arXiv:2403.06870).
Shapes: C classes begun, o old and c current ones, B images; d joint width, m width of the text tower, T tokens.

    k_c = g("u_c <name of c>.") / ‖·‖                    u_c [m] stands at position 1, after start-of-text
    L   = CE(τ ẑ · k over current classes) + λ / (c o) Σ_current Σ_old (u · stop u')²      SGD, no momentum, no decay
    replay: CE(τ z̃ · k over all classes), z̃ drawn from a mixture per class, scaled to unit length; no λ term

The tower is causal, so columns after the end of the longest text have no effect and are not computed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.config import check_settings, setting
from cl_core.events import Clock, Event, KeysMoved, StageEnded
from cl_core.methods.parts.event_values import array, mean
from cl_core.methods.parts.gaussian_mixtures import GaussianMixtures
from cl_core.streams.stream import mixed_seed

PLACEHOLDER = "X"  # any word of one token: its embedding is replaced


@dataclass(frozen=True)
class KeyConfig:
    """Defaults are the release's documented values for CIFAR-100 in ten tasks."""

    keys: str = setting(
        "learned",
        choices=("learned", "moving", "drifting", "templates"),
        help="learned: a word per class, fixed after its task; moving: replay trains the words of all classes "
        "(control); drifting: every task trains the words of all classes on its own images, without replay (control); "
        "templates: nothing is learned (ablation)",
    )
    key_rate: float = setting(0.002, low=0.0, high=100.0, help="learning rate of the words")
    key_epochs: int = setting(20, low=0, high=1000, help="epochs of the words on a task's images")
    key_overlap: float = setting(10.0, low=0.0, high=1e4, help="weight of the overlap of new words with old ones (λ1)")
    key_replay_rate: float = setting(0.05, low=0.0, high=100.0, help="learning rate of the words in replay (η1)")
    key_replay_epochs: int = setting(10, low=0, high=1000, help="epochs of replay into the words (E1)")
    components: int = setting(5, low=0, high=64, help="Gaussians per class in both mixtures; 0: no replay")
    draws: int = setting(256, low=1, high=10_000, help="features drawn per class and epoch of replay")
    stage_batch: int = setting(128, low=1, high=4096, help="rows per step of stage 1 and of both replays")

    def __post_init__(self) -> None:
        check_settings(self)


class ClassKeys(nn.Module):
    """Grows with the tasks. Words and keys are buffers, trained outside the engine's steps. Those of earlier classes
    are fixed, except with keys=moving (trained by replay) or keys=drifting (trained by later tasks)."""

    words: Tensor
    keys: Tensor
    first: Tensor

    def __init__(self, config: KeyConfig, sentences: list[str], plain: list[list[str]], model: Any, seed: int) -> None:
        """`sentences`: "X <name>." of every future class; `plain`: its sentences without a learned word."""
        super().__init__()
        self.config, self.seed = config, seed
        self.drifting, self.moving = config.keys == "drifting", config.keys in ("moving", "drifting")
        self.texts = model.tokenize(sentences)  # [all C, T]
        ensembles = [model.encode_text(model.tokenize(texts)) for texts in plain]
        self.templates = F.normalize(torch.stack([rows.mean(dim=0) for rows in ensembles]), dim=1)
        self.register_buffer("words", torch.zeros(0, model.text_width))  # u
        self.register_buffer("keys", torch.zeros(0, model.joint_width))  # k
        self.register_buffer("first", torch.zeros(0, model.joint_width))  # k when its task had been learned

    def add_classes(self, index: int, classes: range) -> None:
        """Words of a new task's classes from N(0, 0.02²); before training their keys are those of the templates."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "words", index))
        drawn = 0.02 * torch.randn(len(classes), self.words.shape[1], generator=generator)
        self.words = torch.cat([self.words, drawn.to(self.words)])
        new = self.templates[classes.start : classes.stop].to(self.keys)
        self.keys, self.first = torch.cat([self.keys, new]), torch.cat([self.first, new])

    def begin(
        self, model: Any, mixtures: GaussianMixtures | None, z: Tensor, labels: Tensor, classes: range, clock: Clock
    ) -> list[Event]:
        """Train the keys of a new task from embeddings z [n, d] of its images, not normalised, and their class ids [n].
        `mixtures`: those of earlier classes, to which the current ones are added."""
        said: list[Event] = []
        if self.config.keys != "templates":
            started = time.perf_counter()
            losses = self.learn(model, F.normalize(z, dim=1), labels, classes)
            self.freeze(model, classes)
            said.append(StageEnded(clock, "class keys", losses, time.perf_counter() - started))
            if mixtures is not None and not self.drifting:
                started = time.perf_counter()
                for label in classes:
                    mixtures.fit(label, z[labels == label], mixed_seed(self.seed, "embeddings", label))
                losses = self.rebalance(model, mixtures, classes)
                self.freeze(model, classes)
                said.append(StageEnded(clock, "replay into the keys", losses, time.perf_counter() - started))
        return [*said, KeysMoved(clock, *(array(values.float()) for values in self.moved(model)))]

    def embed(self, model: Any, words: Tensor, classes: range) -> Tensor:
        """k of words [c, m]: [c, d], unit rows."""
        return model.encode_text(self.texts[classes.start : classes.stop], replaced={1: words})

    def learn(self, model: Any, z: Tensor, labels: Tensor, classes: range) -> dict[str, list[float]]:
        """Words of the current classes (`drifting`: of all begun) from unit embeddings z [n, d] of the current classes'
        images. Mean losses per epoch."""
        c, free = self.config, range(classes.stop) if self.drifting else classes
        words = self.words[free.start : free.stop].clone().requires_grad_()
        old, targets, new = self.words[: classes.start], labels - free.start, slice(classes.start - free.start, None)
        optimiser = torch.optim.SGD([words], lr=c.key_rate)
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "learning keys", classes.start))
        said: dict[str, list[float]] = {"cross_entropy": [], "orthogonality": []}
        for _ in range(c.key_epochs):
            parts = []
            for rows in torch.randperm(len(z), generator=generator).split(c.stage_batch):
                rows = rows.to(z.device)
                logits = model.logit_scale * z[rows] @ self.embed(model, words, free).mT
                losses = F.cross_entropy(logits, targets[rows]), c.key_overlap * overlap_of_words(words[new], old)
                optimiser.zero_grad()
                cast(Tensor, sum(losses)).backward()
                optimiser.step()
                parts.append([loss.detach().double() for loss in losses])
            for name, values in zip(said, zip(*parts, strict=True), strict=True):
                said[name].append(mean(values))
        self.words[free.start : free.stop] = words.detach()
        return said

    def rebalance(self, model: Any, mixtures: GaussianMixtures, classes: range) -> dict[str, list[float]]:
        """Words of the current classes (`moving`: of all) against all classes begun. Mean loss per epoch."""
        c, seen = self.config, range(classes.stop)
        free = seen if self.moving else classes
        words = self.words[free.start :].clone().requires_grad_()
        optimiser = torch.optim.SGD([words], lr=c.key_replay_rate)
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "replay into keys", classes.start))
        fixed = self.keys[: free.start]
        means: list[float] = []
        for _ in range(c.key_replay_epochs):
            drawn, labels = mixtures.epoch(seen, generator)
            parts = []
            for z, targets in zip(drawn.split(c.stage_batch), labels.split(c.stage_batch), strict=True):
                keys = torch.cat([fixed, self.embed(model, words, free)])
                loss = F.cross_entropy(model.logit_scale * F.normalize(z, dim=1) @ keys.mT, targets)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                parts.append(loss.detach().double())
            means.append(mean(parts))
        self.words[free.start :] = words.detach()
        return {"cross_entropy": means}

    @torch.no_grad()
    def freeze(self, model: Any, classes: range) -> None:
        """Keys of the current classes from their words; with `moving`, of all classes."""
        free = range(classes.stop) if self.moving else classes
        own = slice(free.start, free.stop)
        self.keys[own] = self.embed(model, self.words[own], free)
        self.first[classes.start : classes.stop] = self.keys[classes.start : classes.stop]

    @torch.no_grad()
    def moved(self, model: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Per class: cosine of its key, recomputed from its word, with its initial key; with the templates' key; and
        the largest with another class's key. Each [C]."""
        seen = range(len(self.keys))
        now = self.keys if self.config.keys == "templates" else self.embed(model, self.words, seen)
        among = (now @ now.mT).fill_diagonal_(-torch.inf)
        first, plain = (now * self.first).sum(dim=1), (now * self.templates[: len(now)].to(now)).sum(dim=1)
        return first, plain, among.amax(dim=1)


def overlap_of_words(words: Tensor, old: Tensor) -> Tensor:
    """Mean over pairs of (u · u')², u of words [c, m], u' of old [o, m], without gradient; 0 if o = 0."""
    return (words @ old.detach().mT).square().mean() if len(old) else words.new_zeros(())
