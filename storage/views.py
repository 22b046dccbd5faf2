"""What the catalog shows: the columns of every view, and where in a store its rows come from.

Two kinds of view. A file view is all Parquet files of one name in all artifacts of one stage, read lazily, with the
artifact's key (and, for the corpus, the split) taken from the path. A fact view is a small table made from the
manifests, the evaluations and the registry.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from storage.errors import RunError
from storage.registry import Registry
from storage.store import Artifact, Store

_TEXT, _WHOLE, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")
_SIGNALS = """
n_chars n_words n_lines mean_word_length mean_sentence_words alpha_word_share unique_word_ratio
duplicate_line_share short_line_share punctuation_line_share symbol_share digit_share compression_ratio
top_2_gram_share duplicate_5_gram_share n_sentences n_paragraphs median_word_length max_word_length
hash_word_ratio ellipsis_word_ratio bullet_line_share ellipsis_line_share stop_words stop_word_share
duplicate_line_count_share duplicate_paragraph_count_share duplicate_paragraph_share top_3_gram_share
top_4_gram_share duplicate_6_gram_share duplicate_7_gram_share duplicate_8_gram_share duplicate_9_gram_share
duplicate_10_gram_share newline_word_ratio long_line_count curly_bracket_share lorem_ipsum policy_line_share
upper_word_share upper_letter_share unigram_entropy url_share whitespace_share parenthesis_share latin_share
ethiopic_share cjk_share cyrillic_share other_script_share speaker_line_share timestamp_line_share
question_share code_line_share instruction_share n_turns lang_score expected_share n_emails n_phones n_ips
n_ibans n_cards n_secrets toxic_word_share amharic_chars amharic_spaces amharic_newlines amharic_stops
amharic_words amharic_unique_words amharic_stripped_chars amharic_distinct_chars amharic_ends amharic_complex
amharic_simple
"""
_TURNS = pa.list_(pa.struct([pa.field("role", _TEXT, nullable=False), pa.field("text", _TEXT, nullable=False)]))


def _columns(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


@dataclass(frozen=True)
class FileView:
    """One kind of Parquet file: which stage leaves it, its name inside the artifact, its columns.

    The columns repeat what the rooms of lmcore write, which storage cannot import; a test keeps them equal. Of measured
    texts the view shows everything but the text, which `documents` and `curated` have.
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
            **dict.fromkeys(_SIGNALS.split(), _REAL),
        ),
    ),
    "pairs": FileView("compare", re.compile(r"pairs\.parquet"), _columns(a=_TEXT, b=_TEXT, jaccard=_REAL)),
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
    "decisions": FileView(
        "curate",
        re.compile(r"decisions\.parquet"),
        _columns(
            record_id=_TEXT,
            source=_TEXT,
            url=_TEXT,
            verdict=_TEXT,
            rule=_TEXT,
            value=_REAL,
            threshold=_REAL,
            other=_TEXT,
            split=_TEXT,
        ),
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

_FIGURES = {
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
    "evaluations": _columns(artifact=_TEXT, model=_TEXT, split=_TEXT, headline=_FLAG, **_FIGURES),
    "evaluation_groups": _columns(artifact=_TEXT, model=_TEXT, split=_TEXT, grouping=_TEXT, name=_TEXT, **_FIGURES),
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


@dataclass
class Contents:
    """Every view of a store, ready to be registered with DuckDB, and a line for each thing left out."""

    views: dict[str, ds.Dataset | pa.Table] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_store(store: Store) -> Contents:
    """Look at every manifest of the store once. Damaged artifacts and files are left out and named."""
    contents = Contents()
    root = store.root.resolve()
    files: dict[str, list[str]] = {name: [] for name in FILE_VIEWS}
    facts: dict[str, list[dict[str, Any]]] = {name: [] for name in FACT_VIEWS}
    for artifact in store.artifacts():
        try:
            facts["artifacts"].append(_artifact(artifact))
            facts["lineage"] += _lineage(artifact)
            if artifact.stage == "evaluate":
                _add_evaluation(artifact, facts)
        except RunError as error:
            contents.left_out.append(f"{artifact.stage}/{artifact.key} is left out: {error.what}")
            continue
        for name, view in FILE_VIEWS.items():
            if view.stage == artifact.stage:
                files[name] += _present(root, artifact, view.name, contents.left_out.append)
    facts["releases"] = list(_releases(Registry(store.root), contents.left_out.append))
    for name, schema in FACT_VIEWS.items():
        contents.views[name] = pa.Table.from_pylist(facts[name], schema=schema)
    for name, view in FILE_VIEWS.items():
        contents.views[name] = view.dataset(root, files[name])
    return contents


def _present(root: Path, artifact: Artifact, name: re.Pattern[str], say: Callable[[str], None]) -> Iterator[str]:
    manifest = artifact.manifest
    for file, entry in sorted((manifest.content.files | manifest.provenance.files).items()):
        if not name.fullmatch(file):
            continue
        path = root / artifact.stage / artifact.key / file
        if path.is_file() and path.stat().st_size == entry.size:
            yield os.fspath(path)
        else:
            say(f"{path} is left out: missing or of another size than its manifest says; run `collect-train verify`")


def _artifact(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    made = manifest.provenance
    return {
        "stage": artifact.stage,
        "key": artifact.key,
        "digest": manifest.content.digest,
        "started": _time(made.started),
        "finished": _time(made.finished),
        "seconds": made.seconds,
        "pure": made.pure,
        "stage_version": made.stage_version,
        "attempts": made.attempts,
        "host": made.host,
        "run": made.run,
        "files": len(manifest.content.files),
        "bytes": sum(entry.size for entry in manifest.content.files.values()),
        "params": _json(made.params),
        "metrics": _json(made.metrics),
    }


def _lineage(artifact: Artifact) -> list[dict[str, Any]]:
    return [
        {
            "stage": artifact.stage,
            "key": artifact.key,
            "digest": artifact.digest,
            "name": entry.name,
            "input_stage": entry.stage,
            "input_key": entry.key,
            "input_digest": entry.digest,
        }
        for entry in artifact.manifest.provenance.inputs
    ]


def _add_evaluation(artifact: Artifact, facts: dict[str, list[dict[str, Any]]]) -> None:
    path = artifact.file("evaluation.json")
    model = next((entry.key for entry in artifact.manifest.provenance.inputs if entry.stage == "train"), None)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        split = found["headline"]["split"]
        of = {"artifact": artifact.key, "model": model}
        wholes = [{**of, "split": n, "headline": n == split, **_figures(f)} for n, f in found["splits"].items()]
        groups = [
            {**of, "split": split, "grouping": grouping, "name": name, **_figures(figures)}
            for grouping, members in found["groups"].items()
            for name, figures in members.items()
        ]
        baselines = [
            {**of, "split": split, **{column: b[column] for column in ("name", "bits_per_byte", "beaten")}}
            for b in found["baselines"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} is not an evaluation ({type(error).__name__}: {error})",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        ) from error
    facts["evaluations"] += wholes
    facts["evaluation_groups"] += groups
    facts["baselines"] += baselines


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    low, high = found.get("interval") or (None, None)
    return {**{name: found.get(name) for name in _FIGURES}, "low": low, "high": high}


def _releases(registry: Registry, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for name in registry.names():
        try:
            state = registry.read(name)
        except RunError as error:
            say(f"the releases of {name} are left out: {error.what}")
            continue
        for release in state.releases:
            yield {
                **{column: getattr(release, column, None) for column in FACT_VIEWS["releases"].names},
                "recipe": name,
                "champion": release.number == state.champion,
                "withdrawn": release.number in state.withdrawn,
                "decided": _time(release.decided),
            }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _time(text: str) -> datetime | None:
    """An instant written as ISO 8601, UTC when it names no zone; None when it is no instant."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
