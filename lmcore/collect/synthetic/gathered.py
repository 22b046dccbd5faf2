"""Synthetic texts as a source: no server is asked, and what was made before a kill is made again."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from lmcore.collect.editions import Locate, load_edition, read_edition
from lmcore.collect.http import Response
from lmcore.collect.records import Record
from lmcore.collect.synthetic.articles import NothingMade, made_of
from lmcore.collect.synthetic.generate import generated
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.progress import Report

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

_EVERY = 1_000  # records between two words on how far it is


class Synthetic:
    """Makes the texts of a source; `articles` are the folders of the editions that `from` names."""

    def __init__(
        self,
        params: SyntheticSource,
        articles: Sequence[Path],
        locate: Locate,
        report: Report,
        forgotten: Forgotten | None,
    ) -> None:
        assert len(articles) == len(params.articles_of), "an edition for each source that is named"
        self._params = params
        self._articles = articles
        self._locate = locate
        self._report = report
        self._forgotten = forgotten
        self._log: list[dict[str, Any]] = []
        self._outcomes: Counter[str] = Counter()

    def run(self) -> None:
        """Nothing is fetched."""

    def close(self) -> None:
        """Nothing is open between calls."""

    def discard(self) -> None:
        """Nothing is kept."""

    def responses(self) -> Iterator[Response]:
        """There are none."""
        return iter(())

    def records(self) -> Iterator[Record]:
        """What is generated, then what is made of articles in the order of (source as named, URL, record)."""
        self._log, self._outcomes = [], Counter()
        params = self._params
        number = params.sentences + params.stories + 2 * (params.translations + params.instructions)
        sections: dict[str, Counter[str]] = {}
        for done, record in enumerate(generated(params, sections)):
            if done % _EVERY == 0:
                self._report(done, number, f"{done:,} of {number:,} texts")
            yield record
        for section, counts in sections.items():
            for outcome, count in sorted(counts.items()):
                reason = "" if outcome == "ok" else f"{count:,} numbers are left out: no new text was found for them"
                self._end(f"synthetic:{params.seed}/{section}", outcome, reason, count)
        for folder in self._articles:
            yield from self._of_articles(folder)

    def log(self) -> Iterator[dict[str, Any]]:
        """One row for each section and outcome, each text made of an article, and each article that gave nothing."""
        yield from self._log

    def counts(self) -> dict[str, Any]:
        """Texts by outcome."""
        return {"outcomes": dict(sorted(self._outcomes.items()))}

    def why_empty(self) -> tuple[str, str]:
        """The outcomes of the articles."""
        counts = [f"{count:,} {outcome}" for outcome, count in sorted(self._outcomes.items())]
        return (
            f"source {self._params.name}: nothing was made of {', '.join(self._params.articles_of)}: "
            + (", ".join(counts) or "no article"),
            "templates are for am, hu and en and for prose with titles; check `lang` and `min_chars`",
        )

    def _of_articles(self, folder: Path) -> Iterator[Record]:
        name = read_edition(folder)["source"]
        table = load_edition(folder, self._locate)
        if self._forgotten:
            table = table.filter(pc.invert(self._forgotten.rows(table)))
        table = table.sort_by([("url", "ascending"), ("record_id", "ascending")])
        done = 0
        for batch in table.to_batches(max_chunksize=_EVERY):
            self._report(done, table.num_rows, f"{name}: {done:,} of {table.num_rows:,} articles")
            for article in batch.to_pylist():
                try:
                    for record in made_of(article, self._params):
                        self._end(record.url, "ok", "", 1, len(record.text.encode()))
                        yield record
                except NothingMade as error:
                    self._end(article["url"], error.outcome, error.reason)
            done += batch.num_rows

    def _end(self, url: str, outcome: str, reason: str, count: int = 1, size: int = 0) -> None:
        self._outcomes[outcome] += count
        self._log.append(
            {
                "url": url,
                "final_url": url,
                "status": 0,
                "outcome": outcome,
                "reason": reason,
                "tries": 1,
                "seconds": 0.0,
                "bytes": size,
                "fetched_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "etag": "",
                "last_modified": "",
            }
        )
