"""One long array written piece by piece: in memory while it is small, then in a temporary file that is mapped."""

from __future__ import annotations

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
            return np.concatenate(self._held) if self._held else np.empty(0, self._dtype)
        self._write()
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r", shape=(self.size,))

    def _write(self) -> None:
        for piece in self._held:
            self._file.write(piece.data)
        self._held, self._held_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = []
        self._file.close()
