"""The two vocabulary files that other programs read: LAi's `vocab.bin` and CLLM's `vocab.txt`.

`vocab.bin`, little endian: u32 0x4C414956, u32 1, u32 count; for each token u32 bytes, the bytes, f32 score.
`vocab.txt`: one line a token, `token<TAB>count`, the line's number is the id.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC, VERSION = 0x4C414956, 1
_MOST = 2**24  # tokens: a damaged count must not be believed


def vocab_bin(tokens: Sequence[bytes], scores: Sequence[float]) -> bytes:
    """The contents of `vocab.bin`. Scores are rounded to float32."""
    parts = [struct.pack("<III", MAGIC, VERSION, len(tokens))]
    for token, score in zip(tokens, scores, strict=True):
        parts.append(struct.pack("<I", len(token)) + token + struct.pack("<f", score))
    return b"".join(parts)


def read_vocab_bin(content: bytes) -> tuple[list[bytes], list[float]]:
    """Tokens and scores of a `vocab.bin`. Raises ValueError for anything that is not one, to the last byte."""
    if len(content) < 12:
        raise ValueError("it is shorter than its 12 bytes of header")
    magic, version, count = struct.unpack_from("<III", content)
    if magic != MAGIC:
        raise ValueError(f"it begins with {content[:4]!r}, not with b'VIAL'")
    if version != VERSION:
        raise ValueError(f"its version is {version}, this program reads {VERSION}")
    if count > _MOST:
        raise ValueError(f"it claims {count:,} tokens")
    tokens: list[bytes] = []
    scores: list[float] = []
    at = 12
    for number in range(count):
        if at + 4 > len(content):
            raise ValueError(f"it ends before token {number} of {count}")
        (length,) = struct.unpack_from("<I", content, at)
        at += 4
        if at + length + 4 > len(content):
            raise ValueError(f"it ends inside token {number} of {count}")
        tokens.append(content[at : at + length])
        at += length
        scores.append(struct.unpack_from("<f", content, at)[0])
        at += 4
    if at != len(content):
        raise ValueError(f"{len(content) - at} bytes follow its last token")
    return tokens, scores


def vocab_txt(tokens: Sequence[bytes], counts: Sequence[int]) -> bytes:
    """The contents of `vocab.txt`. Raises ValueError for a token that would break its line."""
    for token in tokens:
        if not token or b"\t" in token or b"\n" in token:
            raise ValueError(f"the token {token!r} cannot stand in a line of vocab.txt")
    return b"".join(b"%s\t%d\n" % pair for pair in zip(tokens, counts, strict=True))


def read_vocab_txt(content: bytes) -> tuple[list[bytes], list[int]]:
    """Tokens and counts of a `vocab.txt`. Raises ValueError naming the first line that is not one."""
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line has no end")
    tokens: list[bytes] = []
    counts: list[int] = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        token, tab, count = line.partition(b"\t")
        if not token or not tab or not count.isdigit():
            raise ValueError(f"line {number} is not TOKEN<TAB>COUNT")
        tokens.append(token)
        counts.append(int(count))
    return tokens, counts
