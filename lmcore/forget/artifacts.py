"""How a collected, measured, curated or tokens artifact is rid of records: each function writes the files that change.

All take `(artifact, target)` folders, as `storage.rewrite.rewrite` wants it, and the ids of the records that go. File
names stay, since other editions refer to them, also when no row is left in a file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmcore.collect.editions import REFERENCES, document_files
from lmcore.collect.responses import RESPONSES
from lmcore.documents import FORGOTTEN, SPLITS
from lmcore.forget.texts import spellings
from lmcore.tokens.meta import mask_file, numpy_dtype, read_meta
from lmcore.tokens.roles import pack_mask, unpack_mask
from storage.atomic import write_json
from storage.parquet import read_parquet, write_parquet

Rows = Mapping[str, Mapping[str, Any]]  # texts that go, by record id


def drop_collected(artifact: Path, target: Path, records: set[str], rows: Rows) -> dict[str, Any]:
    """Drop documents and references, their share of stats.json, and note it in the fetch log; gives the new figures."""
    own: set[str] = set()
    for path in document_files(artifact):
        own |= _filtered(path, target / "documents" / path.name, records)
    referred = _filtered(artifact / REFERENCES, target / REFERENCES, records)
    stats = json.loads((artifact / "stats.json").read_text(encoding="utf-8"))
    for name, count in (("records", len(own | referred)), ("new", len(own)), ("unchanged", len(referred))):
        stats[name] -= count
    gone = [rows[record] for record in sorted(own | referred) if "meta" in rows.get(record, {})]
    stats["bytes"] -= sum(len(row["text"].encode()) for row in gone)
    stats["extractors"] = _less(stats["extractors"], [json.loads(row["meta"])["extractor"] for row in gone])
    stats["languages"] = _less(stats["languages"], [row["lang"] for row in gone])
    urls = {row["url"] for row in gone}
    _drop_responses(artifact, target, urls)
    changed = _note_in_log(artifact, target, urls)
    if changed:
        outcomes = _less(stats["outcomes"], ["ok"] * changed)
        stats["outcomes"] = dict(sorted({**outcomes, FORGOTTEN: outcomes.get(FORGOTTEN, 0) + changed}.items()))
    write_json(target / "stats.json", stats)
    return {name: stats[name] for name in ("records", "new", "unchanged", "bytes")}


def drop_measured(artifact: Path, target: Path, records: set[str]) -> dict[str, Any]:
    """Drop measured texts and what near-duplicates of them are found by; gives the new figures."""
    stats = json.loads((artifact / "stats.json").read_text(encoding="utf-8"))
    for path in sorted((artifact / "measured").glob("*.parquet")):
        table = read_parquet(path)
        gone = _is_in(table, records)
        meant = table.filter(gone)
        if not meant.num_rows:
            continue
        stats["records"] -= meant.num_rows
        stats["bytes"] -= int(pc.sum(meant["raw_bytes"]).as_py())
        kept = pc.invert(gone)
        write_parquet(target / "measured" / path.name, table.filter(kept))
        bands = artifact / "bands" / path.name  # row by row like the texts
        write_parquet(target / "bands" / path.name, read_parquet(bands).filter(kept))
    write_json(target / "stats.json", stats)
    return {name: stats[name] for name in ("records", "bytes")}


def drop_curated(artifact: Path, target: Path, records: set[str]) -> dict[str, Any]:
    """Drop texts, say so in their decisions, and take them out of stats.json; gives the new figures.

    The gates stay as they were judged.
    """
    decisions = read_parquet(artifact / "decisions.parquet")
    stats = json.loads((artifact / "stats.json").read_text(encoding="utf-8"))
    quality: list[float] = []
    for split in SPLITS:
        for path in sorted((artifact / split).glob("*.parquet")):
            table = read_parquet(path)
            gone = table.filter(_is_in(table, records))
            kept = table.filter(pc.invert(_is_in(table, records)))
            quality += kept["quality"].to_pylist()
            if not gone.num_rows:
                continue
            write_parquet(target / split / path.name, kept)
            for row in gone.select(["n_bytes", "source", "lang"]).to_pylist():
                places = (stats["splits"][split], stats["kept"])
                for place, name in zip(places, ("documents", "records"), strict=True):
                    place[name] -= 1
                    place["bytes"] -= row["n_bytes"]
                for group in (stats["sources"][row["source"]], stats["languages"][row["lang"]]):
                    group["kept"] -= 1
                    group["bytes"] -= row["n_bytes"]
    meant = decisions.filter(_is_in(decisions, records))
    dropped = [row["rule"] for row in meant.to_pylist() if row["verdict"] == "dropped"]
    stats["rules"] = {rule: n - dropped.count(rule) for rule, n in stats["rules"].items()}
    stats["rules"][FORGOTTEN] = stats["rules"].get(FORGOTTEN, 0) + meant.num_rows
    stats["quality"]["deciles"] = np.round(np.quantile(quality, np.linspace(0, 1, 11)), 2).tolist() if quality else []
    write_json(target / "stats.json", stats)
    write_parquet(target / "decisions.parquet", _forgotten(decisions, records))
    return {
        "kept_documents": stats["kept"]["records"],
        "kept_bytes": stats["kept"]["bytes"],
        **{f"{split}_documents": stats["splits"][split]["documents"] for split in SPLITS},
        "train_bytes": stats["splits"]["train"]["bytes"],
    }


def drop_tokens(artifact: Path, target: Path, records: set[str]) -> dict[str, Any]:
    """Cut the documents out of their shards; offsets, counts and meta.json follow. Gives the new figures."""
    meta = read_meta(artifact)
    dtype = numpy_dtype(meta.dtype)
    splits = dict(meta.splits)
    for split, facts in meta.splits.items():
        table = read_parquet(artifact / split / "documents.parquet")
        gone = np.array(_is_in(table, records).to_pylist(), dtype=bool)  # (documents,)
        if not gone.any():
            continue
        shard, offset, length, n_bytes = (
            table[name].to_numpy().astype(np.int64) for name in ("shard", "offset", "n_tokens", "n_bytes")
        )
        lengths = list(facts.shards)
        for number in np.unique(shard[gone]).tolist():
            path = artifact / split / f"{number:05d}.bin"
            kept = np.ones(facts.shards[number], dtype=bool)  # (tokens of the shard,)
            for row in np.flatnonzero(gone & (shard == number)):
                kept[offset[row] : offset[row] + length[row]] = False
            (target / split).mkdir(parents=True, exist_ok=True)
            np.fromfile(path, dtype)[kept].tofile(target / split / path.name)
            if number in facts.masks:
                mask = np.fromfile(mask_file(artifact / split, number), np.uint8)
                (target / split / mask_file(artifact / split, number).name).write_bytes(
                    pack_mask(unpack_mask(mask, 0, len(kept))[kept])
                )
            lengths[number] = int(kept.sum())
        stays = ~gone
        before = np.concatenate(([0], np.cumsum(np.where(stays, length, 0))))[:-1]  # tokens that stay before each
        first = np.concatenate(([0], np.cumsum(lengths)))[shard]  # and before its shard
        place = table.schema.get_field_index("offset")
        left = table.set_column(place, table.schema.field(place), pa.array(before - first)).filter(pa.array(stays))
        write_parquet(target / split / "documents.parquet", left)
        splits[split] = facts.model_copy(
            update={
                "shards": lengths,
                "tokens": sum(lengths),
                "documents": int(stays.sum()),
                "bytes": int(n_bytes[stays].sum()),
            }
        )
    write_json(target / "meta.json", meta.model_copy(update={"splits": splits}).model_dump())
    return {
        **{f"tokens_{split}": facts.tokens for split, facts in splits.items()},
        "documents": sum(facts.documents for facts in splits.values()),
        "bytes": sum(facts.bytes for facts in splits.values()),
    }


def _filtered(path: Path, target: Path, records: set[str]) -> set[str]:
    """Write the file without these records to `target` when it has some; gives those it had."""
    table = read_parquet(path)
    gone = _is_in(table, records)
    found = set(table.filter(gone)["record_id"].to_pylist())
    if found:
        write_parquet(target, table.filter(pc.invert(gone)))
    return found


def _forgotten(decisions: pa.Table, records: set[str]) -> pa.Table:
    meant = _is_in(decisions, records)
    changed = {"verdict": "dropped", "rule": FORGOTTEN, "value": None, "threshold": None, "other": None, "split": None}
    for name, value in changed.items():
        place = decisions.schema.get_field_index(name)
        field = decisions.schema.field(name)
        column = pc.if_else(meant, pa.scalar(value, field.type), decisions[name])
        decisions = decisions.set_column(place, field, column)
    return decisions


def _note_in_log(artifact: Path, target: Path, urls: set[str]) -> int:
    """Give the pages at `urls` the outcome "forgotten" in the fetch log; gives how many there are."""
    name = "provenance/fetch_log.parquet"
    if not (artifact / name).exists():
        return 0
    log = read_parquet(artifact / name)
    meant = pc.and_(pc.is_in(log["final_url"], pa.array(sorted(urls), pa.string())), pc.equal(log["outcome"], "ok"))
    count = int(pc.sum(meant).as_py() or 0)
    if count:
        for column, value in (("outcome", FORGOTTEN), ("reason", ""), ("etag", "")):
            place = log.schema.get_field_index(column)
            log = log.set_column(place, log.schema.field(column), pc.if_else(meant, value, log[column]))
        write_parquet(target / name, log)
    return count


def _drop_responses(artifact: Path, target: Path, urls: set[str]) -> None:
    """Take what servers sent for the pages at `urls` out of the artifact.

    A text that did not come as a page of its own may lie in any answer (of an API, say): then all bodies go, and the
    next edition asks for them again.
    """
    if not urls:
        return
    tables = {path: read_parquet(path) for path in sorted((artifact / RESPONSES).glob("*.parquet"))}
    pages = {
        path: [_names(row) for row in table.select(["url", "final_url"]).to_pylist()] for path, table in tables.items()
    }
    known = set().union(*(names for found in pages.values() for names in found))
    for path, table in tables.items():
        if urls <= known:
            kept = table.filter(pa.array([not names & urls for names in pages[path]], pa.bool_()))
        else:
            kept = table.filter(pc.equal(table["digest"], ""))  # files that were downloaded have no body here
        if kept.num_rows < table.num_rows:
            write_parquet(target / RESPONSES / path.name, kept)


def _names(row: Mapping[str, str]) -> set[str]:
    """Under which names the page of a response is known."""
    return {spelled for name in ("url", "final_url") for spelled in spellings(row[name])}


def _is_in(table: pa.Table, records: set[str]) -> pa.ChunkedArray:
    return pc.is_in(table["record_id"], pa.array(sorted(records), pa.string()))


def _less(counts: dict[str, int], names: list[str]) -> dict[str, int]:
    """`counts` without these; what has become 0 is left out."""
    left = Counter(counts)
    left.subtract(names)
    return {name: n for name, n in sorted(left.items()) if n > 0}
