"""The queries of a corpus card that go by source, language, kind or licence, and what they share with the others."""

# ruff: noqa: S608  the only things written into a query are the key, which is digits, and names of our own

from __future__ import annotations

from typing import Literal

from lmcore.report.corpus_shapes import Column, Query

TEMPLATE = 0.5  # of a text's words, from which on it counts as made from a template
MAX_ROWS = 25  # of one table

NON_TEMPLATE = (
    f"count(DISTINCT words_hash) FILTER (template < {TEMPLATE} OR isnan(template) OR template IS NULL) AS non_template"
)


def made_of(key: str, view: str, stage: str, columns: str) -> str:
    """The rows of a view that the corpus with this key was made of."""
    return (
        f"SELECT {columns} FROM {view} WHERE artifact IN (SELECT input_key FROM lineage\n"
        f"        WHERE stage = 'curate' AND key = '{key}' AND input_stage = '{stage}')"
    )


def newest_tokens(key: str, columns: str) -> str:
    """The newest token shards that were made of the corpus with this key, as `made`."""
    return f"""SELECT {columns}
FROM artifacts made JOIN lineage ON lineage.stage = made.stage AND lineage.key = made.key
WHERE made.stage = 'tokens' AND input_stage = 'curate' AND input_key = '{key}'
ORDER BY finished DESC, made.key LIMIT 1"""


def group(
    key: str, column: Literal["source", "lang", "kind", "license"], title: str, *, tokens: bool, note: str = ""
) -> Query:
    """The four counts by one column of the texts; with `tokens` also how many tokens were made of each."""
    counted, joined, told = "", "", ""
    if tokens:
        counted = f""", t AS (
    SELECT record_id, sum(n_tokens) AS n_tokens FROM token_documents
    WHERE artifact = ({newest_tokens(key, "made.key")})
    GROUP BY record_id
)"""
        joined, told = " LEFT JOIN t USING (record_id)", ",\n    coalesce(sum(n_tokens), 0) AS tokens"
    return Query(
        f"by-{column}",
        title,
        f"""WITH m AS (
    {made_of(key, "measured", "measure", f'record_id, words_hash, "{column}" AS name')}
), b AS (
    {made_of(key, "beside", "compare", "record_id, max(template_share) AS template")} GROUP BY record_id
), c AS (
    SELECT record_id, n_bytes FROM curated WHERE artifact = '{key}'
){counted}
SELECT coalesce(name, 'forgotten') AS name, count(*) AS collected, count(DISTINCT words_hash) AS different,
    {NON_TEMPLATE},
    count(*) FILTER (verdict = 'kept') AS kept, kept / collected AS kept_share, coalesce(sum(n_bytes), 0) AS bytes,
    bytes / greatest(1, sum(sum(n_bytes)) OVER ()) AS share{told}
FROM decisions LEFT JOIN m USING (record_id) LEFT JOIN b USING (record_id) LEFT JOIN c USING (record_id){joined}
WHERE artifact = '{key}' GROUP BY name ORDER BY bytes DESC, collected DESC, name LIMIT {MAX_ROWS}""",
        (
            Column("name", title.lower(), "text"),
            Column("collected", "collected", "count"),
            Column("different", "unique", "count"),
            Column("non_template", "unique, no template", "count"),
            Column("kept", "kept", "count"),
            Column("kept_share", "share kept", "percent"),
            Column("bytes", "text kept", "size"),
            *([Column("tokens", "tokens", "count")] if tokens else []),
            Column("share", "share of the text", "percent", bar=True),
        ),
        note,
    )
