"""Questions and a summary made of a collected article: the topic is of its title, the answers are its own sentences.

What is made names the article as its `parent_record` and shares its `page_of_origin`: it follows the article into its
split, where curation drops what is made of held-out articles, and it is forgotten with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from lmcore.collect.records import Record
from lmcore.collect.synthetic.cutting import sentences
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.collect.turns import conversation, hidden_turn, on_its_own, written
from lmcore.conversation import Pieces, labelled, pieces
from lmcore.strict_yaml import load_yaml

MAX_TOPIC_WORDS = 4
MAX_SENTENCE = 1_000  # characters; what is longer was not cut into sentences
_ENDS = re.compile(r"[.!?…።፧፨፡][»”\"')\]]*$")
_SITE = re.compile(r"\s+(?:[|–—]|-)\s+")  # Headline - BBC News
_ASIDE = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")  # Mercury (planet)
_BREAK = re.compile(r"[:;,?!፣፤፥፦።፧«»“”„\"]+")
_WORD_SPACE = re.compile(r"[\s፡]+")


class NothingMade(Exception):
    """Why nothing is made of an article: an outcome, and a reason."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(outcome)
        self.outcome, self.reason = outcome, reason


@dataclass(frozen=True)
class Topic:
    """What an article is about, and the sentences that mention it."""

    name: str
    mentions: tuple[str, ...]


def made_of(article: dict[str, Any], params: SyntheticSource) -> list[Record]:
    """The texts made of a DOCUMENT row. Raises NothingMade."""
    if article["synthetic"] or article["kind"] != "prose":
        raise NothingMade("other_kind", "it is no prose that people wrote")
    code = (article["lang"] if params.lang == "und" else params.lang).partition("-")[0].lower()
    if code not in templates():
        raise NothingMade("other_language", f"there are no templates for {code}")
    if len(article["text"]) < params.min_chars:
        raise NothingMade("too_short", f"less than {params.min_chars} characters")
    title, rules = " ".join(article["title"].split()), templates()[code]
    said = [on_its_own(text).strip() for text in sentences(article["text"])]
    told = [text for text in said if _ENDS.search(text) and len(text) <= MAX_SENTENCE]
    found = [
        _record(article, name, code, cut)
        for name, cut in (*_questions(title, told, rules, params), *_summary(told, rules, params))
        if not hidden_turn(cut)
    ]
    if not found:
        raise NothingMade("no_topic", "its sentences mention nothing of its title, and are too few to sum up")
    return found


def topic_of(title: str, told: list[str], rules: dict[str, Any]) -> Topic | None:
    """The longest run of words of the title that sentences mention; a single word is one only if two do.

    The last word of a longer headline is left out where it is a verb.
    """
    parts = [_BREAK.sub("\n", part) for part in _SITE.split(_ASIDE.sub("", title)) if part.strip()]
    if not parts:
        return None
    runs = [[word for word in _WORD_SPACE.split(run.strip()) if word] for run in max(parts, key=len).split("\n")]
    runs = [run for run in runs if run]
    whole = len(runs) == 1 and len(runs[0]) <= MAX_TOPIC_WORDS
    if rules["verb_last"] and runs and len(runs[-1]) > 3:
        runs[-1] = runs[-1][:-1]
    banned = set(rules["no_topic"])
    for size in range(MAX_TOPIC_WORDS, 0, -1):
        best: Topic | None = None
        for run in runs:
            for start in range(len(run) - size + 1):
                words = run[start : start + size]
                if (not whole and {words[0].lower(), words[-1].lower()} & banned) or not _is_name(words):
                    continue
                found = _mentioned(words, told, rules)
                needed = 1 if size > 1 or (whole and len(runs[0]) == 1) else 2
                if len(found.mentions) >= needed and (best is None or len(found.mentions) > len(best.mentions)):
                    best = found
        if best:
            return best
    return None


