"""Byte-level byte-pair encoding: 256 bytes, the specials, and merges learnt from the text.

Nothing is unknown and nothing is changed on the way, so decoding gives back every text exactly. The text is first
split into words by the regex of GPT-2 or of Llama 3, letter for letter, because llama.cpp knows these two by name
and computes the same ids from an exported GGUF file; for the same reason there is no normaliser inside.

`tokenizers` learns the vocabulary, decodes, and defines the ids; tiktoken computes the same ids several times faster.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from typing import Self, get_args

import numpy as np
import tiktoken
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from lmcore.tokenizer.base import Ids
from lmcore.tokenizer.cutting import pieces
from lmcore.tokenizer.engines import EngineVocabulary, frame_fault
from lmcore.tokenizer.interface import SPECIALS
from lmcore.tokenizer.params import SMALLEST, Split

# openai's tiktoken_ext/openai_public.py (r50k_pat_str), also what `tokenizers` has built in as ByteLevel.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Meta's llama3/tokenizer.py (pat_str), also known to llama.cpp as the pre-tokenizer "llama-bpe".
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PATTERNS: dict[Split, str] = {"gpt2": GPT2, "llama3": LLAMA3}


class ByteBPE(EngineVocabulary):
    """A trained byte-level BPE vocabulary: see `lmcore.tokenizer.interface.Tokenizer` for its methods."""

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine whose vocabulary is whole. Raises ValueError naming the first thing that is not."""
        fault = _first_fault(engine)
        if fault:
            raise ValueError(fault)
        self._take(engine)
        lengths = np.zeros(engine.get_vocab_size(), dtype=np.int32)
        for token, index in engine.get_vocab().items():
            lengths[index] = len(token)  # the byte alphabet writes each byte as one character
        super().__init__({name: i for i, name in enumerate(SPECIALS)}, lengths, bos=SPECIALS[0], pad=SPECIALS[1])

    @classmethod
    def train(
        cls, texts: Iterable[str], *, vocab_size: int, split: Split, min_frequency: int, max_token_length: int
    ) -> Self:
        """Learn at most `vocab_size` tokens from a stream of texts.

        The vocabulary is smaller when no pair of tokens occurs `min_frequency` times any more. Equal texts in any
        order give equal vocabularies.
        """
        engine = _blank(split)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            max_token_length=max_token_length + 1,  # the engine's bound is not reached itself
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        engine.train_from_iterator((piece for text in texts for piece in pieces(text)), trainer)
        return cls(engine)

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, b"" for specials."""
        letters = byte_letters()
        names = sorted(self._engine.get_vocab().items(), key=lambda item: item[1])
        return [b""] * len(SPECIALS) + [bytes(letters[c] for c in name) for name, _ in names[len(SPECIALS) :]]

    def _encode(self, parts: Iterable[str]) -> list[Ids]:
        if self._fast is None:
            return super()._encode(parts)
        found: list[Ids] = []
        for part in parts:
            try:
                found.append(self._fast.encode_to_numpy(part, disallowed_special=()))
            except UnicodeEncodeError:  # which is a ValueError
                raise
            except ValueError:  # its regex gives up on a run of a million blanks, the engine's does not
                found += super()._encode([part])
        return found

    @cached_property
    def _fast(self) -> tiktoken.Encoding | None:
        """tiktoken with these ids for ranks; None when the two could differ.

        tiktoken joins the two neighbours that make the token of lowest id, the engine those of the earliest merge.
        That is one rule when every token has one merge and the merges are in the order of the ids.
        """
        made = json.loads(self._engine.to_str())
        vocabulary: dict[str, int] = made["model"]["vocab"]
        merged = [vocabulary["".join(pair)] for pair in made["model"]["merges"]]
        if merged != list(range(SMALLEST, self.vocab_size)):
            return None
        letters = byte_letters()
        ranks = {bytes(letters[c] for c in token): i for token, i in vocabulary.items() if i >= len(SPECIALS)}
        split: Split = "gpt2" if made["pre_tokenizer"]["type"] == "ByteLevel" else "llama3"
        return tiktoken.Encoding("byte_bpe", pat_str=PATTERNS[split], mergeable_ranks=ranks, special_tokens={})


def byte_letters() -> dict[str, int]:
    """GPT-2's byte alphabet, the character that `tokenizer.json` writes for each byte.

    Printable bytes of Latin-1 are themselves, the others follow U+0100 in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


def split_rule(split: Split) -> pre_tokenizers.PreTokenizer:
    """The rule that cuts a text into words."""
    return pre_tokenizers.Split(Regex(PATTERNS[split]), behavior="isolated")


def _blank(split: Split) -> Engine:
    """An engine with everything but a vocabulary."""
    engine = Engine(models.BPE())
    if split == "gpt2":
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        engine.pre_tokenizer = pre_tokenizers.Sequence([split_rule(split), letters])
    engine.decoder = decoders.ByteLevel()
    return engine


def _first_fault(engine: Engine) -> str | None:
    """Why encoding with this engine would not be exact, or None: an engine leaves out in silence what it lacks."""
    if fault := frame_fault(engine, [_blank(split) for split in get_args(Split)], SPECIALS):
        return fault
    vocabulary, alphabet = engine.get_vocab(), set(pre_tokenizers.ByteLevel.alphabet())
    if missing := alphabet - vocabulary.keys():
        return f"{len(missing)} of the 256 bytes are missing"
    if odd := sorted(token for token in vocabulary.keys() - set(SPECIALS) if not set(token) <= alphabet):
        return f"the token {odd[0]!r} is not spelt in bytes"
    return None
