"""How well a small language model of a reference slice foretells a text: bits a byte.

Interpolated modified Kneser-Ney (`lmcore.curate.kneser_ney`) over word pieces (`lmcore.curate.word_pieces`), three at
a time, so that it sees some twelve characters. There are no unknown words: a piece never seen is spelled by a second
such model, of the characters of all different pieces, and a character never seen costs eight bits a byte. CCNet does
the same with SentencePiece and KenLM (Wenzek and others 2019, arXiv 1911.00359, section 4.2).

**Bits a UTF-8 byte**, as everywhere in this project: a number that does not depend on how words are cut and means
about the same for an alphabet as for Ethiopic or Chinese script, where a character is three bytes. Between languages
it still differs, so limits are per language. Text like the reference is at 1 to 3, letters at random at 9.

Letters: N pieces scored, S of them spelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lmcore.config import Params
from lmcore.curate.hash_sample import HashSample
from lmcore.curate.kneser_ney import Floats, KneserNey
from lmcore.curate.pieces import pieces, shares
from lmcore.curate.word_pieces import Pieces, utf8_bytes, word_pieces
from lmcore.curate.words import Hashes, Integers, mixed
from storage.errors import UserError

FILE, SPELLING = "reference.parquet", "spelling.parquet"
_SPELLING_ORDER = 3  # characters
_KIND_BITS = 3.0  # of a spelled piece: which of eight kinds (1 to 4 characters, at a word's begin or not)


class ReferenceParams(Params):
    """What the reference is and how much of it is read."""

    sources: tuple[str, ...] = Field((), description="names of sources whose texts are the reference; none: no signal")
    max_chars: int = Field(
        16_000_000, ge=10_000, le=200_000_000, description="characters read; 30 to 100 bytes of memory each"
    )
    order: int = Field(3, ge=1, le=5, description="word pieces seen at once, the foretold one included")


class Reference:
    """A language model of reference texts. Equal texts give equal bytes on disk, in any order."""

    def __init__(self, words: KneserNey, spelling: KneserNey) -> None:
        self._words = words
        self._spelling = spelling

    @property
    def order(self) -> int:
        """Pieces seen at once."""
        return self._words.order

    @property
    def n_grams(self) -> int:
        """Grams kept, of all lengths."""
        return self._words.n_grams + self._spelling.n_grams

    @classmethod
    def train(cls, sample: HashSample, *, order: int = 3) -> Reference:
        """Count the texts of a sample. Raises UserError when there is no word in it."""
        codes, places, different, points = [], [], [], []
        for _, batch in pieces(sample.texts()):
            found = word_pieces(batch)
            codes.append(found.code)
            places.append(found.place)
            new, index = np.unique(found.code, return_index=True)
            different.append(new)
            points.append(found.points[index])
        if not any(len(code) for code in codes):
            raise UserError("the reference slice holds no words", "name sources with text in compare.reference.sources")
        _, index = np.unique(np.concatenate(different), return_index=True)
        spelled, place, _, _ = _characters(np.concatenate(points)[index])
        spelling = KneserNey.train(spelled, place, _SPELLING_ORDER)
        return cls(KneserNey.train(np.concatenate(codes), np.concatenate(places), order), spelling)

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
        unseen = np.flatnonzero(~self._words.known(found.code))
        codes, place, owner, n_bytes = _characters(found.points[unseen])
        spelled = np.log2(self._spelling.probabilities(codes, place, np.exp2(-8.0 * n_bytes)))
        base = np.zeros(len(found.code))
        base[unseen] = np.exp2(np.bincount(owner, weights=spelled, minlength=len(unseen)) - _KIND_BITS)
        return self._words.probabilities(found.code, found.place, base)

    def save(self, folder: Path) -> None:
        """Write the model into `folder`."""
        self._words.save(folder / FILE)
        self._spelling.save(folder / SPELLING)

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Read what `save` wrote. Raises RunError for anything else, also for a model of another version."""
        return cls(KneserNey.load(folder / FILE), KneserNey.load(folder / SPELLING))


def train_reference(texts: Iterable[str], *, max_chars: int, order: int = 3) -> Reference:
    """A model of a stream of texts, of which at most `max_chars` characters are kept and counted."""
    sample = HashSample(max_chars)
    sample.add(texts)
    return Reference.train(sample, order=order)


def _characters(points: NDArray[np.uint32]) -> tuple[Hashes, Integers, Integers, Integers]:
    """Of the S pieces' characters: code, which character of its piece, which piece, UTF-8 bytes."""
    owner, place = np.nonzero(points)
    point = points[owner, place]
    return mixed(point.astype(np.uint64)), place, owner, utf8_bytes(point)
