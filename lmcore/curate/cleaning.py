"""Cleaning in rounds: each one cleans only the texts that are new among those kept, or that are to lose other things.

What may be held out in any round is in one index from the first, and every round says which of its items count. A text
that was cleaned has left on which windows of such items it hangs as may come or go; when some do, the texts that hang
on them are cleaned again. So are those whose long repeats lie elsewhere since other texts are kept. All rounds together
leave what cleaning every text in the last one would.

Which items may come or go: those that are like other texts. One that is like none stays in every round, for a text
leaves after a round only when others were dropped as copies of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.clean import Cleaner
from lmcore.curate.cleaned import NEVER, Layers, Measured, tell
from lmcore.curate.compare import read_boilerplate
from lmcore.curate.decide import Decided
from lmcore.curate.evaluation_sets import read_sets
from lmcore.curate.held_out import COUNT, HeldOut, Item
from lmcore.curate.ids import places
from lmcore.curate.overlap import Integers
from lmcore.curate.params import CurateParams
from lmcore.curate.parent import Parent
from lmcore.curate.postings import ALWAYS, MAY_CHANGE, STAYS
from lmcore.curate.records import Records
from lmcore.curate.split import TRAIN
from lmcore.curate.substrings import Repeats, long_repeats
from lmcore.curate.words import run_starts
from lmcore.documents import SPLITS
from lmcore.freed import give_back
from lmcore.progress import Report
from storage.atomic import fault
from storage.parquet import read_parquet, take_rows

FOLDER = "rounds"


class Cleaning:
    """The rounds of one corpus. Works in a folder; a round that was killed goes on where it was."""

    def __init__(
        self,
        work: Path,
        files: Sequence[Path],
        compared: Sequence[Path],
        records: Records,
        params: CurateParams,
        parent: Parent | None,
        memory_mib: int,
        report: Report,
    ) -> None:
        """`parent` is the corpus before, when it was made with the same settings."""
        self._folder, self._files, self._records = work / FOLDER, files, records
        self._params, self._parent, self._memory, self._report = params, parent, memory_mib, report
        self._lines = read_boilerplate(compared) if params.boilerplate.remove else np.zeros(0, np.uint64)
        self._round = 0
        self._stale = np.ones(len(records), bool)
        self._asked = np.zeros(len(records), bool)  # kept in this round, before cleaning
        self._trained: NDArray[np.bool_] | None = None  # the texts in which repeats were looked for
        self._repeats: Repeats | None = None
        self._index: HeldOut | None = None
        self._fresh: HeldOut | None = None
        self._may_be = np.zeros(0, np.int64)  # records that may be held out, as the index has them
        self._steady = np.zeros(len(records), bool)
        self._not_compared = np.zeros(len(records), bool)  # steady ones, while nothing was held out since
        self.measured = Measured.nothing()  # what the records said before
        self.layers = Layers(self._folder, np.full(len(records), NEVER, np.int16))

    def again(self, decided: Decided) -> None:
        """Take out of the texts that are kept what is not to be learnt, and drop those of which too little is left.

        The records and `decided` are changed: the new size and digest of what a text has become, and the drops.
        """
        self._asked = decided.kept
        self._look_for_repeats(decided)
        self._hold_out(decided)
        nothing = self._repeats is None or not len(self._repeats.text)
        if nothing and not len(self._lines) and (self._index is None or self._index.empty):
            return
        todo = self._asked & self._stale
        cleaner = Cleaner(self._params, self._lines, self._repeats, self._index, self._fresh)
        give_back()
        numbers = np.unique(self._records.file[todo]).tolist()
        for done, number in enumerate(numbers, start=1):
            if not self.layers.done(self._round, number):
                mine = np.flatnonzero(todo & (self._records.file == number))
                found = cleaner.run(self._files[number], self._records, decided, mine, self._steady)
                self.layers.write(self._round, number, *found)
                del found
                give_back()
                fault("curate.cleaned")
            self._report(done, len(numbers), f"cleaned {done:,} of {len(numbers):,} files, round {self._round + 1}")
        self.layers.layer[todo] = self._round
        self._stale[todo] = False
        self._not_compared[todo] = self._steady[todo] & (self._fresh is None)
        self._round += 1
        give_back()
        self.measured = tell(self.layers, len(self._files), self._records, decided, self._params)

    def forget(self) -> None:
        """Let the records be again as they were measured."""
        self.measured.restore(self._records)

    def hits(self, which: Integers | None = None) -> pa.Table:
        """CONTAMINATION rows of these records, or of all that were kept before they were cleaned in the last round."""
        wanted = self._asked
        if which is not None:
            wanted = np.zeros(len(self._records), bool)
            wanted[which] = True
        return self.layers.hits(wanted, self._records)

    def item_counts(self) -> pa.Table:
        """COUNT rows of what texts were compared with in the last round."""
        return self._index.item_counts() if self._index else COUNT.empty_table()

    def _look_for_repeats(self, decided: Decided) -> None:
        """Where the texts that are in training now have long repeats."""
        train = decided.kept & (decided.split == TRAIN)
        if not self._params.substrings.enabled or (self._trained is not None and (train == self._trained).all()):
            return
        self._report(0, None, "looking for long repeats")
        found = self._long_repeats(train)
        if self._repeats is not None:
            self._stale[_differing(self._repeats, found)] = True
        self._repeats, self._trained = found, train

    def _long_repeats(self, train: NDArray[np.bool_]) -> Repeats:
        """Long repeats in the training texts, numbered by their place in the records.

        The text in which a repeat stays is one that the corpus before kept, then the one with the lowest record id.
        """
        records, parent = self._records, self._parent
        in_files = [np.flatnonzero(train & (records.file == number)) for number in range(len(self._files))]
        in_files = [mine[np.argsort(records.row[mine])] for mine in in_files]

        def batches() -> Iterator[list[str]]:
            for path, mine in zip(self._files, in_files, strict=True):
                if len(mine):
                    yield read_parquet(path, ["text"]).take(pa.array(records.row[mine]))["text"].to_pylist()

        given = np.concatenate([np.zeros(0, np.int64), *in_files])
        new = places(records.ids[given], parent.ids) < 0 if parent else np.ones(len(given), bool)
        order = np.lexsort((given, new))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        size, folder = self._params.substrings.size, self._folder / "repeats"
        found = long_repeats(batches, size, folder, rank=rank, memory_mb=self._memory)
        text = given[order][found.text]
        order = np.lexsort((found.start, text))
        return Repeats(text[order], found.start[order], found.end[order])

    def _hold_out(self, decided: Decided) -> None:
        """What is held out now, of all that may be, and of that what is held out since the corpus before."""
        if not self._params.decontaminate.enabled:
            return
        before = self._index
        if before is None:
            self._steady = self._as_before(decided)
            self._build(decided)
        assert self._index
        n_items, n_records = self._index.items.num_rows, len(self._may_be)
        now, may_change = np.ones(n_items, bool), np.zeros(n_items, bool)
        now[:n_records] = decided.kept[self._may_be]
        may_change[:n_records] = self._alike
        self._index = self._index.of(now, may_change)
        self._fresh = None
        if self._parent is not None and self._params.decontaminate.look_back:
            since = np.zeros(n_items, bool)
            since[:n_records] = now[:n_records] & ~self._was
            if since.any():
                self._fresh = self._index.of(since, may_change)
                self._stale |= self._not_compared
        if before is not None:
            self._stale[self.layers.hanging_on(self._index.windows_between(before), self._records)] = True

    def _build(self, decided: Decided) -> None:
        """The index of what may be held out in this round or a later one, and of the evaluation sets."""
        records, parent, settings = self._records, self._parent, self._params.decontaminate
        # no rule or later drop lets a text come that was not asked whether it is like others
        may_be = (decided.split != TRAIN) & (decided.cluster_size > 0)
        in_files = [np.flatnonzero(may_be & (records.file == number)) for number in range(len(self._files))]

        def items() -> Iterator[Item]:
            for path, mine in zip(self._files, in_files, strict=True):
                if len(mine):
                    table = take_rows(path, records.row[mine], ["record_id", "text"])
                    sides = decided.split[mine].tolist()
                    columns = (table["record_id"].to_pylist(), table["text"].to_pylist(), sides)
                    for record, text, side in zip(*columns, strict=True):
                        yield SPLITS[side], record, text
            yield from read_sets(settings.evaluation_sets)

        self._may_be = np.concatenate([np.zeros(0, np.int64), *in_files])
        self._alike = decided.cluster_size[self._may_be] > 1
        self._was = np.zeros(len(self._may_be), bool)
        if parent is not None:
            at = places(records.ids[self._may_be], parent.ids)
            self._was = (at >= 0) & (parent.split[np.maximum(at, 0)] != TRAIN)
        # one that was held out before does not count among those held out since, the others do
        stay = decided.kept[self._may_be] & ~self._alike
        stays = np.select([stay & ~self._was, stay], [ALWAYS, STAYS], MAY_CHANGE).astype(np.int8)
        folder = self._folder / "index"
        self._index = HeldOut.build(items(), settings.size, folder, memory_mb=self._memory, stays=stays)

    def _as_before(self, decided: Decided) -> NDArray[np.bool_]:
        """Which records stand in the corpus before just as they were measured: nothing was found in them then."""
        records, parent = self._records, self._parent
        steady = np.zeros(len(records), bool)
        if parent is not None and self._params.decontaminate.remove:
            at = places(records.ids, parent.ids)
            there = at >= 0
            steady[there] = parent.columns["text_id"][at[there]] == records.text_id[there]
            steady[there] &= parent.split[at[there]] == decided.split[there]
        return steady


def _differing(one: Repeats, other: Repeats) -> Integers:
    """The texts that have not the same spans in both."""
    text, start, end = (
        np.concatenate([getattr(found, name) for found in (one, other)]) for name in ("text", "start", "end")
    )
    order = np.lexsort((end, start, text))
    text, start, end = text[order], start[order], end[order]
    first = run_starts(text) | run_starts(start) | run_starts(end)
    alone = first & np.append(first[1:], True)
    return np.unique(text[alone])


def clear(work: Path) -> None:
    """Forget what was cleaned: the corpus is written."""
    shutil.rmtree(work / FOLDER, ignore_errors=True)