@cache
def templates() -> dict[str, dict[str, Any]]:
    """The templates by language, as they are packaged."""
    text = (resources.files(__package__) / "articles.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = load_yaml(text, "articles.yaml")
    return found


def _is_name(words: list[str]) -> bool:
    """Whether it may name something: letters enough, and a capital at the beginning where the script has them."""
    first = words[0].strip("'’-.")
    letters = sum(sign.isalpha() for word in words for sign in word)
    return bool(first) and letters >= (3 if first[0].lower() != first[0].upper() else 2) and not first[0].islower()


def _mentioned(words: list[str], told: list[str], rules: dict[str, Any]) -> Topic:
    """The topic that these words name, without what is merely written onto the first of them."""
    own = words
    for prefix in sorted(rules["before"], key=len, reverse=True):
        rest = words[0].removeprefix(prefix)
        if rest != words[0] and len(rest) > 1:
            alone = re.compile(rf"(?<!\w){re.escape(rest)}(?!\w)")
            if any(alone.search(text) for text in told):
                own = [rest, *words[1:]]
                break
    before = f"(?:{'|'.join(map(re.escape, rules['before']))})?" if rules["before"] else ""
    last = re.escape(own[-1])
    if rules["after"].startswith(r"\w") and own[-1][-1] in "ae":
        last = last[:-1] + {"a": "[aá]", "e": "[eé]"}[own[-1][-1]]
    between = r"[\s፡]+"
    pattern = rf"(?<!\w){before}{between.join([*map(re.escape, own[:-1]), last])}{rules['after']}(?!\w)"
    looked_for = re.compile(pattern, re.IGNORECASE)  # Old Mill in a headline, old mill in the text
    return Topic(" ".join(own), tuple(text for text in told if looked_for.search(text)))


def _questions(
    title: str, told: list[str], rules: dict[str, Any], params: SyntheticSource
) -> Iterator[tuple[str, Pieces]]:
    """The questions, each with the first sentences that mention the topic."""
    topic = topic_of(title, [text for text in told if text.rstrip(".።") != title], rules)
    if topic is None:
        return
    labels = rules["labels"]
    for number, question in enumerate(rules["questions"], 1):
        asked = question["ask"].replace("{topic}", topic.name)
        answer = " ".join(topic.mentions[: question["sentences"]])
        said = [(labels["question"], "user", asked), (labels["answer"], "assistant", answer)]
        lines = [(labels["title"], "", title), *said]
        yield from _written(f"question-{number}", lines, [("user", asked), ("assistant", answer)], params)


def _summary(told: list[str], rules: dict[str, Any], params: SyntheticSource) -> Iterator[tuple[str, Pieces]]:
    """The summary, where the article goes on after what sums it up."""
    given, size = 0, 0
    while given < len(told) and size + len(told[given]) <= params.max_input_chars:
        size, given = size + len(told[given]) + 1, given + 1
    if given < 3:
        return
    labels, text, answer = rules["labels"], " ".join(told[:given]), " ".join(told[:2])
    asked = f"{rules['summary']}\n{labels['input']}: {text}"
    lines = [(labels["instruction"], "user", asked), (labels["output"], "assistant", answer)]
    yield from _written("summary", lines, [("user", f"{rules['summary']}\n{text}"), ("assistant", answer)], params)


def _written(
    name: str, lines: list[tuple[str, str, str]], messages: list[tuple[str, str]], params: SyntheticSource
) -> Iterator[tuple[str, Pieces]]:
    """The text in the source's template; nothing where a message cannot stand in it."""
    if params.article_template == "labels":
        yield name, labelled(lines)
        return
    if not conversation(name, messages, params.article_template, {}).problem:
        yield name, pieces(messages, params.article_template)


def _record(article: dict[str, Any], name: str, code: str, cut: Pieces) -> Record:
    text, turns = written(cut)
    return Record(
        f"synthetic:{name}/{article['source']}/{article['url']}",
        article["title"],
        text,
        article["page_of_origin"],
        article["lang"] if article["lang"] != "und" else code,
        "instruction",
        article["license"],
        tags=dict(article["tags"]),
        turns=turns,
        synthetic=True,
        parent_record=article["record_id"],
        license_source=article["license_source"],
        meta={"extractor": "templates", "template": name, "source": article["source"]},
    )
