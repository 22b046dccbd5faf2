"""Which tokens of a text with turns are learnt, and the mask of a shard that says so.

A curated document may have turns (role and text). Where one of them has a role that is to be learnt, only the turns of
such roles are; a document without such a turn is learnt whole, or not at all where its source is one of
`tokens.only_roles_of`: the scenes in which a character is not on stage. The begin mark is always learnt: it is the sign
that the document before has ended. Where tags are tokens (`tokenizer.chat_tags`), so is the one that closes a learnt
turn: it is the sign that the answer has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmcore.conversation import closing_tag
from lmcore.tokenizer import Tokenizer
from lmcore.tokens.params import TokensParams
from storage.errors import RunError, UserError
from storage.parquet import batches

SHOWN_ROLES = 12  # in an error, the most frequent
Spans = list[tuple[int, int]]  # characters [start, stop), in order, that do not overlap


def learnt_spans(
    text: str, turns: Sequence[dict[str, Any]], roles: Sequence[str], name: str, *, closing: bool = False
) -> Spans | None:
    """The characters of `text` that are learnt; None when no turn has one of `roles`, so that all are.

    The turns' texts are looked for in `text` one after the other, each at the first place behind the one before where
    it does not begin or end inside a word (so that a turn "u" is not found in the label "user:"), or else at the first
    place at all; a turn of blanks alone is none. With `closing` the tag right behind a turn is learnt with it.
    Raises RunError that names the document as `name` when a turn is not there.
    """
    if not any(turn["role"] in roles for turn in turns):
        return None
    spans: Spans = []
    at = 0
    for turn in turns:
        said = turn["text"].strip()  # what stands around a turn is not said
        if not said:
            continue
        start = _place(text, said, at)
        if start < 0:
            raise RunError(
                f"{name} has a turn of {turn['role']} that its text does not have at its place: {said[:60]!r}",
                "the source must leave a text that has its turns in their order",
            )
        at = start + len(said)
        if turn["role"] in roles:
            tag = closing_tag(turn["role"])
            if closing and text.startswith(tag, at):
                at += len(tag)
            spans.append((start, at))
    return spans


def check_roles(files: Iterable[Path], params: TokensParams) -> None:
    """Raise UserError when roles were asked for and no turn of the training files has one of them.

    Of each source of `only_roles_of` by itself, else of all text together. The roles that there are are named.
    """
    if not params.asks_for_roles:
        return
    found: dict[str, Counter[str]] = {source: Counter() for source in params.only_roles_of}
    everywhere: Counter[str] = Counter()
    for path in files:
        for batch in batches(path, ["source", "turns"], rows=256):
            for source, turns in zip(*(batch[name].to_pylist() for name in ("source", "turns")), strict=True):
                for place in (everywhere, found.get(source)):
                    if place is not None:
                        place.update(turn["role"] for turn in turns or ())
    asked = ", ".join(params.learn_roles)
    named = {f"source {source}": roles for source, roles in found.items()}
    for where, roles in (named | {"the corpus": everywhere}).items():
        if not any(role in roles for role in params.learn_roles):
            there = ", ".join(f"{role} ({count:,})" for role, count in roles.most_common(SHOWN_ROLES))
            raise UserError(
                f"tokens.learn_roles asks for {asked}, and no turn of {where} has that role in its training text",
                f"the roles are {there}{', ...' if len(roles) > SHOWN_ROLES else ''}: name one of them"
                if there
                else "none of its texts has turns: take subtitles, a chat or another source that says who speaks",
            )


def _place(text: str, said: str, at: int) -> int:
    """Where `said` is in `text` from `at` on: the first place outside of words, else the first, else -1."""
    first = start = text.find(said, at)
    while start >= 0:
        stop = start + len(said)
        if not (_is_word(text[start - 1 : start]) or _is_word(text[stop : stop + 1])):
            return start
        start = text.find(said, start + 1)
    return first


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def tokens_in(tokenizer: Tokenizer, text: str, ids: npt.NDArray[np.uint32], spans: Spans) -> npt.NDArray[np.bool_]:
    """True for each of the tokens `ids` of `text` that stands for some character of `spans`, shape (tokens,)."""
    (encoding,) = tokenizer.encode_batch([text])
    assert np.array_equal(encoding.ids, ids), "encode_batch and encode_ids give equal ids"
    wanted = np.zeros(len(text) + 1, dtype=np.int64)
    for start, stop in spans:
        wanted[start + 1 : stop + 1] = 1
    before = np.cumsum(wanted)  # learnt characters before each place
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    learnt: npt.NDArray[np.bool_] = before[offsets[:, 1]] > before[offsets[:, 0]]
    return learnt


def pack_mask(mask: npt.NDArray[np.bool_]) -> bytes:
    """One bit a token, the first in the lowest bit of the first byte."""
    return np.packbits(mask, bitorder="little").tobytes()


def unpack_mask(packed: npt.NDArray[np.uint8], start: int, stop: int) -> npt.NDArray[np.bool_]:
    """The bits of tokens `start` to `stop` of a packed mask, shape (stop - start,)."""
    bits = np.unpackbits(packed[start // 8 : -(-stop // 8)], bitorder="little")
    return bits[start % 8 : start % 8 + stop - start].astype(bool)
