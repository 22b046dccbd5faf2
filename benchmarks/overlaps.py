"""Overlaps with held-out texts and long repeats: speed beside peers, and what was planted and found.

    python benchmarks/overlaps.py [--text FOLDER ...] [--mb 60] [--rounds 3] [--brief]

Text: the .py, .md, .rst and .txt files of FOLDER (the standard library and the installed packages when none is
named); every file is one text. Held out are every 50th text and questions made of their sentences. Planted are runs
of 13 to 40 words of held-out texts, in other case and with other punctuation, in every 20th of the other texts.
Prints CPU seconds (user and system) of this process, the best of the rounds, in MB of UTF-8 for each CPU second.

Peers: a Python set of 13-word tuples, the way most evaluation harnesses do it, and for long repeats a suffix array of
the bytes by pydivsufsort (pip install pydivsufsort; left out when it is not there) on one block of 20 MB, without the
step that turns equal neighbours into spans.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import re
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lmcore.curate.decontaminate import DecontaminateParams, scan
from lmcore.curate.held_out import HeldOut
from lmcore.curate.normalise import normalise
from lmcore.curate.overlap import tokenise
from lmcore.curate.substrings import SubstringParams, long_repeats

SUFFIXES = (".py", ".md", ".rst", ".txt")
_WORD = re.compile(r"[^\W_]+")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="*")
    parser.add_argument("--mb", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--brief", action="store_true")
    arguments = parser.parse_args()
    if arguments.brief:
        arguments.mb, arguments.rounds = 3, 1
    paths = sysconfig.get_paths()
    texts = read(arguments.text or [Path(paths["stdlib"]), Path(paths["purelib"])], arguments.mb)
    generator = random.Random(arguments.seed)
    generator.shuffle(texts)
    held, train = texts[::50], [text for number, text in enumerate(texts) if number % 50]
    print(f"{len(train):,} texts, {size(train):.1f} MB; held out {len(held):,} texts, {size(held):.2f} MB")
    with tempfile.TemporaryDirectory() as folder:
        overlaps(train, held, Path(folder), generator, arguments.rounds)
        repeats(train, Path(folder), arguments.rounds)


def overlaps(train: list[str], held: list[str], folder: Path, generator: random.Random, rounds: int) -> None:
    """Speed of building and scanning, and recall and precision on planted runs."""
    params = DecontaminateParams()
    rows = [("held", str(number), text) for number, text in enumerate(held)]
    seconds = best(rounds, lambda: HeldOut.build(rows, params.size, folder / "index"))
    print(f"build the index: {size(held) / seconds:.0f} MB/CPU s")
    held_out = HeldOut.open(folder / "index")
    ids = [str(number) for number in range(len(train))]
    first = scan(train, ids, held_out, params)
    print(f"as they are: {len(first.cuts):,} texts overlap, {first.hits.num_rows:,} hits")
    seconds = best(rounds, lambda: scan(train, ids, held_out, params))
    print(f"scan with these hits: {size(train) / seconds:.0f} MB/CPU s")
    clean = first.texts
    seconds = best(rounds, lambda: scan(clean, ids, held_out, params))
    print(f"scan without hits: {size(clean) / seconds:.0f} MB/CPU s")

    planted = {}
    for number in range(0, len(clean), 20):
        which = generator.randrange(len(held))
        words = held[which].split()
        length = generator.randint(13, 40)
        if len(words) < length:
            continue
        start = generator.randrange(len(words) - length + 1)
        quote = changed(words[start : start + length], generator)
        if len(tokenise([quote]).start) < 13:
            continue
        host = clean[number].split("\n")
        place = generator.randrange(len(host) + 1)
        planted[number] = (which, "\n".join([*host[:place], quote, *host[place:]]))
    mixed = [planted[number][1] if number in planted else text for number, text in enumerate(clean)]
    found = scan(mixed, ids, held_out, params)
    named = {(row["record_id"], row["item"]) for row in found.hits.to_pylist()}
    right = sum((str(number), str(which)) in named for number, (which, _) in planted.items())
    others = len(set(found.cuts) - set(planted))
    print(f"planted {len(planted):,}: found {right:,}; other texts cut: {others:,}")
    again = scan(found.texts, ids, held_out, params)
    print(f"a second scan of what is left finds {again.hits.num_rows}")

    part = clean[: max(1, len(clean) // 10)]
    seconds = best(1, lambda: by_tuples(part, held))
    print(f"peer, set of tuples of words in Python: {size(part) / seconds:.1f} MB/CPU s")


def repeats(train: list[str], folder: Path, rounds: int) -> None:
    """Speed of finding long repeats."""

    def batches() -> Iterator[Sequence[str]]:
        for start in range(0, len(train), 500):
            yield train[start : start + 500]

    params = SubstringParams()
    seconds = best(rounds, lambda: long_repeats(batches, params.size, folder / "repeats"))
    found = long_repeats(batches, params.size, folder / "repeats")
    chars = int((found.end - found.start).sum()) / sum(map(len, train))
    print(f"long repeats: {size(train) / seconds:.0f} MB/CPU s; {len(found.text):,} spans, {chars:.1%} of the text")
    if importlib.util.find_spec("pydivsufsort") is None:
        print("left out: pydivsufsort is not installed (pip install pydivsufsort)")
        return
    divsufsort = importlib.import_module("pydivsufsort").divsufsort
    block = np.frombuffer("\n".join(train).encode()[:20_000_000], np.uint8).copy()  # it takes no read-only one
    seconds = best(1, lambda: divsufsort(block))
    print(f"peer, suffix array of one block by pydivsufsort: {len(block) / 1e6 / seconds:.1f} MB/CPU s")


def by_tuples(texts: Sequence[str], held: Sequence[str]) -> int:
    """How many texts have a run of 13 words of a held-out text."""
    known = {gram for text in held for gram in grams(text)}
    return sum(any(gram in known for gram in grams(text)) for text in texts)


def grams(text: str) -> Iterator[tuple[str, ...]]:
    """Every 13 words in a row."""
    words = _WORD.findall(text.lower())
    return (tuple(words[start : start + 13]) for start in range(len(words) - 12))


def changed(words: Sequence[str], generator: random.Random) -> str:
    """The same words in other case, with other punctuation between."""
    text = generator.choice(("  ", "\n", ", ", " - ")).join(words)
    return generator.choice((str.upper, str.lower, str))(text)


def read(folders: Sequence[Path], megabytes: float) -> list[str]:
    """Normalised texts of up to so many MB together."""
    texts = []
    left = megabytes * 1e6
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if left > 0 and path.suffix in SUFFIXES and path.is_file():
                text = normalise(path.read_bytes().decode("utf-8", "replace"))
                left -= len(text.encode())
                texts.append(text)
    return texts


def size(texts: Sequence[str]) -> float:
    """MB of UTF-8."""
    return sum(len(text.encode()) for text in texts) / 1e6


def best(rounds: int, work: Callable[[], object]) -> float:
    """CPU seconds of the fastest round."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


if __name__ == "__main__":
    main()
