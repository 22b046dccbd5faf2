"""Stage "tokens": curated texts to memory-mapped shards of token ids.

A document is its begin mark and its ids; documents follow each other in the curated order and none is divided
between shards. Which documents a shard holds is settled beforehand from their bytes (a token has at least one), so
the bytes of a shard depend neither on the number of threads nor on where a run was interrupted.

Where only some turns of a text are to be learnt, the shard has a mask beside it (see `roles`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lmcore.documents import CURATED, SPLITS, read_documents
from lmcore.progress import Report
from lmcore.tokenizer import Tokenizer, load_tokenizer
from lmcore.tokenizer.curated import file_sizes, repeated
from lmcore.tokenizer.lossy import missing_of
from lmcore.tokenizer.parallel import encode_stream
from lmcore.tokens.meta import MISSING, Meta, SplitMeta, dtype_name, mask_file, numpy_dtype, tokenizer_digest
from lmcore.tokens.params import TokensParams, TokensRuntime
from lmcore.tokens.roles import Spans, check_roles, learnt_spans, pack_mask, tokens_in
from storage.atomic import fault, write_bytes, write_json
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

Ints = npt.NDArray[np.int64]
MOST_NAMES = 2**15
MEASURED_BYTES = 1_000_000  # of text that they are measured on; the rest has the share of these
NAMED = ("source", "lang", "kind")  # columns whose names are in meta.json

DOCUMENTS = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # tokens before the document in its shard
        pa.field("n_tokens", pa.int64(), nullable=False),  # with its begin mark
        pa.field("n_bytes", pa.int64(), nullable=False),  # UTF-8 bytes of its text
        pa.field("source", pa.int16(), nullable=False),  # which of `sources` in meta.json
        pa.field("lang", pa.int16(), nullable=False),  # which of `langs`
        pa.field("kind", pa.int16(), nullable=False),  # which of `kinds`
        pa.field("complexity", pa.float32(), nullable=False),  # 0 to 100
    ]
)


@dataclass(frozen=True)
class Shard:
    """Documents `start` to `stop` of a split, counted over its files."""

    number: int
    start: int
    stop: int


def plan_shards(sizes: Ints, shard_tokens: int) -> list[Shard]:
    """Divide documents of these UTF-8 bytes into runs that cannot have more than `shard_tokens` tokens.

    A document of n bytes has at most n + 1 tokens, its begin mark included. One that may have more than
    `shard_tokens` is a shard of its own.
    """
    most = np.append(0, np.cumsum(sizes + 1))  # tokens before each document, at most
    shards: list[Shard] = []
    start = 0
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(most, most[start] + shard_tokens, side="right")) - 1)
        shards.append(Shard(len(shards), start, stop))
        start = stop
    return shards


def make_tokens(
    work: Path, curated: Path, tokenizer: Path, *, params: TokensParams, runtime: TokensRuntime, report: Report
) -> dict[str, Any]:
    """Write the shards of every split, `documents.parquet` beside them, and `meta.json`; gives their totals.

    Shards that were finished survive a kill. Raises RunError for a damaged tokenizer or curated file, and when there
    is no training text, UserError when no turn has a role that was asked for.
    """
    out = work / "out"
    for part in out.rglob(".*.part"):  # left by a kill while a file was being written
        part.unlink()
    vocabulary = load_tokenizer(tokenizer)
    files = {split: file_sizes(curated, split) for split in SPLITS}
    total = sum(int(sizes.sum()) for split in SPLITS for _, sizes in files[split])
    if not any(len(sizes) for _, sizes in files["train"]):
        raise RunError(f"no training text in {curated / 'train'}", "collect more, or loosen the rules of curate")
    check_roles((path for path, _ in files["train"]), params)
    done = 0

    def tick(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        report(done, total, "encoding")

    names = {column: _names(files, column) for column in NAMED}
    splits: dict[str, SplitMeta] = {}
    said: dict[str, int] = {}
    for split in SPLITS:
        encoder = _Encoder(vocabulary, curated / split, files[split], params, runtime.workers, tick)
        counts = _make_shards(work, encoder, params.shard_tokens)
        table = _documents(files[split], counts, names)
        if vocabulary.lossy and split == "val":  # of the looks at it, which are charged for them
            missing = list(missing_of(vocabulary, encoder.texts(), MEASURED_BYTES))
            table = table.append_column(MISSING, pa.array(missing, pa.int64()))
        write_parquet(out / split / "documents.parquet", table)
        lengths = [int(some.sum()) for some in counts]
        said[f"role_tokens_{split}"] = encoder.said
        splits[split] = SplitMeta(
            shards=lengths,
            masks=[number for number in range(len(counts)) if mask_file(out / split, number).exists()],
            tokens=sum(lengths),
            documents=len(encoder.sizes),
            bytes=int(encoder.sizes.sum()),
        )
    meta = Meta(
        dtype=dtype_name(vocabulary.vocab_size),
        vocab_size=vocabulary.vocab_size,
        bos_id=vocabulary.bos_id,
        tokenizer=tokenizer_digest(vocabulary),
        sources=names["source"],
        langs=names["lang"],
        kinds=names["kind"],
        splits=splits,
    )
    fault("tokens.before-meta")
    write_json(out / "meta.json", meta.model_dump())
    metrics: dict[str, Any] = {f"tokens_{split}": splits[split].tokens for split in SPLITS}
    if params.asks_for_roles:
        metrics |= said
    return metrics | {
        "documents": sum(facts.documents for facts in splits.values()),
        "bytes": total,
        "shards": sum(len(facts.shards) for facts in splits.values()),
    }


def _make_shards(work: Path, encoder: _Encoder, shard_tokens: int) -> list[Ints]:
    """Write the shards of a split that are not finished yet; gives the tokens of each document, by shard."""
    counts: list[Ints] = []
    for shard in plan_shards(encoder.sizes, shard_tokens):
        name = f"{encoder.folder.name}/{shard.number:05d}"
        finished = work / "finished" / f"{name}.json"
        kept = json.loads(finished.read_text()) if finished.exists() else None
        if isinstance(kept, dict):  # by an earlier version it is a list: made again, to equal bytes
            encoder.skip(shard, kept["said"])
            counts.append(np.array(kept["tokens"], dtype=np.int64))
            continue
        before = encoder.said
        data, mask, lengths = encoder.encode(shard)
        write_bytes(work / "out" / f"{name}.bin", data)
        if mask is not None:
            write_bytes(mask_file(work / "out" / encoder.folder.name, shard.number), mask)
        fault("tokens.shard")
        write_json(finished, {"tokens": lengths.tolist(), "said": encoder.said - before})
        counts.append(lengths)
    return counts


class _Encoder:
    """The documents of one split, encoded a shard at a time."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        folder: Path,
        files: list[tuple[Path, Ints]],
        params: TokensParams,
        workers: int,
        tick: Callable[[int], None],
    ) -> None:
        self._tokenizer, self._files, self._workers, self._tick = tokenizer, files, workers, tick
        self._roles, self._only = params.learn_roles, params.only_roles_of
        self._learnt: dict[int, tuple[str, Spans]] = {}  # documents on their way through the threads
        self.said = 0  # tokens of turns of these roles
        self.folder = folder
        self._dtype = numpy_dtype(dtype_name(tokenizer.vocab_size))
        self._bytes = tokenizer.byte_length(np.arange(tokenizer.vocab_size))
        self.sizes = _joined([sizes for _, sizes in files])

    def skip(self, shard: Shard, said: int) -> None:
        """Count a finished shard as done, and what was said in it."""
        self.said += said
        self._tick(int(self.sizes[shard.start : shard.stop].sum()))

    def encode(self, shard: Shard) -> tuple[bytes, bytes | None, Ints]:
        """A shard's bytes, those of its mask (None when every token is learnt) and the tokens of each document."""
        begin = np.array([self._tokenizer.bos_id], dtype=self._dtype)
        parts: list[npt.NDArray[np.unsignedinteger]] = []
        lengths: list[int] = []
        learnt: dict[int, npt.NDArray[np.bool_]] = {}  # of documents that are not learnt whole, without the begin mark
        for ids in encode_stream(self._tokenizer, self._texts(shard), self._workers):
            document = shard.start + len(lengths)
            n_bytes = int(self.sizes[document])
            if not self._tokenizer.lossy and int(self._bytes[ids].sum()) != n_bytes:
                raise RunError(
                    f"document {document} of {self.folder} has n_bytes {n_bytes}, its text has "
                    f"{int(self._bytes[ids].sum())}",
                    "curate again: `collect-train run RECIPE --from curate`",
                )
            if document in self._learnt:
                text, spans = self._learnt.pop(document)
                learnt[len(lengths)] = tokens_in(self._tokenizer, text, ids, spans)
                self.said += int(learnt[len(lengths)].sum())
            parts += [begin, ids.astype(self._dtype)]
            lengths.append(len(ids) + 1)
            self._tick(n_bytes)
        data = np.concatenate(parts)
        if not learnt:
            return data.tobytes(), None, np.array(lengths, dtype=np.int64)
        mask = np.ones(len(data), dtype=bool)
        starts = np.cumsum(lengths) - lengths
        for number, part in learnt.items():
            mask[starts[number] + 1 : starts[number] + lengths[number]] = part
        return data.tobytes(), pack_mask(mask), np.array(lengths, dtype=np.int64)

    def texts(self) -> Iterator[str]:
        """Every text of the split."""
        for path, _ in self._files:
            yield from (text.as_py() for text in _column(path, "text"))

    def _texts(self, shard: Shard) -> Iterator[str]:
        """The shard's texts, reading only the files that hold some of them."""
        first = 0
        for path, sizes in self._files:
            low, high = max(shard.start - first, 0), min(shard.stop - first, len(sizes))
            if low < high:
                table = read_documents(path, CURATED).select(["text", "turns", "source", "repeats"])
                table = repeated(table).slice(low, high - low)
                only = pc.is_in(table["source"], pa.array(self._only, pa.string()))
                to_note = pc.or_(pc.is_valid(table["turns"]), only).to_numpy()
                for number, text in enumerate(table["text"]):
                    if to_note[number]:
                        turns = table["turns"][number].as_py() or []
                        self._note(first + low + number, text.as_py(), turns, only=only[number].as_py())
                    yield text.as_py()
            first += len(sizes)

    def _note(self, document: int, text: str, turns: list[dict[str, str]], *, only: bool) -> None:
        name = f"document {document} of {self.folder}"
        spans = learnt_spans(text, turns, self._roles, name, closing=bool(self._tokenizer.tags))
        if spans is not None or only:
            self._learnt[document] = text, spans or []


