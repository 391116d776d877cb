"""Prompt methods as their toolboxes run them, beside ours: processor time per task, in turn, in one process.

    python -m bench.peers [--pilot CHECKOUT] [--mammoth CHECKOUT] [--avalanche CHECKOUT] [--methods l2p,…] [--tasks N]

CHECKOUT is your own clone of LAMDA-PILOT (github.com/sun-hailong/LAMDA-PILOT), Mammoth (aimagelab/mammoth) or Avalanche
(ContinualAI/avalanche). Nothing of them is in this repository; one that is not named is skipped, and that is said.
What runs is their own training code: PILOT's `Learner.incremental_train` and `_eval_cnn`, Mammoth's `meta_begin_task`,
`meta_observe`, `meta_end_task` and `evaluate`, Avalanche's `Naive.train` and `eval`. Ours is the trainer as it is used,
without diagnostics.

The same on both sides: ViT and weights, stream, batches and their order, epochs, sizes of prompts, float32, one thread.
Their names for ViT-B/16 are bound to the small ViT, their data loaders to batches that are in memory already: loading,
augmenting and scaling cost them nothing. Every image picks its own prompts (`batchwise_prompt` is off, as ours never
does that). Accuracies in the midst of PILOT's training are cut to one image. Of STAR-Prompt, Mammoth's second stage is
compared, so our first one learns no words, and its CLIP is open_clip's own image tower. Avalanche brings the loop
alone; its model is our ViT with prompts as free parameters and a linear head, beside the method `sequential`.

Steps are taken in turn, because the peer's loop asks for a batch, and ours takes its step before that is handed over.
The first task warms up and is where multiply-adds are counted; times are those of the tasks after it. Told beside
them, so that it can be seen that both do the same work: numbers held in prompts and keys (of all tasks),
largest difference of the frozen features, loss at a task's first and last steps, accuracy on the newest task.

Packages that a checkout imports for something else (logging, augmentation, data sets) and that are not installed are
replaced by names that can be inherited from and do nothing; `ABSENT` lists them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import importlib
import importlib.abc
import importlib.machinery
import json
import logging
import os
import statistics
import sys
import traceback
import types
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars of toolboxes; read when tqdm is imported

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.meters import Clock, table
from bench.ratios import Course
from cl_core.backbones.vit import ViTBackbone
from cl_core.config import ConfigError, DiagnosticsConfig
from cl_core.events import AccuracyMeasured
from cl_core.presets import resolve

ABSENT = [
    "clip", "dill", "ftfy", "gdown", "GPUtil", "kornia", "matplotlib", "pandas", "psutil", "pytorchcv", "quadprog",
    "qpsolvers", "regex", "setproctitle", "tensorboard", "timm.models.layers.weight_init", "torch.utils.tensorboard",
    "torchmetrics", "wandb", "yaml",
]  # fmt: skip
PARTS = ("steps", "end", "evaluation")  # of a task; what begins it belongs to its end, as the next one's preparation


# ------------------------------------------------------------ importing a checkout


class Nothing(type):
    """A class for any name of a package that is not there: it may be inherited from, called and looked into."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        members = {"__init__": lambda self, *a, **k: None, "__call__": lambda self, decorated=None, *a: decorated}
        return Nothing(name, (), members)


