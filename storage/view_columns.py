"""The columns of every view of the catalog, and which files of which stage the rows of a file view come from."""

# ruff: noqa: SIM905  a list of so many names would be as many lines

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

_TEXT, _WHOLE, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")
_SIGNALS = (
    "n_chars n_words n_lines mean_word_length mean_sentence_words alpha_word_share unique_word_ratio "
    "duplicate_line_share short_line_share punctuation_line_share symbol_share digit_share compression_ratio "
    "top_2_gram_share duplicate_5_gram_share n_sentences n_paragraphs median_word_length max_word_length "
    "hash_word_ratio ellipsis_word_ratio bullet_line_share ellipsis_line_share stop_words stop_word_share "
    "duplicate_line_count_share duplicate_paragraph_count_share duplicate_paragraph_share top_3_gram_share "
    "top_4_gram_share duplicate_6_gram_share duplicate_7_gram_share duplicate_8_gram_share duplicate_9_gram_share "
    "duplicate_10_gram_share newline_word_ratio long_line_count curly_bracket_share lorem_ipsum policy_line_share "
    "upper_word_share upper_letter_share unigram_entropy url_share whitespace_share parenthesis_share latin_share "
    "ethiopic_share cjk_share cyrillic_share other_script_share speaker_line_share timestamp_line_share "
    "question_share code_line_share instruction_share n_turns lang_score expected_share n_emails n_phones n_ips "
    "n_ibans n_cards n_secrets toxic_word_share amharic_chars amharic_spaces amharic_newlines amharic_stops "
    "amharic_words amharic_unique_words amharic_stripped_chars amharic_distinct_chars amharic_ends amharic_complex "
    "amharic_simple"
).split()
_BESIDE = ("boilerplate_share", "template_share", "reference_bits", "classifier_quality")
_TURNS = pa.list_(pa.struct([pa.field("role", _TEXT, nullable=False), pa.field("text", _TEXT, nullable=False)]))


