"""The three stages of curation over a collection of a size asked for: seconds, processes and memory of each.

    python benchmarks/curation.py [--texts FOLDER] [--mb 30 300] [--workers 1 2] [--nights 2000]

The documents are FOLDER's JSONL files (see near_duplicates.py), or Python's own documentation; when there are too few,
they come again, each time with every fourth word spelled backwards, another fourth each time, so that they are as many
different texts. Every stage runs in a process of its own. Memory is the most that the process and its children had
together (proportional set size, looked at twenty times a second, so that what processes share counts once). With
`--nights N` a second edition of N more documents is curated on top of the last corpus.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import storage  # noqa: F401, I001 - before pyarrow, as in every command: it says where Arrow takes its memory from
import near_duplicates
import psutil

from lmcore.collect.editions import write_references
from lmcore.documents import DOCUMENT, make_table, record_id
from storage.atomic import write_json
from storage.parquet import write_parquet

STAGES = ("measure", "compare", "curate")
FILE_BYTES = 32 << 20


def main() -> int:
    """Make the collections, run the stages, print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--mb", type=float, nargs="+", default=[30.0, 300.0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--nights", type=int, default=0, help="documents of a second edition")
    parser.add_argument("--limit-mib", type=int, default=0, help="address space that every process may have")
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    parser.add_argument("--stage", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        return run_stage(*arguments.stage)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        print(f"{'MB':>6} {'documents':>10} {'stage':8} {'workers':>7} {'seconds':>8} {'CPU s':>8} {'MiB':>6}")
        for size in arguments.mb:
            at = folder / f"{size:g}"
            count = collection(at / "collected", arguments.texts, size, 0)
            for stage in STAGES:
                for workers in arguments.workers if stage == "measure" else arguments.workers[:1]:
                    figures = timed(at, stage, workers, "one", arguments.limit_mib)
                    print(f"{size:6g} {count:10,} {stage:8} {workers:7} {figures}", flush=True)
        if arguments.nights:
            collection(at / "night", arguments.texts, arguments.nights, 99, documents=True)
            for stage in STAGES:
                figures = timed(at, stage, arguments.workers[0], "two", arguments.limit_mib)
                print(f"{'night':>6} {arguments.nights:10,} {stage:8} {arguments.workers[0]:7} {figures}", flush=True)
    return 0


def collection(folder: Path, texts: Path | None, size: float, first: int, *, documents: bool = False) -> int:
    """A collected artifact of so many MB of text (or so many documents); gives how many documents it has."""
    held: list[dict[str, object]] = []
    files = count = total = filed = 0
    for text in varied(near_duplicates.documents(texts), first):
        url = f"http://bench/{first}/{count}"
        held.append(
            {
                **dict.fromkeys(DOCUMENT.names, ""),
                **{"record_id": record_id("bench", url, text), "source": "bench", "url": url, "text": text},
                **{"kind": "prose", "lang": "und", "synthetic": False, "page_of_origin": url, "parent_record": None},
                **{"tags": [], "turns": None, "meta": "{}", "license": "unknown"},
            }
        )
        count, total = count + 1, total + len(text.encode())
        done = count >= size if documents else total >= size * 1e6
        if done or total - filed >= FILE_BYTES:
            write_parquet(folder / "documents" / f"{files:05d}.parquet", make_table(held, DOCUMENT))
            files, filed, held = files + 1, total, []
        if done:
            break
    write_references(folder / "references.parquet", {})
    write_json(folder / "edition.json", {"edition": "1", "source": "bench", "parent": None, "depth": 1})
    return count


def varied(texts: list[str], first: int) -> Iterator[str]:
    """The texts, then the same with other words backwards, again and again."""
    for time_ in itertools.count(first):
        for text in texts:
            yield text if not time_ else backwards(text, time_)


def backwards(text: str, time_: int) -> str:
    """Every fourth word or so the other way round."""
    words = text.split(" ")
    return " ".join(word[::-1] if hash((place * 2654435761 + time_ * 97) % 1009) % 4 == 0 else word
                    for place, word in enumerate(words))  # fmt: skip


def timed(folder: Path, stage: str, workers: int, edition: str, limit_mib: int) -> str:
    """Run a stage in a process of its own: seconds, CPU seconds and MiB."""
    command = [sys.executable, __file__, "--stage", str(folder), stage, str(workers), edition]
    if limit_mib:
        command = ["prlimit", f"--as={limit_mib << 20}", *command]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    watched = psutil.Process(process.pid)
    most = 0
    while process.poll() is None:
        most = max(most, memory(watched))
        time.sleep(0.05)
    seconds = time.monotonic() - began
    assert process.stdout
    told = json.loads(process.stdout.read() or b"{}")
    if process.returncode:
        raise SystemExit(f"{stage} ended with status {process.returncode}")
    return f"{seconds:8.1f} {told['cpu']:8.1f} {most >> 20:6,}"


def memory(process: psutil.Process) -> int:
    """Bytes that a process and its children have together."""
    total = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_full_info().pss
    except psutil.Error:
        return 0
    return total


def run_stage(folder: str, stage: str, workers: str, edition: str) -> int:
    """One stage, in this process; prints its CPU seconds, children included."""
    from lmcore.collect.editions import own_records
    from lmcore.curate import compare, measure, params, records
    from lmcore.curate.stage import curate
    from lmcore.progress import silent

    at, two = Path(folder), edition == "two"
    collected = at / ("night" if two else "collected")
    measured, compared, curated = (at / f"{name}-{edition}-{workers}" for name in STAGES)
    first = [at / f"{name}-one-{workers}" / "out" for name in STAGES] if two else []
    if stage == "measure":
        runtime = params.MeasureRuntime(workers=int(workers))
        measure.measure_collected(measured, collected, params=params.MeasureParams(), runtime=runtime, report=silent)
    elif stage == "compare":
        compare.compare_measured(
            compared, [measured / "out"], first[:1], first[1:2],
            params=params.CompareParams(), runtime=params.CompareRuntime(), report=silent,
        )  # fmt: skip
    else:
        parts = [records.Part.of(measured / "out", own_records(collected))]
        if two:
            parts.insert(0, records.Part.of(first[0], own_records(at / "collected")))
        curate(
            curated, parts, [*first[1:2], compared / "out"], first[2] if two else None,
            about={"measures": [], "compares": [], "compared": "", "measured": []},
            params=params.CurateParams(), runtime=params.CurateRuntime(), report=silent,
            comparing=params.CompareParams(),
        )  # fmt: skip
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"cpu": sum(one.ru_utime + one.ru_stime for one in used)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
