"""How well a small language model of a reference slice foretells a text: bits a byte.

Interpolated modified Kneser-Ney (Chen and Goodman 1999, "An empirical study of smoothing techniques for language
modeling", eq. 26 and 27) over word pieces (`lmcore.curate.word_pieces`), three at a time, so that it sees some twelve
characters and has no unknown words: a piece never seen costs what its bytes cost, eight bits each and some for its
length. CCNet does the same with SentencePiece and KenLM (Wenzek and others 2019, arXiv 1911.00359, section 4.2).

**Bits a UTF-8 byte**, as everywhere in this project: a number that does not depend on how words are cut and means
about the same for an alphabet as for Ethiopic or Chinese script, where a character is three bytes. Between languages
it still differs, so limits are per language. 8 and more is noise; text like the reference is at 1 to 3.

Letters: N pieces scored, G grams of one length, C contexts of one length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from lmcore.config import Params
from lmcore.curate.hash_sample import HashSample
from lmcore.curate.pieces import pieces, shares
from lmcore.curate.sorted_hashes import SortedHashes
from lmcore.curate.word_pieces import Pieces, word_pieces
from lmcore.curate.words import Hashes, Integers, mixed
from storage.errors import RunError, UserError
from storage.parquet import read_parquet, write_parquet

FILE = "reference.parquet"
_VERSION = "1"
_EDGE = np.uint64(0x5851F42D4C957F2D)  # stands before a text's first piece
_STEP = np.uint64(0x9E3779B97F4A7C15)
_KIND_BITS = 3.0  # of a piece never seen: which of eight kinds (1 to 4 characters, at a word's begin or not)
_FALLBACK = (0.5, 1.0, 1.5)  # KenLM's discounts where there are too few rare grams to estimate them

Floats = NDArray[np.float64]

MODEL = pa.schema(
    [
        pa.field("length", pa.uint8(), nullable=False),  # of the gram, in pieces
        pa.field("gram", pa.uint64(), nullable=False),  # its hash; ascending within a length
        pa.field("direct", pa.float32(), nullable=False),  # discounted share of its context's uses
        pa.field("backoff", pa.float32(), nullable=False),  # what, as a context, it leaves to shorter grams
    ]
)


class ReferenceParams(Params):
    """What the reference is and how much of it is read."""

    sources: tuple[str, ...] = Field((), description="names of sources whose texts are the reference; none: no signal")
    max_chars: int = Field(
        16_000_000, ge=10_000, le=200_000_000, description="characters read; 30 to 100 bytes of memory each"
    )
    order: int = Field(3, ge=1, le=5, description="word pieces seen at once, the foretold one included")


@dataclass(frozen=True)
class _Level:
    """Grams of one length: p(piece | context) = direct[gram] + backoff[context] * p(piece | shorter context)."""

    grams: Hashes  # (G,) ascending
    direct: NDArray[np.float32]  # (G,)
    backoff: NDArray[np.float32]  # (G,) of the gram as a context


class Reference:
    """A language model of reference texts. Equal texts give equal bytes on disk, in any order."""

    def __init__(self, levels: Sequence[_Level]) -> None:
        """`levels` of length 0 (the empty context: one gram), 1, ..., order."""
        self._levels = tuple(levels)
        self._index = [SortedHashes(level.grams) for level in self._levels]
        # what a gram that is not there has is put last, where index -1 finds it
        self._direct = [np.append(level.direct, np.float32(0)) for level in self._levels]
        self._backoff = [np.append(level.backoff, np.float32(1)) for level in self._levels]

    @property
    def order(self) -> int:
        """Pieces seen at once."""
        return len(self._levels) - 1

    @property
    def n_grams(self) -> int:
        """Grams kept, of all lengths."""
        return sum(len(level.grams) for level in self._levels[1:])

    @classmethod
    def train(cls, sample: HashSample, *, order: int = 3) -> Reference:
        """Count the texts of a sample. Raises UserError when there is no word in it."""
        firsts, parts = [], []
        for _, batch in pieces(sample.texts()):
            found = word_pieces(batch)
            firsts.append(found.place == 0)
            parts.append(_grams(found, order))
        if not any(len(first) for first in firsts):
            raise UserError("the reference slice holds no words", "name sources with text in curate.reference.sources")
        columns = [np.concatenate([part[length] for part in parts]) for length in range(order + 1)]
        parts.clear()
        return cls(_estimate(columns, np.concatenate(firsts)))

    def bits(self, texts: Sequence[str]) -> Floats:
        """Bits that a UTF-8 byte of each of T normalised texts costs: (T,), 0 for a text without words."""
        bits, n_bytes = np.zeros(len(texts)), np.zeros(len(texts))
        for owners, batch in pieces(texts):
            found = word_pieces(batch)
            owner = owners[found.text]
            np.add.at(bits, owner, -np.log2(self.probabilities(found)))
            np.add.at(n_bytes, owner, found.n_bytes.astype(np.float64))
        return shares(bits, n_bytes)

    def probabilities(self, found: Pieces) -> Floats:
        """Probability of each piece after those before it in its text: (N,)."""
        # an unseen piece: its bytes, and which of the eight kinds it is
        probability: Floats = np.exp2(-(8.0 * found.n_bytes + _KIND_BITS))
        first = found.place == 0
        context = np.zeros(len(probability), np.int64)  # index of the context among the grams of its length, or -1
        for length, grams in enumerate(_grams(found, self.order)):
            if not length:
                continue
            at = self._index[length].find(grams)
            probability *= self._backoff[length - 1][context]
            probability += self._direct[length][at]
            # the context of a longer gram is the gram of this length that ends one piece earlier
            context = np.concatenate(([-1], at[:-1])) if len(at) else at
            context[first] = self._index[length].find(_edge(length))[0]
        return probability

    def save(self, folder: Path) -> None:
        """Write the model into `folder`."""
        columns = {
            "length": np.repeat(np.arange(self.order + 1), [len(level.grams) for level in self._levels]).astype(
                np.uint8
            ),
            "gram": np.concatenate([level.grams for level in self._levels]),
            "direct": np.concatenate([level.direct for level in self._levels]),
            "backoff": np.concatenate([level.backoff for level in self._levels]),
        }
        table = pa.table(columns, schema=MODEL)
        write_parquet(folder / FILE, table.replace_schema_metadata({"version": _VERSION}))

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Read what `save` wrote. Raises RunError for anything else, also for a model of another version."""
        table = read_parquet(folder / FILE)
        if (
            table.schema.remove_metadata() != MODEL
            or (table.schema.metadata or {}).get(b"version") != _VERSION.encode()
        ):
            raise RunError(f"{folder / FILE} is no reference model of this version", "delete it and run again")
        length = table["length"].to_numpy()
        columns = [table[name].to_numpy() for name in ("gram", "direct", "backoff")]
        bounds = np.searchsorted(length, np.arange(int(length.max(initial=0)) + 2))
        levels = [
            _Level(*(column[start:end] for column in columns))
            for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]
        if len(levels) < 2 or len(levels[0].grams) != 1:
            raise RunError(f"{folder / FILE} is no reference model of this version", "delete it and run again")
        return cls(levels)


