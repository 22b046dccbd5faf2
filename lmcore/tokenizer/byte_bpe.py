"""Byte-level byte-pair encoding: 256 bytes, the specials, and merges learnt from the text.

Nothing is unknown and nothing is changed on the way, so decoding gives back every text exactly. The text is first
split into words by the regex of GPT-2 or of Llama 3, letter for letter, because llama.cpp knows these two by name
and computes the same ids from an exported GGUF file; for the same reason there is no normaliser inside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from lmcore.tokenizer.cutting import groups, pieces
from lmcore.tokenizer.interface import SPECIALS, Encoding
from storage.errors import RunError, UserError

# One thread a call: the stages bring their own threads (twice as fast on two cores where the engine's own gain 1.6
# times), and a process forked later would otherwise be warned about. Who exports `true` gets the engine's threads.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Split = Literal["gpt2", "llama3"]
SMALLEST = len(SPECIALS) + 256  # a vocabulary without a single merge
CALL = 500_000  # characters in one call of the engine, some 60 MB of its memory

# Meta's llama3/tokenizer.py (pat_str), also known to llama.cpp as the pre-tokenizer "llama-bpe".
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


class ByteBPE:
    """A trained byte-level BPE vocabulary: see `lmcore.tokenizer.interface.Tokenizer` for its methods."""

    lossy = False

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine whose vocabulary is whole. Raises ValueError naming the first thing that is not."""
        fault = _first_fault(engine)
        if fault:
            raise ValueError(fault)
        engine.encode_special_tokens = True  # a property of the running engine, not of its file
        self._engine = engine
        self.vocab_size: int = engine.get_vocab_size()
        self.specials = {name: index for index, name in enumerate(SPECIALS)}
        self.bos_id = self.specials["<|endoftext|>"]
        self.pad_id = self.specials["<|pad|>"]
        lengths = np.zeros(self.vocab_size, dtype=np.int32)
        for token, index in engine.get_vocab().items():
            lengths[index] = len(token)  # the byte alphabet writes each byte as one character
        lengths[list(self.specials.values())] = 0
        self._lengths = lengths

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

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a `tokenizer.json`. Raises RunError naming the file when it is missing, damaged or of another kind."""
        mend = "run `collect-train verify`, or point to a folder that this program made"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read the tokenizer {path}: {error}", mend) from error
        try:
            engine = Engine.from_str(text)
        except Exception as error:  # the library raises bare Exception for whatever is wrong with the text
            raise RunError(f"the tokenizer {path} is damaged: {error}", mend) from error
        try:
            return cls(engine)
        except ValueError as error:
            raise RunError(f"the tokenizer {path} is not a whole byte-level BPE vocabulary: {error}", mend) from error

    def to_json(self) -> str:
        """The contents of `tokenizer.json`, readable by `tokenizers` and transformers; equal for equal vocabularies."""
        return self._engine.to_str(pretty=True)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of each text. Raises UserError for a text that UTF-8 cannot express."""
        return [
            Encoding(ids, _offsets(text, self._lengths[ids]))
            for text, ids in zip(texts, self.encode_ids(texts), strict=True)
        ]

    def encode_ids(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Ids of each text. Raises UserError for a text that UTF-8 cannot express."""
        cut = [pieces(text) for text in texts]
        found: list[npt.NDArray[np.uint32]] = []
        try:
            for group in groups((piece for some in cut for piece in some), CALL):
                found += [np.array(part.ids, dtype=np.uint32) for part in self._engine.encode_batch_fast(group)]
        except TypeError:
            raise _not_unicode(texts) from None
        ends = list(accumulate(map(len, cut), initial=0))
        return [np.concatenate(found[start:stop]) for start, stop in pairwise(ends)]

    def encode(self, text: str) -> list[int]:
        """Ids of one text. Raises UserError when UTF-8 cannot express it."""
        ids: list[int] = self.encode_ids([text])[0].tolist()
        return ids

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer], skip_specials: bool = True) -> str:
        """The text of `ids`; incomplete UTF-8 becomes U+FFFD. Raises RunError for an id outside the vocabulary."""
        wanted = [int(index) for index in ids]
        if wanted and not 0 <= min(wanted) <= max(wanted) < self.vocab_size:
            wrong = next(index for index in wanted if not 0 <= index < self.vocab_size)
            raise RunError(
                f"token id {wrong} is outside the tokenizer's {self.vocab_size} tokens",
                "use the tokenizer that the model was trained with",
            )
        return self._engine.decode(wanted, skip_special_tokens=skip_specials)

    def byte_length(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """UTF-8 bytes of each token, same shape as `ids`; 0 for specials."""
        lengths: npt.NDArray[np.int32] = self._lengths[ids]
        return lengths


def _offsets(text: str, lengths: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """The characters of a text that its tokens, of `lengths` bytes, stand for."""
    octets = np.frombuffer(text.encode(), dtype=np.uint8)
    character = np.cumsum((octets & 0xC0) != 0x80) - 1  # of each byte: all but a character's first are 0b10......
    stops = np.cumsum(lengths)
    first, last = character[stops - lengths], character[stops - 1]
    return list(zip(first.tolist(), (last + 1).tolist(), strict=True))


def _not_unicode(texts: Sequence[str]) -> Exception:
    """The error for the first text with a lone surrogate: half of a UTF-16 pair, which is no character."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return UserError(
                f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, "
                "which UTF-8 cannot express",
                "decode the bytes it came from with errors='replace', or take the character out",
            )
    return TypeError("texts must be a sequence of str")


def _blank(split: Split) -> Engine:
    """An engine with everything but a vocabulary."""
    engine = Engine(models.BPE())
    if split == "gpt2":
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        words = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        engine.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    engine.decoder = decoders.ByteLevel()
    return engine


def _first_fault(engine: Engine) -> str | None:
    """Why encoding with this engine would not be exact, or None: an engine leaves out in silence what it lacks."""
    ours = [_blank(split) for split in get_args(Split)]
    for blank in ours:
        blank.add_special_tokens(list(SPECIALS))
    found, expected = _frame(engine), [_frame(blank) for blank in ours]
    if found not in expected:
        part = next(name for name in found if all(found[name] != frame.get(name) for frame in expected))
        return f"its {part!r} is not as this program writes it"
    vocabulary, alphabet = engine.get_vocab(), set(pre_tokenizers.ByteLevel.alphabet())
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return "its ids have gaps"
    if missing := alphabet - vocabulary.keys():
        return f"{len(missing)} of the 256 bytes are missing"
    if odd := sorted(token for token in vocabulary.keys() - set(SPECIALS) if not set(token) <= alphabet):
        return f"the token {odd[0]!r} is not spelt in bytes"
    return None


def _frame(engine: Engine) -> dict[str, Any]:
    """What `tokenizer.json` says apart from the vocabulary and its merges."""
    frame: dict[str, Any] = json.loads(engine.to_str())
    frame["model"] = {name: value for name, value in frame["model"].items() if name not in ("vocab", "merges")}
    return frame
