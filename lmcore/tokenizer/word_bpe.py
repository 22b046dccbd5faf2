"""Byte-pair encoding inside words, of characters: the vocabulary of MU (50,000 tokens), with a decoder.

Words are runs of letters and digits or runs of other signs (`\\w+|[^\\w\\s]+`); a token that ends a word is marked with
`</w>`, so that decoding knows where the spaces go. It is lossy: blanks are forgotten (also whether one stood before a
comma), and a character that the training text did not have becomes `<UNK>`.
Source: PlanetDestroyyer/MU (its tokenizer has no mark and no decoder, so its decoding puts spaces inside words).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, trainers

from lmcore.tokenizer.cutting import groups, pieces
from lmcore.tokenizer.engines import EngineVocabulary, frame_fault
from lmcore.tokenizer.interface import Encoding

SPECIALS = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")
END = "</w>"
_CALL = 1_000_000  # characters counted at once while learning


class WordBPE(EngineVocabulary):
    """A vocabulary of parts of words: see `lmcore.tokenizer.interface.Tokenizer` for its methods."""

    lossy = True

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine. Raises ValueError for the first thing that is not as here.

        The length of a token that ends a word counts the space after it, which decoding gives back.
        """
        if fault := frame_fault(engine, [_blank()], SPECIALS):
            raise ValueError(fault)
        self._take(engine)
        vocabulary = engine.get_vocab()
        if wrong := [name for index, name in enumerate(SPECIALS) if vocabulary.get(name) != index]:
            raise ValueError(f"{wrong[0]} does not have the id {SPECIALS.index(wrong[0])}")
        lengths = np.zeros(len(vocabulary), dtype=np.int32)
        for name, index in vocabulary.items():
            lengths[index] = len(name.replace(END, " ").encode())
        super().__init__({name: i for i, name in enumerate(SPECIALS)}, lengths, bos="<BOS>", pad="<PAD>", unk="<UNK>")

    @classmethod
    def train(
        cls, texts: Callable[[], Iterable[str]], *, vocab_size: int, min_frequency: int, max_token_length: int
    ) -> Self:
        """Learn at most `vocab_size` tokens of at most `max_token_length` characters, the mark of the end counted.

        `texts()` is read twice. Every character of the texts is two tokens, at the end of a word and before it, so
        the vocabulary is larger when they have more characters than that. Texts in any order give equal vocabularies.
        """
        letters: set[str] = set()
        for group in groups(texts(), _CALL):
            letters.update(*group)
        engine = _blank()
        found = engine.pre_tokenizer.pre_tokenize_str("".join(sorted(letters)))  # without the blanks
        inside = sorted("".join(word for word, _ in found))
        names = [*SPECIALS, *inside, *(letter + END for letter in inside)]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            max_token_length=max_token_length + 1,  # the engine's bound is not reached itself
            special_tokens=names,  # in this order: the engine would add letters that end words in any
            initial_alphabet=[],
            limit_alphabet=0,
            end_of_word_suffix=END,
            show_progress=False,
        )
        engine.train_from_iterator((piece for text in texts() for piece in pieces(text)), trainer)
        learnt = json.loads(engine.to_str())["model"]
        return cls(_blank(learnt["vocab"], [(left, right) for left, right in learnt["merges"]]))

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of each text. Raises UserError for a text that UTF-8 cannot express."""
        found: list[Encoding] = []
        for text, ids in zip(texts, self.encode_ids(texts), strict=True):
            offsets: list[tuple[int, int]] = []
            start = 0
            for piece in self._pieces(text):
                offsets += [(start + a, start + b) for a, b in self._engine.encode(piece).offsets]
                start += len(piece)
            found.append(Encoding(ids, offsets))
        return found


def _blank(vocabulary: dict[str, int] | None = None, merges: Sequence[tuple[str, str]] = ()) -> Engine:
    """An engine with this vocabulary."""
    model = models.BPE(vocab=vocabulary or {}, merges=list(merges), unk_token="<UNK>", end_of_word_suffix=END)  # noqa: S106
    engine = Engine(model)
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.decoder = decoders.BPEDecoder(suffix=END)
    if vocabulary:
        engine.add_special_tokens(list(SPECIALS))
    return engine
