"""How a conversation is written as one text, for those who write such texts and for those who prompt with them.

`script` is what a model of plain text is prompted with in a chat ("User: ...", new line, "Assistant: ..."); `tags` is
the form of the LAi document (`<user>...</user><assistant>...</assistant>`), and the prompt of a model that has learnt
such texts. A model tuned on turns is given chat markers instead (`lmcore.generate.chat`), whatever its texts looked
like.

The system messages of tasks stand here too: a model is asked in the very words that its texts had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

ROLES = ("system", "user", "assistant")
TAG = re.compile(rf"<(/?)({'|'.join(ROLES)})>")
Template = Literal["script", "tags"]
Pieces = list[tuple[str, str]]  # (role, text); what stands between turns has the role ""
CODE_TASK = "Answer with code."  # the system message of a question that code shall answer


def translation_task(given: str, wanted: str) -> str:
    """The system message of a translation, from languages by their codes: "Translate English to Hungarian."."""
    return f"Translate {language(given)} to {language(wanted)}."


@cache
def language(code: str) -> str:
    """English name of a language (Unicode CLDR): Hungarian for hu; the code itself where there is none."""
    import babel

    try:
        return babel.Locale.parse(code, sep="-").get_display_name("en") or code
    except (babel.UnknownLocaleError, ValueError):
        return code


def opening_tag(role: str) -> str:
    """What stands before a message in tags."""
    return f"<{role}>"


def closing_tag(role: str) -> str:
    """What stands behind a message in tags."""
    return f"</{role}>"


def label(role: str) -> str:
    """What stands before a message of a script."""
    return f"{role.capitalize()}:"


def labelled(lines: Iterable[tuple[str, str, str]]) -> Pieces:
    """Lines of a label and a text ("Question: ..."); each is (label, role, text), the role "" for what nobody says."""
    written: Pieces = []
    for name, role, text in lines:
        written += [("", f"{chr(10) if written else ''}{name}: "), (role, text.strip())]
    return written


def pieces(messages: Iterable[tuple[str, str]], template: Template) -> Pieces:
    """The conversation in that form, cut where its messages begin and end; a message is (role, text)."""
    written: Pieces = []
    for role, text in messages:
        if template == "tags":
            written += [("", opening_tag(role)), (role, text.strip()), ("", closing_tag(role))]
        else:
            between = "\n" if written else ""
            written += [("", f"{between}{label(role)} "), (role, text.strip())]
    return written
