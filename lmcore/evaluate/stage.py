"""The evaluate stage: held-out documents scored one by one, groups, intervals, baselines and samples.

Every batch of documents and every baseline is kept in the work folder as soon as it is known, so that a run killed in
the middle goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lmcore.documents import CURATED, iter_texts, read_documents
from lmcore.evaluate.baselines import measure, take
from lmcore.evaluate.likelihood import Scores, bootstrap_interval, score_documents, summarise
from lmcore.evaluate.params import EvaluateParams, EvaluateRuntime, Split
from lmcore.evaluate.probes.run import probe, terms_of
from lmcore.generate.engine import generate
from lmcore.generate.load import LanguageModel, load
from lmcore.models import build
from lmcore.models.network import Network
from lmcore.progress import Report
from lmcore.tokenizer import Tokenizer
from storage.atomic import fault, write_json
from storage.errors import RunError, UserError
from storage.parquet import read_parquet, write_parquet

__all__ = ["EvaluateParams", "EvaluateRuntime", "evaluate"]

# Documents scored between two resume points: fixed, because grouping them otherwise changes the last digits.
_BATCH_DOCUMENTS = 64
_BATCH_LETTERS = 64_000
CONTAMINATION_FILE = "contamination.parquet"
_GROUPS = ("source", "lang", "kind")
NO_GENRE = "other"  # of a source that is in none

SCORED = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("n_tokens", pa.int64(), nullable=False),  # predicted tokens, without BOS
        pa.field("nll_bits", pa.float64(), nullable=False),  # a lossy tokenizer's charge included
    ]
)


@dataclass(frozen=True)
class _HeldOut:
    """The documents of one split that are scored, in record_id order."""

    split: Split
    table: pa.Table  # CURATED
    available: int  # documents in the split
    left_out: int  # documents that the model has learnt elsewhere


def evaluate(
    work: Path,
    model: Path,
    curated: Path,
    learnt: Sequence[Path] = (),
    before: Path | None = None,
    *,
    params: EvaluateParams,
    runtime: EvaluateRuntime,
    report: Report,
) -> dict[str, Any]:
    """Leave `evaluation.json`, `documents.parquet` and `samples.json` in `work/out`; gives the headline as metrics.

    `model` is a train artifact, `curated` the corpus it is judged on. `learnt` are other corpora that it, or a model
    it started from, was trained on: a held-out document whose text or page is in one of their training splits is left
    out and counted. `before`, when given, is the train artifact that the model started from: it is measured on the
    headline's documents and the prompts as well; without one, `params.untrained` asks for the model of random weights
    that training began with. Raises RunError when a split holds no text to score, a file is
    damaged, or the model gives no finite likelihood.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    device = _device(runtime.device)
    trained = load(model, device=device)
    held_out = [_held_out(curated, split, params, learnt) for split in params.splits]
    scores = _score(work, trained.model, trained.tokenizer, held_out, report)

    first = "test" if "test" in params.splits else params.splits[0]
    shown = next(part for part in held_out if part.split == first)
    figures = {part.split: _figures(scores[part.split], params) for part in held_out}
    samples = _samples(trained.model, trained.tokenizer, params)
    terms = terms_of(work, _files(curated, "train"), params)
    probes = probe(work / "probes", trained, shown.table, terms, samples, params, report)
    evaluation = {
        "headline": {"split": first, **figures[first]},
        "splits": {
            part.split: figures[part.split] | _counts(part, learnt) | _free(curated, part, scores[part.split], params)
            for part in held_out
        },
        "groups": _all_groups(shown.table, scores[first], params),
        "baselines": _baselines(work, curated, shown, figures[first]["bits_per_byte"], params, report),
        "lossy": trained.tokenizer.lossy,
        **({"probes": probes} if probes else {}),
    }
    if before or (params.before and params.untrained):
        del trained  # two models at once may be more than the machine holds
        then = load(before, device=device) if before else _untrained(model, device)
        evaluation["before"], earlier = _before(work / "before", then, shown, terms, params, report)
        samples = [sample | {"before": text} for sample, text in zip(samples, earlier, strict=True)]

    fault("evaluate.before-save")
    out = work / "out"
    if out.exists():
        shutil.rmtree(out)
    write_json(out / "evaluation.json", evaluation)
    write_json(out / "samples.json", samples)
    write_parquet(out / "documents.parquet", pa.concat_tables([_rows(part, scores[part.split]) for part in held_out]))
    return _metrics(evaluation)


