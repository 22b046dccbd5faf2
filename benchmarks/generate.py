"""Tokens a second of our engine beside transformers' `generate`, on the same weights, greedy, in alternating rounds.

    python benchmarks/generate.py [--shape lai-tiny] [--rows 1 16] [--tokens 128] [--rounds 5] [--threads 2]

Both run a model of the same random weights in Llama's shape, ours by our names and theirs by our exporter's, so both
multiply the same numbers; how many texts have the same tokens is printed. transformers runs as it does for its users:
its own cache, `do_sample=False`, one batch of prompts of one length. Both write as many tokens as asked for.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

SHAPES = {"quickstart": (128, 4, 2, 256, 4096), "lai-tiny": (384, 8, 6, 512, 8000)}
PROMPT = 32  # tokens


def main() -> None:
    """Run both and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="lai-tiny")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if importlib.util.find_spec("transformers") is None:
        raise SystemExit("transformers, the peer of this comparison, is not installed: pip install transformers")
    sides = make(arguments)
    print(
        "{} wide, {} layers, {} heads, context {}, vocabulary {}".format(*SHAPES[arguments.shape])
        + f"; {arguments.threads} threads; prompts of {PROMPT} tokens, {arguments.tokens} more; "
        f"median of {arguments.rounds} alternating rounds"
    )
    for rows in arguments.rows:
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(arguments.rounds + 1):
            drawn = {}
            for name in sides if number % 2 else reversed(sides):
                started = time.perf_counter()
                drawn[name] = sides[name](rows)
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - started)
            assert all(len(text) == arguments.tokens for texts in drawn.values() for text in texts)
            equal = sum(a == b for a, b in zip(*drawn.values(), strict=True))
        speed = {name: rows * arguments.tokens / statistics.median(times) for name, times in seconds.items()}
        paired = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
        print(
            f"{rows:3} at once: "
            + ", ".join(f"{name} {figure:,.0f} tokens/s" for name, figure in speed.items())
            + f"; ours / transformers {paired:.2f}; {equal} of {rows} texts have the same tokens",
            flush=True,
        )


def make(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides, by name: rows -> the tokens that they drew."""
    from lmcore.train.allocator import raise_thresholds, sleep_at_barriers

    sleep_at_barriers()
    raise_thresholds()

    from pydoc_data.topics import topics

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from lmcore.export.architectures import hf_config
    from lmcore.export.tensors import hf_tensors
    from lmcore.generate.engine import generate
    from lmcore.generate.many import generate_many
    from lmcore.generate.sampling import Sampling
    from lmcore.models import build
    from lmcore.models.config import DecoderConfig
    from lmcore.tokenizer import ByteBPE

    torch.set_num_threads(arguments.threads)
    width, layers, heads, context, vocab = SHAPES[arguments.shape]
    tokenizer = ByteBPE.train(topics.values(), vocab_size=vocab, split="gpt2", min_frequency=2, max_token_length=20)
    size = {"n_layers": layers, "d_model": width, "n_heads": heads, "context": context}
    config = DecoderConfig(**size, qk_norm=False, zero_init_projections=False)
    model = build(config, tokenizer.vocab_size, 1).eval()
    with torch.no_grad():
        model.embed.weight[list(tokenizer.specials.values())] = 0.0  # a logit of 0 is never the largest of so many
    described = hf_config(model.config, tokenizer.vocab_size, bos_id=tokenizer.bos_id, pad_id=tokenizer.bos_id)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**described)).eval()
    missing = theirs.load_state_dict(hf_tensors(model), strict=False)
    assert not missing.unexpected_keys, missing
    draw = torch.Generator().manual_seed(1)
    prompts = torch.randint(260, tokenizer.vocab_size, (max(arguments.rows), PROMPT), generator=draw)

    def ours(rows: int) -> list[list[int]]:
        sampling = Sampling(max_tokens=arguments.tokens, temperature=0.0)
        if rows == 1:
            return [generate(model, tokenizer, prompts[0].tolist(), sampling).ids]
        return [g.ids for g in generate_many(model, tokenizer, prompts[:rows].tolist(), sampling, rows=rows)]

    def transformers(rows: int) -> list[list[int]]:
        ids = prompts[:rows]
        wanted = {"max_new_tokens": arguments.tokens, "min_new_tokens": arguments.tokens, "do_sample": False}
        with torch.inference_mode():
            found = theirs.generate(ids, attention_mask=torch.ones_like(ids), **wanted)
        return found[:, PROMPT:].tolist()

    return {"ours": ours, "transformers": transformers}


if __name__ == "__main__":
    main()
