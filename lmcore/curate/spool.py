"""One long array written piece by piece: in memory while it is small, then in a temporary file that is mapped."""

from __future__ import annotations

import mmap
import tempfile
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)


class Spool(Generic[_Value]):
    """Holds up to `limit` bytes in memory. Use it with `with`; its array must not be used after that."""

    def __init__(self, dtype: type[_Value], limit: int) -> None:
        self._dtype, self._limit = dtype, limit
        self._held: list[NDArray[_Value]] = []
        self._held_bytes = 0
        self._file = tempfile.TemporaryFile(prefix="spool-")  # noqa: SIM115 - closed by __exit__
        self._map: mmap.mmap | None = None
        self.size = 0

    def add(self, piece: NDArray[_Value]) -> None:
        """Append `piece`, of one dimension."""
        self._held.append(piece)
        self._held_bytes += piece.nbytes
        self.size += len(piece)
        if self._held_bytes > self._limit:
            self._write()

    def array(self) -> NDArray[_Value]:
        """Everything added, in order; read-only where it is in the file."""
        if self._held_bytes == self.size * np.dtype(self._dtype).itemsize:
            self._held = [self._joined()]
            return self._held[0]
        self._write()
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(self._map, self._dtype, self.size)

    def release(self) -> None:
        """Let go of the pages of the file that were looked at: what is looked at again is mapped again."""
        if self._map:
            self._map.madvise(mmap.MADV_DONTNEED)

    def _joined(self) -> NDArray[_Value]:
        """All that is held, in one array; a piece goes once it is copied, so that nothing is there twice."""
        joined = np.empty(self.size, self._dtype)
        end = self.size
        while self._held:
            piece = self._held.pop()
            joined[end - len(piece) : end] = piece
            end -= len(piece)
        return joined

    def _write(self) -> None:
        for piece in self._held:
            self._file.write(piece.data)
        self._held, self._held_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held, self._map = [], None
        self._file.close()
