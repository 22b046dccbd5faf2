"""Every kind of vocabulary: which one a recipe asks for, and which one a folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Engine

from lmcore.tokenizer.byte_bpe import ByteBPE
from lmcore.tokenizer.char_bpe import CharBPE
from lmcore.tokenizer.engines import read_engine
from lmcore.tokenizer.imported import ImportedBPE, is_imported
from lmcore.tokenizer.interface import VOCABULARY_FILES, Tokenizer
from lmcore.tokenizer.params import Kind, TokenizerParams
from lmcore.tokenizer.plain_bytes import PlainBytes
from lmcore.tokenizer.vocab_files import read_vocab_bin, read_vocab_txt
from lmcore.tokenizer.word_bpe import WordBPE
from lmcore.tokenizer.words import Words
from storage.errors import RunError

_MEND = "run `collect-train verify`, or point to a folder that this program made"
_NAMES: dict[Kind, str] = {
    "byte_bpe": "byte-level BPE",
    "bytes": "byte",
    "char_bpe": "character-level BPE",
    "word_bpe": "whitespace BPE",
    "words": "word",
}


def learn(texts: Callable[[], Iterator[str]], params: TokenizerParams) -> Tokenizer:
    """The vocabulary that `params` ask for, learnt from `texts()`, which may be called more than once."""
    bounds = {name: getattr(params, name) for name in ("vocab_size", "min_frequency", "max_token_length")}
    match params.kind:
        case "byte_bpe":
            return ByteBPE.train(texts(), split=params.split, **bounds)
        case "bytes":
            return PlainBytes()
        case "char_bpe":
            split = None if params.cross_words else params.split
            return CharBPE.train(texts, split=split, chat_tags=params.chat_tags, **bounds)
        case "word_bpe":
            return WordBPE.train(texts, **bounds)
        case "words":
            return Words.train(texts(), order=params.order, **bounds)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in any folder that holds a `tokenizer.json`, LAi's `vocab.bin` or CLLM's `vocab.txt`.

    Raises RunError naming the file when it is missing, damaged or not one that this program can use exactly.
    """
    names = VOCABULARY_FILES
    path = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    if path.name == "vocab.bin":
        return _whole("char_bpe", path, lambda: CharBPE.from_file(*read_vocab_bin(_read(path))))
    if path.name == "vocab.txt":
        return _whole("words", path, lambda: Words.from_file(*read_vocab_txt(_read(path))))
    content = _read(path)
    try:
        engine = read_engine(content)
    except ValueError as error:
        raise RunError(f"the tokenizer {path} is damaged: {error}", _MEND) from error
    made = json.loads(content)
    if is_imported(made):
        return _whole("byte_bpe", path, lambda: ImportedBPE(engine))
    match kind := kind_of(made):
        case "byte_bpe":
            return _whole(kind, path, lambda: ByteBPE(engine))
        case "bytes":
            return _whole(kind, path, lambda: PlainBytes.from_engine(engine))
        case "char_bpe":
            return _whole(kind, path, lambda: _with_scores(engine, folder / "vocab.bin"))
        case "word_bpe":
            return _whole(kind, path, lambda: WordBPE(engine))
        case "words":
            return _whole(kind, path, lambda: _with_counts(engine, folder / "vocab.txt"))


def kind_of(made: dict[str, Any]) -> Kind:
    """The kind that the contents of a `tokenizer.json` look most like."""
    model = made["model"]
    if model.get("type") == "WordLevel":  # the oldest files name no type
        return "words"
    if model.get("end_of_word_suffix"):
        return "word_bpe"
    if model.get("byte_fallback"):
        return "char_bpe"
    rule = made.get("pre_tokenizer") or {}
    return "bytes" if rule.get("type") == "ByteLevel" and not rule.get("use_regex") else "byte_bpe"


def _with_scores(engine: Engine, beside: Path) -> CharBPE:
    if not beside.exists():
        return CharBPE(engine)
    tokens, scores = read_vocab_bin(_read(beside))
    found = CharBPE(engine, scores)
    if found.tokens != tokens:
        raise ValueError(f"it has other tokens than {beside.name} beside it")
    return found


def _with_counts(engine: Engine, beside: Path) -> Words:
    if not beside.exists():
        return Words.from_engine(engine)
    listed = Words.from_file(*read_vocab_txt(_read(beside)))
    found = Words.from_engine(engine, listed.counts)
    if found.tokens != listed.tokens:
        raise ValueError(f"it has other words than {beside.name} beside it")
    return found


def _whole(kind: Kind, path: Path, make: Callable[[], Tokenizer]) -> Tokenizer:
    try:
        return make()
    except (ValueError, LookupError, TypeError) as error:  # the last two: parts that the library does not insist on
        raise RunError(f"the tokenizer {path} is not a whole {_NAMES[kind]} vocabulary: {error}", _MEND) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the tokenizer {path}: {error}", _MEND) from error
