"""What the training loop adds to its steps, and how soon it begins: real trainer processes on real token shards.

    python benchmarks/loop.py [--shape quickstart] [--parts start loader resume processes] [--text FILE] [--rounds 3]

    start      seconds from `python -m lmcore.train` to its first step, without compilation, from a clean work folder
    loader     the loader's share of a step
    resume     a step with a checkpoint every 100 steps, written asynchronously, against a step without, in percent
    processes  tokens a second and memory of 2 processes x 1 thread against 1 process x 2 threads

Rounds take turns, and medians of the rounds are printed. `resume` takes the time between two steps, so that copying,
looking and waiting are in it; looks and samples are off there. The tokens are made from FILE, or from Python's own
texts, by the project's stages. A round of `resume` is 420 steps, some minutes
with --shape quickstart and some twenty with lai-tiny; --every and --checkpoints make it shorter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

# layers, width, heads, context, sequences in a step, vocabulary
SHAPES = {"quickstart": (4, 128, 2, 256, 8, 4096), "lai-tiny": (8, 384, 6, 512, 4, 8000)}
PARTS = ("start", "loader", "resume", "processes")
QUIET = {"sample_at": [], "validate_every": 0, "save_every_seconds": 1e9, "compile": "off"}
SETTLING = 5  # steps at the begin that no figure has


def main() -> None:
    """Measure the parts and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="quickstart")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--text", type=Path, help="a text file; without it Python's own texts")
    parser.add_argument("--mb", type=float, default=2.2, help="megabytes of it that are used")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints of `resume`")
    parser.add_argument("--checkpoints", type=int, default=2, help="in a round of `resume`")
    parser.add_argument("--process-steps", type=int, default=40, help="of a round of `loader` and `processes`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(in_this_process(arguments.worker)), flush=True)
        return
    from texts import tokens_of

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens, tokenizer = tokens_of(folder, arguments.text, SHAPES[arguments.shape][-1], arguments.mb)
        bench = Bench(arguments, folder, {"tokens": str(tokens), "tokenizer": str(tokenizer)})
        layers, width, heads, context, batch, _ = SHAPES[arguments.shape]
        print(
            f"{width} wide, {layers} layers, {heads} heads, {batch} x {context} tokens a step, vocabulary "
            f"{bench.vocabulary():,}; {arguments.rounds} rounds; {arguments.threads} threads but for `processes`",
            flush=True,
        )
        for part in arguments.parts:
            getattr(bench, part)()


class Bench:
    """Runs trainer processes and prints."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, data: dict[str, str]) -> None:
        self.arguments, self.folder, self.data, self.number = arguments, folder, data, 0

    def vocabulary(self) -> int:
        """Its size."""
        return int(json.loads((Path(self.data["tokens"]) / "meta.json").read_text())["vocab_size"])

    def start(self) -> None:
        """From the command to the first step, and what lies between."""
        found: list[dict[str, float]] = []
        for _ in range(self.arguments.rounds):
            job = self.job(3, {"compile": "off", "threads": self.arguments.threads})
            found.append(self.spawned(job)["events"])
        middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
        told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in middle.items())
        print(
            f"start      first step done after {middle['step']:.1f} s (seconds since the command: {told})", flush=True
        )

    def loader(self) -> None:
        """Its share of the time of a step."""
        shares, each = [], []
        for _ in range(self.arguments.rounds):
            found = self.worker(self.job(self.arguments.process_steps, QUIET | {"threads": self.arguments.threads}))
            steps, batches = found["between"][SETTLING:], found["batches"][SETTLING:]
            shares.append(statistics.median(batches) / statistics.median(steps))
            each.append((statistics.median(batches), statistics.median(steps)))
        batch, step = (1000 * statistics.median(column) for column in zip(*each, strict=True))
        print(
            f"loader     {batch:.2f} ms of a step of {step:.1f} ms: {100 * statistics.median(shares):.2f} %", flush=True
        )

    def resume(self) -> None:
        """What checkpoints cost."""
        every, checkpoints = self.arguments.every, self.arguments.checkpoints
        kinds: dict[str, dict[str, Any]] = {"none": {}, "asynchronous": {"save_every_steps": every, "save_async": True}}
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        pauses, memory = [], dict.fromkeys(kinds, 0.0)
        for number in range(self.arguments.rounds):
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                runtime = QUIET | {"threads": self.arguments.threads} | kinds[kind]
                found = self.worker(self.job(every * checkpoints + 2 * SETTLING, runtime))
                steps = found["between"][SETTLING : SETTLING + every * checkpoints]  # each checkpoint is in there
                seconds[kind].append(statistics.fmean(steps))
                memory[kind] = max(memory[kind], found["memory_mib"])
                if kind != "none":
                    saving = found["between"][every::every][:checkpoints]
                    pauses += [step - statistics.median(steps) for step in saving]
        over = [100 * (b / a - 1) for a, b in zip(seconds["none"], seconds["asynchronous"], strict=True)]
        without, pause = statistics.median(seconds["none"]), statistics.median(pauses)
        print(
            f"resume     a checkpoint every {every} steps: {statistics.median(over):+.1f} % of a step of "
            f"{1000 * without:.1f} ms (rounds {', '.join(f'{one:+.1f}' for one in over)})\n"
            f"resume     a save holds the loop up for {1000 * pause:.0f} ms, {100 * pause / every / without:.2f} % of "
            f"{every} steps; {memory['none']:,.0f} MiB without, {memory['asynchronous']:,.0f} MiB with",
            flush=True,
        )

    def processes(self) -> None:
        """Two processes of one thread beside one of two."""
        ways = {"1 x 2": {"processes": 1, "threads": 2}, "2 x 1": {"processes": 2, "threads": 1}}
        speed: dict[str, list[float]] = {way: [] for way in ways}
        memory = dict.fromkeys(ways, 0)
        for number in range(self.arguments.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                found = self.spawned(self.job(self.arguments.process_steps, QUIET | ways[way]))
                speed[way].append(found["tokens_per_second"])
                memory[way] = max(memory[way], found["memory"])
        ratio = statistics.median(b / a for a, b in zip(speed["1 x 2"], speed["2 x 1"], strict=True))
        for way in ways:
            told = f"{statistics.median(speed[way]):,.0f} tokens/s, {memory[way] / 2**20:,.0f} MiB in all"
            print(f"processes  {way} (processes x threads): {told}", flush=True)
        print(f"processes  2 x 1 / 1 x 2, median of paired rounds: {ratio:.2f}", flush=True)

    def job(self, steps: int, runtime: dict[str, Any]) -> Path:
        """A job file of a work folder that nobody has used."""
        layers, width, heads, context, batch, _ = SHAPES[self.arguments.shape]
        self.number += 1
        work = self.folder / f"work-{self.number}"
        work.mkdir()
        model = {"n_layers": layers, "d_model": width, "n_heads": heads, "context": context}
        params = {"model": model, "batch": batch, "steps": steps, "prompts": ["The"]}
        values = {"work": str(work), **self.data, "params": params, "runtime": {"device": "cpu"} | runtime}
        (work / "job.json").write_text(json.dumps(values))
        return work / "job.json"

    def worker(self, job: Path) -> dict[str, Any]:
        """The loop in a process of its own that looks at the clock between two steps."""
        done = subprocess.run(
            [sys.executable, str(HERE), "--worker", str(job)], stdout=subprocess.PIPE, text=True, check=True
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def spawned(self, job: Path) -> dict[str, Any]:
        """The trainer as the flow starts it: when its lines came, its speed, the most memory of all its processes."""
        from lmcore.train.journal import FILE, is_step, read_lines

        lines, events, memory = job.parent / FILE, {}, 0
        began = time.perf_counter()
        with open(job.parent / "train.log", "wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
            process = subprocess.Popen(
                [sys.executable, "-m", "lmcore.train", str(job)], stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            now = time.perf_counter() - began
            if "step" not in events:
                for line in read_lines(lines):
                    name = "step" if is_step(line) else line.get("event", "")
                    if name in ("probe", "plan", "training", "step"):
                        events.setdefault(name, now)
            memory = max(memory, resident(watched))
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit((job.parent / "train.log").read_text())
        training = json.loads((job.parent / "out" / "provenance" / "training.json").read_text())
        tokens = training["tokens"] / training["steps"]
        return {"events": events, "memory": memory, "tokens_per_second": tokens / training["measured"]["step_seconds"]}


def resident(process: psutil.Process) -> int:
    """Bytes that a process and its children hold now."""
    total = 0
    for one in [process, *children(process)]:
        with contextlib.suppress(psutil.Error):
            total += one.memory_info().rss
    return total


def children(process: psutil.Process) -> list[psutil.Process]:
    """Those that there still are."""
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def in_this_process(path: Path) -> dict[str, Any]:
    """Run a job; seconds between two steps, of each batch of the loader, and the most memory held."""
    from lmcore.train.allocator import raise_thresholds, sleep_at_barriers

    sleep_at_barriers()
    allocator = raise_thresholds()
    from lmcore.tokens import Loader
    from lmcore.train.loop import train
    from lmcore.train.params import Job

    at: list[float] = []
    batches: list[float] = []
    read: Callable[..., Any] = Loader.batch

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        found = read(*arguments)
        batches.append(time.perf_counter() - started)
        return found

    def between() -> bool:  # the loop asks once before each step
        at.append(time.perf_counter())
        return False

    Loader.batch = timed  # type: ignore[method-assign]
    metrics = train(Job.model_validate_json(path.read_bytes()), stopped=between, allocator=allocator)
    steps = [after - before for before, after in pairwise(at)]
    return {"between": steps, "batches": batches[-len(steps) :], "memory_mib": metrics["peak_memory_mib"]}


if __name__ == "__main__":
    main()
