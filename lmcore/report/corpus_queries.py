"""The queries behind a corpus card: every number on it is one cell of one of their answers.

Each query stands for itself, asks the views of the catalog and looks at one corpus alone: the rows of its curate
artifact, and of the measure and compare artifacts that it was made of.
"""

# ruff: noqa: S608  the only thing written into a query is the key, which is digits and checked

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from lmcore.report.corpus_groups import MAX_ROWS, NON_TEMPLATE, group, made_of, newest_tokens
from lmcore.report.corpus_shapes import Column, Query, Signal

EXAMPLES = 2  # of what a rule dropped


class Queries:
    """The queries about the corpus with this key."""

    def __init__(self, key: str) -> None:
        assert re.fullmatch(r"[0-9a-f]+", key), key  # it is written into the queries
        self.key = key

    def about(self) -> Query:
        """What it is."""
        return Query(
            "about",
            "This corpus",
            f"""SELECT key, digest, strftime(finished, '%Y-%m-%d %H:%M') AS finished, batch
FROM artifacts LEFT JOIN corpora ON corpora.artifact = artifacts.key
WHERE stage = 'curate' AND key = '{self.key}'""",
            (
                Column("key", "key", "ours"),
                Column("digest", "content digest", "ours"),
                Column("finished", "made (UTC)", "ours"),
                Column("batch", "corpora it goes on from", "count"),
            ),
        )

    def counts(self) -> Query:
        """The four counts."""
        return Query(
            "counts",
            "From what was collected to what is kept",
            f"""WITH m AS (
    {self._made_of("measured", "measure", "record_id, words_hash, raw_bytes")}
), b AS (
    {self._made_of("beside", "compare", "record_id, max(template_share) AS template")} GROUP BY record_id
)
SELECT count(*) AS raw,
    count(DISTINCT words_hash) AS different,
    {NON_TEMPLATE},
    count(*) FILTER (verdict = 'kept') AS kept,
    different / raw AS different_share, non_template / raw AS non_template_share, kept / raw AS kept_share,
    coalesce(sum(raw_bytes), 0) AS raw_bytes,
    (SELECT coalesce(sum(n_bytes), 0) FROM curated WHERE artifact = '{self.key}') AS kept_bytes
FROM decisions LEFT JOIN m USING (record_id) LEFT JOIN b USING (record_id)
WHERE artifact = '{self.key}'""",
            (
                Column("raw", "collected", "count"),
                Column("different", "unique", "count"),
                Column("non_template", "unique, no template", "count"),
                Column("kept", "kept", "count"),
                Column("different_share", "of those collected", "percent"),
                Column("non_template_share", "of those collected", "percent"),
                Column("kept_share", "of those collected", "percent"),
                Column("raw_bytes", "of text collected", "size"),
                Column("kept_bytes", "of text kept", "size"),
            ),
            "Unique: texts of different words. No template: of these, texts of which less than half the words stand "
            "in runs of six that ten other texts have, digits apart.",
        )

    def tokens(self) -> Query:
        """Its tokens, of the newest token shards made of it."""
        return Query(
            "tokens",
            "Tokens",
            newest_tokens(
                self.key,
                """made.key,
    coalesce(CAST(metrics->>'tokens_train' AS BIGINT), 0) AS train,
    coalesce(CAST(metrics->>'tokens_val' AS BIGINT), 0) AS val,
    coalesce(CAST(metrics->>'tokens_test' AS BIGINT), 0) AS test,
    train + val + test AS tokens""",
            ),
            (
                Column("tokens", "all", "count"),
                Column("train", "train", "count"),
                Column("val", "val", "count"),
                Column("test", "test", "count"),
                Column("key", "token shards", "ours"),
            ),
        )

    def splits(self) -> Query:
        """Train, val and test."""
        return Query(
            "splits",
            "Splits",
            f"""SELECT split, count(*) AS texts, sum(n_bytes) AS bytes,
    sum(n_bytes) / sum(sum(n_bytes)) OVER () AS share, median(quality) AS quality, median(complexity) AS complexity
FROM curated WHERE artifact = '{self.key}'
GROUP BY split ORDER BY list_position(['train', 'val', 'test'], split)""",
            (
                Column("split", "split", "ours"),
                Column("texts", "texts", "count"),
                Column("bytes", "text", "size"),
                Column("share", "share", "percent", bar=True),
                Column("quality", "median quality", "plain"),
                Column("complexity", "median complexity", "plain"),
            ),
        )

    def dropped(self) -> Query:
        """Why texts were dropped."""
        return Query(
            "dropped",
            "Rules that dropped texts",
            f"""SELECT rule, count(*) AS texts, count(*) / any_value(every) AS share, median(value) AS value,
    min(threshold) AS lowest, max(threshold) AS highest
FROM decisions, (SELECT count(*) AS every FROM decisions WHERE artifact = '{self.key}')
WHERE artifact = '{self.key}' AND verdict = 'dropped' GROUP BY rule ORDER BY texts DESC, rule""",
            (
                Column("rule", "rule", "text"),
                Column("texts", "texts", "count"),
                Column("share", "of those collected", "percent", bar=True),
                Column("value", "median value", "plain"),
                Column("lowest", "limit, lowest", "plain"),
                Column("highest", "limit, highest", "plain"),
            ),
            "The first rule that a text fails names its drop.",
        )

    def examples(self) -> Query:
        """Some texts of each rule, whichever their ids put first."""
        return Query(
            "examples",
            "Examples",
            f"""SELECT rule, value, threshold, url, record_id
FROM decisions WHERE artifact = '{self.key}' AND verdict = 'dropped'
QUALIFY row_number() OVER (PARTITION BY rule ORDER BY record_id) <= {EXAMPLES}
ORDER BY count(*) OVER (PARTITION BY rule) DESC, rule, record_id LIMIT {MAX_ROWS * EXAMPLES}""",
            (
                Column("rule", "rule", "text"),
                Column("value", "value", "plain"),
                Column("threshold", "limit", "plain"),
                Column("url", "address", "text"),
            ),
            "Personal data are masked.",
        )

    def trips(self) -> Query:
        """What each rule would do alone."""
        return Query(
            "trips",
            "What each rule does by itself",
            f"""SELECT rule, sum(looked_at) AS looked_at, sum(failed) AS failed, sum(failed_only_here) AS only_here,
    sum(dropped) AS dropped
FROM trips WHERE artifact = '{self.key}' GROUP BY rule HAVING sum(failed) > 0 ORDER BY failed DESC, rule""",
            (
                Column("rule", "rule", "text"),
                Column("looked_at", "looked at", "count"),
                Column("failed", "fail it", "count"),
                Column("only_here", "fail nothing else", "count"),
                Column("dropped", "named by it", "count"),
            ),
            "A rule that nothing fails alone could be left out and nothing more would be kept.",
        )

    def duplicates(self) -> Query:
        """How many texts are copies."""
        return Query(
            "duplicates",
            "Copies",
            f"""SELECT count(*) FILTER (rule = 'exact_duplicate') AS exact,
    count(*) FILTER (rule = 'near_duplicate') AS near,
    count(*) FILTER (rule IN ('held_out_duplicate', 'held_out_before')) AS held_out,
    (SELECT count(*) FROM ({self._made_of("pairs", "compare", "jaccard")})) AS pairs,
    (SELECT coalesce(max(cluster_size), 0) FROM curated WHERE artifact = '{self.key}') AS largest
FROM decisions WHERE artifact = '{self.key}'""",
            (
                Column("exact", "exact copies dropped", "count"),
                Column("near", "near copies dropped", "count"),
                Column("held_out", "copies of held-out texts dropped", "count"),
                Column("pairs", "pairs of like texts found", "count"),
                Column("largest", "texts in the largest cluster", "count"),
            ),
        )

    def clusters(self) -> Query:
        """How large the clusters are."""
        return Query(
            "clusters",
            "Sizes of clusters",
            f"""SELECT CAST(2 ** floor(log2(greatest(cluster_size, 1))) AS BIGINT) AS least, count(*) AS texts,
    sum(cluster_size) AS members
FROM curated WHERE artifact = '{self.key}' GROUP BY least ORDER BY least""",
            (
                Column("least", "at least so many like texts", "count"),
                Column("texts", "texts kept", "count"),
                Column("members", "with all that are like them", "count"),
            ),
        )

    def repeated(self) -> Query:
        """The texts of most copies."""
        return Query(
            "repeated",
            "Most often found",
            f"""SELECT cluster_size AS times, title, url FROM curated
WHERE artifact = '{self.key}' AND cluster_size > 1 ORDER BY cluster_size DESC, record_id LIMIT 8""",
            (
                Column("times", "times", "count"),
                Column("title", "title", "text"),
                Column("url", "address", "text"),
            ),
        )

    def overlaps(self) -> Query:
        """What training texts share with held-out ones."""
        return Query(
            "overlaps",
            "Held-out texts that training texts overlap with",
            f"""WITH hit AS (
    SELECT "set" AS name, count(DISTINCT item) AS items, count(DISTINCT record_id) AS training,
        sum(n_grams) AS n_grams, sum(chars) AS chars
    FROM contamination WHERE artifact = '{self.key}' GROUP BY name
), asked AS (
    SELECT "set" AS name, items AS every FROM evaluation_sets WHERE artifact = '{self.key}'
), held AS (
    SELECT split AS name, count(*) AS texts FROM curated WHERE artifact = '{self.key}' GROUP BY split
)
SELECT name, coalesce(items, 0) AS items, coalesce(texts, every) AS of_all, of_all - coalesce(items, 0) AS free,
    free / greatest(of_all, 1) AS free_share, coalesce(training, 0) AS training, coalesce(n_grams, 0) AS n_grams,
    coalesce(chars, 0) AS chars
FROM asked FULL JOIN hit USING (name) LEFT JOIN held USING (name) ORDER BY name""",
            (
                Column("name", "set", "text"),
                Column("items", "items hit", "count"),
                Column("of_all", "of", "count"),
                Column("free", "free of overlap", "count"),
                Column("free_share", "share free of it", "percent"),
                Column("training", "training texts", "count"),
                Column("n_grams", "n-grams", "count"),
                Column("chars", "characters", "count"),
            ),
            "The spans were found in training texts before they were cut out of them.",
        )

    def contaminated(self) -> Query:
        """What became of texts that overlap."""
        return Query(
            "contaminated",
            "What became of the training texts",
            f"""SELECT count(*) FILTER (verdict = 'kept') AS cut, count(*) FILTER (verdict <> 'kept') AS dropped
FROM decisions WHERE artifact = '{self.key}'
    AND record_id IN (SELECT record_id FROM contamination WHERE artifact = '{self.key}')""",
            (
                Column("cut", "kept without the spans", "count"),
                Column("dropped", "dropped, too little was left", "count"),
            ),
        )

    def privacy(self) -> Query:
        """Personal data found."""
        what = {
            "e-mail addresses": "n_emails",
            "telephone numbers": "n_phones",
            "internet addresses": "n_ips",
            "bank accounts": "n_ibans",
            "payment cards": "n_cards",
            "keys and passwords": "n_secrets",
        }
        rows = "\nUNION ALL ".join(
            f"SELECT '{name}' AS name, coalesce(sum({signal}), 0)::BIGINT AS found, "
            f"count(*) FILTER ({signal} > 0) AS texts, "
            f"count(*) FILTER ({signal} > 0 AND verdict = 'kept') AS kept FROM t"
            for name, signal in what.items()
        )
        return Query(
            "privacy",
            "Personal data",
            f"""WITH m AS (
    {self._made_of("measured", "measure", ", ".join(["record_id", *what.values()]))}
), t AS (
    SELECT m.*, verdict FROM decisions JOIN m USING (record_id) WHERE artifact = '{self.key}'
)
{rows}""",
            (
                Column("name", "kind", "ours"),
                Column("found", "found", "count"),
                Column("texts", "texts with some", "count"),
                Column("kept", "kept", "count"),
            ),
            "Found when texts were measured; masked there unless the recipe says to keep them.",
        )

    def histogram(self, signal: Signal) -> Query:
        """How many texts, kept and dropped, have how much of a signal."""
        value = f"log10(greatest({signal.name}, 1))" if signal.power else signal.name
        if signal.view == "curated":
            rows = f"SELECT {value} AS x, 'kept' AS verdict FROM curated WHERE artifact = '{self.key}'"
        else:
            stage = "measure" if signal.view == "measured" else "compare"
            rows = (
                f"SELECT {value} AS x, verdict FROM decisions JOIN "
                f"({self._made_of(signal.view, stage, f'record_id, {signal.name}')}) USING (record_id)\n"
                f"    WHERE artifact = '{self.key}'"
            )
        width = (signal.high - signal.low) / signal.bins
        place = f"least({signal.bins - 1}, floor((x - {signal.low}) / {width:.6g}))"
        return Query(
            f"signal-{signal.name}",
            signal.name,
            f"""SELECT CAST(greatest(0, {place}) AS INTEGER) AS bin,
    count(*) FILTER (verdict = 'kept') AS kept, count(*) FILTER (verdict <> 'kept') AS dropped
FROM ({rows}) WHERE NOT isnan(x) GROUP BY bin ORDER BY bin""",
            (Column("kept", "kept", "count"), Column("dropped", "dropped", "count")),
        )

    def likeness(self) -> Query:
        """How like the pairs are."""
        return Query(
            "likeness",
            "Likeness of the pairs",
            f"""SELECT CAST(least(9, floor((jaccard - 0.5) / 0.05)) AS INTEGER) AS bin, count(*) AS pairs
FROM ({self._made_of("pairs", "compare", "jaccard")}) GROUP BY bin ORDER BY bin""",
            (Column("pairs", "pairs", "count"),),
        )

    def tables(self, *, with_tokens: bool) -> Sequence[Query]:
        """Every query but those of histograms; `with_tokens` where token shards were made of the corpus."""

        def by(column: Literal["source", "lang", "kind", "license"], title: str) -> Query:
            return group(self.key, column, title, tokens=with_tokens)

        return (
            self.about(), self.counts(), self.tokens(), self.splits(),
            by("source", "Source"), by("lang", "Language"), by("kind", "Kind"), by("license", "Licence"),
            self.dropped(), self.examples(), self.trips(),
            self.duplicates(), self.clusters(), self.repeated(),
            self.overlaps(), self.contaminated(), self.privacy(),
        )  # fmt: skip

    def _made_of(self, view: str, stage: str, columns: str) -> str:
        return made_of(self.key, view, stage, columns)
