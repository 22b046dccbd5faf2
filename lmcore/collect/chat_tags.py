"""Text in which some lines are conversations: `<system>...</system><user>...</user><assistant>...</assistant>`.

That is the form of the LAi document, where a line is a conversation or an ordinary text. Here a message may also
have several lines; a new line ends a conversation once somebody has answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmcore.conversation import TAG


@dataclass(frozen=True)
class Tagged:
    """A piece of such a text: a conversation (`messages`), what is wrong there, or lines without tags."""

    line: int  # from 1
    text: str
    messages: list[tuple[str, str]] = field(default_factory=list)
    problem: str = ""


def tagged(text: str) -> Iterator[Tagged]:
    """The pieces of a text in order. A piece with a problem is one line; reading goes on behind it."""
    at = 0
    line = 1
    while at < len(text):
        tag = TAG.search(text, at)
        start = len(text) if tag is None else text.rfind("\n", 0, tag.start()) + 1
        if start > at:
            yield Tagged(line, text[at:start])
        else:
            start = at
        line += text.count("\n", at, start)
        if tag is None:
            return
        messages, stop, problem = _conversation(text, start)
        if problem:
            stop = text.find("\n", tag.start())
            stop = len(text) if stop < 0 else stop
        yield Tagged(line, text[start:stop], [] if problem else messages, problem)
        line += text.count("\n", start, stop + 1)
        at = stop + 1


def _conversation(text: str, at: int) -> tuple[list[tuple[str, str]], int, str]:
    """(messages, where they end, problem) of the conversation that begins in the line at `at`."""
    messages: list[tuple[str, str]] = []
    answered = False
    while True:
        opening = TAG.search(text, at)
        between = text[at : opening.start()] if opening else text[at:]
        if messages and (opening is None or (answered and "\n" in between) or between.strip()):
            rest = between.partition("\n")[0]
            return messages, at + len(rest), "text beside tags" if rest.strip() else ""
        if opening is None or opening[1] or between.strip():
            return [], at, "a tag that was not opened" if opening and opening[1] else "text beside tags"
        closing = TAG.search(text, opening.end())
        if closing is None or closing.groups() != ("/", opening[2]):
            return [], at, "a tag that is not closed"
        messages.append((opening[2], text[opening.end() : closing.start()]))
        answered = answered or opening[2] == "assistant"
        at = closing.end()
