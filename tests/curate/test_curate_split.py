"""The split: decided by the page alone, for ever."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.curate.split import TEST, TRAIN, VAL, SplitParams, of_sources, page_hashes, splits
from lmcore.curate.split import positions as positions_of


def positions(pages, salt):
    return positions_of(page_hashes(pa.chunked_array([pages], pa.string()), salt))


PAGES = [f"http://site/{number}.html" for number in range(20_000)]


GOLDEN = {
    "": [0.6126016598567228, 0.17913489999588073, 0.7667827578327963],
    "deal 2": [0.7086483007085723, 0.3172332206011501, 0.28560834514693867],
}


def test_positions_never_change():
    """If this fails, every held-out set ever made is broken: do not adapt the numbers."""
    assert positions(["http://site/a.html", "file:books/hős.txt", ""], "").tolist() == GOLDEN[""]
    assert positions(["http://site/a.html", "file:books/hős.txt", ""], "deal 2").tolist() == GOLDEN["deal 2"]


def test_shares_are_as_asked():
    side = splits(positions(PAGES, ""), SplitParams(val=0.05, test=0.1))
    shares = np.bincount(side, minlength=3) / len(PAGES)
    assert shares == pytest.approx([0.85, 0.05, 0.1], abs=0.01)


def test_holding_out_more_takes_from_training_only():
    where = positions(PAGES, "")
    small, large = splits(where, SplitParams(val=0.05, test=0.05)), splits(where, SplitParams(val=0.2, test=0.05))
    assert ((small == TEST) == (large == TEST)).all()
    assert (large[small == VAL] == VAL).all()
    assert (large == VAL).sum() > (small == VAL).sum()


def test_a_salt_deals_anew():
    first, second = (splits(positions(PAGES, salt), SplitParams()) for salt in ("", "other"))
    held = first != TRAIN
    assert 0.02 < (second[held] != TRAIN).mean() < 0.2


def test_nothing_held_out():
    assert (splits(positions(PAGES, ""), SplitParams(val=0, test=0)) == TRAIN).all()


@given(st.lists(st.text()))
def test_a_page_is_looked_at_alone(pages):
    alone = [positions([page], "s")[0] for page in pages]
    assert positions(pages, "s").tolist() == alone
    assert all(0 <= where < 1 for where in alone)


@pytest.mark.parametrize("shares", [{"val": 0.5, "test": 0.5}, {"val": -0.1}, {"test": 0.6}])
def test_bad_shares_are_refused(shares):
    with pytest.raises(ValidationError):
        SplitParams.model_validate(shares)


def test_a_source_may_have_a_side_as_a_whole_and_a_page_has_one():
    params = SplitParams(sources={"train": "train", "validation": "val", "test": "test"})
    names = ["other", "test", "train", "validation"]
    source = np.array([0, 1, 2, 3, 2, 0, 3], np.int32)
    pages = np.array([10, 11, 12, 13, 13, 11, 11], np.uint64)
    assert of_sources(params, names, source, pages).tolist() == [-1, TEST, TRAIN, VAL, VAL, TEST, TEST]
    assert of_sources(params, names, source[:0], pages[:0]).tolist() == []
    with pytest.raises(ValidationError, match="sources"):
        SplitParams.model_validate({"sources": {"a": "dev"}})


def test_a_source_with_a_side_is_held_out_whole(run_curate, collected, docstrings, row, tmp_path):
    named = [(("learnt", "held", "dealt")[n % 3], n, text) for n, text in enumerate(docstrings[:120])]
    rows = [row(text, url=f"http://{source}/{n}.html", source=source) for source, n, text in named]
    split = {"val": 0.2, "test": 0.2, "sources": {"learnt": "train", "held": "val"}}
    out, _ = run_curate([collected(tmp_path / "docs", rows)], split=split)
    kept = {name: pq.read_table(out / name)["source"].to_pylist() for name in ("train", "val", "test")}
    assert "held" not in kept["train"] + kept["test"]
    assert "learnt" not in kept["val"] + kept["test"]
    assert {"held", "dealt"} == set(kept["val"])
    assert {"learnt", "dealt"} == set(kept["train"])
    assert set(kept["test"]) == {"dealt"}
