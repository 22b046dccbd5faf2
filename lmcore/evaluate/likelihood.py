"""What held-out text costs a model: bits per byte, perplexity, top-1 accuracy, summed per document.

The definition is the one of lm-evaluation-harness' `loglikelihood_rolling`, so that its figures and ours are equal.
A document's tokens are predicted in disjoint windows of at most n = context tokens. The first window reads
[bos] + tokens[:n-1] and predicts tokens[:n]; each later one predicts the next n tokens with at most n tokens read,
and the last, shorter one is filled with earlier tokens from the left. The end of the document is not predicted.
Bits per byte divides by the UTF-8 bytes of the original text, so it compares across tokenizers; perplexity does not.

Letters: T tokens read, S positions scored in a batch, D model width, V vocabulary, N documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer
from lmcore.tokenizer.lossy import BITS_PER_MISSING_BYTE, missing_bytes
from storage.errors import RunError

# Fixed, not settings: another grouping changes the last digits. 4 MB of logits stay in the cache and in memory that is
# used again: a quarter less time than 64 MB at once.
_TOKENS_PER_BATCH = 2048
_LOGITS_AT_ONCE = 1 << 20

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Sums per document, all (N,): any group of documents is scored by adding rows."""

    nll: Floats  # nats over the document's tokens
    n_tokens: Ints  # predicted tokens; BOS is read, not predicted
    n_correct: Ints  # tokens that were the most likely one
    n_bytes: Ints  # UTF-8 bytes of the original text
    n_missing: Ints  # of those, bytes that a lossy tokenizer cannot give back

    @property
    def bits(self) -> Floats:
        """Bits each document costs, the charge for bytes that the tokenizer loses included: (N,)."""
        return self.nll / math.log(2) + BITS_PER_MISSING_BYTE * self.n_missing

    def select(self, rows: npt.NDArray[Any]) -> Scores:
        """The documents that an index array or a mask names."""
        return Scores(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Scores]) -> Scores:
        """All documents of several scores, in order."""
        return Scores(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Scores)))


@dataclass(frozen=True)
class Window:
    """Tokens that the model reads at once, and those at its end that are predicted."""

    document: int
    read: npt.NDArray[np.int64]  # (T,)
    predicted: npt.NDArray[np.int64]  # the last len(predicted) positions are scored


def windows(tokens: npt.NDArray[np.int64], bos: int, context: int) -> Iterator[tuple[Any, Any]]:
    """(tokens read, tokens predicted) of one document; the predictions belong to the last positions read."""
    n = len(tokens)
    if not n:
        return
    first = min(context, n)
    yield np.concatenate(([bos], tokens[: first - 1])), tokens[:first]
    for start in range(context, n, context):
        end = min(start + context, n)
        yield tokens[end - context - 1 : end - 1], tokens[start:end]


def score_documents(model: Network, tokenizer: Tokenizer, texts: Sequence[str], *, context: int) -> Scores:
    """Score every text by itself, on the bare model as training holds it and where it is; its mode is left as it was.

    `context` is the most tokens it may read at once. Raises RunError when the model gives NaN or infinity.
    """
    encoded = [ids.astype(np.int64) for ids in tokenizer.encode_ids(texts)]
    work = [
        Window(document, read, predicted)
        for document, ids in enumerate(encoded)
        for read, predicted in windows(ids, tokenizer.bos_id, context)
    ]
    nll = np.zeros(len(texts))
    correct = np.zeros(len(texts), dtype=np.int64)
    for batch, losses, hits in _scored(model, work, tokenizer.pad_id):
        owner = np.repeat([w.document for w in batch], [len(w.predicted) for w in batch])
        nll += np.bincount(owner, weights=losses, minlength=len(texts))
        correct += np.bincount(owner[hits], minlength=len(texts))
    missing = [
        missing_bytes(text, tokenizer.decode(ids)) if tokenizer.lossy else 0
        for text, ids in zip(texts, encoded, strict=True)
    ]
    return Scores(
        nll=nll,
        n_tokens=np.array([len(ids) for ids in encoded], dtype=np.int64),
        n_correct=correct,
        n_bytes=np.array([len(text.encode()) for text in texts], dtype=np.int64),
        n_missing=np.array(missing, dtype=np.int64),
    )


