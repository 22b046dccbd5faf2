"""Terminology recall: does the model know the domain's words?

An occurrence of a term in held-out text is recalled when every token of it is the model's first choice, given all the
text before that token (teacher-forced: the model reads the text as it is, its own guesses are not fed back). The tokens
of an occurrence are all that cover one of its characters, the blank before it where the token has one. The sign for
what a vocabulary does not have is never right: a model that expects some unknown word does not know the term.

    recall        recalled occurrences / occurrences
    term_recall   the mean of that over the terms that occur: frequent terms do not outweigh the others

Terms are found without regard to case, as whole words (in Chinese and Japanese anywhere); of two at one place the
longer counts. The windows are those of the evaluation's bits per byte.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lmcore.evaluate.likelihood import Window, score_windows, windows
from lmcore.evaluate.probes import UNDIVIDED
from lmcore.models.network import Network
from lmcore.tokenizer import Encoding, Tokenizer

SHOWN = 20  # terms in the table, the most frequent


def recall_terms(model: Network, tokenizer: Tokenizer, texts: Sequence[str], terms: Sequence[str]) -> dict[str, Any]:
    """How often the terms occur in the texts and are recalled, in all and each of the most frequent.

    `recall` is null where none occurs. Only texts with a term are put through the model.
    """
    found = [(text, spans) for text in texts if (spans := find_terms(terms, text))]
    occurrences: dict[str, list[bool]] = {}
    encoded = tokenizer.encode_batch([text for text, _ in found])
    for (text, spans), encoding, hits in zip(found, encoded, _hits(model, tokenizer, encoded), strict=True):
        first_choice = dict(zip(spans, _recalled(spans, encoding, hits), strict=True))
        for (start, stop), recalled in first_choice.items():
            occurrences.setdefault(text[start:stop].casefold(), []).append(recalled)
    every = [recalled for of_term in occurrences.values() for recalled in of_term]
    by_term = {term: sum(of_term) / len(of_term) for term, of_term in occurrences.items()}
    frequent = sorted(occurrences, key=lambda term: (-len(occurrences[term]), term))[:SHOWN]
    return {
        "terms": list(terms),
        "terms_found": len(occurrences),
        "occurrences": len(every),
        "recall": sum(every) / len(every) if every else None,
        "term_recall": sum(by_term.values()) / len(by_term) if by_term else None,
        "frequent": [
            {"term": term, "occurrences": len(occurrences[term]), "recall": by_term[term]} for term in frequent
        ],
    }


def find_terms(terms: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Where the terms stand in a text, from left to right, the longest at each place: characters [start, stop)."""
    return [match.span() for match in _pattern(tuple(terms)).finditer(text)] if terms else []


@functools.lru_cache(maxsize=4)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(set(terms), key=lambda term: (-len(term), term))
    edged = [f"{_edge(term[0], '<!')}{re.escape(term)}{_edge(term[-1], '!')}" for term in longest_first]
    return re.compile("|".join(edged), re.IGNORECASE)


def _edge(letter: str, look: str) -> str:
    """What must hold beside a term's first or last letter: no further letter of its word."""
    return "" if re.match(f"[{UNDIVIDED}]", letter) or not letter.isalnum() else rf"(?{look}\w)"


def _hits(model: Network, tokenizer: Tokenizer, encoded: Sequence[Encoding]) -> list[npt.NDArray[np.bool_]]:
    """Of every token of each document, whether it was the model's first choice."""
    found = [np.zeros(len(encoding.ids), dtype=bool) for encoding in encoded]
    work, begins = [], {}
    for document, encoding in enumerate(encoded):
        place = 0
        for read, predicted in windows(encoding.ids.astype(np.int64), tokenizer.bos_id, model.config.context):
            work.append(Window(document, read, predicted))
            begins[id(work[-1])] = place
            place += len(predicted)
    unknown = -1 if tokenizer.unk_id is None else tokenizer.unk_id
    for window, _, hits in score_windows(model, work, tokenizer.pad_id):
        begin = begins[id(window)]
        found[window.document][begin : begin + len(hits)] = hits & (window.predicted != unknown)
    return found


def _recalled(spans: Sequence[tuple[int, int]], encoding: Encoding, hits: npt.NDArray[np.bool_]) -> list[bool]:
    """Of each span of characters, whether all tokens that cover some of it were the first choice."""
    starts, stops = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T  # both rise
    found = []
    for start, stop in spans:
        covering = hits[np.searchsorted(stops, start, "right") : np.searchsorted(starts, stop, "left")]
        found.append(bool(len(covering) and covering.all()))
    return found
