"""Character-level byte-pair encoding with bytes to fall back on: the vocabulary of LAi, with its faults mended.

Ids: 0 `<pad>`, 1 `<bos>`, 2 `<eos>`, 3 `<unk>`, 4 to 259 the bytes (an ASCII character is its byte), then the
characters that occur often enough, commonest first, then merges in the order they were learnt. Merges cross spaces
but never lines; a character that is not in the vocabulary becomes its bytes, so nothing is unknown or lost.

LAi's encoder joins, again and again, the two neighbours whose joined text is the token of highest score, the first
of equals. Scores here all differ (see `_scores`), so `tokenizer.json` and LAi's program give the same ids. With
`chat_tags` the tags of a conversation are tokens, between the bytes and the characters (see `chat_tags.py`).
Source: ML6200/LAi, training/build_vocab.py and src/tokenizer/bpe.h.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, get_args

import numpy as np
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, trainers

from lmcore.tokenizer.byte_bpe import split_rule
from lmcore.tokenizer.chat_tags import ANY_PART, TAG_SCORE, TAG_TOKENS, TAGS
from lmcore.tokenizer.cutting import LINE, groups, pieces
from lmcore.tokenizer.engines import EngineVocabulary, frame_fault
from lmcore.tokenizer.params import Split
from lmcore.tokenizer.vocab_files import vocab_bin

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
BYTE_0 = len(SPECIALS)
BASE = [*SPECIALS, *map(chr, range(128)), *(f"<0x{byte:02X}>" for byte in range(128, 256))]  # names of ids 0 to 259
BYTE_SCORE = -100.0

# What a decoder takes for a byte, and the specials: no token may be learnt that is called so.
_RESERVED = re.compile(r"<(?=0x..>|pad>|bos>|eos>|unk>)")
_CALL = 1_000_000  # characters counted or encoded at once while learning


class CharBPE(EngineVocabulary):
    """A character-level BPE vocabulary: see `lmcore.tokenizer.interface.Tokenizer` for its methods."""

    def __init__(self, engine: Engine, scores: Sequence[float] | None = None) -> None:
        """Wrap an engine; `scores` of its ids for `vocab.bin`, else the order alone. ValueError if it is not whole."""
        if fault := _first_fault(engine):
            raise ValueError(fault)
        self._take(engine)
        names = engine.get_vocab()
        self.tokens = [b""] * len(names)
        for name, index in names.items():
            self.tokens[index] = _octets(name) if index >= BYTE_0 else name.encode()
        lengths = np.array([len(token) for token in self.tokens], dtype=np.int32)
        super().__init__({name: i for i, name in enumerate(SPECIALS)}, lengths, bos="<bos>", pad="<pad>", unk="<unk>")
        if names.get(TAGS[0]) == len(BASE):
            self.tags = {name: names[name] for name in TAGS}
        self.crosses_words = engine.pre_tokenizer is None  # tokens may hold spaces; else words are cut first
        self.scores = list(scores) if scores is not None else self._ranks()

    @classmethod
    def train(
        cls,
        texts: Callable[[], Iterable[str]],
        *,
        vocab_size: int,
        split: Split | None,
        min_frequency: int,
        max_token_length: int,
        chat_tags: bool = False,
    ) -> Self:
        """Learn at most `vocab_size` tokens from `texts()`, read three times.

        `split` None: merges cross words, as in LAi; else words are cut first. `max_token_length` is in characters.
        `chat_tags`: the tags of a conversation are tokens; only where merges cross words.
        The vocabulary is smaller when no pair occurs `min_frequency` times any more; texts in any order give equal
        vocabularies.
        """
        counts: Counter[str] = Counter()
        for group in groups(texts(), _CALL):
            counts.update("".join(group))
        often = [c for c, n in counts.items() if ord(c) > 127 and n >= min_frequency]
        tags = list(TAG_TOKENS) if chat_tags else []
        often = sorted(often, key=lambda c: (-counts[c], c))[: max(0, vocab_size - len(BASE) - len(tags))]
        names = BASE + tags + often
        engine = _blank(split, {}, [])
        trainer = trainers.BpeTrainer(
            vocab_size=max(vocab_size, len(names)),
            min_frequency=min_frequency,
            max_token_length=max_token_length + 1,  # the engine's bound is not reached itself
            special_tokens=names,  # in this order; the alphabet is exactly these
            initial_alphabet=[],
            limit_alphabet=0,
            show_progress=False,
        )
        known = set(names)
        engine.train_from_iterator(_lines(texts(), known, chat_tags), trainer)
        learnt = json.loads(engine.to_str())["model"]
        pairs = [(left, right) for left, right in learnt["merges"]]
        vocabulary: dict[str, int] = learnt["vocab"]
        applied = _applied(_blank(split, vocabulary, pairs), vocabulary, pairs, _lines(texts(), known, chat_tags))
        scores = [0.0] * BYTE_0 + [BYTE_SCORE] * 256 + [TAG_SCORE] * len(tags)
        scores += _scores([counts[c] for c in often], applied)
        return cls(_blank(split, vocabulary, _all_splits(vocabulary)), scores)

    @classmethod
    def from_file(cls, tokens: Sequence[bytes], scores: Sequence[float]) -> Self:
        """The vocabulary of a `vocab.bin`. Raises ValueError when its ids or texts are not as LAi's sheet has them."""
        names = [*SPECIALS, *(bytes([byte]) for byte in range(256))]
        for index, name in enumerate(names):
            expected = name.encode() if isinstance(name, str) else name
            found = tokens[index] if index < len(tokens) else None
            if found != expected:
                older = index >= BYTE_0 and chr(index - BYTE_0).encode() == found
                raise ValueError(
                    f"token {index} is {found!r}, expected {expected!r}"
                    + (", as LAi's first program wrote it: its bytes are not bytes" if older else "")
                )
        try:
            learnt = [token.decode() for token in tokens[len(BASE) :]]
        except UnicodeDecodeError as error:
            raise ValueError(f"the token {error.object!r} is not UTF-8") from None
        ranked = sorted(range(len(learnt)), key=lambda i: (-scores[len(BASE) + i], i))
        vocabulary = {name: i for i, name in enumerate(BASE + learnt)}
        if len(vocabulary) != len(tokens):
            raise ValueError("a token is in it twice")
        return cls(_blank(None, vocabulary, _all_splits(vocabulary, [learnt[i] for i in ranked])), scores)

    def files(self) -> dict[str, bytes]:
        """The files that hold the vocabulary, by name."""
        return super().files() | {"vocab.bin": vocab_bin(self.tokens, self.scores)}

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, b"" for specials."""
        return [b""] * BYTE_0 + self.tokens[BYTE_0:]

    def _pieces(self, text: str) -> list[str]:
        return pieces(text, LINE) if self.crosses_words else pieces(text)

    def _ranks(self) -> list[float]:
        """Scores that say no more than the order of the merges."""
        made: dict[str, Any] = json.loads(self._engine.to_str())["model"]
        scores = [0.0] * BYTE_0 + [BYTE_SCORE] * 256 + [0.0] * (self.vocab_size - len(BASE))
        for rank, pair in enumerate(made["merges"]):
            index = made["vocab"]["".join(pair)]
            scores[index] = min(scores[index], -float(rank) - 1)
        return scores


def _lines(texts: Iterable[str], known: set[str], chat_tags: bool) -> Iterator[str]:
    """The texts line by line, cut where a character is unknown, where a reserved name begins, and at tags."""
    rare = f"[^{re.escape(''.join(c for c in known if len(c) == 1))}]"
    cuts = re.compile(f"{ANY_PART}|{rare}" if chat_tags else rare)
    for text in texts:
        for line in text.split("\n"):
            for part in cuts.split(line):
                start = 0
                for name in _RESERVED.finditer(part):
                    yield part[start : name.end()]
                    start = name.end()
                if start < len(part):
                    yield part[start:]


def _applied(
    engine: Engine, vocabulary: dict[str, int], pairs: Sequence[tuple[str, str]], lines: Iterable[str]
) -> list[int]:
    """How often each merge was made in the lines: what is left of its token, and what later merges used up."""
    count = np.zeros(len(vocabulary), dtype=np.int64)
    for group in groups(lines, _CALL):
        ids = np.concatenate([part.ids for part in engine.encode_batch_fast(group)])
        count += np.bincount(ids, minlength=len(count))
    made: list[int] = []
    for left, right in reversed(pairs):
        times = int(count[vocabulary[left + right]])
        count[vocabulary[left]] += times
        count[vocabulary[right]] += times
        made.append(times)
    return made[::-1]


def _scores(characters: Sequence[int], applied: Sequence[int]) -> list[float]:
    """Scores of characters (how often they occur) and merges (how often made), the latter strictly falling.

    Where two merges were made equally often the earlier gets the next larger float32, a difference in the seventh
    digit, so that the order in which they were learnt can be read from the file.
    """
    falling: list[float] = []
    lowest = np.float32(-np.inf)
    for times in reversed(applied):
        lowest = max(np.float32(times), np.nextafter(lowest, np.float32(np.inf)))
        falling.append(float(lowest))
    return [*map(float, characters), *falling[::-1]]


def _all_splits(vocabulary: dict[str, int], ranked: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Every way to join two tokens to a third, those of higher score first."""
    if ranked is None:
        ranked = [name for name, index in sorted(vocabulary.items(), key=lambda item: item[1]) if index >= len(BASE)]
    parts = vocabulary.keys() - set(SPECIALS) - set(BASE[-128:])
    return [
        (name[:at], name[at:])
        for name in ranked
        for at in range(len(name) - 1, 0, -1)
        if name[:at] in parts and name[at:] in parts
    ]


