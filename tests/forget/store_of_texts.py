"""A whole store made in a second: real collections, corpora, vocabularies and token shards; models are stand-ins."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from lmcore.collect.editions import referred_records
from lmcore.collect.params import CollectRuntime, FilesSource
from lmcore.collect.source import collect
from lmcore.curate.compare import compare_measured
from lmcore.curate.measure import measure_collected
from lmcore.curate.params import (
    CompareParams,
    CompareRuntime,
    CurateParams,
    CurateRuntime,
    MeasureParams,
    MeasureRuntime,
)
from lmcore.curate.stage import curate
from lmcore.forget.texts import forgotten_in
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.manifest import InputEntry, Provenance
from storage.parquet import write_parquet
from storage.registry import Registry
from storage.store import Store
from tasks.curate import parts_of

ROOT = Path(__file__).parents[2]
CURATE = CurateParams.model_validate(
    {
        "split": {"val": 0.2, "test": 0.2},
        "gates": {
            "min_documents": 0,
            "min_train_bytes": 0,
            "min_unique_word_ratio": 0,
            "min_val_documents": 0,
            "min_test_documents": 0,
        },
    }
)
TOKENIZER = TokenizerParams(vocab_size=300, cap=True)
TOKENS = TokensParams(shard_tokens=2048)
_FIRST = ("am", "bir", "ced", "del", "em", "fro", "gro", "hav", "in", "jas", "kel", "lar", "mea", "nor", "och", "per")
_LAST = ("ber", "ch", "ar", "ta", "ble", "st", "ve", "en", "let", "per", "ow", "ket", "dow", "th", "re", "ly")
WORDS = [first + last for first in _FIRST for last in _LAST]
LINKS = (" of the", " and", " in", ",", " to", " with a")


def sentence(number: int, place: int) -> str:
    """A sentence that no other text has."""
    draw = random.Random(f"{number} {place}")
    words = " ".join(draw.choice(WORDS) + draw.choice(LINKS) for _ in range(9))
    return f"{words.capitalize()} the end {number}."


def text_of(number: int) -> str:
    """A text of a page, long enough for every rule of curation; no two share a passage."""
    return "\n".join(sentence(number, place) for place in range(6 + number % 4))


def write_texts(folder: Path, numbers, **more: str) -> Path:
    """One file a text: 03.txt holds text 3; `more` are further files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:02d}.txt").write_text(text_of(number))
    for name, text in more.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def made(store: Store, stage: str, inputs: dict, params, build, **facts):
    """The artifact of this stage, built as a step builds it unless it is there."""
    values = params if isinstance(params, dict) else params.key_values()
    lists = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
    digests = {
        name: [a.digest for a in value] if isinstance(value, list) else value.digest for name, value in inputs.items()
    }
    key = Store.key(stage, 1, values, digests)
    found = store.find(stage, key)
    if found:
        return found
    work = store.work(stage, key)
    (work / "out").mkdir(exist_ok=True)
    build(work)
    given = {
        "params": values,
        "stage_version": 1,
        "pure": stage != "collect",
        "inputs": [
            InputEntry(name=name, stage=a.stage, key=a.key, digest=a.digest) for name, v in lists.items() for a in v
        ],
        "metrics": {},
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:01+00:00",
        "seconds": 1.0,
        "attempts": 1,
        "host": "here",
        "environment": {},
        "code": {},
        "run": "",
    }
    artifact = store.publish(stage, key, work / "out", Provenance.model_validate(given | facts))
    store.clear_work(stage, key)
    return artifact


def collected(store: Store, folder: Path, edition: str, parent=None, name: str = "texts", **facts):
    """An edition of a folder of text files."""
    source = FilesSource(kind="files", name=name, base=str(folder), paths=(".",), lang="en")

    def build(work):
        collect(
            work,
            edition=edition,
            parent=parent and parent.path,
            parent_digest=parent and parent.digest,
            locate=lambda digest: store.by_digest(digest, "collect").path,
            params=source,
            runtime=CollectRuntime(),
            report=silent,
            forgotten=forgotten_in(store.root),
        )

    params = {"edition": edition, "source": source.key_values()}
    return made(store, "collect", {"parent": [parent] if parent else []}, params, build, **facts)


def measured(store: Store, source):
    """What a collection holds itself, measured."""

    def build(work):
        runtime = MeasureRuntime(workers=1)
        forgotten = forgotten_in(store.root)
        measure_collected(
            work, source.path, params=MeasureParams(), runtime=runtime, report=silent, forgotten=forgotten
        )

    return made(store, "measure", {"collected": source}, MeasureParams(), build)


def compared(store: Store, *measures):
    """All texts of some measures beside each other."""

    def build(work):
        folders = [artifact.path for artifact in measures]
        compare_measured(work, folders, [], [], params=CompareParams(), runtime=CompareRuntime(), report=silent)

    return made(store, "compare", {"new": list(measures), "known": [], "earlier": []}, CompareParams(), build)


