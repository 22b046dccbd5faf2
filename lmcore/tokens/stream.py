"""A split of token shards as one long ring of tokens, memory-mapped and never held."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmcore.tokens.meta import MEND, numpy_dtype, read_meta
from storage.errors import RunError, UserError
from storage.parquet import read_parquet


class TokenStream:
    """The tokens of one split in document order. After the last comes the first again, the start of a document."""

    def __init__(self, folder: Path, split: str) -> None:
        """Open a tokens artifact. Raises RunError naming the file that is missing, cut short or does not fit."""
        meta = read_meta(folder)
        if split not in meta.splits:
            raise UserError(f"{folder} has no split {split!r}", f"choose one of {', '.join(sorted(meta.splits))}")
        facts = meta.splits[split]
        self.name = f"split {split!r} of {folder}"
        self.vocab_size = meta.vocab_size
        self.bos_id = meta.bos_id
        self.n_tokens = facts.tokens
        self.n_bytes = facts.bytes
        self.n_documents = facts.documents
        self._shards = [
            _map_shard(folder / split / f"{number:05d}.bin", numpy_dtype(meta.dtype), length)
            for number, length in enumerate(facts.shards)
        ]
        self._shard_starts = [0, *accumulate(facts.shards)]
        self._document_starts = self._read_documents(folder / split / "documents.parquet")

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """`count` tokens from position `start` on, going round at the end. Shape (count,)."""
        out = np.empty(count, dtype=np.int64)
        done, at = 0, start % self.n_tokens
        while done < count:
            number = bisect_right(self._shard_starts, at) - 1
            offset = at - self._shard_starts[number]
            part = self._shards[number][offset : offset + count - done]
            out[done : done + len(part)] = part
            done += len(part)
            at = (at + len(part)) % self.n_tokens
        return out

    def document_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The index in the split of the document that holds each position, going round at the end; same shape."""
        found = self._document_starts.searchsorted(positions % self.n_tokens, side="right") - 1
        return found.astype(np.int32)

    def _read_documents(self, path: Path) -> npt.NDArray[np.int64]:
        """Where each document starts in the ring. Raises RunError when the table and the shards disagree."""
        columns = ["shard", "offset", "n_tokens"]
        table = read_parquet(path, columns)
        if table.num_rows == self.n_documents:
            shard, offset, length = (table[name].to_numpy().astype(np.int64) for name in columns)
            starts: npt.NDArray[np.int64] = np.array(self._shard_starts).take(shard, mode="clip") + offset
            if np.array_equal(np.append(starts, self.n_tokens), np.append(0, np.cumsum(length))):
                return starts
        raise RunError(f"{path} does not describe the shards beside it", MEND)


def _map_shard(path: Path, dtype: np.dtype[np.unsignedinteger], length: int) -> npt.NDArray[np.unsignedinteger]:
    """Map a shard of `length` tokens, unread. Raises RunError naming it when it is missing or has another size."""
    try:
        size = path.stat().st_size
        if size == length * dtype.itemsize:
            return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))  # a view that slices faster
    except OSError as error:
        raise RunError(f"cannot read the token shard {path}: {error.strerror}", MEND) from error
    raise RunError(f"the token shard {path} has {size:,} bytes, meta.json says {length * dtype.itemsize:,}", MEND)
