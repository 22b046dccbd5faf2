"""What the further measurements of an evaluation found, as tables for the terminal, Prefect and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lmcore.evaluate.probes.amharic import PARTS
from lmcore.report.words import clip, count, percent, real

Found = Mapping[str, Any]
MAX_ROWS = 25  # of one table
_FORMS = {"markers": "between chat markers", "tags": "in tags", "script": "as a script"}  # lmcore.generate.chat.Form


class ProbeTable(NamedTuple):
    """One measurement; a heading that begins with > is of figures. What is no figure is text from outside."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def probe_tables(evaluation: Found) -> list[ProbeTable]:
    """A table for each measurement in an `evaluation.json`, the model that training started from beside this one."""
    before, probes = evaluation.get("before"), evaluation.get("probes", {})
    earlier = before["probes"] if before else {}
    tables = [_before(evaluation, before)] if before else []
    return tables + [MAKERS[name](probes[name], earlier.get(name)) for name in MAKERS if name in probes]


def _before(evaluation: Found, before: Found) -> ProbeTable:
    now = evaluation["headline"]
    rows = [("all", real(before["bits_per_byte"]), real(now["bits_per_byte"]), _change(before, now))]
    for grouping, members in evaluation["groups"].items():
        if len(members) > 1:
            largest = sorted(members.items(), key=lambda item: (-item[1]["bytes"], item[0]))[:MAX_ROWS]
            for name, figures in largest:
                then = before["groups"][grouping][name]
                rows.append(
                    (
                        f"{grouping}: {clip(name, 60)}",
                        real(then["bits_per_byte"]),
                        real(figures["bits_per_byte"]),
                        _change(then, figures),
                    )
                )
    low, high = before["interval"]
    note = f"Bits per byte of the same held-out texts; 95 % interval of all before {real(low)} to {real(high)}."
    return ProbeTable("Before and after training", ("texts", ">before", ">after", ">change"), rows, note)


def _change(before: Found, now: Found) -> str:
    return f"{now['bits_per_byte'] - before['bits_per_byte']:+.3f}"


def _positions(found: Found, before: Found | None) -> ProbeTable:
    then = {bucket["from"]: bucket for bucket in before["buckets"]} if before else {}
    rows = [
        (
            f"{count(bucket['from'])} to {count(bucket['to'])}",
            real(bucket["loss"]),
            real(bucket["bits_per_byte"]),
            _span(bucket["interval"]),
            *_beside(before, real(then.get(bucket["from"], {}).get("bits_per_byte"))),
        )
        for bucket in found["buckets"]
    ]
    headings = ("positions", ">nats a token", ">bits per byte", ">interval", *_beside(before, ">before"))
    if not rows:
        note = f"No held-out text has {count(found['context'])} tokens, so no window is whole."
    else:
        windows = f"{count(found['windows'])} whole windows of {count(found['documents'])} texts"
        short, end = found["buckets"][0]["to"], found["buckets"][-1]
        gain = (
            f"; of the tokens from {count(end['from'])} on, a byte takes {real(found['gain'])} bits less "
            f"({_span(found['gain_interval'])}) with all before them than with at most {count(short)} tokens"
        )
        note = f"{windows}{gain if found['gain'] is not None else ''}."
    return ProbeTable("Loss by position in the context", headings, rows, note)


def _terms(found: Found, before: Found | None) -> ProbeTable:
    then = {row["term"]: row["recall"] for row in before["frequent"]} if before else {}
    whole = ("all occurrences", count(found["occurrences"]), percent(found["recall"], 1))
    rows = [(*whole, *_beside(before, percent(before["recall"], 1) if before else ""))]
    rows += [
        (
            clip(row["term"], 60),
            count(row["occurrences"]),
            percent(row["recall"], 1),
            *_beside(before, percent(then.get(row["term"]), 1)),
        )
        for row in found["frequent"]
    ]
    note = (
        f"{count(found['terms_found'])} of {count(len(found['terms']))} terms occur; recalled: all tokens of the term "
        f"were the model's first choice. Mean over terms {percent(found['term_recall'], 1)}."
    )
    return ProbeTable("Terms recalled", ("term", ">occurrences", ">recalled", *_beside(before, ">before")), rows, note)


