"""All signals of a text beside datatrove's FineWeb chain, on the same documents in one run, by CPU seconds.

    python benchmarks/signals_speed.py --documents FILE.jsonl... --datatrove PYTHON [--megabytes 8] [--rounds 3]

FILE.jsonl holds one document a line with `text`, and `lang` and `kind` where known. PYTHON is the interpreter of an
environment of its own with datatrove[processing], spacy and nltk. The peer runs Gopher repetition, Gopher quality, C4
(without its rule on line ends, as FineWeb used it) and FineWeb quality, one after the other, and like any chain stops
at the first that drops a document; its spaCy model is loaded and used once before the clock starts. Ours computes every
signal for every document. Both get English documents of at least 200 characters, drawn evenly from all files.

    python benchmarks/signals_speed.py --extremes

Printed: megabytes of UTF-8 a CPU second of each, the ratio, the share of documents on which verdicts agree (also with
datatrove's word splitter replaced by ours, white space), and ours for each file given with --more. With --extremes
instead: CPU seconds and the whole process's peak memory for each of a few extreme texts, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEER = r"""
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters import gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter

texts = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
chain = {
    "gopher_repetition": GopherRepetitionFilter(),
    "gopher_quality": GopherQualityFilter(),
    "c4": C4QualityFilter(filter_no_terminal_punct=False),
    "fineweb": FineWebQualityFilter(),
}

def passes(rule, text):
    kept = rule.filter(Document(text=text, id=""))
    return not isinstance(kept, tuple) and bool(kept)

warm = "A few plain sentences. They load what has to be loaded. The rest is quick."
for rule in chain.values():
    passes(rule, warm * 20)
start = time.process_time()
kept = 0
for text in texts:
    document = Document(text=text, id="")
    for rule in chain.values():
        verdict = rule.filter(document)
        if isinstance(verdict, tuple) or not verdict:
            break
    else:
        kept += 1
seconds = time.process_time() - start
def all_verdicts():
    return {name: [passes(rule, text) for text in texts] for name, rule in chain.items()}

answer = {"seconds": seconds, "kept": kept}
if sys.argv[2] == "verdicts":
    answer["verdicts"] = all_verdicts()
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = lambda text, language: text.split()
    answer["plain"] = all_verdicts()
print(json.dumps(answer))
"""

EXTREMES: dict[str, Callable[[random.Random], list[str]]] = {
    "10 MB in one line": lambda draw: ["".join(draw.choices("abcdefg hij klm", k=10_000_000))],
    "10 MB without a space": lambda draw: ["".join(draw.choices("abcdefghij", k=10_000_000))],
    "10 MB of full stops": lambda _: ["a" + "." * 10_000_000 + "b"],
    "10 MB of Japanese": lambda draw: ["".join(draw.choices("日本語の字は多い", k=3_400_000))],
    "five million lines of one letter": lambda _: ["a\n" * 5_000_000],
    "a million texts of one word": lambda _: ["word"] * 1_000_000,
    "100 MB in one line": lambda draw: ["".join(draw.choices("abcdefg hij klm", k=100_000_000))],
}

GOPHER_REPETITION = {
    "duplicate_line_count_share": 0.30, "duplicate_paragraph_count_share": 0.30, "duplicate_line_share": 0.20,
    "duplicate_paragraph_share": 0.20, "top_2_gram_share": 0.20, "top_3_gram_share": 0.18, "top_4_gram_share": 0.16,
    "duplicate_5_gram_share": 0.15, "duplicate_6_gram_share": 0.14, "duplicate_7_gram_share": 0.13,
    "duplicate_8_gram_share": 0.12, "duplicate_9_gram_share": 0.11, "duplicate_10_gram_share": 0.10,
}  # fmt: skip


def verdicts(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which documents pass the published limits by our signals."""
    calm = np.ones(len(found["n_words"]), bool)
    for name, limit in GOPHER_REPETITION.items():
        calm &= found[name] <= limit
    return {
        "gopher_repetition": calm,
        "gopher_quality": (found["n_words"] >= 50)
        & (found["n_words"] <= 100_000)
        & (found["mean_word_length"] >= 3)
        & (found["mean_word_length"] <= 10)
        & (found["hash_word_ratio"] <= 0.1)
        & (found["ellipsis_word_ratio"] <= 0.1)
        & (found["bullet_line_share"] <= 0.9)
        & (found["ellipsis_line_share"] <= 0.3)
        & (found["alpha_word_share"] >= 0.8)
        & (found["stop_words"] >= 2),
        "c4": (found["n_sentences"] >= 5) & (found["curly_bracket_share"] == 0) & (found["lorem_ipsum"] == 0),
        "fineweb": (found["punctuation_line_share"] >= 0.12)
        & (found["short_line_share"] <= 0.67)
        & (found["duplicate_line_share"] <= 0.01)
        & (found["newline_word_ratio"] <= 0.3),
    }


