"""One vocabulary spelt in another: how a model that knows the old tokens can begin with new ones.

Both are made of bytes. A new token that the old vocabulary has too is that token. Any other is cut as the old
vocabulary cuts its text; bytes in it that are no UTF-8 of their own (half a character) are the old vocabulary's single
bytes, which every such vocabulary has. A special is the old one of its name, else of its role (before documents,
padding), else nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmcore.tokenizer.interface import Tokenizer

_RUNS = re.compile("[\udc80-\udcff]|[^\udc80-\udcff]+")  # surrogateescape: a byte that is no UTF-8, or text


def pieces_in(old: Tokenizer, new: Tokenizer) -> list[list[int]]:
    """For each token of `new` the ids of the `old` tokens that spell it; none for a special that `old` has not.

    Raises UserError when one of them is lossy.
    """
    known: dict[bytes, int] = {}
    for index, octets in enumerate(old.token_bytes()):
        if octets:
            known.setdefault(octets, index)
    found: list[list[int]] = []
    wanted: list[tuple[int, str]] = []  # the place of a new token, and a run of text in it
    spelt = new.token_bytes()
    for octets in spelt:
        found.append([known[octets]] if octets in known else [])
        if octets and octets not in known:
            wanted += [(len(found) - 1, run) for run in _runs(octets)]
    encoded = iter(old.encode_ids([run for _, run in wanted if not _is_byte(run)]))
    for place, run in wanted:
        found[place] += [known[run.encode(errors="surrogateescape")]] if _is_byte(run) else next(encoded).tolist()
    for name, index in new.specials.items():
        if (same := _special(old, new, name, index)) is not None:
            found[index] = [same]
    return found


def _special(old: Tokenizer, new: Tokenizer, name: str, index: int) -> int | None:
    """The old special that a new one of this name and id begins as."""
    if name in old.specials:
        return old.specials[name]
    if index == new.bos_id:
        return old.bos_id
    return old.pad_id if index == new.pad_id else None


def _runs(octets: bytes) -> Iterator[str]:
    """Text, and between it the bytes that are none, one by one as lone surrogates."""
    return (run.group() for run in _RUNS.finditer(octets.decode(errors="surrogateescape")))


def _is_byte(run: str) -> bool:
    """Whether a run is one such byte."""
    return "\udc80" <= run[0] <= "\udcff"
