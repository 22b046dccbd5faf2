"""A recipe's `expect:` section: what is refused and how, and what the settings alone tell beside a claim."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from flows.claims import in_range, show_claims
from lmcore.expect.metrics import METRICS
from lmcore.expect.planned import Planned
from lmcore.expect.rows import PLANNED, Expectation
from lmcore.expect.times import Time
from lmcore.expect.verdicts import said_range
from lmcore.recipe import load_recipe
from storage.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "expectations.md").read_text(encoding="utf-8")
GOOD = {"metric": "parameters", "range": [1, 2], "source": "line 53"}
# SOMA's document: 16 layers 1024 wide, "~50-100M" parameters.
SHAPE = {
    "n_layers": 16, "d_model": 1024, "n_heads": 16, "d_ff": 4096, "context": 2048, "norm": "layer",
    "norm_placement": "post", "norm_affine": False, "position": "learned", "qk_norm": False, "mlp": "relu",
    "mlp_bias": True, "zero_init_projections": False, "tie_embeddings": False,
}  # fmt: skip


def recipe(folder, expect, **sections):
    path = folder / "claimed.yaml"
    path.write_text(yaml.safe_dump({"extends": "quickstart", "name": "claimed", "expect": expect} | sections))
    return load_recipe(str(path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metric": "perplexty"}, "expect.0.metric: there is no metric 'perplexty': did you mean perplexity?"),
        ({"metric": "zzz"}, "there is no metric 'zzz': one of parameters, "),
        ({"wen": "end"}, "unknown key expect.0.wen"),
        ({"when": "epoch 3"}, "parameters has no 'epoch 3': write when as end"),
        ({"metric": "train_loss", "when": "epoch 0"}, "train_loss has no 'epoch 0': write when as end, start, epoch N"),
        ({"range": [2, 1]}, "the range of parameters ends at 1, below its beginning at 2"),
        ({"range": [None, None]}, "the range of parameters has no bound"),
        ({"range": [1]}, "expect.0.range"),
        ({"source": ""}, "expect.0.source"),
        ({"compare": False}, "parameters with compare: false needs a reason"),
        ({"reason": "tokens differ"}, "parameters with compare: true has a reason why not"),
        ({"metric": "lr", "when": "after stage 2"}, "expect.0.when: there is no stage 2: train.stages has 0"),
        ({"differences": [{"set": ["model.d_model"]}]}, "'model.d_model' is not of the form a.b=value"),
        ({"differences": [{"set": ["model.d_modl=8"]}]}, "expect.0.differences: claimed: unknown key model.d_modl"),
        ({"metric": "train_loss", "differences": [{"set": ["train.lr=1"]}]}, "does not follow from settings"),
    ],
)
def test_a_claim_that_means_nothing_is_refused(tmp_path, change, told):
    with pytest.raises(UserError, match=re.escape(told)):
        recipe(tmp_path, [GOOD | change])


def test_times_and_ranges_in_words():
    texts = ("start", "end", "epoch 3", "step 100", "after stage 2", "after stage curate")
    assert [str(Time.parse(text)) for text in texts] == list(texts)
    assert [Time.parse(text) for text in ("", "epoch", "step -1", "after stage train", "End")] == [None] * 5
    rows = [Expectation(metric="accuracy", range=span, source="l") for span in ((0.5, None), (None, 0.6), (0.5, 0.5))]
    assert [said_range(row) for row in rows] == ["at least 50.00 %", "at most 60.00 %", "50.00 %"]
    assert [row.gap(0.55) for row in rows] == [0.0, 0.0, pytest.approx(0.05)]


def test_the_difference_to_a_claim_is_itemised_and_counted(tmp_path):
    """SOMA's sheet: 269,041,664, tied 236,273,664, and half as wide the 67,805,184 that its document promises."""
    claims = [
        {
            "metric": "parameters",
            "range": [50e6, 100e6],
            "source": "line 53: ~50-100M",
            "note": "impossible at this width",
            "differences": [
                {"set": ["model.tie_embeddings=true"], "why": "one matrix for embedding and head"},
                {"set": ["model.d_model=512", "model.d_ff=2048"]},
            ],
        },
        {"metric": "file_bytes", "range": [200e6, 300e6], "source": "line 54"},
        {"metric": "lr", "when": "end", "range": [1.49e-5, 1.51e-5], "source": "line 142"},
        {"metric": "train_loss", "when": "epoch 30", "range": [None, 1.9], "source": "line 141"},
    ]
    train = {"epochs": 30, "lr": 3e-4, "warmup": 0.1, "schedule": "cosine", "final_lr_share": 0.05}
    loaded = recipe(tmp_path, claims, model=SHAPE, tokenizer={"vocab_size": 32_000}, train=train)
    planned = Planned(loaded)
    assert planned.value("parameters", Time("end")) == 269_041_664
    steps = planned.differences(loaded.expect[0])
    assert [(step.value, step.by) for step in steps] == [(236_273_664, -32_768_000), (67_805_184, -168_468_480)]
    screen = Console(file=io.StringIO(), width=200)
    show_claims(loaded, screen)
    shown = " ".join(screen.file.getvalue().split())
    for words in (
        "50,000,000 to 100,000,000 │ 269,041,664 │ +169,041,664",
        "67,805,184 │ −168,468,480 │ with model.d_model=512, model.d_ff=2048",
        "which is what it claims",
        "note: impossible at this width",
        "file bytes │ end │ 200 MB to 300 MB │ 1.08 GB │ +776 MB",
    ):
        assert words in shown
    assert "train loss" not in shown, "only a run tells"
    assert in_range(loaded) == "1 of 3 in range"


@pytest.mark.parametrize(
    ("train", "when", "rate"),
    [
        ({"epochs": 30}, "end", 1.5e-5),
        ({"epochs": 30}, "epoch 3", 3e-4),
        ({"epochs": 30}, "start", 0.0),
        ({"epochs": 30}, "step 5", None),
        ({"epochs": 30, "warmup_steps": 10}, "epoch 3", None),
        ({"steps": 100}, "start", 3e-4 * 0.05),
        ({"steps": 100}, "step 10", 3e-4 * 0.95),
        ({"steps": 100}, "step 200", None),
        ({"steps": 10, "stages": [{"share": 0.5}, {"share": 0.5, "lr_factor": 2.0}]}, "end", None),
    ],
)
def test_the_learning_rate_follows_from_the_settings(tmp_path, train, when, rate):
    settings = {"lr": 3e-4, "warmup": 0.1, "schedule": "cosine", "final_lr_share": 0.05}
    planned = Planned(recipe(tmp_path, [], train=settings | train))
    if "stages" in train:
        at_end = planned.value("lr", Time("end"))
        assert at_end == pytest.approx(
            2 * Planned(recipe(tmp_path, [], train=settings | {"steps": 10})).lr(Time("end"))
        )
        return
    found = planned.value("lr", Time.parse(when))
    assert found == (None if rate is None else pytest.approx(rate))


def test_every_metric_is_on_the_page():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert rows == {name: metric.says for name, metric in METRICS.items()}
    assert set(PLANNED) <= set(METRICS)
    for name, metric in METRICS.items():
        assert metric.says.endswith("."), name


def test_the_example_on_the_page_loads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = recipe(tmp_path, yaml.safe_load(example)["expect"])
    assert len(found.expect) == 4
