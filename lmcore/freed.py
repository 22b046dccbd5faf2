"""Giving back to the system what was freed: allocators keep it for later, and it counts as this process's memory.

Arrow takes its memory from the C library, too (see `storage`): its own allocator keeps what each of its threads freed.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import pyarrow as pa


def give_back() -> None:
    """Return the memory of objects that are gone, as far as allocators can; takes a few milliseconds."""
    pa.default_memory_pool().release_unused()
    if libc := _libc():
        libc.malloc_trim(0)  # its threshold grows with what was freed at once, so nothing goes back by itself


@functools.cache
def _libc() -> Any:
    """The C library where it can give memory back (glibc), else None."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
