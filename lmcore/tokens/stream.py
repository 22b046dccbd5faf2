"""The tokens of a split, or of some of its documents, as one long ring, memory-mapped and never held."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmcore.tokens.meta import MEND, Meta, mask_file, numpy_dtype, read_meta
from lmcore.tokens.params import MixtureBy
from lmcore.tokens.roles import unpack_mask
from lmcore.tokens.stages import Bounds, quantile
from storage.errors import RunError, UserError
from storage.parquet import read_parquet

Ints = npt.NDArray[np.int64]


AGAIN = "make the tokens again: `collect-train run RECIPE --from tokens`"


@dataclass(frozen=True)
class Pick:
    """Some documents of a split: those of one source, language or kind, and of some complexity."""

    name: str | None = None
    by: MixtureBy = "source"
    complexity: Bounds | None = None  # from the first up to below the second; 100 is below 100

    def __str__(self) -> str:
        """As errors and the journal name it; empty when it is all documents."""
        told = [] if self.name is None else [f"{self.by} {self.name!r}"]
        told += [] if self.complexity is None else ["complexity {} to {}".format(*map(_told, self.complexity))]
        return ", ".join(told)


def documents_of(folder: Path, split: str, pick: Pick) -> Ints:
    """The numbers of the documents of a pick in `split` of a tokens artifact, rising; none where nothing fits.

    Bounds that are quantiles count among the documents of the pick's name: these in the order of their complexities,
    equal ones as the split has them. So the picks q0 to q20, q20 to q40 and so on have each document once, also where
    complexities are equal. Raises UserError for a name that is not there, and for a complexity or a kind in tokens that
    were made before those were noted.
    """
    meta = read_meta(folder)
    return _picked(folder / split / "documents.parquet", meta, pick)[0]


class TokenStream:
    """Documents in their order, end to end. After the last comes the first again, from its begin mark on.

    `starts` and `lengths` are those of the stream's documents, in tokens, and `documents` their numbers in the split.
    """

    def __init__(self, folder: Path, split: str, pick: Pick | None = None) -> None:
        """Open a tokens artifact: all of `split`, or what is picked of it.

        Raises RunError naming the file that is missing, cut short or does not fit, UserError for a split or a source
        that the artifact does not have, or a pick that holds no document.
        """
        pick = pick or Pick()
        meta = read_meta(folder)
        if split not in meta.splits:
            raise UserError(f"{folder} has no split {split!r}", f"choose one of {', '.join(sorted(meta.splits))}")
        facts = meta.splits[split]
        self.name = ", ".join(filter(None, [f"split {split!r} of {folder}", str(pick)]))
        self.vocab_size = meta.vocab_size
        self.bos_id = meta.bos_id
        dtype = numpy_dtype(meta.dtype)
        part = folder / split
        self._shards = [_map(part / f"{number:05d}.bin", dtype, length) for number, length in enumerate(facts.shards)]
        self._masks = {
            number: _map(mask_file(part, number), np.dtype("u1"), -(-facts.shards[number] // 8))
            for number in facts.masks
        }
        path = part / "documents.parquet"
        self._shard_starts = np.array([0, *accumulate(facts.shards)], dtype=np.int64)
        places, self.lengths, n_bytes = _read_documents(path, facts.documents, facts.tokens, self._shard_starts)
        self.documents = np.arange(len(places), dtype=np.int32)
        if str(pick):
            self.documents = _some(path, meta, pick).astype(np.int32)
            places, self.lengths, n_bytes = (all_[self.documents] for all_ in (places, self.lengths, n_bytes))
        self.starts: Ints = np.cumsum(self.lengths) - self.lengths
        self.n_tokens = int(self.lengths.sum())
        self.n_bytes = int(n_bytes.sum())
        self.n_documents = len(self.documents)
        self._lay_out(places)

    def read(self, start: int, count: int) -> Ints:
        """`count` tokens from position `start` on, going round at the end. Shape (count,)."""
        out = np.empty(count, dtype=np.int64)
        for done, shard, offset, size in self._parts(start, count):
            out[done : done + size] = self._shards[shard][offset : offset + size]
        return out

    def learnt(self, start: int, count: int) -> npt.NDArray[np.bool_]:
        """Whether each of `count` tokens from position `start` on is to be learnt, going round. Shape (count,)."""
        out = np.ones(count, dtype=bool)
        for done, shard, offset, size in self._parts(start, count) if self._masks else ():
            if shard in self._masks:
                out[done : done + size] = unpack_mask(self._masks[shard], offset, offset + size)
        return out

    def document_at(self, positions: Ints) -> npt.NDArray[np.int32]:
        """The index in the split of the document that holds each position, going round at the end; same shape."""
        found = self.starts.searchsorted(positions % self.n_tokens, side="right") - 1
        return self.documents[found]

    def _parts(self, start: int, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Where `count` tokens from `start` on lie: (tokens before, shard, offset in it, tokens) of each stretch."""
        done, at = 0, start % self.n_tokens
        run = bisect_right(self._run_starts, at) - 1
        while done < count:
            shard, offset, first, length = self._runs[run]
            size = min(count - done, first + length - at)
            yield done, shard, offset + at - first, size
            done += size
            run, at = (run + 1, at + size) if run + 1 < len(self._runs) else (0, 0)

    def _lay_out(self, places: Ints) -> None:
        """Join documents that follow each other in one shard to runs: (shard, offset in it, position, tokens)."""
        shards = self._shard_starts.searchsorted(places, side="right") - 1
        begins = np.ones(len(places), dtype=bool)
        begins[1:] = (places[1:] != places[:-1] + self.lengths[:-1]) | (shards[1:] != shards[:-1])
        first = np.flatnonzero(begins)
        run_starts = self.starts[first]
        self._run_starts: list[int] = run_starts.tolist()
        lengths = np.diff(np.append(run_starts, self.n_tokens))
        offsets = places[first] - self._shard_starts[shards[first]]
        self._runs = list(
            zip(shards[first].tolist(), offsets.tolist(), self._run_starts, lengths.tolist(), strict=True)
        )


