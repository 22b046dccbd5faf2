"""Write and read a `.cllm` file of CLLM's full size, without and with AdamW's state: bytes and seconds.

python benchmarks/cllm_file.py [FOLDER]      (FOLDER: where 404 MB may lie for a moment; default: a temporary one)
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from lmcore.export.cllm import contents, write_cllm
from lmcore.export.cllm_reader import read_cllm
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.tokenizer.words import Words
from lmcore.train.optim import Optimizer
from lmcore.train.params import TrainParams

SHAPE = DecoderConfig(
    n_layers=6, d_model=384, n_heads=12, d_ff=1536, context=256, mlp="relu2", qk_norm=False, tie_embeddings=False
)
VOCABULARY = 30_000


def main() -> None:
    """Print a line for each of the two files."""
    words = Words([b"word%d" % number for number in range(VOCABULARY - 5)], [1] * (VOCABULARY - 5))
    model = build(SHAPE, VOCABULARY, 1).eval()
    state = Optimizer(model, TrainParams(steps=1, optimizer="adamw")).tensors()
    ids = torch.tensor([[2, 77, 29_999]])
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for name, optimizer in (("without", None), ("with", state)):
            path = Path(folder, f"{name}.cllm")
            made = contents(model, words, step=0, name=name, optimizer=optimizer)
            begun = time.perf_counter()
            header = write_cllm(path, made)
            written = time.perf_counter()
            read = read_cllm(path)
            done = time.perf_counter()
            assert torch.equal(read.model(ids), model(ids))
            print(
                f"{name:7} optimizer: {header.parameters:,} parameters, {path.stat().st_size:,} bytes; "
                f"written in {written - begun:.2f} s, read and checked in {done - written:.2f} s"
            )


if __name__ == "__main__":
    main()
