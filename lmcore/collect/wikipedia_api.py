"""Questions to a MediaWiki's api.php, their answers put together (https://www.mediawiki.org/wiki/API:Query).

Every answer is kept by the Fetcher under its URL, so a program over this class can be killed and started again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from lmcore.collect.fetched import Fetcher
from lmcore.collect.http import Response
from lmcore.collect.transport import Answer
from lmcore.collect.wikipedia import Wiki, language, license_of
from lmcore.collect.wikitext import Names
from storage.errors import RunError, UserError

MAX_BYTES = 64 * 1024 * 1024  # of an answer; MediaWiki stops at 8 to 12 MiB ($wgAPIMaxResultSize)
TITLES = 50  # titles or page ids in a question, at most, for anybody without special rights
MAX_QUERY = 5_000  # characters of the titles in a URL: servers refuse longer URLs, often from 8,000 on
MAX_CONTINUED = 1_000  # answers to one question about pages; fifty long pages with thousands of categories need 200
ROWS = 500  # rows of a list in an answer, at most
JSON_TYPES = frozenset({"application/json", "text/json", "text/javascript"})
# Errors that pass (https://www.mediawiki.org/wiki/API:Errors_and_warnings); other internal ones begin alike.
_BUSY = ("maxlag", "ratelimited", "readonly", "internal_api_error", "timeout")
_SITE = {"meta": "siteinfo", "siprop": "general|rightsinfo|namespaces|namespacealiases|extensions"}


def judge(answer: Answer) -> tuple[str, str] | None:
    """What is wrong with an answer of an API: an error in its JSON has status 200."""
    if answer.status // 100 != 2:
        return "api_error", f"status {answer.status}"
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "busy", "the answer is no JSON"
    if not isinstance(value, dict):
        return "busy", "the answer is no JSON object"
    error = value.get("error")
    if error is None:
        return None
    code, info = (str(error.get(name, "")) for name in ("code", "info")) if isinstance(error, dict) else ("", "")
    reason = " ".join("".join(letter if letter.isprintable() else " " for letter in f"{code}: {info}").split())[:200]
    return ("busy" if code.startswith(_BUSY) else "api_error"), reason


class Api:
    """Asks one wiki. What cannot be had raises RunError; the next run asks for it again."""

    def __init__(self, fetcher: Fetcher, url: str, maxlag: int, source: str) -> None:
        self._fetcher = fetcher
        self._source = source
        self._url = url
        self._maxlag = maxlag

    def url(self, question: dict[str, Any]) -> str:
        """The URL of a question."""
        fixed = {"action": "query", "format": "json", "formatversion": 2, "maxlag": self._maxlag}
        return f"{self._url}?{urlencode(sorted({**fixed, **question}.items()))}"

    def site_url(self) -> str:
        """The URL under which the wiki says what it is."""
        return self.url(_SITE)

    def wiki(self) -> tuple[Wiki, dict[str, Any]]:
        """What the wiki says about itself, in our words and in its own. Raises UserError for what is no wiki."""
        (answer,) = self.answers(_SITE)
        found: dict[str, Any] = mapping(answer.get("query"))
        general, rights = mapping(found.get("general")), mapping(found.get("rightsinfo"))
        server, path = general.get("server"), general.get("articlepath")
        if not isinstance(server, str) or not isinstance(path, str) or "$1" not in path:
            raise UserError(
                f"source {self._source}: {self._url} does not answer as a MediaWiki does",
                "open it in a browser with ?action=query&meta=siteinfo; `site` is the URL of its api.php",
            )
        if server.startswith("//"):
            server = f"{urlsplit(self._url).scheme}:{server}"
        named: list[tuple[int, str]] = []
        spaces = found.get("namespaces")
        for space in [*mapping(spaces).values(), *listed(found.get("namespacealiases"))]:
            known = mapping(space)
            if isinstance(known.get("id"), int):
                named += [(known["id"], str(known[key])) for key in ("name", "canonical", "alias") if known.get(key)]
        names = Names.of(named)
        host = urlsplit(server).hostname or ""
        wiki = Wiki(
            lang=language(general.get("lang")),
            license=license_of(str(rights.get("url") or ""), host),
            prefix=server + path.replace("$1", ""),
            names=names,
        )
        return wiki, found

    def answers(self, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers to a question, as many as it takes."""
        ((_, found),) = self.all_answers([question])
        yield from found

    def all_answers(self, questions: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each question with its answers, in order; first answers are asked for side by side."""
        by_url = {self.url(question): question for question in questions}  # equal ones are asked once
        responses = self._fetcher.get_all(list(by_url), types=None)
        for response, question in zip(responses, by_url.values(), strict=True):
            answers = [self._read(response)]
            asked = {response.url}
            while further := answers[-1].get("continue"):
                url = self.url({**question, **mapping(further)})
                if url in asked or not isinstance(further, dict):
                    raise self._error(url, "continues in a circle")
                if len(answers) >= MAX_CONTINUED:
                    raise self._error(url, f"continues more than {MAX_CONTINUED:,} times")
                asked.add(url)
                answers.append(self._read(self._fetcher.get(url, types=None)))
            yield question, answers

    def pages(self, questions: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each question about pages, with what all its answers say of each page put together."""
        for question, answers in self.all_answers(questions):
            merged: dict[Any, dict[str, Any]] = {}
            for page in _all(answers, "pages"):
                known = merged.setdefault(page_id(page) or str(page.get("title")), {})
                for name, value in page.items():
                    if isinstance(value, list) and isinstance(known.get(name), list):
                        known[name] = known[name] + value
                    else:
                        known[name] = value
            yield question, list(merged.values())

    def rows(
        self, name: str, questions: Sequence[dict[str, Any]], limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The rows of a list, of several questions one after the other; not asked for beyond `limit` rows."""
        given = 0
        for question in questions:
            further: dict[str, Any] = {}
            asked: set[str] = set()
            while True:
                url = self.url({**question, **further})
                if url in asked:
                    raise self._error(url, "continues in a circle")
                asked.add(url)
                answer = self._read(self._fetcher.get(url, types=None))
                for row in _all([answer], name):
                    yield row
                    given += 1
                    if limit is not None and given >= limit:
                        return
                further = mapping(answer.get("continue"))
                if not further:
                    break

    def _read(self, response: Response) -> dict[str, Any]:
        if response.outcome != "ok":
            raise self._error(response.url, f"{response.outcome}: {response.reason or response.status}")
        found: dict[str, Any] = json.loads(response.body)
        return found

    def _error(self, url: str, why: str) -> RunError:
        host = urlsplit(self._url).netloc
        mend = (
            "see that the wiki is up and lets you read, and run the same command again; it goes on from what has come"
        )
        if why.startswith("busy: maxlag"):
            mend = "run the same command again later, when the wiki has less to do, or give a larger `maxlag`"
        return RunError(f"source {self._source}: {host} did not answer ({why}) to {url[:300]}", mend)


def batches(ids: Iterable[int]) -> list[str]:
    """Page ids for questions about many pages."""
    found = list(ids)
    return ["|".join(map(str, found[at : at + TITLES])) for at in range(0, len(found), TITLES)]


def title_batches(titles: Iterable[str]) -> list[list[str]]:
    """Titles for questions about many pages, as many as a URL may hold."""
    found: list[list[str]] = []
    size = 0
    for title in dict.fromkeys(titles):
        length = len(urlencode({"": title})) + 3
        if not found or len(found[-1]) == TITLES or size + length > MAX_QUERY:
            found.append([])
            size = 0
        found[-1].append(title)
        size += length
    return found


def _all(answers: Iterable[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    for answer in answers:
        for row in listed(mapping(answer.get("query")).get(name)):
            if isinstance(row, dict):
                yield row


def page_id(row: dict[str, Any]) -> int:
    """The number of a page; 0 for none."""
    number = row.get("pageid", row.get("id"))  # list=random says id
    return number if type(number) is int and 0 < number < 2**63 else 0


def mapping(value: Any) -> dict[str, Any]:
    """A value that is an object, else an empty one: an answer may hold anything."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """A value that is a list, else an empty one."""
    return value if isinstance(value, list) else []


def notes(answers: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """What answers say of titles: `normalized`, `redirects` or `interwiki`."""
    return list(_all(answers, name))
