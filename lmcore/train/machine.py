"""What this process may use and what it really reaches: cores, memory, the peak of a matrix product."""

from __future__ import annotations

import math
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from lmcore.freed import give_back
from storage.errors import CollectTrainError

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
PRODUCT_SIZE = {"cpu": 1024, "cuda": 4096, "mps": 2048}  # large enough to reach the peak, small enough to be quick
HOPELESS = 3.0  # a number format without a unit of its own: bf16 takes 10 to 18 times as long on AVX2


def usable_cores() -> int:
    """Cores this process may run on: its affinity, cut to a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _cgroup("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def physical_cores() -> int:
    """Cores without counting hardware threads twice, never more than may be used."""
    return min(usable_cores(), psutil.cpu_count(logical=False) or usable_cores())


def devices() -> list[Literal["cuda", "mps", "cpu"]]:
    """The devices of this machine, the one to take first in front."""
    here: dict[Literal["cuda", "mps", "cpu"], bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    return [device for device, there in here.items() if there]


def has_bf16(device: str) -> bool:
    """Whether `device` computes in bf16 itself: GPUs before NVIDIA's Ampere (a T4, a V100) only imitate it."""
    return device != "cuda" or torch.cuda.get_device_capability()[0] >= 8 or torch.version.hip is not None


def free_memory(device: str) -> int:
    """Bytes that can still be had on `device`, cut to a container's limit."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    free = psutil.virtual_memory().available
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    own = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if own != resource.RLIM_INFINITY:
        free = min(free, max(0, own - psutil.Process().memory_info().data))
    return int(free)


def limits() -> dict[str, Any]:
    """What this process may use, as the system has it: core numbers, thread variable, bytes of memory, devices.

    None stands for no limit.
    """
    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cores": cores,
        "thread_variable": os.environ.get("OMP_NUM_THREADS"),
        "memory_bytes": None if soft == resource.RLIM_INFINITY else soft,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def peak_memory(device: str) -> int:
    """Largest number of bytes this process has held on `device`: the resident set on a CPU."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if _STATUS.exists():  # getrusage's figure is no smaller than that of the process that started this one
        for line in _STATUS.read_text(errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def is_out_of_memory(error: BaseException) -> bool:
    """True for what Python and torch raise when a device, or this process, has no more memory."""
    if isinstance(error, CollectTrainError):
        return False  # told already, in words like these
    # torch has no type of its own for a CPU that has no more.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def release_memory(device: str) -> None:
    """Give back what is held but not in use."""
    if device == "cuda":
        torch.cuda.empty_cache()
    else:
        give_back()


def processor(device: str) -> str:
    """The processor's own name."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def synchronize(device: str) -> None:
    """Wait until the device has done what was asked of it, so that a clock tells the truth."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def product_gflops(device: str, dtypes: list[torch.dtype], rounds: int = 4) -> list[float]:
    """Best speed of a square matrix product, as a Linear makes it, in each of `dtypes`, in turns, in GFLOP/s.

    One that is HOPELESS times slower than the best after its first two rounds is not timed on.
    """
    n = PRODUCT_SIZE[device]
    best = [math.inf] * len(dtypes)
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(n, n, generator=generator).to(device, dtype) for dtype in dtypes]
    for done in range(rounds + 1):  # the first round warms up and is hardly the best
        for i, matrix in enumerate(matrices):
            if done > 1 and best[i] > HOPELESS * min(best):
                continue
            started = time.perf_counter()
            torch.nn.functional.linear(matrix, matrix)
            synchronize(device)
            best[i] = min(best[i], time.perf_counter() - started)
    return [2 * n**3 / seconds / 1e9 for seconds in best]


def _cgroup(name: str) -> str:
    path = _CGROUP / name
    return path.read_text().strip() if path.is_file() else ""
