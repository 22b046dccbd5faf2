"""The names of everything that rules and scores can look at: one list, with the meaning of each.

Whoever measures a text fills columns of these names. A name stands here before the code that measures it: a column
that a recipe does not compute is absent, or NaN where it makes no sense for a text, and both mean "nothing known". No
rule drops a text for what is not known.
"""

from __future__ import annotations

from lmcore.curate.signals import SIGNALS as _OF_TEXT

LANGUAGE: dict[str, str] = {
    "lang_score": "how sure language identification is of the text's own language, 0 to 1",
    "expected_share": "share of the text in the languages the recipe expects; NaN where it expects none",
}

SAFETY: dict[str, str] = {
    "n_emails": "e-mail addresses found",
    "n_phones": "telephone numbers found",
    "n_ips": "public IP addresses found",
    "n_ibans": "bank account numbers (IBAN) with a valid checksum found",
    "n_cards": "payment card numbers with a valid checksum found",
    "n_secrets": "keys, tokens and passwords found",
    "toxic_word_share": "share of words on the toxic list of the text's language; NaN where there is no list",
}

SHAPE: dict[str, str] = {
    "n_turns": "turns of a chat; NaN for a text without turns",
}

BESIDE: dict[str, str] = {
    "boilerplate_share": "share of characters in lines that stand in many texts",
    "template_share": "share of words in runs of six, digits apart, that stand in ten other texts",
    "reference_bits": "bits a UTF-8 byte that a small model of the reference texts needs; lower is more like them",
    "classifier_quality": "how good a classifier learnt from labelled texts takes it for, 0 to 100",
}
"""What depends on other texts; absent where it was not computed."""

AMHARIC: dict[str, str] = {
    "amharic_chars": "code points U+1200 to U+137F",
    "amharic_spaces": "plain spaces (U+0020)",
    "amharic_newlines": "newlines",
    "amharic_stops": "full stops U+1362",
    "amharic_words": "runs of characters that are not white space",
    "amharic_unique_words": "different ones among them, case minded",
    "amharic_stripped_chars": "characters without the white space at both ends",
    "amharic_distinct_chars": "different characters among those",
    "amharic_ends": "full stops U+1362, exclamation and question marks",
    "amharic_complex": "how many of the three complex patterns of the original curriculum occur",
    "amharic_simple": "how many of the two simple patterns of the original curriculum fit",
}
"""Counts that the original Amharic formulas need, see `lmcore.curate.signals_ethiopic`."""

SIGNALS: dict[str, str] = {**_OF_TEXT, **SHAPE, **LANGUAGE, **SAFETY, **BESIDE, **AMHARIC}
"""Name and meaning of every signal that a rule or a score may name."""

SCORES: tuple[str, ...] = ("quality", "complexity")
"""Figures made of signals, which a rule may name too."""
