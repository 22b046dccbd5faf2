"""LAi's quantised numbers, Q8_0 and Q4_0: blocks of 32 with one scale.

A block of 32 numbers x with a = max |x|:

    Q8_0  34 bytes: f16 d = a / 127, then 32 i8 q = round(x / d)
    Q4_0  18 bytes: f16 d = a / 7, then 16 bytes; byte j has q[2j] + 8 low and q[2j + 1] + 8 high, q = round(x / d)

A number is read as d q. As in LAi2's writer q is found with d before it is rounded to f16, ties go to the even q, and
a block of zeros has d = 1. (llama.cpp's blocks of these names are others: there byte j of Q4_0 has q[j] and q[j + 16].)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lmcore.export.lai_format import BLOCK, DType
from storage.errors import RunError

Floats = npt.NDArray[np.float32]

_LARGEST = {DType.Q8_0: 127.0, DType.Q4_0: 7.0}
_STORED = {
    DType.Q8_0: np.dtype([("d", "<f2"), ("q", "i1", BLOCK)]),
    DType.Q4_0: np.dtype([("d", "<f2"), ("q", "u1", BLOCK // 2)]),
}


def quantise(matrix: Floats, dtype: DType) -> bytes:
    """The blocks of a matrix whose rows are whole blocks, row after row; float32 as it is.

    Raises RunError for numbers that no f16 scale can hold, NaN and infinity among them.
    """
    if dtype == DType.F32:
        return matrix.astype("<f4").tobytes()
    blocks = matrix.reshape(-1, BLOCK)  # (N, 32)
    largest = np.abs(blocks).max(axis=1)  # (N,)
    scale = largest / np.float32(_LARGEST[dtype])
    scale[scale == 0] = 1  # NaN stays
    with np.errstate(over="ignore"):
        half = scale.astype("<f2")
    if not np.isfinite(half).all():
        raise RunError(
            f"a weight of {largest.max():g} cannot be quantised to {dtype.name}",
            "the training diverged: lower the learning rate or start from an earlier checkpoint",
        )
    q = np.rint(blocks / scale[:, None]).astype(np.int8)  # within +-127 or +-7 by the scale
    stored = np.empty(len(blocks), dtype=_STORED[dtype])
    stored["d"] = half
    if dtype == DType.Q8_0:
        stored["q"] = q
    else:
        nibbles = (q + 8).astype(np.uint8)
        stored["q"] = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    return stored.tobytes()


def dequantise(content: bytes, shape: tuple[int, ...], dtype: DType) -> Floats:
    """The float32 numbers of `shape` that these bytes stand for."""
    if dtype == DType.F32:
        return np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(shape)
    stored = np.frombuffer(content, dtype=_STORED[dtype])  # (N,)
    if dtype == DType.Q8_0:
        q = stored["q"].astype(np.float32)
    else:
        q = np.empty((len(stored), BLOCK), dtype=np.float32)
        q[:, 0::2] = (stored["q"] & 15).astype(np.float32) - 8
        q[:, 1::2] = (stored["q"] >> 4).astype(np.float32) - 8
    with np.errstate(invalid="ignore"):  # a damaged scale may be infinity: the reader looks at what comes of it
        return (q * stored["d"].astype(np.float32)[:, None]).reshape(shape)
