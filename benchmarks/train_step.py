"""One training step, ours beside its peers', on the same shape and tokens, in alternating rounds of one run.

    python benchmarks/train_step.py --nanogpt PATH/TO/nanoGPT [--shape lai-tiny] [--rounds 6] [--steps 2] [--threads 2]

Sides, each in a process of its own; while one steps the others wait:

    ours           the trainer's step as its probe plans it here: AdamW, the peers' own shape (GPT-2's: learned
                   positions, LayerNorm, GELU)
    ours-default   the width and depth as a recipe has them by default: Muon, SwiGLU, query-key norm, rotary positions
    nanogpt        nanoGPT as it runs on a CPU: fp32, eager, its own AdamW and clipping
    nanogpt-edited the same with what this project does to a process: allocator thresholds, bf16 where products gain
    transformers   GPT2LMHeadModel with its own loss and torch's AdamW, fp32, eager

Prints the median of the rounds, the ratio of paired rounds, the most memory each held, and ours as a share of the
machine's own product peak, measured in the same process. Nothing of the peers is kept here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
SIDES = ("ours", "ours-default", "nanogpt", "nanogpt-edited", "transformers")
WARMUP_STEPS = 3
Step = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """A model and its batch."""

    width: int
    layers: int
    heads: int
    context: int
    vocab: int
    batch: int

    def __str__(self) -> str:
        return (
            f"{self.width} wide, {self.layers} layers, {self.heads} heads, context {self.context}, "
            f"vocabulary {self.vocab:,}, batch {self.batch}"
        )

    def flops(self) -> float:
        """Floating-point operations of a step's products: 6 a weight and token, and the attention's scores."""
        weights = 12 * self.layers * self.width**2 + self.vocab * self.width
        return self.batch * self.context * (6 * weights + 12 * self.layers * self.width * self.context)


SHAPES = {
    "quickstart": Shape(128, 4, 2, 256, 4096, 16),
    "lai-tiny": Shape(384, 8, 6, 512, 8000, 4),  # LAi's documents call it tiny
    "cllm": Shape(384, 6, 12, 128, 30000, 32),
}


def main() -> None:
    """Run the sides and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT; without it its sides are left out"
    )
    parser.add_argument("--shape", choices=SHAPES, default="lai-tiny")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2, help="steps in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.nanogpt and not (arguments.nanogpt / "model.py").is_file():
        parser.error(f"there is no model.py in {arguments.nanogpt}")
    if arguments.worker:
        work(arguments)
        return
    here = {"nanogpt": arguments.nanogpt, "transformers": importlib.util.find_spec("transformers")}
    sides = [side for side in arguments.sides if here.get(side.split("-")[0], True)]
    if left_out := [side for side in arguments.sides if side not in sides]:
        print(f"left out, not installed or not given: {', '.join(left_out)}")
    workers, facts = {}, {}
    for side in sides:  # one after the other: each probes or warms up on a machine that the rest leaves alone
        workers[side] = start(side)
        facts[side] = read(workers[side])
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side in sides if number % 2 else reversed(sides):
            print("go", file=workers[side].stdin, flush=True)
            seconds[side].append(read(workers[side])["seconds"] / arguments.steps)
    for side, worker in workers.items():
        worker.stdin.close()
        facts[side] |= read(worker)
        worker.wait()
    report(arguments, facts, seconds)


def report(arguments: argparse.Namespace, facts: dict[str, Any], seconds: dict[str, list[float]]) -> None:
    """Print what was measured."""
    shape = SHAPES[arguments.shape]
    print(f"{shape}; {arguments.threads} threads; {arguments.rounds} alternating rounds of {arguments.steps} steps")
    for side, times in seconds.items():
        median = statistics.median(times)
        ratio = statistics.median(theirs / ours for theirs, ours in zip(times, seconds["ours"], strict=True))
        share = shape.flops() / median / facts[side]["peak"] if facts[side]["peak"] else 0.0
        print(
            f"{side:15} {1000 * median:8.1f} ms a step (best {1000 * min(times):.1f})"
            f"  {shape.batch * shape.context / median:8,.0f} tokens/s  ours/it {ratio:.2f}"
            f"  {facts[side]['memory']:,} MiB"
            + (f"  {share:.0%} of {facts[side]['peak'] / 1e9:.0f} GFLOP/s" if share else "")
            + f"  {facts[side]['what']}"
        )


def start(side: str) -> subprocess.Popen[str]:
    """A worker process that is warm and waits."""
    command = [sys.executable, str(HERE), *sys.argv[1:], "--worker", side]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """The worker's next JSON line; other lines are the peers' own prints."""
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"a worker ended early with exit code {worker.wait()}")


