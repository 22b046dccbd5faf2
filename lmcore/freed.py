"""Giving back to the system what was freed: allocators keep it for later, and it counts as this process's memory.

Arrow takes its memory from the C library, too (see `storage`): its own allocator keeps what each of its threads freed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3), as <malloc.h> numbers them
_LARGE = 2 << 20
_MOST = 4 << 20 << 3  # glibc's DEFAULT_MMAP_THRESHOLD_MAX: what its own threshold grows to, by and by


def give_back() -> None:
    """Return the memory of objects that are gone, as far as allocators can; takes a few milliseconds."""
    pa.default_memory_pool().release_unused()
    if libc := _libc():
        libc.malloc_trim(0)  # its threshold grows with what was freed at once, so nothing goes back by itself


@contextmanager
def large_apart() -> Iterator[None]:
    """Keep blocks of 2 MiB and more out of the heap meanwhile, so that each goes back when it is freed.

    glibc begins like that, with 128 KiB, and raises the limit to the largest block that was ever freed, up to 32 MiB.
    From then on arrays of many MiB lie in the heap among small things that stay, and leave holes there. Afterwards the
    limit is what it would have come to be: it cannot be made to grow again. Someone who has set it has the choice.
    """
    libc = None if "MALLOC_MMAP_THRESHOLD_" in os.environ or "GLIBC_TUNABLES" in os.environ else _libc()
    if libc:
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        if libc:
            libc.mallopt(_MMAP_THRESHOLD, _MOST)
            libc.mallopt(_TRIM_THRESHOLD, 2 * _MOST)  # as glibc does when it raises the other


@functools.cache
def _libc() -> Any:
    """The C library where it can give memory back (glibc), else None."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
