"""What each part of the report shows, read from one artifact: plain values and charts for the template.

Every function gives None when its artifact is not there, and raises RunError naming a file that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmcore.report.charts import Chart, Floats, Series, bar, histogram, line_chart
from lmcore.report.probes import probe_tables
from lmcore.report.view import RunView
from lmcore.report.words import clip, count, duration, listed, percent, plain, short, size
from lmcore.train.journal import for_people
from storage.errors import RunError
from storage.manifest import read_manifest
from storage.parquet import read_parquet

MAX_ROWS = 25  # of one table; the rest is counted
MAX_SAMPLES = 40
SAMPLE_LETTERS = 1500
QUALITY_FILES = 100  # a histogram of more shards would look the same
FETCH_ROWS = 200_000


def headline(view: RunView) -> dict[str, Any] | None:
    """The figure the model is judged by, and what it is held against."""
    if view.evaluate is None:
        return None
    found = _json(view.evaluate / "evaluation.json")
    figures, baselines = found["headline"], sorted(found["baselines"], key=lambda b: float(b["bits_per_byte"]))
    bits, (low, high) = figures["bits_per_byte"], figures["interval"]
    top = max([bits, high, *(b["bits_per_byte"] for b in baselines)]) * 1.04
    rows = [{"name": "this model", "bits": bits, "bar": bar(bits / top, "c1", (low / top, high / top)), "verdict": ""}]
    for b in baselines:
        verdict = "beaten" if b["beaten"] else "not beaten"
        if low <= b["bits_per_byte"] <= high:
            verdict += ", within the interval"
        rows.append(
            {
                "name": b["name"],
                "bits": b["bits_per_byte"],
                "bar": bar(b["bits_per_byte"] / top, "muted" if b["beaten"] else "warn"),
                "verdict": verdict,
                "note": b.get("note", ""),
            }
        )
    shown = ("bits_per_byte", "perplexity", "accuracy", "tokens", "bytes", "documents")
    return {
        "bits": bits,
        "low": low,
        "high": high,
        "figures": {name: figures[name] for name in shown},
        "split": figures["split"],
        "rows": rows,
        "sentence": verdict_sentence(baselines, low, high),
        "splits": [{"name": name, **values} for name, values in found["splits"].items()],
        "groups": _groups(found["groups"]),
        "lossy": found["lossy"],
        "probes": probe_tables(found),
    }


def verdict_sentence(baselines: Sequence[Mapping[str, Any]], low: float, high: float) -> str:
    """One plain sentence: which baselines are beaten and which are not."""
    named = [(f"{b['name']} ({b['bits_per_byte']:.3f})", b) for b in baselines]
    beaten = [name for name, b in named if b["beaten"]]
    others = [name for name, b in named if not b["beaten"]]
    near = [str(b["name"]) for b in baselines if low <= b["bits_per_byte"] <= high]
    chance = f" The difference from {listed(near)} lies within the interval and may be chance." if near else ""
    if not baselines:
        return "It was compared with no baseline."
    if not others:
        text = f"It needs fewer bits than {listed(beaten)}."
    elif not beaten:
        text = f"It does not beat {listed(others)}."
    else:
        text = f"It needs fewer bits than {listed(beaten)}, but does not beat {listed(others)}."
    return text + chance


def learning(view: RunView) -> dict[str, Any] | None:
    """Curves of the training, its figures and its samples."""
    if view.train is None:
        return None
    steps = read_parquet(view.train / "metrics.parquet")
    looks = _provenance(view.train, "validation")
    timings = _provenance(view.train, "timings")
    samples = _provenance(view.train, "samples")
    facts = _json(view.train / "provenance/training.json", missing={})
    plan = _json(view.train / "provenance/plan.json", missing={})
    x = _numbers(steps, "step")
    bits = [Series("training", x, _numbers(steps, "bits_per_byte"), 1)]
    if looks is not None and looks.num_rows:
        bits.append(Series("validation", _numbers(looks, "step"), _numbers(looks, "bits_per_byte"), 2, "dots"))
    charts = [
        line_chart("Bits per byte", bits, "step", "bits per byte", wide=True),
        line_chart("Loss", [Series("loss", x, _numbers(steps, "loss"), 1)], "step", "nats per token"),
        line_chart("Learning rate", [Series("lr", x, _numbers(steps, "lr"), 3)], "step", "rate", from_zero=True),
        line_chart(
            "Gradient norm", [Series("norm", x, _numbers(steps, "grad_norm"), 4)], "step", "norm", from_zero=True
        ),
    ]
    if timings is not None:
        speed = Series("speed", _numbers(timings, "step"), _numbers(timings, "tokens_per_second"), 2)
        charts.append(line_chart("Tokens per second", [speed], "step", "tokens per second", from_zero=True))
    last_look = _numbers(looks, "bits_per_byte")[-1:] if looks is not None else np.empty(0)
    reasons = plan.get("reasons", {})
    chosen = ("device", "processor", "threads", "precision", "attention", "micro_batch", "compile", "allocator")
    return {
        "charts": [chart for chart in charts if chart],
        "steps": steps.num_rows,
        "tokens": int(_numbers(steps, "tokens")[-1]) if steps.num_rows else 0,
        "skipped": int(_numbers(steps, "skipped").sum()),
        "validation": float(last_look[0]) if len(last_look) else None,
        "facts": facts,
        "events": [clip(e.get("text", ""), 200) for e in facts.get("events", []) if for_people(e)][:MAX_ROWS],
        "findings": [
            {name: clip(str(text), 300) for name, text in finding.items()} for finding in facts.get("findings", [])
        ][:MAX_ROWS],
        "plan": [
            (name.replace("_", "-"), plain(plan[name]), reasons.get(name.replace("_", "-"), ""))
            for name in chosen
            if name in plan
        ],
        "curriculum": _json(view.train / "stages.json", missing=None),
        "samples": _samples(samples),
    }


def corpus(view: RunView) -> dict[str, Any] | None:
    """What was collected, what was kept, and why the rest was dropped."""
    if view.curate is None:
        return None
    stats = _json(view.curate / "stats.json")
    sources, rules = stats.get("sources", {}), stats.get("rules", {})
    dropped = {rule: n for rule, n in rules.items() if rule != "kept" and n}
    kept_bytes = {name: s["bytes"] for name, s in sources.items()}
    return {
        "input": stats["input"],
        "kept": stats["kept"],
        "splits": [(name, stats["splits"][name]) for name in ("train", "val", "test") if name in stats["splits"]],
        "dropped": _bars(dropped, count, "c2"),
        "sources": [
            {**row, "kept": f"{count(sources[name]['kept'])} of {count(sources[name]['records'])}" if name else ""}
            for row in _bars(kept_bytes, size, "c1")
            for name in [row["key"]]
        ],
        "languages": _languages(stats.get("languages", {})),
        "gates": stats.get("gates", []),
        "quality": _quality(view.curate),
    }


def fetching(view: RunView) -> dict[str, Any] | None:
    """How the pages and files asked for turned out, and how long they took."""
    logs = [path for folder in view.collect if (path := folder / "provenance/fetch_log.parquet").exists()]
    if not logs:
        return None
    columns = ["outcome", "seconds", "tries"]
    log = pa.concat_tables([read_parquet(path, columns) for path in logs]).slice(0, FETCH_ROWS)
    if not log.num_rows:
        return None
    outcomes: dict[str, int] = {}
    for row in log.group_by("outcome").aggregate([([], "count_all")]).to_pylist():
        outcomes[str(row["outcome"])] = row["count_all"]
    seconds = _numbers(log, "seconds")
    seconds = seconds[np.isfinite(seconds)]
    return {
        "outcomes": _bars(outcomes, count, "c3"),
        "asked": log.num_rows,
        "retried": int((_numbers(log, "tries") > 1).sum()),
        "median": float(np.median(seconds)) if len(seconds) else None,
        "slowest": float(seconds.max()) if len(seconds) else None,
        "agreement": [
            (clip(host, 60), found["pages"], found["f1"], found["lowest"])
            for folder in view.collect
            for host, found in sorted(_json(folder / "stats.json", missing={}).get("agreement", {}).items())
        ][:MAX_ROWS],
    }


def vocabulary(view: RunView) -> dict[str, Any] | None:
    """What the tokenizer is like."""
    if view.tokenizer is None:
        return None
    found = _json(view.tokenizer / "tokenizer_report.json", missing=None)
    if found is None:  # it came with an imported model
        return None
    return {
        **found,
        "longest_tokens": [_token(token) for token in found.get("longest_tokens", [])[:MAX_ROWS]],
        "splits": _json(view.tokens / "meta.json").get("splits", {}) if view.tokens else {},
    }


def ledger(view: RunView) -> dict[str, Any] | None:
    """Where the parameters are."""
    if view.train is None:
        return None
    found = _json(view.train / "ledger.json", missing=None)
    if found is None:
        return None
    total = max(1, found["total"])
    rows = [
        {
            "part": row["part"],
            "shape": " × ".join(f"{n:,}" for n in row["shape"]),
            "parameters": row["parameters"],
            "share": row["parameters"] / total,
        }
        for row in found["rows"][: 4 * MAX_ROWS]
    ]
    groups = {name: n for name, n in found.get("groups", {}).items() if n}
    return {
        "total": found["total"],
        "rows": rows,
        "groups": _bars(groups, short, "c1"),
        "bytes": found.get("bytes", {}),
        "flops": found.get("flops_per_token"),
        "shape": [(name, plain(value)) for name, value in found.get("model", {}).items() if value is not None],
    }


def texts(view: RunView) -> list[dict[str, Any]]:
    """What the finished model writes."""
    if view.evaluate is None:
        return []
    found = _json(view.evaluate / "samples.json", missing=[])
    return [
        {
            "prompt": clip(s["prompt"], 300),
            "text": clip(s["text"], SAMPLE_LETTERS),
            "greedy": s.get("greedy", False),
            "before": clip(s["before"], SAMPLE_LETTERS) if "before" in s else None,
        }
        for s in found[:MAX_SAMPLES]
    ]


def work(view: RunView) -> dict[str, Any]:
    """The steps of the run: time, state, digest."""
    longest = max([row.seconds for row in view.stages] + [1e-9])
    folders = {folder.name: folder for folder in _folders(view)}
    return {
        "rows": [
            {
                "row": row,
                "label": f"{row.stage} {row.name}".strip(),
                "bar": bar(row.seconds / longest, "c1" if row.state == "Completed" else "muted"),
                "time": duration(row.seconds),
                "inputs": _inputs(folders.get(row.key)),
                "metrics": "  ·  ".join(f"{name} {plain(value)}" for name, value in list(row.metrics.items())[:8]),
            }
            for row in view.stages
        ],
        "built": sum(row.state == "Completed" for row in view.stages),
        "reused": sum(row.state == "Reused" for row in view.stages),
    }


def environment(view: RunView) -> list[tuple[str, str]]:
    """Versions and machine, as the newest artifact of the run has them in its manifest."""
    for folder in _folders(view):
        manifest = read_manifest(folder)
        if manifest:
            made = manifest.provenance
            return [*made.code.items(), *made.environment.items()]
    return []


def _folders(view: RunView) -> list[Path]:
    """Folders of the run's artifacts, newest first."""
    folders = [view.export, view.evaluate, view.train, view.tokens, view.tokenizer, view.curate, *view.collect]
    return [folder for folder in folders if folder]


