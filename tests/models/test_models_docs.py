"""docs/models.md against the code: every shape in it is valid, and its table has every option and its default."""

import re
from pathlib import Path

import yaml

from lmcore.generate.sampling import Sampling
from lmcore.models import estimate
from lmcore.models.config import DecoderConfig
from lmcore.models.families import parse_config
from lmcore.models.mu_config import MuConfig

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def test_shapes_in_the_docs_are_valid():
    shapes = [yaml.safe_load(block)["model"] for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
    assert len(shapes) == 5
    totals = [estimate(parse_config(shape), 50257).total for shape in shapes[:4]]
    assert totals[1] == 124_439_808
    assert f"{estimate(parse_config(shapes[4]), 50_000).total:,} parameters at 50,000 tokens" in TEXT


def test_the_tables_have_every_option():
    for settings in (DecoderConfig, MuConfig, Sampling):
        for name in settings.model_fields:
            if name != "family":
                assert re.search(rf"^\| .*`{name}`.* \|", TEXT, re.M), name


def test_the_ledger_in_the_docs_is_the_ledger():
    ledger = estimate(DecoderConfig(), 4096)
    quoted = [int(number) for number in re.findall(r"# (\d+)$", TEXT, re.M)]
    assert ledger.total in quoted
    for group in ("embedding", "attention", "mlp", "norms"):
        assert f"{group} {ledger.groups[group]}" in TEXT
