"""MU's published counts: 8,366 and 903 windows of 513 tokens, one every 256; 262 and 29 batches of 32."""

from __future__ import annotations

import numpy as np
import pytest
from mu_made import mu_stream

from lmcore.tokens import Loader
from lmcore.tokens.params import BatchSettings


@pytest.fixture
def loader(tmp_path):
    def make(split, n_tokens):
        tokens = mu_stream(tmp_path, split, n_tokens)
        settings = BatchSettings(packing="stride", stride=256)
        return Loader(tokens, split, batch=32, context=512, seed=1, tokenizer_bytes=None, settings=settings)

    return make


@pytest.mark.parametrize(
    ("split", "n_tokens", "windows", "batches"),
    [
        ("train", 2_141_954, 8_366, 262), ("train", 2_142_208, 8_366, 262),
        ("val", 231_426, 903, 29), ("val", 231_680, 903, 29),
    ],
)  # fmt: skip
def test_the_counts_of_the_document(loader, split, n_tokens, windows, batches):
    found = loader(split, n_tokens)
    assert (found.n_rows, found.steps_per_epoch) == (windows, batches)
    assert f"{windows:,} windows of 512 tokens, one every 256" in found.describe()
    last = found.rows(np.array([windows - 1]))
    assert last.ids.shape == (1, 512), "and the target of the last is the 513th"


@pytest.mark.parametrize(("split", "n_tokens", "windows"), [("train", 2_142_209, 8_366), ("val", 231_681, 903)])
def test_a_window_that_ends_with_the_text_is_read_too(loader, split, n_tokens, windows):
    """MU's `range(0, n - 513, 256)` leaves out a window whose last token is the last of the stream."""
    assert len(range(0, n_tokens - 513, 256)) == windows
    assert loader(split, n_tokens).n_rows == windows + 1
