"""`collect-train export-tokens`: token shards as the one file that another program trains on."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from lmcore.tokens.dataset_bin import read_dataset_bin, write_dataset_bin
from lmcore.tokens.meta import read_meta
from storage.errors import RunError, UserError
from storage.store import Store


def write_dataset(store: Store, name: str, path: Path, split: str, console: Console) -> int:
    """Write a split of the tokens artifact `name` as CLLM's dataset.bin and read it back; gives the number of tokens.

    Raises UserError when `name` is no tokens artifact, `path` a folder, or the split not there or empty, RunError for
    damaged tokens and for a file that does not come back as it was written.
    """
    artifact = store.resolve(name)
    if artifact.stage != "tokens":
        raise UserError(
            f"{artifact.stage}/{artifact.key[:12]} is no tokens artifact", "name one, or `tokens` for the newest"
        )
    if path.is_dir():
        raise UserError(f"{path} is a folder", "name the file to write, such as dataset.bin")
    folder = artifact.local()
    meta = read_meta(folder)
    count = write_dataset_bin(folder, split, path)
    tokens = read_dataset_bin(path, meta.vocab_size)
    if len(tokens) != count:
        raise RunError(
            f"{path} came back with {len(tokens):,} tokens of {count:,}", "check the disk and write it again"
        )
    console.print(
        Text(
            f"{path}: {count:,} tokens of {meta.splits[split].documents:,} documents of split {split}, "
            f"{path.stat().st_size:,} bytes\n"
            f"read back: the header fits, ids {int(tokens.min()):,} to {int(tokens.max()):,} "
            f"of a vocabulary of {meta.vocab_size:,}"
        )
    )
    return count
