"""The device of a run: selection, precision, free memory, and locking.

All CUDA-specific code is here and in `data_loader`, which pins memory; other code is device-independent.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from cl_core.config import ConfigError

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing can be trained there, see `store.hold`
    fcntl = None  # type: ignore[assignment]

RUNS_PER_DEVICE = "PLASTISCOPE_RUNS_PER_DEVICE"  # environment: how many runs may share a GPU; 1 unless set
OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


def choose_device(name: str) -> torch.device:
    """auto: the first GPU if there is one, else the CPU. Raises ConfigError if the device is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but torch sees no GPU here; use --device cpu (or auto)")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Precision of the backbone in training and evaluation: float32 or bfloat16. auto: bfloat16 on a GPU that supports
    it, else float32. Raises ConfigError if bfloat16 is requested on a GPU without it."""
    has_it = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "bf16" and not has_it:
        raise ConfigError(
            f"precision bf16 was asked for, but {title(device)} has no bfloat16; use --precision float32 (or auto)"
        )
    narrow = name == "bf16" or (name == "auto" and device.type == "cuda" and has_it)
    return torch.bfloat16 if narrow else torch.float32


def title(device: torch.device) -> str:
    """ "cuda:0 (NVIDIA H100)", "cpu"."""
    if device.type != "cuda":
        return device.type
    index = torch.cuda.current_device() if device.index is None else device.index
    return f"cuda:{index} ({torch.cuda.get_device_name(device)})"


@dataclass(frozen=True)
class Memory:
    """Bytes of a device."""

    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.free / 2**30:.1f} of {self.total / 2**30:.1f} GiB"


def memory(device: torch.device) -> Memory | None:
    """Memory currently free on a device; None if unknown."""
    if device.type == "cuda":
        return Memory(*torch.cuda.mem_get_info(device))
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return Memory(os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page)
    except (ValueError, OSError):  # not every system counts free pages
        return None


def free_memory(device: torch.device) -> None:
    """Free unreferenced memory, including torch's cache."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def use_granted_cores(limits: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Limit CPU threads to the cores of the container, because torch would use those of the whole machine; a smaller
    number set by OMP_NUM_THREADS or a caller is kept. Returns the number."""
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return threads
    try:
        quota, period = limits.read_text("utf-8").split()
        granted = max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return threads
    if granted < threads:
        torch.set_num_threads(granted)
    return min(granted, threads)


# ------------------------------------------------------------ locking


class GpuLock:
    """The right to train on a device. A GPU is given to one run at a time (or as many as `sharing` says); a run takes
    the first that is free, or waits. A processor is everybody's.

    A lock (`flock`) on a file of this user in a temporary folder: the kernel drops it however its owner dies. Use it as
    a context manager, which gives the device back.
    """

    def __init__(self, device: torch.device, sharing: int = 1) -> None:
        self.device = device
        self.sharing = int(os.environ.get(RUNS_PER_DEVICE) or sharing)
        self._lock: int | None = None

    def __enter__(self) -> GpuLock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            free_memory(self.device)
            os.close(self._lock)  # drops the lock
            self._lock = None

    def take(self, run: str) -> bool:
        """Try to take the lock, without waiting; it is held until the block ends."""
        if self.device.type != "cuda" or fcntl is None:
            return True
        for index, file in [] if self._lock is not None else self._places():
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            self._lock = descriptor
            torch.cuda.set_device(index)  # what "cuda" means in this process from here on
            break
        if self._lock is None:
            return False
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{run} (process {os.getpid()})".encode(), 0)
        return True

    def reason(self) -> str:
        """Why the run waits, in one sentence."""
        at_work = []
        for _, file in self._places():
            with contextlib.suppress(OSError):
                at_work.append(file.read_text("utf-8").strip())
        whose = ", ".join(filter(None, at_work)) or "another run"
        return f"waits for a free GPU; in training there: {whose}"

    def _places(self) -> list[tuple[int, Path]]:
        """Places for runs on the GPUs that this process sees: (index here, lock file). GPUs are told apart by what
        CUDA_VISIBLE_DEVICES calls them: asking CUDA itself would take memory there."""
        folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"plastiscope-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        found = []
        for place in range(max(1, self.sharing)):
            for index in range(torch.cuda.device_count()):
                name = visible[index] if index < len(visible) else str(index)
                found.append((index, folder / f"cuda-{name.replace(os.sep, '-')}-{place}.lock"))
        return found
