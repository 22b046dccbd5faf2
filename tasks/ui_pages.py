"""What finished artifacts look like in Prefect: collection, corpus, tokenizer, training, evaluation, as tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmcore.curate.privacy import blank
from lmcore.report.charts import Chart, Series, line_chart, standalone
from lmcore.report.corpus_card import Card, make_card, said
from lmcore.report.probes import ProbeTable, probe_tables
from lmcore.report.sections import verdict_sentence
from lmcore.report.words import clip, count, duration, percent, plain, real, short, size
from storage.errors import CollectTrainError, RunError
from storage.manifest import MANIFEST
from storage.parquet import read_parquet
from storage.store import Artifact
from tasks.prefect_ui import Page, this_flow_run
from tasks.progress import say
from tasks.ui_markdown import escaped, fenced, picture, table, wrapped

MAX_ROWS = 25  # of one table
MAX_LOOKS = 12  # of samples on a page, the newest
LETTERS = 600  # of one sample
MAX_EXAMPLES, EXAMPLE_LETTERS = 12, 200  # of dropped texts
CURVE = (960, 320)  # pixels
GOES_ON = "▸"  # between a prompt and what the model makes of it

ABOUT = {  # the pages by name
    "collection": "What a source gave, and what became of everything that was tried",
    "corpus": "What was kept of everything collected, and which rules dropped the rest",
    "vocabulary": "What the tokenizer has learnt",
    "loss-curve": "How the training goes",
    "samples": "What the model writes while it learns",
    "evaluation": "What the model is worth on held-out text",
}

Sample = Mapping[str, Any]  # step, progress (0 to 1), prompt, text
Pages = Callable[[Path, str], None]  # shows the pages of an artifact's folder; the string ends their names


def show_finished(pages: Pages | None, label: str, artifact: Artifact) -> None:
    """Show the pages of a stage's artifact, when it has any, in the run that this thread works for.

    `label` is the step's: the pages of "evaluate champion" are others than those of "evaluate".
    """
    if pages is None or this_flow_run() is None:
        return
    try:
        pages(artifact.local(), label.removeprefix(artifact.stage))
    except CollectTrainError as error:  # the step is done, and its page is only to look at
        say(f"  {label:<26} has no page in Prefect: {error.what}", "yellow")


def samples_parts(samples: Iterable[Sample]) -> list[str]:
    """What a model wrote as it learnt, newest first: a heading and one block for each look."""
    looks: dict[tuple[int, float], list[str]] = {}
    for sample in samples:
        looks.setdefault((sample["step"], sample["progress"]), []).append(_continued(sample))
    newest = list(reversed(looks.items()))[:MAX_LOOKS]
    parts = []
    for (step, progress), texts in newest:
        parts += [f"### After step {count(step)} ({percent(progress)})", *map(fenced, texts)]
    return [f"What the model makes of the recipe's prompts; it goes on after {GOES_ON}.", *parts]


def curve(steps: Iterable[float], bits: Iterable[float], looks: Iterable[tuple[float, float]]) -> str:
    """The loss curve as a picture, in bits per byte; empty when there is nothing to draw."""
    seen = np.array(list(looks), dtype=np.float64).reshape(-1, 2)  # (n, 2): step, bits per byte
    series = [
        Series("training", np.fromiter(steps, np.float64), np.fromiter(bits, np.float64), 1),
        Series("validation", seen[:, 0], seen[:, 1], 2, "dots"),
    ]
    chart: Chart | None = line_chart("Loss in bits per byte", series, "step", "bits per byte", wide=True)
    return picture("loss curve", standalone(chart, *CURVE)) if chart else ""


def show_collection(folder: Path, more: str) -> None:
    """What a source gave, what became of everything that was tried, and the first reason for each way to fail."""
    stats = _json(folder / "stats.json")
    log = read_parquet(folder / "provenance" / "fetch_log.parquet", ["url", "outcome", "reason", "tries"])
    firsts: dict[str, Mapping[str, Any]] = {}
    tries: Counter[str] = Counter()
    for row in log.to_pylist():
        tries[row["outcome"]] += row["tries"]
        if row["reason"]:
            firsts.setdefault(row["outcome"], row)
    ways = sorted(Counter(log["outcome"].to_pylist()).items(), key=lambda item: (item[0] != "ok", -item[1], item[0]))
    facts = [(name, count(stats[name])) for name in ("new", "unchanged", "changed", "removed", "unique")]
    _page("collection", more).show(
        f"{stats['source']}: {count(stats['records'])} texts, {size(stats['bytes'])}",
        table(("texts", ">number"), facts),
        "### What was tried",
        table(
            ("outcome", ">number", ">requests", "the first reason", "of"),
            [(way, count(n), count(tries[way]), *_first(firsts.get(way))) for way, n in ways],
        ),
        "### Languages",
        table(("language", ">texts"), [(clip(name, 60), count(n)) for name, n in stats["languages"].items()]),
        "### Two extractors" if stats.get("agreement") else "",
        table(
            ("host", ">pages compared", ">agreement (F1)", ">lowest"),
            [
                (clip(host, 80), count(found["pages"]), real(found["f1"], 3), real(found["lowest"], 3))
                for host, found in list(stats.get("agreement", {}).items())[:MAX_ROWS]
            ],
        ),
    )


def _first(row: Mapping[str, Any] | None) -> tuple[str, str]:
    return (clip(blank(row["reason"]), 120), clip(blank(row["url"]), 120)) if row else ("", "")


def show_corpus(folder: Path, more: str) -> None:
    """What was kept of everything collected, and which rules dropped the rest."""
    stats = _json(folder / "stats.json")
    had, kept = stats["input"]["records"], stats["kept"]["records"]
    dropped = sorted(((n, rule) for rule, n in stats["rules"].items() if n and rule != "kept"), reverse=True)
    headings = (">texts", ">kept", ">share kept", ">size kept")
    card = _card(folder)
    _page("corpus", more).show(
        f"{count(kept)} of {count(had)} texts kept, {size(stats['kept']['bytes'])}",
        *(_card_parts(card, "counts", "tokens") if card else ()),
        table(
            ("split", ">texts", ">size"),
            [(name, count(n["documents"]), size(n["bytes"])) for name, n in stats["splits"].items()],
        ),
        "### Dropped" if dropped else "",
        table(("by the rule", ">texts", ">share"), [(rule, count(n), percent(n / had, 1)) for n, rule in dropped]),
        "### Sources",
        table(("source", *headings), _groups(stats["sources"])),
        "### Languages",
        table(("language", *headings), _groups(stats["languages"])),
        "### Gates",
        table(
            ("gate", ">value", ">limit", "passed"),
            [(g["name"], short(g["value"]), short(g["limit"]), _yes(g["passed"])) for g in stats["gates"]],
        ),
        *(_card_parts(card, "by-kind", "by-license", "duplicates", "overlaps", "contaminated") if card else ()),
        *(_example_parts(card) if card else ()),
    )


def _card(folder: Path) -> Card | None:
    """The corpus card of a finished artifact, which alone is in the catalog of its store."""
    if not (folder / MANIFEST).exists():
        return None
    return make_card(Artifact(folder.parent.name, folder.name, str(folder.parent.parent)))


def _card_parts(card: Card, *names: str) -> list[str]:
    """Some answers of the card as tables: one row as figures below each other, more as they are."""
    parts = []
    for name in names:
        answer = card.answers[name]
        columns = answer.query.columns
        if name in ("counts", "tokens", "duplicates", "contaminated"):
            rows = [(c.heading, said(answer.rows[0][c.name], c)) for c in columns] if answer.rows else []
            if name == "counts":  # the shares have one heading, and stand beside their counts
                shares = dict(zip(("different", "non_template", "kept"), rows[4:7], strict=True))
                rows = [
                    (c.heading, f"{row[1]} ({shares[c.name][1]})" if c.name in shares else row[1])
                    for c, row in zip(columns, rows, strict=True)
                    if c.show != "percent"
                ]
            shown = table(("figure", ">number"), rows)
        else:
            headings = [c.heading if c.show in ("text", "ours") else f">{c.heading}" for c in columns]
            shown = table(headings, [[said(row[c.name], c) for c in columns] for row in answer.rows[:MAX_ROWS]])
        parts += [f"### {escaped(answer.query.title)}", shown] if shown else []
    return parts


def _example_parts(card: Card) -> list[str]:
    """The first text of each rule that dropped some, its personal data masked."""
    seen: set[str] = set()
    parts = []
    for row in card.answers["examples"].rows:
        if row["rule"] not in seen and len(seen) < MAX_EXAMPLES:
            seen.add(row["rule"])
            told = f"measured {plain(row['value'])}, limit {plain(row['threshold'])}: {blank(row['url'])}"
            text = clip(card.texts.get(row["record_id"], ""), EXAMPLE_LETTERS)
            parts += [f"{escaped(row['rule'])} {escaped(told)}", fenced(wrapped(text))]
    return ["### Examples of what was dropped", *parts] if parts else []


def _page(name: str, more: str) -> Page:
    return Page(name + more, ABOUT[name], say)


def _groups(groups: Mapping[str, Mapping[str, int]]) -> list[tuple[str, ...]]:
    ordered = sorted(groups.items(), key=lambda item: (-item[1]["bytes"], item[0]))
    rows: list[tuple[str, ...]] = [
        (clip(name, 60), count(n["records"]), count(n["kept"]), percent(n["kept"] / n["records"]), size(n["bytes"]))
        for name, n in ordered[:MAX_ROWS]
    ]
    return [*rows, (f"{len(ordered) - MAX_ROWS} more", "", "", "", "")] if len(ordered) > MAX_ROWS else rows


def show_tokenizer(folder: Path, more: str) -> None:
    """The vocabulary."""
    found = _json(folder / "tokenizer_report.json")
    asked = found["requested_vocab_size"]
    facts = [("tokens", count(found["vocab_size"])), ("asked for", count(asked))]
    facts += [(f"bytes per token, {split}", real(n, 3)) for split, n in found["bytes_per_token"].items()]
    facts += [("tokens that the training text does not use", count(found["unused_tokens"]))]
    longest = [clip(_visible(token["text"]), 80) for token in found["longest_tokens"][:MAX_ROWS]]
    _page("vocabulary", more).show(
        f"A vocabulary of {count(found['vocab_size'])} tokens",
        table(("figure", ">value"), facts),
        "### Its longest tokens",
        fenced("\n".join(longest)),
    )


def show_training(folder: Path, more: str) -> None:
    """The loss curve and the samples of a training that has ended."""
    steps = read_parquet(folder / "metrics.parquet", ["step", "bits_per_byte"])
    looks = read_parquet(folder / "provenance/validation.parquet", ["step", "bits_per_byte"]).to_pydict()
    samples = read_parquet(folder / "provenance/samples.parquet").to_pylist()
    made = _json(folder / "provenance/training.json")
    facts = [
        ("steps", count(made.get("steps"))),
        ("tokens", count(made.get("tokens"))),
        ("loss at the end", f"{real(made.get('loss'))} nats per token"),
        ("bits per byte at the end", real(made.get("bits_per_byte"))),
        ("on validation text", real(made.get("val_bits_per_byte"))),
        ("time", duration(made.get("seconds"))),
        ("tokens per second", count(made.get("tokens_per_second"))),
        ("share of this machine's peak", percent(made.get("utilisation"))),
        ("times resumed", count(made.get("resumes"))),
        ("steps skipped", count(made.get("skipped_steps"))),
    ]
    _page("loss-curve", more).show(
        f"Trained: {real(made.get('bits_per_byte'))} bits per byte",
        table(("figure", ">value"), facts),
        picture=curve(
            steps["step"].to_numpy(),
            steps["bits_per_byte"].to_numpy(),
            zip(looks["step"], looks["bits_per_byte"], strict=True),
        ),
    )
    if samples:
        _page("samples", more).show("What it writes while it learns", *samples_parts(samples))


def show_evaluation(folder: Path, more: str) -> None:
    """What a model is worth on held-out text, beside the baselines."""
    found, texts = _json(folder / "evaluation.json"), _json(folder / "samples.json")
    figures, baselines = found["headline"], sorted(found["baselines"], key=lambda b: float(b["bits_per_byte"]))
    low, high = figures["interval"]
    who = [(real(b["bits_per_byte"]), b["name"], "beaten" if b["beaten"] else "not beaten") for b in baselines]
    mine = (real(figures["bits_per_byte"]), "this model", f"95 % interval {real(low)} to {real(high)}")
    headings = (">bits per byte", ">perplexity", ">accuracy", ">documents", ">size")
    sources = found["groups"].get("source", {})
    written = [_continued(sample) for sample in texts if not sample["greedy"]]
    _page("evaluation", more).show(
        f"{real(figures['bits_per_byte'])} bits per byte on held-out text ({figures['split']})",
        escaped(verdict_sentence(baselines, low, high)),
        table(
            (">bits per byte", "who", "compared"), sorted([mine, *who], key=lambda row: float(row[0].replace(",", "")))
        ),
        "### Splits",
        table(("split", *headings), [(name, *_figures(values)) for name, values in found["splits"].items()]),
        "### Sources" if len(sources) > 1 else "",
        table(("source", *headings), [(clip(n, 60), *_figures(v)) for n, v in sources.items()][:MAX_ROWS])
        if len(sources) > 1
        else "",
        *(part for probe in probe_tables(found) for part in _probe_parts(probe)),
        f"### What it writes after {GOES_ON}" if written else "",
        *map(fenced, written[:MAX_LOOKS]),
    )


def _probe_parts(found: ProbeTable) -> tuple[str, ...]:
    return f"### {escaped(found.title)}", escaped(found.note), table(found.headings, found.rows)


def _continued(sample: Sample) -> str:
    after = f"{clip(sample['prompt'], LETTERS)} {GOES_ON} {clip(sample['text'], LETTERS)}"
    before = f"\n\nbefore training {GOES_ON} {clip(sample['before'], LETTERS)}" if "before" in sample else ""
    return wrapped(f"{after}{before}")


def _figures(values: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        real(values["bits_per_byte"]),
        real(values["perplexity"], 1),
        percent(values["accuracy"], 1),
        count(values["documents"]),
        size(values["bytes"]),
    )


def _visible(token: str) -> str:
    """A token with its white space made visible."""
    return token.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}", "run `collect-train verify`, then the recipe again") from error
