"""The environment that affects a run's numbers, besides its settings."""

from __future__ import annotations

import platform
from typing import Any

import torch

from cl_core import __version__


def environment(device: torch.device, precision: torch.dtype = torch.float32) -> dict[str, Any]:
    """Device, threads and versions, as stored in a run's first event."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else (platform.processor() or platform.machine())
    return {
        "device": device.type,
        "device_name": name,
        "precision": str(precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "plastiscope": __version__,
    }
