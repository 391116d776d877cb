"""What the measurements of this folder share: the clock, the peak of memory, what an object holds, and spreads.

The peak of a piece of work is counted above what was allocated when it began: on CUDA by the allocator
(`max_memory_allocated`), on the CPU by the profiler's record of every allocation and release of torch's own
allocator (backward passes included), added up in order. Both are bytes asked for by tensors: what libraries set aside
for themselves is not seen, and a busy machine changes nothing. What was there before is counted as `held_bytes`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler tells standard error when it starts and stops

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


class Clock:
    """What seconds are counted by: `time.perf_counter`, or `time.process_time` where others keep the machine busy (then
    with one thread, because the CPU's time of several adds up)."""

    now: Callable[[], float] = staticmethod(time.perf_counter)

    @classmethod
    def of_processor(cls) -> None:
        cls.now = staticmethod(time.process_time)


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of a piece of work, with all it has asked of a GPU done, and what it returns."""
    settle(device)
    started = Clock.now()
    result = work()
    settle(device)
    return Clock.now() - started, result


def add_options(cli: argparse.ArgumentParser) -> None:
    """Options that say what is counted, for every bench that measures by these meters."""
    cli.add_argument("--threads", type=int, help="default: torch's own choice")
    cli.add_argument(
        "--processor",
        action="store_true",
        help="count this process's time on the CPU, on one thread: for a machine that others use as well",
    )


def apply_options(arguments: argparse.Namespace) -> str:
    """Do as the options say; how it is measured, in words."""
    if arguments.processor:
        Clock.of_processor()
    if arguments.processor or arguments.threads:
        torch.set_num_threads(arguments.threads or 1)
    counted = "processor time" if arguments.processor else "by the clock"
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, {counted}, load {os.getloadavg()[0]:.1f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table, each as soon as its row is there."""
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(work: Callable[[], Any], device: torch.device) -> tuple[int, Any]:
    """Bytes that tensors held at the worst moment of a piece of work, above what they held before, and what it
    returns."""
    if device.type == "cuda":
        settle(device)
        torch.cuda.reset_peak_memory_stats(device)
        before, result = torch.cuda.memory_allocated(device), work()
        settle(device)
        return torch.cuda.max_memory_allocated(device) - before, result
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        result = work()
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        live += change.nbytes()
        peak = max(peak, live)
    return peak, result


def held_bytes(roots: Iterable[Any], device: torch.device, apart: Sequence[Any] = ()) -> int:
    """Bytes on the device of all tensors that can be reached from `roots`, each storage once: parameters, state, what
    is derived from it and gradients. `apart`: objects not to be entered, such as the stream."""
    met, storages, left = {id(o) for o in apart}, {}, list(roots)
    while left:
        found = left.pop()
        if id(found) in met:
            continue
        met.add(id(found))
        if isinstance(found, Tensor):
            if found.device.type == device.type:
                storage = found.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
            left.append(found.grad if found.is_leaf else None)
        elif isinstance(found, dict):
            left += [*found.keys(), *found.values()]
        elif isinstance(found, (list, tuple, set, frozenset)):
            left += found
        elif isinstance(found, MethodType):
            left += [found.__self__, found.__func__]
        elif isinstance(found, FunctionType):
            left += [cell.cell_contents for cell in found.__closure__ or () if cell != _EMPTY]
        elif not isinstance(found, (type, ModuleType, BuiltinFunctionType, str, bytes, int, float, type(None))):
            left.append(getattr(found, "__dict__", None))
            left += [getattr(found, name, None) for name in getattr(type(found), "__slots__", ())]
    return sum(storages.values())


_EMPTY = type((lambda x: lambda: x)(0).__closure__[0])()  # a cell that nothing was put in


@dataclass(frozen=True)
class Spread:
    """Of paired ratios: the median and the quartiles."""

    low: float
    middle: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        low, high = (ordered[round(q * (len(ordered) - 1))] for q in (0.25, 0.75))
        return cls(low, statistics.median(ordered), high, len(ordered))

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} … {self.high:.2f})"
