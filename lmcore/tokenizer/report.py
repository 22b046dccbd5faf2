"""How well a vocabulary fits the text: bytes per token by language, source and kind; unknown and unused tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmcore.tokenizer.curated import split_rows, split_sizes
from lmcore.tokenizer.interface import Tokenizer
from lmcore.tokenizer.parallel import encode_stream

MEASURED_BYTES = 32 * 2**20  # text of a split that the report is measured on: all of a small one, a sample of a large
LONGEST_SHOWN = 20
GROUPS = ("lang", "source", "kind")


@dataclass
class Tally:
    """Sums over some documents. A word is what stands between blanks."""

    documents: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0

    def add(self, n_bytes: int, words: int, tokens: int, unknown: int) -> None:
        """Count one more document."""
        self.documents += 1
        self.bytes += n_bytes
        self.words += words
        self.tokens += tokens
        self.unknown += unknown

    def figures(self) -> dict[str, Any]:
        """The sums and their ratios; None where there is nothing to divide by."""
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "bytes_per_token": _ratio(self.bytes, self.tokens),
            "bytes_per_word": _ratio(self.bytes, self.words),  # what a token of a whole word would have
            "tokens_per_word": _ratio(self.tokens, self.words),
            "unknown_share": _ratio(self.unknown, self.tokens),
        }


@dataclass
class Measured:
    """One split under one vocabulary."""

    whole: Tally
    used: npt.NDArray[np.int64]  # (V,) how often each token was needed
    groups: dict[str, dict[str, Tally]] = field(default_factory=lambda: {name: {} for name in GROUPS})

    def figures(self) -> dict[str, Any]:
        """Everything as plain JSON, groups sorted by name."""
        by = {name: {key: some[key].figures() for key in sorted(some)} for name, some in self.groups.items()}
        return self.whole.figures() | {"by": by}


def measure(tokenizer: Tokenizer, curated: Path, split: str, workers: int) -> Measured:
    """Encode a split, or every n-th document of a large one. Raises RunError naming a damaged file."""
    stride = max(1, math.ceil(split_sizes(curated, split).sum() / MEASURED_BYTES))
    rows, same = tee(islice(split_rows(curated, split), 0, None, stride))
    found = Measured(Tally(), np.zeros(tokenizer.vocab_size, dtype=np.int64))
    encoded = encode_stream(tokenizer, (row["text"] for row in rows), workers)
    for row, ids in _pairs(same, encoded):
        found.used += np.bincount(ids, minlength=tokenizer.vocab_size)
        unknown = 0 if tokenizer.unk_id is None else int((ids == tokenizer.unk_id).sum())
        facts = (len(row["text"].encode()), len(row["text"].split()), len(ids), unknown)
        found.whole.add(*facts)
        for name in GROUPS:
            found.groups[name].setdefault(row[name], Tally()).add(*facts)
    return found


def unused(tokenizer: Tokenizer, used: npt.NDArray[np.int64]) -> int:
    """Tokens that are no specials and were never needed."""
    specials = list(tokenizer.specials.values())
    return int((used == 0).sum()) - int((used[specials] == 0).sum())


def longest(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The tokens of most bytes, to see what the vocabulary is spent on: rulers and boilerplate show here first."""
    lengths = tokenizer.byte_length(np.arange(tokenizer.vocab_size))
    order = np.lexsort((np.arange(len(lengths)), -lengths))[:LONGEST_SHOWN]
    return [{"id": int(i), "bytes": int(lengths[i]), "text": tokenizer.decode([i])} for i in order]


def _pairs(
    rows: Iterator[dict[str, str]], encoded: Iterator[npt.NDArray[np.uint32]]
) -> Iterator[tuple[dict[str, str], npt.NDArray[np.uint32]]]:
    for ids in encoded:  # first: a row is read when its text is
        yield next(rows), ids


def _ratio(of: int, to: int) -> float | None:
    return round(of / to, 4) if to else None
