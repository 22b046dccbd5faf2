"""Rows of comma-separated and tab-separated text, as RFC 4180 and the IANA's text/tab-separated-values say."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice

from lmcore.collect.unpack import Unreadable

DELIMITERS = ",;\t|"
# The csv module's own limit, 128 KiB, is one for the whole program; files have `max_bytes`.
csv.field_size_limit(2**31 - 1)

CsvRow = tuple[list[str], str]  # its cells, and why there are none


def csv_rows(text: str, delimiter: str = ",", *, quoted: bool = True) -> Iterator[CsvRow]:
    """The rows of a text whose newlines are \\n; a row that is none comes with its problem, and the next is read."""
    lines = io.StringIO(text, newline="")
    usual = csv.reader(lines, delimiter=delimiter, strict=True)
    rows = usual if quoted else csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    while True:
        try:
            yield next(rows), ""
        except csv.Error as error:
            open_end = "unexpected end" in str(error)
            yield [], "a quote that is never closed" if open_end else "a quote in the middle of a field"
        except StopIteration:
            return


def table(text: str, suffix: str, column: str) -> tuple[list[str], Iterator[CsvRow]]:
    """(names in the first row, all rows after it) of a table with a column of this name.

    A `.csv` is separated by whatever of , ; tab | splits its first row so that the column is in it: a guess from the
    other rows, as csv.Sniffer's, errs on prose. In a `.tsv` quotes are text, unless its rows only have as many
    fields as the first when they are not. Raises Unreadable with the columns found.
    """
    tried = {}
    for delimiter in "\t" if suffix == ".tsv" else DELIMITERS:
        quoted = suffix != ".tsv" or _only_quoted(text)
        names = [name.strip() for name in next(csv_rows(text, delimiter, quoted=quoted), ([], ""))[0]]
        if column in names:
            return names, islice(csv_rows(text, delimiter, quoted=quoted), 1, None)
        tried[delimiter] = names
    names = max(tried.values(), key=len)[:20]
    found = ", ".join(" ".join(name.split()) for name in names if name)
    raise Unreadable("no_text_field", f"no column {column} in the first row; there are {found[:300] or 'none'}")


def _only_quoted(text: str) -> bool:
    """Whether the rows of tab-separated text fit the first one with quotes, and do not without."""
    return '"' in text and not _even(text, quoted=False) and _even(text, quoted=True)


def _even(text: str, *, quoted: bool) -> bool:
    widths = {(len(row), problem) for row, problem in csv_rows(text, "\t", quoted=quoted) if row or problem}
    return len(widths) <= 1 and not any(problem for _, problem in widths)
