"""`collect-train export --format text`: a split of a corpus as one file of lines.

Every line of the file is a line of a text that is not blank, with one newline after it: newlines within a text are
newlines of the file, blank lines are left out, texts follow each other without a mark. So `wc -l` and `grep -c ''`
count what `stats` calls lines, and `LC_ALL=C sort -u | wc -l` what it calls unique.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.corpora import corpus_of
from lmcore.curate.line_stats import text_lines
from lmcore.documents import SPLITS, iter_texts
from storage.atomic import write_chunks
from storage.errors import UserError
from storage.store import Artifact, Store


def export_text(store: Store, name: str, out: Path, split: str, console: Console) -> int:
    """Write the texts of a split, in the order of the corpus, each once; gives the number of lines.

    Raises UserError for what is no corpus or split, and for a split without texts; StorageError for a disk that
    refuses. A file that is there is replaced when the new one is whole.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder", "name the file to write, such as train.txt")
    corpus = corpus_of(store, name)
    files = split_files(corpus, split)
    lines = size = 0

    def chunks() -> Iterator[bytes]:
        nonlocal lines, size
        for text in iter_texts(files):
            kept = list(text_lines(text))
            chunk = "".join(f"{line}\n" for line in kept).encode()
            lines, size = lines + len(kept), size + len(chunk)
            if chunk:
                yield chunk

    write_chunks(out, chunks())
    console.print(Text(f"{out}: {lines:,} lines of split {split} of curate/{corpus.key[:12]}, {size:,} bytes"))
    return lines


def split_files(corpus: Artifact, split: str) -> list[Path]:
    """The files of a split, or of `all`, in order. Raises UserError for another name."""
    if split not in (*SPLITS, "all"):
        raise UserError(f"there is no split {split!r}", f"the splits are {', '.join(SPLITS)}; `all` is all of them")
    names = SPLITS if split == "all" else (split,)
    return [path for name in names for path in sorted((corpus.local() / name).glob("*.parquet"))]
