"""Loss by position in the context: does the model guess better the more it has read?

Only whole windows count, so that every bucket holds the same windows: each document of at least n = context tokens is
cut into disjoint runs of n tokens, its rest left out, and the k-th token of a run (from 0) is predicted from
`<|endoftext|>` and the k tokens of the run before it. A bucket [a, b) holds the tokens a <= k < b of every run.

Letters: D documents that are long enough, B buckets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lmcore.evaluate.likelihood import Floats, Window, score_windows
from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer


def by_position(
    model: Network, tokenizer: Tokenizer, texts: Sequence[str], edges: Sequence[int], *, draws: int, seed: int
) -> dict[str, Any]:
    """Figures of each bucket between `edges`, and how many bits a byte the last is better than the first (`gain`).

    `loss` is in nats a token. Bytes are those that the tokens stand for; a bucket whose tokens stand for none (unknown
    words) has no bits per byte. Intervals are of 95 %, by `draws` samples of the documents with replacement. Without a
    document that is long enough `documents` is 0 and there are no buckets. Edges from the context on are passed over.
    """
    context = model.config.context
    work, owners = _windows(tokenizer, texts, context)
    if not work:
        return {"context": context, "documents": 0, "windows": 0, "buckets": [], "gain": None, "gain_interval": None}
    starts = [0, *(edge for edge in edges if edge < context)]
    documents = {document: row for row, document in enumerate(dict.fromkeys(owners))}
    nats = np.zeros((len(documents), len(starts)))  # (D, B)
    n_bytes = np.zeros((len(documents), len(starts)), dtype=np.int64)  # (D, B)
    windows = np.zeros(len(documents), dtype=np.int64)  # (D,)
    for window, losses, _ in score_windows(model, work, tokenizer.pad_id):
        row = documents[window.document]
        nats[row] += np.add.reduceat(losses, starts)
        n_bytes[row] += np.add.reduceat(tokenizer.byte_length(window.predicted), starts)
        windows[row] += 1
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(starts)))
    for draw in range(draws):
        rows = random.integers(0, len(documents), len(documents))
        drawn[draw] = _bits(nats[rows].sum(0), n_bytes[rows].sum(0))
    bits = _bits(nats.sum(0), n_bytes.sum(0))  # (B,)
    ends = [*starts[1:], context]
    return {
        "context": context,
        "documents": len(documents),
        "windows": int(windows.sum()),
        "buckets": [
            {
                "from": start,
                "to": end,
                "loss": float(nats[:, place].sum() / (windows.sum() * (end - start))),
                "bits_per_byte": _number(bits[place]),
                "interval": _interval(drawn[:, place]),
            }
            for place, (start, end) in enumerate(zip(starts, ends, strict=True))
        ],
        "gain": _number(bits[0] - bits[-1]),
        "gain_interval": _interval(drawn[:, 0] - drawn[:, -1]),
    }


def _windows(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> tuple[list[Window], list[int]]:
    work = []
    for document, ids in enumerate(tokenizer.encode_ids(texts)):
        tokens = ids.astype(np.int64)
        for start in range(0, len(tokens) - context + 1, context):
            run = tokens[start : start + context]
            work.append(Window(document, np.concatenate(([tokenizer.bos_id], run[:-1])), run))
    return work, [window.document for window in work]


def _bits(nats: Floats, n_bytes: Any) -> Floats:
    """Bits per byte; NaN where there is no byte."""
    found: Floats = np.divide(nats / math.log(2), n_bytes, out=np.full(nats.shape, np.nan), where=n_bytes > 0)
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _interval(figures: Floats) -> list[float] | None:
    found = figures[np.isfinite(figures)]
    return [float(edge) for edge in np.percentile(found, (2.5, 97.5))] if len(found) else None
