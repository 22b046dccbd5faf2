"""Who says what in a cue of subtitles."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SOUND = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|（[^（）]*）|［[^［］]*］|[♩♪♫♬]+")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]([^<>]*)>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|</>")
# "MAN #2: Stop!" as subtitles for the deaf have it, and 太郎：おはよう; not "Remember: it is late."
_NAME = re.compile(r"^(?:([A-Z][A-Z0-9 .'’#&-]{0,30}):(?=\s)|([^\s:：]{1,12})：)[ \t]*")
_DASH = re.compile(r"^[ \t]*[-‐–—―][ \t]*(?=\S)")


@dataclass(frozen=True)
class Said:
    """What somebody says: `speaker` is "" when it is not said who, `dash` when it is somebody else than before."""

    speaker: str
    text: str
    dash: bool = False


def said_in(text: str, speaker: str = "", *, strip_sounds: bool) -> list[Said]:
    """What is said in a cue, in order; the lines of one speaker joined."""
    if strip_sounds:
        text = _SOUND.sub(" ", text)
    found: list[Said] = []
    pieces = _VOICE.split(text)  # text, then name and text by turns
    for number in range(0, len(pieces), 2):
        name = " ".join(pieces[number - 1].split()) if number else speaker
        _lines(_TAG.sub("", pieces[number]), name, found, new=bool(number))
    return found


def _lines(text: str, speaker: str, found: list[Said], *, new: bool) -> None:
    """Add what the lines of a text say; `new`: the first of them does not go on with what was said before."""
    for line in text.split("\n"):
        bare, dashes = _DASH.subn("", line)
        named = _NAME.match(bare.strip())
        said = " ".join(bare.strip()[named.end() if named else 0 :].split())
        if not any(character.isalnum() for character in said):
            continue
        name = " ".join((named[1] or named[2]).split()) if named else speaker
        if found and not (new or dashes or named):
            found[-1] = Said(found[-1].speaker, f"{found[-1].text} {said}", found[-1].dash)
        else:
            found.append(Said(name, said, bool(dashes)))
        new = False


def follows(before: Said, said: Said) -> bool:
    """Whether the next cue goes on with a turn: the same speaker by name, or the same sentence."""
    if said.speaker or before.speaker:
        return said.speaker == before.speaker and not said.dash
    open_end = before.text[-1] in ",、，"
    return not said.dash and (open_end or (said.text[0].islower() and before.text[-1].isalnum()))
