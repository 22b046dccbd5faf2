"""Train, val or test, decided for ever by the name of the page a text comes from.

Nothing but the page's name and the salt is looked at, so a text's split never depends on what else was collected,
and everything that comes from one page (its parts, translations, templates made of it) stays on one side. A source may
have a side as a whole (`curate.split.sources`), for data sets that come divided.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lmcore.config import Params, added_later
from lmcore.documents import SPLITS

RULE = "synthetic_held_out"
TRAIN, VAL, TEST = range(len(SPLITS))
assert SPLITS == ("train", "val", "test")


class SplitParams(Params):
    """How many pages are held out. The split is of pages, so the share of texts and bytes is near the fraction."""

    val: float = Field(default=0.05, ge=0, le=0.5, description="Share of pages held out for validation.")
    test: float = Field(default=0.05, ge=0, le=0.5, description="Share of pages held out for the test.")
    salt: str = Field(default="", max_length=200, description="Another salt deals the pages anew.")
    sources: dict[str, Literal["train", "val", "test"] | None] = added_later(
        {},
        description="Side by source, for data sets that come divided; null takes back what `extends` gave. Pages of "
        "all other sources are dealt.",
    )

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitParams:
        if self.val + self.test >= 1:
            raise ValueError("val and test together leave no page for training")
        return self


def page_hashes(pages: pa.ChunkedArray, salt: str) -> NDArray[np.uint64]:
    """xxh3-64 of salt, a zero byte and the name of each of N pages: what a page is known by."""
    prefix = salt.encode() + b"\0"
    names = (prefix + page.encode() for page in pages.to_pylist())
    return np.fromiter(map(xxhash.xxh3_64_intdigest, names), np.uint64, len(pages))


def positions(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Where in [0, 1) each page falls: the upper 53 bits of its hash."""
    return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53


def of_sources(
    params: SplitParams, names: list[str], source: NDArray[np.integer[Any]], pages: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """The side that sources give to each of N records, an index into SPLITS; -1 where none does.

    `source` (N,) are indices into `names`. A page that is in several such sources has one side: test before val before
    train.
    """
    given = (params.sources.get(name) for name in names)
    of_name = np.array([SPLITS.index(part) if part else -1 for part in given], np.int64)
    _, of_page = np.unique(pages, return_inverse=True)
    side = np.full(of_page.max(initial=-1) + 1, -1)
    np.maximum.at(side, of_page, of_name[source])
    found: NDArray[np.int64] = side[of_page]
    return found


def splits(position: NDArray[np.float64], params: SplitParams) -> NDArray[np.int64]:
    """Index into SPLITS for each position: [0, test) is test, then val, the rest train.

    Raising `val` therefore moves pages from train only and leaves test as it is.
    """
    held_out = np.where(position < params.test, TEST, VAL)
    return np.where(position < params.test + params.val, held_out, TRAIN)
