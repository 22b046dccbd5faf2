"""A vocabulary of whole words: the one of CLLM. Words are what stands between blanks, A to Z in lower case.

Ids: 0 `<PAD>`, 1 `<UNK>`, 2 `<BOS>`, 3 `<EOS>`, 4 `<MASK>`, then words, commonest first or in the order in which the
text has them first. It is lossy: case and the kind of blanks are forgotten, words outside the vocabulary become
`<UNK>`, and decoding puts one space between words.
Source: justmebob123/crystalline, read in November 2025; its own "most frequent" is first come, first served.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine

from lmcore.tokenizer.base import Ids, Vocabulary, utf8
from lmcore.tokenizer.engines import frame_fault
from lmcore.tokenizer.interface import Encoding
from lmcore.tokenizer.params import Order
from lmcore.tokenizer.vocab_files import vocab_txt

SPECIALS = ("<PAD>", "<UNK>", "<BOS>", "<EOS>", "<MASK>")
_BLANKS = " \t\n\x0b\x0c\r"  # C's isspace, and what bytes.split() splits at
_WORD = re.compile(f"[^{_BLANKS}]+")


class Words(Vocabulary):
    """A vocabulary of words: see `lmcore.tokenizer.interface.Tokenizer` for its methods."""

    lossy = True

    def __init__(self, words: Sequence[bytes], counts: Sequence[int] | None = None) -> None:
        """`words` in the order of their ids from 5, `counts` of them for `vocab.txt`. ValueError for one that is none.

        A word's length counts the blank after it, which decoding gives back.
        """
        for word in words:
            if word.lower().split() != [word]:
                raise ValueError(f"{word!r} is not a word in lower case")
        self.tokens = [*(name.encode() for name in SPECIALS), *words]
        self._ids = {word: index for index, word in enumerate(self.tokens) if index >= len(SPECIALS)}
        if len(self._ids) != len(words):
            raise ValueError("a word is in it twice")
        lengths = np.array([len(token) + 1 for token in self.tokens], dtype=np.int32)
        super().__init__({name: i for i, name in enumerate(SPECIALS)}, lengths, bos="<BOS>", pad="<PAD>", unk="<UNK>")
        self.counts = counts

    @classmethod
    def train(
        cls, texts: Iterable[str], *, vocab_size: int, order: Order, min_frequency: int, max_token_length: int
    ) -> Self:
        """Take at most `vocab_size` - 5 words of at most `max_token_length` bytes that occur `min_frequency` times.

        Of equally common words those that sort first. With `first_seen` the order of the texts matters.
        """
        found: Counter[bytes] = Counter()
        for text in texts:
            found.update(text.encode().lower().split())
        good = [word for word, n in found.items() if n >= min_frequency and len(word) <= max_token_length]
        if order == "frequency":
            good.sort(key=lambda word: (-found[word], word))
        good = good[: vocab_size - len(SPECIALS)]
        return cls(good, [found[word] for word in good])

    @classmethod
    def from_file(cls, tokens: Sequence[bytes], counts: Sequence[int]) -> Self:
        """The vocabulary of a `vocab.txt`. Raises ValueError when it does not begin with the five specials."""
        first = [name.encode() for name in SPECIALS]
        if list(tokens[: len(first)]) != first:
            raise ValueError(f"it begins with {tokens[: len(first)]}, not with {', '.join(SPECIALS)}")
        return cls(tokens[len(first) :], counts[len(first) :])

    @classmethod
    def from_engine(cls, engine: Engine, counts: Sequence[int] | None = None) -> Self:
        """The vocabulary of an engine. Raises ValueError for the first thing that is not as here."""
        if fault := frame_fault(engine, [_engine([])], SPECIALS):
            raise ValueError(fault)
        names = sorted(engine.get_vocab().items(), key=lambda item: item[1])
        if [name for name, _ in names[: len(SPECIALS)]] != list(SPECIALS):
            raise ValueError("its specials do not have the ids 0 to 4")
        return cls([name.encode() for name, _ in names[len(SPECIALS) :]], counts)

    def files(self) -> dict[str, bytes]:
        """The files that hold the vocabulary, by name; `vocab.txt` when the counts are known."""
        made = {"tokenizer.json": _engine(self.tokens[len(SPECIALS) :]).to_str(pretty=True).encode()}
        if self.counts is not None:
            made["vocab.txt"] = vocab_txt(self.tokens, [0] * len(SPECIALS) + list(self.counts))
        return made

    def encode_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text. Raises UserError for a text that UTF-8 cannot express."""
        get, unk = self._ids.get, self.unk_id
        return [np.array([get(word, unk) for word in utf8(text).lower().split()], dtype=np.uint32) for text in texts]

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of each text. Raises UserError for a text that UTF-8 cannot express."""
        return [
            Encoding(ids, [found.span() for found in _WORD.finditer(text)])
            for text, ids in zip(texts, self.encode_ids(texts), strict=True)
        ]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer], skip_specials: bool = True) -> str:
        """The words of `ids` with a space between; unknown ones are left out. RunError for an id outside."""
        wanted = self._known(ids)
        return b" ".join(self.tokens[i] for i in wanted if i >= len(SPECIALS) or not skip_specials).decode()


def _engine(words: Sequence[bytes]) -> Engine:
    """The same vocabulary in the library's hands."""
    vocabulary = {token.decode(): i for i, token in enumerate([*(name.encode() for name in SPECIALS), *words])}
    engine = Engine(models.WordLevel(vocabulary, unk_token="<UNK>"))  # noqa: S106
    engine.normalizer = normalizers.Sequence([normalizers.Replace(c, c.lower()) for c in string.ascii_uppercase])
    engine.pre_tokenizer = pre_tokenizers.Split(Regex("[ \\t\\n\\x0b\\x0c\\r]+"), behavior="removed")
    engine.add_special_tokens(list(SPECIALS))
    return engine