def _dialogue(found: Found, before: Found | None) -> ProbeTable:
    told = {
        "closed_quotes": "quotation marks closed",
        "alternation": "speaker changes from turn to turn",
        "distinct_2": "different word pairs",
        "repeated_3": "word triples repeated",
    }
    rows = [
        (
            words,
            percent(found["model"][name], 1),
            percent(found["corpus"][name], 1),
            *_beside(before, percent(before["model"][name], 1) if before else ""),
        )
        for name, words in told.items()
    ]
    if found["texts"]:
        note = (
            f"Continuations of {count(found['texts'])} held-out texts, beside the texts' own{_length(found, before)}."
        )
    else:
        note = "No held-out text of these kinds is long enough."
    note += _drawn(found.get("sampling", {}))
    return ProbeTable("Dialogue", ("share", ">model", ">corpus", *_beside(before, ">before")), rows, note)


def _length(found: Found, before: Found | None) -> str:
    """An evaluation made before both sides were of one length does not say how long they are."""
    if "tokens" not in found:
        return ""
    then = f"; the model before wrote {count(before['tokens'])}" if before and "tokens" in before else ""
    return f", each cut to the model's length: {count(found['tokens'])} tokens in all{then}"


def _drawn(sampling: Found) -> str:
    """How the model's texts were drawn, and whether that kept them from repeating themselves."""
    if not sampling:
        return ""
    told = ", ".join(f"{name} {value:g}" for name, value in sampling.items())
    against = [name for name in ("repetition_penalty", "no_repeat_ngram") if name in sampling]
    less = f"; {' and '.join(against)} of the sampling changes how much is repeated" if against else ""
    return f" Drawn with {told}{less}."


def _translation(found: Found, before: Found | None) -> ProbeTable:
    rows = [
        (
            clip(direction, 60),
            count(one["pairs"]),
            real(one["chrf"], 1),
            real(one["copied"], 1),
            percent(one["exact"], 1),
            *_beside(before, real(before["directions"][direction]["chrf"], 1) if before else ""),
        )
        for direction, one in found["directions"].items()
    ]
    headings = ("asked for", ">pairs", ">chrF", ">untranslated", ">word for word", *_beside(before, ">before"))
    if not rows:
        return ProbeTable("Translation", headings, rows, "The held-out text has no pairs.")
    then = f"; the model before {_FORMS[before['form']]}" if before and before["form"] != found["form"] else ""
    note = f"{found['metric']}, 0 to 100, greedy by chat. Asked {_FORMS[found['form']]}{then}."
    return ProbeTable("Translation", headings, rows, note)


def _text_scores(found: Found, before: Found | None) -> ProbeTable:
    rows = [
        (
            f"{name.replace('_', ' ')}, {how}",
            percent(score["score"], 1),
            *(percent(score[part]) for part in PARTS),
            *_beside(before, percent(before[name][how]["score"], 1) if before else ""),
        )
        for name, by_how in found.items()
        for how, score in by_how.items()
    ]
    headings = ("continuations", ">score", *(f">{part}" for part in PARTS), *_beside(before, ">before"))
    return ProbeTable("Text score of the continuations", headings, rows)


def _beside(before: Found | None, cell: str) -> tuple[str, ...]:
    return () if before is None else (cell,)


def _span(interval: Sequence[float] | None) -> str:
    return f"{real(interval[0])} to {real(interval[1])}" if interval else "–"


MAKERS: dict[str, Callable[[Found, Found | None], ProbeTable]] = {
    "positions": _positions,
    "terms": _terms,
    "dialogue": _dialogue,
    "translation": _translation,
    "text_scores": _text_scores,
}
