"""A store with a collection, its measure, its comparison, a corpus and its tokens, made in a second by the real stages.

The texts are made so that every part of a corpus card has something to tell: copies, near copies, short and repetitive
texts, templates, personal data, an overlap with an evaluation set, two languages, two licences.
"""

from __future__ import annotations

import json

import pyarrow as pa
from store_words import text_of

from lmcore.collect.editions import own_records
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
from lmcore.curate.records import Part
from lmcore.curate.stage import curate
from lmcore.documents import DOCUMENT, make_table, record_id
from lmcore.progress import silent
from storage.digest import digest_json
from storage.manifest import InputEntry, Provenance
from storage.parquet import read_parquet, write_parquet
from storage.store import Store

EMAIL = "jane.roe@firm-of-hers.com"
GATES = {
    "min_documents": 0,
    "min_train_bytes": 0,
    "min_unique_word_ratio": 0,
    "min_val_documents": 0,
    "min_test_documents": 0,
}


def texts() -> dict[str, str]:
    """Text by name."""
    made = {f"page-{n:02d}": text_of(n) for n in range(40)}
    made["copy-of-03"] = made["page-03"].upper()
    made["copy-of-04"] = made["page-04"]
    made["near-05"] = made["page-05"] + "\nA last line that only this copy has, and nobody else."
    made |= {f"short-{n}": f"Only a few words, number {n}." for n in range(4)}
    made["repetitive"] = "the same again and again\n" * 60
    made["letter"] = text_of(70) + f"\nWrite to {EMAIL} for more of the same."
    made["short-letter"] = f"Ask {EMAIL} or http://x.org/{EMAIL}"
    made |= {
        f"form-{n:02d}": f"This page of the register tells what is on record of entry {n}, as the office has it.\n" * 2
        + f"The entry was made on day {n} of the month and has not been changed since it was made by the office.\n"
        + text_of(100 + n)[:120]
        for n in range(14)
    }
    return made


def documents(given: dict[str, str]) -> list[dict]:
    """DOCUMENT rows."""
    return [
        {
            "record_id": record_id("texts", name, text),
            "source": "notes" if name.startswith("form") else "texts",
            "url": f"http://site.example/{name}" + (f"?by={EMAIL}" if "letter" in name else ""),
            "title": f"About {name}" + (f" by {EMAIL}" if "letter" in name else ""),
            "text": text,
            "kind": "prose",
            "lang": "en",
            "license": "CC0-1.0" if name.endswith("7") else "MIT",
            "license_source": "recipe",
            "edition": "2026-01-02",
            "synthetic": False,
            "page_of_origin": f"http://site.example/{name}",
            "parent_record": None,
            "tags": [],
            "turns": None,
            "meta": "{}",
        }
        for name, text in given.items()
    ]


def publish(store: Store, stage: str, inputs, build, metrics=None, params=None):
    """The artifact that `build(work)` leaves."""
    key = digest_json([stage, [a.key for a in inputs], params])[:24]
    work = store.work(stage, key)
    (work / "out").mkdir()
    build(work)
    provenance = Provenance(
        params=params or {},
        stage_version=1,
        pure=True,
        inputs=[InputEntry(name=a.stage, stage=a.stage, key=a.key, digest=a.digest) for a in inputs],
        metrics=metrics or {},
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:05:05+00:00",
        seconds=60.0,
        attempts=1,
        host="h",
        environment={},
        code={},
        run="r1",
    )
    artifact = store.publish(stage, key, work / "out", provenance)
    store.clear_work(stage, key)
    return artifact


def make_corpus(store: Store, given: dict[str, str], *, name: str = "texts", with_tokens: bool = True, **settings):
    """The curate artifact of these texts; `settings` are of its parameters."""
    rows = documents(given)
    params = CurateParams.model_validate({"split": {"val": 0.15, "test": 0.15}, "gates": GATES} | settings)

    def collect(work):
        write_parquet(work / "out/documents/00000.parquet", make_table(rows, DOCUMENT))

    def measure(work):
        runtime = MeasureRuntime(workers=1)
        measure_collected(work, collected.path, params=MeasureParams(), runtime=runtime, report=silent)

    def compare(work):
        settings = {"params": CompareParams(), "runtime": CompareRuntime(), "report": silent}
        compare_measured(work, [measured.path], [], [], **settings)

    def judge(work):
        curate(
            work,
            [Part.of(measured.path, own_records(collected.path))],
            [compared.path],
            None,
            about={"measures": [measured.key], "compares": [compared.key], "compared": "", "measured": []},
            params=params,
            runtime=CurateRuntime(),
            report=silent,
            comparing=CompareParams(),
        )

    source = {"source": {"name": name, "kind": "files"}, "edition": "2026-01-02"}
    collected = publish(store, "collect", [], collect, params=source)
    measured = publish(store, "measure", [collected], measure)
    compared = publish(store, "compare", [measured], compare)
    corpus = publish(store, "curate", [collected, measured, compared], judge, params=params.key_values())
    if with_tokens:
        counts = {"train": 1234, "val": 56, "test": 78}

        def tokenise(work):
            """So many tokens for all texts of a split, one for each but the first."""
            for split, tokens in counts.items():
                files = (corpus.path / split).glob("*.parquet")
                names = [name for path in sorted(files) for name in read_parquet(path)["record_id"].to_pylist()]
                each = [tokens - len(names) + 1, *[1] * (len(names) - 1)]
                table = pa.table({"record_id": names, "n_tokens": each[: len(names)], "n_bytes": [9] * len(names)})
                write_parquet(work / "out" / split / "documents.parquet", table)

        metrics = {f"tokens_{split}": tokens for split, tokens in counts.items()}
        publish(store, "tokens", [corpus], tokenise, metrics=metrics)
    return corpus


def whole_store(folder) -> tuple[Store, object]:
    """A store with a corpus that has something of everything, and another corpus, of which no card may tell."""
    folder.mkdir(parents=True, exist_ok=True)
    held = folder / "held.jsonl"
    asked = [text_of(7).split("\n")[1] + " " + text_of(7).split("\n")[2], text_of(301), text_of(302)]
    held.write_text("".join(json.dumps({"question": text}) + "\n" for text in asked))
    store = Store(folder / "store")
    contaminate = {"evaluation_sets": [{"name": "quiz", "path": str(held)}]}
    corpus = make_corpus(store, texts(), decontaminate=contaminate)
    other = {f"other-{n}": text_of(200 + n) for n in range(9)} | {"copy": text_of(201), "short": "Too short."}
    make_corpus(store, other | {"page-01": text_of(1)}, name="others")
    return store, corpus
