"""What can be measured on one text alone, for many texts in one pass.

Every signal of a text depends on that text and its language only, so shards and batches can be cut anywhere.
Values are rounded to six digits: sums done in another order by another processor must not change a stored byte.

Sources: Gopher (Rae and others 2021, arXiv 2112.11446, table A1 and appendix A1.1), C4 (Raffel and others 2020,
arXiv 1910.10683, section 2.2), mC4 (Xue and others 2021, arXiv 2010.11934), FineWeb (Penedo and others 2024,
arXiv 2406.17557), RedPajama-V2 (Weber and others 2024, arXiv 2411.12372), Dolma (Soldaini and others 2024, arXiv
2402.00159), NeMo Curator's heuristic filters. Signals without a source are this project's own.

A word is a run of characters that are not white space, punctuation included, as in the Gopher paper; a Chinese or
Japanese character is a word by itself, and the Ethiopic word space separates words. See `lmcore.curate.words`.
Case does not matter but for the two `upper` signals. A text of more than eight million characters is measured in
pieces, see `signals_giant`. Legend: T texts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from lmcore.curate.pieces import pieces
from lmcore.curate.signals_giant import GIANT_CHARS, joined
from lmcore.curate.signals_grams import gram_signals
from lmcore.curate.signals_lines import line_signals, paragraph_signals, sentence_signals
from lmcore.curate.signals_marks import mark_signals
from lmcore.curate.signals_scan import Floats, equal_groups, scan
from lmcore.curate.signals_words import character_signals, word_signals

_DIGITS = 6
_ZLIB_LEVEL = 6
_BATCH_CHARS = 1_000_000  # the arrays of one batch stay near the processor: more is slower
_BATCH_TEXTS = 5_000

SIGNALS: dict[str, str] = {
    "n_chars": "characters of the normalised text",
    "n_words": "words (Gopher: 50 to 100,000)",
    "n_lines": "lines that are not blank",
    "mean_word_length": "characters a word (Gopher: 3 to 10)",
    "mean_sentence_words": "words a sentence; a full stop, question or exclamation mark or a paragraph ends one",
    "alpha_word_share": "share of words with at least one letter (Gopher: at least 0.8)",
    "unique_word_ratio": "different words / words (RedPajama-V2: rps_doc_frac_unique_words)",
    "duplicate_line_share": "share of line characters in lines that stood before in the text (Gopher: at most 0.2)",
    "short_line_share": "share of lines of at most 30 characters (FineWeb: at most 0.67)",
    "punctuation_line_share": "share of lines that end in . ! ? … a closing quote or their kin (C4; FineWeb: >= 0.12)",
    "symbol_share": "share of characters, white space apart, that are neither letter nor digit",
    "digit_share": "share of characters, white space apart, that are digits (NeMo Curator: at most 0.15)",
    "compression_ratio": "bytes after zlib (level 6) / UTF-8 bytes; low is repetitive, above 1 only for tiny texts",
    "top_2_gram_share": "share of word characters in the most covering repeated pair of words (Gopher: at most 0.2)",
    "duplicate_5_gram_share": "share of word characters in runs of 5 words that stood before (Gopher: at most 0.15)",
    "n_sentences": "sentences (C4: at least 5)",
    "n_paragraphs": "paragraphs: runs of lines without a blank line between them",
    "median_word_length": "the middle length of the words in characters (Dolma: 3 to 10)",
    "max_word_length": "characters of the longest word (C4, NeMo Curator: at most 1,000)",
    "hash_word_ratio": "# signs / words (Gopher: at most 0.1)",
    "ellipsis_word_ratio": "ellipses, … or three full stops, / words (Gopher: at most 0.1)",
    "bullet_line_share": "share of lines that begin with - * • or another bullet (Gopher: at most 0.9)",
    "ellipsis_line_share": "share of lines that end in an ellipsis (Gopher: at most 0.3)",
    "stop_words": "different stop words of the text's language in it (Gopher: 2 or more of eight English ones)",
    "stop_word_share": "share of words that are stop words of the text's language (RedPajama-V2)",
    "duplicate_line_count_share": "share of lines that stood before in the text (Gopher: at most 0.3)",
    "duplicate_paragraph_count_share": "share of paragraphs that stood before in the text (Gopher: at most 0.3)",
    "duplicate_paragraph_share": "share of paragraph characters in paragraphs that stood before (Gopher: at most 0.2)",
    "top_3_gram_share": "share of word characters in the most covering repeated run of 3 words (Gopher: at most 0.18)",
    "top_4_gram_share": "share of word characters in the most covering repeated run of 4 words (Gopher: at most 0.16)",
    "duplicate_6_gram_share": "share of word characters in runs of 6 words that stood before (Gopher: at most 0.14)",
    "duplicate_7_gram_share": "share of word characters in runs of 7 words that stood before (Gopher: at most 0.13)",
    "duplicate_8_gram_share": "share of word characters in runs of 8 words that stood before (Gopher: at most 0.12)",
    "duplicate_9_gram_share": "share of word characters in runs of 9 words that stood before (Gopher: at most 0.11)",
    "duplicate_10_gram_share": "share of word characters in runs of 10 words that stood before (Gopher: at most 0.10)",
    "newline_word_ratio": "newlines / words (FineWeb: at most 0.3)",
    "long_line_count": "lines of at least 200 characters (mC4: at least 3)",
    "curly_bracket_share": "share of characters that are { or } (C4: none; RedPajama-V2: rps_doc_curly_bracket)",
    "lorem_ipsum": "how often `lorem ipsum` stands in the text (C4: never)",
    "policy_line_share": "share of lines with `javascript`, `terms of use`, `privacy policy`, `cookie policy` or "
    "`use`, `uses`, `use of` before `cookies` (C4 drops the line)",
    "upper_word_share": "share of words whose letters are all upper case (RedPajama-V2: rps_doc_frac_all_caps_words)",
    "upper_letter_share": "share of letters that are upper case",
    "unigram_entropy": "entropy in nats of the text's own word frequencies (RedPajama-V2: rps_doc_unigram_entropy)",
    "url_share": "share of word characters in words with :// or that begin with www. (NeMo Curator: at most 0.2)",
    "whitespace_share": "share of characters that are white space (NeMo Curator: at most 0.25)",
    "parenthesis_share": "share of characters that are round or square brackets (NeMo Curator: at most 0.1)",
    "latin_share": "share of letters that are Latin",
    "ethiopic_share": "share of letters that are Ethiopic",
    "cjk_share": "share of letters that are Han, kana, Bopomofo or Hangul",
    "cyrillic_share": "share of letters that are Cyrillic",
    "other_script_share": "share of letters of any other script",
    "speaker_line_share": "share of lines that begin with a name of at most four words, a colon and a space, or open "
    "speech with – — 「 or 『",
    "timestamp_line_share": "share of lines that begin with a time (12:34, [01:02.50]) or hold the arrow --> of "
    "subtitles",
    "question_share": "share of sentences that end in a question mark",
    "code_line_share": "share of lines that end in { or }, in ; after no letter, or in a call as in f(x), or that have "
    "an operator (=, ==, ->, &&, …) or a keyword of code alone (def, elif, const, #include, …) as a word",
    "instruction_share": "share of lines that begin with a label such as `Question:`, `### Response`, `Kérdés:`, "
    "`ጥያቄ፡` or `質問：` (English, Hungarian, Amharic, Japanese)",
}
"""Name and meaning of every signal, in stored order, with the published limit where there is one."""


def signals(texts: Sequence[str], langs: Sequence[str], kinds: Sequence[str]) -> dict[str, Floats]:
    """Every signal of SIGNALS for T normalised texts (no lone surrogates), each (T,) float64.

    `langs` are BCP 47 languages, by which stop words are chosen; `kinds` are kinds of text, by which no signal
    differs today. An empty text has 0 everywhere. Raises ValueError where the three have different lengths.
    """
    if not len(texts) == len(langs) == len(kinds):
        raise ValueError(f"{len(texts)} texts, {len(langs)} languages and {len(kinds)} kinds: one each is needed")
    values = {name: np.zeros(len(texts)) for name in SIGNALS}
    for cut in _batches(texts):
        giant = len(texts[cut.start]) > GIANT_CHARS  # which is then alone
        found = _of_giant(texts[cut.start], langs[cut.start]) if giant else _of_batch(texts[cut], langs[cut])
        for name, column in found.items():
            values[name][cut] = np.round(column, _DIGITS)
    return values


def _of_giant(text: str, lang: str) -> dict[str, Floats]:
    parts = [_of_batch([piece], [lang]) for _, batch in pieces([text], GIANT_CHARS) for piece in batch]
    values = joined({name: np.concatenate([part[name] for part in parts]) for name in SIGNALS})
    return {name: np.array([value]) for name, value in values.items()} | {
        "compression_ratio": np.array([_compression(text)])
    }


def _of_batch(texts: Sequence[str], langs: Sequence[str]) -> dict[str, Floats]:
    scanned = scan(texts, langs)
    words = equal_groups(scanned.found.word_text, scanned.found.word_hash)
    return {
        "compression_ratio": np.fromiter(map(_compression, texts), np.float64, len(texts)),
        **word_signals(scanned, words),
        **character_signals(scanned),
        **gram_signals(scanned, words),
        **line_signals(scanned),
        **paragraph_signals(scanned),
        **sentence_signals(scanned),
        **mark_signals(scanned, words),
    }


def _batches(texts: Sequence[str]) -> Iterator[slice]:
    """Slices of at most _BATCH_CHARS characters, one text at least, and _BATCH_TEXTS texts."""
    start = total = 0
    for row, text in enumerate(texts):
        if row > start and (total + len(text) > _BATCH_CHARS or row - start == _BATCH_TEXTS):
            yield slice(start, row)
            start, total = row, 0
        total += len(text)
    if len(texts) > start:
        yield slice(start, len(texts))


def _compression(text: str) -> float:
    data = text.encode()
    return len(zlib.compress(data, _ZLIB_LEVEL)) / len(data) if data else 0.0
