"""Bits per byte after some minutes of training: our loop beside nanoGPT's recipe, same tokens, same machine.

    python benchmarks/race.py [--text FILE] [--nanogpt PATH/TO/nanoGPT] [--minutes 2] [--threads 2] [--sides ...]

The tokens are made from FILE, else from Python's own texts, by the project's stages (2.2 MB, a vocabulary of 4,096).
For those of the quickstart, pages of pydoc, let a store make them first and name it:

    collect-train run quickstart --until tokens --store STORE
    python benchmarks/race.py --store STORE ...

Sides run one after the other, each in a process of its own, and read the same tokens; nanoGPT's need --nanogpt:

    ours           lmcore.train as the quickstart sets it
    nanogpt-small  nanoGPT's model and loop on a CPU (fp32, eager, AdamW, cosine, random windows) at our width and depth
    nanogpt        the same at 384 wide, 8 layers, context 512, as LAi's documents have it

nanoGPT's schedule counts steps, so it is first timed for some, which are not charged to it, and given as many steps as
fit. Both models are then scored by the same function: every token of the validation split once, in windows of the
model's context that begin without what came before.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

from lmcore.train.allocator import raise_thresholds, sleep_at_barriers  # noqa: E402

SIDES = {  # width, layers, heads, context, batch, peak rate
    "ours": (128, 4, 2, 256, 8, 0.0),
    "nanogpt-small": (128, 4, 2, 256, 16, 1e-3),
    "nanogpt": (384, 8, 6, 512, 4, 1e-3),
}
VOCAB = 4096  # of what is made from a text
WARMUP, FINAL_SHARE = 100, 0.1  # nanoGPT's own: warm-up steps, and what is left of the rate
TIMED_STEPS = 5


def main() -> None:
    """Run the sides and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--store", type=Path, help="a store whose newest tokens are used")
    source.add_argument("--text", type=Path, help="a text file; without it and --store Python's own texts")
    parser.add_argument("--mb", type=float, default=2.2, help="megabytes of the text that are used")
    parser.add_argument(
        "--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT; without it its sides are left out"
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, nargs=2, help=argparse.SUPPRESS)  # of a worker: tokens, tokenizer
    arguments = parser.parse_args()
    if arguments.nanogpt and not (arguments.nanogpt / "model.py").is_file():
        parser.error(f"there is no model.py in {arguments.nanogpt}")
    if arguments.worker:
        run_side(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = newest(arguments.store) if arguments.store else made(Path(folder), arguments)
        for side in arguments.sides:
            if side != "ours" and not arguments.nanogpt:
                print(f"{side:14} left out: no --nanogpt", flush=True)
                continue
            command = [sys.executable, str(HERE), *sys.argv[1:], "--worker", side, "--data", *map(str, data)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{side:14} {found['bits_per_byte']:.4f} bits per byte, {found['bytes']:,} bytes of the validation "
                f"split; {found['tokens']:,} tokens in {found['steps']:,} steps and {found['seconds']:.0f} s; "
                f"{found['what']}",
                flush=True,
            )


def newest(where: Path) -> tuple[Path, Path]:
    """Folders of the newest tokens in a store, and of their tokenizer."""
    from storage.store import Store

    store = Store(where)
    found = sorted(store.artifacts("tokens"), key=lambda artifact: artifact.manifest.provenance.finished)
    if not found:
        raise SystemExit(f"{where} has no tokens: collect-train run quickstart --until tokens --store {where}")
    (digest,) = [entry.digest for entry in found[-1].manifest.provenance.inputs if entry.stage == "tokenizer"]
    return found[-1].path, store.by_digest(digest, "tokenizer").path


def made(folder: Path, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The same of a text."""
    sys.path.insert(0, str(HERE.parent))
    from texts import tokens_of

    return tokens_of(folder, arguments.text, VOCAB, arguments.mb)


def run_side(arguments: argparse.Namespace) -> None:
    """Train one side and print what came of it as a line of JSON."""
    side = arguments.worker
    if side == "ours":
        sleep_at_barriers()
        allocator = raise_thresholds()
    import torch

    torch.set_num_threads(arguments.threads)
    found = ours(arguments, *arguments.data, allocator) if side == "ours" else nanogpt(arguments, *arguments.data)
    print(json.dumps(found), flush=True)


def ours(arguments: argparse.Namespace, tokens: Path, tokenizer: Path, allocator: str) -> dict[str, Any]:
    """Our loop, without samples and looks."""
    from lmcore.models.config import DecoderConfig
    from lmcore.models.io import load_model
    from lmcore.train.loop import train
    from lmcore.train.params import Job, TrainParams, TrainRuntime

    width, layers, heads, context, batch, _ = SIDES["ours"]
    shape = DecoderConfig(n_layers=layers, d_model=width, n_heads=heads, context=context)
    params = TrainParams(model=shape, batch=batch, minutes=arguments.minutes, seed=arguments.seed, prompts=())
    runtime = TrainRuntime(device="cpu", threads=arguments.threads, validate_every=0, sample_at=())
    with tempfile.TemporaryDirectory() as work:
        job = Job(work=Path(work), tokens=tokens, tokenizer=tokenizer, params=params, runtime=runtime)
        metrics = train(job, allocator=allocator)
        model = load_model(Path(work) / "out").eval()
    what = f"{model.ledger().total:,} parameters, batch {batch} x {context}, Muon, {metrics['seconds']:.0f} s in steps"
    seen = {"steps": metrics["steps"], "tokens": metrics["tokens"], "seconds": metrics["seconds"], "what": what}
    return seen | score(model, tokens, tokenizer, context)


def nanogpt(arguments: argparse.Namespace, tokens: Path, tokenizer: Path) -> dict[str, Any]:
    """nanoGPT's model, optimizer, schedule and random windows."""
    sys.path.insert(0, str(arguments.nanogpt))
    import torch
    from model import GPT, GPTConfig

    from lmcore.tokens.meta import read_meta
    from lmcore.tokens.stream import TokenStream

    width, layers, heads, context, batch, peak = SIDES[arguments.worker]
    torch.manual_seed(arguments.seed)
    stream = TokenStream(tokens, "train")
    text = torch.from_numpy(stream.read(0, stream.n_tokens).astype("int64"))
    size = {"n_layer": layers, "n_head": heads, "n_embd": width, "block_size": context}
    vocab = read_meta(tokens).vocab_size
    model = GPT(GPTConfig(**size, vocab_size=vocab, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, peak, (0.9, 0.99), "cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def step(rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(text) - context, (batch,))
        ids = torch.stack([text[i : i + context] for i in starts])
        targets = torch.stack([text[i + 1 : i + 1 + context] for i in starts])
        _, loss = model(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(2):
        step(0.0)
    began = time.perf_counter()
    for _ in range(TIMED_STEPS):
        step(0.0)
    steps = max(1, int(60 * arguments.minutes * TIMED_STEPS / (time.perf_counter() - began)))
    model.load_state_dict(before)
    optimizer = model.configure_optimizers(0.1, peak, (0.9, 0.99), "cpu")
    warmup = min(WARMUP, steps // 10)
    began, done = time.perf_counter(), 0
    while done < steps and time.perf_counter() - began < 60 * arguments.minutes:
        share = (done + 1) / (warmup + 1) if done < warmup else cosine((done - warmup) / max(1, steps - warmup))
        step(peak * share)
        done += 1
    seconds = time.perf_counter() - began
    what = f"{sum(p.numel() for p in model.parameters()):,} parameters, batch {batch} x {context}, AdamW {peak:g}"

    def logits(ids: torch.Tensor) -> torch.Tensor:
        return model(ids, ids)[0]  # without targets it gives the last position alone

    seen = {"steps": done, "tokens": done * batch * context, "seconds": seconds, "what": what}
    return seen | score(logits, tokens, tokenizer, context)


def cosine(progress: float) -> float:
    """From 1 to FINAL_SHARE."""
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def score(logits_of: Callable[[Any], Any], tokens: Path, tokenizer: Path, context: int) -> dict[str, Any]:
    """Bits per byte of the whole validation split; special tokens stand for no bytes and do not count."""
    import numpy as np
    import torch

    from lmcore.tokenizer import load_tokenizer
    from lmcore.tokens import sequential

    vocabulary = load_tokenizer(tokenizer)
    token_bytes = vocabulary.byte_length(np.arange(vocabulary.vocab_size, dtype=np.uint32))
    nats, n_bytes = 0.0, 0
    with torch.no_grad():
        for batch in sequential(tokens, "val", 8, context, tokenizer_bytes=token_bytes):
            logits = logits_of(batch.ids).flatten(0, 1).float()
            each = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), reduction="none")
            counts = (batch.loss_mask & (batch.n_bytes > 0)).flatten()
            nats += float(each[counts].sum())
            n_bytes += int(batch.n_bytes.flatten()[counts].sum())
    return {"bits_per_byte": nats / math.log(2) / n_bytes, "bytes": n_bytes}


if __name__ == "__main__":
    main()