class AbsentModule(types.ModuleType):
    """Any name can be imported from it, and modules within it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(Nothing(self.__name__, (), {}), name)


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nobody else has found, if it is one of `ABSENT`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = any(name == absent or name.startswith(absent + ".") for absent in ABSENT)
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return AbsentModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


@contextlib.contextmanager
def imported_from(checkout: Path, **given: types.ModuleType) -> Iterator[None]:
    """Imports find the checkout first; `given` modules stand in for its own. What was imported is forgotten again, so
    that the next toolbox may have a package of the same name."""
    before, finder = set(sys.modules), Stubs()
    stand_ins = {name.replace("__", "."): found for name, found in given.items()}
    sys.path.insert(0, str(checkout))
    sys.meta_path.append(finder)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        sys.path.remove(str(checkout))
        sys.meta_path.remove(finder)
        names = [name for name in set(sys.modules) - before if name in stand_ins or _lies_in(checkout, name)]
        for name in names:
            del sys.modules[name]


def _lies_in(checkout: Path, name: str) -> bool:
    """Whether a module was found in the checkout or stands in for one that is not installed."""
    found = sys.modules[name]
    spec = getattr(found, "__spec__", None)  # a folder without __init__.py has no file
    places = [getattr(found, "__file__", None), *(getattr(spec, "submodule_search_locations", None) or ())]
    return isinstance(found, AbsentModule) or any(str(place or "").startswith(str(checkout)) for place in places)


def module(name: str, **members: Any) -> types.ModuleType:
    found = types.ModuleType(name)
    found.__path__ = []
    found.__dict__.update(members)
    return found


# ------------------------------------------------------------ two sides that take turns


class Multiplied(TorchDispatchMode):
    """Multiply-adds of matrix products, convolutions and attention while it is entered; one inside another counts for
    both. torch's own `FlopCounterMode` also follows modules, which not every toolbox's loop lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=found) / 2
        return found


@dataclass
class Side:
    """Seconds of each part of each task, losses as they were differentiated, accuracies, multiply-adds of a task."""

    seconds: list[dict[str, float]] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    right: list[float] = field(default_factory=list)  # percent of the newest task's test images
    work: float = 0.0

    def whole(self, task: int) -> float:
        return sum(self.seconds[task].values())


class Duel:
    """Ours and a peer on the same task; the peer's code drives, and `turn` is called between its steps."""

    def __init__(self, course: Course) -> None:
        self.course, self.ours, self.theirs = course, Side(), Side()
        self.trainer = course.trainer
        self.epochs = course.config.training.epochs
        self._running: tuple[Side, str, float] | None = None
        course.advance()  # the run's start

    @contextlib.contextmanager
    def part(self, side: Side, name: str) -> Iterator[None]:
        """What is done here counts for one side alone."""
        outer = self._running
        if outer is not None:
            self._book(outer)
        self._running = side, name, Clock.now()
        try:
            yield
        finally:
            self._book(self._running)
            self._running = None if outer is None else (*outer[:2], Clock.now())

    def _book(self, running: tuple[Side, str, float]) -> None:
        side, name, since = running
        side.seconds[-1][name] += Clock.now() - since

    def differentiated(self, loss: float) -> None:
        if self._running is not None:
            self._running[0].losses[-1].append(loss)

    @contextlib.contextmanager
    def counted(self, side: Side, first: bool) -> Iterator[None]:
        """Multiply-adds of the first task."""
        if not first:
            yield
            return
        with Multiplied() as counter:
            yield
        side.work += counter.total
        if side is self.ours and self._running is not None:
            self.theirs.work -= counter.total  # the peer's counter has seen it as well

    def new_task(self) -> None:
        for side in (self.ours, self.theirs):
            side.seconds.append(dict.fromkeys(PARTS, 0.0))
            side.losses.append([])

    def moment(self, name: str) -> Any:
        with self.counted(self.ours, len(self.ours.seconds) == 1), self.part(self.ours, name):
            return next(self.course.moments)

    def turn(self) -> None:
        """Ours takes its step."""
        if self.course.stage == "train":
            self.moment("steps")

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, our own step before each."""
        training = self.course.config.training
        for batch in self.trainer.feed.batches(
            self.course.task, training.batch_size, seed=self.course.config.seed, epoch=epoch
        ):
            self.turn()
            yield batch.images, batch.labels

    def tests(self, index: int, split: str = "test") -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.trainer.feed.ordered(self.trainer.curriculum[index], split, self.trainer.evaluation.batch):
            yield batch.images, batch.labels

    def task(self, index: int, peer: Peer) -> None:
        self.new_task()
        self.moment("end")  # begin: what the method prepares
        with self.counted(self.theirs, index == 0):
            peer.task(index)
        if self.course.stage != "survey":
            raise AssertionError(f"the peer took another number of steps; ours is at {self.course.stage}")
        self.moment("end")
        said = self.moment("evaluation")
        row = next(event for event in said if isinstance(event, AccuracyMeasured)).row
        assert row[index] is not None  # the newest task has just been measured
        self.ours.right.append(float(row[index]))


class Peer:
    """A method of a toolbox on our ViT. `task` trains, ends and evaluates one task with the toolbox's own code."""

    def __init__(self, checkout: Path, duel: Duel) -> None:
        self.checkout, self.duel = checkout, duel
        trainer = duel.trainer
        self.backbone: ViTBackbone = trainer.backbone
        self.method, self.curriculum, self.training = trainer.method, trainer.curriculum, duel.course.config.training
        self.classes, self.tasks_count = len(trainer.stream.class_names), len(trainer.curriculum)
        self.settings = trainer.method.config

    def task(self, index: int) -> None:
        raise NotImplementedError

    def prompts(self) -> int:
        """Numbers held in prompts and keys."""
        raise NotImplementedError

    def frozen(self, images: Tensor) -> Tensor | None:
        """Features of the ViT without prompts, if the method asks for them."""
        return None

    def vit(self, kind: type[nn.Module], **options: Any) -> nn.Module:
        """The toolbox's own Vision Transformer, with our sizes and weights."""
        size, patch = self.backbone.preparation.size, self.backbone.vit.patch_embed.patch_size[0]
        sizes = {"img_size": size, "patch_size": patch, "embed_dim": self.backbone.width}
        sizes |= {"depth": self.backbone.depth, "num_heads": self.backbone.heads}
        made = kind(**{**options, **sizes})
        own, places = dict(self.backbone.vit.state_dict()), made.state_dict()["pos_embed"].clone()
        where = own.pop("pos_embed")
        places.zero_()[:, :1] = where[:, :1]
        places[:, 1 + places.shape[1] - where.shape[1] :] = where[:, 1:]  # joined prompts get none
        missing, unexpected = made.load_state_dict({**own, "pos_embed": places}, strict=False)
        if unexpected or any(name.startswith(("blocks", "patch_embed", "norm", "cls")) for name in missing):
            raise AssertionError(f"weights do not fit: {missing}, {unexpected}")
        return made

    def counted(self, named: Any, *names: str) -> int:
        return sum(p.numel() for n, p in named if any(part in n for part in names))