def _inputs(folder: Path | None) -> str:
    """What an artifact was built from, as stage and the first digits of the content digest."""
    manifest = read_manifest(folder) if folder else None
    inputs = manifest.provenance.inputs if manifest else []
    shown = [f"{entry.stage} {entry.digest[:12]}" for entry in inputs[:MAX_ROWS]]
    return ", ".join(shown) + (f" and {len(inputs) - MAX_ROWS} more" if len(inputs) > MAX_ROWS else "")


def releases(view: RunView) -> dict[str, Any] | None:
    """What became of this run's model, and all releases of the recipe, newest first."""
    if view.registry is None or not view.registry.releases:
        return None
    state = view.registry
    rows = [
        {
            "name": f"{view.recipe}@{r.number}",
            "state": "champion"
            if r.number == state.champion
            else "withdrawn"
            if r.number in state.withdrawn
            else "earlier champion"
            if r.promoted
            else "not promoted",
            "this": r.number == view.release,
            "release": r,
        }
        for r in reversed(state.releases)
    ]
    return {"rows": rows[:MAX_ROWS], "more": len(rows[MAX_ROWS:]), "this": next((r for r in rows if r["this"]), None)}


def _json(path: Path, **default: Any) -> Any:
    """What a JSON file holds; `missing` when it is not there, if given."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if "missing" in default:
            return default["missing"]
        raise RunError(f"{path} is missing", _VERIFY) from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}", _VERIFY) from error


_VERIFY = "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them"


def _provenance(train: Path, name: str) -> pa.Table | None:
    path = train / "provenance" / f"{name}.parquet"
    return read_parquet(path) if path.exists() else None


def _numbers(table: pa.Table, column: str) -> Floats:
    return np.asarray(table[column].to_numpy(zero_copy_only=False), dtype=np.float64)


def _bars(values: Mapping[str, float], words: Any, kind: str) -> list[dict[str, Any]]:
    """Rows with a bar each, largest first, as long as a page bears; the rest in one row."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    top = max([n for _, n in ordered] + [1e-12])
    rows = [
        {"key": key, "name": clip(key, 80), "value": words(n), "bar": bar(n / top, kind)}
        for key, n in ordered[:MAX_ROWS]
    ]
    rest = ordered[MAX_ROWS:]
    if rest:
        total = sum(n for _, n in rest)
        more = bar(min(1.0, total / top), "muted")
        rows.append({"key": "", "name": f"{len(rest)} more", "value": words(total), "bar": more})
    return rows


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups that tell something: more than one member."""
    return [
        {"grouping": grouping, "name": clip(name, 80), **figures}
        for grouping, members in groups.items()
        if len(members) > 1
        for name, figures in sorted(members.items(), key=lambda item: -item[1]["bytes"])[:MAX_ROWS]
    ]


def _languages(found: Mapping[str, Any]) -> str:
    """Languages with their numbers of texts, in one line."""
    numbers = {name: n["records"] if isinstance(n, dict) and "records" in n else n for name, n in found.items()}
    return plain([f"{clip(name, 20)} {plain(n)}" for name, n in numbers.items()]) if numbers else ""


def _quality(curate: Path) -> Chart | None:
    files = sorted(path for split in ("train", "val", "test") for path in (curate / split).glob("*.parquet"))
    if not files:
        return None
    column = pa.concat_tables([read_parquet(path, ["quality"]) for path in files[:QUALITY_FILES]])
    return histogram("Quality of the texts kept", _numbers(column, "quality"), 0, 100, 20, "quality score")


def _samples(table: pa.Table | None) -> list[dict[str, Any]]:
    """Samples by prompt, each with what the model wrote as training went on."""
    if table is None:
        return []
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in table.slice(0, MAX_SAMPLES).to_pylist():
        by_prompt.setdefault(row["prompt"], []).append(
            {
                "progress": percent(row["progress"]),
                "step": count(row["step"]),
                "text": clip(row["text"], SAMPLE_LETTERS),
            }
        )
    return [{"prompt": clip(prompt, 300), "rows": rows} for prompt, rows in by_prompt.items()]


def _token(token: Mapping[str, Any]) -> str:
    """A token with its white space made visible."""
    return clip(str(token["text"]).replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥"), 40)