def _octets(name: str) -> bytes:
    """The bytes of a token by its name in `tokenizer.json`."""
    return bytes([int(name[3:5], 16)]) if name in _BYTES else name.encode()


_BYTES = frozenset(BASE[-128:])


def _blank(split: Split | None, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Engine:
    """An engine with this vocabulary."""
    model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>")  # noqa: S106
    engine = Engine(model)
    if split is not None:
        engine.pre_tokenizer = split_rule(split)
    engine.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    if vocabulary:
        engine.add_special_tokens(list(SPECIALS))
    return engine


def _first_fault(engine: Engine) -> str | None:
    """Why encoding with this engine would not be exact, or None."""
    base = {name: i for i, name in enumerate(BASE)}
    if fault := frame_fault(engine, [_blank(split, base, []) for split in (None, *get_args(Split))], SPECIALS):
        return fault
    vocabulary = engine.get_vocab()
    if missing := [name for name, index in base.items() if vocabulary.get(name) != index]:
        return f"{missing[0]!r} does not have the id {base[missing[0]]}"
    if odd := sorted(name for name in vocabulary.keys() - base.keys() if _reserved(name)):
        return f"the token {odd[0]!r} is called like a byte"
    return None


def _reserved(name: str) -> bool:
    return len(name) == 6 and name.startswith("<0x") and name.endswith(">")