def _names(files: dict[str, list[tuple[Path, Ints]]], column: str) -> list[str]:
    """Every value of a column of the curated documents, sorted: a value's place is its number."""
    names = {name for some in files.values() for path, _ in some for name in _column(path, column).unique().to_pylist()}
    if len(names) > MOST_NAMES:
        raise RunError(
            f"{len(names):,} different values of {column} are more than the {MOST_NAMES:,} that fit",
            "join some in the recipe",
        )
    return sorted(names)


def _column(path: Path, name: str) -> pa.ChunkedArray:
    return repeated(read_parquet(path, [name, "repeats"]))[name]


def _documents(files: list[tuple[Path, Ints]], counts: list[Ints], names: dict[str, list[str]]) -> pa.Table:
    """Where every document of a split lies, and what it is."""
    columns = [
        _whole(files, "record_id"),
        np.repeat(np.arange(len(counts), dtype=np.int32), [len(lengths) for lengths in counts]),
        _joined([np.cumsum(lengths) - lengths for lengths in counts]),
        _joined(counts),
        _joined([sizes for _, sizes in files]),
        *(pc.index_in(_whole(files, name), pa.array(names[name], pa.string())).cast(pa.int16()) for name in NAMED),
        _whole(files, "complexity").cast(pa.float32()),
    ]
    return pa.table(columns, schema=DOCUMENTS)


def _whole(files: list[tuple[Path, Ints]], name: str) -> pa.Array:
    """One column of all files."""
    chunks = [chunk for path, _ in files for chunk in _column(path, name).chunks]
    return pa.chunked_array(chunks, type=CURATED.field(name).type).combine_chunks()


def _joined(arrays: list[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays])