def work(arguments: argparse.Namespace) -> None:
    """Make one side's step, then time it whenever asked."""
    side, shape = arguments.worker, SHAPES[arguments.shape]
    if side.startswith("ours"):
        what, step, peak = ours(shape, arguments.threads, default=side == "ours-default")
    elif side.startswith("nanogpt"):
        what, step, peak = nanogpt(shape, arguments, edited=side == "nanogpt-edited")
    else:
        what, step, peak = transformers(shape, arguments.threads)
    for _ in range(WARMUP_STEPS):
        step()
    print(json.dumps({"what": what, "peak": peak}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(json.dumps({"memory": most // 1024}), flush=True)


def ours(shape: Shape, threads: int, *, default: bool) -> tuple[str, Step, float]:
    """The step of `lmcore.train`, under the plan that its probe makes here."""
    sys.path.insert(0, str(HERE.parents[1]))
    from lmcore.train.allocator import raise_thresholds, sleep_at_barriers

    sleep_at_barriers()
    allocator = raise_thresholds()

    from lmcore.models import build
    from lmcore.models.config import DecoderConfig
    from lmcore.tokens import TokenBatch
    from lmcore.train import plan
    from lmcore.train.guard import Guard
    from lmcore.train.history import History
    from lmcore.train.optim import Optimizer
    from lmcore.train.params import Job, TrainParams, TrainRuntime
    from lmcore.train.run import Position, Run
    from lmcore.train.step import one_step

    size = {"n_layers": shape.layers, "d_model": shape.width, "n_heads": shape.heads, "context": shape.context}
    gpt2 = {"norm": "layer", "position": "learned", "mlp": "gelu", "qk_norm": False}
    config = DecoderConfig(**size, **({} if default else gpt2))
    optimizer = "muon" if default else "adamw"
    params = TrainParams(model=config, batch=shape.batch, minutes=2, optimizer=optimizer)
    runtime = TrainRuntime(threads=threads)
    ids, targets = batch_of_tokens(shape)
    batch = TokenBatch(
        ids=ids, targets=targets, loss_mask=ids >= 0, doc_ids=(ids * 0).int(), n_bytes=(ids * 0 + 3).int()
    )
    model = build(config, shape.vocab, 1).train()
    how = plan.probe(model, batch, params, runtime, allocator=allocator, run_seconds=lambda _: 120.0)
    plan.apply(how, model)
    nowhere = Path("unused")
    job = Job(work=nowhere, tokens=nowhere, tokenizer=nowhere, params=params, runtime=runtime)
    run = Run(job, how, model, Optimizer(model, params, how.dtype), None, Position(), Guard(), History())
    total = model.ledger().total
    what = f"{how.precision}, {how.attention}, micro-batch {how.micro_batch}, {optimizer}, {total:,} parameters"
    return what, lambda: one_step(run, batch, 1.0), 1e9 * how.gflops[how.precision]


def nanogpt(shape: Shape, arguments: argparse.Namespace, *, edited: bool) -> tuple[str, Step, float]:
    """The step of nanoGPT's train.py on a CPU: fp32 without autocast, AdamW, clipping at 1.

    Edited: allocator thresholds, and autocast to bf16 where the machine multiplies it faster.
    """
    sys.path[:0] = [str(arguments.nanogpt), str(HERE.parents[1])]
    if edited:
        from lmcore.train.allocator import raise_thresholds

        raise_thresholds()
    import torch
    from model import GPT, GPTConfig

    from lmcore.train.machine import product_gflops

    torch.set_num_threads(arguments.threads)
    half = False
    if edited:
        fp32, bf16 = product_gflops("cpu", [torch.float32, torch.bfloat16])
        half = bf16 > fp32
    size = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width}
    model = GPT(GPTConfig(**size, block_size=shape.context, vocab_size=shape.vocab, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    ids, targets = batch_of_tokens(shape)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            _, loss = model(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    precision = "bf16 autocast" if half else "fp32"
    return f"{precision}, eager, AdamW, {sum(p.numel() for p in model.parameters()):,} parameters", step, 0.0


def transformers(shape: Shape, threads: int) -> tuple[str, Step, float]:
    """The step of a plain loop around GPT2LMHeadModel, fp32 and eager, as its Trainer runs it on a CPU."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(threads)
    size = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "n_positions": shape.context}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=shape.vocab, **size, **off)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    ids, _ = batch_of_tokens(shape)

    def step() -> None:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return f"fp32, eager, AdamW, {sum(p.numel() for p in model.parameters()):,} parameters", step, 0.0


def batch_of_tokens(shape: Shape) -> tuple[Any, Any]:
    """The same tokens for all: (batch, context) inputs and the tokens that follow them."""
    import torch

    size = (shape.batch, shape.context + 1)
    tokens = torch.randint(shape.vocab, size, generator=torch.Generator().manual_seed(1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


if __name__ == "__main__":
    main()
