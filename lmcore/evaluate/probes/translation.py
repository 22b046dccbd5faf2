"""chrF of a model's translations of held-out pairs, each direction by itself (Popović 2015, W15-3049).

The model is asked by chat in the very words of the document (its system message "Translate English to Hungarian." and
the text) and in the form of the documents, so that two models are asked alike, and answers with the likeliest tokens.
chrF is sacrebleu's chrF2: character n-grams of 1 to 6, recall counting twice, over all pairs of the direction at once;
0 to 100, higher is better. `copied` is what the untranslated text would score: languages that share letters have chrF
in common for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, get_args

from lmcore.conversation import Template, label, opening_tag
from lmcore.evaluate.probes.settings import Translation
from lmcore.generate.load import LanguageModel
from lmcore.progress import Report

EXAMPLES = 5  # of each direction


class Pair(NamedTuple):
    """A held-out translation: what the model is told, and what it should answer."""

    direction: str  # the system message: what is asked for
    source: str
    reference: str
    template: Template | None  # how its document is written; None: in none that is known

    @property
    def messages(self) -> list[dict[str, str]]:
        """What the model is told."""
        return [{"role": "system", "content": self.direction}, {"role": "user", "content": self.source}]


def pairs_in(rows: Iterable[Mapping[str, Any]], most: int) -> list[Pair]:
    """The first `most` pairs of each direction among curated documents; those of other kinds are passed over."""
    found: dict[str, list[Pair]] = {}
    for row in rows:
        turns = row["turns"] or []
        if row["kind"] != "pair" or [turn["role"] for turn in turns] != ["system", "user", "assistant"]:
            continue
        task, given, wanted = (turn["text"].strip() for turn in turns)
        of_direction = found.setdefault(task, [])
        if len(of_direction) < most:
            of_direction.append(Pair(task, given, wanted, template_of(row["text"], "system")))
    return [pair for direction in sorted(found) for pair in found[direction]]


def template_of(text: str, role: str) -> Template | None:
    """How a document is written that begins with a turn of `role`; None for one that does not begin so."""
    begins: dict[Template, str] = {"tags": opening_tag(role), "script": f"{label(role)} "}
    return next((template for template in get_args(Template) if text.startswith(begins[template])), None)


def asked_in_form(model: LanguageModel, pairs: Sequence[Pair]) -> LanguageModel:
    """The model, asked in the template that most of the pairs have, when that of all is known; else as it is.

    One that was tuned on chat markers is asked between them all the same: it has learnt to answer there.
    """
    counts = Counter(pair.template for pair in pairs)
    if not pairs or None in counts:
        return model
    return replace(model, template=counts.most_common(1)[0][0])


def translate(model: LanguageModel, pairs: Sequence[Pair], settings: Translation, report: Report) -> dict[str, Any]:
    """chrF of each direction with the pairs it is of, and the first few translations.

    `directions` is empty where the held-out text has no pairs. `form` is how the model was asked: "markers", "tags" or
    "script". Raises UserError as `chat` does.
    """
    model = asked_in_form(model, pairs)
    answers = []
    for number, pair in enumerate(pairs):
        report(number, len(pairs), f"{number:,} of {len(pairs):,} pairs translated")
        answers.append(model.chat(pair.messages, max_tokens=settings.max_tokens, temperature=0.0))
    directions: dict[str, Any] = {}
    for direction in dict.fromkeys(pair.direction for pair in pairs):
        chosen = [(pair, answer) for pair, answer in zip(pairs, answers, strict=True) if pair.direction == direction]
        references = [pair.reference for pair, _ in chosen]
        directions[direction] = {
            "pairs": len(chosen),
            "chrf": chrf([answer for _, answer in chosen], references),
            "copied": chrf([pair.source for pair, _ in chosen], references),
            "exact": sum(answer == pair.reference for pair, answer in chosen) / len(chosen),
            "examples": [
                {"source": pair.source, "reference": pair.reference, "answer": answer}
                for pair, answer in chosen[:EXAMPLES]
            ],
        }
    form = model.form if pairs else None
    return {"form": form, "metric": "chrF2, sacrebleu", "directions": directions}


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 of a corpus, 0 to 100, with one reference an answer."""
    import sacrebleu

    return float(sacrebleu.corpus_chrf(list(answers), [list(references)]).score)