def corpus(store: Store, *sources, parent=None):
    """A curated corpus, with what it is made of."""
    origins = {source.key: source for source in sources}
    for source in sources:
        for digest in referred_records(source.path):
            origin = store.by_digest(digest, "collect")
            origins.setdefault(origin.key, origin)
    measures = [measured(store, origin) for origin in origins.values()]
    compares = [compared(store, *sorted(measures, key=lambda artifact: artifact.key))]
    about = {"measures": [a.key for a in measures], "compares": [a.key for a in compares]}

    def build(work):
        curate(
            work,
            parts_of(sources, measures),
            [artifact.path for artifact in compares],
            parent and parent.path,
            about={**about, "compared": "", "measured": []},
            params=CURATE,
            runtime=CurateRuntime(),
            report=silent,
            comparing=CompareParams(),
        )

    inputs = {"collected": list(sources), "measures": measures, "compares": compares}
    return made(store, "curate", inputs | ({"parent": [parent]} if parent else {}), CURATE, build)


def vocabulary(store: Store, curated):
    def build(work):
        runtime = TokenizerRuntime(workers=1)
        train_tokenizer(work, curated.path, params=TOKENIZER, runtime=runtime, report=silent)

    return made(store, "tokenizer", {"corpus": curated}, TOKENIZER, build)


def tokens(store: Store, curated, tokenizer):
    def build(work):
        runtime = TokensRuntime(workers=1)
        make_tokens(work, curated.path, tokenizer.path, params=TOKENS, runtime=runtime, report=silent)

    return made(store, "tokens", {"corpus": curated, "tokenizer": tokenizer}, TOKENS, build)


def model(store: Store, shards, tokenizer, name: str, start=None, samples=()):
    """A stand-in for a model: weights of noise, and samples."""

    def build(work):
        out = work / "out"
        (out / "model.safetensors").write_bytes(np.random.default_rng(list(name.encode())).bytes(500))
        (out / "tokenizer.json").write_bytes((tokenizer.path / "tokenizer.json").read_bytes())
        rows = [{"step": n, "progress": 1.0, "prompt": "The", "text": text} for n, text in enumerate(samples)]
        schema = pa.schema(
            [("step", pa.int64()), ("progress", pa.float64()), ("prompt", pa.string()), ("text", pa.string())]
        )
        write_parquet(out / "provenance" / "samples.parquet", pa.Table.from_pylist(rows, schema=schema))

    inputs = {"tokens": shards, "tokenizer": tokenizer} | ({"start": [start]} if start else {})
    return made(store, "train", inputs, {"name": name}, build)


def evaluation(store: Store, trained, curated, samples=()):
    def build(work):
        rows = [{"prompt": "The", "text": text, "greedy": True} for text in samples]
        (work / "out" / "samples.json").write_text(json.dumps(rows, ensure_ascii=True))
        (work / "out" / "evaluation.json").write_text("{}")

    return made(store, "evaluate", {"model": trained, "corpus": curated}, {}, build)


def export(store: Store, trained, judged, continuation=""):
    def build(work):
        probes = [{"prompt": "The", "ids": [0, 5], "greedy": [7, 8, 9], "greedy_text": continuation}]
        (work / "out" / "reference.json").write_text(json.dumps({"prompts": probes}))

    return made(store, "export", {"model": trained, "evaluation": judged}, {}, build)


def released(store: Store, name: str, trained, exported, promote=True):
    """Put a release on record."""
    registry = Registry(store.root)
    release = registry.record(
        name, release_key="r" + trained.key[:8], digest=f"release of {trained.digest}", model_key=trained.key,
        model_digest=trained.digest, export_key=exported.key, bits_per_byte=1.0, reason="a test",
    )  # fmt: skip
    if promote:
        registry.promote(name, release.number, expected=registry.read(name).champion)
    return release


def forget_in_a_process(store: Store, what: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    """`collect-train forget WHAT --yes` with a fault armed."""
    command = [sys.executable, "-m", "flows.cli", "forget", what, "--yes", "--store", str(store.root)]
    environment = os.environ | {"COLLECT_TRAIN_FAULT": fault, "COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def everything_readable(root: Path) -> dict[str, str]:
    """The text of every file of a store: bytes as they are, and every string of Parquet and SQLite files."""
    import sqlite3

    import pyarrow.parquet as pq

    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        told = data.decode("utf-8", "replace")
        if path.suffix == ".parquet":
            told += "\n" + json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False, default=str)
        if data.startswith(b"SQLite format 3"):
            with sqlite3.connect(path) as base:
                told += "\n".join(base.iterdump())
                for (body,) in base.execute("select body from page where length(body) > 0").fetchall():
                    told += _unpacked(body)
        found[str(path.relative_to(root))] = told
    return found


def _unpacked(body: bytes) -> str:
    import zstandard

    return zstandard.decompress(body).decode("utf-8", "replace")
