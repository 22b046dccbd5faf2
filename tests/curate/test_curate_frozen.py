"""What is held out stays held out: two editions of one site with pages changed, new, gone and moved."""

from __future__ import annotations

import random

import pyarrow as pa

from lmcore.curate.split import SplitParams, page_hashes, positions, splits
from lmcore.documents import CURATED, SPLITS, read_documents

SHARES = {"val": 0.15, "test": 0.15}


def side_of(page, salt="", **shares):
    """The split that the name of a page decides."""
    hashes = page_hashes(pa.chunked_array([[page]]), salt)
    return SPLITS[splits(positions(hashes), SplitParams(**shares))[0]]


def side(page):
    return side_of(page, **SHARES)


def kept(out):
    """(split, page of origin, text id, record id) of every text kept."""
    return [
        (split, row["page_of_origin"], row["text_id"], row["record_id"])
        for split in SPLITS
        for path in sorted((out / split).glob("*.parquet"))
        for row in read_documents(path, CURATED).to_pylist()
    ]


def test_held_out_pages_never_move(tmp_path, docstrings, row, collected, run_curate, seed):
    source = random.Random(seed)
    texts = iter(source.sample(docstrings, 150))
    before = {f"http://site/{number:03}.html": next(texts) for number in range(100)}
    fates = {url: source.choice(["stays", "changes", "vanishes"]) for url in before}
    after = {
        url: f"{text}\n\nRevised since: {next(texts)}" if fates[url] == "changes" and number % 3 == 0 else text
        for number, (url, text) in enumerate(before.items())
        if fates[url] != "vanishes"
    }
    after |= {f"http://site/new/{number:03}.html": text for number, text in enumerate(texts)}

    first, _ = run_curate(
        [collected(tmp_path / "one", [row(text, url=url) for url, text in before.items()])], split=SHARES
    )
    second, _ = run_curate(
        [collected(tmp_path / "two", [row(text, url=url) for url, text in after.items()])], split=SHARES
    )
    one, two = kept(first), kept(second)
    was = {page: split for split, page, _, _ in one}
    now = {page: split for split, page, _, _ in two}
    assert {was[page] for page in was} == set(SPLITS)
    assert was.keys() - now.keys(), "some are gone"
    assert now.keys() - was.keys(), "some are new"
    assert {record for *_, record in two} - {record for *_, record in one}, "some are others"
    assert all(side(page) == split for page, split in (was | now).items()), "the name alone decides"
    assert {page for page in was.keys() & now.keys() if was[page] != now[page]} == set()
    learnt = {page for split, page, _, _ in one if split == "train"}
    assert not learnt & {page for split, page, _, _ in two if split != "train"}


def test_a_text_that_moves_to_another_address_may_come_to_the_other_side(
    tmp_path, docstrings, row, collected, run_curate
):
    """Curation sees one edition at a time: that a model has met such a text is found out when it is evaluated."""
    addresses = [f"http://site/moved/{number}.html" for number in range(100)]
    old, new = next(url for url in addresses if side(url) == "train"), next(u for u in addresses if side(u) == "test")
    others = [row(text, url=f"http://site/{number:03}.html") for number, text in enumerate(docstrings[1:60])]
    outs = []
    for name, url in (("one", old), ("two", new)):
        folder = collected(tmp_path / name, [*others, row(docstrings[0], url=url)])
        outs.append(run_curate([folder], split=SHARES)[0])
    (first,), (second,) = (
        [(split, text) for split, page, text, _ in kept(out) if page == url]
        for out, url in zip(outs, (old, new), strict=True)
    )
    assert (first[0], second[0]) == ("train", "test")
    assert first[1] == second[1], "text_id tells that it is the same text"
