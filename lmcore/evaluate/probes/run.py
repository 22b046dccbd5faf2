"""The measurements that `evaluate:` asks for, of one model on the headline's held-out texts.

Each is kept in the work folder as soon as it is known, so that a run killed in the middle goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmcore.evaluate.params import EvaluateParams
from lmcore.evaluate.probes.amharic import mean_scores
from lmcore.evaluate.probes.dialogue import compare_dialogue
from lmcore.evaluate.probes.mining import mine
from lmcore.evaluate.probes.positions import by_position
from lmcore.evaluate.probes.terms import recall_terms
from lmcore.evaluate.probes.translation import pairs_in, translate
from lmcore.generate.load import LanguageModel
from lmcore.progress import Report
from storage.atomic import write_json


def terms_of(work: Path, train_files: Sequence[Path], params: EvaluateParams) -> list[str]:
    """The terms that are asked for: those listed, then those mined from the training split."""
    if not params.terms:
        return []
    asked = params.terms
    mined = _kept(
        work / "mined.json",
        lambda: {"words": mine(train_files, asked) if asked.mined else []},
    )
    return list(dict.fromkeys([*asked.words, *mined["words"]]))


def probe(
    work: Path,
    model: LanguageModel,
    texts: pa.Table,
    terms: Sequence[str],
    samples: Sequence[Mapping[str, Any]],
    params: EvaluateParams,
    report: Report,
) -> dict[str, Any]:
    """What each measurement found, by the name of its setting; empty where none is asked for.

    `texts` are the held-out documents (CURATED), `terms` those of `terms_of`, `samples` the continuations of the
    prompts. Raises as the measurements do.
    """
    network, tokenizer, held_out = model.model, model.tokenizer, texts["text"].to_pylist()

    def positions() -> dict[str, Any]:
        return by_position(
            network, tokenizer, held_out, params.positions, draws=params.bootstrap_draws, seed=params.bootstrap_seed
        )

    def dialogue() -> dict[str, Any]:
        assert params.dialogue
        kinds = texts["kind"].to_pylist()
        wanted = [text for text, kind in zip(held_out, kinds, strict=True) if kind in params.dialogue.kinds]
        return compare_dialogue(network, tokenizer, wanted, params.dialogue, params.sampling, report)

    def translation() -> dict[str, Any]:
        assert params.translation
        pairs = pairs_in(texts.select(["kind", "text", "turns"]).to_pylist(), params.translation.pairs)
        return translate(model, pairs, params.translation, report)

    def text_scores() -> dict[str, Any]:
        written = {
            "greedy": [sample["text"] for sample in samples if sample["greedy"]],
            "sampled": [sample["text"] for sample in samples if not sample["greedy"]],
        }
        return {
            name: {how: mean_scores(texts, name) for how, texts in written.items() if texts}
            for name in params.text_scores
        }

    wanted: dict[str, Callable[[], dict[str, Any]]] = {
        "positions": positions,
        "terms": lambda: recall_terms(network, tokenizer, held_out, terms),
        "dialogue": dialogue,
        "translation": translation,
        "text_scores": text_scores,
    }
    return {name: _kept(work / f"{name}.json", find) for name, find in wanted.items() if getattr(params, name)}


def _kept(file: Path, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not file.exists():
        write_json(file, find())
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