def _before(
    work: Path, model: LanguageModel, shown: _HeldOut, terms: Sequence[str], params: EvaluateParams, report: Report
) -> tuple[dict[str, Any], list[str]]:
    """What the model that training started from is worth on the headline's documents, and how it continues prompts."""
    scores = _score(work, model.model, model.tokenizer, [shown], report)[shown.split]
    samples = _samples(model.model, model.tokenizer, params)
    found = {
        **_figures(scores, params),
        "vocab_size": model.tokenizer.vocab_size,
        "groups": _all_groups(shown.table, scores, params),
        "probes": probe(work / "probes", model, shown.table, terms, samples, params, report),
    }
    return found, [str(sample["text"]) for sample in samples]


def _untrained(folder: Path, device: str) -> LanguageModel:
    """The model of a train artifact as it was before its first step: its shape, the random weights of its seed."""
    trained = load(folder)
    seed = json.loads((folder / "provenance" / "training.json").read_text(encoding="utf-8"))["data"]["settings"]["seed"]
    return replace(trained, model=build(trained.model.config, trained.model.vocab_size, seed).to(device).eval())


def _device(wanted: str) -> str:
    """The device to compute on. Raises UserError for one that this machine does not have."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device, there in have.items() if there)
    if not have[wanted]:
        raise UserError(f"evaluate.device is {wanted}, which this machine does not have", "set it to auto or cpu")
    return wanted


def _held_out(curated: Path, split: Split, params: EvaluateParams, learnt: Sequence[Path]) -> _HeldOut:
    """The first documents of a split, less those learnt. Record ids are digests: the first are a fair sample."""
    tables = [read_documents(path, CURATED) for path in _files(curated, split)]
    table = pa.concat_tables(tables).sort_by("record_id")  # over all nights that the corpus was made in
    table = table.filter(pc.greater(table["n_bytes"], 0))
    if not table.num_rows:
        raise RunError(
            f"the {split} split of {curated} holds no text to evaluate on",
            f"collect more pages, or give the {split} split a larger share in curate",
        )
    fitting = int((np.cumsum(table["n_bytes"].to_numpy()) <= params.max_bytes).sum())
    first = table.slice(0, min(max(1, fitting), params.max_documents))
    unknown = first.filter(pc.invert(_known(first, learnt)))
    if not unknown.num_rows:
        raise RunError(
            f"every text of the {split} split of {curated} was learnt by this model or by one it started from",
            "set curate.split as it was when that was trained, or give the recipe another name: a champion of its own",
        )
    return _HeldOut(split, unknown, table.num_rows, first.num_rows - unknown.num_rows)


def _known(table: pa.Table, learnt: Sequence[Path]) -> pa.ChunkedArray:
    """Which documents have a text or a page that is in the training split of one of these corpora."""
    known = pa.chunked_array([np.zeros(table.num_rows, dtype=bool)])
    for folder in learnt:
        for path in _files(folder, "train"):
            seen = read_parquet(path, ["text_id", "page_of_origin"])
            for name in seen.column_names:
                known = pc.or_(known, pc.is_in(table[name], seen[name].combine_chunks()))
    return known


def _counts(part: _HeldOut, learnt: Sequence[Path]) -> dict[str, int]:
    """How many documents the split has and, where the model has learnt from other corpora, how many it met there."""
    left_out = {"left_out_documents": part.left_out} if learnt else {}
    return {"available_documents": part.available} | left_out


def _free(curated: Path, part: _HeldOut, scores: Scores, params: EvaluateParams) -> dict[str, Any]:
    """Figures of the documents that no training text overlapped, before overlaps were cut out of it.

    Nothing for a corpus that was not looked through for overlaps.
    """
    file = curated / CONTAMINATION_FILE
    if not file.exists():
        return {}
    hits = read_parquet(file, ["set", "item"])
    touched = hits.filter(pc.equal(hits["set"], part.split))["item"].combine_chunks()
    free = pc.invert(pc.is_in(part.table["record_id"], touched)).to_numpy()
    if free.all():
        return {"overlapping_documents": 0}
    rest = {"overlap_free": _figures(scores.select(free), params)} if free.any() else {}
    return {"overlapping_documents": int((~free).sum())} | rest


def _files(curated: Path, split: str) -> list[Path]:
    files = sorted((curated / split).glob("*.parquet"))
    if not files:
        raise RunError(
            f"{curated / split} holds no Parquet files",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        )
    return files


def _score(
    work: Path, network: Network, tokenizer: Tokenizer, held_out: Sequence[_HeldOut], report: Report
) -> dict[str, Scores]:
    """Scores of every split, batch by batch; finished batches are read back from the work folder."""
    total = sum(pc.sum(part.table["n_bytes"]).as_py() for part in held_out)
    done = 0
    scores: dict[str, Scores] = {}
    for part in held_out:
        batches = []
        for number, texts in enumerate(_batches(part.table["text"].to_pylist())):
            file = work / "scores" / f"{part.split}-{number:05}.json"
            if not file.exists():
                batch = score_documents(network, tokenizer, texts, context=network.config.context)
                write_json(file, {field.name: getattr(batch, field.name).tolist() for field in fields(Scores)})
                fault("evaluate.document-batch")
            batches.append(Scores(**{name: np.array(column) for name, column in json.loads(file.read_text()).items()}))
            done += int(batches[-1].n_bytes.sum())
            report(done, total, f"{part.split}: {done:,} of {total:,} bytes scored")
        scores[part.split] = Scores.concatenate(batches)
    return scores


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Consecutive texts between two resume points."""
    batch: list[str] = []
    letters = 0
    for text in texts:
        batch.append(text)
        letters += len(text)
        if len(batch) == _BATCH_DOCUMENTS or letters >= _BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch


