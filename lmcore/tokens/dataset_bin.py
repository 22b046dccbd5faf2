"""`dataset.bin`, the training file of CLLM (justmebob123/crystalline): its numbers, written and read.

The number of tokens as 8 bytes, then 4 bytes for each token, all little endian; nothing else, so a file of N tokens has
8 + 4 N bytes. CLLM puts no marks between documents: the begin marks of the shards are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lmcore.tokens.stream import TokenStream
from storage.atomic import write_chunks
from storage.errors import RunError, UserError

HEADER = np.dtype("<u8")
TOKEN = np.dtype("<u4")
CHUNK = 2**20  # tokens that are in memory at a time, and the last document of them whole
MEND = "write it again: `collect-train export-tokens tokens dataset.bin`"


def write_dataset_bin(folder: Path, split: str, path: Path) -> int:
    """Write a split of the tokens artifact in `folder` to `path`; gives the number of tokens.

    Raises UserError for a split that is not there or has no text, RunError for damaged tokens, StorageError when the
    disk refuses.
    """
    stream = TokenStream(folder, split)
    count = stream.n_tokens - stream.n_documents
    if not count:
        raise UserError(f"{stream.name} has no text", "choose another split")
    write_chunks(path, _chunks(stream, count))
    return count


def read_dataset_bin(path: Path, vocab_size: int | None = None) -> npt.NDArray[np.uint32]:
    """The tokens in `path`, memory-mapped, (N,).

    Raises RunError when the file is missing, its length is not that of its header, or a token is not below `vocab_size`
    (where given; this reads the whole file).
    """
    try:
        size = path.stat().st_size
        count = int(np.fromfile(path, HEADER, 1)[0]) if size >= HEADER.itemsize else -1
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", MEND) from error
    if count < 0:
        raise RunError(f"{path} has {size} bytes, and its header alone has {HEADER.itemsize}", MEND)
    if size != (expected := HEADER.itemsize + TOKEN.itemsize * count):
        raise RunError(
            f"{path} has {size:,} bytes; its header says {count:,} tokens, which have {expected:,}",
            f"it was cut short or is no dataset.bin: {MEND}",
        )
    if not count:
        return np.zeros(0, dtype=TOKEN)
    tokens = np.asarray(np.memmap(path, TOKEN, "r", offset=HEADER.itemsize, shape=(count,)))
    if vocab_size is not None and (most := int(tokens.max())) >= vocab_size:
        raise RunError(
            f"{path} has a token {most:,}, and the vocabulary only {vocab_size:,}",
            "use the vocabulary it was made with",
        )
    return tokens


def _chunks(stream: TokenStream, count: int) -> Iterator[bytes]:
    yield np.array([count], dtype=HEADER).tobytes()
    first = 0
    while first < stream.n_documents:
        start = int(stream.starts[first])
        stop = max(first + 1, int(np.searchsorted(stream.starts, start + CHUNK)))
        end = int(stream.starts[stop]) if stop < stream.n_documents else stream.n_tokens
        text = np.ones(end - start, dtype=bool)
        text[stream.starts[first:stop] - start] = False
        yield stream.read(start, end - start)[text].astype(TOKEN).tobytes()
        first = stop
