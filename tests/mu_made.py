"""A model of MU's family with MU's kind of vocabulary, random and small, and a train artifact's folder of it."""

from __future__ import annotations

import torch

from lmcore.models import MuConfig, build
from lmcore.models.io import save_model
from lmcore.tokenizer.word_bpe import WordBPE

TEXTS = ["The quick brown fox jumps over a lazy dog.", "Once upon a time, in the beginning, a king was old."]


def mu_tokenizer(vocab_size=90):
    return WordBPE.train(lambda: TEXTS * 5, vocab_size=vocab_size, min_frequency=2, max_token_length=20)


def mu_model(vocab_size, **options):
    """Every weight random, with logits some units apart."""
    shape = {"n_layers": 2, "matrix": (4, 4), "n_heads": 4, "context": 32} | options
    model = build(MuConfig(**shape), vocab_size, 1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def mu_folder(folder, tokenizer, **options):
    """A folder laid out like a train artifact."""
    save_model(folder, mu_model(tokenizer.vocab_size, **options))
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder
