"""Personal data and secrets in texts: found, counted, and replaced by a stable word for each type.

`mask` is what curation does to every text and title; `blank` to every URL, and to whatever a person sees of a text.
Only what is found changes: all else stays as it was, to the code point. Masking what is masked finds nothing more.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lmcore.config import Params
from lmcore.curate.privacy_mail import emails
from lmcore.curate.privacy_numbers import addresses, cards, ibans
from lmcore.curate.privacy_phones import phones
from lmcore.curate.privacy_secrets import secrets
from lmcore.curate.privacy_text import MASKS, Scan, Span
from lmcore.curate.privacy_urls import phones_in_urls

PRIVACY_VERSION = 1
"""Raised by hand whenever `mask` gives another result for any text."""

Action = Literal["mask", "keep"]
COUNTS = {
    "n_secrets": "keys, tokens, passwords and private keys found",
    "n_emails": "e-mail addresses found",
    "n_ibans": "bank accounts (IBAN) found",
    "n_cards": "payment card numbers found",
    "n_ips": "public internet addresses found",
    "n_phones": "telephone numbers found",
}
"""Signal and its meaning; in the order in which a place that looks like two types is decided."""

_TYPES = tuple(name[2:-1] for name in COUNTS)
_BATCH_CHARS = 1 << 20
_SEPARATOR = "\0\n"  # no pattern matches a NUL, so none reaches from one text into the next


class PrivacyParams(Params):
    """What is done with each type of personal data: `mask` puts a word in its place, `keep` only counts it."""

    email: Action = Field(default="mask", description="E-mail addresses.")
    phone: Action = Field(default="mask", description="Telephone numbers with + and country; national ones by region.")
    ip: Action = Field(default="mask", description="Public internet addresses.")
    iban: Action = Field(default="mask", description="Bank account numbers (IBAN).")
    card: Action = Field(default="mask", description="Payment card numbers.")
    secret: Action = Field(default="mask", description="Keys, tokens, passwords in URLs, private keys.")
    regions: tuple[str, ...] = Field(
        default=(), description="Countries (ISO 3166, like HU) whose telephone numbers are found without + and country."
    )

    @field_validator("regions")
    @classmethod
    def _known_regions(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        from phonenumbers import SUPPORTED_REGIONS

        for region in regions:
            if region not in SUPPORTED_REGIONS:
                meant = {"UK": "GB", "EN": "GB"}.get(region.upper(), region.upper())
                hint = f"; did you mean {meant}?" if meant in SUPPORTED_REGIONS else ""
                raise ValueError(f"no telephone region {region!r}: two capitals of ISO 3166 such as HU or JP{hint}")
        if len(set(regions)) < len(regions):
            raise ValueError("a telephone region stands there twice")
        return regions


@dataclass(frozen=True)
class Masked:
    """Texts after masking, and how many of each type every one of them held."""

    texts: list[str]
    counts: dict[str, NDArray[np.int64]]  # by name in COUNTS; (T,)


def mask(texts: Sequence[str], params: PrivacyParams) -> Masked:
    """Find personal data in every text; replace what `params` says. A text's result depends on that text alone."""
    masked = list(texts)
    counts = {name: np.zeros(len(masked), np.int64) for name in COUNTS}
    for batch in _batches(masked):
        for number, spans in _find(masked, batch, params).items():
            text = masked[number]
            while True:
                for kind, _, _ in spans:
                    if _action(params, kind) == "mask":
                        counts[f"n_{kind}s"][number] += 1
                after = _replaced(text, spans, params)
                if after == text:  # what is left is kept: counted once, now that nothing else moves
                    break
                # what a mask stands beside may read differently now: until it does not, once is not enough
                text, spans = after, _find([after], [0], params).get(0, [])
            for kind, _, _ in spans:
                if _action(params, kind) == "keep":
                    counts[f"n_{kind}s"][number] += 1
            masked[number] = text
    return Masked(masked, counts)


def blank(text: str, regions: tuple[str, ...] = ()) -> str:
    """`text` with every type masked, whatever the recipe says: for reasons, samples, titles and URLs shown.

    Stricter than `mask`: telephone numbers that are part of a URL go too.
    """
    return blank_all([text], regions)[0]


def blank_all(texts: Sequence[str], regions: tuple[str, ...] = ()) -> list[str]:
    """`blank` of every text: of many short ones, such as the URLs of a shard, far faster than one by one."""
    params = PrivacyParams(regions=regions)
    return [_unglued(text, params) for text in mask(texts, params).texts]


def is_blanked(text: str) -> bool:
    """Whether the word of a mask stands in `text`: an address like that may be the one shown for several pages."""
    return any(word in text for word in MASKS.values())


def _unglued(text: str, params: PrivacyParams) -> str:
    """A masked text without the telephone numbers that are part of a URL."""
    while glued := [("phone", *span) for span in phones_in_urls(text)]:
        # what stands beside a mask may read differently now
        text = mask([_replaced(text, glued, params)], params).texts[0]
    return text


_Found = list[tuple[str, int, int]]


def _action(params: PrivacyParams, kind: str) -> str:
    return str(getattr(params, kind))


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Numbers of texts that are searched as one string: many short ones cost no more than one long one."""
    batch: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        batch.append(number)
        size += len(text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _find(texts: Sequence[str], batch: Sequence[int], params: PrivacyParams) -> dict[int, _Found]:
    """What the texts of a batch hold: type, begin and end by number of text, in order and never overlapping."""
    finders: dict[str, Callable[[Scan], Iterator[Span]]] = {
        "secret": secrets,
        "email": emails,
        "iban": ibans,
        "card": cards,
        "ip": addresses,
        "phone": lambda scan: phones(scan, params.regions),
    }
    starts = []
    place = 0
    for number in batch:
        starts.append(place)
        place += len(texts[number]) + len(_SEPARATOR)
    scan = Scan(_SEPARATOR.join([texts[number] for number in batch]))
    taken: list[tuple[int, int, str]] = []
    for kind in _TYPES:
        for start, end in finders[kind](scan):
            at = bisect_right(taken, (start, end, ""))
            if (at == 0 or taken[at - 1][1] <= start) and (at == len(taken) or end <= taken[at][0]):
                insort(taken, (start, end, kind))
    found: dict[int, _Found] = {}
    for start, end, kind in taken:
        at = bisect_right(starts, start) - 1
        found.setdefault(batch[at], []).append((kind, start - starts[at], end - starts[at]))
    return found


def _replaced(text: str, spans: _Found, params: PrivacyParams) -> str:
    pieces = []
    done = 0
    for kind, start, end in spans:
        if _action(params, kind) == "mask":
            pieces += [text[done:start], MASKS[kind]]
            done = end
    return "".join([*pieces, text[done:]])
