"""What gzip, xz and an n-gram model reach on the same held-out text when they are given the same training text.

A compressor given training text costs size(training + held-out) - size(training), headers falling out of the
difference. All three read the held-out documents one after the other without a separator, so that a compressor may
learn from earlier held-out documents while the language model meets each one fresh: the comparison leans to the
compressors, never to the model.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lmcore.evaluate.ngram import NGram

BaselineName = Literal["gzip", "xz", "ngram"]
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Baseline:
    """One figure to hold the model's bits per byte against."""

    name: str
    bits_per_byte: float
    alone_bits_per_byte: float | None  # the compressor without training text; None for the n-gram model
    note: str


def take(texts: Iterable[bytes], max_bytes: int) -> list[bytes]:
    """The first texts that fit in `max_bytes` together; the first of all is cut when it alone is longer."""
    taken: list[bytes] = []
    left = max_bytes
    for text in texts:
        if len(text) > left:
            return taken or [text[:max_bytes]]
        taken.append(text)
        left -= len(text)
    return taken


def measure(name: BaselineName, train: Sequence[bytes], held_out: Sequence[bytes], ngram_order: int) -> Baseline:
    """Bits per byte of one baseline on `held_out` (not empty), given `train`."""
    n_bytes = sum(map(len, held_out))
    assert n_bytes
    given = f"given {sum(map(len, train)):,} bytes of training text"
    if name == "ngram":
        bits = float(NGram(train, ngram_order).bits(held_out).sum()) / n_bytes
        note = f"{given}; interpolated modified Kneser-Ney over bytes, {ngram_order - 1} bytes of context"
        return Baseline(f"n-gram of {ngram_order} bytes", bits, None, note)
    extra, alone = _gzip(train, held_out) if name == "gzip" else _xz(train, held_out)
    reach = {
        "gzip": "its window is 32 KB, so it sees only the end of the training text",
        "xz": "its dictionary covers all of it",
    }[name]
    label = {"gzip": "gzip -9", "xz": "xz -9e"}[name]
    note = f"{given}, size(training + held-out) - size(training); {reach}; {8 * alone / n_bytes:.3f} without"
    return Baseline(label, 8 * extra / n_bytes, 8 * alone / n_bytes, note)


def _gzip(train: Sequence[bytes], held_out: Sequence[bytes]) -> tuple[int, int]:
    """Bytes the held-out text adds to a gzip -9 file of the training text, and takes in one of its own."""
    state = zlib.compressobj(9, zlib.DEFLATED, _GZIP_CONTAINER)
    written = sum(len(state.compress(text)) for text in train)
    both = state.copy()
    without = written + len(state.flush())
    together = written + sum(len(both.compress(text)) for text in held_out) + len(both.flush())
    return together - without, _size(lambda: zlib.compressobj(9, zlib.DEFLATED, _GZIP_CONTAINER), held_out)


def _xz(train: Sequence[bytes], held_out: Sequence[bytes]) -> tuple[int, int]:
    """The same for xz -9e, with a dictionary as large as the text so that no training byte is out of reach."""
    reach = max(sum(map(len, train)) + sum(map(len, held_out)), 1 << 16)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": reach}]

    def fresh() -> lzma.LZMACompressor:
        return lzma.LZMACompressor(lzma.FORMAT_XZ, filters=filters)

    return _size(fresh, [*train, *held_out]) - _size(fresh, train), _size(fresh, held_out)


def _size(fresh: Callable[[], zlib._Compress | lzma.LZMACompressor], texts: Sequence[bytes]) -> int:
    compressor = fresh()
    return sum(len(compressor.compress(text)) for text in texts) + len(compressor.flush())
