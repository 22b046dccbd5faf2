"""Byte-level BPE that others made (GPT-2, Llama 3, SmolLM): the vocabulary of an imported model.

It has the ids that the model was trained with, so nothing in it is changed but one thing: its `post_processor` names
the token that stands before every document here, as `<bos> $A`. That also tells such a file from our own kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Engine
from tokenizers import pre_tokenizers
from tokenizers.processors import TemplateProcessing

from lmcore.tokenizer.base import Ids
from lmcore.tokenizer.cutting import groups
from lmcore.tokenizer.engines import CALL, EngineVocabulary


class ImportedBPE(EngineVocabulary):
    """A foreign byte-level BPE vocabulary: see `lmcore.tokenizer.interface.Tokenizer` for its methods.

    There is no special for padding in all of them: the one before documents fills rows, which nobody looks at.
    """

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine that encodes every text exactly. Raises ValueError naming the first reason why it does not."""
        made = json.loads(engine.to_str())
        if fault := _first_fault(made, engine.get_vocab()):
            raise ValueError(fault)
        self._take(engine)
        added = {token["content"]: token["id"] for token in made["added_tokens"]}
        specials = {token["content"]: token["id"] for token in made["added_tokens"] if token["special"]}
        lengths = np.zeros(engine.get_vocab_size(), dtype=np.int32)
        for token, index in engine.get_vocab().items():
            lengths[index] = len(token.encode()) if token in added else len(token)  # a byte is one character there
        bos = made["post_processor"]["single"][0]["SpecialToken"]["id"]
        super().__init__(specials, lengths, bos=bos, pad=bos)

    def _encode(self, parts: Iterable[str]) -> list[Ids]:
        found: list[Ids] = []
        for group in groups(parts, CALL):
            encoded = self._engine.encode_batch_fast(group, add_special_tokens=False)
            found += [np.array(part.ids, dtype=np.uint32) for part in encoded]
        return found


def is_imported(made: dict[str, Any]) -> bool:
    """Whether the contents of a `tokenizer.json` are of this kind."""
    return (made.get("post_processor") or {}).get("type") == "TemplateProcessing"


def adopt(engine: Engine, bos: str) -> ImportedBPE:
    """A foreign engine, with `bos` before every document. Raises ValueError as `ImportedBPE` does."""
    index = engine.token_to_id(bos)
    if index is None:
        raise ValueError(f"it has no token {bos!r}")
    engine.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, index)])
    engine.no_padding()
    engine.no_truncation()
    return ImportedBPE(engine)


def _first_fault(made: dict[str, Any], vocabulary: dict[str, int]) -> str | None:
    """Why texts would not be encoded exactly, or None."""
    model, rule = made["model"], made.get("pre_tokenizer") or {}
    last = rule["pretokenizers"][-1] if rule.get("type") == "Sequence" else rule
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
    if model.get("dropout"):
        return "its dropout makes the ids random"
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return "its ids have gaps"
    if missing := set(pre_tokenizers.ByteLevel.alphabet()) - vocabulary.keys():
        return f"{len(missing)} of the 256 bytes are missing"
    bos = made["post_processor"]["single"][0].get("SpecialToken", {}).get("id")
    if bos not in {token["content"] for token in made["added_tokens"] if token["special"]}:
        return f"{bos!r}, which stands before every document, is not one of its special tokens"
    return None
