"""Our training step against nanoGPT's, on the same shape and tokens, in alternating rounds of one run.

    python benchmarks/train_vs_nanogpt.py --nanogpt PATH/TO/nanoGPT [--rounds 6] [--steps 5] [--threads 2]

Each runs in a process of its own, as it runs for its users on a CPU: ours as the trainer does it (allocator
thresholds, probed plan, Muon, clipping, guard), nanoGPT in fp32, eager, with its own AdamW and clipping. While one
steps the other waits. Prints the median of the rounds; nothing of nanoGPT is kept here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
WIDTH, LAYERS, HEADS, CONTEXT, VOCAB, BATCH = 128, 4, 2, 256, 4096, 16
WARMUP_STEPS = 3


def main() -> None:
    """Run both and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5, help="steps in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", choices=["ours", "nanogpt"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.nanogpt / "model.py").is_file():
        parser.error(f"there is no model.py in {arguments.nanogpt}")
    if arguments.worker:
        work(arguments)
        return
    workers = {name: start(name) for name in ("nanogpt", "ours")}
    facts = {name: read(worker) for name, worker in workers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(arguments.rounds):
        for name in workers if number % 2 else reversed(workers):
            print("go", file=workers[name].stdin, flush=True)
            seconds[name].append(read(workers[name])["seconds"] / arguments.steps)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    report(arguments, facts, seconds)


def report(arguments: argparse.Namespace, facts: dict[str, Any], seconds: dict[str, list[float]]) -> None:
    """Print what was measured."""
    tokens = BATCH * CONTEXT
    print(
        f"{WIDTH} wide, {LAYERS} layers, {HEADS} heads, context {CONTEXT}, batch {BATCH}, vocabulary {VOCAB}; "
        f"{arguments.threads} threads; {arguments.rounds} alternating rounds of {arguments.steps} steps"
    )
    for name in seconds:
        median, best = statistics.median(seconds[name]), min(seconds[name])
        print(
            f"{name:8} {1000 * median:7.1f} ms a step (best {1000 * best:.1f})  {tokens / median:9,.0f} tokens/s  "
            f"{facts[name]['what']}"
        )
    paired = statistics.median(theirs / ours for theirs, ours in zip(seconds["nanogpt"], seconds["ours"], strict=True))
    print(f"ours / nanogpt: {paired:.2f} times the tokens/s (median of paired rounds)")


def start(name: str) -> subprocess.Popen[str]:
    """A worker process that is warm and waits."""
    command = [sys.executable, str(HERE), *sys.argv[1:], "--worker", name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """The worker's next JSON line; other lines are nanoGPT's own prints."""
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"a worker ended early with exit code {worker.wait()}")


def work(arguments: argparse.Namespace) -> None:
    """Make one side's step, then time it whenever asked."""
    what, step = (ours if arguments.worker == "ours" else nanogpt)(arguments)
    for _ in range(WARMUP_STEPS):
        step()
    print(json.dumps({"what": what}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def ours(arguments: argparse.Namespace) -> tuple[str, Any]:
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

    shape = DecoderConfig(n_layers=LAYERS, d_model=WIDTH, n_heads=HEADS, context=CONTEXT)
    params = TrainParams(model=shape, batch=BATCH, minutes=2)
    runtime = TrainRuntime(threads=arguments.threads)
    ids, targets = batch_of_tokens()
    batch = TokenBatch(
        ids=ids,
        targets=targets,
        loss_mask=ids >= 0,
        doc_ids=(ids * 0).int(),
        n_bytes=(ids * 0 + 3).int(),
    )
    model = build(shape, VOCAB, 1).train()
    how = plan.probe(model, batch, params, runtime, allocator=allocator, run_seconds=lambda _: 120.0)
    plan.apply(how, model)
    nowhere = Path("unused")
    job = Job(work=nowhere, tokens=nowhere, tokenizer=nowhere, params=params, runtime=runtime)
    run = Run(job, how, model, Optimizer(model, params, how.dtype), None, Position(), Guard(), History())
    what = f"{how.precision}, {how.attention}, micro-batch {how.micro_batch}, Muon, {model.ledger().total:,} parameters"
    return what, lambda: one_step(run, batch, 1.0)


def nanogpt(arguments: argparse.Namespace) -> tuple[str, Any]:
    """The step of nanoGPT's train.py as it is on a CPU: fp32 without autocast, AdamW, clipping at 1."""
    sys.path.insert(0, str(arguments.nanogpt))
    import torch
    from model import GPT, GPTConfig

    torch.set_num_threads(arguments.threads)
    shape = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "block_size": CONTEXT, "vocab_size": VOCAB}
    model = GPT(GPTConfig(**shape, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    ids, targets = batch_of_tokens()

    def step() -> None:
        _, loss = model(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return f"fp32, eager, AdamW, {sum(p.numel() for p in model.parameters()):,} parameters", step


def batch_of_tokens() -> tuple[Any, Any]:
    """The same tokens for both: (BATCH, CONTEXT) inputs and the tokens that follow them."""
    import torch

    tokens = torch.randint(VOCAB, (BATCH, CONTEXT + 1), generator=torch.Generator().manual_seed(1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


if __name__ == "__main__":
    main()
