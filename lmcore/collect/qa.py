"""Questions about paragraphs, with their answers: SQuAD (v1, v2), whole or as rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import Field

from lmcore.collect.charset import clean
from lmcore.collect.items import Item, Read
from lmcore.collect.json_rows import JsonRow, json_lines, json_value
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.turns import hidden_turn, written
from lmcore.collect.unpack import Member, Unreadable
from lmcore.conversation import Pieces


class QaSource(PathsSource):
    """Questions about paragraphs in SQuAD's form."""

    kind: Literal["qa"] = Field(default="qa", description="Questions and answers about paragraphs.")
    text_kind: TextKind = Field(default="qa", description="What kind of text this is.")
    record: Literal["question", "paragraph"] = Field(
        default="question", description="One record a question, each with its paragraph; or one with all questions."
    )
    no_answer: str = Field(
        default="unanswerable",
        description="What is written for a question that the paragraph does not answer; empty: it is left out.",
    )


@dataclass(frozen=True)
class _Paragraph:
    title: str
    context: str
    questions: list[Any]

    @property
    def part(self) -> str:
        """Names the paragraph wherever it stands."""
        return _digest(self.context)

    @property
    def begin(self) -> str:
        """What the text has before the context."""
        heading = " ".join(unquote(self.title).replace("_", " ").split())
        return f"# {heading}\n\n" if heading else ""


def _read_squad(member: Member, params: QaSource) -> Iterator[Item]:
    value = json_value(member)
    articles = value.get("data") if isinstance(value, dict) else None
    if not isinstance(articles, list):
        raise Unreadable("damaged", "not SQuAD: no list named data")
    yield from _records(_paragraphs(articles), params)


def _paragraphs(articles: list[Any]) -> Iterator[_Paragraph | Item]:
    for number, article in enumerate(articles, 1):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            yield Item(number, problem="an article without paragraphs")
            continue
        for place, paragraph in enumerate(paragraphs, 1):
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(questions, list):
                yield Item(f"{number}/{place}", problem="a paragraph without questions")
            elif not _is_text(paragraph.get("context")):
                yield Item(f"{number}/{place}", problem="a paragraph without context")
            else:
                title = article.get("title")
                yield _Paragraph(title if isinstance(title, str) else "", paragraph["context"], questions)


def _read_rows(member: Member, params: QaSource) -> Iterator[Item]:
    """The rows that data sets of this form have on Hugging Face: id, title, context, question, answers."""
    yield from questions(json_lines(member), params)


def questions(rows: Iterator[JsonRow], params: QaSource) -> Iterator[Item]:
    """The records of such rows, whatever file they are from."""
    yield from _records(_rows(rows), params)


def _rows(rows: Iterator[JsonRow]) -> Iterator[_Paragraph | Item]:
    """Paragraphs of neighbouring rows that have one."""
    paragraph: _Paragraph | None = None
    for row, value, problem in rows:
        if problem or not _is_text(value.get("context")):
            yield Item(row, problem=problem or "a paragraph without context")
            continue
        title = value.get("title")
        new = _Paragraph(title if isinstance(title, str) else "", value["context"], [value])
        if paragraph and (paragraph.title, paragraph.context) == (new.title, new.context):
            paragraph.questions.append(value)
        else:
            if paragraph:
                yield paragraph
            paragraph = new
    if paragraph:
        yield paragraph


def _records(paragraphs: Iterable[_Paragraph | Item], params: QaSource) -> Iterator[Item]:
    """The records of paragraphs, one a question or one each; every part is named once."""
    parts: set[str] = set()
    for paragraph in paragraphs:
        if isinstance(paragraph, Item):
            yield paragraph
            continue
        asked = []
        for value in paragraph.questions:
            question = _question(value, paragraph, params)
            if isinstance(question, _Question) and question.part in parts:
                question = Item(question.part, problem="a second question of this id")
            if isinstance(question, Item):
                yield question
                continue
            parts.add(question.part)
            asked.append(question)
        if params.record == "question":
            yield from (_record(question.part, paragraph, [question]) for question in asked)
        elif asked and paragraph.part in parts:
            yield Item(paragraph.part, problem="a second paragraph of this text")
        elif asked:
            parts.add(paragraph.part)
            yield _record(paragraph.part, paragraph, asked)


