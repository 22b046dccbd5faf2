"""Questions with their best answers, out of the dumps of Stack Exchange (Posts.xml, alone or in its .7z)."""

from __future__ import annotations

import datetime
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element

import zstandard
from pydantic import Field

from lmcore.collect.charset import clean
from lmcore.collect.database import disk_error
from lmcore.collect.items import Item, Read
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.turns import hidden_turn, written
from lmcore.collect.unpack import Member, Unreadable
from lmcore.conversation import Pieces

QUESTION, ANSWER = "1", "2"  # PostTypeId
# https://stackoverflow.com/help/licensing: by the day a text was written, where the dump does not say (before 2020).
_LICENCES = ((datetime.date(2011, 4, 8), "CC-BY-SA-2.5"), (datetime.date(2018, 5, 2), "CC-BY-SA-3.0"))
_NEWEST = "CC-BY-SA-4.0"
_MAX_ID = 2**62
_TOGETHER = 1000  # rows in a transaction
_SCHEMA = """
pragma journal_mode = off;
pragma synchronous = off;
create table question (id integer primary key, accepted integer, facts text not null, body blob not null);
create table answer (question integer not null, id integer not null, score integer not null, facts text not null,
    body blob not null, primary key (question, id)) without rowid;
"""
_BEST = """
select id, score, facts, body from answer where question = :id and (score >= :least or id = :accepted)
order by id = :accepted desc, score desc, id limit :most
"""


class StackexchangeSource(PathsSource):
    """Questions and answers of a dump of Stack Exchange."""

    kind: Literal["stackexchange"] = Field(
        default="stackexchange", description="Questions and answers of a Stack Exchange dump."
    )
    text_kind: TextKind = Field(default="qa", description="What kind of text this is.")
    max_bytes: int = Field(
        default=20_000_000_000,
        ge=1_000,
        le=1_000_000_000_000,
        description="Bytes of one file after decompression, at most.",
    )
    max_answers: int = Field(
        default=1, ge=1, le=1000, description="Answers of a question: the accepted one first, then by score."
    )
    min_score: int = Field(
        default=0, ge=-1000, le=1_000_000, description="Score below which an answer is left out, unless it is accepted."
    )
    min_question_score: int = Field(
        default=0, ge=-1000, le=1_000_000, description="Score below which a question is left out."
    )


@dataclass(frozen=True)
class _Post:
    id: int
    score: int
    licence: str
    owner: str
    title: str
    tags: str
    date: str

    @classmethod
    def of(cls, row: Element) -> _Post:
        """Raises ValueError for a row that is no post."""
        return cls(
            number(row.get("Id"), "Id", least=1),
            number(row.get("Score", "0"), "Score", least=-_MAX_ID),
            licence(row),
            clean(row.get("OwnerUserId") or row.get("OwnerDisplayName") or ""),
            " ".join(clean(row.get("Title") or "").split()),
            row.get("Tags") or "",
            row.get("CreationDate") or "",
        )


def number(value: str | None, name: str, *, least: int) -> int:
    """The value of an attribute. Raises ValueError with what is wrong."""
    try:
        found = int(value or "")
    except ValueError:
        raise ValueError(f"no number in {name}") from None
    if not least <= found <= _MAX_ID:
        raise ValueError(f"no number in {name}")
    return found


def licence(row: Element) -> str:
    """SPDX identifier of a post's licence: its own word, else by its date."""
    said = " ".join((row.get("ContentLicense") or "").upper().replace("-", " ").split())
    if said:
        if not said.startswith("CC BY SA "):
            raise ValueError("a licence that is not known")
        return said.replace(" ", "-")
    try:
        day = datetime.date.fromisoformat((row.get("CreationDate") or "")[:10])
    except ValueError:
        raise ValueError("no licence and no date") from None
    return next((name for until, name in _LICENCES if day < until), _NEWEST)


def _read_posts(member: Member, params: StackexchangeSource) -> Iterator[Item]:
    """Questions ordered by their Id. Answers may stand before their questions: both are put by first."""
    with (
        tempfile.TemporaryDirectory(dir=member.room, prefix="posts-") as folder,
        closing(sqlite3.connect(Path(folder, "posts.sqlite"), isolation_level=None)) as database,
    ):
        try:
            database.executescript(_SCHEMA)
            yield from _put_by(member, database)
            yield from _joined(database, params)
        except sqlite3.OperationalError as error:
            raise disk_error(Path(folder, "posts.sqlite"), error) from error


