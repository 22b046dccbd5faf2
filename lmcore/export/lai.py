"""LAi's own files of a trained model: `LAi1` model files, f32 or quantised, and `vocab.bin`, by its guide's names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lmcore.export.lai_error import quantisation_error
from lmcore.export.lai_format import DType, Header
from lmcore.export.lai_quant import quantise
from lmcore.export.lai_reader import read_lai
from lmcore.export.lai_tensors import file_tensors, header_of
from lmcore.generate.load import load
from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder
from lmcore.models.network import Network
from lmcore.tokenizer import Tokenizer
from lmcore.tokenizer.char_bpe import CharBPE
from storage.atomic import write_bytes, write_chunks, write_json
from storage.errors import RunError, UserError

# (layers, width, heads) of LAi's three sizes.
SIZES = {"tiny": (8, 384, 6), "mini": (12, 512, 8), "small": (16, 768, 12)}


def write_lai(path: Path, model: Decoder, tokenizer: Tokenizer, dtype: DType = DType.F32) -> Header:
    """Write an `LAi1` file and give its header, whose `file_bytes` is its size.

    Raises UserError naming the option of the model or the tokenizer that the file has no place for, RunError for
    numbers that cannot be quantised, StorageError when the disk refuses.
    """
    vocabulary = vocab_block(tokenizer)
    if tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"LAi's model file has no place for {model.vocab_size:,} rows of the embedding beside a vocabulary of "
            f"{tokenizer.vocab_size:,}",
            "export a model as wide as its vocabulary",
        )
    plain = header_of(model.config, model.vocab_size, dtype)
    header = header_of(model.config, model.vocab_size, dtype, plain.weights_offset + len(vocabulary))

    def chunks() -> Iterator[bytes]:
        yield header.pack()
        yield vocabulary
        for entry, (_, tensor) in zip(header.entries(), file_tensors(model), strict=True):
            yield quantise(tensor.numpy(), entry.dtype)

    write_chunks(path, chunks())
    return header


def vocab_block(tokenizer: Tokenizer) -> bytes:
    """The contents of `vocab.bin`. Raises UserError for a vocabulary that LAi's encoder would read differently."""
    if not isinstance(tokenizer, CharBPE):
        raise UserError(
            "LAi's files have no place for this kind of vocabulary",
            "set tokenizer.kind: char_bpe and train again",
        )
    if not tokenizer.crosses_words:
        raise UserError(
            "LAi's vocab.bin has no place for tokenizer.cross_words: false",
            "set tokenizer.cross_words: true and train again",
        )
    return tokenizer.files()["vocab.bin"]


def size_name(config: DecoderConfig) -> str:
    """Which of LAi's sizes a shape is called after: the smallest that is at least as deep and wide, else `small`."""
    fits = [name for name, (layers, width, _) in SIZES.items() if config.n_layers <= layers and config.d_model <= width]
    return fits[0] if fits else "small"


def write_layout(model_dir: Path, output: Path, *, name: str = "") -> list[Path]:
    """Write `models/NAME.bin` and `data/vocab.bin` under `output`, read them back, and give their paths.

    `model_dir` is the folder of a train artifact. NAME is `lai-tiny`, `lai-mini` or `lai-small` unless given. Raises
    UserError as `write_lai`, RunError when what was written does not come back equal.
    """
    trained = load(model_dir)
    model = _decoder(trained.model)
    path = output / "models" / f"{name or 'lai-' + size_name(model.config)}.bin"
    vocabulary = output / "data" / "vocab.bin"
    write_lai(path, model, trained.tokenizer)
    write_bytes(vocabulary, vocab_block(trained.tokenizer))
    _must_be(path, model)
    return [path, vocabulary]


def write_quantised(
    model_dir: Path, output: Path, dtype: DType, *, name: str = "", texts: Sequence[str] = ()
) -> tuple[list[Path], dict[str, Any]]:
    """Write `models/NAME-q8_0.bin` (or `-q4_0`) and what it loses in `models/NAME-q8_0.json`; gives paths and report.

    `texts` are held-out documents for the change of bits per byte. Raises as `write_layout`.
    """
    trained = load(model_dir)
    model = _decoder(trained.model)
    stem = f"{name or 'lai-' + size_name(model.config)}-{dtype.name.lower()}"
    path = output / "models" / f"{stem}.bin"
    header = write_lai(path, model, trained.tokenizer, dtype)
    read_lai(path)
    report = quantisation_error(model, dtype, tokenizer=trained.tokenizer, texts=texts)
    report |= {"bytes": header.file_bytes, "bytes_f32": replace(header, dtype=int(DType.F32)).file_bytes}
    told = path.with_suffix(".json")
    write_json(told, report)
    return [path, told], report


def _decoder(model: Network) -> Decoder:
    if not isinstance(model, Decoder):
        raise UserError(
            f"LAi's file has no place for a model of the family {model.config.family}", "train model.family: decoder"
        )
    return model


def _must_be(path: Path, model: Decoder) -> None:
    """RunError unless the file holds exactly the model's numbers."""
    back = _decoder(read_lai(path).model)
    for (name, written), (_, wanted) in zip(file_tensors(back), file_tensors(model), strict=True):
        if not torch.equal(written, wanted):
            raise RunError(f"{path}: {name} did not come back as it was written", "check the disk and write it again")