def _read_documents(path: Path, documents: int, tokens: int, shard_starts: Ints) -> tuple[Ints, Ints, Ints]:
    """Where each document lies in the split, its tokens and bytes. RunError when table and shards disagree."""
    columns = ["shard", "offset", "n_tokens", "n_bytes"]
    table = read_parquet(path, columns)
    if table.num_rows == documents:
        shard, offset, length, n_bytes = (table[name].to_numpy().astype(np.int64) for name in columns)
        starts: Ints = shard_starts.take(shard, mode="clip") + offset
        if np.array_equal(np.append(starts, tokens), np.append(0, np.cumsum(length))):
            return starts, length, n_bytes
    raise RunError(f"{path} does not describe the shards beside it", MEND)


def _some(path: Path, meta: Meta, pick: Pick) -> Ints:
    """The numbers of the documents of a pick. UserError where the complexities that there are leave none."""
    found, among = _picked(path, meta, pick)
    if len(found) or not len(among):
        return found
    least, middle, most = np.quantile(among, [0, 0.5, 1])
    raise UserError(
        f"{path.parent.parent} has no text in split {path.parent.name!r} with {pick}",
        f"choose other bounds, or quantiles (q0 to q20): the complexity of these {len(among):,} texts is {least:.1f} "
        f"to {most:.1f}, half of them below {middle:.1f}",
    )


def _picked(path: Path, meta: Meta, pick: Pick) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The numbers of the documents of a pick, and the complexities of those that its bounds were laid on."""
    folder = path.parent.parent
    chosen: Ints = np.arange(meta.splits[path.parent.name].documents)
    if pick.name is not None:
        names = meta.names(pick.by)
        if pick.name not in names:
            known = ", ".join(names) or f"none: its tokens were made before the {pick.by} was noted"
            raise UserError(f"{folder} has no {pick.by} {pick.name!r}", f"name one that it has ({known})")
        chosen = np.flatnonzero(read_parquet(path, [pick.by])[pick.by].to_numpy() == names.index(pick.name))
    if pick.complexity is None:
        return chosen, np.zeros(0, np.float32)
    if not meta.kinds:
        raise UserError(f"{folder} was made before the complexity of texts was noted", AGAIN)
    values = read_parquet(path, ["complexity"])["complexity"].to_numpy().astype(np.float32)[chosen]
    order = np.argsort(values, kind="stable")
    low, high = (_rank(bound, values[order]) for bound in pick.complexity)
    return np.sort(chosen[order[low:high]]), values


def _rank(bound: float | str, rising: npt.NDArray[np.float32]) -> int:
    """How many of these complexities, in rising order, lie below a bound."""
    if isinstance(bound, str):
        return math.floor(quantile(bound) * len(rising) / 100 + 1e-9)
    return len(rising) if bound == 100 else int(np.searchsorted(rising, np.float32(bound)))


def _told(bound: float | str) -> str:
    return bound if isinstance(bound, str) else f"{bound:g}"


def _map(path: Path, dtype: np.dtype[np.unsignedinteger], length: int) -> npt.NDArray[np.unsignedinteger]:
    """Map `length` numbers, unread. Raises RunError naming the file when it is missing or has another size."""
    try:
        size = path.stat().st_size
        if size == length == 0:
            return np.zeros(0, dtype=dtype)  # all its texts were forgotten; an empty file cannot be mapped
        if size == length * dtype.itemsize:
            return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))  # a view that slices faster
    except OSError as error:
        raise RunError(f"cannot read the token shard {path}: {error.strerror}", MEND) from error
    raise RunError(f"the token shard {path} has {size:,} bytes, meta.json says {length * dtype.itemsize:,}", MEND)