def _put_by(member: Member, database: sqlite3.Connection) -> Iterator[Item]:
    """Every question and answer into the database; gives, when the file is whole, the rows that are neither."""
    from lmcore.collect.safe_xml import elements

    bad: list[Item] = []
    rows = 0
    database.execute("begin")
    try:
        with open(member.path, "rb") as file:
            for row, element in enumerate(elements(file, "row"), 1):
                rows = row
                try:
                    _put(element, database)
                except ValueError as error:
                    bad.append(Item(row, problem=str(error)))
                if row % _TOGETHER == 0:
                    database.execute("commit")
                    database.execute("begin")
    except OSError as error:
        raise Unreadable.of(error) from error
    database.execute("commit")
    if not rows:
        raise Unreadable("damaged", "no post in it")
    yield from bad


def _put(row: Element, database: sqlite3.Connection) -> None:
    kind = row.get("PostTypeId")
    if kind not in (QUESTION, ANSWER):
        if kind is None:
            raise ValueError("no PostTypeId")
        return  # wikis of tags, notes of moderators
    post = _Post.of(row)
    body = row.get("Body")
    if not body or not body.strip():
        raise ValueError("a post without text")
    facts = "\0".join((post.licence, post.owner, post.title, post.tags, str(post.score), post.date))
    packed = zstandard.compress(body.encode("utf-8", "replace"), 1)
    try:
        if kind == QUESTION:
            accepted = row.get("AcceptedAnswerId")
            values = (post.id, number(accepted, "AcceptedAnswerId", least=1) if accepted else None, facts, packed)
            database.execute("insert into question values (?, ?, ?, ?)", values)
        else:
            of = number(row.get("ParentId"), "ParentId", least=1)
            database.execute("insert into answer values (?, ?, ?, ?, ?)", (of, post.id, post.score, facts, packed))
    except sqlite3.IntegrityError:
        raise ValueError("a second post of this Id") from None


def _joined(database: sqlite3.Connection, params: StackexchangeSource) -> Iterator[Item]:
    for place, accepted, facts, body in database.execute("select * from question order by id"):
        wanted = {"id": place, "accepted": accepted or 0, "least": params.min_score, "most": params.max_answers}
        if int(facts.split("\0")[4]) < params.min_question_score:
            yield Item(place, problem="a question of a low score")
            continue
        answers = database.execute(_BEST, wanted).fetchall()
        if not answers:
            yield Item(place, problem="no answer")
            continue
        yield _record(place, accepted, facts, body, answers)


def _record(place: int, accepted: int | None, facts: str, body: bytes, answers: list[tuple[Any, ...]]) -> Item:
    said, asker, title, tags, score, date = facts.split("\0")
    asked = _text(body)
    licences, owners, meta_answers = {said}, [asker], []
    pieces: Pieces = [("user", f"Q: {title}\n\n{asked}" if title else f"Q: {asked}")]
    for answer, its_score, its_facts, its_body in answers:
        text = _text(its_body)
        if not text:
            continue
        its_licence, owner, *_ = its_facts.split("\0")
        licences.add(its_licence)
        owners.append(owner)
        meta_answers.append({"id": answer, "score": its_score, "accepted": answer == accepted, "owner": owner})
        pieces += [("", "\n\nA: "), ("assistant", text)]
    if not asked or not meta_answers:
        return Item(place, problem="a post without text")
    if hidden_turn(pieces):
        return Item(place, problem="an answer that cannot be told from its label")
    text, turns = written(pieces)
    meta = {"extractor": "stackexchange", "id": place, "score": int(score), "owner": asker, "date": date}
    return Item(
        place,
        text,
        title,
        license=" AND ".join(sorted(licences)),
        tags={"tags": " ".join(tag_names(tags))} if tags else {},
        turns=turns,
        meta=meta | {"answers": meta_answers},
    )


def tag_names(tags: str) -> list[str]:
    """The tags of a question: <a><b> in dumps until 2024, |a|b| since."""
    return clean(tags).replace("<", "|").replace(">", "|").replace("|", " ").split()


def _text(packed: bytes) -> str:
    from lmcore.collect.html_markdown import markdown

    return clean(markdown(zstandard.decompress(packed).decode("utf-8"))).strip()


def _read_other_table(_: Member, __: StackexchangeSource) -> Iterator[Item]:
    raise Unreadable("companion", "a table of the dump that holds no posts")
    yield


FORMATS: Mapping[str, Read] = {
    "posts.xml": _read_posts,
    **{
        f"{name}.xml": _read_other_table
        for name in ("badges", "comments", "posthistory", "postlinks", "tags", "users", "votes")
    },
}
