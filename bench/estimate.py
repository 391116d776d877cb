"""Estimated memory of a training step ÷ measured, for every method.

    python -m bench.estimate [--methods a,b] [--device auto] [--backbone NAME …] [--set KEY=VALUE …]

Estimated is what the Run page and `plastiscope backbones NAME --method M` say (`cl_core.estimate`), with the settings
of the method's preset and the largest task's number of classes. Measured are bytes of tensors (`bench.meters`): what
backbone, companion, method and optimiser hold before a step, and the step's peak above that; of the first and the
second task the larger. Steps are those of the trainer, the third of each task.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass

from bench.meters import peak_bytes, table
from bench.ratios import ON_CUDA, Course, config_of, shared
from cl_core.config import ConfigError, RunConfig
from cl_core.estimate import memory_by_task
from cl_core.registry import BACKBONES, METHODS, imported, lookup
from cl_core.training.factory import check, choose_device, companion_of

WARM = 2  # steps of a task before the one that is weighed: the optimiser's state is there by then


@dataclass
class Weighed:
    """Bytes of one method: estimated by task and part, and measured in the first and the second task."""

    method: str
    estimated: list[dict[str, int]]
    held: list[int]
    peak: list[int]  # of one step above that

    @property
    def sums(self) -> tuple[int, int]:
        """Estimated and measured, each of the task that needs more."""
        measured = max(held + peak for held, peak in zip(self.held, self.peak, strict=True))
        return max(sum(parts.values()) for parts in self.estimated), measured

    @property
    def ratio(self) -> float:
        estimated, measured = self.sums
        return estimated / measured

    @property
    def at_rest(self) -> float:
        """The same of what is held between two steps: neither activations nor gradients, a third of "training"."""
        return max(sum(parts.values()) - _passing(parts) for parts in self.estimated) / max(self.held)

    def cells(self) -> list[str]:
        tasks = " / ".join(f"{h / 1e6:.1f} + {p / 1e6:.1f}" for h, p in zip(self.held, self.peak, strict=True))
        sums = (f"{size / 1e6:.1f}" for size in self.sums)
        return [self.method, *sums, f"{self.ratio:.2f}", f"{self.at_rest:.2f}", tasks]


def _passing(parts: dict[str, int]) -> float:
    return parts.get("activations", 0) + parts.get("training", 0) / 3


HEADER = (
    "method",
    "estimated, MB",
    "measured, MB",
    "estimated ÷ measured",
    "the same, held between steps",
    "measured, first / second task: held + peak of a step, MB",
)


def weighed(config: RunConfig) -> Weighed:
    """Both sides for one method; what is trained is trained for a few steps."""
    kind, settings = check(config)
    course = Course(config.with_overrides(["training.epochs=1"]))
    companion = companion_of(kind, settings)
    found = memory_by_task(
        course.trainer.backbone.describe(),
        config.training.batch_size,
        facts=imported(METHODS[config.method].holds),
        settings=vars(settings),
        texts=max(len(task.classes) for task in course.trainer.curriculum),
        companion=shared(companion).describe() if companion else None,
    )
    result = Weighed(config.method, found, [], [])
    for index in range(min(2, len(course.trainer.curriculum))):
        while (course.trainer.cursor.task, course.stage) != (index, "train") and course.stage != "end":
            if course.advance()[1] is None:
                break
        if course.stage != "train":  # nothing is trained
            result.held.append(course.held())
            result.peak.append(0)
            continue
        for _ in range(WARM):
            course.advance()
        optimiser = course.trainer.optimiser
        optimiser.zero_grad()  # what a step frees of the one before would be subtracted from what it allocates
        result.held.append(course.held(optimiser))
        result.peak.append(peak_bytes(lambda: next(course.moments), course.trainer.device)[0])
    return result


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--methods", help="default: all that say what they hold")
    cli.add_argument("--device", default="auto")
    cli.add_argument("--backbone", action="append", default=[], help="for the methods of its family; may be repeated")
    cli.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, for all methods")
    arguments = cli.parse_args()
    try:
        device = choose_device(arguments.device)
        chosen = {lookup(BACKBONES, name, "backbone")[1].needs: name for name in arguments.backbone}
        saying = [name for name, entry in METHODS.items() if entry.holds]
        names = [lookup(METHODS, name, "method")[0] for name in (arguments.methods or ",".join(saying)).split(",")]
        silent = sorted({*names} - {*saying})
        if silent:
            raise ConfigError(f"methods {', '.join(silent)} do not say what they hold; choose of {', '.join(saying)}")
    except ConfigError as error:
        sys.exit(str(error))
    backbones = {**(ON_CUDA if device.type == "cuda" else {}), **chosen}
    configs = (config_of(name, arguments.device, backbones, arguments.set) for name in names)
    for line in table(HEADER, (weighed(config).cells() for config in configs)):
        print(line, flush=True)
    print(f"\n{device}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
