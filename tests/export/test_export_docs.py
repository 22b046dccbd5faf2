"""The page names every setting and architecture, and quotes the refusal as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcore.export.architectures import MODEL_TYPES, SINCE, stock_architecture
from lmcore.export.lai_tensors import header_of
from lmcore.export.params import ExportParams, ExportRuntime
from lmcore.models.config import DecoderConfig
from storage.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_page_names_every_setting_and_architecture():
    for name in [*ExportParams.model_fields, *ExportRuntime.model_fields, *MODEL_TYPES]:
        assert f"`{name}`" in PAGE, name
    for name, since in SINCE.items():
        assert f"| `{name}` | {since}" in PAGE, name


def test_the_page_quotes_the_refusal():
    with pytest.raises(UserError) as error:
        stock_architecture(DecoderConfig(mlp="relu2"))
    assert str(error.value) in PAGE


def test_the_page_quotes_what_lai_s_file_has_no_place_for():
    with pytest.raises(UserError) as error:
        header_of(DecoderConfig(), 300)
    assert str(error.value) in PAGE


def test_the_page_has_the_sizes_of_lai_s_files():
    for vocab_size, told in ((8000, "100,099,840"), (1409, "79,868,854")):
        config = DecoderConfig(n_layers=8, d_model=384, n_heads=6, d_ff=1536, context=512, qk_norm=False)
        assert told in PAGE
        assert 0 <= int(told.replace(",", "")) - header_of(config, vocab_size).file_bytes < 20_000  # its vocabulary