def read(files: list[Path], megabytes: float, seed: int) -> list[dict[str, str]]:
    """About so many megabytes, an equal part from each file, at random."""
    chosen = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [row for row in rows if len(row["text"]) >= 200]
        random.Random(seed).shuffle(rows)
        size = 0.0
        for row in rows:
            if size >= megabytes / len(files):
                break
            chosen.append(row)
            size += len(row["text"].encode()) / 1e6
    return chosen


def ours(rows: list[dict[str, str]], *, warm: bool = True) -> tuple[float, dict[str, np.ndarray]]:
    from lmcore.curate.signals import signals

    texts, langs = [row["text"] for row in rows], [row.get("lang", "en") for row in rows]
    kinds = [row.get("kind", "prose") for row in rows]
    if warm:
        signals(texts[:20], langs[:20], kinds[:20])
    start = time.process_time()
    found = signals(texts, langs, kinds)
    return time.process_time() - start, found


def peer(python: str, rows: list[dict[str, str]], mode: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder, "peer.py"), Path(folder, "texts.jsonl")
        script.write_text(PEER, encoding="utf-8")
        data.write_text("\n".join(json.dumps(row["text"]) for row in rows) + "\n", encoding="utf-8")
        done = subprocess.run([python, script, data, mode], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def extremes() -> None:
    for name in EXTREMES:
        subprocess.run([sys.executable, __file__, "--extreme", name], check=True)


def extreme(name: str) -> None:
    texts = EXTREMES[name](random.Random(1))
    seconds, _ = ours([{"text": text} for text in texts], warm=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(f"{name}: {seconds:.1f} CPU s, peak {peak:,.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, nargs="+", default=[])
    parser.add_argument("--extremes", action="store_true")
    parser.add_argument("--extreme", choices=EXTREMES, help="one of them, in this process")
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="ours alone, each file by itself")
    parser.add_argument("--datatrove", help="Python of an environment with datatrove")
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.extremes:
        extremes()
    elif options.extreme:
        extreme(options.extreme)
    elif options.documents:
        compare(options)
    else:
        parser.error("--documents or --extremes is needed")


def compare(options: argparse.Namespace) -> None:
    rows = read(options.documents, options.megabytes, options.seed)
    size = sum(len(row["text"].encode()) for row in rows) / 1e6
    print(f"{len(rows):,} documents, {size:.2f} MB")
    our_speed, peer_speed = [], []
    for number in range(options.rounds):
        seconds, found = ours(rows)
        our_speed.append(size / seconds)
        line = f"round {number + 1}: ours {our_speed[-1]:.2f} MB/CPU s"
        if options.datatrove:
            answer = peer(options.datatrove, rows, "verdicts" if number == 0 else "speed")
            peer_speed.append(size / answer["seconds"])
            line += f", datatrove {peer_speed[-1]:.3f}, ratio {our_speed[-1] / peer_speed[-1]:.1f}"
            if number == 0:
                theirs, plain = answer["verdicts"], answer["plain"]
                print(f"datatrove's chain keeps {answer['kept'] / len(rows):.3f}")
        print(line, flush=True)
    print(f"median: ours {statistics.median(our_speed):.2f} MB/CPU s")
    if peer_speed:
        print(f"median: datatrove {statistics.median(peer_speed):.3f} MB/CPU s")
        print(f"ratio of medians: {statistics.median(our_speed) / statistics.median(peer_speed):.1f}")
        for name, mine in verdicts(found).items():
            other, same_words = np.array(theirs[name]), np.array(plain[name])
            print(
                f"{name}: kept by ours {mine.mean():.3f}; by datatrove {other.mean():.3f}, "
                f"equal {(mine == other).mean():.3f}; by datatrove with words at white space "
                f"{same_words.mean():.3f}, equal {(mine == same_words).mean():.3f}"
            )
    for file in options.more:
        rows = read([file], options.megabytes, options.seed)
        size = sum(len(row["text"].encode()) for row in rows) / 1e6
        speeds = [size / ours(rows)[0] for _ in range(options.rounds)]
        print(f"{file.stem}: {len(rows):,} documents, {size:.2f} MB, {statistics.median(speeds):.2f} MB/CPU s")


if __name__ == "__main__":
    main()
