"""Token shards and their vocabulary for a benchmark, made by the project's own stages from a text file.

Without a file the text is Python's own: its documentation's topics and the sources of its library, the same on every
machine with the same Python. A benchmark of speed needs no other, and one of quality says which it had.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DOCUMENT = 8_000  # characters of a text file that become one document
VAL, TEST, OF = 1, 2, 20  # of so many documents, the second is for validation and the third for a test


def tokens_of(folder: Path, text: Path | None, vocab_size: int, megabytes: float) -> tuple[Path, Path]:
    """Folders of the tokens and of the tokenizer of the first `megabytes` of a text, made in `folder`."""
    from lmcore.documents import CURATED, make_table
    from lmcore.progress import silent
    from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
    from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
    from storage.parquet import write_parquet

    curated = folder / "curated"
    rows: dict[str, list[dict[str, object]]] = {"train": [], "val": [], "test": []}
    left = megabytes * 1e6
    for number, document in enumerate(_cut(text) if text else _pythons_own()):
        if left <= 0:
            break
        left -= len(document.encode())
        split = {VAL: "val", TEST: "test"}.get(number % OF, "train")
        rows[split].append(_row(number, document))
    if not all(rows.values()):
        raise SystemExit(f"{text} is too small: {OF} documents of {DOCUMENT:,} characters are the least")
    for split, some in rows.items():
        write_parquet(curated / split / "00000.parquet", make_table(some, CURATED))
    train_tokenizer(
        folder / "tokenizer",
        curated,
        params=TokenizerParams(vocab_size=vocab_size, cap=True),
        runtime=TokenizerRuntime(),
        report=silent,
    )
    tokenizer = folder / "tokenizer" / "out"
    make_tokens(folder / "tokens", curated, tokenizer, params=TokensParams(), runtime=TokensRuntime(), report=silent)
    return folder / "tokens" / "out", tokenizer


def _cut(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for start in range(0, len(text), DOCUMENT):
        yield text[start : start + DOCUMENT]


def _pythons_own() -> Iterator[str]:
    """Topics of the documentation, then the library's sources by name."""
    from pydoc_data.topics import topics

    yield from topics.values()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py")) + sorted(library.glob("[a-z]*/*.py")):
        if "packages" not in path.parts[-2]:
            yield path.read_text(encoding="utf-8", errors="replace")


def _row(number: int, text: str) -> dict[str, object]:
    name = f"{number:032x}"
    return {
        "record_id": name, "text_id": name, "text": text, "n_bytes": len(text.encode()), "source": "benchmark",
        "url": f"file:{name}", "title": "", "kind": "prose", "lang": "en", "license": "PSF-2.0", "synthetic": False,
        "page_of_origin": name, "turns": None, "quality": 50.0, "complexity": 50.0, "cluster_id": name,
        "cluster_size": 1,
    }  # fmt: skip
