"""Stage "tokenizer": a vocabulary learnt from the training split, and a report on how well it fits.

The vocabulary is a function of the texts and the parameters alone: the order of the texts and the number of
threads do not matter.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from lmcore.config import Params, Runtime
from lmcore.progress import Report
from lmcore.tokenizer.byte_bpe import SMALLEST, ByteBPE, Split
from lmcore.tokenizer.curated import split_sizes, split_texts
from lmcore.tokenizer.parallel import encode_stream
from storage.atomic import fault, write_json, write_text
from storage.errors import RunError

MEASURED_BYTES = 32 * 2**20  # text of a split that the report is measured on: all of a small one, a sample of a large
LONGEST_SHOWN = 20


class TokenizerParams(Params):
    """What the vocabulary is learnt by."""

    kind: Literal["byte_bpe"] = Field("byte_bpe", description="Byte-level byte-pair encoding: every text is encoded.")
    vocab_size: int = Field(
        4096, ge=SMALLEST, le=2**20, description="Tokens in the vocabulary: 6 specials, 256 bytes, the rest is learnt."
    )
    split: Split = Field(
        "llama3", description='How text is cut into words first: as Llama 3 does it (fewer tokens), or "gpt2".'
    )
    min_frequency: int = Field(2, ge=1, description="A pair of tokens is merged only if it occurs this often.")
    max_token_length: int = Field(64, ge=2, le=4096, description="Bytes a token may have, so no rulers are learnt.")
    cap: bool = Field(False, description="Take a smaller vocabulary, instead of stopping, when the text fills no more.")


class TokenizerRuntime(Runtime):
    """How the work is done."""

    workers: int = Field(0, ge=0, le=1024, description="Threads that encode for the report; 0 takes every core.")


def train_tokenizer(
    work: Path, curated: Path, *, params: TokenizerParams, runtime: TokenizerRuntime, report: Report
) -> dict[str, Any]:
    """Write `out/tokenizer.json` and `out/tokenizer_report.json`; gives vocabulary size and bytes per token.

    Short, so a killed run starts over. Raises RunError when there is no training text, when the text cannot fill
    the vocabulary and `cap` is off, or when a file of `curated` is damaged.
    """
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    sizes = split_sizes(curated, "train")
    if not sizes.sum():
        raise RunError(
            f"no training text in {curated / 'train'}", "collect more, or loosen the gates and rules of curate"
        )
    tokenizer = ByteBPE.train(
        _watched(split_texts(curated, "train"), int(sizes.sum()), report),
        vocab_size=params.vocab_size,
        split=params.split,
        min_frequency=params.min_frequency,
        max_token_length=params.max_token_length,
    )
    if tokenizer.vocab_size < params.vocab_size and not params.cap:
        raise RunError(
            f"the {sizes.sum():,} bytes of text in {curated / 'train'} fill a vocabulary of "
            f"{tokenizer.vocab_size:,} tokens, not {params.vocab_size:,} (min_frequency {params.min_frequency})",
            f"set tokenizer.vocab_size to {tokenizer.vocab_size} or less, or tokenizer.cap: true, or collect more text",
        )
    used = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    measured: dict[str, dict[str, int]] = {}
    for split in ("train", "val"):
        report(0, None, f"measuring bytes per token ({split})")
        measured[split] = _measure(tokenizer, curated, split, runtime.workers, used if split == "train" else None)
    ratio = {split: round(m["bytes"] / m["tokens"], 4) if m["tokens"] else None for split, m in measured.items()}
    unused = int((used == 0).sum()) - int((used[list(tokenizer.specials.values())] == 0).sum())
    fault("tokenizer.before-save")
    write_text(out / "tokenizer.json", tokenizer.to_json())
    write_json(
        out / "tokenizer_report.json",
        {
            "vocab_size": tokenizer.vocab_size,
            "requested_vocab_size": params.vocab_size,
            "bytes_per_token": ratio,
            "measured": measured,
            "unused_tokens": unused,
            "longest_tokens": _longest(tokenizer),
        },
    )
    capped = tokenizer.vocab_size < params.vocab_size
    report(1, 1, f"{tokenizer.vocab_size:,} tokens" + (f", capped: {params.vocab_size:,} asked for" if capped else ""))
    return {
        "vocab_size": tokenizer.vocab_size,
        "requested_vocab_size": params.vocab_size,
        "capped": capped,
        "bytes_per_token_train": ratio["train"],
        "bytes_per_token_val": ratio["val"],
        "unused_tokens": unused,
    }


def _watched(texts: Iterable[str], total: int, report: Report) -> Iterator[str]:
    """The texts, counted as they are read."""
    done = 0
    for text in texts:
        yield text
        done += len(text.encode())
        report(done, total, "reading words")
    report(total, total, "merging pairs")


def _measure(
    tokenizer: ByteBPE, curated: Path, split: str, workers: int, used: np.ndarray[Any, np.dtype[np.int64]] | None
) -> dict[str, int]:
    """Documents, bytes and tokens of a split, or of every n-th document of a large one; tallies ids into `used`."""
    sizes = split_sizes(curated, split)
    stride = max(1, math.ceil(sizes.sum() / MEASURED_BYTES))
    tokens = 0
    for ids in encode_stream(tokenizer, islice(split_texts(curated, split), 0, None, stride), workers):
        tokens += len(ids)
        if used is not None:
            used += np.bincount(ids, minlength=len(used))
    chosen = sizes[::stride]
    return {"documents": len(chosen), "bytes": int(chosen.sum()), "tokens": tokens}


def _longest(tokenizer: ByteBPE) -> list[dict[str, Any]]:
    """The tokens of most bytes, to see what the vocabulary is spent on: rulers and boilerplate show here first."""
    lengths = tokenizer.byte_length(np.arange(tokenizer.vocab_size))
    order = np.lexsort((np.arange(len(lengths)), -lengths))[:LONGEST_SHOWN]
    return [{"id": int(i), "bytes": int(lengths[i]), "text": tokenizer.decode([i])} for i in order]
