"""A model of LAi's shape with LAi's vocabulary, random and small, and a train artifact's folder of it."""

from __future__ import annotations

import torch

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.io import save_model
from lmcore.tokenizer.char_bpe import CharBPE

TEXTS = [
    "The hero went home again, and the villain sang of Budapest.",
    "Őszi szél fújja a sárga leveleket; jó reggelt kívánok!",
    "ሰላም እንዴት ነህ? ኢትዮጵያ በአፍሪካ ቀንድ የምትገኝ ሀገር ናት።",
    "def f(x):\n    return {'a': [1, 2.5, 1000000]}  # it's 'fine'\r\n\t🙂🎉",
]
HELLO = "<system>Translate English to Hungarian.</system><user>Hello, how are you?</user><assistant>"


def lai_tokenizer(split=None, vocab_size=420):
    texts = [*TEXTS * 3, HELLO, HELLO + "Szia, hogy vagy? árvíztűrő tükörfúrógép</assistant>"]
    return CharBPE.train(lambda: texts, vocab_size=vocab_size, split=split, min_frequency=2, max_token_length=20)


def lai_model(vocab_size, **options):
    """Every weight random, with logits some units apart."""
    shape = {"n_layers": 3, "d_model": 64, "n_heads": 4, "d_ff": 96, "context": 64, "qk_norm": False} | options
    model = build(DecoderConfig(**shape), vocab_size, 1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise)
    return model


def lai_folder(folder, tokenizer, **options):
    """A folder laid out like a train artifact."""
    save_model(folder, lai_model(tokenizer.vocab_size, **options))
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder
