"""Which side every page and every text stands on, since it was first kept: carried from corpus to corpus.

A page that is gone for a night, a text that moves to another address, and a copy that stays when its original goes all
keep the side they had. Only another salt deals everything anew.

What was ever held out also binds the texts that are like it. Such a text is noted when it is seen beside a held-out
one, or when a comparison names the two, and is never trained on again: not in a night when the held-out one is away,
and not after it came back. It binds no further texts, unless it is kept on a held-out side itself; so the notes grow by
the copies of held-out texts, not by chains of copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.choose import Pairs
from lmcore.curate.ids import Ids, digests, places
from lmcore.curate.split import TRAIN
from lmcore.documents import SPLITS
from storage.parquet import read_parquet, write_parquet

FOLDER = "sides"
PAGE = pa.schema([pa.field("page", pa.uint64(), nullable=False), pa.field("side", pa.int8(), nullable=False)])
TEXT = pa.schema(
    [
        pa.field("words", pa.binary(16), nullable=False),
        pa.field("side", pa.int8(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),  # there itself; else it is like a text that was
    ]
)

Sides8 = NDArray[np.int8]
UNKNOWN = -1


@dataclass(frozen=True)
class Sides:
    """P pages (see `page_hashes`) and T word sequences, each sorted, with indices into SPLITS."""

    pages: NDArray[np.uint64]  # (P,)
    page_side: Sides8  # (P,)
    texts: Ids  # (T,)
    text_side: Sides8  # (T,) never TRAIN for a text that was not kept
    text_kept: NDArray[np.bool_]  # (T,) whether the text was kept there itself

    @classmethod
    def nobody(cls) -> Sides:
        """Before the first corpus."""
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.int8), np.zeros(0, "S16"), np.zeros(0, np.int8), _no(0))

    @classmethod
    def read(cls, folder: Path) -> Sides:
        """Those of a curated artifact. Raises RunError naming a damaged file."""
        pages = read_parquet(folder / FOLDER / "pages.parquet")
        texts = read_parquet(folder / FOLDER / "texts.parquet")
        words = digests(texts["words"])
        # corpora of the stage's version 2 and before have kept texts only
        kept = texts["kept"].to_numpy() if "kept" in texts.column_names else ~_no(len(words))
        return cls(pages["page"].to_numpy(), pages["side"].to_numpy(), words, texts["side"].to_numpy(), kept)

    def write(self, folder: Path) -> None:
        """Into a curated artifact."""
        pages = pa.table({"page": self.pages, "side": self.page_side}, schema=PAGE)
        data = pa.py_buffer(self.texts.astype("S16").tobytes())
        words = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(self.texts), [None, data])
        texts = pa.table([words, pa.array(self.text_side), pa.array(self.text_kept)], schema=TEXT)
        write_parquet(folder / FOLDER / "pages.parquet", pages)
        write_parquet(folder / FOLDER / "texts.parquet", texts)

    @property
    def held(self) -> tuple[Ids, Sides8]:
        """The H texts that were kept on a held-out side, sorted, and that side."""
        which = self.text_kept & (self.text_side != TRAIN)
        return self.texts[which], self.text_side[which]

    def with_kept(self, pages: NDArray[np.uint64], texts: Ids, sides: Sides8) -> Sides:
        """These and those of N kept texts. What is known of a page stays; a text that was held out stays held out."""
        new_pages, first = np.unique(pages, return_index=True)
        page_side = sides[first]
        fresh = ~np.isin(new_pages, self.pages)
        every = np.concatenate((self.pages, new_pages[fresh]))
        order = np.argsort(every, kind="stable")
        with_pages = Sides(
            every[order],
            np.concatenate((self.page_side, page_side[fresh]))[order],
            self.texts,
            self.text_side,
            self.text_kept,
        )
        return with_pages._and(texts, sides, ~_no(len(texts)))

    def with_copies(self, texts: Ids, sides: Sides8, pairs: Pairs) -> Sides:
        """These, and as bound all texts that `pairs` name with a held-out one, and N texts that are like a kept one.

        `sides` (N,) are those of what they are like; those of TRAIN bind nothing.
        """
        bound = sides != TRAIN
        named, named_side = self._named(pairs)
        every = np.concatenate((texts[bound], named))
        return self._and(every, np.concatenate((sides[bound], named_side)), _no(len(every)))

    def of(self, pages: NDArray[np.uint64], texts: Ids) -> Sides8:
        """The side of the page of each of N records; UNKNOWN for a page that was never kept and has no known text.

        A new page takes the side of its texts that were kept, a held-out one before training.
        """
        at = np.minimum(np.searchsorted(self.pages, pages), max(0, len(self.pages) - 1))
        found = np.full(len(pages), UNKNOWN, np.int8)
        if len(self.pages):
            known = self.pages[at] == pages
            found[known] = self.page_side[at[known]]
        where = places(texts, self.texts)
        told = where >= 0
        told[told] = self.text_kept[where[told]]
        new = np.flatnonzero((found == UNKNOWN) & told)
        if len(new):
            names, page = np.unique(pages, return_inverse=True)
            best = np.full(len(names), UNKNOWN, np.int8)
            np.maximum.at(best, page[new], self.text_side[where[new]])
            open_ = found == UNKNOWN
            found[open_] = best[page[open_]]
        return found

    def bound(self, texts: Ids, pairs: Pairs) -> tuple[Sides8, NDArray[np.bool_]]:
        """The held-out side that each of N texts is bound to, TRAIN for none, and whether it was kept there itself."""
        named, side = self._named(pairs)
        both = self._and(named, side, _no(len(named)))
        where = places(texts, both.texts)
        known = where >= 0
        found, kept = np.full(len(texts), TRAIN, np.int8), _no(len(texts))
        found[known] = both.text_side[where[known]]
        kept[known] = both.text_kept[where[known]]
        return found, kept & (found != TRAIN)

    def _named(self, pairs: Pairs) -> tuple[Ids, Sides8]:
        """The texts that pairs name with one that was held out, and its side."""
        held, side = self.held
        words, sides = [np.zeros(0, "S16")], [np.zeros(0, np.int8)]
        for one, other in ((pairs.a, pairs.b), (pairs.b, pairs.a)):
            where = places(one, held)
            words.append(other[where >= 0])
            sides.append(side[where[where >= 0]])
        return np.concatenate(words), np.concatenate(sides)

    def _and(self, texts: Ids, sides: Sides8, kept: NDArray[np.bool_]) -> Sides:
        """These and N more texts; of what is said of one text the strongest stays, see `_strength`."""
        words, row = np.unique(np.concatenate((self.texts, texts)), return_inverse=True)
        strength = np.zeros(len(words), np.int8)
        said = np.concatenate((_strength(self.text_side, self.text_kept), _strength(sides, kept)))
        np.maximum.at(strength, row, said)
        bound = strength < len(SPLITS)
        side = np.where(bound, strength, strength - _KEPT).astype(np.int8)
        return Sides(self.pages, self.page_side, words, side, ~bound | (side == TRAIN))


_KEPT = len(SPLITS) - 1


def _strength(side: Sides8, kept: NDArray[np.bool_]) -> Sides8:
    """0 for training, then bound to val, bound to test, kept in val, kept in test: held out goes before training."""
    return np.where(kept & (side != TRAIN), side + _KEPT, side).astype(np.int8)


def _no(count: int) -> NDArray[np.bool_]:
    return np.zeros(count, bool)