@dataclass(frozen=True)
class _Question:
    part: str
    text: str
    answer: str  # as it is written, also where there is none
    spans: tuple[tuple[int, int], ...]  # of all answers, characters [start, stop) of the context
    impossible: bool

    def pieces(self, before: str) -> Pieces:
        """The question with all `before` it, and the answer."""
        return [("user", f"{before}Q: {self.text}"), ("", "\nA: "), ("assistant", self.answer)]


def _question(value: Any, paragraph: _Paragraph, params: QaSource) -> _Question | Item:
    """The question that a value of the file is, or what is wrong with it."""
    if not isinstance(value, dict) or not _is_text(value.get("question")):
        return Item(paragraph.part, problem="a question without text")
    text = clean(value["question"]).strip()
    given = value.get("id")
    part = clean(str(given)) if isinstance(given, (str, int)) and given != "" else _digest(paragraph.context, text)
    answers = _answers(value.get("answers"))
    if answers is None:
        return Item(part, problem="answers without text or start")
    if any(paragraph.context[start : start + len(answer)] != answer for start, answer in answers):
        return Item(part, problem="a span that is not its answer")
    if not answers and value.get("is_impossible") is False:
        return Item(part, problem="no answer, and not said to be unanswerable")
    impossible = value.get("is_impossible") is True or not answers
    if impossible and not params.no_answer.strip():
        return Item(part, problem="unanswerable")
    spans = tuple(sorted({_cleaned(paragraph.context, start, start + len(answer)) for start, answer in answers}))
    answer = clean(params.no_answer).strip() if impossible else clean(answers[0][1]).strip()
    question = _Question(part, text, answer, () if impossible else spans, impossible)
    if hidden_turn(question.pieces(clean(paragraph.begin + paragraph.context) + "\n\n")):
        return Item(part, problem="an answer that cannot be told from its label")
    return question


def _answers(value: Any) -> list[tuple[int, str]] | None:
    """(start in the context, text) of each answer: of SQuAD's list of objects, or the columns of a row."""
    if isinstance(value, dict) and isinstance(value.get("text"), list) and isinstance(value.get("answer_start"), list):
        if len(value["text"]) != len(value["answer_start"]):
            return None
        pairs = list(zip(value["answer_start"], value["text"], strict=True))
    elif isinstance(value, list) and all(isinstance(answer, dict) for answer in value):
        pairs = [(answer.get("answer_start"), answer.get("text")) for answer in value]
    else:
        return [] if value is None else None
    fine = all(type(start) is int and start >= 0 and _is_text(text) for start, text in pairs)
    return pairs if fine else None


def _record(part: str, paragraph: _Paragraph, questions: list[_Question]) -> Item:
    begin = clean(paragraph.begin)
    before = f"{begin}{clean(paragraph.context).rstrip()}\n\n"
    pieces: Pieces = []
    for question in questions:
        pieces += question.pieces(before)
        before = ""
        pieces.append(("", "\n\n"))
    text, turns = written(pieces[:-1])
    meta = {
        "extractor": "squad",
        "questions": [
            {
                "id": question.part,
                "impossible": question.impossible,
                "spans": [[len(begin) + start, len(begin) + stop] for start, stop in question.spans],
            }
            for question in questions
        ],
    }
    return Item(part, text, begin[2:].strip(), origin=paragraph.part, turns=turns, meta=meta)


def _cleaned(context: str, start: int, stop: int) -> tuple[int, int]:
    """The span in the context as it is kept."""
    first = len(clean(context[:start]))
    return first, first + len(clean(context[start:stop]))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


FORMATS: Mapping[str, Read] = {".json": _read_squad, ".jsonl": _read_rows}
