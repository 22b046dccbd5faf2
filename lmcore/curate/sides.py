"""Which side every page and every text stands on, since it was first kept: carried from corpus to corpus.

A page that is gone for a night, a text that moves to another address, and a copy that stays when its original goes all
keep the side they had. Only another salt deals everything anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.ids import Ids, digests, places
from storage.parquet import read_parquet, write_parquet

FOLDER = "sides"
PAGE = pa.schema([pa.field("page", pa.uint64(), nullable=False), pa.field("side", pa.int8(), nullable=False)])
TEXT = pa.schema([pa.field("words", pa.binary(16), nullable=False), pa.field("side", pa.int8(), nullable=False)])

Sides8 = NDArray[np.int8]
UNKNOWN = -1


@dataclass(frozen=True)
class Sides:
    """P pages (see `page_hashes`) and T word sequences, each sorted, with indices into SPLITS."""

    pages: NDArray[np.uint64]  # (P,)
    page_side: Sides8  # (P,)
    texts: Ids  # (T,)
    text_side: Sides8  # (T,)

    @classmethod
    def nobody(cls) -> Sides:
        """Before the first corpus."""
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.int8), np.zeros(0, "S16"), np.zeros(0, np.int8))

    @classmethod
    def read(cls, folder: Path) -> Sides:
        """Those of a curated artifact. Raises RunError naming a damaged file."""
        pages = read_parquet(folder / FOLDER / "pages.parquet")
        texts = read_parquet(folder / FOLDER / "texts.parquet")
        words = digests(texts["words"])
        return cls(pages["page"].to_numpy(), pages["side"].to_numpy(), words, texts["side"].to_numpy())

    def write(self, folder: Path) -> None:
        """Into a curated artifact."""
        pages = pa.table({"page": self.pages, "side": self.page_side}, schema=PAGE)
        data = pa.py_buffer(self.texts.astype("S16").tobytes())
        words = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(self.texts), [None, data])
        write_parquet(folder / FOLDER / "pages.parquet", pages)
        write_parquet(folder / FOLDER / "texts.parquet", pa.table([words, pa.array(self.text_side)], schema=TEXT))

    def with_kept(self, pages: NDArray[np.uint64], texts: Ids, sides: Sides8) -> Sides:
        """These and those of N kept texts; what is known already stays as it is."""
        new_pages, first = np.unique(pages, return_index=True)
        page_side = sides[first]
        fresh = ~np.isin(new_pages, self.pages)
        every = np.concatenate((self.pages, new_pages[fresh]))
        order = np.argsort(every, kind="stable")
        new_texts, first = np.unique(texts, return_index=True)
        text_side = sides[first]
        unseen = places(new_texts, self.texts) < 0
        words = np.concatenate((self.texts, new_texts[unseen]))
        by_words = np.argsort(words, kind="stable")
        return Sides(
            every[order],
            np.concatenate((self.page_side, page_side[fresh]))[order],
            words[by_words],
            np.concatenate((self.text_side, text_side[unseen]))[by_words],
        )

    def of(self, pages: NDArray[np.uint64], texts: Ids) -> Sides8:
        """The side of the page of each of N records; UNKNOWN for a page that was never kept and has no known text.

        A new page takes the side of its known texts, a held-out one before training.
        """
        at = np.minimum(np.searchsorted(self.pages, pages), max(0, len(self.pages) - 1))
        found = np.full(len(pages), UNKNOWN, np.int8)
        if len(self.pages):
            known = self.pages[at] == pages
            found[known] = self.page_side[at[known]]
        where = places(texts, self.texts)
        new = np.flatnonzero((found == UNKNOWN) & (where >= 0))
        if len(new):
            names, page = np.unique(pages, return_inverse=True)
            best = np.full(len(names), UNKNOWN, np.int8)
            np.maximum.at(best, page[new], self.text_side[where[new]])
            open_ = found == UNKNOWN
            found[open_] = best[page[open_]]
        return found
