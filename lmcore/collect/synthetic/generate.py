"""The generated texts of a source, in order: sentences, stories, translations, instructions.

Every text has a number and is drawn from (seed, section, number, try) alone, so that asking for more keeps the first
ones as they are. A text that was made before in its section is drawn again, and left out when that goes on: then the
section knows no more.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

from lmcore.collect.records import Record
from lmcore.collect.synthetic.instructions import draw_tasks
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.collect.synthetic.sentences import Draw, draw_sentence
from lmcore.collect.synthetic.stories import draw_story
from lmcore.collect.turns import conversation
from lmcore.conversation import translation_task
from lmcore.documents import MADE

TRIES = 40
SECTIONS = ("sentences", "stories", "translations", "instructions")
Make = Callable[[Draw, str, str, SyntheticSource], list[Record]]


def generated(params: SyntheticSource, outcomes: dict[str, Counter[str]]) -> Iterator[Record]:
    """The records; `outcomes` is given the counts of each section: ok, and repeated for what could not be new."""
    for section in SECTIONS:
        counts = outcomes[section] = Counter()
        seen: set[bytes] = set()
        for number in range(1, getattr(params, section) + 1):
            lang = params.languages[(number - 1) % len(params.languages)]
            made = _new(section, number, lang, params, seen)
            counts["ok" if made else "repeated"] += len(made) or 1
            yield from made


def _new(section: str, number: int, lang: str, params: SyntheticSource, seen: set[bytes]) -> list[Record]:
    """The records of a number, whose texts are noted as seen; none when they cannot be new."""
    locator = f"{MADE}{params.seed}/{section}/{number}"
    for attempt in range(TRIES):
        made = _MAKE[section](Draw(params.seed, section, number, attempt), lang, locator, params)
        marks = {hashlib.blake2b(record.text.encode(), digest_size=12).digest() for record in made}
        if len(marks) == len(made) and seen.isdisjoint(marks):
            seen |= marks
            return made
    return []


def _sentence(draw: Draw, lang: str, locator: str, _params: SyntheticSource) -> list[Record]:
    text = getattr(draw_sentence(draw), lang)
    meta = {"extractor": "generator", "section": "sentences"}
    return [Record(locator, "", text, locator, lang, "prose", synthetic=True, meta=meta)]


def _story(draw: Draw, lang: str, locator: str, _params: SyntheticSource) -> list[Record]:
    story = draw_story(draw, lang)
    meta = {"extractor": "generator", "section": "stories", "plot": story.plot["name"]}
    return [Record(locator, story.title, story.text, locator, lang, "prose", synthetic=True, meta=meta)]


def _translation(draw: Draw, _lang: str, locator: str, params: SyntheticSource) -> list[Record]:
    both = draw_sentence(draw)
    sides = {"en": both.en, "hu": both.hu}
    found = []
    for given, wanted in (("en", "hu"), ("hu", "en")):
        messages = [("system", translation_task(given, wanted)), ("user", sides[given]), ("assistant", sides[wanted])]
        meta = {"extractor": "generator", "section": "translations", "source_lang": given, "target_lang": wanted}
        found.append(chat(f"{locator}/{given}-{wanted}", locator, messages, wanted, "pair", params, meta))
    return found


def _instruction(draw: Draw, lang: str, locator: str, params: SyntheticSource) -> list[Record]:
    found = []
    for part, task in enumerate(draw_tasks(draw, lang), 1):
        meta = {"extractor": "generator", "section": "instructions", "task": task.name}
        messages = [("user", task.asked), ("assistant", task.answer)]
        found.append(chat(f"{locator}/{part}", locator, messages, lang, "instruction", params, meta))
    return found


def chat(
    url: str, origin: str, messages: list[tuple[str, str]], lang: str, kind: str, params: SyntheticSource,
    meta: dict[str, str],
) -> Record:  # fmt: skip
    """The record of a conversation, in the source's template."""
    item = conversation(url, messages, params.template, meta)
    assert not item.problem, f"{item.problem}: {messages}"
    return Record(url, "", item.text, origin, lang, kind, turns=item.turns, synthetic=True, meta=meta)


_MAKE: dict[str, Make] = {
    "sentences": _sentence,
    "stories": _story,
    "translations": _translation,
    "instructions": _instruction,
}
