"""Promoted or refused: the same documents for both models, the figures on record, the reason in words."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest

from lmcore.release import ReleaseParams, decide
from storage.digest import digest_file
from storage.errors import RunError
from storage.parquet import write_parquet

SUBJECT = {"model": "m" * 64, "export": "e" * 64, "evaluation": "v" * 64}


def evaluation(folder, bits, n_bytes=100, left_out=None, first=0):
    """An evaluate artifact: documents numbered from `first`, each of so many bits; one of val counts for nothing."""
    ids = [f"{number:032}" for number in range(first, first + len(bits))]
    table = pa.table(
        {
            "record_id": [*ids, "9" * 32],
            "split": ["test"] * len(ids) + ["val"],
            "n_bytes": pa.array([n_bytes] * len(ids) + [1], pa.int64()),
            "n_tokens": pa.array([n_bytes] * len(ids) + [1], pa.int64()),
            "nll_bits": pa.array([*map(float, bits), 1e6]),
        }
    )
    write_parquet(folder / "documents.parquet", table)
    counts = {} if left_out is None else {"left_out_documents": left_out}
    figure = sum(bits) / (n_bytes * len(bits))
    found = {
        "headline": {"split": "test", "bits_per_byte": figure},
        "splits": {"test": {"documents": len(bits), **counts}},
    }
    (folder / "evaluation.json").write_text(json.dumps(found))
    return folder


@pytest.fixture
def judge(tmp_path):
    """judge(new, old): what is decided, as it stands in release.json, and the metrics."""

    def run(new, old=None, min_gain=0.0, work="work"):
        params = ReleaseParams(min_gain=min_gain)
        metrics = decide(tmp_path / work, new, old, subject=SUBJECT, params=params)
        return json.loads((tmp_path / work / "out" / "release.json").read_text()), metrics

    return run


def test_the_first_is_promoted(tmp_path, judge):
    decision, metrics = judge(evaluation(tmp_path / "new", [150, 170]))
    assert decision == {
        "promoted": True,
        "reason": "no champion to compare with: 1.6000 bits per byte on held-out text",
        "bits_per_byte": 1.6,
        "champion_bits_per_byte": None,
        "subject": SUBJECT,
    }
    assert "champion_bits_per_byte" not in metrics


def test_a_better_one_is_promoted_with_the_gain_and_its_interval(tmp_path, judge):
    random = np.random.default_rng(0)
    old = random.uniform(150, 250, 40)
    new = old - random.uniform(5, 15, 40)
    decision, metrics = judge(evaluation(tmp_path / "new", new), evaluation(tmp_path / "old", old))
    assert decision["promoted"]
    assert decision["bits_per_byte"] == pytest.approx(new.sum() / 4000)
    assert decision["champion_bits_per_byte"] == pytest.approx(old.sum() / 4000)
    assert decision["gain"] == pytest.approx((old - new).sum() / 4000)
    low, high = decision["gain_interval"]
    # The documents differ by 100 bits, the gains by 10 only: it is the difference that is drawn, pair by pair.
    assert 0.08 < low < decision["gain"] < high < 0.12
    assert (decision["documents"], decision["left_out_documents"]) == (40, 0)
    assert re.fullmatch(
        r"\d\.\d{4} bits per byte against the champion's \d\.\d{4} on the same 40 held-out documents: 0\.\d{4} better, "
        r"95 % interval of the gain \+0\.0\d{3} to \+0\.1\d{3}",
        decision["reason"],
    )
    assert metrics["reason"] == decision["reason"]


def test_a_worse_one_is_kept_out_with_the_numbers(tmp_path, judge):
    new, old = evaluation(tmp_path / "new", [210, 200, 190]), evaluation(tmp_path / "old", [200, 190, 180])
    decision, _ = judge(new, old)
    assert not decision["promoted"]
    assert decision["reason"] == (
        "2.0000 bits per byte is not below the champion's 1.9000 on the same 3 held-out documents: 0.1000 worse, "
        "95 % interval of the gain -0.1000 to -0.1000"
    )
    assert judge(new, old)[0] == decision, "the interval is drawn the same way every time"


def test_one_as_good_is_kept_out(tmp_path, judge):
    new = evaluation(tmp_path / "new", [200, 100])
    assert judge(new, new)[0]["promoted"] is False


def test_the_gain_that_is_asked_for(tmp_path, judge):
    new, old = evaluation(tmp_path / "new", [180, 180]), evaluation(tmp_path / "old", [200, 200])
    assert judge(new, old, min_gain=0.19)[0]["promoted"]
    decision, _ = judge(new, old, min_gain=0.21)
    assert not decision["promoted"]
    assert "1.8000 bits per byte is not below the champion's 2.0000 less 0.21 on the same 2" in decision["reason"]
    assert "0.2000 better" in decision["reason"]


def test_documents_that_one_has_learnt_count_for_neither(tmp_path, judge):
    # The champion knows documents 0 and 1 by heart and was not scored on them; the new model was on all four.
    new = evaluation(tmp_path / "new", [100, 100, 210, 210])
    old = evaluation(tmp_path / "old", [200, 200], left_out=2, first=2)
    decision, _ = judge(new, old)
    assert not decision["promoted"], "1.55 over all four would have looked better than 2.0"
    assert (decision["bits_per_byte"], decision["champion_bits_per_byte"]) == (2.1, 2.0)
    assert (decision["documents"], decision["left_out_documents"]) == (2, 2)
    assert (
        "on the same 2 held-out documents (2 that one of them has learnt left out): 0.1000 worse" in decision["reason"]
    )
    # Both left two out, not the same ones: one document is common to them.
    new = evaluation(tmp_path / "third", [100, 100], left_out=2, first=1)
    decision, _ = judge(new, old)
    assert (decision["documents"], decision["left_out_documents"]) == (1, 3)
    assert decision["gain_interval"] is None, "one document says nothing about the spread"
    assert decision["reason"].endswith("1.0000 better")


def test_nothing_in_common_cannot_be_judged(tmp_path, judge):
    new, old = evaluation(tmp_path / "new", [100], left_out=1), evaluation(tmp_path / "old", [100], left_out=1, first=1)
    with pytest.raises(RunError, match="no held-out document that neither") as error:
        judge(new, old)
    assert "curate.split" in error.value.mend
    assert not (tmp_path / "work" / "out").exists()


def test_equal_evaluations_give_equal_bytes(tmp_path, judge):
    new, old = evaluation(tmp_path / "new", [150, 160]), evaluation(tmp_path / "old", [170, 150])
    for work in ("one", "two"):
        judge(new, old, work=work)
    one, two = (digest_file(tmp_path / work / "out" / "release.json") for work in ("one", "two"))
    assert one == two


def test_a_damaged_evaluation_is_named(tmp_path, judge):
    new = evaluation(tmp_path / "new", [150, 160])
    (new / "evaluation.json").write_text('{"headline": {"split": "test"}}')
    with pytest.raises(RunError, match=r"cannot read .*new/evaluation\.json"):
        judge(new)
