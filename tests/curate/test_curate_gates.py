"""Data gates: all told at once, each with its value, its limit and how to mend."""

import pytest
from pydantic import ValidationError

from lmcore.curate.gates import GatesParams, check_gates, require
from storage.errors import RunError

PLENTY = {
    "min_documents": 900,
    "min_train_bytes": 4_000_000,
    "min_val_documents": 50,
    "min_test_documents": 50,
    "min_unique_word_ratio": 0.4,
    "max_dropped_share": 0.3,
    "min_sentences": 40_000,
    "min_mean_sentence_chars": 80,
}
STRICT = GatesParams(max_dropped_share=0.5, min_sentences=500, min_mean_sentence_chars=30)


def error(params, values, drops=None):
    with pytest.raises(RunError) as caught:
        require(check_gates(params, values), drops or {}, 1000, "`collect-train sql`")
    return caught.value


def test_a_good_corpus_passes():
    gates = check_gates(STRICT, PLENTY)
    assert [gate.name for gate in gates] == list(GatesParams.model_fields)
    assert all(gate.passed for gate in gates)
    require(gates, {}, 1000, "")


@pytest.mark.parametrize("name", GatesParams.model_fields)
def test_each_gate_trips_alone_and_holds_at_its_limit(name):
    limit = getattr(STRICT, name)
    worse = limit - 0.01 if name == "min_unique_word_ratio" else limit + 0.01 if name.startswith("max") else limit - 1
    require(check_gates(STRICT, PLENTY | {name: limit}), {}, 1000, "")
    told = error(STRICT, PLENTY | {name: worse})
    assert told.what.startswith(f"the curated corpus fails 1 data gate: {name} is ")
    assert f"curate.gates.{name}" in told.mend
    assert told.exit_code == 1


def test_all_failures_are_told_at_once():
    told = error(STRICT, dict.fromkeys(PLENTY, 0) | {"max_dropped_share": 1.0}, {"min_words": 700, "empty": 20})
    assert told.what == (
        "the curated corpus fails 8 data gates: min_documents is 0, the limit is 50; min_train_bytes is 0, "
        "the limit is 100,000; min_val_documents is 0, the limit is 1; min_test_documents is 0, the limit is 1; "
        "min_unique_word_ratio is 0, the limit is 0.05; max_dropped_share is 1, the limit is 0.5; min_sentences is 0, "
        "the limit is 500; min_mean_sentence_chars is 0, the limit is 30"
    )
    assert "look at what dropped most (min_words: 700 of 1,000 records)" in told.mend
    assert "curate.split.val" in told.mend
    assert "`collect-train sql`" in told.mend
    assert "\n" not in told.what + told.mend


def test_gates_without_limit_are_not_asked():
    asked = {gate.name for gate in check_gates(GatesParams(), PLENTY)}
    assert not asked & {"max_dropped_share", "min_sentences", "min_mean_sentence_chars"}
    assert not {"min_sentences", "min_mean_sentence_chars"} & GatesParams().key_values().keys(), "keys of before stay"


@pytest.mark.parametrize("wrong", [{"min_documents": -1}, {"max_dropped_share": 2}, {"min_docs": 3}])
def test_bad_limits_are_refused(wrong):
    with pytest.raises(ValidationError):
        GatesParams.model_validate(wrong)
