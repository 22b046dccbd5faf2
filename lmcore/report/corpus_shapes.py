"""What the questions on a corpus card look like: a query, how its columns are shown, which signals are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Show = Literal["text", "ours", "count", "size", "percent", "plain"]


@dataclass(frozen=True)
class Column:
    """One column of an answer and how it is shown; `bar`: a share that is drawn, too."""

    name: str
    heading: str
    show: Show
    bar: bool = False


@dataclass(frozen=True)
class Query:
    """One question about a corpus."""

    name: str
    title: str
    sql: str
    columns: tuple[Column, ...]
    note: str = ""


@dataclass(frozen=True)
class Signal:
    """A signal as a histogram: `bins` equal parts of low to high, what lies outside is put into the first or last."""

    name: str
    low: float
    high: float
    bins: int
    over: str
    view: Literal["measured", "beside", "curated"] = "measured"
    power: bool = False  # drawn by its power of ten


SIGNALS = (
    Signal("quality", 0, 100, 20, "quality score", "curated"),
    Signal("complexity", 0, 100, 20, "complexity score", "curated"),
    Signal("n_words", 0, 6, 24, "words of a text, as a power of ten", power=True),
    Signal("mean_word_length", 0, 12, 24, "characters a word"),
    Signal("unique_word_ratio", 0, 1, 20, "different words / words"),
    Signal("compression_ratio", 0, 1.2, 24, "bytes after zlib / bytes"),
    Signal("symbol_share", 0, 0.6, 24, "share of characters that are symbols"),
    Signal("duplicate_5_gram_share", 0, 1, 20, "share of repeated runs of five words"),
    Signal("lang_score", 0, 1, 20, "how sure the language is"),
    Signal("template_share", 0, 1, 20, "share of words that stand in templates", "beside"),
    Signal("boilerplate_share", 0, 1, 20, "share of characters in lines of many texts", "beside"),
    Signal("reference_bits", 0, 8, 24, "bits a byte under the model of the reference", "beside"),
    Signal("classifier_quality", 0, 100, 20, "quality by the classifier", "beside"),
)
