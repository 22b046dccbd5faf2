"""Loss by position in the context: does the model guess better the more it has read?

Only whole windows count, so that every bucket holds the same windows: each document of at least n = context tokens is
cut into disjoint runs of n tokens, its rest left out, and the k-th token of a run (from 0) is predicted from
`<|endoftext|>` and the k tokens of the run before it. A bucket [a, b) holds the tokens a <= k < b of every run.

Beginnings of documents say other things than what follows, so buckets differ in their text, too. The `gain` is of the
same tokens: those of the last bucket, with all of the run before them, and with no more than the first edge's e tokens
before them (at least half as many: they are read in chunks of e / 2).

Letters: D documents that are long enough, B buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lmcore.evaluate.likelihood import Floats, Ints, Window, score_windows
from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer


def by_position(
    model: Network, tokenizer: Tokenizer, texts: Sequence[str], edges: Sequence[int], *, draws: int, seed: int
) -> dict[str, Any]:
    """Figures of each bucket between `edges` (at least one), and the `gain` in bits per byte.

    `loss` is in nats a token. Bytes are those that the tokens stand for; a bucket whose tokens stand for none (unknown
    words) has no bits per byte. Intervals are of 95 %, by `draws` samples of the documents with replacement. Without a
    document that is long enough `documents` is 0 and there are no buckets. Edges from the context on are passed over;
    where none is left there is one bucket and no gain. Raises RunError when the model gives no numbers.
    """
    context = model.config.context
    edges = [edge for edge in edges if edge < context]
    runs = _runs(tokenizer, texts, context)
    if not runs:
        return {"context": context, "documents": 0, "windows": 0, "buckets": [], "gain": None, "gain_interval": None}
    starts, ends = [0, *edges], [*edges, context]
    rows = {document: row for row, document in enumerate(dict.fromkeys(document for document, _ in runs))}
    nats = np.zeros((len(rows), len(starts) + 1))  # (D, B + 1): the last column is the last bucket, read in short
    n_bytes = np.zeros((len(rows), len(starts)), dtype=np.int64)  # (D, B)
    whole = [Window(document, np.concatenate(([tokenizer.bos_id], run[:-1])), run) for document, run in runs]
    for window, losses, _ in score_windows(model, whole, tokenizer.pad_id):
        nats[rows[window.document], :-1] += np.add.reduceat(losses, starts)
        n_bytes[rows[window.document]] += np.add.reduceat(tokenizer.byte_length(window.predicted), starts)
    if edges:
        short = [part for document, run in runs for part in _in_short(document, run, edges[-1], edges[0])]
        for window, losses, _ in score_windows(model, short, tokenizer.pad_id):
            nats[rows[window.document], -1] += losses.sum()
    n_bytes = np.concatenate((n_bytes, n_bytes[:, -1:]), axis=1)  # (D, B + 1)
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(starts) + 1))
    for draw in range(draws):
        chosen = random.integers(0, len(rows), len(rows))
        drawn[draw] = _bits(nats[chosen].sum(0), n_bytes[chosen].sum(0))
    bits = _bits(nats.sum(0), n_bytes.sum(0))  # (B + 1,)
    return {
        "context": context,
        "documents": len(rows),
        "windows": len(runs),
        "buckets": [
            {
                "from": start,
                "to": end,
                "loss": float(nats[:, place].sum() / (len(runs) * (end - start))),
                "bits_per_byte": _number(bits[place]),
                "interval": _interval(drawn[:, place]),
            }
            for place, (start, end) in enumerate(zip(starts, ends, strict=True))
        ],
        "gain": _number(bits[-1] - bits[-2]) if edges else None,
        "gain_interval": _interval(drawn[:, -1] - drawn[:, -2]) if edges else None,
    }


def _runs(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> list[tuple[int, Ints]]:
    """(number of the document, `context` tokens of it) of every run."""
    return [
        (document, ids[start : start + context].astype(np.int64))
        for document, ids in enumerate(tokenizer.encode_ids(texts))
        for start in range(0, len(ids) - context + 1, context)
    ]


def _in_short(document: int, run: Ints, begin: int, most: int) -> Iterator[Window]:
    """The tokens of a run from `begin` on, each with at most `most` tokens before it; begin >= most."""
    chunk = max(1, most // 2)
    for start in range(begin, len(run), chunk):
        end = min(start + chunk, len(run))
        yield Window(document, run[max(0, end - 1 - most) : end - 1], run[start:end])


def _bits(nats: Floats, n_bytes: Any) -> Floats:
    """Bits per byte; NaN where there is no byte."""
    found: Floats = np.divide(nats / math.log(2), n_bytes, out=np.full(nats.shape, np.nan), where=n_bytes > 0)
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _interval(figures: Floats) -> list[float] | None:
    found = figures[np.isfinite(figures)]
    return [float(edge) for edge in np.percentile(found, (2.5, 97.5))] if len(found) else None
