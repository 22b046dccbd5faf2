"""What must be settled before torch loads: how memory is kept and how threads wait.

A training step allocates and frees the same large tensors over and over. glibc serves blocks above its mmap
threshold by mmap and gives them back at once, so every step faults in every page again. Raising the two thresholds
makes a step 1.5 to 2 times faster at small widths and costs about a quarter more peak memory (measured, see
docs/train.md). It must happen before torch allocates.
"""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD = -1  # parameter numbers of mallopt(3), malloc.h
_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 1 << 30  # a 32 MiB threshold, glibc's documented maximum for the dynamic one, changes nothing
_TRIM_BYTES = 2**31 - 1


def sleep_at_barriers() -> None:
    """Let OpenMP's threads sleep instead of spin while they wait for each other, unless the environment says how.

    Within a tenth as fast on an idle machine, and several times faster as soon as any other process wants a core
    (measured, see docs/train.md). OpenMP reads this once, when torch loads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def raise_thresholds() -> str:
    """Raise glibc's mmap and trim thresholds in this process; gives one line that says what was done."""
    preloaded = [name for name in ("tcmalloc", "jemalloc", "mimalloc") if name in os.environ.get("LD_PRELOAD", "")]
    if preloaded:
        return f"{preloaded[0]} is preloaded: its own settings stay"
    if platform.libc_ver()[0] != "glibc":
        return "the C library is not glibc: its settings stay"
    mallopt = ctypes.CDLL(None).mallopt
    if mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES):
        return "glibc mmap threshold 1 GiB, trim threshold 2 GiB"
    return "glibc refused the thresholds: its settings stay"
