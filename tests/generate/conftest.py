"""A tokenizer and models small enough to make in a second, yet real."""

import pytest
import torch
import torch.nn.functional as F

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.tokenizer import ByteBPE

TALE = "The cat sat on the mat. Der Bär aß Öl und Brei. ሰላም ለዓለም! 🙂 The end."


@pytest.fixture(scope="session")
def tokenizer():
    """Bytes and a few merges; most of the characters of TALE beyond ASCII are divided between tokens."""
    return ByteBPE.train([TALE], vocab_size=280, split="gpt2", min_frequency=2, max_token_length=20)


@pytest.fixture(scope="session")
def babbler(tokenizer):
    """A model of random weights: it draws any bytes whatever, valid UTF-8 or not."""
    model = build(DecoderConfig(n_layers=2, d_model=32, n_heads=2, n_kv_heads=1, context=32), tokenizer.vocab_size, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


@pytest.fixture(scope="session")
def teller(tokenizer):
    """A model that knows TALE by heart and ends the document after it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(TALE), tokenizer.bos_id]])
    model = build(DecoderConfig(n_layers=1, d_model=64, n_heads=2, context=ids.shape[1] + 8), tokenizer.vocab_size, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    torch.set_num_threads(threads)
    return model.eval()
