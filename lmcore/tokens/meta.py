"""`meta.json`: what a tokens artifact says about itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from lmcore.config import Settings
from lmcore.tokenizer.interface import Tokenizer
from storage.digest import digest_file, digest_json
from storage.errors import RunError

MEND = "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them"
OTHER = "use the tokenizer the tokens were made with, or make the tokens again"

# A column of documents.parquet: bytes of the text that a lossy vocabulary cannot give back, in its validation split.
MISSING = "n_missing"

DtypeName = Literal["uint16", "uint32"]


class SplitMeta(Settings):
    """One split: tokens of each shard file, and totals (`tokens` with the special before every document)."""

    shards: list[int]
    masks: list[int] = Field(default=[], description="Numbers of the shards with a `.mask.bin` beside them.")
    tokens: int
    documents: int
    bytes: int


class Meta(Settings):
    """The whole file. `vocab_size` and `bos_id` are the tokenizer's.

    `sources`, `langs` and `kinds` are the names that the numbers in `documents.parquet` stand for, `tokenizer` is the
    sha256 of its `tokenizer.json`; artifacts of version 1 have none of them.
    """

    dtype: DtypeName
    vocab_size: int = Field(ge=1)
    bos_id: int = Field(ge=0)
    tokenizer: str = Field(default="")
    sources: list[str] = Field(default=[])
    langs: list[str] = Field(default=[])
    kinds: list[str] = Field(default=[])
    splits: dict[str, SplitMeta]

    def names(self, column: str) -> list[str]:
        """The names behind the numbers of a column of `documents.parquet`: "source", "lang" or "kind"."""
        return {"source": self.sources, "lang": self.langs, "kind": self.kinds}[column]


def dtype_name(vocab_size: int) -> DtypeName:
    """The narrower of the two types that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def numpy_dtype(name: DtypeName) -> np.dtype[np.unsignedinteger]:
    """How a shard holds a token: little endian on every machine."""
    return np.dtype("<u2" if name == "uint16" else "<u4")


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """What `meta.json` calls a tokenizer: the sha256 of its `tokenizer.json`."""
    return hashlib.sha256(tokenizer.files()["tokenizer.json"]).hexdigest()


def check_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise RunError when the tokens in `folder` were made with another tokenizer than this one."""
    meta = read_meta(folder)
    if meta.vocab_size != tokenizer.vocab_size:
        raise RunError(
            f"{folder} was made with {meta.vocab_size:,} tokens, this tokenizer has {tokenizer.vocab_size:,}", OTHER
        )
    if meta.tokenizer and meta.tokenizer != (digest := tokenizer_digest(tokenizer)):
        raise RunError(
            f"{folder} was made with the tokenizer {meta.tokenizer[:12]}, this one is {digest[:12]}: of equal size, "
            "but its tokens stand for other text",
            OTHER,
        )


def train_digest(folder: Path) -> str:
    """What the order of the training text hangs on: its documents, one after the other, and the tokenizer.

    Two artifacts with equal digests give equal batches for equal settings. A document is known by its record id,
    which is made from its text. Raises RunError for a damaged artifact.
    """
    meta, path = read_meta(folder), folder / "train" / "documents.parquet"
    facts = meta.model_dump(mode="json", include={"dtype", "vocab_size", "bos_id", "tokenizer"})
    split = meta.splits.get("train")
    try:
        return digest_json([facts, split.model_dump(mode="json") if split else None, digest_file(path)])
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", MEND) from error


def mask_file(folder: Path, number: int) -> Path:
    """The mask of shard `number` in the folder of a split."""
    return folder / f"{number:05d}.mask.bin"


def read_meta(folder: Path) -> Meta:
    """Read `meta.json` of a tokens artifact. Raises RunError naming it when it is missing or damaged."""
    path = folder / "meta.json"
    try:
        return Meta.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", "give the folder of a tokens artifact") from error
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {error.errors()[0]['msg']}", MEND) from error
