"""The self-check of an export: what was written is read back and must compute what the live model computes.

Letters: T tokens of a probe, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmcore.export.hf_reader import read_hf
from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer, load_tokenizer
from storage.errors import RunError

# Largest difference of a log-probability; transformers with the same weights stays within 4e-6 (docs/export.md).
TOLERANCE = 1e-5
_SHOWN = 5  # likeliest next tokens written for each prompt
_MEND = "this is a fault of the exporter: report it with the recipe's model section; export.hf: false goes without"


def probe(model: Network, tokenizer: Tokenizer, prompts: Sequence[str], greedy_tokens: int) -> list[dict[str, Any]]:
    """What the model makes of each prompt, for anybody to compare a copy with.

    `ids` start with the document mark; `log_probabilities` (nats) are of ids[1:], each after all before it;
    `next` are the likeliest tokens after the last; `greedy` the likeliest continuation, `greedy_tokens` long unless
    the context ends first.
    """
    return [_probe(model, tokenizer, prompt, greedy_tokens) for prompt in prompts]


def _probe(model: Network, tokenizer: Tokenizer, prompt: str, greedy_tokens: int) -> dict[str, Any]:
    ids = [tokenizer.bos_id, *tokenizer.encode(prompt)][: model.config.context]
    nats = _log_probabilities(model, ids)  # (T, V)
    given = nats[:-1].gather(1, torch.tensor(ids[1:], dtype=torch.int64)[:, None])[:, 0]
    values, tokens = nats[-1].topk(min(_SHOWN, nats.shape[1]))
    greedy = greedy_continuation(model, ids, greedy_tokens)
    return {
        "prompt": prompt,
        "ids": ids,
        "log_probabilities": given.tolist(),
        "next": [{"id": i, "log_probability": v} for i, v in zip(tokens.tolist(), values.tolist(), strict=True)],
        "greedy": greedy,
        "greedy_text": tokenizer.decode(greedy),
    }


def check_hf(folder: Path, model: Network, tokenizer: Tokenizer, probes: Sequence[dict[str, Any]]) -> float:
    """Read `folder` back and compare it with the live model; gives the largest difference of a log-probability.

    Raises RunError when it exceeds TOLERANCE, or when a token, a greedy choice or a special id differs.
    """
    copy = read_hf(folder)
    copied_tokenizer = load_tokenizer(folder)
    if copied_tokenizer.specials != tokenizer.specials or copied_tokenizer.vocab_size != tokenizer.vocab_size:
        raise RunError(f"the exported tokenizer {folder / 'tokenizer.json'} is not the model's", _MEND)
    largest = 0.0
    for one in probes:
        where = f"the export {folder} differs from the model on the prompt {one['prompt']!r}"
        ids = [copied_tokenizer.bos_id, *copied_tokenizer.encode(one["prompt"])][: model.config.context]
        if ids != one["ids"]:
            raise RunError(f"{where}: it has other token ids", _MEND)
        difference = float((_log_probabilities(copy, ids) - _log_probabilities(model, ids)).abs().max())
        if not difference <= TOLERANCE:
            raise RunError(f"{where}: a log-probability is off by {difference:.2g}, more than {TOLERANCE:g}", _MEND)
        if greedy_continuation(copy, ids, len(one["greedy"])) != one["greedy"]:
            raise RunError(f"{where}: its likeliest tokens are others", _MEND)
        largest = max(largest, difference)
    return largest


@torch.inference_mode()
def greedy_continuation(model: Network, ids: Sequence[int], count: int) -> list[int]:
    """The `count` likeliest tokens after `ids`, fewer when the context ends; every token counts, specials too."""
    found: list[int] = []
    cache = model.new_cache(1)
    new = list(ids)
    while len(found) < count and cache.position + len(new) <= model.config.context:
        new = [int(model(torch.tensor([new]), cache)[0, -1].argmax())]
        found += new
    return found


@torch.inference_mode()
def _log_probabilities(model: Network, ids: Sequence[int]) -> Tensor:
    nats: Tensor = model(torch.tensor([ids]))[0].float().log_softmax(-1)  # (T, V)
    return nats