def _figures(scores: Scores, params: EvaluateParams) -> dict[str, Any]:
    return {
        **summarise(scores),
        "interval": list(bootstrap_interval(scores, params.bootstrap_draws, params.bootstrap_seed)),
    }


def _all_groups(table: pa.Table, scores: Scores, params: EvaluateParams) -> dict[str, Any]:
    """Figures by source, language and kind, and by what else the recipe asks for."""
    columns = {name: table[name] for name in (*_GROUPS, *params.group_by)}
    if params.genres:
        genre_of = {source: genre for genre, sources in params.genres.items() for source in sources}
        columns["genre"] = pa.chunked_array([[genre_of.get(name, NO_GENRE) for name in table["source"].to_pylist()]])
    return {name: _groups(column, scores, params) for name, column in columns.items()}


def _groups(column: pa.ChunkedArray, scores: Scores, params: EvaluateParams) -> dict[str, Any]:
    """Figures of the documents that share a value of `column`; the groups' sums are the split's."""
    names = np.array(list(map(str, column.to_pylist())), dtype=object)
    return {name: _figures(scores.select(names == name), params) for name in sorted(set(names))}


def _baselines(
    work: Path, curated: Path, shown: _HeldOut, bits_per_byte: float, params: EvaluateParams, report: Report
) -> list[dict[str, Any]]:
    """Each baseline on the headline's documents, and whether the model needs fewer bits."""
    found = []
    train: list[bytes] | None = None
    for number, name in enumerate(params.baselines):
        report(number, len(params.baselines), f"baseline {name}")
        file = work / "baselines" / f"{name}.json"
        if not file.exists():
            if train is None:
                train = take((text.encode() for text in iter_texts(_files(curated, "train"))), params.baseline_bytes)
            held_out = [text.encode() for text in shown.table["text"].to_pylist()]
            write_json(file, asdict(measure(name, train, held_out, params.ngram_order)))
            fault("evaluate.baseline")
        baseline = json.loads(file.read_text())
        found.append({**baseline, "beaten": bits_per_byte < baseline["bits_per_byte"]})
    return found


def _samples(network: Network, tokenizer: Tokenizer, params: EvaluateParams) -> list[dict[str, Any]]:
    """Each prompt continued with the likeliest tokens and once as `params.sampling` says."""
    greedy = params.sampling.model_copy(update={"temperature": 0.0})
    return [
        {"prompt": prompt, "text": generate(network, tokenizer, prompt, sampling).text, "greedy": sampling is greedy}
        for prompt in params.prompts
        for sampling in (greedy, params.sampling)
    ]


def _rows(part: _HeldOut, scores: Scores) -> pa.Table:
    return pa.table(
        {
            "record_id": part.table["record_id"],
            "split": [part.split] * part.table.num_rows,
            "n_bytes": scores.n_bytes,
            "n_tokens": scores.n_tokens,
            "nll_bits": scores.bits,
        },
        schema=SCORED,
    )


def _metrics(evaluation: dict[str, Any]) -> dict[str, Any]:
    headline = evaluation["headline"]
    left_out = evaluation["splits"][headline["split"]].get("left_out_documents")
    beaten = [baseline["name"] for baseline in evaluation["baselines"] if baseline["beaten"]]
    not_beaten = [baseline["name"] for baseline in evaluation["baselines"] if not baseline["beaten"]]
    return {
        **{name: headline[name] for name in ("split", "bits_per_byte", "perplexity", "accuracy", "documents")},
        **({"before": evaluation["before"]["bits_per_byte"]} if "before" in evaluation else {}),
        **({"left_out": left_out} if left_out else {}),
        "beats": ", ".join(beaten) or "none",
        "does_not_beat": ", ".join(not_beaten) or "none",
    }
