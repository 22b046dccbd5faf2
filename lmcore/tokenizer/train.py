"""Stage "tokenizer": a vocabulary learnt from the training split, and a report on how well it fits.

The vocabulary is a function of the texts and the parameters alone: the order of the texts (but for words in the order
they are first seen) and the number of threads do not matter.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.tokenizer.curated import copies, language_sizes, language_weights, split_rows, split_sizes
from lmcore.tokenizer.interface import Tokenizer
from lmcore.tokenizer.kinds import learn
from lmcore.tokenizer.params import TokenizerParams, TokenizerRuntime
from lmcore.tokenizer.report import longest, measure, unused
from storage.atomic import fault, write_bytes, write_json
from storage.errors import RunError

__all__ = ["TokenizerParams", "TokenizerRuntime", "train_tokenizer"]


def train_tokenizer(
    work: Path, curated: Path, *, params: TokenizerParams, runtime: TokenizerRuntime, report: Report
) -> dict[str, Any]:
    """Write `out/tokenizer.json` and `out/tokenizer_report.json`; gives vocabulary size and bytes per token.

    Kinds that have a file of their own, `vocab.bin` or `vocab.txt`, get it beside them. Short, so a killed run starts
    over. Raises RunError when there is no training text, when the text cannot fill the vocabulary and `cap` is off,
    when a weight names a language that is not there, or when a file of `curated` is damaged.
    """
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    total = int(split_sizes(curated, "train").sum())
    if not total:
        raise RunError(
            f"no training text in {curated / 'train'}", "collect more, or loosen the gates and rules of curate"
        )
    weighted = bool(params.weights) or params.alpha != 1
    sizes = language_sizes(curated, "train") if weighted else {}
    weights = language_weights(sizes, params.weights, params.alpha)
    tokenizer = learn(lambda: _texts(curated, weights, total, report), params)
    _check_size(tokenizer, params, curated, total)

    measured = {}
    for split in ("train", "val"):
        report(0, None, f"measuring bytes per token ({split})")
        measured[split] = measure(tokenizer, curated, split, runtime.workers)
    figures = {split: found.figures() for split, found in measured.items()}
    idle = unused(tokenizer, measured["train"].used)
    fault("tokenizer.before-save")
    for name, content in tokenizer.files().items():
        write_bytes(out / name, content)
    write_json(
        out / "tokenizer_report.json",
        {
            "kind": params.kind,
            "lossy": tokenizer.lossy,
            "vocab_size": tokenizer.vocab_size,
            "requested_vocab_size": params.vocab_size,
            "bytes_per_token": {split: found["bytes_per_token"] for split, found in figures.items()},
            "measured": figures,
            "language_weights": weights,
            "unused_tokens": idle,
            "longest_tokens": longest(tokenizer),
        },
    )
    capped = tokenizer.vocab_size < params.vocab_size
    told = f"{tokenizer.vocab_size:,} tokens"
    if capped:
        told += f", capped: {params.vocab_size:,} asked for; models have as many rows as there are tokens"
    report(1, 1, told)
    metrics = {
        "vocab_size": tokenizer.vocab_size,
        "requested_vocab_size": params.vocab_size,
        "capped": capped,
        "bytes_per_token_train": figures["train"]["bytes_per_token"],
        "bytes_per_token_val": figures["val"]["bytes_per_token"],
        "unused_tokens": idle,
    }
    if tokenizer.unk_id is not None:
        metrics["unknown_share_val"] = figures["val"]["unknown_share"]
    return metrics


def _check_size(tokenizer: Tokenizer, params: TokenizerParams, curated: Path, total: int) -> None:
    """Raise RunError when the vocabulary is not of the size asked for."""
    found, asked = tokenizer.vocab_size, params.vocab_size
    if found < asked and not params.cap:
        raise RunError(
            f"the {total:,} bytes of text in {curated / 'train'} fill a vocabulary of {found:,} tokens, "
            f"not {asked:,} (min_frequency {params.min_frequency})",
            f"set tokenizer.vocab_size to {found} or less, or tokenizer.cap: true, or collect more text",
        )
    if found > asked:
        raise RunError(
            f"the text in {curated / 'train'} has so many characters that a vocabulary of kind {params.kind} has "
            f"{found:,} tokens before any merge, not {asked:,}",
            f"set tokenizer.vocab_size above {found}, or take kind byte_bpe or char_bpe",
        )


def _texts(curated: Path, weights: Mapping[str, float], total: int, report: Report) -> Iterator[str]:
    """The texts, each as often as its language counts, and the progress of reading them."""
    done = 0
    for row in split_rows(curated, "train"):
        for _ in range(copies(row["record_id"], weights.get(row["lang"], 1.0))):
            yield row["text"]
        done += len(row["text"].encode())
        report(done, total, "reading words")
    report(total, total, "merging pairs")
