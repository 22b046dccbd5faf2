"""One corpus after another: what stands is not written again, what leaves gives back its copies, no side changes."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from test_curate_stage import GOOD
from three_stages import curate_folders

from lmcore.collect.editions import write_references
from lmcore.curate.ids import ids
from lmcore.curate.params import CurateParams
from lmcore.curate.split import RULE as HELD_OUT_PAGE
from lmcore.curate.split import SplitParams, page_hashes, positions, splits
from lmcore.documents import CURATED, DECISION, SPLITS, read_documents, record_id
from storage.errors import RunError
from storage.parquet import read_parquet

NO_GATES = dict.fromkeys(
    ("min_documents", "min_train_bytes", "min_val_documents", "min_test_documents", "min_unique_word_ratio"), 0
)
WIDE = {"val": 0.25, "test": 0.25}


class Chain:
    """Editions one after the other: each gives its rows, and those that an edition had already are referred to."""

    def __init__(self, root, collected):
        self.root, self.collected = root, collected
        self.held = {}  # record id: number of the edition that holds it
        self.made = []

    def edition(self, rows, *, again=(), before=-1, workers=1, **params):
        """Curate these rows; `again` are record ids that the edition collects anew although an earlier one has them."""
        number = len(self.made)
        own = [row for row in rows if row["record_id"] not in self.held or row["record_id"] in again]
        folder = self.collected(self.root / f"in-{number}", own)
        others = [row["record_id"] for row in rows if row not in own]
        write_references(
            folder / "references.parquet",
            {name: (f"{self.held[name]:064d}", "documents/00000.parquet") for name in others},
        )
        self.held |= {row["record_id"]: number for row in own}
        made = curate_folders(
            self.root / f"work-{number}",
            [folder],
            locate=lambda digest: self.root / f"in-{int(digest)}",
            before=self.made[before] if self.made and before is not None else None,
            params=CurateParams.model_validate({"gates": NO_GATES} | params),
            workers=workers,
        )
        self.made.append(made)
        return made.out


@pytest.fixture
def chain(tmp_path, collected):
    return Chain(tmp_path, collected)


def kept(out):
    return {
        row["record_id"]: row | {"side": name}
        for name in SPLITS
        for path in sorted((out / name).glob("*.parquet"))
        for row in read_documents(path, CURATED).to_pylist()
    }


def judged(out):
    return {row["record_id"]: row for row in read_documents(out / "decisions.parquet", DECISION).to_pylist()}


def inodes(out):
    """Files with texts in them, by name."""
    paths = [path for name in SPLITS for path in (out / name).glob("*.parquet")]
    return {f"{p.parent.name}/{p.name}": p.stat().st_ino for p in paths if read_parquet(p, ["record_id"]).num_rows}


def on_side(row, wanted, text, salt="", **shares):
    """A row of that text on a page that is dealt to that side."""
    from test_curate_frozen import side_of

    url = next(u for u in (f"http://dealt/{n}" for n in itertools.count()) if side_of(u, salt, **shares) == wanted)
    return row(text, url)


def test_what_stands_is_not_written_again(chain, pages):
    first = chain.edition(pages[:120], split=WIDE)
    second = chain.edition(pages, split=WIDE)
    assert set(inodes(first).items()) <= set(inodes(second).items()), "links to the same files"
    assert set(inodes(second)) - set(inodes(first)) == {f"{name}/001-00000.parquet" for name in SPLITS}
    third = chain.edition(pages, split=WIDE)
    assert inodes(third) == inodes(second)
    assert kept(third) == kept(second)
    assert chain.made[2].metrics["new_documents"] == 0


def test_an_unchanged_corpus_has_the_same_content(chain, pages, content):
    first, second = chain.edition(pages[:60]), chain.edition(pages[:60])
    told = [{n: d for n, d in content(out).items() if not n.startswith("provenance/")} for out in (first, second)]
    assert told[0] == told[1], "but for its provenance, which is no part of it"


def test_a_file_that_loses_texts_is_written_without_them(chain, pages):
    first = chain.edition(pages[:120], split=WIDE)
    gone = next(name for name, row in kept(first).items() if row["side"] == "train")
    second = chain.edition([row for row in pages[:120] if row["record_id"] != gone], split=WIDE)
    assert set(kept(first)) - set(kept(second)) == {gone}
    old, new = inodes(first), inodes(second)
    assert old.keys() == new.keys()
    assert {name for name in old if old[name] != new[name]} == {"train/000-00000.parquet"}
    assert gone in read_parquet(first / "train" / "000-00000.parquet")["record_id"].to_pylist(), "that is left alone"


def test_as_if_it_were_the_first(chain, pages, row, seed):
    """Texts, sides and decisions are those of a corpus of the same records without one before it."""
    different = {" ".join(page["text"].lower().split()): page for page in pages}  # equal ones may be of two sides
    pages = random.Random(seed).sample(list(different.values()), len(different))
    apart = kept(Chain(chain.root / "apart", chain.collected).edition(pages, split=WIDE))
    pages = [page for page in pages if page["record_id"] in apart]  # of texts that are alike the older stays
    copies = [row(page["text"].upper(), page["url"] + "?copy", page_of_origin=page["url"]) for page in pages[::7]]
    chain.edition(pages[:50], split=WIDE)
    chain.edition(pages[30:150], split=WIDE)
    last = chain.edition([*pages[50:], *copies], split=WIDE)
    alone = Chain(chain.root / "alone", chain.collected).edition([*pages[50:], *copies], split=WIDE)
    now, fresh = kept(last), kept(alone)
    words = {record: " ".join(row["text"].lower().split()) for record, row in (now | fresh).items()}
    assert {words[record] for record in now} == {words[record] for record in fresh}
    pages_now, pages_fresh = ({r["page_of_origin"]: r["side"] for r in rows.values()} for rows in (now, fresh))
    assert pages_now == pages_fresh
    for record in now.keys() & fresh.keys():
        # what hangs on other texts is measured once, beside those that were there then, and quality looks at it
        assert now[record] | {"quality": 0} == fresh[record] | {"quality": 0}


def test_files_become_few_again(chain, pages, monkeypatch):
    monkeypatch.setattr("lmcore.curate.stage.MAX_BATCHES", 4)
    files = []
    for number in range(6):
        out = chain.edition(pages[: 20 + 9 * number], split={"val": 0, "test": 0})
        files.append(sorted(name[6:9] for name in inodes(out)))
        assert len(kept(out)) == chain.made[-1].metrics["kept_documents"]
    whole = ["000", "001", "002", "003"]
    assert files == [whole[:1], whole[:2], whole[:3], whole, whole[:1], whole[:2]]


def test_a_copy_comes_back_when_its_original_leaves(chain, row):
    original, copy = row(GOOD, "http://a/1"), row(GOOD.replace("\n", "  "), "http://a/2")
    other = row(" ".join(reversed(GOOD.split())), "http://a/3")
    nothing = {"split": {"val": 0, "test": 0}}
    first = chain.edition([original, copy, other], **nothing)
    (dropped,) = (r for r in judged(first).values() if r["verdict"] == "dropped")
    assert dropped["rule"] == "exact_duplicate"
    gone = dropped["other"]
    second = chain.edition([r for r in (original, copy, other) if r["record_id"] != gone], **nothing)
    assert set(kept(second)) == {dropped["record_id"], other["record_id"]}
    assert kept(second)[dropped["record_id"]]["cluster_size"] == 1
    third = chain.edition([original, copy, other], **nothing)
    assert set(kept(third)) == set(kept(second)), "and stays when the original is there again"
    assert judged(third)[gone]["other"] == dropped["record_id"]


def test_a_page_that_goes_back_is_as_it_was_at_first(chain, row, pages):
    old, new = row(GOOD, "http://a/1"), row(GOOD.replace("harbour", "haven") + " So they say.", "http://a/1")
    first = chain.edition([*pages[:9], old])
    second = chain.edition([*pages[:9], new])
    assert old["record_id"] not in kept(second)
    referred = chain.edition([*pages[:9], old])
    again = chain.edition([*pages[:9], old], again={old["record_id"]})
    for out in (referred, again):
        assert kept(out) == kept(first)
        assert judged(out) == judged(first)


def test_a_better_newcomer_does_not_displace_what_was_kept(chain, row):
    shouted, better = row(GOOD.upper(), "http://a/1"), row(GOOD, "http://a/2")
    both = Chain(chain.root / "both", chain.collected).edition([shouted, better], split={"val": 0, "test": 0})
    best, other = (shouted, better) if shouted["record_id"] in kept(both) else (better, shouted)
    first = chain.edition([other], split={"val": 0, "test": 0})
    second = chain.edition([other, best], split={"val": 0, "test": 0}, duplicates={"trusted": ["docs"]})
    assert set(kept(first)) == set(kept(second)) == {other["record_id"]}
    assert judged(second)[best["record_id"]]["other"] == other["record_id"]
    assert kept(second)[other["record_id"]]["cluster_size"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"split": {"val": 0.02, "test": 0.02}},
        {"split": {"val": 0.02, "test": 0.45}},
        {"split": {"val": 0, "test": 0}},
        {"rules": {"off": ["min_words"], "limits": {"min_quality": 1}}, "split": {"val": 0.1, "test": 0.3}},
    ],
)
def test_what_is_held_out_stays_held_out(chain, pages, change):
    half = pages[::2]
    first = kept(chain.edition(half, split=WIDE))
    second = kept(chain.edition(pages, **change))
    assert {row["side"] for row in first.values()} == set(SPLITS)
    both = first.keys() & second.keys()
    assert len(both) > 0.9 * len(first)
    assert all(second[record]["side"] == first[record]["side"] for record in both)
    if change["split"] == {"val": 0, "test": 0}:
        new = [row for record, row in second.items() if record not in first]
        assert {row["side"] for row in new} == {"train"}


def test_a_new_part_of_a_known_page_is_on_its_side(chain, row, docstrings):
    """Other shares would deal the page elsewhere."""
    page = on_side(row, "val", docstrings[0], **WIDE)
    chain.edition([page], split=WIDE)
    part = row(docstrings[1], page["url"] + "#2", page_of_origin=page["url"])
    made = row(docstrings[2], page["url"] + "#made", page_of_origin=page["url"], synthetic=True)
    out = chain.edition([page, part, made], split={"val": 0, "test": 0})
    assert {row["side"] for row in kept(out).values()} == {"val"}
    assert judged(out)[made["record_id"]]["rule"] == HELD_OUT_PAGE


def test_another_salt_deals_all_pages_anew(chain, pages, content):
    chain.edition(pages[:80], split=WIDE)
    salted = WIDE | {"salt": "other"}
    second = chain.edition(pages[:80], split=salted)
    alone = Chain(chain.root / "alone", chain.collected).edition(pages[:80], split=salted)
    assert content(second) == content(alone)


@pytest.mark.parametrize("side", ["val", "test"])
def test_a_newcomer_like_a_held_out_text_is_dropped(chain, row, side, pages):
    held = on_side(row, side, GOOD, **WIDE)
    copy = on_side(row, "train", GOOD.upper() + " AND THEN", **WIDE)  # one of equal words would be of its side
    first = chain.edition([*pages[:5], held], split=WIDE)
    assert kept(first)[held["record_id"]]["side"] == side
    out = chain.edition([*pages[:5], held, copy], split=WIDE)
    told = judged(out)[copy["record_id"]]
    assert (told["verdict"], told["rule"], told["other"]) == ("dropped", "held_out_duplicate", held["record_id"])
    assert 0.7 <= told["value"] < 1
    assert told["split"] is None
    assert set(kept(out)) == {*kept(first)}


def test_a_held_out_newcomer_like_a_training_text_is_a_copy_of_it(chain, row):
    learnt, held = on_side(row, "train", GOOD, **WIDE), on_side(row, "val", GOOD.upper(), **WIDE)
    chain.edition([learnt], split=WIDE)
    told = judged(chain.edition([learnt, held], split=WIDE))[held["record_id"]]
    assert (told["rule"], told["other"]) == ("exact_duplicate", learnt["record_id"])


def test_facts_that_change_are_written(chain, row):
    """The same text at the same address, of which the source now says another licence, language and title."""
    old = row(GOOD, "http://a/1", license="MIT", lang="en", title="Old")
    new = old | {"license": "CC0-1.0", "lang": "hu", "title": "New"}
    first = chain.edition([old], split={"val": 0, "test": 0})
    second = chain.edition([new], again={new["record_id"]}, split={"val": 0, "test": 0})
    (was,), (now,) = kept(first).values(), kept(second).values()
    assert (was["license"], was["lang"], was["title"]) == ("MIT", "en", "Old")
    assert (now["license"], now["lang"], now["title"]) == ("CC0-1.0", "hu", "New")


def test_compare_sees_new_measures_only(chain, pages):
    chain.edition(pages[:50])
    chain.edition(pages[:80])
    first, second = chain.made
    assert len(second.measures) == len(first.measures) + 1
    assert second.compares[:1] == first.compares
    assert len(second.compares) == 2
    (new,) = set(second.measures.values()) - set(first.measures.values())
    measured = {name for path in (new / "measured").glob("*") for name in read_parquet(path)["record_id"].to_pylist()}
    assert measured == {row["record_id"] for row in pages[50:80]}


def test_no_two_kept_texts_are_alike(chain, pages, row, seed):
    """Some nights of pages that come, change, are copied and go: pairs and equal words are told apart each time."""
    draw = random.Random(seed)
    now = {page["url"]: page for page in pages[:60]}
    more = iter(pages[60:])
    for night in range(6):
        for url in draw.sample(sorted(now), 12):
            fate = draw.choice(["goes", "shouts", "copied", "grows"])
            text = now[url]["text"]
            if fate == "goes":
                del now[url]
            elif fate == "shouts":
                now[url] = row(text.upper(), url)
            elif fate == "copied":
                now[f"{url}?{night}"] = row(text, f"{url}?{night}")
            else:
                now[url] = row(f"{text}\n\nAdded in night {night}.", url)
        for page in itertools.islice(more, 6):
            now[page["url"]] = page
        out = chain.edition(list(now.values()), split=WIDE, workers=draw.choice([1, 2]))
        texts = kept(out)
        told = judged(out)
        assert set(told) == {row["record_id"] for row in now.values()}
        words = [" ".join(row["text"].lower().split()) for row in texts.values()]
        assert len(set(words)) == len(words)
        staying = ids(texts)
        for folder in chain.made[-1].compares:
            pairs = read_parquet(folder / "pairs.parquet")
            both = np.isin(ids(pairs["a"]), staying) & np.isin(ids(pairs["b"]), staying)
            assert not both.any()
        for decision in told.values():
            if decision["rule"].endswith("_duplicate"):
                assert told[decision["other"]]["verdict"] == "kept"


def test_a_damaged_corpus_before_is_named(chain, pages):
    first = chain.edition(pages[:20])
    (first / "provenance" / "corpus.json").write_text("{")
    with pytest.raises(RunError, match=r"corpus\.json.*\n.*collect-train verify"):
        chain.edition(pages[:30])


def test_a_text_that_moves_keeps_its_side(chain, pages):
    first = kept(chain.edition(pages, split=WIDE))
    page_of = {row["record_id"]: row for row in pages}
    moved = [page_of[record] | _at(page_of[record], "/moved") for record in first]
    second = kept(chain.edition(moved, split=WIDE))
    was = {row["text_id"]: row["side"] for row in first.values()}
    sides = [(was[row["text_id"]], row["side"]) for row in second.values() if row["text_id"] in was]
    assert len(sides) > 0.8 * len(first)
    assert {before for before, _ in sides} == set(SPLITS)
    assert all(before == now for before, now in sides)


def test_a_copy_that_stays_is_on_the_side_of_the_original(chain, pages):
    copies = [page | _at(page, "/copy") for page in pages]
    first = kept(chain.edition([*pages, *copies], split=WIDE))
    left = [row for row in [*pages, *copies] if row["record_id"] not in first]
    second = kept(chain.edition(left, split=WIDE))
    was = {row["text_id"]: row["side"] for row in first.values()}
    assert len(second) > 0.8 * len(first)
    for row in second.values():
        assert row["side"] == was.get(row["text_id"], row["side"])


def test_a_page_that_is_away_for_a_night_comes_back_to_its_side(chain, pages):
    first = kept(chain.edition(pages, split=WIDE))
    held = {record for record, row in first.items() if row["side"] != "train"}
    chain.edition([page for page in pages if page["record_id"] not in held], split={"val": 0, "test": 0})
    third = kept(chain.edition(pages, split={"val": 0, "test": 0}))
    there = held & third.keys()
    assert len(there) > 0.8 * len(held)
    assert all(third[record]["side"] == first[record]["side"] for record in there)


def test_a_source_of_no_weight_takes_no_copy_with_it(chain, pages, row):
    others = [row(page["text"], page["url"], source="other") for page in pages[:20]]
    nothing = {"split": {"val": 0, "test": 0}, "decontaminate": {"enabled": False}}
    alone = kept(chain.edition(others, before=None, **nothing))
    both = kept(chain.edition([*pages[:20], *others], before=None, mix={"sources": {"docs": 0}}, **nothing))
    assert {r["source"] for r in both.values()} == {"other"}
    assert {r["text_id"] for r in both.values()} == {r["text_id"] for r in alone.values()}


def test_what_is_cut_away_gives_back_its_copies(chain, row):
    """A long text that quotes a held-out one in full stays before its shorter twin, and is then cut to nothing."""
    side = {"val": 0.5, "test": 0}
    addresses = [f"http://a/{number}" for number in range(60)]
    held, train = chain_sides(addresses, side)
    shared = " ".join(f"word{number}" for number in range(200))
    quoted = row(shared, held[0])
    first = row(shared + " and seven more words at the end", train[0])
    copy = row(shared + " and seven more words at the END", held[1])
    out = chain.edition([first, copy, quoted], split=side, rules={"sets": []})
    told = judged(out)
    stays = [record for record, r in told.items() if r["verdict"] == "kept"]
    assert len(stays) == 1
    assert all(r["other"] in (None, *stays) for r in told.values()), "what goes as a copy is a copy of one that stays"


def chain_sides(addresses, side):
    """Which of these pages are held out, and which are for training."""
    where = positions(page_hashes(pa.chunked_array([addresses]), ""))
    held = splits(where, SplitParams(**side)) != 0
    return [a for a, out in zip(addresses, held, strict=True) if out], [
        a for a, out in zip(addresses, held, strict=True) if not out
    ]


def _at(page, more):
    """What changes of a row at another address."""
    url = page["url"] + more
    return {"url": url, "page_of_origin": url, "record_id": record_id(page["source"], url, page["text"])}


def lost_and_its_copy(row, docstrings):
    """A held-out text, a training text that it has 25 words of, and a copy of that without any 13 of them in a row."""
    words = [word for text in docstrings for word in text.split() if word.isalpha()]
    said, other = words[:80], words[200:320]
    copy = [*said[:42], "entirely", *said[43:]]
    held_out = on_side(row, "test", " ".join([*other, *said[30:55]]), **WIDE)
    lost = on_side(row, "train", " ".join(said), **WIDE)
    twin = on_side(row, "train", " ".join(copy), **WIDE)
    return held_out, lost | {"source": "best"}, twin | {"url": twin["url"] + "?twin", "record_id": "0" * 31 + "1"}


def test_an_unchanged_night_names_the_same_rule_for_what_lost_too_much(chain, pages, row, docstrings, content):
    held_out, lost, twin = lost_and_its_copy(row, docstrings)
    settings = {
        "split": WIDE,
        "duplicates": {"trusted": ["best"]},
        "decontaminate": {"min_left_words": 60},
    }
    rows = [*pages[150:200], held_out, lost, twin]
    first = chain.edition(rows, **settings)
    assert judged(first)[lost["record_id"]]["rule"] == "contaminated"
    assert twin["record_id"] in kept(first)
    second = chain.edition(rows, **settings)
    told = [{n: d for n, d in content(out).items() if not n.startswith("provenance/")} for out in (first, second)]
    assert told[0] == told[1]
    third = chain.edition([*rows, *pages[200:210]], **settings)
    assert judged(third)[lost["record_id"]] == judged(first)[lost["record_id"]]
    fourth = chain.edition([row for row in rows if row is not held_out], **settings)
    assert judged(fourth)[lost["record_id"]]["rule"] == "near_duplicate", (
        "nothing speaks against it, and its copy stays"
    )
