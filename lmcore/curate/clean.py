"""What is taken out of a text that stays: boilerplate lines, long repeats, what held-out texts and evaluation sets say.

What is left of a text hangs on the text, the lines that are boilerplate, the spans of it that are repeats, and the
held-out items of which it, or what it was on the way, has a window; on no other text beside. A text that the corpus
before kept as it was is looked at for what is held out since, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.boilerplate import without_lines
from lmcore.curate.cuts import Cut, Turn, cut, cut_turns
from lmcore.curate.decide import Decided
from lmcore.curate.decontaminate import CONTAMINATION, Windows, scan
from lmcore.curate.exact import words_hashes
from lmcore.curate.held_out import HeldOut
from lmcore.curate.measured import bounds
from lmcore.curate.normalise import text_id
from lmcore.curate.overlap import batched
from lmcore.curate.params import CurateParams
from lmcore.curate.records import Records
from lmcore.curate.split import TRAIN
from lmcore.curate.substrings import Repeats
from lmcore.curate.words import run_starts, split
from lmcore.documents import DOCUMENT
from storage.parquet import read_rows

CONTAMINATED, REPEATED, BOILERPLATE = "contaminated", "long_repeat", "boilerplate"
HITS = "contamination.parquet"
_TOGETHER = 2 << 20  # bytes of texts cleaned at once: what they share with held-out items may be many times as much

CHANGED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # in the measured file
        pa.field("text", pa.string(), nullable=False),
        pa.field("turns", DOCUMENT.field("turns").type, nullable=True),
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("words_hash", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("n_words", pa.int64(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),  # what took most recently from it
        pa.field("whole", pa.bool_(), nullable=False),  # False: its turns mean nothing any more
    ]
)
"""A text that has lost something."""

HANGING = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("window", pa.uint64(), nullable=False)])
"""A text, and a window of it that held-out items have which may be away another time, or may come; no row twice."""


@dataclass(frozen=True)
class Cleaner:
    """What is to be taken out, and of which texts; None: nothing of that kind."""

    params: CurateParams
    lines: NDArray[np.uint64]
    repeats: Repeats | None
    index: HeldOut | None
    fresh: HeldOut | None

    def run(
        self, path: Path, records: Records, decided: Decided, mine: NDArray[np.int64], steady: NDArray[np.bool_]
    ) -> tuple[pa.Table, pa.Table, pa.Table]:
        """CHANGED, CONTAMINATION and HANGING rows of `mine`, records of one measured file that are kept.

        Those of them that are `steady` (N,) are compared with `fresh` alone.
        """
        mine = mine[np.argsort(records.row[mine])]
        parts, done = [], 0
        for table in read_rows(path, records.row[mine], ["record_id", "text", "turns", "kind"], _TOGETHER):
            some = mine[done : done + table.num_rows]
            for first, rows in bounds(records.n_bytes[some], _TOGETHER):
                few = some[first : first + rows]
                parts.append(self._run(table.slice(first, rows), records, decided, few, steady))
            done += len(some)
        changed, hits, hanging = (pa.concat_tables(column) for column in zip(*parts, strict=True))
        return changed, hits, hanging

    def _run(
        self, table: pa.Table, records: Records, decided: Decided, mine: NDArray[np.int64], steady: NDArray[np.bool_]
    ) -> tuple[pa.Table, pa.Table, pa.Table]:
        """The same for some of the file's texts, `table`."""
        texts: list[str] = table["text"].to_pylist()
        kinds: list[str] = table["kind"].to_pylist()
        turns: list[list[Turn] | None] = table["turns"].to_pylist()
        rules = [""] * len(texts)
        whole = [True] * len(texts)
        self._lines_out(texts, kinds, turns, rules)
        self._repeats_out(texts, turns, rules, mine)
        train = decided.split[mine] == TRAIN
        told = [
            self._overlaps_out(np.flatnonzero(train & which), held_out, table, texts, kinds, turns, rules, whole)
            for which, held_out in ((~steady[mine], self.index), (steady[mine], self.fresh))
            if held_out is not None
        ]
        places = [place for place, rule in enumerate(rules) if rule]
        left = [texts[place] for place in places]
        columns = {
            "row": records.row[mine[places]].astype(np.int64),
            "text": left,
            "turns": [turns[place] for place in places],
            "text_id": [text_id(text) for text in left],
            "words_hash": words_hashes(left),
            "n_bytes": [len(text.encode()) for text in left],
            "n_words": _n_words(left),
            "rule": [rules[place] for place in places],
            "whole": [whole[place] for place in places],
        }
        hits = pa.concat_tables([CONTAMINATION.empty_table(), *(found for found, _ in told)])
        return pa.table(columns, schema=CHANGED), hits, _hanging(records.row[mine], [windows for _, windows in told])

    def _lines_out(self, texts: list[str], kinds: list[str], turns: list[list[Turn] | None], rules: list[str]) -> None:
        if not len(self.lines):
            return
        some = [place for place, kind in enumerate(kinds) if kind != "code" and turns[place] is None]
        for place, text in zip(some, without_lines([texts[place] for place in some], self.lines), strict=True):
            if text != texts[place]:
                texts[place], rules[place] = text, BOILERPLATE

    def _repeats_out(
        self, texts: list[str], turns: list[list[Turn] | None], rules: list[str], mine: NDArray[np.int64]
    ) -> None:
        if self.repeats is None:
            return
        for place, record in enumerate(mine.tolist()):
            spans = self.repeats.spans(record)
            # places are those of the measured text: one that has lost lines is let be
            if spans and turns[place] is None and not rules[place]:
                texts[place], rules[place] = cut(texts[place], spans).text, REPEATED

    def _overlaps_out(
        self,
        some: NDArray[np.int64],
        held_out: HeldOut,
        table: pa.Table,
        texts: list[str],
        kinds: list[str],
        turns: list[list[Turn] | None],
        rules: list[str],
        whole: list[bool],
    ) -> tuple[pa.Table, Windows]:
        record_ids = table["record_id"].take(pa.array(some)).to_pylist()
        scanned = scan([texts[place] for place in some], record_ids, held_out, self.params.decontaminate)
        for number, made in scanned.cuts.items():
            place = int(some[number])
            if (said := turns[place]) is not None:
                left = cut_turns(_one_cut(texts[place], scanned.spans[number], made), texts[place], said, kinds[place])
                whole[place] = left is not None
                turns[place] = left or said
            texts[place], rules[place] = scanned.texts[number], CONTAMINATED
        return scanned.hits, (some[scanned.hangs[0]], scanned.hangs[1])


def _hanging(rows: NDArray[np.int32], parts: Sequence[Windows]) -> pa.Table:
    """HANGING rows of texts that lie in `rows` of their file; `parts` name them by their place there."""
    place = np.concatenate([np.zeros(0, np.int64), *(place for place, _ in parts)])
    window = np.concatenate([np.zeros(0, np.uint64), *(window for _, window in parts)])
    order = np.lexsort((window, place))
    place, window = place[order], window[order]
    different = run_starts(place) | run_starts(window)
    columns = {"row": rows[place[different]].astype(np.int64), "window": window[different]}
    return pa.table(columns, schema=HANGING)


def _one_cut(text: str, spans: Any, made: Cut) -> Cut:
    """All that was cut out of a text, in one cut: what was found after the first is cut with it."""
    again = cut(text, spans)
    return again if again.text == made.text else made


def _n_words(texts: Sequence[str]) -> NDArray[np.int64]:
    """(T,) words of each text."""
    counts = np.zeros(len(texts), np.int64)
    for first, last in batched(texts):
        counts[first:last] = np.diff(split(texts[first:last]).text_words)
    return counts
