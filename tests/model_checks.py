"""What tests ask of any model: one whose numbers are all random, its sight, its gradients, its first loss, what it
learns by heart.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lmcore.models import build


def shaken(config, vocab_size, *, seed=2, spread=0.08):
    """A model whose every parameter is random, norms and biases too: nothing agrees by being zero or one."""
    model = build(config, vocab_size, seed=1).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else spread * noise)
    return model


def moved(config, vocab_size, *, seed=0):
    """A model with noise added to every weight, so that no gate and no matrix is as it begins."""
    model = build(config, vocab_size, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


def random_ids(vocab_size, rows, tokens, *, seed=0):
    """Ids of tokens, (rows, tokens)."""
    return torch.randint(0, vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def sees_a_later_token(model, ids, place):
    """Whether another token behind `place` changes a logit up to there."""
    later = ids.clone()
    later[:, place + 1] = (later[:, place + 1] + 1) % int(ids.max())
    with torch.no_grad():
        before, after = model(ids), model(later)
    assert not torch.equal(before[:, place + 1 :], after[:, place + 1 :]), "the change is one"
    return not torch.equal(before[:, : place + 1], after[:, : place + 1])


def check_gradients(model, loss, *, rel=1e-3, abs=1e-7):
    """Every tensor's gradient is the slope of `loss()` along a random direction; the model is in double precision."""
    loss().backward()
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        told, sides = float((parameter.grad * direction).sum()), []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                sides.append(float(loss()))
        with torch.no_grad():
            parameter.add_(direction, alpha=1e-6)
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(told, rel=rel, abs=abs), name


def next_token_loss(model, ids):
    """Mean cross entropy of each token from those before it, in nats."""
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def learn_by_heart(model, tokenizer, texts, steps=60):
    """Let a model read texts, all of as many tokens, over and over."""
    ids = torch.tensor([tokenizer.encode(text) for text in texts])
    read = torch.cat([torch.full((len(ids), 1), tokenizer.bos_id), ids[:, :-1]], 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = F.cross_entropy(model(read).flatten(0, 1), ids.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
