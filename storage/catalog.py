"""A store as SQL: DuckDB over every artifact, for questions only.

Any SELECT may be asked and nothing can be changed, read from elsewhere or written anywhere. Four things see to that,
each enough by itself for most attempts:

1. DuckDB is given no file at all: the views are Arrow datasets over exactly the files the manifests name, so external
   access is off without exception (`COPY`, `ATTACH`, `read_csv`, `INSTALL`, ... have nothing to act on).
2. Only one statement is run, and only if its parse tree holds nothing but queries. The kind of statement is not
   enough: `WITH x AS (COPY ...) SELECT ...` is a SELECT to DuckDB 2.0 and writes a file.
3. It runs in a read-only transaction, which is rolled back.
4. The configuration is locked, extensions are not loaded, Python variables are not visible.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage.errors import RunError, UserError
from storage.store import Store
from storage.views import VIEWS, read_store

_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_EXPLAIN = re.compile(r"\s*explain\s+(?:analyze\s+)?(?P<query>.*)", re.IGNORECASE | re.DOTALL)
_READ_ONLY = "only one SELECT, EXPLAIN, DESCRIBE, SUMMARIZE or SHOW is run, and it cannot write anything"
_HELP = "`show tables` lists the views, `describe VIEW` the columns of one"

# Newest decision first; a page that was collected but never curated, or never fetched well, has a row of its own.
_WHY = """
WITH named AS (
    SELECT DISTINCT record_id FROM documents WHERE url IN (SELECT unnest($names))
), hits AS (
    SELECT * FROM decisions
    WHERE record_id IN (FROM named) OR url IN (SELECT unnest($names))
        OR (url IN (SELECT unnest($shown)) AND NOT EXISTS (FROM named))
        OR record_id = $what OR ($prefix AND starts_with(record_id, $what))
), pages AS (
    SELECT artifact, record_id, source, url, title, edition FROM documents
    WHERE url IN (SELECT unnest($names)) OR record_id IN (SELECT record_id FROM hits)
        OR record_id = $what OR ($prefix AND starts_with(record_id, $what))
), page AS (
    SELECT record_id, any_value(title) AS title, string_agg(DISTINCT edition, ', ' ORDER BY edition) AS edition
    FROM pages GROUP BY record_id
), others AS (
    SELECT record_id, any_value(url) AS url FROM decisions
    WHERE record_id IN (SELECT other FROM hits WHERE other IS NOT NULL) GROUP BY record_id
), items AS (
    SELECT artifact, record_id, any_value(url) AS url FROM decisions
    WHERE record_id IN (SELECT item FROM contamination WHERE record_id IN (SELECT record_id FROM hits)) GROUP BY ALL
), overlap AS (
    SELECT hit.artifact, hit.record_id, list(struct_pack("set" := hit."set", item := hit.item, url := items.url,
        n_grams := hit.n_grams, chars := hit.chars) ORDER BY hit.chars DESC, hit."set", hit.item) AS overlaps
    FROM contamination hit LEFT JOIN items ON items.artifact = hit.artifact AND items.record_id = hit.item
    WHERE hit.record_id IN (SELECT record_id FROM hits) GROUP BY ALL
), version AS (
    SELECT made.key, string_agg(DISTINCT concat(part.stage, ' ', part.stage_version), ', ') AS versions
    FROM lineage made JOIN artifacts part ON (part.stage = made.input_stage AND part.key = made.input_key)
        OR (part.stage = 'curate' AND part.key = made.key)
    WHERE made.stage = 'curate' AND made.key IN (SELECT artifact FROM hits)
        AND part.stage IN ('measure', 'compare', 'curate') AND (part.stage <> 'curate' OR part.key = made.key)
    GROUP BY made.key
)
SELECT 1 AS rank, made.started, 'curate' AS stage, hits.artifact, hits.record_id, hits.source, hits.url, page.title,
    page.edition, hits.verdict, hits.rule, NULL AS reason, hits.value, hits.threshold, hits.other,
    others.url AS other_url, hits.split,
    CASE WHEN hits.rule IN ('exact_duplicate', 'near_duplicate', 'held_out_duplicate') THEN hits.value END AS jaccard,
    overlap.overlaps, array_to_string(list_sort(string_split(version.versions, ', ')), ', ') AS versions
FROM hits
    LEFT JOIN page USING (record_id)
    LEFT JOIN others ON others.record_id = hits.other
    LEFT JOIN overlap ON overlap.artifact = hits.artifact AND overlap.record_id = hits.record_id
    LEFT JOIN version ON version.key = hits.artifact
    LEFT JOIN artifacts made ON made.stage = 'curate' AND made.key = hits.artifact
UNION ALL
SELECT 2, made.started, 'collect', pages.artifact, record_id, source, url, title, edition, 'collected',
    'not curated yet', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM pages LEFT JOIN artifacts made ON made.stage = 'collect' AND made.key = pages.artifact
WHERE record_id NOT IN (SELECT record_id FROM hits)
UNION ALL
SELECT 3, made.started, 'collect', fetches.artifact, NULL, NULL, url, NULL, NULL, 'not collected', outcome, reason,
    nullif(status, 0), NULL, NULL, nullif(final_url, url), NULL, NULL, NULL, NULL
