"""Subtitles: the cues of a film or an episode become scenes of dialogue."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lmcore.collect.charset import Decoded, clean, decode
from lmcore.collect.items import Item, Read, read_bytes
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.spoken import Said, follows, said_in
from lmcore.collect.turns import written
from lmcore.collect.unpack import Member, Unreadable, plain_name
from lmcore.conversation import Pieces

if TYPE_CHECKING:
    from pysubs2 import SSAEvent, SSAFile


class SubtitlesSource(PathsSource):
    """Subtitle files: SubRip, SubStation Alpha and WebVTT."""

    kind: Literal["subtitles"] = Field(default="subtitles", description="Subtitle files.")
    text_kind: TextKind = Field(default="subtitle", description="What kind of text this is.")
    gap: float = Field(default=10.0, ge=0, le=3600, description="Seconds without a cue after which a new scene begins.")
    strip_sounds: bool = Field(
        default=True, description="Take out what is not said: [door slams], (sighs), （笑い）, and music notes."
    )


@dataclass(frozen=True)
class _Cue:
    start: int  # milliseconds
    end: int
    text: str  # with line ends, and tags of speakers
    speaker: str = ""


@dataclass(frozen=True)
class _Subtitles:
    cues: list[_Cue]
    bad: list[int]  # lines (of SubStation Alpha) or cues (of WebVTT) that could not be read
    title: str = ""


# pysubs2 raises ValueError for numbers and times that are none, TypeError for lines with too few fields.
_GIVES_UP = (ValueError, TypeError, LookupError, NotImplementedError)
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")  # in numbers they cost pysubs2 quadratic time
_KARAOKE = re.compile(r"<\d[\d:.]*>")
_TIME = re.compile(r"(?:\d{0,4}:)?\d{2}:\d{2}\.\d{2,3}")
_TIMES = re.compile(r"[ \t]*(?:\d{1,4}:)?\d{2}:\d{2}\.\d{3}[ \t]+-->[ \t]+(?:\d{1,4}:)?\d{2}:\d{2}\.\d{3}", re.ASCII)
_OVERRIDE = re.compile(r"\{[^{}]*\}")
_DRAWING = re.compile(r"\\p[1-9]")
_FIELDS = 10  # of a line of dialogue
_GENERATED = ("fx", "karaoke", "template", "code")  # lines that Aegisub's karaoke templater has made or reads


def _read_srt(member: Member, params: SubtitlesSource) -> Iterator[Item]:
    yield from _read(member, params, "srt")


def _read_vtt(member: Member, params: SubtitlesSource) -> Iterator[Item]:
    yield from _read(member, params, "vtt")


def _read_ass(member: Member, params: SubtitlesSource) -> Iterator[Item]:
    yield from _read(member, params, "ass")


def _read_ssa(member: Member, params: SubtitlesSource) -> Iterator[Item]:
    yield from _read(member, params, "ssa")


def _read(member: Member, params: SubtitlesSource, form: str) -> Iterator[Item]:
    decoded = decode(read_bytes(member.path), lang=params.lang)
    text = clean(decoded.text)
    found = _substation(text, form) if form in ("ass", "ssa") else _subrip(text, form)
    if text.strip() and not found.cues and not found.bad:
        raise Unreadable("damaged", f"no cue of {form} in it")
    work = " ".join((found.title or plain_name(member.name).rpartition(".")[0]).split())
    for line in found.bad:
        yield Item(line, problem="a cue that could not be read")
    for scene in _scenes(found.cues, params.gap):
        yield _item(scene, work, form, decoded, params)


def _subrip(text: str, form: str) -> _Subtitles:
    """SubRip, and WebVTT made alike: only its cues, numbered, so that pysubs2 takes nothing else for what is said."""
    text = _BLANK_LINES.sub("\n\n", text)
    bad: list[int] = []
    if form == "vtt":
        text, bad = _bare(text)
    # The number of a next cue is what pysubs2 takes the last line for, where it is one: it may be an answer.
    subs = _parsed(text + "\n\n0\n", form)
    cues = (_Cue(event.start, event.end, _plain(event.text)) for event in subs)
    if form == "vtt":
        cues = (_Cue(cue.start, cue.end, html.unescape(cue.text)) for cue in cues)
    return _Subtitles(_ordered(list(cues)), bad)


def _bare(text: str) -> tuple[str, list[int]]:
    """WebVTT without notes, styles and names of cues, which pysubs2 does not know; and the cues without times."""
    cues: list[str] = []
    bad: list[int] = []
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.strip("\n").split("\n")
        arrow = next((number for number, line in enumerate(lines[:2]) if "-->" in line), None)
        if arrow is None:
            continue
        times = _TIMES.match(lines[arrow])
        if times is None:
            bad.append(len(cues) + len(bad) + 1)
            continue
        said = "\n".join(map(_without_times, lines[arrow + 1 :]))
        cues.append(f"{len(cues) + 1}\n{times[0]}\n{said}\n")
    return "\n".join(cues), bad


def _without_times(line: str) -> str:
    """A line of what is said; two times in it (karaoke) pysubs2 would take for those of a cue."""
    line = _KARAOKE.sub("", line)
    return _TIME.sub(" ", line) if len(_TIME.findall(line)) > 1 else line


def _substation(text: str, form: str) -> _Subtitles:
    """SubStation Alpha: lines of dialogue, without the styles and attachments that say how they look."""
    title = re.search(r"^Title:(.*)$", text, re.MULTILINE)
    named = title[1].strip() if title and "default aegisub" not in title[1].lower() else ""
    lines: dict[int, str] = {}
    bad: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.removeprefix("Dialogue:").split(",", _FIELDS - 1)
        if line.startswith("Dialogue:") and len(fields) == _FIELDS:
            # layer and margins say how it looks; pysubs2 would warn of every one that is no number
            lines[number] = "Dialogue: 0," + ",".join([*fields[1:5], "0,0,0", *fields[8:]])
        elif line.startswith("Dialogue:"):
            bad.append(number)
    events: list[SSAEvent] = []
    try:
        events += _parsed("[Events]\n" + "\n".join(lines.values()), form)
    except _GIVES_UP:
        for number, line in lines.items():
            try:
                events += _parsed("[Events]\n" + line, form)
            except _GIVES_UP:
                bad.append(number)
    cues = [
        _Cue(event.start, event.end, _plain(event.text), " ".join(event.name.split()))
        for event in events
        if not _is_drawing(event.text) and not event.effect.strip().lower().startswith(_GENERATED)
    ]
    return _Subtitles(_ordered(cues), sorted(bad), named)


def _parsed(text: str, form: str) -> SSAFile:
    import pysubs2

    return pysubs2.SSAFile.from_string(text, form, **({"keep_html_tags": True} if form in ("srt", "vtt") else {}))


def _is_drawing(text: str) -> bool:
    return any(_DRAWING.search(tags) for tags in _OVERRIDE.findall(text))


def _plain(text: str) -> str:
    """What an event says, without override tags."""
    text = _OVERRIDE.sub("", text)
    return text.replace(r"\h", " ").replace(r"\n", "\n").replace(r"\N", "\n").strip()


def _ordered(cues: list[_Cue]) -> list[_Cue]:
    """Cues with text by time; one that is there twice (layers of a title) once."""
    kept: dict[tuple[int, str], _Cue] = {}
    for cue in sorted(cues, key=lambda cue: cue.start):
        if cue.text:
            kept.setdefault((cue.start, cue.text), cue)
    return list(kept.values())


def _scenes(cues: list[_Cue], gap: float) -> Iterator[list[_Cue]]:
    scene: list[_Cue] = []
    end = 0
    for cue in cues:
        if scene and cue.start > end + gap * 1000:
            yield scene
            scene = []
        end = max(end, cue.start, cue.end) if scene else max(cue.start, cue.end)
        scene.append(cue)
    if scene:
        yield scene


def _item(scene: list[_Cue], work: str, form: str, decoded: Decoded, params: SubtitlesSource) -> Item:
    """The record of a scene: a line for each turn."""
    turns: list[Said] = []
    times = []
    for cue in scene:
        spoken = said_in(cue.text, cue.speaker, strip_sounds=params.strip_sounds)
        if spoken:
            times.append([cue.start, cue.end])
        for said in spoken:
            if turns and follows(turns[-1], said):
                turns[-1] = Said(turns[-1].speaker, f"{turns[-1].text} {said.text}", turns[-1].dash)
            else:
                turns.append(said)
    pieces: Pieces = []
    for turn in turns:
        before = "\n" if pieces else ""
        before += f"{turn.speaker}: " if turn.speaker else "- " if turn.dash else ""
        pieces += [("", before), (turn.speaker or "speaker", turn.text)]
    text, said_turns = written(pieces)
    speakers = sorted({turn.speaker for turn in turns if turn.speaker})
    tags = {"work": work} | ({"speaker": "; ".join(speakers)} if speakers else {})
    meta = {
        "charset": decoded.charset,
        "charset_source": decoded.source,
        "extractor": f"pysubs2 {form}",
        "cues": times,
    }
    return Item(f"{scene[0].start / 1000:.3f}", text, work, origin="", tags=tags, turns=said_turns or None, meta=meta)


FORMATS: Mapping[str, Read] = {".srt": _read_srt, ".vtt": _read_vtt, ".ass": _read_ass, ".ssa": _read_ssa}
