"""Every benchmark beside the peers that are here, one after the other: what `make bench` runs.

    python benchmarks/bench.py [--nanogpt PATH] [--text FILE] [--site DIR] [--corpus DIR] [--peers PYTHON]
        [--only NAME ...] [--brief]

A peer that is not installed is left out, and so said; nanoGPT is a checkout whose path is given, with make as
`make bench NANOGPT=PATH`. `--brief` is for trying whether everything runs: its figures mean nothing. Wants a quiet
machine and the better part of an hour. Prints each command before its figures; ends with 1 when one of them failed.
torture.py, which compares runs and no speed, is `make torture`.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PEERS = ("transformers", "rustbpe", "sentencepiece", "scrapy")


def main() -> int:
    """Run them; 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--text", type=Path, help="a text file for `loop` and `race`")
    parser.add_argument("--site", type=Path, help="a folder of HTML trees for `crawl`")
    parser.add_argument("--corpus", type=Path, help="a folder of JSONL files with `text` and `lang`, for curation")
    parser.add_argument("--peers", help="Python of an environment with gaoya, rensa and datatrove")
    names = sorted({command[0] for command in commands(None, None, Path(), Path(), None, False)})
    parser.add_argument("--only", nargs="+", choices=names)
    parser.add_argument("--brief", action="store_true")
    arguments = parser.parse_args()
    for peer in PEERS:
        if importlib.util.find_spec(peer) is None:
            print(f"left out: {peer} is not installed (pip install {peer})")
    if arguments.site is None:
        print("left out: crawl beside scrapy (make bench SITE=DIR, a folder of HTML trees)")
    if arguments.nanogpt is None:
        print("left out: nanoGPT (make bench NANOGPT=PATH, a checkout of karpathy/nanoGPT)")
    failed = 0
    if arguments.peers is None:
        print("left out: gaoya, rensa and datatrove (make bench PEERS=PYTHON of an environment that has them)")
    given = (arguments.nanogpt, arguments.text, arguments.site, arguments.corpus, arguments.peers, arguments.brief)
    for name, *options in commands(*given):
        if arguments.only and name not in arguments.only:
            continue
        if name == "generate" and importlib.util.find_spec("transformers") is None:
            continue  # it has no other peer
        print(f"\n$ python benchmarks/{name}.py {shlex.join(options)}", flush=True)
        failed += bool(subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *options]).returncode)
    return int(failed > 0)


def commands(
    nanogpt: Path | None, text: Path | None, site: Path | None, corpus: Path | None, peers: str | None, brief: bool
) -> list[list[str]]:
    """Name and options of each benchmark."""
    peer = ["--nanogpt", str(nanogpt)] if nanogpt else []
    own = ["--text", str(text)] if text else []
    rounds = ["--rounds", "1"] if brief else []
    found = [
        ["train_step", "--shape", shape, *peer, *rounds, *(["--steps", "1"] if brief else [])]
        for shape in (["quickstart"] if brief else ["quickstart", "lai-tiny", "cllm"])
    ]
    short = ["--every", "5", "--checkpoints", "1", "--process-steps", "10"] if brief else []
    for shape in ["quickstart"] if brief else ["quickstart", "lai-tiny"]:
        found.append(["loop", "--shape", shape, *own, *rounds, *short])
    found.append(["generate", *rounds, *(["--shape", "quickstart", "--tokens", "16"] if brief else [])])
    found.append(["race", *peer, *own, "--minutes", "0.1" if brief else "2"])
    found.append(["cllm_file"])
    found.append(["tokenizer_speed", *(["--mb", "1", "--vocab", "1024"] if brief else [])])
    found.append(["crawl", "--frontier", "2000" if brief else "100000"])
    if site:
        found.append(["crawl", "--site", str(site), *(["--brief"] if brief else [])])
    found.append(["extraction"])
    return found + curation(corpus, peers, brief)


def curation(corpus: Path | None, peers: str | None, brief: bool) -> list[list[str]]:
    """Those of curation: `corpus` is a folder of JSONL files, `peers` a Python that has gaoya, rensa and datatrove."""
    texts = ["--texts", str(corpus)] if corpus else []
    python = ["--peers", peers] if peers else ["--run", "ours"]
    found = [
        ["near_duplicates", *texts, *python, *(["--copies", "200", "--rounds", "1"] if brief else [])],
        ["nightly", *texts, *(["--known", "20000", "--new", "200"] if brief else [])],
        ["curation", *texts, *(["--mb", "1"] if brief else ["--workers", "1", "2", "--nights", "2000"])],
        ["privacy_speed", *texts, *(["--mb", "1"] if brief else [])],
        ["overlaps", *(["--brief"] if brief else [])],
    ]
    documents = sorted(corpus.rglob("*.jsonl"))[:8] if corpus else []
    if documents:
        options = ["--documents", *map(str, documents), *(["--datatrove", peers] if peers else [])]
        found.append(["signals_speed", *options, *(["--megabytes", "1", "--rounds", "1"] if brief else [])])
        found.append(["quality", *texts])
    return found


if __name__ == "__main__":
    sys.exit(main())
