"""The page names every setting and every figure."""

from __future__ import annotations

from pathlib import Path

from lmcore.evaluate.params import EvaluateParams, EvaluateRuntime

PAGE = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_the_page_names_every_setting():
    for name in {**EvaluateParams.model_fields, **EvaluateRuntime.model_fields}:
        assert f"`{name}`" in PAGE, name


def test_the_page_gives_the_defaults():
    defaults = EvaluateParams()
    for name in ("max_documents", "max_bytes", "bootstrap_draws", "baseline_bytes", "ngram_order"):
        assert f"| `{name}` | {getattr(defaults, name):,} |" in PAGE, name
