"""Boilerplate: lines that stand in many different texts, such as menus, licences and "read more".

Measuring leaves one small table a shard (`line_table`); comparing asks over all of them which lines of the new texts
stand in enough texts (`lmcore.curate.line_counts`), and gives each new text the share of its characters in such lines.
Lines are compared without regard to case and to the white space around them; one of fewer than 20 characters counts
only if it has four words and ten characters (a Chinese or Japanese character is a word).

What is counted is not texts but their sketches (`lmcore.curate.sketches`): copies of one text count once, near
copies about once, wherever they were collected. Otherwise a poem that ten sites quote would be boilerplate in full.
The price: pages that are mostly boilerplate themselves are recognised after more than `min_documents` of them.

Same idea: CCNet's paragraph hashes (Wenzek and others 2019, arXiv 1911.00359, section 3.1), which drop the second
occurrence already.

Legend: T texts, L lines that are not blank, H boilerplate lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.pieces import pieces, shares
from lmcore.curate.sketches import Sketcher
from lmcore.curate.words import Hashes, Integers, Split, run_starts, split

MIN_DOCUMENTS = 10
LONG_LINE = 20  # characters
SHORT_LINE = 10  # characters; with
MANY_WORDS = 4  # words a line between the two counts as well

LINES = pa.schema(
    [pa.field("line", pa.uint64(), nullable=False), pa.field("text", pa.uint32(), nullable=False)],
)
"""Which line stands in which text: the line's hash and half of the text's sketch; sorted, no row twice."""


def line_table(texts: Sequence[str]) -> pa.Table:
    """LINES of T normalised texts. The tables of a shard's parts, put together, say the same as the shard's own."""
    sketch = Sketcher(len(texts))
    hashes: list[Hashes] = [np.zeros(0, np.uint64)]
    owners: list[Integers] = [np.zeros(0, np.int64)]
    for batch_owners, batch in pieces(texts):
        found = split(batch)
        sketch.add(batch_owners, found)
        counted = _countable(found)
        hashes.append(found.line_hash[counted])
        owners.append(batch_owners[found.line_text[counted]])
    line = np.concatenate(hashes)
    text = (sketch.values() >> np.uint64(32)).astype(np.uint32)[np.concatenate(owners)]
    order = np.lexsort((text, line))
    line, text = line[order], text[order]
    different = run_starts(line) | run_starts(text)
    return pa.table({"line": line[different], "text": text[different]}, schema=LINES)


def boilerplate_share(texts: Sequence[str], lines: Hashes) -> NDArray[np.float64]:
    """Share of the line characters of each of T normalised texts that lie in `lines` (sorted): (T,)."""
    inside, total = np.zeros(len(texts)), np.zeros(len(texts))
    for owners, batch in pieces(texts):
        found = split(batch)
        sizes = (found.line_end - found.line_start).astype(np.float64)
        owner = owners[found.line_text]
        np.add.at(total, owner, sizes)
        np.add.at(inside, owner, sizes * _among(found, lines))
    return shares(inside, total)


def without_lines(texts: Sequence[str], lines: Hashes) -> list[str]:
    """`texts` without `lines` (sorted); a paragraph that empties goes with the blank lines before it."""
    rows: list[list[str]] = [[] for _ in texts]
    removed: list[list[bool]] = [[] for _ in texts]
    touched = np.zeros(len(texts), bool)
    for owners, batch in pieces(texts):
        found = split(batch)
        gone = np.zeros(sum(piece.count("\n") + 1 for piece in batch), bool)
        gone[found.line_row[_among(found, lines)]] = True
        first = 0
        for owner, piece in zip(owners.tolist(), batch, strict=True):
            part = piece.split("\n")
            flags = gone[first : first + len(part)]
            first += len(part)
            touched[owner] |= bool(flags.any())
            _extend(rows[owner], removed[owner], part, flags.tolist())
    return [
        _without(rows[i], removed[i]) if touched[i] else text  # texts that lose nothing stay as they are
        for i, text in enumerate(texts)
    ]


def _extend(rows: list[str], removed: list[bool], part: list[str], flags: list[bool]) -> None:
    """Put the rows of a long text's next piece behind the others; the last one may go on."""
    if rows:
        if part[0]:
            removed[-1] = flags[0] and (removed[-1] or not rows[-1])
        rows[-1] += part[0]
        part, flags = part[1:], flags[1:]
    rows.extend(part)
    removed.extend(flags)


def _without(rows: list[str], removed: list[bool]) -> str:
    kept: list[str] = []
    for blanks, start, end in _paragraphs(rows):
        left = [rows[i] for i in range(start, end) if not removed[i]]
        if left:
            kept += rows[start - blanks : start] if kept else []
            kept += left
    return "\n".join(kept)


def _paragraphs(rows: list[str]) -> Iterator[tuple[int, int, int]]:
    """(blank rows before it, first row, one past the last) of every paragraph."""
    blanks, start = 0, 0
    while start < len(rows):
        if not rows[start].strip():
            blanks += 1
            start += 1
            continue
        end = start + 1
        while end < len(rows) and rows[end].strip():
            end += 1
        yield blanks, start, end
        blanks, start = 0, end


def _countable(found: Split) -> NDArray[np.bool_]:
    """Which lines are long enough to say something: (L,)."""
    characters = found.line_end - found.line_start
    words = np.searchsorted(found.word_start, found.line_end) - np.searchsorted(found.word_start, found.line_start)
    return (characters >= LONG_LINE) | ((characters >= SHORT_LINE) & (words >= MANY_WORDS))


def _among(found: Split, lines: Hashes) -> NDArray[np.bool_]:
    """Which lines are among the sorted `lines`: (L,)."""
    if not len(lines):
        return np.zeros(len(found.line_hash), bool)
    place = np.minimum(np.searchsorted(lines, found.line_hash), len(lines) - 1)
    known: NDArray[np.bool_] = lines[place] == found.line_hash
    return known & _countable(found)