def score_windows(
    model: Network, work: Sequence[Window], pad: int
) -> Iterator[tuple[Window, Floats, npt.NDArray[np.bool_]]]:
    """Each window with the nats of its predicted tokens and whether each was the likeliest: (S,), (S,).

    In an order of its own; on the model's device, which is in its evaluation mode meanwhile. Raises RunError when the
    model gives NaN or infinity.
    """
    for batch, losses, hits in _scored(model, work, pad):
        ends = np.cumsum([len(window.predicted) for window in batch])[:-1]
        yield from zip(batch, np.split(losses, ends), np.split(hits, ends), strict=True)


def summarise(scores: Scores) -> dict[str, Any]:
    """Bits per byte, perplexity = exp(sum nll / sum tokens), accuracy and sizes of all documents together."""
    tokens, n_bytes = int(scores.n_tokens.sum()), int(scores.n_bytes.sum())
    assert tokens > 0
    assert n_bytes > 0
    mean = float(scores.nll.sum()) / tokens
    if mean > 700:  # exp() leaves the floating-point numbers at 709
        raise RunError(
            f"the model needs {mean:.0f} nats a token on held-out text",
            "the training diverged: lower the learning rate or start from an earlier checkpoint",
        )
    return {
        "bits_per_byte": float(scores.bits.sum()) / n_bytes,
        "perplexity": math.exp(mean),
        "accuracy": int(scores.n_correct.sum()) / tokens,
        "tokens": tokens,
        "bytes": n_bytes,
        "documents": len(scores.nll),
    }


def bootstrap_interval(scores: Scores, draws: int, seed: int) -> tuple[float, float]:
    """95 % interval of bits per byte: percentiles over `draws` samples of the documents with replacement."""
    random = np.random.default_rng(seed)
    bits, n_bytes = scores.bits, scores.n_bytes
    figures = np.empty(draws)
    for draw in range(draws):
        rows = random.integers(0, len(bits), len(bits))
        figures[draw] = bits[rows].sum() / n_bytes[rows].sum()
    low, high = np.percentile(figures, (2.5, 97.5))
    return float(low), float(high)


def _scored(
    model: Network, work: Sequence[Window], pad: int
) -> Iterator[tuple[list[Window], Floats, npt.NDArray[np.bool_]]]:
    """Windows that were scored together, with what `_score` says of them; the model's mode is left as it was."""
    was_training = model.training
    model.eval()
    try:
        for batch in _batches(work):
            losses, hits = _score(model, batch, pad)
            if not np.isfinite(losses).all():
                raise RunError(
                    f"the model gives {'NaN' if np.isnan(losses).any() else 'infinite'} log-probabilities on "
                    "held-out text",
                    "the training diverged: lower the learning rate or start from an earlier checkpoint",
                )
            yield batch, losses, hits
    finally:
        model.train(was_training)


def _batches(work: Sequence[Window]) -> Iterator[list[Window]]:
    """Windows of like length together, longest first."""
    ordered = sorted(work, key=lambda window: -len(window.read))
    start = 0
    while start < len(ordered):
        rows = max(1, _TOKENS_PER_BATCH // len(ordered[start].read))
        yield ordered[start : start + rows]
        start += rows


@torch.inference_mode()
def _score(model: Network, batch: Sequence[Window], pad: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Nats of every predicted token of the batch, and whether it was the most likely one: (S,), (S,)."""
    device, width = model.device, max(len(window.read) for window in batch)
    ids = torch.full((len(batch), width), pad, dtype=torch.int64)
    scored = torch.zeros((len(batch), width), dtype=torch.bool)
    for row, window in enumerate(batch):
        end = len(window.read)
        ids[row, :end] = torch.from_numpy(window.read)  # padding stands to the right, where no prediction looks
        scored[row, end - len(window.predicted) : end] = True
    hidden = model.hidden(ids.to(device))[scored.to(device)]  # (S, D)
    targets = torch.from_numpy(np.concatenate([window.predicted for window in batch])).to(device)  # (S,)
    rows = max(1, _LOGITS_AT_ONCE // model.vocab_size)
    losses, hits = [], []
    for some, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = model.head(some).float()  # (rows, V)
        losses.append(logits.logsumexp(-1) - logits.gather(-1, wanted[:, None])[:, 0])
        hits.append(logits.argmax(-1) == wanted)
    return torch.cat(losses).cpu().double().numpy(), torch.cat(hits).cpu().numpy()
