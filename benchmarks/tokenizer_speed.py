"""Learning and encoding: ours (`tokenizers` to learn, tiktoken to encode) beside other programs, on real text.

    python benchmarks/tokenizer_speed.py [--texts FOLDER] [--mb 10] [--vocab 4096 16384] [--gpt2 FOLDER]
        [--skip-training]

The text is FOLDER's JSONL files (`text`, `lang`), an equal share of each, or Python's own sources and documentation.
Needs `pip install rustbpe sentencepiece`; what is not installed is left out and said. Figures are CPU seconds of one
thread; every tenth document is held out, and bytes per token are measured on these. `--gpt2`: a folder with GPT-2's
encoder.json and vocab.bpe, to compare with 50,257 tokens learnt from English. Ends with 1 when an id differs.
"""

from __future__ import annotations

import os

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}

import argparse
import importlib.util
import io
import json
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tiktoken
from tokenizers import Tokenizer

from lmcore.tokenizer import ByteBPE
from lmcore.tokenizer.byte_bpe import GPT2, LLAMA3, byte_letters

Documents = list[tuple[str, str]]  # language, text
# What splits and merges could disagree on, and what a page may hold that is not meant for it.
EDGES = [
    "<|endoftext|><|pad|> <|end|>\n",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇭🇺",
    "\x00\x01\x7f\x85\u2028\u2029\ufeff\u200b\ufffd\ufffe\U0010ffff",
    "Z̷̢̛a̸͎͝l̵̙̈g̶o e\u0301 \u212b ﬁ ½ ² Ⅷ ſ K 'ſ 'S 'Ll",
    " \t  \r\n\n \r\r\n\u00a0\u3000  x\n\n\n  y \n",
    "漢字かな交じり文" * 50,
    "ኢትዮጵያ፡በአፍሪካ፡ቀንድ። " * 50,
    "=" * 5000,
    " " * 5000,
    "árvíztűrő\u00adtükörfúrógép " * 50,
]


