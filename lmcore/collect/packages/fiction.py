"""Sets of stories and talk: novels, plays, subtitles, conversations, sentences with their translations."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence

from lmcore.collect.packages.formats import rdb_texts
from lmcore.collect.packages.texts import Row, pages
from lmcore.collect.unpack import Member, Unreadable
from storage.digest import digest_json

Members = Sequence[Sequence[Member]]  # of each package of a set
PAGE_CHARS = 1_500
_SPEECH = re.compile(r"\*\*(.+?)\*\* *\n")
_DIRECTION = re.compile(r"[_*]*\\?\[[^\]]*\][_*]*|_[^_]*_|(?<!\*)\*[^*]+\*(?!\*)")  # what nobody says
_ESCAPE = re.compile(r"\\(\W)")
_TELLS_WHO = re.compile(
    r"\b(?:my (?:full |last )?name(?:'s| is)|call me|i am called|my (?:e-?mail|phone|number|address|insta\w*|snap\w*|"
    r"facebook|twitter|discord)|@[a-z0-9_]{3,}|\.com\b)",
    re.IGNORECASE,
)


def novels(members: Members) -> Iterator[Row]:
    """Six novels by Jane Austen from R's package, and Botchan in English from a test of sentencepiece."""
    (austen,), (botchan,) = members
    for lines in rdb_texts(austen.path):
        title = next((line.strip() for line in lines if line.strip()), "").title().replace(" And ", " and ")
        yield {"name": f"{title}.txt", "text": "\n".join(lines).strip() + "\n"}
    text = botchan.path.read_text(encoding="utf-8-sig")
    start, end = text.find("BOTCHAN (MASTER DARLING)\nBy"), text.find("--(THE END)--")
    if start < 0 or end < 0:
        raise Unreadable("damaged", "the novel is not where it was")
    # what follows are the transcriber's notes, which letters in brackets point to
    yield {"name": "Botchan.txt", "text": re.sub(r" ?\[[A-Z]\]", "", text[start:end]).strip() + "\n"}


def subtitles(members: Members) -> Iterator[Row]:
    """The captions of the film Elephants Dream, as they are."""
    ((captions,),) = members
    yield {"name": "Elephants Dream.vtt", "text": captions.path.read_text(encoding="utf-8-sig")}


def plays(members: Members) -> Iterator[Row]:
    """Shakespeare's plays, a file a scene, as captions that name who speaks.

    WebVTT is the form of ours that has names; a caption's times say no more than its place among the others.
    """
    (texts,) = members
    for member in texts:
        stem = member.inside.rpartition("/")[2].removesuffix(".md")
        play, act, scene = stem.replace("-", " ").title(), 0, 0  # one has no heading
        speeches: list[tuple[str, str]] = []
        for block in re.split(r"\n{2,}", member.path.read_text(encoding="utf-8-sig") + "\n\n#"):
            named = _SPEECH.match(block)
            if named or not block.startswith("#"):
                said = " ".join(_ESCAPE.sub(r"\1", _DIRECTION.sub(" ", block[named.end() if named else 0 :])).split())
                if said and (named or speeches):  # without a name it goes on, behind a direction
                    speeches.append((" ".join(named[1].replace(":", "").split()) if named else speeches[-1][0], said))
            else:
                if speeches:
                    yield {"name": f"{play} {act}.{scene}.vtt", "text": _captions(speeches)}
                speeches = []
                if block.startswith("# ") and not act:
                    play = block[2:].strip()
                else:
                    act, scene = (act + 1, 0) if block.startswith("## ") else (act, scene + 1)


def _captions(speeches: Sequence[tuple[str, str]]) -> str:
    """WebVTT of (name, speech), two seconds each."""
    cues = ["WEBVTT"]
    for number, (name, said) in enumerate(speeches):
        start, end = (f"{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}.000" for at in (2 * number, 2 * number + 2))
        cues.append(f"{start} --> {end}\n<v {html.escape(name, quote=False)}>{html.escape(said, quote=False)}")
    return "\n\n".join(cues) + "\n"


def chats(members: Members) -> Iterator[Row]:
    """Talks of two people as messages; the first to speak is the user. Those that tell who somebody is are left out."""
    ((dataset,),) = members
    for talk in json.loads(dataset.path.read_text(encoding="utf-8")).values():
        messages: list[dict[str, str]] = []
        senders: list[str] = []
        for said in (said for turn in talk["messages"] for said in turn):
            text = said["text"].strip()
            if not text:
                continue
            if said["sender"] not in senders:
                senders.append(said["sender"])
            role = "user" if said["sender"] == senders[0] else "assistant"
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += "\n" + text
            else:
                messages.append({"role": role, "content": text})
        if len(senders) == 2 and len(messages) >= 4 and not any(_TELLS_WHO.search(m["content"]) for m in messages):
            yield {"messages": messages}


def japanese_sentences(members: Members) -> Iterator[Row]:
    """Sentences of Tatoeba, as many to a text as fit; in the order of their digests, since its own puts like ones
    together."""
    sentences = sorted((japanese for japanese, _ in _tatoeba(members)), key=digest_json)
    for text in pages(sentences, PAGE_CHARS):
        yield {"text": text}


def japanese_pairs(members: Members) -> Iterator[Row]:
    """The same sentences with their English translations."""
    for japanese, english in _tatoeba(members):
        if english not in ("", "-"):
            yield {"ja": japanese, "en": english}


def _tatoeba(members: Members) -> Iterator[tuple[str, str]]:
    ((sentences,),) = members
    with open(sentences.path, encoding="utf-8") as lines:
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            if len(cells) >= 3 and cells[1].strip():
                yield cells[1].strip(), cells[2].strip()
