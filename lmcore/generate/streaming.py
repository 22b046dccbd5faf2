"""Tokens to text, piece by piece, without showing half a character or the start of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmcore.tokenizer.interface import Tokenizer

REPLACEMENT = "\ufffd"  # what a decoder puts for bytes that are not (yet) a character


class TextStream:
    """Feed it tokens; it gives the text that is certain. All it gave, joined, is `text`."""

    def __init__(
        self, tokenizer: Tokenizer, before: Sequence[int] = (), stop: Sequence[str] = (), skip: int = 0
    ) -> None:
        """`before`: the last tokens of the prompt, for tokenizers whose spacing depends on what comes before. The
        first `skip` characters are not given, as if they were of the prompt."""
        self._tokenizer = tokenizer
        self._stop, self._skip = stop, skip
        self._ids = list(before)
        self._from, self._known = 0, len(self._ids)  # ids[from:known] are in the text; decoded again for the joint
        self._held = ""  # text that may turn out to be the start of a stop string
        self.text = ""
        self.stopped = False  # a stop string was found; the text ends before it

    def feed(self, token: int) -> str:
        """The text that is certain after one more token, perhaps none."""
        self._ids.append(token)
        piece = self._new_text()
        if piece.endswith(REPLACEMENT):
            return ""  # perhaps the first bytes of a character
        self._from, self._known = self._known, len(self._ids)
        return self._give(piece)

    def finish(self) -> str:
        """The text that was held back, once no more tokens come."""
        if self.stopped:
            return ""
        piece = self._give(self._new_text())
        self._from = self._known = len(self._ids)
        if self.stopped:
            return piece
        held, self._held = self._held, ""
        self.text += held
        return piece + held

    def _new_text(self) -> str:
        known = self._tokenizer.decode(self._ids[self._from : self._known])
        return self._tokenizer.decode(self._ids[self._from :])[len(known) :]

    def _give(self, piece: str) -> str:
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        self._held += piece[skipped:]
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            given, self._held, self.stopped = self._held[: min(found)], "", True
        else:
            keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
            cut = len(self._held) - keep
            given, self._held = self._held[:cut], self._held[cut:]
        self.text += given
        return given


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` starts with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
