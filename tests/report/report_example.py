"""A whole run's artifacts, small and made up, in the layouts that the stages write. `text` goes wherever text goes."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from lmcore.documents import CURATED
from lmcore.report import RunView, StageRow
from storage.atomic import write_json
from storage.manifest import FileEntry, Manifest, Provenance, content_digest
from storage.parquet import write_parquet
from storage.registry import Registry
from storage.store import STAGES


def make_view(root, text=lambda plain: plain, steps=900, until="release"):
    """`text` turns every string that comes from outside into what it shall be."""
    done = STAGES[: STAGES.index(until) + 1]
    folders = {stage: root / stage / f"{number:024x}" for number, stage in enumerate(done, 1)}
    for stage, folder in folders.items():
        folder.mkdir(parents=True)
        if stage in MAKERS:
            MAKERS[stage](folder, text, steps)
    rows = [
        StageRow(
            stage=stage,
            key=folder.name,
            digest=f"{number:x}" * 64,
            state="Reused" if number < 3 else "Completed",
            seconds=(61.2, 1.9, 0.3, 2.4, 1.1, 0.8, 121.0, 19.5, 3.0, 0.1)[number - 1],
            metrics={"records": 571, text("note"): text("a note"), "bits_per_byte": 1.791},
            name=text("pydoc") if stage in ("collect", "measure") else "",
        )
        for number, (stage, folder) in enumerate(folders.items(), 1)
    ]
    registry = None
    if "release" in folders:
        book = Registry(root)
        for number, reason in enumerate((text("the first release"), text("1.791 is better than 1.823"), "worse"), 1):
            book.record(
                "quickstart",
                release_key=f"{number}" * 24,
                digest=f"{number}",
                model_key=f"{number}" * 24,
                model_digest="",
                export_key=None,
                bits_per_byte=1.855 - 0.032 * number,
                reason=reason,
            )
            if number < 3:
                book.promote("quickstart", number, expected=number - 1 or None)
        registry = book.read("quickstart")
    held = {stage: folders.get(stage) for stage in ("curate", "tokenizer", "tokens", "train", "evaluate", "export")}
    return RunView(
        recipe="quickstart",
        resolved={
            "name": "quickstart",
            "sources": [{"name": text("pydoc"), "seeds": [text("http://pydoc.localhost/")], "max_pages": 600}],
            "train": {"minutes": 2.0, "prompts": [text("The")]},
        },
        run=text("20260102-030405-ab12"),
        edition=text("2026-01-02"),
        started="2026-01-02T03:04:05+00:00",
        seconds=215.4,
        stages=rows,
        collect=[folders["collect"]],
        registry=registry,
        release=2,
        next_commands=[
            "collect-train chat quickstart",
            f"collect-train why {text('http://pydoc.localhost/json.html')}",
        ],
        **held,
    )


def _collect(folder, text, _):
    n = 600
    rng = np.random.default_rng(1)
    outcomes = ["ok"] * 560 + [text("http_error")] * 25 + ["timeout"] * 10 + [text("too_large")] * 5
    write_parquet(
        folder / "provenance/fetch_log.parquet",
        pa.table(
            {
                "url": [text(f"http://pydoc.localhost/{i}") for i in range(n)],
                "outcome": outcomes,
                "tries": rng.integers(1, 3, n),
                "seconds": rng.gamma(2, 0.03, n),
            }
        ),
    )


def _curate(folder, text, _):
    rng = np.random.default_rng(2)
    quality = np.clip(rng.normal(71, 14, 100), 0, 100)
    for split, part in (("train", quality[:80]), ("val", quality[80:90]), ("test", quality[90:])):
        rows = [_curated_row(f"{split}{i}", float(q), text) for i, q in enumerate(part)]
        write_parquet(folder / split / "00000.parquet", pa.Table.from_pylist(rows, schema=CURATED))
    write_json(
        folder / "stats.json",
        {
            "input": {"records": 571, "bytes": 9_812_344},
            "kept": {"records": 500, "bytes": 8_204_112},
            "splits": {
                "train": {"documents": 400, "bytes": 6_904_112},
                "val": {"documents": 50, "bytes": 650_000},
                "test": {"documents": 50, "bytes": 650_000},
            },
            "rules": {"kept": 500, text("exact_duplicate"): 38, "too_short": 22, "low_quality": 9, text("symbols"): 2},
            "sources": {
                text("pydoc"): {"records": 541, "kept": 480, "bytes": 8_000_000},
                text("notes"): {"records": 30, "kept": 20, "bytes": 204_112},
            },
            "languages": {text("en"): {"records": 571, "kept": 500, "bytes": 8_204_112}},
            "quality": {"deciles": [float(v) for v in np.quantile(quality, np.linspace(0, 1, 11))]},
            "gates": [
                {"name": text("documents"), "value": 500, "limit": 100, "passed": True},
                {"name": "dropped share", "value": 0.12, "limit": 0.1, "passed": False},
            ],
        },
    )


def _curated_row(name, quality, text):
    return {
        "record_id": name,
        "text_id": name,
        "text": text("some text"),
        "n_bytes": 9,
        "source": text("pydoc"),
        "url": text(f"http://pydoc.localhost/{name}"),
        "title": text(name),
        "kind": "prose",
        "lang": "en",
        "license": "PSF-2.0",
        "synthetic": False,
        "page_of_origin": name,
        "turns": None,
        "quality": quality,
        "complexity": 50.0,
        "cluster_id": name,
        "cluster_size": 1,
    }


def _tokenizer(folder, text, _):
    tokens = ["-" * 24, " documentation", " NotImplementedError", "    def __init__(self", " class", "\n\n\n    "]
    write_json(
        folder / "tokenizer_report.json",
        {
            "vocab_size": 4096,
            "requested_vocab_size": 4096,
            "bytes_per_token": {"train": 3.412, "val": 3.287},
            "unused_tokens": 12,
            "longest_tokens": [{"id": i, "bytes": len(t), "text": text(t)} for i, t in enumerate(tokens)],
        },
    )


def _tokens(folder, text, _):
    splits = {
        name: {"shards": [n], "tokens": n, "documents": d, "bytes": b}
        for name, n, d, b in (
            ("train", 2_023_480, 400, 6_904_112),
            ("val", 197_748, 50, 650_000),
            ("test", 199_002, 50, 650_000),
        )
    }
    write_json(folder / "meta.json", {"dtype": "uint16", "vocab_size": 4096, "bos_id": 0, "splits": splits})


def _train(folder, text, steps):
    rng = np.random.default_rng(3)
    step = np.arange(1, steps + 1)
    progress = step / steps
    loss = 3.1 + 5.2 * np.exp(-7 * progress) - 0.5 * progress + rng.normal(0, 0.09, steps)
    lr = 4e-3 * np.minimum(1, np.minimum(step / (0.02 * steps), (1 - progress) / 0.6 + 1e-9))
    bits = loss / math.log(2) / 3.41
    bits[steps // 2] = np.nan
    write_parquet(
        folder / "metrics.parquet",
        pa.table(
            {
                "step": step,
                "tokens": step * 4096,
                "progress": progress,
                "loss": loss,
                "bits_per_byte": bits,
                "lr": lr,
                "grad_norm": np.abs(rng.normal(0.8, 0.2, steps)) + 2 * np.exp(-20 * progress),
                "skipped": step == steps // 2,
            }
        ),
    )
    at = np.linspace(0, 1, 11)
    provenance = folder / "provenance"
    write_parquet(
        provenance / "validation.parquet",
        pa.table(
            {
                "step": (at * steps).astype(np.int64),
                "progress": at,
                "bits_per_byte": 1.36 + 2.2 * np.exp(-7 * at) - 0.2 * at + 0.33,
            }
        ),
    )
    speed = 31_000 + rng.normal(0, 900, steps)
    write_parquet(
        provenance / "timings.parquet", pa.table({"step": step, "seconds": 4096 / speed, "tokens_per_second": speed})
    )
    texts = ["ingfferaiq 3 _ the", " the of in is a object", " returns the object that is called", " file is read"]
    rows = [
        {"step": int(p * steps), "progress": p, "prompt": text(prompt), "text": text(t)}
        for p, t in zip((0.0, 0.25, 0.5, 1.0), texts, strict=True)
        for prompt in ("The", "This is")
    ]
    write_parquet(provenance / "samples.parquet", pa.Table.from_pylist(rows))
    write_json(
        provenance / "training.json",
        {
            "seconds": 120.3,
            "tokens_per_second": 30_912.4,
            "utilisation": 0.472,
            "peak_memory_mib": 812.5,
            "resumes": 1,
            "predicted": {
                "step_seconds": 0.12,
                "tokens_per_second": 34133.3,
                "memory_bytes": 800_000_000,
                "file_bytes": 5_511_680,
                "steps": 1000,
                "seconds": 120.0,
            },
            "measured": {
                "step_seconds": 0.1325,
                "tokens_per_second": 30_912.4,
                "memory_bytes": 851_968_000,
                "file_bytes": 5_513_000,
                "steps": 900,
                "seconds": 120.3,
            },
            "findings": [{"problem": "flat loss", "evidence": text("9.1"), "cause": "lr", "change": text("train.lr")}],
            "events": [{"event": "probe", "text": "x"}, {"event": "resumed", "text": text("resuming at step 412")}],
        },
    )
    write_json(
        provenance / "plan.json",
        {
            "device": "cpu",
            "processor": text("A processor"),
            "threads": 2,
            "precision": "bf16",
            "attention": "plain",
            "micro_batch": 16,
            "compile": False,
            "allocator": "keeps freed memory",
            "reasons": {"precision": text("products: 120 GFLOP/s in fp32, 340 in bf16"), "micro-batch": "fastest"},
        },
    )
    layers = [("attn.qkv", (4, 384, 128)), ("attn.out", (4, 128, 128)), ("mlp.up", (4, 704, 128))]
    ledger = [("embed.weight", (4096, 128)), *((f"blocks.{n}.weight", s) for n, s in layers)]
    rows = [{"part": text(n), "shape": list(s), "parameters": math.prod(s)} for n, s in ledger]
    total = sum(row["parameters"] for row in rows)
    write_json(
        folder / "ledger.json",
        {
            "vocab_size": 4096,
            "model": {"family": "decoder", "n_layers": 4, "d_model": 128, "mlp": text("swiglu"), "head_dim": None},
            "rows": rows,
            "groups": {"embedding": 524_288, "attention": 262_144, "mlp": 360_448, "norms": 0},
            "total": total,
            "bytes": {"float32": 4 * total, "bfloat16": 2 * total},
            "flops_per_token": 7_864_320,
        },
    )
    content = {"metrics.parquet": FileEntry(sha256="0" * 64, size=1)}
    manifest = Manifest(
        stage="train",
        key=folder.name,
        content={"digest": content_digest(content), "files": content},
        provenance=Provenance(
            params={},
            stage_version=1,
            pure=True,
            inputs=[],
            metrics={},
            started="2026-01-02T03:04:05+00:00",
            finished="2026-01-02T03:06:05+00:00",
            seconds=120,
            attempts=1,
            host="h",
            environment={"torch": "2.13", "processor": text("A processor")},
            code={"version": "0.1.0"},
            run="r",
        ),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())


def _figures(bits):
    return {
        "bits_per_byte": bits,
        "interval": [bits - 0.041, bits + 0.043],
        "perplexity": 2 ** (bits * 3.28),
        "accuracy": 0.382,
        "tokens": 199_002,
        "bytes": 650_000,
        "documents": 50,
    }


def _evaluate(folder, text, _):
    write_json(
        folder / "evaluation.json",
        {
            "headline": {"split": "test", **_figures(1.791)},
            "splits": {"test": _figures(1.791), "val": _figures(1.804)},
            "groups": {
                "source": {text("pydoc"): _figures(1.78), text("notes"): _figures(1.99)},
                "lang": {text("en"): _figures(1.791)},
                "kind": {"prose": _figures(1.791)},
            },
            "baselines": [
                {"name": "gzip -9", "bits_per_byte": 2.413, "note": text("32 KB window"), "beaten": True},
                {"name": "xz -9e", "bits_per_byte": 1.906, "note": "", "beaten": True},
                {"name": text("n-gram of 6 bytes"), "bits_per_byte": 1.774, "note": "", "beaten": False},
            ],
            "lossy": False,
        },
    )
    write_json(
        folder / "samples.json",
        [
            {
                "prompt": text("The"),
                "text": text(" module returns a list of the\nmethods of the class."),
                "greedy": True,
            },
            {"prompt": text("import"), "text": text(" os, sys and the functions of the module"), "greedy": False},
        ],
    )


MAKERS = {
    "collect": _collect,
    "curate": _curate,
    "tokenizer": _tokenizer,
    "tokens": _tokens,
    "train": _train,
    "evaluate": _evaluate,
}