def train_reference(texts: Iterable[str], *, max_chars: int, order: int = 3) -> Reference:
    """A model of a stream of texts, of which at most `max_chars` characters are kept and counted."""
    sample = HashSample(max_chars)
    sample.add(texts)
    return Reference.train(sample, order=order)


def _grams(found: Pieces, order: int) -> list[Hashes]:
    """For lengths 0 to `order` the hash of the gram that ends at each piece, texts preceded by edges: each (N,)."""
    grams = [np.zeros(len(found.code), np.uint64), found.code]
    for back in range(1, order):
        earlier = np.full(len(found.code), _EDGE)
        earlier[back:] = found.code[: len(found.code) - back] if back < len(found.code) else []
        grams.append(_longer(np.where(found.place >= back, earlier, _EDGE), grams[-1]))
    return grams


def _longer(earlier: Hashes, gram: Hashes) -> Hashes:
    return mixed((gram ^ (earlier * _STEP)) * _STEP)


def _edge(length: int) -> Hashes:
    """The gram of `length` edges, which is the context of a text's first piece."""
    gram = np.full(1, _EDGE)
    for _ in range(length - 1):
        gram = _longer(np.full(1, _EDGE), gram)
    return gram


def _estimate(grams: Sequence[Hashes], first: NDArray[np.bool_]) -> list[_Level]:
    """Levels 0 to order from the grams (each (N,)) that end at every piece; `first` marks the first of a text."""
    levels: list[_Level] = []
    at = np.arange(len(first))  # one piece a use that is counted
    contexts, left = np.zeros(0, np.uint64), np.zeros(0)  # of the grams one longer, and what they leave
    for length in range(len(grams) - 1, 0, -1):
        used, index, counts = np.unique(grams[length][at], return_index=True, return_counts=True)
        at = at[index]  # Kneser-Ney: a shorter gram counts once for every different piece seen before it
        before = grams[length - 1][at - 1]
        before[first[at]] = _edge(length - 1)[0]
        before = before if length > 1 else np.zeros(len(at), np.uint64)
        own, place = np.unique(before, return_inverse=True)
        kinds = np.bincount(place * 3 + np.minimum(counts, 3) - 1, minlength=3 * len(own)).reshape(-1, 3)
        total = np.bincount(place, weights=counts)
        discounts = _discounts(counts)
        direct = (counts - np.array((0.0, *discounts))[np.minimum(counts, 3)]) / total[place]
        # A long gram seen once is not kept, which halves the model; the shorter grams get all of its share.
        kept = counts > 1 if length > 1 else np.ones(len(counts), bool)
        given = np.array((1.0, *discounts[1:]) if length > 1 else discounts)
        levels.append(_level(used[kept], direct[kept], contexts, left))
        contexts, left = own, (kinds * given).sum(axis=1) / total
    levels.append(_level(np.zeros(0, np.uint64), np.zeros(0), contexts, left))
    return levels[::-1]


def _level(used: Hashes, direct: Floats, contexts: Hashes, left: Floats) -> _Level:
    """Grams with a share of their own, and those that are contexts of kept ones."""
    contexts, left = contexts[left < 1], left[left < 1]
    grams = np.union1d(used, contexts)
    level = _Level(grams, np.zeros(len(grams), np.float32), np.ones(len(grams), np.float32))
    level.direct[np.searchsorted(grams, used)] = direct
    level.backoff[np.searchsorted(grams, contexts)] = left
    return level


def _discounts(counts: Integers) -> tuple[float, float, float]:
    """The three discounts of modified Kneser-Ney from how many grams were seen once to four times."""
    n1, n2, n3, n4 = (int((counts == seen).sum()) for seen in (1, 2, 3, 4))
    if not min(n1, n2, n3):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    estimate = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    usable = all(0 < discount < limit for discount, limit in zip(estimate, (1, 2, 3), strict=True))
    return estimate if usable else _FALLBACK
