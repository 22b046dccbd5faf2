"""The tags of a conversation as single tokens of a `char_bpe` vocabulary: `<user>`, `</assistant>` and so on.

A tag is built by merges of its own that come before all others: `<` and `u`, `<u` and `s`, up to `<user>`. So what
stands in `vocab.bin` is a plain vocabulary by LAi's rule, and LAi's own encoder finds the tags too. Nothing is learnt
across a tag or a beginning of one, so a beginning (`<u`, in `<ul>`) is a token for itself wherever it stands.

Ids follow the bytes: the tags, then their beginnings from two characters on, shorter ones first.
"""

from __future__ import annotations

import re

from lmcore.conversation import ROLES, closing_tag, opening_tag

TAGS = tuple(tag(role) for role in ROLES for tag in (opening_tag, closing_tag))
BEGINNINGS = tuple(
    sorted({tag[:length] for tag in TAGS for length in range(2, len(tag))}, key=lambda part: (len(part), part))
)
TAG_TOKENS = (*TAGS, *BEGINNINGS)
TAG_SCORE = 2.0**40  # in vocab.bin: above every count of a merge, and exactly a float32

# A pattern of the longest of them that stands at a place.
ANY_PART = "|".join(map(re.escape, sorted(TAG_TOKENS, key=len, reverse=True)))
