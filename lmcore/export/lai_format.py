"""The layout of LAi's model file, `LAi1`: header, tensors in their order, sizes. Knows no torch.

Little endian; 65 bytes of header, zeros to 256, the vocabulary as in `vocab.bin`, then the tensors, row-major
(out, in), without gaps:

    0 "LAi1"  4 u32 version 1  8 i32 dim, hidden, layers, heads, kv_heads, vocab, max_seq  36 f32 rope_theta, eps
    44 i32 activation (0 SiLU, 1 GELU)  48 u8 dtype  49 u64 vocab_offset  57 u64 weights_offset

    tok_emb (V, D)  output (V, D)  final_norm (D)
    per layer: wq (D, D)  wk, wv (K W, D)  wo (D, D)  gate, up (F, D)  down (D, F)  attn_norm, ffn_norm (D)

`output` is written also when it is the embedding. The dtype is that of the seven matrices of a layer; everything else
is f32. Rows of wq and wk are in the order of LAi's trainer, whose rotary positions turn numbers 2i and 2i + 1 of a
head together. Sources: ML6200/LAi, training/train.py and src/model/config.h; ML6200/LAi2, training/quantize.py (the
C++ program of LAi2 has another number for each quantised dtype than its own writer).

Letters: V vocabulary, D width, F MLP width, K heads of keys and values, W head width.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

MAGIC, VERSION = b"LAi1", 1
HEADER_BYTES = 256
SILU = 0
BLOCK = 32  # numbers that share one scale in the quantised dtypes
MATRICES = ("wq", "wk", "wv", "wo", "gate", "up", "down")  # of a layer, in order: those that are quantised
NORMS = ("attn_norm", "ffn_norm")
_HEADER = struct.Struct("<4sI7i2fiBQQ")


class DType(IntEnum):
    """Format of the layers' matrices, by LAi's numbers."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q8_0 = 3

    @property
    def block_bytes(self) -> int:
        """Bytes of 32 numbers."""
        return {DType.F32: 128, DType.F16: 64, DType.Q4_0: 18, DType.Q8_0: 34}[self]


class Entry(NamedTuple):
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    dtype: DType

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return self.shape[0] * (self.shape[1] if len(self.shape) > 1 else 1)

    @property
    def bytes(self) -> int:
        """Its size in the file; rows of a quantised matrix are whole blocks."""
        return self.numbers * self.dtype.block_bytes // BLOCK


@dataclass(frozen=True)
class Header:
    """What the first 65 bytes say, field by field in their order."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    max_seq: int
    rope_theta: float
    eps: float
    activation: int
    dtype: int
    vocab_offset: int
    weights_offset: int

    def pack(self) -> bytes:
        """The 256 bytes."""
        return _HEADER.pack(MAGIC, VERSION, *astuple(self)).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def unpack(cls, content: bytes) -> Header:
        """The header in the first 256 bytes of a file. Raises ValueError for what no writer of LAi1 leaves there.

        Whether the sizes in it are those of the file is for the reader to see.
        """
        if content[: len(MAGIC)] != MAGIC:
            raise ValueError(f"it begins with {content[:4]!r}, not with {MAGIC!r}")
        if len(content) < HEADER_BYTES:
            raise ValueError(f"it ends after {len(content)} bytes, inside its header of {HEADER_BYTES}")
        _, version, *values = _HEADER.unpack_from(content)
        if version != VERSION:
            raise ValueError(f"its version is {version}, this program reads {VERSION}")
        if any(content[_HEADER.size : HEADER_BYTES]):
            raise ValueError(f"bytes {_HEADER.size} to {HEADER_BYTES} of its header are not zero")
        header = cls(*values)
        for name, value in list(asdict(header).items())[:7]:
            if value < 1:
                raise ValueError(f"its header says {name} {value}")
        if header.dim % header.heads or header.heads % header.kv_heads:
            raise ValueError(f"{header.heads} heads of {header.kv_heads} groups do not divide a width of {header.dim}")
        if header.activation != SILU:
            raise ValueError(f"its activation is {header.activation}, and only 0 (SiLU) is a shape of ours")
        if header.dtype not in (DType.F32, DType.Q4_0, DType.Q8_0):
            named = {DType.F16: " (F16, which LAi names and never writes)"}.get(header.dtype, "")  # type: ignore[call-overload]
            raise ValueError(f"its dtype is {header.dtype}{named}; this program reads 0 (F32), 2 (Q4_0) and 3 (Q8_0)")
        if header.dtype != DType.F32 and (header.dim % BLOCK or header.hidden % BLOCK):
            raise ValueError(f"rows of {header.dim} and {header.hidden} numbers are not whole blocks of {BLOCK}")
        if header.vocab_offset != HEADER_BYTES:
            raise ValueError(f"its vocabulary is said to be at {header.vocab_offset}, not at {HEADER_BYTES}")
        return header

    def entries(self) -> Iterator[Entry]:
        """Every tensor in the order of the file."""
        D, F, dtype = self.dim, self.hidden, DType(self.dtype)
        kv = D // self.heads * self.kv_heads
        yield Entry("tok_emb", (self.vocab, D), DType.F32)
        yield Entry("output", (self.vocab, D), DType.F32)
        yield Entry("final_norm", (D,), DType.F32)
        shapes = ((D, D), (kv, D), (kv, D), (D, D), (F, D), (F, D), (D, F))
        for layer in range(self.layers):
            for name, shape in zip(MATRICES, shapes, strict=True):
                yield Entry(f"layers.{layer}.{name}", shape, dtype)
            for name in NORMS:
                yield Entry(f"layers.{layer}.{name}", (D,), DType.F32)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors: arithmetic, so that a wild header costs nothing."""
        D, F = self.dim, self.hidden
        matrices = 2 * D * D + 2 * D * (D // self.heads * self.kv_heads) + 3 * D * F
        f32 = 2 * self.vocab * D + D + self.layers * 2 * D
        return 4 * f32 + self.layers * matrices * DType(self.dtype).block_bytes // BLOCK

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return self.weights_offset + self.weights_bytes

    def facts(self) -> dict[str, Any]:
        """The header and what follows from it, as plain JSON."""
        entries = list(self.entries())
        quantised = sum(entry.numbers for entry in entries if entry.dtype != DType.F32)
        return {
            "format": MAGIC.decode(),
            "version": VERSION,
            "dtype": DType(self.dtype).name,
            "bytes": self.file_bytes,
            "vocab_bytes": self.weights_offset - self.vocab_offset,
            "weights_bytes": self.weights_bytes,
            "tensors": len(entries),
            "numbers": sum(entry.numbers for entry in entries),
            "numbers_quantised": quantised,
            "header": asdict(self),
        }