def main() -> int:
    """Run and print; 1 when tiktoken and tokenizers disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="folder of JSONL files")
    parser.add_argument("--mb", type=float, default=10)
    parser.add_argument("--vocab", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--gpt2", type=Path, help="folder with encoder.json and vocab.bpe")
    parser.add_argument("--skip-training", action="store_true", help="only ours learns")
    arguments = parser.parse_args()
    everything = (from_jsonl(arguments.texts) if arguments.texts else from_python())(int(arguments.mb * 1e6))
    held_out, learnt = everything[::10], [pair for i, pair in enumerate(everything) if i % 10]
    size = sum(len(text.encode()) for _, text in learnt)
    languages = sorted({language for language, _ in everything})
    print(f"{size / 1e6:.1f} MB to learn from, {len(learnt)} documents, languages {', '.join(languages)}")
    different = 0
    for vocab in arguments.vocab:
        ours = train_all([text for _, text in learnt], size, vocab, arguments.skip_training)
        different += encode_all(ours, [*(text for _, text in everything), *EDGES], vocab)
        compare(ours, held_out, vocab, arguments.gpt2)
    return 1 if different else 0


def train_all(texts: list[str], size: int, vocab: int, only_ours: bool) -> ByteBPE:
    """Every trainer that is installed on the same texts and split; gives ours."""
    bounds = {"vocab_size": vocab, "min_frequency": 2, "max_token_length": 64}
    seconds, ours = timed(lambda: ByteBPE.train(texts, split="llama3", **bounds))
    print(f"\nvocabulary {vocab:,}, learning")
    print(f"  {'ours (tokenizers)':24} {seconds:7.2f} CPU s {size / seconds / 1e6:6.1f} MB/s")
    if only_ours:
        return ours
    for name, train in (("rustbpe", rustbpe_train), ("sentencepiece", sentencepiece_train)):
        if importlib.util.find_spec(name) is None:
            print(f"  {name:24} not installed")
            continue
        spent, note = timed(lambda train=train: train(texts, vocab))
        print(
            f"  {name:24} {spent:7.2f} CPU s {size / spent / 1e6:6.1f} MB/s  ours / this {seconds / spent:.2f}  {note}"
        )
    return ours


def rustbpe_train(texts: list[str], vocab: int) -> str:
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), vocab, pattern=LLAMA3)
    longest = max(len(token) for token, _ in tokenizer.get_mergeable_ranks())
    return f"longest token {longest} bytes; no min_frequency, no max_token_length"


def sentencepiece_train(texts: list[str], vocab: int) -> str:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.split("\n")),
        model_writer=model,
        vocab_size=vocab,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.9995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=1 << 20,
        num_threads=1,
        minloglevel=2,
    )
    return "another split: characters, and bytes where one is rare"


def encode_all(ours: ByteBPE, texts: list[str], vocab: int) -> int:
    """Ours against the library that defines the ids; gives how many texts came out different."""
    engine = Tokenizer.from_str(ours.to_json())
    engine.encode_special_tokens = True
    size = sum(len(text.encode()) for text in texts)
    ours.encode("")  # the tables are made at the first call
    fast, ids = timed(lambda: ours.encode_ids(texts))
    whole, expected = timed(
        lambda: [
            part.ids
            for start in range(0, len(texts), 200)
            for part in engine.encode_batch_fast(texts[start : start + 200])
        ]
    )
    different = sum(found.tolist() != right for found, right in zip(ids, expected, strict=True))
    print(
        f"vocabulary {vocab:,}, encoding {size / 1e6:.1f} MB\n"
        f"  {'ours (tiktoken)':24} {fast:7.2f} CPU s {size / fast / 1e6:6.1f} MB/s\n"
        f"  {'tokenizers, batches':24} {whole:7.2f} CPU s {size / whole / 1e6:6.1f} MB/s"
        f"  {whole / fast:.1f} times ours\n"
        f"  {len(texts)} texts, {sum(map(len, ids)):,} tokens, {different} texts with other ids"
    )
    return different


def compare(ours: ByteBPE, held_out: Documents, vocab: int, gpt2: Path | None) -> None:
    """Bytes per token of held-out text, by language."""
    sizes: dict[str, int] = defaultdict(int)
    counters: dict[str, Callable[[str], int]] = {f"ours, {vocab:,}": lambda text: len(ours.encode(text))}
    if gpt2:
        reference = gpt2_tokenizer(gpt2)
        counters["GPT-2, 50,257"] = lambda text: len(reference.encode_ordinary(text))
    counters |= {"words": lambda text: len(text.split())}
    tokens: dict[str, dict[str, int]] = {name: defaultdict(int) for name in counters}
    for language, text in held_out:
        sizes[language] += len(text.encode())
        for name, count in counters.items():
            tokens[name][language] += count(text)
    print("bytes per token, held out\n  " + f"{'':8} {'MB':>6}" + "".join(f" {name:>16}" for name in counters))
    for language in sorted(sizes):
        ratios = "".join(f" {sizes[language] / max(1, tokens[name][language]):16.2f}" for name in counters)
        print(f"  {language:8} {sizes[language] / 1e6:6.2f}{ratios}")


def gpt2_tokenizer(folder: Path) -> tiktoken.Encoding:
    """GPT-2's own vocabulary, from the two files OpenAI published."""
    letters = byte_letters()
    vocabulary: dict[str, int] = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    ranks = {bytes(letters[c] for c in token): i for token, i in vocabulary.items() if token != "<|endoftext|>"}
    return tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})


def from_jsonl(folder: Path) -> Callable[[int], Documents]:
    """Texts of every JSONL file below a folder, as much of each as makes `size` bytes together."""

    def read(size: int) -> Documents:
        open_files = {path: path.open(encoding="utf-8") for path in sorted(folder.rglob("*.jsonl"))}
        found: Documents = []
        held = 0
        while open_files and held < size:
            share = (size - held) / len(open_files) + 1
            for path, file in list(open_files.items()):
                taken = 0
                while taken < share:
                    line = file.readline()
                    if not line:
                        del open_files[path]
                        break
                    row: dict[str, Any] = json.loads(line)
                    if "text" in row:
                        found.append((row.get("lang", "und"), row["text"]))
                        taken += len(row["text"].encode())
                held += taken
        return found

    return read


def from_python() -> Callable[[int], Documents]:
    """Python's help topics and the sources of its standard library."""

    def texts() -> Iterator[tuple[str, str]]:
        yield from (("en", text) for _, text in sorted(topics.items()))
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
            try:
                yield "code", path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue

    def read(size: int) -> Documents:
        found: Documents = []
        held = 0
        for language, text in texts():
            if held >= size:
                break
            found.append((language, text))
            held += len(text.encode())
        return found

    return read


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    sys.exit(main())