class Loader:
    """Batches for a toolbox that wants something like a data loader."""

    def __init__(self, batches: Callable[[int], Iterator[Any]], count: int, of: Any = None) -> None:
        self._batches, self._count, self.dataset = batches, count, of
        self.epoch = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        return self._batches(self.epoch - 1)


# ------------------------------------------------------------ LAMDA-PILOT


class OffTheGPU:
    """torch for a file that adds in place to `torch.zeros(…, requires_grad=True).to(device)`: on a GPU that is a copy,
    on the processor a leaf, which torch refuses."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def zeros(*size: Any, **options: Any) -> Tensor:
        return torch.zeros(*size, **options).clone()


class Pilot(Peer):
    """PILOT's learner of `models.<method>`, with the settings of its `exps/<method>.json`."""

    def __init__(self, checkout: Path, duel: Duel, method: str) -> None:
        super().__init__(checkout, duel)
        with imported_from(checkout):
            learners, nets = importlib.import_module(f"models.{method}"), importlib.import_module("utils.inc_net")
            kind = {"l2p": "vit_l2p", "dualprompt": "vit_dualprompt", "coda_prompt": "vit_coda_promtpt"}[method]
            file = importlib.import_module(f"backbone.{kind}")
            file.torch, vits = OffTheGPU(), file.VisionTransformer
            args = json.loads((checkout / "exps" / f"{method}.json").read_text(encoding="utf-8"))
            args |= {"nb_classes": self.classes, "nb_tasks": self.tasks_count, "tuned_epoch": self.training.epochs}
            args |= {"batch_size": self.training.batch_size, "device": [torch.device("cpu")], "batchwise_prompt": False}
            args |= {"init_lr": self.settings.rate, "seed": 0}
            args |= self.sizes(method)
            learners.DataLoader = lambda loader, **options: loader
            make = lambda name, **options: self.vit(
                vits, **{k: v for k, v in options.items() if k != "pretrained" and v is not None}
            )
            nets.timm = Namespace(create_model=make)
            if method == "coda_prompt":
                learners.CodaPromptVitNet = functools.partial(self.coda, nets, vits)
            self.learner = learners.Learner(args)
        self.learner.topk = 1
        self.training_now = False

    def sizes(self, method: str) -> dict[str, Any]:
        s = self.settings
        if method == "l2p":
            return {"size": s.pool, "length": s.prompt_length, "top_k": s.taken}
        if method == "dualprompt":
            general, expert = list(self.method.general_layers), list(self.method.expert_layers)
            lengths = {"g_prompt_length": s.general_length, "length": s.expert_length, "size": self.tasks_count}
            return {**lengths, "g_prompt_layer_idx": general, "e_prompt_layer_idx": expert}
        return {"prompt_param": [self.method.per_task * self.tasks_count, s.prompt_length, s.orthogonality]}

    def coda(self, nets: types.ModuleType, vits: type[nn.Module], args: dict[str, Any], pretrained: bool) -> nn.Module:
        """`CodaPromptVitNet`, whose constructor knows one width alone."""
        net = nets.CodaPromptVitNet.__new__(nets.CodaPromptVitNet)
        nn.Module.__init__(net)
        width = self.backbone.width
        net.args, net.backbone, net.fc = args, self.vit(vits), nn.Linear(width, args["nb_classes"])
        net.backbone.requires_grad_(False)
        net.prompt = nets.CodaPrompt(width, args["nb_tasks"], args["prompt_param"], key_dim=width)
        return net

    def task(self, index: int) -> None:
        duel, learner = self.duel, self.learner
        duel_train = Loader(lambda epoch: ((0, x, y) for x, y in duel.batches(epoch)), self.steps(index))

        def tests(number: int) -> Iterator[tuple[int, Tensor, Tensor]]:
            for task in range(index + 1):
                for x, y in duel.tests(task):
                    yield (0, x[:1], y[:1]) if self.training_now else (0, x, y)
                    if self.training_now:
                        return

        loaders = {"train": duel_train, "test": Loader(tests, 1)}
        data = Namespace(
            get_task_size=lambda task: len(self.curriculum[task].classes),
            get_dataset=lambda classes, source, mode: loaders[mode],
        )
        with duel.part(duel.theirs, "steps"):
            self.training_now = True
            learner.incremental_train(data)
        with duel.part(duel.theirs, "evaluation"):
            self.training_now = False
            guessed, true = learner._eval_cnn(learner.test_loader)
        learner.after_task()
        newest = true >= self.curriculum[index].classes.start
        duel.theirs.right.append(100 * float((guessed[newest, 0] == true[newest]).mean()))

    def steps(self, index: int) -> int:
        return -(-len(self.curriculum[index].train) // self.training.batch_size)

    def prompts(self) -> int:
        named = self.learner._network.named_parameters()
        return self.counted(named, "prompt")

    def frozen(self, images: Tensor) -> Tensor:
        net = self.learner._network
        with torch.no_grad():
            if hasattr(net, "original_backbone"):
                return net.original_backbone(images)["pre_logits"]
            return net.backbone(images)[0][:, 0]


# ------------------------------------------------------------ Mammoth


class MammothStream:
    """What Mammoth's models ask of a data set."""

    SETTING, NAME = "class-il", "ours"

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.N_CLASSES, self.N_TASKS = peer.classes, peer.tasks_count
        self.N_CLASSES_PER_TASK = [len(task.classes) for task in peer.curriculum]
        self.index = 0
        self.test_loaders: list[Loader] = []
        self.train_loader: Loader | None = None

    def get_offsets(self, task: int | None = None) -> tuple[int, int]:
        classes = self.peer.curriculum[self.index if task is None else task].classes
        return classes.start, classes.stop

    def get_loss(self) -> Any:
        return nn.functional.cross_entropy

    def get_class_names(self) -> list[str]:
        return [phrase for task in self.peer.curriculum for phrase in task.words.phrases]

    def get_prompt_templates(self) -> list[str]:
        return ["{}."]

    def get_denormalization_transform(self) -> Any:
        from torchvision.transforms import Normalize

        own = self.peer.backbone.preparation
        return Normalize([-m / s for m, s in zip(own.mean, own.std, strict=True)], [1 / s for s in own.std])


class OpenAIClip(nn.Module):
    """What Mammoth asks of OpenAI's package, answered by an open_clip model."""

    def __init__(self, companion: Any) -> None:
        super().__init__()
        self.companion, self.clip = [companion], companion.clip
        self.visual = Namespace(output_dim=companion.pooled_width)

    def encode_image(self, images: Tensor) -> Tensor:
        size = self.companion[0].preparation.size
        if images.shape[-1] != size:
            images = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return self.clip.encode_image(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.clip.encode_text(tokens)


class Mammoth(Peer):
    """Mammoth's model of that name, with the defaults of its own parser."""

    def __init__(self, checkout: Path, duel: Duel, method: str) -> None:
        super().__init__(checkout, duel)
        self.stream, self.double = MammothStream(self), method == "star_prompt"
        name = "second_stage_starprompt" if self.double else method
        sets = module("datasets", get_dataset=lambda args: self.stream)
        inner = module("datasets.utils")
        base = module("datasets.utils.continual_dataset", ContinualDataset=object)
        options = module("utils.args", ArgumentParser=argparse.ArgumentParser)
        stand_ins = {"datasets": sets, "datasets__utils": inner, "datasets__utils__continual_dataset": base}
        with imported_from(checkout, **stand_ins, utils__args=options):
            models = importlib.import_module(f"models.{name}")
            self.evaluate = importlib.import_module("utils.evaluate").evaluate
            kind = next(m for m in vars(models).values() if getattr(m, "NAME", "") == name)
            parser = argparse.ArgumentParser()
            kind.get_parser(parser)
            parser.add_argument("--lr", type=float)
            args = parser.parse_args([])
            general = {
                "lr": self.settings.rate,
                "batch_size": self.training.batch_size,
                "n_epochs": self.training.epochs,
            }
            general |= {"optimizer": "adam", "optim_wd": 0.0, "optim_mom": 0.0, "optim_nesterov": False, "nowand": 1}
            general |= {"label_perc": 1, "debug_mode": 0, "eval_future": 0, "non_verbose": 1, "lr_scheduler": None}
            general |= {"seed": 0, "permute_classes": 0, "dataset": "ours", "device": "cpu", "code_optimization": 0}
            general |= {"num_workers": 0, "drop_last": False, "distributed": "no"}
            vars(args).update(general | self.sizes(method))
            self._bind(method, models)
            self.model = kind(self.backbone.vit, nn.functional.cross_entropy, args, None, dataset=self.stream)
        self.model.to(torch.device("cpu"))

    def sizes(self, method: str) -> dict[str, Any]:
        s = self.settings
        if method == "l2p":
            return {"pool_size_l2p": s.pool, "length": s.prompt_length, "top_k": s.taken, "batchwise_prompt": False}
        if method == "dualprompt":
            general, expert = list(self.method.general_layers), list(self.method.expert_layers)
            lengths = {"g_prompt_length": s.general_length, "length": s.expert_length, "size": self.tasks_count}
            layers = {"g_prompt_layer_idx": general, "e_prompt_layer_idx": expert}
            return {**lengths, **layers, "batchwise_prompt": False}
        if method == "coda_prompt":
            held = self.method.per_task * self.tasks_count
            return {"pool_size": held, "prompt_len": s.prompt_length, "ortho_mu": s.orthogonality}
        replay = {"num_epochs_gr_second_stage": s.replay_epochs, "learning_rate_gr_second_stage": s.replay_rate}
        draws = {"num_samples_gr": s.draws, "batch_size_gr": s.stage_batch, "gr_mog_n_components": s.components}
        return {**replay, **draws, "lambda_ortho_second_stage": s.crowding, "keys_ckpt_path": None}

    def _bind(self, method: str, models: types.ModuleType) -> None:
        """Names of ViT-B/16 become our ViT."""
        loaded = lambda name: importlib.import_module(f"models.{name}")
        if method == "l2p":
            vits = loaded("l2p_utils.vit_prompt").VisionTransformer
            make = lambda pretrained=False, **options: self.vit(vits, **options)
            loaded("l2p_utils.l2p_model").vit_base_patch16_224_l2p = make
        elif method == "dualprompt":
            vits = loaded("dualprompt_utils.vision_transformer").VisionTransformer
            make = lambda pretrained=False, **options: self.vit(vits, **options)
            loaded("dualprompt_utils.model").vit_base_patch16_224_dualprompt = make
        elif method == "coda_prompt":
            models.Model = functools.partial(self.coda, loaded("coda_prompt_utils.model"))
            loaded("coda_prompt_utils.vit").torch = OffTheGPU()
        else:
            from torchvision.transforms import Normalize

            second = loaded("star_prompt_utils.second_stage_model")
            second.VisionTransformer = functools.partial(self.vit, second.VisionTransformer)
            second.Normalize, models.Model = Normalize, functools.partial(self.star, second)
            tokens = lambda text: self.method.queries.model.tokenize([text])
            second.clip.tokenize = tokens

    def coda(self, own: types.ModuleType, num_classes: int, pt: bool, prompt_param: list[Any]) -> nn.Module:
        """`coda_prompt_utils.model.Model`, whose constructor knows one width alone."""
        net, width = own.Model.__new__(own.Model), self.backbone.width
        nn.Module.__init__(net)
        net.task_id, net.last, net.feat = None, nn.Linear(width, num_classes), self.vit(own.VisionTransformer)
        net.feat.requires_grad_(False)
        net.prompt = own.CodaPrompt(width, *prompt_param, key_dim=width)
        return net

    def star(self, second: types.ModuleType, args: Namespace, **given: Any) -> nn.Module:
        companion = self.method.queries.model
        like = Namespace(mean=companion.preparation.mean, std=companion.preparation.std)
        return second.Model(
            args, clip_model=OpenAIClip(companion), clip_preprocess=Namespace(transforms=[like]), **given
        )

    def task(self, index: int) -> None:
        duel, model, stream = self.duel, self.model, self.stream
        as_seen = (lambda x: torch.stack([x, x], dim=1)) if self.double else (lambda x: x)
        free = lambda: types.SimpleNamespace(transform=None, extra_return_fields=())
        train = lambda epoch: ((as_seen(x), y) for x, y in duel.tests(index, "train"))
        stream.index, stream.train_loader = index, Loader(train, 1, free())
        stream.test_loaders.append(Loader(lambda n: ((as_seen(x), y) for x, y in duel.tests(index)), 1, free()))
        with duel.part(duel.theirs, "end"):
            model.meta_begin_task(stream)
            model.net.train()
        scheduler = getattr(model, "custom_scheduler", None)
        with duel.part(duel.theirs, "steps"):
            for epoch in range(self.training.epochs):
                model.meta_begin_epoch(epoch, stream)
                for images, labels in duel.batches(epoch):
                    model.meta_observe(as_seen(images), labels, images, epoch=epoch)
                model.meta_end_epoch(epoch, stream)
                if scheduler is not None:
                    scheduler.step()
        with duel.part(duel.theirs, "end"):
            model.meta_end_task(stream)
        with duel.part(duel.theirs, "evaluation"):
            right, _ = self.evaluate(model, stream)
        duel.theirs.right.append(right[index])

    def prompts(self) -> int:
        if self.double:
            return self.counted(self.model.net.prompter.named_parameters(recurse=False), "p_", "a_")
        return self.counted(self.model.net.named_parameters(), "prompt")

    def frozen(self, images: Tensor) -> Tensor | None:
        net = self.model.net
        with torch.no_grad():
            if self.double:
                return None  # CLIP's, by open_clip
            if hasattr(net, "original_model"):
                return net.original_model(images)["pre_logits"]
            return net.feat(images)[0][:, 0]


# ------------------------------------------------------------ Avalanche


class Prompted(nn.Module):
    """Prompts as free parameters in every block of our ViT, and a linear head."""

    def __init__(self, backbone: ViTBackbone, prompts: Tensor, classes: int) -> None:
        super().__init__()
        self.backbone, self.prompts = [backbone], nn.Parameter(prompts.detach().clone())
        self.head = nn.Linear(backbone.pooled_width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone[0](images, prompts=self.prompts).pooled)


class Avalanche(Peer):
    """The strategy Naive, on a benchmark of tensors."""

    def __init__(self, checkout: Path, duel: Duel, method: str) -> None:
        super().__init__(checkout, duel)
        self.model = Prompted(self.backbone, self.method.tuning.prompts, self.classes)
        with imported_from(checkout, torch__utils__tensorboard=AbsentModule("torch.utils.tensorboard")):
            training = importlib.import_module("avalanche.training.supervised")
            plugins = importlib.import_module("avalanche.training.plugins")
            core = importlib.import_module("avalanche.core")
            scenarios = importlib.import_module("avalanche.benchmarks")
            data = importlib.import_module("avalanche.benchmarks.utils")

            class Turns(core.SupervisedPlugin):
                def before_training_iteration(self, strategy: Any, **given: Any) -> None:
                    duel.turn()

            def split(index: int, which: str) -> Any:
                pairs = next(duel.trainer.feed.ordered(self.curriculum[index], which, 10**6))
                ordered = pairs.images, pairs.labels
                if which == "train":  # the order of the batches is the same in both
                    ordered = tuple(torch.cat(part) for part in zip(*self._shown(index), strict=True))
                made = torch.utils.data.TensorDataset(*ordered)
                made.targets = ordered[1].tolist()
                return data.as_classification_dataset(made)

            self.scenario = scenarios.benchmark_from_datasets(
                train=[split(i, "train") for i in range(self.tasks_count)],
                test=[split(i, "test") for i in range(self.tasks_count)],
            )
            quiet = plugins.EvaluationPlugin(loggers=[])
            self.strategy = training.Naive(
                model=self.model, optimizer=torch.optim.Adam(self.model.parameters(), lr=1e-3),
                criterion=nn.functional.cross_entropy, train_mb_size=self.training.batch_size,
                train_epochs=self.training.epochs, eval_mb_size=duel.trainer.evaluation.batch,
                evaluator=quiet, plugins=[Turns()],
            )  # fmt: skip

    def _shown(self, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        feed, training = self.duel.trainer.feed, self.training
        for batch in feed.batches(
            self.curriculum[index], training.batch_size, seed=self.duel.course.config.seed, epoch=0
        ):
            yield batch.images, batch.labels

    def task(self, index: int) -> None:
        duel = self.duel
        with duel.part(duel.theirs, "steps"):
            self.strategy.train(self.scenario.train_stream[index], shuffle=False, num_workers=0)
        with duel.part(duel.theirs, "evaluation"):
            self.strategy.eval(self.scenario.test_stream[: index + 1], num_workers=0)
        images, labels = next(duel.tests(index))
        with torch.no_grad():
            guessed = self.model(images).argmax(dim=1)
        duel.theirs.right.append(100 * float((guessed == labels).float().mean()))

    def prompts(self) -> int:
        return self.model.prompts.numel()


# ------------------------------------------------------------ the table

PEERS: dict[str, tuple[type[Peer], str, dict[str, str]]] = {  # toolbox → class, options, its method → ours
    "PILOT": (Pilot, "pilot", {"l2p": "l2p", "dualprompt": "dualprompt", "coda_prompt": "coda_prompt"}),
    "Mammoth": (
        Mammoth,
        "mammoth",
        {"l2p": "l2p", "dualprompt": "dualprompt", "coda_prompt": "coda_prompt", "star_prompt": "star_prompt"},
    ),
    "Avalanche": (Avalanche, "avalanche", {"naive": "sequential"}),
}
SECOND_STAGE = ["settings.key_epochs=0", "settings.key_replay_epochs=0"]  # what Mammoth's second stage is compared with

HEADER = (
    "peer", "whole task", "steps", "begin and end", "evaluation", "seconds a task: peer, ours",
    "multiply-adds of the first task", "numbers in prompts and keys: peer, ours", "frozen features apart",
    "loss: peer, ours", "newest task right, %: peer, ours",
)  # fmt: skip


def measured(
    toolbox: str, method: str, ours: str, checkout: Path, tasks: int | None, settings: Sequence[str]
) -> list[str]:
    """One row."""
    config = replace(
        resolve({"method": ours, "device": "cpu"}), precision="float32", diagnostics=DiagnosticsConfig.off()
    )
    config = config.with_overrides([*settings, *(SECOND_STAGE if ours == "star_prompt" else [])])
    torch.manual_seed(0)
    duel = Duel(Course(config))
    peer = PEERS[toolbox][0](checkout, duel, method)
    images = next(duel.tests(0))[0][:16]
    asked = peer.frozen(images)
    with torch.no_grad():
        apart = "–" if asked is None else f"{float((asked - peer.backbone(images).pooled).abs().max()):.0e}"
    backward = Tensor.backward

    def watched(loss: Tensor, *given: Any, **named: Any) -> None:
        duel.differentiated(float(loss.detach()))
        backward(loss, *given, **named)

    count = min(tasks or peer.tasks_count, peer.tasks_count)
    Tensor.backward = watched
    try:
        for index in range(count):
            duel.task(index, peer)
    finally:
        Tensor.backward = backward
    return row(f"{toolbox} {method}", duel, apart, f"{peer.prompts()}, {held_in_the_end(duel, count)}")


def held_in_the_end(duel: Duel, begun: int) -> int:
    """Numbers in our prompts and keys once all tasks have begun: toolboxes make room for all of them at once."""
    method, curriculum = copy.deepcopy(duel.trainer.method), duel.trainer.curriculum
    for index in range(begun, len(curriculum)):
        method.begin_task(index, curriculum[index].classes)
    of_heads = lambda name: name.startswith("head") or ".heads." in name
    return sum(p.numel() for name, p in method.named_parameters() if not of_heads(name))


def row(name: str, duel: Duel, apart: str, numbers: str) -> list[str]:
    """Sums over all tasks but the first, peer ÷ ours."""
    theirs, ours = duel.theirs, duel.ours
    tasks = range(1 if len(ours.seconds) > 1 else 0, len(ours.seconds))
    total = lambda side, part: sum(side.seconds[t][part] for t in tasks)
    whole = [sum(side.whole(t) for t in tasks) for side in (theirs, ours)]
    ratios = [a / b if b > 1e-4 else float("nan") for a, b in ((total(theirs, p), total(ours, p)) for p in PARTS)]
    losses = []
    for side in (theirs, ours):
        seen = side.losses[-1][: len(ours.losses[-1])]
        third = max(1, len(seen) // 5)
        losses.append(f"{statistics.mean(seen[:third]):.2f} → {statistics.mean(seen[-third:]):.2f}")
    return [
        name, f"**{whole[0] / whole[1]:.2f}**", *(f"{r:.2f}" for r in ratios),
        ", ".join(f"{w / len(tasks):.2f}" for w in whole), f"{theirs.work / ours.work:.2f}", numbers, apart,
        ", ".join(losses), f"{theirs.right[-1]:.0f}, {ours.right[-1]:.0f}",
    ]  # fmt: skip


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for toolbox, (_, option, _) in PEERS.items():
        cli.add_argument(f"--{option}", type=Path, metavar="CHECKOUT", help=f"your clone of {toolbox}")
    cli.add_argument("--methods", help="of theirs, separated by commas (default: all)")
    cli.add_argument("--tasks", type=int, help="stop after so many (default: all of the stream)")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ours, for all")
    arguments = cli.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    Clock.of_processor()
    failed: list[str] = []
    wanted = set(arguments.methods.split(",")) if arguments.methods else None
    print(f"torch {torch.__version__}, one thread, processor time, load {os.getloadavg()[0]:.1f}; peer ÷ ours\n")

    def rows() -> Iterator[Sequence[str]]:
        for toolbox, (_, option, methods) in PEERS.items():
            checkout = getattr(arguments, option)
            if checkout is None:
                print(f"{toolbox}: no checkout named (--{option}), skipped", file=sys.stderr)
                continue
            if not checkout.is_dir():
                sys.exit(f"--{option}: no folder {checkout}; name a clone of {toolbox}")
            for method, ours in methods.items():
                if wanted is not None and method not in wanted:
                    continue
                try:
                    yield measured(toolbox, method, ours, checkout.resolve(), arguments.tasks, arguments.set)
                except ConfigError:
                    raise
                except Exception:  # another version of the toolbox; the others are measured all the same
                    traceback.print_exc()
                    failed.append(f"{toolbox} {method}")

    try:
        for line in table(HEADER, rows()):
            print(line, flush=True)
    except ConfigError as error:
        sys.exit(str(error))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