FROM fetches LEFT JOIN artifacts made ON made.stage = 'collect' AND made.key = fetches.artifact
WHERE url IN (SELECT unnest($asked)) AND NOT EXISTS (FROM hits) AND NOT EXISTS (FROM pages)
ORDER BY rank, started DESC NULLS LAST, artifact, record_id
"""

# Which URLs may be shown as the one that is asked for: of these nothing but the personal data is another.
_ALIKE = """
SELECT url FROM (SELECT url FROM documents UNION SELECT url FROM fetches)
WHERE starts_with(url, $before) AND ends_with(url, $after) ORDER BY url
"""
_NAMES = """
SELECT unnest($asked) AS url UNION
SELECT final_url FROM fetches WHERE url IN (SELECT unnest($asked)) AND outcome IN ('ok', 'duplicate')
"""
_NEAREST = """
SELECT url FROM (SELECT url FROM decisions UNION SELECT url FROM documents UNION SELECT url FROM fetches)
ORDER BY jaro_winkler_similarity(url, $what) DESC, url LIMIT 1
"""


class Catalog:
    """A look at a store as it is now: artifacts published later need a new Catalog.

    `left_out` has a line for every damaged artifact or file that the views do not show.
    """

    def __init__(self, store: Store) -> None:
        contents = read_store(store)
        self.root = store.root
        self.left_out = tuple(contents.left_out)
        # DuckDB makes this folder when it has to spill, and removes it.
        spill = Path(tempfile.gettempdir()) / f"collect-train-sql-{uuid.uuid4().hex}"
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
                "temp_directory": str(spill),
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        for name, rows in contents.views.items():
            self._connection.register(name, rows)
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def query(self, sql: str) -> pa.Table:
        """The answer to one question.

        Raises UserError with DuckDB's reason for a query that is wrong or is more than a question, RunError when a
        file cannot be read or memory does not suffice.
        """
        self._check(sql)
        return _plain_integers(self._run(sql, {}))

    def why(self, url_or_record: str, shown: Callable[[str], str] = str) -> list[dict[str, Any]]:
        """What became of a page, newest decision first, by URL, record id or the first 8 or more digits of one.

        Decisions have URLs without personal data. `shown` gives a URL as it stands there, so that a page is found by
        its true URL too, and every page that may be meant by one as it is shown.

        Columns: started, stage, artifact, record_id, source, url, title, edition, verdict, rule, reason, value,
        threshold, other, other_url, split, jaccard (with the other text, of copies), overlaps (list of set, item, url,
        n_grams, chars: the held-out texts that it has passages of), versions (of the stages behind it). A redirect is
        followed. A page that no curation has seen has verdict "collected"; one whose fetch gave no text "not
        collected", with the outcome as the rule, its reason, and the HTTP status as the value. Raises UserError,
        naming the nearest URL, when nothing is known of it.
        """
        what = url_or_record.strip()
        prefix = bool(re.fullmatch(r"[0-9a-f]{8,32}", what))
        found = self._why([what], what, prefix, shown)
        if not found:
            asked = self._shown_as(what, shown)
            found = self._why(asked, what, prefix, shown) if asked else []
        if not found:
            near = [row["url"] for row in self._run(_NEAREST, {"what": what}).to_pylist()]
            raise UserError(
                f"the store {self.root} knows no page or record {(what if prefix else shown(what))[:200]!r}",
                f"the nearest is {shown(near[0])}" if near else "collect something first: `collect-train run RECIPE`",
            )
        return found

    def _why(self, asked: list[str], what: str, prefix: bool, shown: Callable[[str], str]) -> list[dict[str, Any]]:
        """The rows of `why` for these true URLs."""
        names = [row["url"] for row in self._run(_NAMES, {"asked": asked}).to_pylist()]
        values: dict[str, Any] = {"what": what, "prefix": prefix, "asked": asked, "names": names}
        values["shown"] = sorted(set(map(shown, names)))
        found: list[dict[str, Any]] = self._run(_WHY, values).drop_columns(["rank"]).to_pylist()
        return found

    def _shown_as(self, what: str, shown: Callable[[str], str]) -> list[str]:
        """The true URLs that are shown as `what`, which has words such as <email> in place of personal data."""
        before, mark, _ = what.partition("<")
        if not mark:
            return []
        values = {"before": before, "after": what.rpartition(">")[2]}
        return [url for url in self._run(_ALIKE, values)["url"].to_pylist() if shown(url) == what]

    def lineage_of(self, digest: str) -> list[dict[str, Any]]:
        """An artifact and everything it was built from, back to the sources, nearest first.

        Columns: depth (0: itself), name (its part in what was built from it), stage, key, digest, present (False:
        gone from the store). Raises UserError for a content digest that is nowhere in the store.
        """
        return self._walk(digest, "up")

    def descendants(self, digest: str) -> list[dict[str, Any]]:
        """An artifact and everything built from it, nearest first; columns and errors as `lineage_of`."""
        return self._walk(digest, "down")

    def _walk(self, digest: str, way: str) -> list[dict[str, Any]]:
        edges: dict[tuple[str, ...], list[tuple[str, tuple[str, str, str]]]] = {}
        present: set[tuple[str, str, str]] = set()
        known: set[tuple[str, str, str]] = set()
        for row in self._run("SELECT stage, key, digest FROM artifacts ORDER BY ALL", {}).to_pylist():
            present.add((row["stage"], row["key"], row["digest"]))
        for row in self._run("SELECT * FROM lineage ORDER BY ALL", {}).to_pylist():
            made = (row["stage"], row["key"], row["digest"])
            used = (row["input_stage"], row["input_key"], row["input_digest"])
            known.add(used)
            if way == "up":
                edges.setdefault(made, []).append((row["name"], used))
            else:
                # By digest alone: what was built from equal bytes was built from this.
                edges.setdefault(used[2:], []).append((row["name"], made))
        pending = [(0, "", node) for node in sorted(present | known) if node[2] == digest]
        if not pending:
            raise UserError(
                f"the store {self.root} has no artifact with content digest {digest[:64]!r}",
                "`select stage, key, digest from artifacts` lists them",
            )
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for depth, name, node in pending:  # grows while it is walked: breadth first
            if node in found:
                continue
            stage, key, content = node
            found[node] = {
                "depth": depth,
                "name": name,
                "stage": stage,
                "key": key,
                "digest": content,
                "present": node in present,
            }
            start = node if way == "up" else node[2:]
            pending += [(depth + 1, part, other) for part, other in edges.get(start, [])]
        return list(found.values())

    def _check(self, sql: str) -> None:
        """Raises UserError unless `sql` is one statement that only asks."""
        explained = _EXPLAIN.fullmatch(sql)
        try:
            row = self._connection.execute(
                "SELECT json_serialize_sql(CAST(? AS VARCHAR))", [explained["query"] if explained else sql]
            ).fetchone()
            assert row is not None
            tree = json.loads(row[0])
        except RecursionError as error:
            raise UserError("the query is nested too deeply", "write it in several WITH steps") from error
        except (duckdb.Error, UnicodeEncodeError, ValueError) as error:
            raise UserError(f"the query cannot be read: {_first_line(error)}", "write it as plain text") from error
        if tree["error"]:
            if tree["error_type"] == "not implemented":
                raise UserError("the query is refused: it is more than a question", _READ_ONLY)
            raise UserError(f"the query is wrong: {tree['error_message'].splitlines()[0]}", _HELP)
        if len(tree["statements"]) != 1:
            raise UserError(f"the query holds {len(tree['statements'])} statements", "ask one question at a time")
        foreign = sorted(set(_node_kinds(tree)) - _QUERIES)
        if foreign:
            kind = foreign[0].removesuffix("_NODE").removesuffix("_QUERY")
            raise UserError(f"the query is refused: it holds a part that is no question ({kind})", _READ_ONLY)

    def _run(self, sql: str, values: dict[str, Any]) -> pa.Table:
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            return self._connection.sql(sql, params=values or None).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise RunError(
                f"the query needs more memory than there is: {_first_line(error)}",
                "ask for fewer columns or rows, or add a LIMIT",
            ) from error
        except duckdb.Error as error:
            raise _told(error) from error
        finally:
            self._connection.execute("ROLLBACK")


def _plain_integers(table: pa.Table) -> pa.Table:
    """DuckDB's sum of integers is a HUGEINT, which Arrow knows as decimal(38, 0): int64 again wherever it fits."""
    for place, column in enumerate(table.schema):
        if column.type == pa.decimal128(38, 0):
            with contextlib.suppress(pa.ArrowInvalid):
                table = table.set_column(place, column.name, table.column(place).cast(pa.int64()))
    return table


def _node_kinds(tree: Any) -> Iterator[str]:
    """The type of every query node of a parse tree. Text in the query cannot be one: types are values of "type"."""
    pending = [tree]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE"):
                yield kind
            pending += part.values()
        elif isinstance(part, list):
            pending += part


def _told(error: duckdb.Error) -> UserError | RunError:
    what = _first_line(error)
    read_failed = re.search(r"reading the stream registered as '?(\w+)'? failed: (.*)", str(error))
    if read_failed or isinstance(error, duckdb.IOException):
        where = f"the view {read_failed[1]} cannot be read: {read_failed[2]}" if read_failed else what
        return RunError(where, "run `collect-train verify`; it sets damaged artifacts aside")
    missing = re.search(r"Table with name (\S+) does not exist", what)
    if missing:
        near = difflib.get_close_matches(missing[1], VIEWS, 1)
        return UserError(
            f"the query is wrong: {what}", f"did you mean {near[0]}?" if near else f"the views are {', '.join(VIEWS)}"
        )
    hint = next((line for line in str(error).splitlines()[1:] if line.startswith(("Candidate", "Did you"))), "")
    return UserError(f"the query is wrong: {what}", f"{hint}; {_HELP}" if hint else _HELP)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
