"""The `tokenizers` library as engine of a vocabulary: one class for the kinds whose tokens are merges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Engine

from lmcore.tokenizer.base import Ids, Vocabulary, utf8
from lmcore.tokenizer.cutting import groups, pieces

CALL = 500_000  # characters in one call of the engine, some 60 MB of its memory


def read_engine(content: bytes) -> Engine:
    """The engine that a `tokenizer.json` describes. Raises ValueError, in the library's words, for what is none."""
    try:
        return Engine.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the text
        raise ValueError(str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what its Rust raises where it should refuse; no Exception
            raise
        raise ValueError(str(error)) from None


class EngineVocabulary(Vocabulary):
    """A vocabulary that an engine encodes and decodes with."""

    _engine: Engine

    def _take(self, engine: Engine) -> None:
        engine.encode_special_tokens = True  # a property of the running engine, not of its file
        self._engine = engine

    def to_json(self) -> str:
        """The contents of `tokenizer.json`, readable by `tokenizers` and transformers; equal for equal vocabularies."""
        return self._engine.to_str(pretty=True)

    def files(self) -> dict[str, bytes]:
        """The files that hold the vocabulary, by name."""
        return {"tokenizer.json": self.to_json().encode()}

    def encode_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text. Raises UserError for a text that UTF-8 cannot express."""
        cut = [self._pieces(text) for text in texts]
        try:
            found = self._encode(piece for some in cut for piece in some)
        except (TypeError, UnicodeEncodeError):  # what the engines say of a surrogate
            for text in texts:
                utf8(text)
            raise
        if len(found) == len(texts):  # every text is one piece
            return found
        ends = list(accumulate(map(len, cut), initial=0))
        return [np.concatenate(found[start:stop]) for start, stop in pairwise(ends)]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer], skip_specials: bool = True) -> str:
        """The text of `ids`; incomplete UTF-8 becomes U+FFFD. Raises RunError for an id outside the vocabulary."""
        text: str = self._engine.decode(self._known(ids), skip_special_tokens=skip_specials)
        return text

    def _pieces(self, text: str) -> list[str]:
        return pieces(text)

    def _encode(self, parts: Iterable[str]) -> list[Ids]:
        """Ids of each part."""
        found: list[Ids] = []
        for group in groups(parts, CALL):
            found += [np.array(part.ids, dtype=np.uint32) for part in self._engine.encode_batch_fast(group)]
        return found


def frame(engine: Engine) -> dict[str, Any]:
    """What `tokenizer.json` says apart from the vocabulary and its merges."""
    found: dict[str, Any] = json.loads(engine.to_str())
    found["model"] = {name: value for name, value in found["model"].items() if name not in ("vocab", "merges")}
    return found


def frame_fault(engine: Engine, blanks: Iterable[Engine], specials: Sequence[str]) -> str | None:
    """The first part of an engine that is not as in any of `blanks` with these specials, or None."""
    expected = []
    for blank in blanks:
        blank.add_special_tokens(list(specials))
        expected.append(frame(blank))
    found = frame(engine)
    if found not in expected:
        part = next((n for n in found if all(found[n] != other.get(n) for other in expected)), "pre_tokenizer")
        return f"its {part!r} is not as this program writes it"
    vocabulary = engine.get_vocab()
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        return "its ids have gaps"
    return None
