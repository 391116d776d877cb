"""What tests of several rooms start from: a run small enough to train in half a second, and random numbers by seed.

torch is imported only where a fixture needs it, so tests of the viewer run without it.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cl_core.config import RunConfig
from cl_core.presets import resolve

# Before torch: spinning threads collapse when cores are shared, and two test workers have two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _tiny_config(method: str = "sequential", *, tasks: int = 5, **others: Any) -> RunConfig:
    record = {
        "method": method,
        "backbone": "random-vit",
        "stream": "synthetic",
        "device": "cpu",
        **others,
        "stream_settings": {"tasks": tasks, **others.get("stream_settings", {})},
        "training": {"epochs": 2, "batch_size": 25, **others.get("training", {})},
    }
    return resolve(record)


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """`AppTest` runs a page as `__main__` and leaves it there; a process pool started later would begin with it."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(autouse=True, scope="session")
def one_scan_for_components() -> None:
    """`AppTest` reads the metadata of every installed package at each `run`, looking for components that packages
    declare: several times what a page of ours takes. What is installed stays during the tests, so once is enough."""
    from streamlit.components.v2 import manifest_scanner as scanner

    scanner.scan_component_manifests = functools.cache(scanner.scan_component_manifests)


@pytest.fixture(autouse=True, scope="session")
def no_waits_for_the_disk() -> Iterator[None]:
    """Checkpoints are flushed to the disk so that they outlive a loss of power, which no test brings about. The waits
    were a twentieth of the methods' contract."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> None:
    """What was imported and recorded so far stays, so collections pass over it. In a process with torch, Streamlit and
    Plotly a full one takes a second, and whoever runs out of memory or ends a run asks for several."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries report at the end of the process that they were never let go


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., RunConfig]:
    """`tiny_config("nsp2", settings={...}, tasks=2, seed=1)`: two random blocks on drawn bars, two steps an epoch."""
    return _tiny_config


@pytest.fixture(scope="session")
def tiny_trainer() -> Callable[..., Any]:
    """A trainer at the beginning of the run that `tiny_config` describes."""
    from cl_core.training.factory import build

    return lambda *arguments, **others: build(_tiny_config(*arguments, **others))


@pytest.fixture(scope="session")
def seeded() -> Callable[[int], Any]:
    """`seeded(3)`: a torch generator of its own."""
    import torch

    return lambda seed: torch.Generator().manual_seed(seed)