def _columns(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


_DECISION = _columns(
    record_id=_TEXT,
    source=_TEXT,
    url=_TEXT,
    verdict=_TEXT,
    rule=_TEXT,
    value=_REAL,
    threshold=_REAL,
    other=_TEXT,
    split=_TEXT,
)


@dataclass(frozen=True)
class FileView:
    """One kind of Parquet file: which stage leaves it, its name inside the artifact, its columns.

    The columns repeat what the rooms of lmcore write, which storage cannot import; a test keeps them equal. Of measured
    texts the view has all but the texts, which `documents` and `curated` show.
    """

    stage: str
    name: re.Pattern[str]
    columns: pa.Schema
    folder: str | None = None  # what the folder between artifact and file is called as a column

    def dataset(self, root: Path, files: list[str]) -> ds.Dataset | pa.Table:
        """All rows of `files`, lazily: columns and filters are pushed down to the files."""
        schema = pa.schema([("artifact", _TEXT), *([(self.folder, _TEXT)] if self.folder else []), *self.columns])
        if not files:
            return schema.empty_table()
        parts = pa.schema([("stage", _TEXT), ("artifact", _TEXT), (self.folder or "folder", _TEXT)])
        layout = ds.DirectoryPartitioning(parts, segment_encoding="none")
        return ds.dataset(
            files, schema=schema, format="parquet", partitioning=layout, partition_base_dir=os.fspath(root)
        )


FILE_VIEWS = {
    "documents": FileView(
        "collect",
        re.compile(r"documents/[^/]+\.parquet"),
        _columns(
            record_id=_TEXT,
            source=_TEXT,
            url=_TEXT,
            title=_TEXT,
            text=_TEXT,
            kind=_TEXT,
            lang=_TEXT,
            license=_TEXT,
            license_source=_TEXT,
            edition=_TEXT,
            synthetic=_FLAG,
            page_of_origin=_TEXT,
            parent_record=_TEXT,
            tags=pa.map_(_TEXT, _TEXT),
            turns=_TURNS,
            meta=_TEXT,
        ),
    ),
    "fetches": FileView(
        "collect",
        re.compile(r"provenance/fetch_log\.parquet"),
        _columns(
            url=_TEXT,
            final_url=_TEXT,
            status=pa.int32(),
            outcome=_TEXT,
            reason=_TEXT,
            tries=pa.int32(),
            seconds=_REAL,
            bytes=_WHOLE,
            fetched_at=_TEXT,
            etag=_TEXT,
            last_modified=_TEXT,
        ),
    ),
    "removed": FileView("collect", re.compile(r"removed\.parquet"), _columns(record_id=_TEXT, url=_TEXT, reason=_TEXT)),
    "measured": FileView(
        "measure",
        re.compile(r"measured/[^/]+\.parquet"),
        _columns(
            record_id=_TEXT,
            source=_TEXT,
            url=_TEXT,
            title=_TEXT,
            kind=_TEXT,
            license=_TEXT,
            synthetic=_FLAG,
            page_of_origin=_TEXT,
            lang=_TEXT,
            text_id=_TEXT,
            words_hash=_TEXT,
            raw_bytes=_WHOLE,
            n_bytes=_WHOLE,
            lang_found=_TEXT,
            lang_top=pa.map_(_TEXT, _REAL),
            **dict.fromkeys(_SIGNALS, _REAL),
        ),
    ),
    "pairs": FileView("compare", re.compile(r"pairs\.parquet"), _columns(a=_TEXT, b=_TEXT, jaccard=_REAL)),
    "beside": FileView(
        "compare",
        re.compile(r"beside\.parquet"),
        _columns(record_id=_TEXT, **dict.fromkeys(_BESIDE, pa.float32())),
    ),
    "curated": FileView(
        "curate",
        re.compile(r"(train|val|test)/[^/]+\.parquet"),
        _columns(
            record_id=_TEXT,
            text_id=_TEXT,
            text=_TEXT,
            n_bytes=_WHOLE,
            source=_TEXT,
            url=_TEXT,
            title=_TEXT,
            kind=_TEXT,
            lang=_TEXT,
            license=_TEXT,
            synthetic=_FLAG,
            page_of_origin=_TEXT,
            turns=_TURNS,
            quality=_REAL,
            complexity=_REAL,
            cluster_id=_TEXT,
            cluster_size=_WHOLE,
            repeats=_WHOLE,
        ),
        folder="split",
    ),
    "decisions": FileView("curate", re.compile(r"decisions\.parquet"), _DECISION),
    # of corpora that failed their gates, by the folder of their work in place of an artifact
    "unfinished_decisions": FileView(".work", re.compile(r"out/decisions\.parquet"), _DECISION),
    "trips": FileView(
        "curate",
        re.compile(r"trips\.parquet"),
        _columns(
            rule=_TEXT,
            lang=_TEXT,
            kind=_TEXT,
            looked_at=_WHOLE,
            failed=_WHOLE,
            failed_only_here=_WHOLE,
            dropped=_WHOLE,
        ),
    ),
    "contamination": FileView(
        "curate",
        re.compile(r"contamination\.parquet"),
        _columns(set=_TEXT, item=_TEXT, record_id=_TEXT, n_grams=_WHOLE, chars=_WHOLE),
    ),
    "evaluation_sets": FileView("curate", re.compile(r"evaluation_sets\.parquet"), _columns(set=_TEXT, items=_WHOLE)),
    "token_documents": FileView(
        "tokens",
        re.compile(r"(train|val|test)/documents\.parquet"),
        _columns(record_id=_TEXT, n_tokens=_WHOLE, n_bytes=_WHOLE),
        folder="split",
    ),
    "metrics": FileView(
        "train",
        re.compile(r"metrics\.parquet"),
        _columns(
            step=_WHOLE,
            tokens=_WHOLE,
            progress=_REAL,
            loss=_REAL,
            bits_per_byte=_REAL,
            lr=_REAL,
            grad_norm=_REAL,
            skipped=_FLAG,
        ),
    ),
    "scores": FileView(
        "evaluate",
        re.compile(r"documents\.parquet"),
        _columns(record_id=_TEXT, split=_TEXT, n_bytes=_WHOLE, n_tokens=_WHOLE, nll_bits=_REAL),
    ),
}

FIGURES = {
    "bits_per_byte": _REAL,
    "low": _REAL,
    "high": _REAL,
    "perplexity": _REAL,
    "accuracy": _REAL,
    "tokens": _WHOLE,
    "bytes": _WHOLE,
    "documents": _WHOLE,
}

FACT_VIEWS = {
    "artifacts": _columns(
        stage=_TEXT,
        key=_TEXT,
        digest=_TEXT,
        started=_TIME,
        finished=_TIME,
        seconds=_REAL,
        pure=_FLAG,
        stage_version=_WHOLE,
        attempts=_WHOLE,
        host=_TEXT,
        run=_TEXT,
        files=_WHOLE,
        bytes=_WHOLE,
        params=_TEXT,
        metrics=_TEXT,
    ),
    "lineage": _columns(
        stage=_TEXT, key=_TEXT, digest=_TEXT, name=_TEXT, input_stage=_TEXT, input_key=_TEXT, input_digest=_TEXT
    ),
    "corpora": _columns(
        artifact=_TEXT,
        settings=_TEXT,
        batch=_WHOLE,
        records=_WHOLE,
        bytes=_WHOLE,
        kept=_WHOLE,
        kept_bytes=_WHOLE,
        train=_WHOLE,
        val=_WHOLE,
        test=_WHOLE,
    ),
    "evaluations": _columns(artifact=_TEXT, model=_TEXT, split=_TEXT, headline=_FLAG, **FIGURES),
    "evaluation_groups": _columns(artifact=_TEXT, model=_TEXT, split=_TEXT, grouping=_TEXT, name=_TEXT, **FIGURES),
    "baselines": _columns(artifact=_TEXT, model=_TEXT, split=_TEXT, name=_TEXT, bits_per_byte=_REAL, beaten=_FLAG),
    "releases": _columns(
        recipe=_TEXT,
        number=_WHOLE,
        champion=_FLAG,
        promoted=_FLAG,
        withdrawn=_FLAG,
        bits_per_byte=_REAL,
        decided=_TIME,
        reason=_TEXT,
        release_key=_TEXT,
        digest=_TEXT,
        model_key=_TEXT,
        model_digest=_TEXT,
        export_key=_TEXT,
    ),
}

VIEWS = tuple(sorted([*FILE_VIEWS, *FACT_VIEWS]))
