"""Byte-level BPE that others made (GPT-2, Llama 3, SmolLM, Qwen): the vocabulary of an imported model.

It has the ids that the model was trained with, so nothing in it is changed but two things. Its `post_processor` names
the token that stands before every document here, as `<bos> $A`; that also tells such a file from our own kinds. And a
normalizer NFC is left out, so that every text is encoded as it is: the ids of texts in NFC are the same without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer as Engine
from tokenizers import pre_tokenizers
from tokenizers.processors import TemplateProcessing

from lmcore.tokenizer.base import Ids
from lmcore.tokenizer.byte_bpe import LLAMA3, byte_letters
from lmcore.tokenizer.cutting import groups, pieces
from lmcore.tokenizer.engines import CALL, EngineVocabulary

QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")  # Qwen2's and Qwen3's rule: the digits one by one
# Scripts, blanks, line ends, digits, signs, what is not in NFC, what no vocabulary is likely to have as a token, and
# every character of one byte or of a Latin-1 byte.
PROBE = (
    "The river's bird, they'LL  sing   3 1415 times.\r\n\r\n\tif x==1:\n        return {'a': [0.5e-3]}  # ok\n \n\n"
    "Kérem, jöjjön be! Straße naïve e\u0301 A\u030a ﬁ Ⅳ ½ ² ΑΒΓ кириллица עברית العربية हिन्दी ไทย አማርኛ 中文字符 日本語 "
    "한국어 \u1112\u1161\u11ab \u00a0\u2003\u3000\u200b\u200d\ufeff\u2028\x85 🦆🇭🇺 👩\u200d👧 𝔘𐍈\U0010ffff\ufffd"
    + "".join(map(chr, range(256)))
    + "   "
)


class Adopted(NamedTuple):
    """A foreign vocabulary, and what was left out of it, in words."""

    tokenizer: ImportedBPE
    notes: tuple[str, ...]


class ImportedBPE(EngineVocabulary):
    """A foreign byte-level BPE vocabulary: see `lmcore.tokenizer.interface.Tokenizer` for its methods.

    There is no special for padding in all of them: the one before documents fills rows, which nobody looks at.
    """

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine that encodes every text exactly. Raises ValueError naming the first reason why it does not."""
        made = json.loads(engine.to_str())
        vocabulary: dict[str, int] = engine.get_vocab()
        if fault := _first_fault(made, vocabulary):
            raise ValueError(fault)
        self._take(engine)
        added = {token["content"] for token in made["added_tokens"]}
        specials = {token["content"]: token["id"] for token in made["added_tokens"] if token["special"]}
        letters = byte_letters()
        self._spelt = [b""] * len(vocabulary)
        for token, index in vocabulary.items():
            if token not in specials:
                self._spelt[index] = token.encode() if token in added else bytes(letters[c] for c in token)
        # Texts are cut at blanks: a token without one is never cut through, and words beside it end as they did.
        self._cuts = _is_known(_rule(made)) and all(name.split() == [name] for name in added - specials.keys())
        bos = _before_documents(made)
        lengths = np.array([len(octets) for octets in self._spelt], dtype=np.int32)
        super().__init__(specials, lengths, bos=bos, pad=bos)
        merged = [bytes(letters[c] for c in name) for name in specials if set(name) <= letters.keys()]
        like_specials = [octets.decode(errors="replace") for octets in merged]  # what their names are among the merges
        if fault := self._probed([PROBE, *(f"{n}a {n} b{n}\n" for n in sorted(added)), *sorted(added), *like_specials]):
            raise ValueError(fault)

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, b"" for specials."""
        return list(self._spelt)

    def _pieces(self, text: str) -> list[str]:
        return pieces(text) if self._cuts else [text]

    def _encode(self, parts: Iterable[str]) -> list[Ids]:
        found: list[Ids] = []
        for group in groups(parts, CALL):
            encoded = self._engine.encode_batch_fast(group, add_special_tokens=False)
            found += [np.array(part.ids, dtype=np.uint32) for part in encoded]
        return found

    def _probed(self, texts: list[str]) -> str | None:
        for text, ids in zip(texts, self.encode_ids(texts), strict=True):
            back = self.decode(ids)
            if back != text:
                at = next((n for n, (a, b) in enumerate(zip(back, text, strict=False)) if a != b), len(back))
                return f"{text[at : at + 10]!r} is encoded and decoded to {back[at : at + 10]!r}"
            if int(self._lengths[ids].sum()) != len(text.encode()):
                return f"the tokens of {text[:10]!r} do not have its bytes"
        return None


def is_imported(made: dict[str, Any]) -> bool:
    """Whether the contents of a `tokenizer.json` are of this kind."""
    return (made.get("post_processor") or {}).get("type") == "TemplateProcessing"


def adopt(engine: Engine, bos: str) -> Adopted:
    """A foreign engine, with `bos` before every document. Raises ValueError as `ImportedBPE` does."""
    index = engine.token_to_id(bos)
    if index is None:
        raise ValueError(f"it has no token {bos!r}")
    notes: tuple[str, ...] = ()
    normalizer = json.loads(engine.normalizer.__getstate__()) if engine.normalizer else None
    if normalizer and all(part["type"] == "NFC" for part in _flat(normalizer, "normalizers")):
        engine.normalizer = None
        notes = ("the tokenizer's NFC is left out: texts are encoded as they are, those in NFC with the same ids",)
    engine.post_processor = TemplateProcessing(single=[bos, "$A"], special_tokens=[(bos, index)])
    engine.no_padding()
    engine.no_truncation()
    return Adopted(ImportedBPE(engine), notes)


def _first_fault(made: dict[str, Any], vocabulary: dict[str, int]) -> str | None:
    """Why texts would not be encoded exactly, or None."""
    model, rule = made["model"], _rule(made)
    last = rule[-1] if rule else {}
    if (
        model["type"] != "BPE"
        or last.get("type") != "ByteLevel"
        or (made.get("decoder") or {}).get("type") != "ByteLevel"
    ):
        return f"it is no byte-level BPE (model {model['type']}, pre_tokenizer {last.get('type')})"
    if made.get("normalizer"):
        return f"its normalizer {made['normalizer']['type']} changes texts"
    if last.get("add_prefix_space"):
        return "its add_prefix_space puts a space before every text"
    for part in rule[:-1]:
        if part["type"] not in ("Split", "Digits", "Punctuation", "UnicodeScripts"):
            return f"its pre_tokenizer {part['type']} may change texts"
        if part.get("behavior") == "Removed":
            return f"its pre_tokenizer {part['type']} with behavior Removed takes characters away"
    if model.get("dropout"):
        return "its dropout makes the ids random"
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"its {name} {model[name]!r} is no part of the text"
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return "its ids have gaps"
    alphabet, added = set(pre_tokenizers.ByteLevel.alphabet()), {token["content"] for token in made["added_tokens"]}
    if missing := alphabet - vocabulary.keys():
        return f"{len(missing)} of the 256 bytes are missing"
    if odd := sorted(token for token in vocabulary.keys() - added if not set(token) <= alphabet):
        return f"its token {odd[0]!r} is not spelt in bytes"
    for token in made["added_tokens"]:
        # Specials are placed by this program and never looked for in a text.
        if eats := [side for side in ("lstrip", "rstrip") if token[side] and not token["special"]]:
            return f"its added token {token['content']!r} has {eats[0]}, which takes blanks away"
    bos = _before_documents(made)
    if bos not in {token["content"] for token in made["added_tokens"] if token["special"]}:
        return f"{bos!r}, which stands before every document, is not one of its special tokens"
    return None


def _before_documents(made: dict[str, Any]) -> str:
    single = (made.get("post_processor") or {}).get("single") or [{}]
    return str(single[0].get("SpecialToken", {}).get("id"))


def _rule(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that cut a text into words, in order."""
    return _flat(made.get("pre_tokenizer") or {"type": "Sequence", "pretokenizers": []}, "pretokenizers")


def _flat(part: dict[str, Any], inner: str) -> list[dict[str, Any]]:
    return [leaf for each in part[inner] for leaf in _flat(each, inner)] if part["type"] == "Sequence" else [part]


def _is_known(rule: list[dict[str, Any]]) -> bool:
    """Whether `cutting` may cut before a word: GPT-2's rule, also after Digits, and that of Llama 3 and of Qwen.

    Digits stand alone in any case, and between them GPT-2's rule is by itself; Qwen's differs in how it groups digits.
    """
    match rule:
        case [{"type": "ByteLevel", "use_regex": True}] | [
            {"type": "Digits"},
            {"type": "ByteLevel", "use_regex": True},
        ]:
            return True
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ]:
            return pattern in (LLAMA3, QWEN)
    return False
