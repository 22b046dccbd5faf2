"""The names of everything that rules and scores can look at: one list, with the meaning of each.

Whoever measures a text fills columns of these names. A name stands here before the code that measures it: a column
that a recipe does not compute is absent, or NaN where it makes no sense for a text, and both mean "nothing known". No
rule drops a text for what is not known.
"""

from __future__ import annotations

from lmcore.curate.signals import SIGNALS as _OF_TEXT

# Names of lmcore/curate/signals.py. Where both have one, the meaning given there is the one that holds.
_TEXT: dict[str, str] = {
    "n_sentences": "sentences",
    "n_paragraphs": "blocks of lines between blank lines",
    "median_word_length": "median of the characters a word (Dolma: 3 to 10)",
    "max_word_length": "characters of the longest word (C4: at most 1,000)",
    "hash_word_ratio": "number signs / words (Gopher: at most 0.1)",
    "ellipsis_word_ratio": "ellipses / words (Gopher: at most 0.1)",
    "bullet_line_share": "share of lines that begin with a bullet (Gopher: at most 0.9)",
    "ellipsis_line_share": "share of lines that end with an ellipsis (Gopher: at most 0.3)",
    "stop_words": "different stop words of the text's language that occur; NaN where there is no list (Gopher: >= 2)",
    "stop_word_share": "share of words that are stop words of the text's language; NaN where there is no list",
    "duplicate_line_count_share": "share of lines that stood before in the text (Gopher: at most 0.3)",
    "duplicate_paragraph_count_share": "share of paragraphs that stood before in the text (Gopher: at most 0.3)",
    "duplicate_paragraph_share": "share of paragraph characters in paragraphs that stood before (Gopher: at most 0.2)",
    "top_3_gram_share": "share of word characters in the most frequent repeated run of 3 words (Gopher: at most 0.18)",
    "top_4_gram_share": "share of word characters in the most frequent repeated run of 4 words (Gopher: at most 0.16)",
    "duplicate_6_gram_share": "share of word characters in runs of 6 words that stood before (Gopher: at most 0.14)",
    "duplicate_7_gram_share": "share of word characters in runs of 7 words that stood before (Gopher: at most 0.13)",
    "duplicate_8_gram_share": "share of word characters in runs of 8 words that stood before (Gopher: at most 0.12)",
    "duplicate_9_gram_share": "share of word characters in runs of 9 words that stood before (Gopher: at most 0.11)",
    "duplicate_10_gram_share": "share of word characters in runs of 10 words that stood before (Gopher: at most 0.10)",
    "newline_word_ratio": "line ends / words (FineWeb: at most 0.3)",
    "long_line_count": "lines of at least 200 characters (mC4: at least 3)",
    "curly_bracket_share": "share of characters that are { or } (C4: none)",
    "lorem_ipsum": "1 where 'lorem ipsum' occurs (C4)",
    "policy_line_share": "share of lines that speak of JavaScript, cookies or terms of use (C4)",
    "upper_word_share": "share of words in capital letters (RedPajama)",
    "upper_letter_share": "share of letters that are capital",
    "unigram_entropy": "entropy of the word frequencies (RedPajama)",
    "url_share": "share of characters in addresses (NeMo Curator: at most 0.2)",
    "whitespace_share": "share of characters that are white space (NeMo Curator: at most 0.25)",
    "parenthesis_share": "share of characters that are brackets (NeMo Curator: at most 0.1)",
    "latin_share": "share of letters of Latin script",
    "ethiopic_share": "share of letters of Ethiopic script",
    "cjk_share": "share of letters of Chinese or Japanese script",
    "cyrillic_share": "share of letters of Cyrillic script",
    "other_script_share": "share of letters of other scripts",
    "speaker_line_share": "share of lines that begin with a speaker's name",
    "timestamp_line_share": "share of lines that are time stamps",
    "question_share": "share of sentences that end with a question mark",
    "code_line_share": "share of lines that look like program code",
    "instruction_share": "share of lines that begin with a label such as Question: or Answer:",
}

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
    "boilerplate_share": "share of line characters in lines that many other pages repeat",
    "template_share": "share of the text that fits a template found in many texts",
    "reference_bits": "bits a unit of text costs an n-gram model of the reference slice; lower is more like the slice",
    "classifier_quality": "probability, by the classifier learnt from the labelled slice, that the text is good",
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

SIGNALS: dict[str, str] = {**_TEXT, **_OF_TEXT, **SHAPE, **LANGUAGE, **SAFETY, **BESIDE, **AMHARIC}
"""Name and meaning of every signal that a rule or a score may name."""

SCORES: tuple[str, ...] = ("quality", "complexity")
"""Figures made of signals, which a rule may name too."""
